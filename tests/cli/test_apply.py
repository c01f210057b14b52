from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Run
from cli.fake_daemon import Answer, Call, FakeDaemon, Json, Refusal


def result(name: str, action: str = "created", phase: str = "Running", **more: object) -> Json:
    rest = {"namespace": "default", "uid": "", "reason": "", "message": "", "warnings": [], "changes": []}
    return {"name": name, "action": action, "phase": phase, **rest, **more}


class Applied:
    """Answers each Apply with the results that are set for its sources."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.results: dict[str, list[Json]] = {}
        daemon.answers["Apply"] = self

    def __call__(self, call: Call) -> Iterator[Answer | Json]:
        sources = [text["source"] for text in (call.parameters, *(call.parameters.get("others") or ()))]
        for source in sources:
            if _file(source) not in self.results:
                wrong = f"{source}:3:5: spec.contianers: no such field"
                raise Refusal("Invalid", wrong, "did you mean containers?")
        if call.parameters.get("wait"):
            step = {
                "name": "hello",
                "namespace": "default",
                "phase": "Pending",
                "reason": "ContainerCreating",
                "message": "",
            }
            yield {"progress": step}
        yield {"results": [result for source in sources for result in self.results[_file(source)]]}


def _file(source: str) -> str:
    return source.rpartition("/")[2]


@pytest.fixture
def applied(daemon: FakeDaemon) -> Applied:
    return Applied(daemon)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pods"
    folder.mkdir()
    for name in ("b.yml", "a.yaml", "c.json", "notes.txt", "d.yaml.bak"):
        (folder / name).write_text(f"# {name}")
    return folder


def test_what_became_of_each(run: Run, applied: Applied, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("the text\n")
    applied.results["pods.yaml"] = [
        result("a"),
        result("b", "unchanged"),
        result("c", "recreated", warnings=["pod.yaml:3:5: note: spec.nodeName: not read"]),
    ]
    shown = run("apply", "-f", f"{tmp_path}/pods.yaml", "-n", "web")
    assert shown == (
        0,
        "pod/a created\npod/b unchanged\npod/c recreated\n",
        "pod/c: pod.yaml:3:5: note: spec.nodeName: not read\n",
    )
    asked = {"manifest": "the text\n", "source": f"{tmp_path}/pods.yaml", "namespace": "web"}
    assert daemon.asked("Apply") == [{**asked, "wait": False, "dry_run": False, "strict": True}]


def test_wait_shows_what_became_of_them(run: Run, applied: Applied, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("")
    why = {"reason": "CreateContainerError", "message": 'web: "nope": not found in $PATH'}
    applied.results["pods.yaml"] = [
        result("runs"),
        result("ended", "unchanged", phase="Succeeded"),
        result("broken", phase="Failed", **why),
    ]
    shown = run("apply", "-f", f"{tmp_path}/pods.yaml", "--wait")
    assert shown.status == 1
    assert shown.lines == ["pod/runs created: Running", "pod/ended unchanged: Succeeded", "pod/broken created"]
    assert shown.err == (
        'podd-cli: pod/broken: Failed: CreateContainerError: web: "nope": not found in $PATH; '
        "see 'podd-cli describe pod/broken -n default'\n"
    )


def test_a_refused_pod_refuses_its_manifest(run: Run, applied: Applied, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("")
    why = {"reason": "Conflict", "message": "spec.containers: cannot be changed; delete the pod first"}
    applied.results["pods.yaml"] = [result("a"), result("b", "refused", **why)]
    shown = run("apply", "-f", f"{tmp_path}/pods.yaml")
    assert (shown.status, shown.out) == (1, "")
    assert shown.err.splitlines() == [
        "podd-cli: pod/a: not applied: another object of the same manifest is refused",
        "podd-cli: pod/b: refused: Conflict: spec.containers: cannot be changed; delete the pod first",
    ]
    dry = run("apply", "-f", f"{tmp_path}/pods.yaml", "--dry-run")
    assert (dry.status, dry.out) == (1, "pod/a created (dry run)\n")


CHANGES = [
    {"path": "metadata.labels.app", "old": None, "new": '"web"', "means": "metadata", "note": ""},
    {"path": "spec.containers[0].image", "old": '"rootfs:/"', "new": '"rootfs:/srv"', "means": "recreate", "note": ""},
    {"path": "spec.hostname", "old": '"a\\u001b"', "new": None, "means": "recreate", "note": "why"},
]


def test_a_dry_run_tells_what_would_change(run: Run, applied: Applied, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("")
    applied.results["pods.yaml"] = [result("a", "recreated", changes=CHANGES), result("b", "unchanged")]
    shown = run("apply", "-f", f"{tmp_path}/pods.yaml", "--dry-run", "--strict=warn")
    assert shown.status == 0
    assert shown.lines == [
        "pod/a recreated (dry run)",
        '  metadata.labels.app: (none) -> "web"',
        '  spec.containers[0].image: "rootfs:/" -> "rootfs:/srv"',
        '  spec.hostname: "a\\u001b" -> (none)  (why)',
        "pod/b unchanged (dry run)",
    ]
    assert (daemon.asked("Apply")[0]["dry_run"], daemon.asked("Apply")[0]["strict"]) == (True, False)


def test_what_could_not_be_done_is_told(run: Run, applied: Applied, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("")
    applied.results["pods.yaml"] = [
        result("a", "kept", reason="StartError", message="no such file"),
        result("b", "resized", reason="Infeasible", message="uses more"),
    ]
    shown = run("apply", "-f", f"{tmp_path}/pods.yaml", "--wait")
    assert (shown.status, shown.out) == (1, "pod/b resized\n")
    assert shown.err.splitlines() == [
        "podd-cli: pod/a: kept as it is, because another could not take its place: StartError: no such file; "
        "see 'podd-cli describe pod/a -n default'",
        "podd-cli: pod/b: limits as before: Infeasible: uses more; see 'podd-cli describe pod/b -n default'",
    ]


def test_diff(run: Run, applied: Applied, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "pods.yaml").write_text("")
    source = f"{tmp_path}/pods.yaml"
    applied.results["pods.yaml"] = [result("a", "unchanged", warnings=["x:1:1: warning: y"])]
    assert run("diff", "-f", source) == (0, "", "pod/a: x:1:1: warning: y\n")
    applied.results["pods.yaml"] += [result("b", "recreated", changes=CHANGES), result("c")]
    shown = run("diff", "-f", source)
    assert (shown.status, shown.err) == (1, "pod/a: x:1:1: warning: y\n")
    assert shown.lines == [
        "--- pod/b -n default",
        f"+++ {source}: pod/b recreated",
        "@@ metadata.labels.app @@ metadata",
        '+"web"',
        "@@ spec.containers[0].image @@ recreate",
        '-"rootfs:/"',
        '+"rootfs:/srv"',
        "@@ spec.hostname @@ recreate: why",
        '-"a\\u001b"',
        "--- /dev/null",
        f"+++ {source}: pod/c created",
    ]
    assert all(asked["dry_run"] for asked in daemon.asked("Apply"))


def test_a_diff_that_fails_is_not_taken_for_a_difference(run: Run, applied: Applied, tmp_path: Path) -> None:
    for name in ("wrong.yaml", "good.yaml", "refused.yaml"):
        (tmp_path / name).write_text("")
    applied.results["good.yaml"] = [result("b", "amended", changes=CHANGES[:1])]
    applied.results["refused.yaml"] = [result("b", "refused", reason="Invalid", message="no such driver")]
    assert run("diff", "-f", f"{tmp_path}/refused.yaml").status == 2
    assert run("diff", "-f", f"{tmp_path}/missing.yaml").status == 2
    shown = run("diff", "-f", f"{tmp_path}/wrong.yaml", "-f", f"{tmp_path}/good.yaml")
    assert (shown.status, shown.out) == (2, "")
    assert run("diff", "-f", f"{tmp_path}/good.yaml", "--socket", "/nowhere").status == 2


def test_a_wrong_file_keeps_the_others_from_being_applied(run: Run, applied: Applied, folder: Path) -> None:
    applied.results |= {"b.yml": [result("b")], "c.json": [result("c")]}
    wrong = f"podd-cli: {folder}/a.yaml:3:5: spec.contianers: no such field; did you mean containers?\n"
    assert run("apply", "-f", str(folder)) == (1, "", wrong)


def test_a_folder_is_read_by_name_and_applied_as_one(
    run: Run, applied: Applied, daemon: FakeDaemon, folder: Path
) -> None:
    applied.results |= {"a.yaml": [result("a")], "b.yml": [result("b", phase="Succeeded")], "c.json": [result("c")]}
    shown = run("apply", "-f", str(folder), "--wait", "--timeout", "1h")
    assert shown.lines == ["pod/a created: Running", "pod/b created: Succeeded", "pod/c created: Running"]
    (asked,) = daemon.asked("Apply")
    assert (asked["source"], asked["manifest"]) == (f"{folder}/a.yaml", "# a.yaml")
    others = [{"manifest": f"# {name}", "source": f"{folder}/{name}"} for name in ("b.yml", "c.json")]
    assert (asked["others"], asked["wait"], asked["timeout_s"]) == (others, True, 3600)


def test_timeout(run: Run, daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("")

    def late(call: Call) -> Json:
        raise Refusal(
            "Unavailable", f"pod/p: not running after {call.parameters['timeout_s']} s", "it goes on starting"
        )

    daemon.answers["Apply"] = late
    shown = run("apply", "-f", f"{tmp_path}/p.yaml", "--wait", "--timeout", "1.5")
    assert (shown.status, shown.err) == (1, "podd-cli: pod/p: not running after 2 s; it goes on starting\n")


def test_standard_input(run: Run, applied: Applied, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("ünï: 1".encode())))
    applied.results["stdin"] = [result("p")]
    assert run("apply", "-f", "-").out == "pod/p created\n"
    assert daemon.asked("Apply")[0]["manifest"] == "ünï: 1"


def test_files_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"a: 1\nb: \xff\xfe")
    (tmp_path / "empty").mkdir()
    cases = {
        "missing.yaml": f"{tmp_path}/missing.yaml: No such file or directory",
        "binary.yaml": f"{tmp_path}/binary.yaml:2: not UTF-8 text; is this a manifest?",
        "empty": f"{tmp_path}/empty: no manifests in it: their names end in .yaml, .yml, .json",
    }
    for name, message in cases.items():
        assert run("apply", "-f", f"{tmp_path}/{name}") == (1, "", f"podd-cli: {message}\n")
