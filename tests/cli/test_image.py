"""podd-cli image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.fake_daemon import Call, FakeDaemon, Refusal

Json = dict[str, Any]
Run = Callable[..., Any]

BUSYBOX = {
    "id": f"sha256:{'ab' * 32}",
    "names": ["docker.io/library/busybox:1", "localhost/mine:2"],
    "digests": [f"docker.io/library/busybox@sha256:{'cd' * 32}"],
    "size_bytes": 3 * 1024 * 1024,
    "created_at": None,
    "user": "",
    "labels": {},
    "pods": ["default/web"],
}
STEP = {"done_bytes": 1024, "total_bytes": 2048, "layer": "", "message": "1 of 2 layers", "queued": False}
NAMELESS = {**BUSYBOX, "id": f"sha256:{'ef' * 32}", "names": [], "pods": []}


class TestWithADaemon:
    def test_pull(self, daemon: FakeDaemon, run: Run) -> None:
        def answer(call: Call) -> Iterator[Json]:
            if call.parameters["reference"] == "none":
                raise Refusal("NotFound", "image none: there is no such image", "check its name")
            yield {"progress": STEP}
            yield {"image": BUSYBOX}

        daemon.answers["PullImage"] = answer
        done = run("image", "pull", "busybox:1", "none", "--driver", "runc")
        assert done.out == f"docker.io/library/busybox:1: {BUSYBOX['id']}\n"
        assert done.err.splitlines()[0] == "busybox:1: 1Ki of 2Ki"
        assert "there is no such image; check its name" in done.err
        assert done.status == 1
        assert daemon.calls[0].parameters == {"driver": "runc", "reference": "busybox:1"}

    def test_a_program_gets_numbers(self, daemon: FakeDaemon, run: Run) -> None:
        daemon.answers["PullImage"] = lambda _: iter([{"progress": STEP}, {"image": BUSYBOX}])
        done = run("image", "pull", "busybox:1", "-o", "json")
        assert json.loads(done.out) == [BUSYBOX]
        assert json.loads(done.err) == {"image": "busybox:1", **STEP, "bytes_per_s": 0}

    def test_list(self, daemon: FakeDaemon, run: Run) -> None:
        daemon.answers["Images"] = lambda _: {"images": [BUSYBOX, NAMELESS]}
        lines = [line.split() for line in run("image", "list").out.splitlines()]
        assert lines == [
            ["NAME", "ID", "SIZE", "CREATED", "PODS"],
            ["docker.io/library/busybox:1", "abababababab", "3Mi", "<unknown>", "1"],
            ["localhost/mine:2", "abababababab", "3Mi", "<unknown>", "1"],
            ["<none>", "efefefefefef", "3Mi", "<unknown>", "0"],
        ]
        assert json.loads(run("image", "ls", "-o", "json").out) == [BUSYBOX, NAMELESS]
        assert run("image", "list", "-o", "name").out.splitlines()[-1] == f"image/{NAMELESS['id']}"

    def test_inspect(self, daemon: FakeDaemon, run: Run) -> None:
        daemon.answers["InspectImage"] = lambda _: {"image": BUSYBOX}
        assert json.loads(run("image", "inspect", "busybox:1", "-o", "json").out) == BUSYBOX

    def test_rm_and_prune(self, daemon: FakeDaemon, run: Run) -> None:
        daemon.answers["RemoveImage"] = lambda call: {"removed": [call.parameters["reference"]]}
        daemon.answers["PruneImages"] = lambda call: {"removed": [], "freed_bytes": 2048 * call.parameters["all"]}
        assert run("image", "rm", "a", "image/b").out == "image/a removed\nimage/b removed\n"
        assert run("image", "prune", "--all").out == "2Ki freed\n"

    def test_import(self, daemon: FakeDaemon, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        daemon.answers["ImportImage"] = lambda _: {"images": [BUSYBOX]}
        monkeypatch.chdir(tmp_path)
        run("image", "import", "app.tar", "mine:1")
        run("image", "import", "oci:/srv/app:1")
        asked = [(call.parameters["source"], call.parameters["name"]) for call in daemon.calls]
        assert asked == [(f"{tmp_path}/app.tar", "mine:1"), ("oci:/srv/app:1", None)]

    def test_usage(self, daemon: FakeDaemon, run: Run) -> None:
        used = {"service": "containers-storage:/s", "images": 3, "unused": 1, "size_bytes": 1024}
        daemon.answers["ImageUsage"] = lambda _: used
        assert run("image", "usage").out.splitlines()[1].split() == ["containers-storage:/s", "3", "1", "1Ki"]


@pytest.mark.parametrize(
    "words",
    [
        ("pull",),
        ("rm",),
        ("inspect",),
        ("import",),
        ("import", "a", "b", "c"),
        ("list", "a"),
        ("usage", "a"),
        ("prune", "a"),
        ("list", "--all"),
        ("fetch", "a"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(words: tuple[str, ...], daemon: FakeDaemon, run: Run) -> None:
    assert run("image", *words).status == 2
    assert not daemon.calls
