"""What an OCI runtime is told, and what its words become."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podd.errors import Denied, Invalid, PoddError, Unavailable
from podd.linux.capabilities import DEFAULT
from podd.shim.credentials import Identity
from podd.shim.program import NotRunnable
from podd.shim.runtime import config
from podd.shim.runtime.command import Runtime, last_error, refusal
from podd.shim.runtime.config import Bind, Given, User
from podd.testing.shim import container_plan, sandbox_plan

ROOT = User(Identity(0, 0, (0, 5), "/root"), DEFAULT)
NOBODY = User(Identity(1234, 7, (7,), "/"), DEFAULT)


def made(given: dict[str, Any] | None = None, sandbox: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    pod = sandbox_plan("/base", "s1", **(sandbox or {}))
    plan = container_plan("/base", "s1", "c", ["sleep", "1"], **changes)
    parts: dict[str, Any] = {
        "root": "/b/root",
        "binds": (),
        "user": ROOT,
        "environment": {"A": "b"},
        "pid_namespace": "",
    }
    return config.container(pod, plan, Given(**{**parts, **(given or {})}))


def namespaces(found: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one.get("path", "") for one in found["linux"]["namespaces"]}


def mounts(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["destination"]: one for one in found["mounts"]}


PINS = {name: f"/base/run/pods/s1/ns/{kind}" for name, kind in (("network", "net"), ("ipc", "ipc"), ("uts", "uts"))}
OWN = {"mount": "", "cgroup": ""}


@pytest.mark.parametrize(
    ("sandbox", "beside", "expected"),
    [
        ({}, "", {**PINS, **OWN, "pid": ""}),
        ({}, "/proc/7/fd/8", {**PINS, **OWN, "pid": "/proc/7/fd/8"}),
        ({"pid": "pod"}, "", {**PINS, **OWN, "pid": "/base/run/pods/s1/ns/pid"}),
        ({"pid": "node"}, "", {**PINS, **OWN}),
        ({"net": "node", "uts": "node", "ipc": "node"}, "", {**OWN, "pid": ""}),
    ],
)
def test_namespaces_are_the_pods_own_or_left_alone(
    sandbox: dict[str, Any], beside: str, expected: dict[str, str]
) -> None:
    assert namespaces(made({"pid_namespace": beside}, sandbox)) == expected


def test_a_container_is_in_the_group_that_podd_limits() -> None:
    found = made()["linux"]
    assert found["cgroupsPath"] == "/podd-test/s1/c-s1"
    assert set(found["resources"]) == {"devices"}, "limits are podd's to set"


@pytest.mark.parametrize(("user", "held"), [(ROOT, True), (NOBODY, False)])
def test_who_is_not_root_holds_nothing(user: User, held: bool) -> None:
    process = made({"user": user})["process"]
    sets = process["capabilities"]
    assert "CAP_CHOWN" in sets["bounding"]
    assert bool(sets["effective"]) == bool(sets["permitted"]) == held
    assert sets["inheritable"] == sets["ambient"] == []
    assert process["user"]["uid"] == user.identity.uid
    assert process["user"]["additionalGids"] == list(user.identity.groups)


def test_devices_are_those_of_dev_and_those_asked_for() -> None:
    fuse = Bind("/b/0", "/dev/fuse", stat.S_IFCHR | 0o666, (10 << 8) | 229)
    data = Bind("/b/1", "/data", stat.S_IFDIR | 0o755)
    rules = made({"binds": (fuse, data)})["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    numbers = {(rule.get("major"), rule.get("minor")) for rule in rules[1:]}
    assert numbers == {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None), (10, 229)}


def test_privileged_has_the_hosts_devices_and_writable_views() -> None:
    dev = Bind("/b/0", "/dev", stat.S_IFDIR | 0o755)
    found = made({"binds": (dev,)}, privileged=True)
    assert found["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert mounts(found)["/dev"]["source"] == "/b/0"
    assert [one["destination"] for one in found["mounts"]].count("/dev") == 1
    assert "ro" not in mounts(found)["/sys"]["options"]
    assert "ro" in mounts(made())["/sys"]["options"]


@pytest.mark.parametrize(
    ("propagation", "root", "option"),
    [
        ("private", "rslave", "rprivate"),
        ("host-to-container", "rslave", "rslave"),
        ("bidirectional", "rshared", "rshared"),
    ],
)
def test_propagation(propagation: str, root: str, option: str) -> None:
    found = made({"binds": (Bind("/b/0", "/data", stat.S_IFDIR, propagation=propagation),)})
    assert found["linux"]["rootfsPropagation"] == root
    assert mounts(found)["/data"]["options"] == ["rbind", option]


def test_what_a_mount_forbids_is_named_to_the_runtime() -> None:
    """crun takes from a mount what its options do not say."""
    bind = Bind("/b/0", "/data", stat.S_IFDIR, options=("ro", "nosuid"))
    assert mounts(made({"binds": (bind,)}))["/data"]["options"] == ["rbind", "rprivate", "ro", "nosuid"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (
            'runc create failed: unable to start container process: exec: "/no": stat /no: no such file or directory',
            Invalid,
        ),
        ('exec failed: unable to start container process: exec: "x": executable file not found in $PATH', Invalid),
        ('runc create failed: unable to start container process: exec: "/etc": permission denied', NotRunnable),
        ("error mounting /a to rootfs: not a directory", Invalid),
        ("unable to apply cgroup configuration: mkdir /sys/fs/cgroup/a: operation not permitted", Denied),
        ("unable to freeze", Unavailable),
    ],
)
def test_what_a_runtime_says_is_told_on(words: str, kind: type[PoddError]) -> None:
    error = refusal("container c", words)
    assert type(error) is kind
    assert error.message == f"container c: {words}"


def test_the_last_error_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines: list[Any] = [
        {"level": "error", "msg": "first"},
        {"level": "error", "msg": "last: unknown"},
        {"level": "info", "msg": "x"},
    ]
    log.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n[1]\n")
    assert last_error(str(log)) == "last"
    log.write_text("")
    assert last_error(str(log)) == ""
    assert last_error(str(tmp_path / "missing")) == ""


class Group:
    """A pod's, on a host that can limit so much."""

    def __init__(self, **limits: int) -> None:
        self.limits: dict[str, int | None] = {**limits}
        self.applied: list[int | None] = []

    def read_limits(self) -> dict[str, int | None]:
        return self.limits

    def apply(self, limits: dict[str, int | None]) -> None:
        self.applied.append(limits["pids"])


@pytest.mark.parametrize(
    ("limits", "applied"), [({"pids": 4, "memory_bytes": 1}, [None, 4]), ({"memory_bytes": 1}, [])]
)
def test_room_is_made_once_for_all_that_are_made_together(limits: dict[str, int], applied: list[int | None]) -> None:
    group = Group(**limits)
    pod: Any = SimpleNamespace(group=group, plan={"run_dir": "/run"})
    runtime = Runtime(pod, {"path": "/usr/bin/runc", "name": "runc"})
    with runtime.room(), runtime.room():
        pass
    assert group.applied == applied
