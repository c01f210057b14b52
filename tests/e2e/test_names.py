"""What a pod is called, and whom it asks for the names of others; the same for all of its members."""

from __future__ import annotations

from pathlib import Path

import pytest
from real import Podd, manifest, sleeper

pytestmark = [pytest.mark.root, pytest.mark.parametrize("driver", ["setns", "runc"])]


def cat(podd: Podd, member: str, path: str) -> list[str]:
    return podd.cli("exec", "p", "-c", member, "--", "cat", path).splitlines()


def test_a_pod_has_its_own_names_and_resolver(podd: Podd) -> None:
    aliases = [{"ip": "192.0.2.7", "hostnames": ["db", "db.example"]}]
    options = [{"name": "ndots", "value": "2"}]
    dns = {"nameservers": ["192.0.2.53"], "searches": ["a.example"], "options": options}
    wanted = {"subdomain": "sub", "hostAliases": aliases, "dnsPolicy": "None", "dnsConfig": dns}
    podd.apply(manifest("p", sleeper("a"), sleeper("b"), setHostnameAsFQDN=True, **wanted))
    full = "p.sub.default.svc.cluster.local"
    for member in ("a", "b"):
        assert podd.cli("exec", "p", "-c", member, "--", "hostname") == f"{full}\n"
        assert cat(podd, member, "/etc/hostname") == [full]
        assert cat(podd, member, "/etc/resolv.conf")[1:] == [
            *("nameserver 192.0.2.53", "search a.example", "options ndots:2")
        ]
        assert podd.cli("exec", "p", "-c", member, "--", "getent", "hosts", "db").split()[:2] == ["192.0.2.7", "db"]
        assert podd.cli("exec", "p", "-c", member, "--", "getent", "hosts", full).split()[1:] == [full, "p"]
    podd.cli("exec", "p", "-c", "a", "--", "sh", "-c", "echo 192.0.2.8 later >> /etc/hosts")
    assert cat(podd, "b", "/etc/hosts")[-1] == "192.0.2.8 later"
    assert "192.0.2.8 later" not in Path("/etc/hosts").read_text()


def test_a_pod_with_the_hosts_network_has_copies_of_the_hosts_files(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), hostNetwork=True, hostAliases=[{"ip": "192.0.2.7", "hostnames": ["db"]}]))
    assert cat(podd, "a", "/etc/hosts") == [
        *Path("/etc/hosts").read_text().splitlines(),
        *("# of hostAliases", "192.0.2.7\tdb"),
    ]
    assert cat(podd, "a", "/etc/resolv.conf") == Path("/etc/resolv.conf").read_text().splitlines()
    podd.cli("exec", "p", "-c", "a", "--", "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf")
    assert "192.0.2.1" not in Path("/etc/resolv.conf").read_text()


def test_names_outlive_a_restart_of_podd_and_of_a_member(podd: Podd) -> None:
    podd.apply(manifest("p", sleeper("a"), hostname="other"))
    podd.kill()
    podd.start()
    podd.cli("restart", "p")
    assert cat(podd, "a", "/etc/hostname") == ["other"]
