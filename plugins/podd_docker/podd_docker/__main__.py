"""python -m podd_docker: what to put into /etc/docker/daemon.json so that members of a pod share uts on dockerd."""

from __future__ import annotations

import json
import os
import sys

RUNTIME = "podd"


def daemon_json() -> dict[str, object]:
    """The part of daemon.json. dockerd makes a script of a program and its arguments, so nothing need be executable."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "oci-runtime.sh")
    return {"runtimes": {RUNTIME: {"path": "/bin/sh", "runtimeArgs": [script]}}}


def main() -> None:
    print(json.dumps(daemon_json(), indent=4))  # noqa: T201
    print(  # noqa: T201
        "put this into /etc/docker/daemon.json, have dockerd read it (systemctl reload docker), and set\n"
        f'runtime = "{RUNTIME}" in the section [drivers.docker] of podd.toml',
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
