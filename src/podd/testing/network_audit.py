"""What is in a network namespace: its interfaces, and every line of its packet filter. For the leak audit.

nft shows the rules that iptables makes on nf_tables, too; those that it makes as it did before have a program of their
own. What is not installed is not looked at: then nothing has made such rules either.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator

from podd.linux import namespaces, rtnetlink

LIMIT_S = 20.0


def interfaces(network: str) -> Iterator[tuple[str, int]]:
    """Name and number of each. network: the path of a namespace."""
    fd = namespaces.open_socket(network, socket.AF_NETLINK, socket.SOCK_RAW)
    try:
        yield from ((one.name, one.number) for one in rtnetlink.interfaces(fd))
    finally:
        os.close(fd)


def rules(network: str) -> Iterator[tuple[str, int]]:
    """Each line with what it stands in ("table ip nat: chain POSTROUTING: masquerade"), without what it has counted;
    and a number, for lines that are there more than once."""
    seen: Counter[str] = Counter()
    for line in (*_nft(network), *_legacy(network)):
        seen[line] += 1
        yield line, seen[line]


def _nft(network: str) -> Iterator[str]:
    within: list[str] = []
    for line in map(str.strip, _told(network, "nft", "--stateless", "list", "ruleset")):
        if line == "}":
            within.pop()
        elif line.endswith("{"):
            within.append(line[:-1].strip())
            yield ": ".join(within)
        elif line and not line.startswith("#"):
            yield ": ".join([*within, line])


def _legacy(network: str) -> Iterator[str]:
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        table = ""
        for line in _told(network, program):
            if line.startswith("*"):
                table = line
            elif line.startswith((":", "-")):
                yield f"{program}: {table}: {line.partition('[')[0].strip()}"


def _told(network: str, *words: str) -> list[str]:
    if shutil.which(words[0]) is None:
        return []
    command = ["nsenter", f"--net={network}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout.splitlines()
