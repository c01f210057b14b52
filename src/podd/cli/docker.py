"""podd-cli docker setup: what dockerd is to be told so that members of a pod start together and share uts on it."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec

from podd.errors import NotFound

PLUGIN = "podd_docker"
"""Run, and not imported: podd-cli knows no driver."""

DAEMON_JSON = "/etc/docker/daemon.json"


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", choices=["setup"], help="print what daemon.json should hold for podd")
    parser.add_argument("--write", action="store_true", help="put it into that file, which keeps all else")
    parser.add_argument("--file", default=DAEMON_JSON, metavar="PATH", help=f"the file to write [{DAEMON_JSON}]")


def run(options: Namespace) -> int:
    if find_spec(PLUGIN) is None:
        raise NotFound("docker: the driver is not installed beside podd-cli", remedy="install plugins/podd_docker")
    path = [options.file] if options.write else []
    return subprocess.run([sys.executable, "-m", PLUGIN, *path], check=False).returncode
