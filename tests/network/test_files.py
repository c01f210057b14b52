"""What a pod is told of names: of its own, of others, and of who knows more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podd.driver.contract import Dns, HostAlias, NamespaceScopes, SandboxConfig
from podd.errors import Invalid, Unavailable
from podd.model.ids import PodUid, SandboxId
from podd.network import files
from podd.network.files import HEADER, LOCAL, Sources

V4, V6 = "10.88.0.5", "fd00::5"


# ---- /etc/hosts ------------------------------------------------------------------------------------------------------

NAMES: dict[str, tuple[str, str, tuple[str, ...], list[str]]] = {
    "no address": ("web", "", (), ["127.0.0.1\tweb"]),
    "one": ("web", "", (V4,), [f"{V4}\tweb"]),
    "of both kinds": ("web", "", (V4, V6), [f"{V4}\tweb", f"{V6}\tweb"]),
    "a full name": ("web", "db.default.svc.cluster.local", (V4,), [f"{V4}\tweb.db.default.svc.cluster.local\tweb"]),
    "the full name is the host's": ("web.db.x", "db.x", (V4,), [f"{V4}\tweb.db.x\tweb"]),
    "dots that are its own": ("a.b", "", (V4,), [f"{V4}\ta.b"]),
}


@pytest.mark.parametrize(("hostname", "domain", "ips", "lines"), NAMES.values(), ids=NAMES)
def test_a_pod_knows_its_own_name(hostname: str, domain: str, ips: tuple[str, ...], lines: list[str]) -> None:
    assert files.hosts(hostname, domain, ips) == HEADER + LOCAL + "".join(f"{line}\n" for line in lines)


def test_aliases_are_lines_of_their_own() -> None:
    given = [HostAlias(ip="::1", names=("a", "b.example")), HostAlias(ip=V4, names=("c",))]
    assert files.alias_lines(given) == f"# of hostAliases\n::1\ta\tb.example\n{V4}\tc\n"
    assert files.alias_lines([]) == ""


@pytest.mark.parametrize("name", ["", "a b", "a\n10.0.0.1\tb", "#a", "a\tb", "a\x00b"])
def test_what_would_be_read_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="is not one word"):
        files.alias_lines([HostAlias(ip=V4, names=(name,))])
    with pytest.raises(Invalid, match="is not one word"):
        files.resolv_conf(Dns(searches=(name,)), None, of_host=False)


# ---- /etc/resolv.conf ------------------------------------------------------------------------------------------------

HOST = """\
; of the office
nameserver 192.0.2.1
nameserver 127.0.0.1
domain old.example
search a.example b.example
options ndots:1 rotate
sortlist 192.0.2.0
"""

RESOLVERS: dict[str, tuple[Dns, str | None, list[str], list[str]]] = {
    "as the host": (
        Dns(),
        HOST,
        ["nameserver 192.0.2.1", "search a.example b.example", "options ndots:1 rotate"],
        ["nameserver 127.0.0.1 of the host: cannot be reached from a pod's own network"],
    ),
    "and more": (
        Dns(servers=("192.0.2.9", "192.0.2.1"), searches=("b.example", "c.example"), options=("ndots:5", "edns0")),
        "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:1 rotate\n",
        [
            *("nameserver 192.0.2.1", "nameserver 192.0.2.9", "search a.example b.example c.example"),
            "options ndots:5 rotate edns0",
        ],
        [],
    ),
    "its own alone": (
        Dns(of_host=False, servers=("192.0.2.9",), options=("ndots:5", "ndots:2")),
        HOST,
        ["nameserver 192.0.2.9", "options ndots:2"],
        [],
    ),
    "its own on its loopback": (Dns(of_host=False, servers=("127.0.0.1",)), HOST, ["nameserver 127.0.0.1"], []),
    "more than are asked": (
        Dns(servers=("192.0.2.2", "192.0.2.3", "192.0.2.4")),
        "nameserver 192.0.2.1\n",
        [f"nameserver 192.0.2.{n}" for n in (1, 2, 3)],
        ["nameserver 192.0.2.4: more than 3 are not asked"],
    ),
    "a link-local one of the host": (Dns(), "nameserver fe80::1%eth0\n", ["nameserver fe80::1%eth0"], []),
    "nobody to ask": (
        Dns(),
        "nameserver ::1\n",
        [],
        ["nameserver ::1 of the host: cannot be reached from a pod's own network"],
    ),
}


@pytest.mark.parametrize(("dns", "host", "lines", "notes"), RESOLVERS.values(), ids=RESOLVERS)
def test_whom_a_pod_asks(dns: Dns, host: str | None, lines: list[str], notes: list[str]) -> None:
    assert files.resolv_conf(dns, host, of_host=False) == (HEADER + "".join(f"{line}\n" for line in lines), notes)


def test_a_host_that_has_none_gives_none() -> None:
    assert files.resolv_conf(Dns(), None, of_host=False) == ("", [])
    text, _ = files.resolv_conf(Dns(servers=(V4,)), None, of_host=False)
    assert text == f"{HEADER}nameserver {V4}\n"


def test_with_the_hosts_network_it_is_the_hosts_to_the_letter_unless_more_is_asked() -> None:
    assert files.resolv_conf(Dns(), HOST, of_host=True) == (HOST, [])
    text, notes = files.resolv_conf(Dns(options=("edns0",)), HOST, of_host=True)
    assert text.splitlines()[1:3] == ["nameserver 192.0.2.1", "nameserver 127.0.0.1"]
    assert notes == []


def test_no_more_domains_than_a_resolver_reads() -> None:
    given = [f"{n:03}.example" for n in range(40)]
    assert files.parse(files.resolv_conf(Dns(searches=given), None, of_host=False)[0]).searches == given[:32]
    given = [f"{n:03}.{'x' * 196}" for n in range(20)]
    read = files.parse(files.resolv_conf(Dns(searches=given), None, of_host=False)[0]).searches
    assert read == given[:10]  # 10 of 200 and their spaces are 2009 characters


# ---- all three -------------------------------------------------------------------------------------------------------


def config(**fields: object) -> SandboxConfig:
    given = {"id": SandboxId("0" * 16), "pod_uid": PodUid("u"), "pod_name": "p", "pod_namespace": "d", "attempt": 0}
    return SandboxConfig(**{**given, "hostname": "web", **fields})  # type: ignore[arg-type]


def sources(tmp_path: Path, **texts: str) -> Sources:
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return Sources(*(str(tmp_path / name) for name in ("hosts", "resolv", "upstream")))


def made(tmp_path: Path, of: SandboxConfig, host: Sources, ips: tuple[str, ...] = (V4,)) -> dict[str, str]:
    place = tmp_path / "etc"
    files.make(str(place), of, ips, host)
    return {path.name: path.read_text() for path in place.iterdir()}


def test_a_pod_with_a_network_of_its_own(tmp_path: Path) -> None:
    aliases = (HostAlias(ip=V6, names=("db",)),)
    got = made(tmp_path, config(host_aliases=aliases), sources(tmp_path, hosts="127.0.0.1 secret\n", resolv=HOST))
    assert got["hostname"] == "web\n"
    assert got["hosts"] == f"{HEADER}{LOCAL}{V4}\tweb\n# of hostAliases\n{V6}\tdb\n"
    assert got["resolv.conf"].startswith(f"{HEADER}nameserver 192.0.2.1\n")
    assert {oct(path.stat().st_mode & 0o7777) for path in (tmp_path / "etc").iterdir()} == {"0o644"}
    assert (tmp_path / "etc").stat().st_mode & 0o7777 == 0o700


def test_a_pod_with_the_hosts_network(tmp_path: Path) -> None:
    of = config(
        hostname="", namespaces=NamespaceScopes(net="node", uts="node"), host_aliases=(HostAlias(ip=V4, names=("db",)),)
    )
    got = made(tmp_path, of, sources(tmp_path, hosts="127.0.0.1 localhost", resolv=HOST))
    assert got["hostname"] == f"{os.uname().nodename}\n"
    assert got["hosts"] == f"127.0.0.1 localhost\n# of hostAliases\n{V4}\tdb\n"
    assert got["resolv.conf"] == HOST


def test_whom_the_stub_asks_is_asked_instead_of_it(tmp_path: Path) -> None:
    stub = "nameserver 127.0.0.53\noptions edns0\nsearch stub.example\n"
    host = sources(tmp_path, resolv=stub, upstream="nameserver 192.0.2.7\nsearch real.example\n")
    assert made(tmp_path, config(), host)["resolv.conf"] == f"{HEADER}nameserver 192.0.2.7\nsearch real.example\n"


def test_a_host_without_such_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "resolv")
    got = made(tmp_path, config(), sources(tmp_path), ())
    assert set(got) == {"hosts", "hostname"}
    of_host = config(hostname="", namespaces=NamespaceScopes(net="node", uts="node"))
    (tmp_path / "other").mkdir()
    assert made(tmp_path / "other", of_host, sources(tmp_path))["hosts"] == HEADER + LOCAL


def test_what_members_have_written_stays(tmp_path: Path) -> None:
    host = sources(tmp_path, resolv=HOST)
    made(tmp_path, config(), host)
    (tmp_path / "etc/hosts").write_text("changed\n")
    inode = (tmp_path / "etc/hosts").stat().st_ino
    assert made(tmp_path, config(), host)["hosts"] == "changed\n"
    assert (tmp_path / "etc/hosts").stat().st_ino == inode


def test_of_a_sandbox_that_is_gone_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        files.make(str(tmp_path / "gone/etc"), config(), (), sources(tmp_path))
    assert not (tmp_path / "gone").exists()
