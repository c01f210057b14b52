"""Inside the machine: podd as a service of the real systemd, on the real kernel. A line on the console for each check.

Runs at each boot, as root, with the interpreter that podd is installed in; REMEMBERED keeps what the next boot compares
with. Nothing is undone between checks: each begins with what the one before has left.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import engines
import service
from machine import HURRIED, cli, is_pure, journal, pids, pods, run, systemd, until

REMEMBERED = Path("/var/lib/podd-vm.json")

Check = Callable[[], None]


def check_host() -> None:
    print(os.uname().release, run("systemctl", "--version").splitlines()[0], "pure v2" if is_pure() else "hybrid")


def check_there_was_no_error() -> None:
    lines = [line for line in journal().splitlines() if " error " in line or "Traceback" in line]
    found = run("journalctl", "-q", "-b", "-o", "cat", "-u", "podd.service", "-p", "err", "_COMM=podd", status=None)
    assert not lines, "\n".join(lines)
    assert not found, found


def prepare_for_the_next_boot() -> None:
    service.apply_examples(*HURRIED)
    Path("/etc/podd/pods.d/static.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "static"},
                "spec": {"containers": [{"name": "c", "image": "rootfs:/", "command": ["sleep", "infinity"]}]},
            }
        )
    )
    REMEMBERED.write_text(json.dumps(sorted(pids())))


def check_pods_are_back_after_a_reboot() -> None:
    expected = {*json.loads(REMEMBERED.read_text()), "static/c"}
    until(lambda: systemd("ActiveState") == "active", "podd is started at boot")
    until(lambda: pids().keys() == expected, "the pods are back")
    assert {pod["status"]["phase"] for pod in pods().values()} == {"Running"}
    service.check_pods_and_supervisors_live_beside_podd()


def checks() -> Iterator[Check]:
    yield check_host
    if REMEMBERED.exists():
        yield check_pods_are_back_after_a_reboot
        yield check_there_was_no_error
        return
    yield from _of(service)
    yield from _of(engines)
    yield check_there_was_no_error
    yield prepare_for_the_next_boot


def _of(module: ModuleType) -> Iterator[Check]:
    """In the order in which it has them."""
    return (value for name, value in vars(module).items() if name.startswith("check_"))


def main() -> None:
    failed = 0
    for check in checks():
        name = check.__name__.removeprefix("check_").replace("_", " ")
        begun = time.monotonic()
        try:
            check()
        except Exception:  # noqa: BLE001  shown, and the next is tried
            failed += 1
            print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
            print(
                cli("get", "pods", "-o", "wide", status=None), cli("events", "--since", "2m", status=None), flush=True
            )
            print(run("journalctl", "-b", "-n", "15", "--no-pager", "-u", "podd*"), flush=True)
        else:
            print(f"PASS {name} ({time.monotonic() - begun:.1f} s)", flush=True)
    print(f"DONE {failed} failed", flush=True)


if __name__ == "__main__":
    sys.exit(main())
