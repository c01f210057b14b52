"""A network namespace of the tests' own, in which real plugins make bridges and rules; the machine's stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from podd.driver.hookspecs import NetworkPlaces
from podd.linux import namespaces
from podd.linux.syscalls import CloneFlag, setns, unshare

CONFIG = Path(__file__).parents[2] / "config" / "cni"
SHIPPED = CONFIG / "10-podd.conflist"
FULL = CONFIG / "full" / "10-podd.conflist"
"""Both are shipped: the one that is told of first, and the one with IPv6 and limits of bandwidth as well."""

MARKS = ("podd0", "10.86.", "fd86:")
"""What all that is made here has in its names and rules."""

BIN_DIRS = ("/usr/lib/cni", "/opt/cni/bin")


def must_have(*plugins: str) -> None:
    for plugin in plugins:
        if not any((Path(folder) / plugin).exists() for folder in BIN_DIRS):
            pytest.skip(f"the CNI plugin {plugin} is not installed (Debian: containernetworking-plugins)")
    for program in ("iptables-save", "nft", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@contextmanager
def own_network() -> Iterator[None]:
    """The calling thread, and whatever it starts, is in a new network namespace until the end."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    unshare(CloneFlag.NET)
    try:
        tell("ip", "link", "set", "lo", "up")
        yield
    finally:
        setns(own, CloneFlag.NET)
        os.close(own)
    ours = [line for line in machine() if any(mark in line for mark in MARKS)]
    assert not ours, "the machine's own network was changed"


def tell(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def machine() -> list[str]:
    """Interfaces and rules of the namespace that the calling thread is in."""
    links = [line.split("@")[0].split()[0] for line in tell("ip", "-br", "link").splitlines()]
    return [*links, *rules()]


def rules() -> list[str]:
    """Of the packet filter, without what it has counted."""
    found = tell("nft", "-s", "list", "ruleset").splitlines()
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        if shutil.which(program):
            found += [line.split("[")[0] for line in tell(program).splitlines() if not line.startswith("#")]
    return found


class Ground:
    """A configuration that podd ships, or one with other plugins, with leases below a test's folder."""

    def __init__(self, top: Path, plugins: list[dict[str, Any]] | None = None, *, shipped: Path = FULL) -> None:
        self.top = top
        document = json.loads(shipped.read_text())
        document["plugins"] = plugins or document["plugins"]
        document["plugins"][0]["ipam"]["dataDir"] = f"{top}/leases"
        (top / "conf").mkdir()
        (top / "conf" / "10.conflist").write_text(json.dumps(document))
        (top / "bin").mkdir()
        self.places = NetworkPlaces(
            conf_dir=f"{top}/conf", bin_dirs=(f"{top}/bin", *BIN_DIRS), cache_dir=f"{top}/cache"
        )

    def left(self) -> list[str]:
        """What there is of pods."""
        leases = [path.name for path in (self.top / "leases/podd").glob("*") if path.name[0] in "0123456789f"]
        records = [path.name for path in (self.top / "cache/results").glob("*") if path.name != ".new"]
        return [*leases, *records, *machine()]


@contextmanager
def pod_network() -> Iterator[str]:
    """The path of a pod's network namespace, with its loopback up."""
    fd = namespaces.new_network(lambda: tell("ip", "link", "set", "lo", "up"))
    try:
        yield f"/proc/{os.getpid()}/fd/{fd}"
    finally:
        os.close(fd)
