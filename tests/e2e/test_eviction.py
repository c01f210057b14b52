"""Pods that fill the disk, of both drivers in one podd: it looks every ten seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from real import Podd, manifest, sleeper, until
from running import runc_config, running

from images.layouts import needs_program
from podd.driver.hookspecs import ImagePlaces

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]

LIMITS = {"limits": {"ephemeral-storage": "1Mi"}}
FILL = "head -c 3145728 /dev/urandom > /data/fill; echo filled; sleep 1000"


@pytest.fixture
def podd(library: ImagePlaces) -> Iterator[Podd]:
    needs_program("runc")
    images = f"\n[images]\nroot = {json.dumps(library.root)}\nrun_root = {json.dumps(library.run_root)}\n"
    config = runc_config().replace('setns]\ncgroup_parent = "{cgroup}"', 'setns]\ncgroup_parent = "{cgroup}/setns"')
    yield from running(config + images, groups=("runc", "setns"), first=manifest("first", sleeper("a")))


def app(script: str) -> dict[str, Any]:
    return {"name": "a", "image": "localhost/lasting:1", "command": ["/bin/sh", "-c", script], "resources": LIMITS}


def test_who_fills_the_disk_is_evicted(podd: Podd) -> None:
    drivers = ("setns", "runc")
    for driver in drivers:
        podd.apply(manifest(f"greedy-{driver}", app(FILL), runtimeClassName=driver))
        podd.apply(manifest(f"modest-{driver}", app("echo up; sleep 1000"), runtimeClassName=driver))
    for driver in drivers:
        found = until(partial(evicted, podd, f"greedy-{driver}"), "it is evicted", limit_s=40)
        assert (found["reason"], found["message"]) == (
            "Evicted",
            'Container a exceeded its local ephemeral storage limit "1Mi"',
        )
        assert podd.status(f"modest-{driver}")["phase"] == "Running"
    until(lambda: not list(podd.folder.glob("state/**/fill")), "the disk has it back")


def evicted(podd: Podd, pod: str) -> Any:
    status = podd.status(pod)
    return status["phase"] == "Failed" and status
