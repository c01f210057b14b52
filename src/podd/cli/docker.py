"""podd-cli docker setup: what dockerd is to be told so that members of a pod share uts on it."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from podd.errors import NotFound

PLUGIN = "podd_docker"
"""Run, and not imported: podd-cli knows no driver."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["setup"], help="print the part of /etc/docker/daemon.json")


def run(options: Namespace) -> int:  # noqa: ARG001  there is one action
    if find_spec(PLUGIN) is None:
        raise NotFound("docker: the driver is not installed beside podd-cli", remedy="install plugins/podd_docker")
    return subprocess.run([sys.executable, "-m", PLUGIN], check=False).returncode
