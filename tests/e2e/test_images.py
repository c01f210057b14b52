"""Pods by images of a store that podd shares with others: what an image says, layers, volumes, ends."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real import CONFIG, MOUNT, Podd, kill, manifest, shared, sleeper, until
from running import runc_config, running

from images.layouts import needs_program
from images.library import MANY
from podd.driver.hookspecs import ImagePlaces

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(180),  # skopeo takes its time for many layers where the disk is busy
    pytest.mark.parametrize("driver", ["setns", "runc"]),
]

ON_QUIT = "trap 'echo quit > /shared/ended; exit 7' QUIT; echo up; while :; do sleep 1000 & wait $!; done"


@pytest.fixture
def podd(driver: str, library: ImagePlaces) -> Iterator[Podd]:
    images = f"\n[images]\nroot = {json.dumps(library.root)}\nrun_root = {json.dumps(library.run_root)}\n"
    if driver == "runc":
        needs_program("runc")
        yield from running(runc_config() + images, groups=("runc",), first=manifest("first", sleeper("a")))
    else:
        yield from running(CONFIG + images)


def app(name: str, script: str = "", image: str = "lasting", **more: Any) -> dict[str, Any]:
    """A container of an image; with a script, instead of what the image runs."""
    container = {"name": name, "image": f"localhost/{image}:1", **more}
    return {**container, "command": ["/bin/sh", "-c", script]} if script else container


def printed(podd: Podd, pod: str, container: str = "a") -> str:
    """What it has printed, once that is something."""
    return until(lambda: podd.cli("logs", pod, "-c", container, status=None), f"{pod} prints something")


def test_an_image_says_how_it_is_run_and_a_pod_may_say_it_better(podd: Podd) -> None:
    better = app("b", args=["echo args of $WHO in $(pwd); sleep 1000"], env=[{"name": "WHO", "value": "pod"}])
    better |= {"workingDir": "/tmp", "securityContext": {"runAsUser": 0}}
    podd.apply(manifest("says", app("a"), better))
    assert printed(podd, "says") == "image in /srv is 1000:33\n"
    assert printed(podd, "says", "b") == "args of pod in /tmp\n"
    assert podd.cli("exec", "says", "-c", "a", "--", "id", "-u") == "1000\n"
    assert podd.cli("exec", "says", "-c", "a", "--", "pwd") == "/srv\n"
    found = podd.status("says")["containerStatuses"][0]
    assert found["imageID"].startswith("sha256:")


def test_what_stops_it(podd: Podd) -> None:
    podd.apply(manifest("ends", app("a", ON_QUIT, **MOUNT), **shared(podd)))
    printed(podd, "ends")
    podd.kill()
    podd.start()
    podd.cli("delete", "pod", "ends")
    assert (podd.shared / "ended").read_text() == "quit\n"


def test_volumes_can_be_written_where_the_root_cannot(podd: Podd) -> None:
    script = "cat /data/seed; echo more > /data/more && cat /data/more; touch /srv/no || echo refused; sleep 1000"
    podd.apply(manifest("sealed", app("a", script, securityContext={"readOnlyRootFilesystem": True})))
    until(lambda: "refused" in podd.cli("logs", "sealed"), "the script is through")
    assert [line for line in podd.cli("logs", "sealed").splitlines() if "srv" not in line] == [
        "seed",
        "more",
        "refused",
    ]


def test_as_many_layers_as_an_image_may_have(podd: Podd) -> None:
    podd.apply(manifest("many", app("a", "ls -d /layer* | wc -l; cat /which; sleep 1000", "many")))
    assert (
        until(lambda: podd.cli("logs", "many").split()[1:] and podd.cli("logs", "many").split(), "both lines")
        == [str(MANY - 1)] * 2
    )


def test_pods_of_one_image_keep_apart_what_they_write(podd: Podd) -> None:
    script = "test -e /data/mine && echo seen; head -c 1048576 /dev/urandom > /data/mine; echo written; sleep 1000"
    for name in ("one", "two"):
        podd.apply(manifest(name, app("a", script)))
    for name in ("one", "two"):
        assert printed(podd, name) == "written\n"
    stats = json.loads(podd.cli("stats", "one", "-o", "json"))
    assert stats[0]["layers"]["a"] >= 1 << 20


def test_a_container_that_ends_runs_again_from_its_image(podd: Podd) -> None:
    podd.apply(manifest("again", app("a", "test -e /data/mine && echo seen; echo > /data/mine; echo up; sleep 1000")))
    printed(podd, "again")
    podd.kill()
    podd.start()
    kill(podd.pids("again")["a"])
    until(lambda: podd.status("again")["containerStatuses"][0]["restartCount"] == 1, "it was restarted")
    assert printed(podd, "again") == "up\n"


def test_who_is_to_be_no_root_by_an_image_is_looked_up(podd: Podd) -> None:
    no_root = {"securityContext": {"runAsNonRoot": True}}
    podd.apply(manifest("named", app("a", **no_root)))
    assert printed(podd, "named") == "image in /srv is 1000:33\n"
    refused = podd.apply(manifest("rooted", app("a", "sleep 1000", "many", **no_root)), status=1)
    assert "runAsNonRoot: the container would run as root" in refused


def test_an_image_that_buildah_has_just_built(podd: Podd, library: ImagePlaces, tmp_path: Path) -> None:
    needs_program("buildah")
    (tmp_path / "added").write_text("built\n")
    steps = ("FROM localhost/lasting:1", "COPY added /added", 'CMD ["cat /added; sleep 1000"]')
    (tmp_path / "Containerfile").write_text("\n".join(steps))
    where = ["--root", library.root, "--runroot", library.run_root, "--storage-driver", "overlay"]
    build = ["build", "--isolation", "chroot", "--tag", "localhost/built:1", str(tmp_path)]
    subprocess.run(["unshare", "--mount", "buildah", *where, *build], check=True, capture_output=True, timeout=60)
    podd.apply(manifest("built", app("a", image="built")))
    assert printed(podd, "built") == "built\n"


def test_nothing_of_the_store_is_changed(podd: Podd, library: ImagePlaces) -> None:
    def content() -> dict[str, float]:
        return {
            os.path.join(folder, name): os.lstat(os.path.join(folder, name)).st_mtime
            for folder, folders, files in os.walk(library.root)
            for name in (*folders, *files)
        }

    before = content()
    podd.apply(manifest("reads", app("a", "rm -r /bin/busybox /data; echo > /etc/passwd; echo done; sleep 1000")))
    until(lambda: podd.status("reads")["phase"] == "Running", "it runs")
    podd.cli("delete", "pod", "reads", "--now")
    assert content() == before
