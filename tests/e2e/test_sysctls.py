"""sysctls: those of the pod's own namespaces, in force in every member and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from real import Podd, manifest, sleeper

pytestmark = pytest.mark.root

NET, IPC = "/proc/sys/net/ipv4/ip_local_port_range", "/proc/sys/kernel/shm_rmid_forced"


def sysctls(*pairs: tuple[str, str]) -> dict[str, object]:
    return {"securityContext": {"sysctls": [{"name": name, "value": value} for name, value in pairs]}}


def test_they_are_in_force_in_every_member_and_not_on_the_host(podd: Podd) -> None:
    host = [Path(path).read_text() for path in (NET, IPC)]
    asked = sysctls(("net.ipv4.ip_local_port_range", "40000 40100"), ("kernel.shm_rmid_forced", "1"))
    podd.apply(manifest("p", sleeper("a"), sleeper("b"), **asked))
    for member in "ab":
        assert podd.cli("exec", "p", "-c", member, "--", "cat", NET, IPC).split() == ["40000", "40100", "1"]
    assert [Path(path).read_text() for path in (NET, IPC)] == host


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("vm.swappiness", {}, "is the whole host's"),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, "with hostNetwork it would be the host's"),
        ("kernel.shmmax", {"hostIPC": True}, "with hostIPC it would be the host's"),
        ("net.ipv4.no_such_thing", {}, "no_such_thing"),
    ],
)
def test_what_is_the_hosts_is_refused(podd: Podd, name: str, more: dict[str, object], said: str) -> None:
    assert said in podd.apply(manifest("p", sleeper("a"), **sysctls((name, "1")), **more), status=1)
