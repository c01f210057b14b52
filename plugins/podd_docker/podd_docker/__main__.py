"""python -m podd_docker [PATH]: print what dockerd's daemon.json should hold for podd, or put it into that file."""

from __future__ import annotations

import json
import sys

from podd.errors import PoddError
from podd_docker.daemon_json import PATH, RUNTIME, put_into, wanted

NEXT = f"""\
have dockerd read it: systemctl reload docker, or SIGHUP to dockerd; running containers are not touched
then set runtime = "{RUNTIME}" in the section [drivers.docker] of podd.toml, and: systemctl restart podd"""


def main(paths: list[str]) -> int:
    if not paths:
        print(json.dumps(wanted(), indent=4))  # noqa: T201
        _say(f"put this into {PATH}, or: podd-cli docker setup --write\n{NEXT}")
        return 0
    try:
        is_changed = put_into(paths[0])
    except (PoddError, OSError) as exc:
        _say(f"podd-cli: {exc}")
        return 1
    _say(f"{paths[0]}: {'written' if is_changed else 'is as it should be'}\n{NEXT}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
