from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml

from cli.conftest import Run
from cli.fake_daemon import NOW, Answer, Call, FakeDaemon, Json, Refusal
from cli.samples import ago, ended, pod, running, terminated, waiting

OLD = ago(days=12, hours=3)


def some_pods() -> list[Json]:
    last = ended(1, at=ago(hours=20, minutes=9))
    return [
        pod("hello", running("web"), running("db"), created=OLD),
        pod("broken", running("a"), waiting("b", "CrashLoopBackOff", restarts=7, last=last), created=OLD),
        pod("batch", terminated("a", 0, "Completed"), phase="Succeeded", created=OLD, namespace="jobs"),
        pod(
            "off",
            terminated("a", 0, "Completed"),
            phase="Succeeded",
            reason="Stopped",
            created=OLD,
            podd={"sandboxId": ""},
        ),
    ]


@pytest.fixture
def pods(daemon: FakeDaemon) -> FakeDaemon:
    def get(call: Call) -> Json:
        found = [each for each in some_pods() if each["metadata"]["name"] == call.parameters["name"]]
        if not found:
            raise Refusal("NotFound", f"pod {call.parameters['name']}: not found")
        return {"pod": found[0]}

    daemon.answers |= {"List": lambda _: {"pods": some_pods()}, "Get": get}
    return daemon


TABLE = """\
NAME     READY   STATUS             RESTARTS      AGE
hello    2/2     Running            0             12d
broken   1/2     CrashLoopBackOff   7 (20h ago)   12d
batch    0/1     Completed          0             12d
off      0/1     Stopped            0             12d
"""

WIDE = """\
NAMESPACE   NAME     READY   STATUS             RESTARTS      AGE   DRIVER   IP       SANDBOX
default     hello    2/2     Running            0             12d   setns    <none>   00112233aabbccdd
default     broken   1/2     CrashLoopBackOff   7 (20h ago)   12d   setns    <none>   00112233aabbccdd
jobs        batch    0/1     Completed          0             12d   setns    <none>   00112233aabbccdd
default     off      0/1     Stopped            0             12d   setns    <none>   <none>
"""


def test_table(run: Run, pods: FakeDaemon) -> None:
    result = run("get", "pods")
    assert (result.status, result.out, result.err) == (0, TABLE, "")
    assert pods.asked("List") == [{"namespace": "default", "selector": ""}]


def test_wide_table_of_all_namespaces(run: Run, pods: FakeDaemon) -> None:
    assert run("get", "po", "-A", "-o", "wide", "-l", "app=web").out == WIDE
    assert pods.asked("List") == [{"selector": "app=web"}]


def test_wide_table_shows_every_address(run: Run, daemon: FakeDaemon) -> None:
    one = pod("p")
    one["status"] |= {"podIP": "10.86.0.2", "podIPs": [{"ip": "10.86.0.2"}, {"ip": "fd86::2"}]}
    daemon.answers["List"] = lambda _: {"pods": [one]}
    assert "setns    10.86.0.2, fd86::2   0011" in run("get", "pods", "-o", "wide").out


def test_no_pods(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["List"] = lambda _: {"pods": []}
    assert run("get", "pods", "-n", "web") == (0, "", "no pods in namespace web\n")
    assert run("get", "pods", "-A") == (0, "", "no pods\n")
    assert json.loads(run("get", "pods", "-o", "json").out) == {"apiVersion": "v1", "kind": "List", "items": []}
    assert run("get", "pods", "-o", "name") == (0, "", "")


def test_a_pod_that_is_not_there_does_not_hide_those_that_are(run: Run, pods: FakeDaemon) -> None:
    result = run("get", "pod", "hello", "missing", "batch")
    assert result.status == 1
    assert [line.split()[0] for line in result.lines] == ["NAME", "hello", "batch"]
    assert result.err == "podd-cli: pod missing: not found\n"


@pytest.mark.parametrize("words", [("pod", "hello"), ("pod/hello",), ("pods/hello",), ("pods", "pod/hello")])
def test_ways_to_name_a_pod(words: tuple[str, ...], run: Run, pods: FakeDaemon) -> None:
    assert run("get", *words, "-o", "name").out == "pod/hello\n"
    assert pods.asked("Get") == [{"name": "hello"}]


def test_documents(run: Run, pods: FakeDaemon) -> None:
    assert json.loads(run("get", "pods", "-o", "json").out)["items"][0]["metadata"]["name"] == "hello"
    assert json.loads(run("get", "pod", "hello", "-o", "json").out)["kind"] == "Pod"
    shown = yaml.safe_load(run("get", "pod", "hello", "-n", "default", "-o", "yaml").out)
    assert shown["spec"]["containers"][1]["name"] == "db"
    assert pods.asked("Get")[-1] == {"name": "hello", "namespace": "default"}


# ---- watching --------------------------------------------------------------------------------------------------------


def changes(_: Call) -> Iterator[Answer | Json]:
    """hello runs, is restarted, and goes; a change that nobody can see in between."""
    old = some_pods()[:2]
    yield from ({"type": "ADDED", "pod": each} for each in old)
    yield {"type": "SYNCED", "pod": None}
    yield {"type": "MODIFIED", "pod": old[0]}
    yield {"type": "MODIFIED", "pod": {**old[0], "status": {**old[0]["status"], "reason": "Restarting"}}}
    yield {"type": "ADDED", "pod": pod("new", created=OLD)}
    yield {"type": "DELETED", "pod": old[0]}


WATCHED = """\
NAME     READY   STATUS             RESTARTS      AGE
hello    2/2     Running            0             12d
broken   1/2     CrashLoopBackOff   7 (20h ago)   12d
hello    2/2     Restarting         0             12d
new      1/1     Running            0             12d
hello    2/2     Deleted            0             12d
"""


def test_watch_shows_what_changes(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Watch"] = changes
    result = run("get", "pods", "-w", "-l", "app")
    assert (result.status, result.out) == (0, WATCHED)
    assert daemon.asked("Watch") == [{"namespace": "default", "selector": "app"}]


def test_watch_of_one_pod(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Watch"] = changes
    uid = pod("new")["metadata"]["uid"]
    assert [line.split()[:3] for line in run("get", "pod", "new", "-w").lines[1:]] == [["new", "1/1", "Running"]]
    assert [line.split()[0] for line in run("get", "pod", uid[:8], "-w").lines[1:]] == ["new"]


def test_watch_as_documents(run: Run, daemon: FakeDaemon) -> None:
    daemon.answers["Watch"] = changes
    documents = list(yaml.safe_load_all(run("get", "pods", "-w", "-o", "yaml").out))
    assert [document["metadata"]["name"] for document in documents] == [
        "hello",
        "broken",
        "hello",
        "hello",
        "new",
        "hello",
    ]
    assert run("get", "pods", "-w", "-o", "name").lines[0] == "pod/hello"


def test_a_watcher_that_is_cut_off_is_told(run: Run, daemon: FakeDaemon) -> None:
    def cut_off(_: Call) -> Iterator[Answer | Json]:
        yield {"type": "SYNCED", "pod": None}
        yield NOW
        raise Refusal("Unavailable", "watch: too slow to keep up", "watch again")

    daemon.answers["Watch"] = cut_off
    result = run("get", "pods", "-w")
    assert (result.status, result.err) == (1, "podd-cli: watch: too slow to keep up; watch again\n")
