"""Run by oci-runtime.sh before a container is made: has it join the uts namespace of whose network it joins.

A program of its own, started for each container, so it imports as little as it can. Its arguments are those of the
runtime: `… create --bundle DIRECTORY …`. Source: the OCI runtime specification, config.json, linux.namespaces.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

_OF_A_PROCESS = re.compile(r"(/proc/[0-9]+/ns/)net")


def share_uts(config: dict[str, Any]) -> bool:
    """Change the configuration; False where there is nothing to change."""
    spaces = {space["type"]: space for space in config.get("linux", {}).get("namespaces", ())}
    network, uts = spaces.get("network"), spaces.get("uts")
    if network is None or uts is None or "path" in uts:
        return False
    joined = _OF_A_PROCESS.fullmatch(network.get("path", ""))
    if joined is None:
        return False
    uts["path"] = f"{joined[1]}uts"
    config.pop("hostname", None)  # it has one, from who made the namespace
    config.pop("domainname", None)
    return True


def main(arguments: list[str]) -> None:
    bundle = arguments[arguments.index("--bundle") + 1] if "--bundle" in arguments else "."
    path = os.path.join(bundle, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    if share_uts(config):
        fd = os.open(f"{path}.podd", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            json.dump(config, file)
        os.rename(f"{path}.podd", path)


if __name__ == "__main__":
    main(sys.argv[1:])
