"""Which addresses this host is known by, asked in networks of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip, of iproute2"),
]

ASK = """
import subprocess
from podd.linux.addresses import host_addresses
from podd.linux.syscalls import CloneFlag, unshare
unshare(CloneFlag.NET)
for line in {lines!r}:
    subprocess.run(["ip", *line.split()], check=True)
print(*host_addresses())
"""
WAY = ("link set lo up", "addr add 10.9.8.7/32 dev lo", "route add default dev lo src 10.9.8.7")
NETWORKS = {
    "no way out": ((), ""),
    "one address": (WAY, "10.9.8.7"),
    "nobody's addresses are dropped": ((*WAY, "route add blackhole 192.0.2.0/24"), ""),
    "nobody's addresses are prohibited": (("route add prohibit 192.0.2.0/24",), ""),
}


@pytest.mark.parametrize(("lines", "addresses"), NETWORKS.values(), ids=NETWORKS)
def test_in_a_network_of_its_own(lines: tuple[str, ...], addresses: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK.format(lines=lines)], capture_output=True, text=True, check=False, timeout=20
    )
    assert (asked.stdout.strip(), asked.stderr) == (addresses, "")
