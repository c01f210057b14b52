"""Every method of io.podd, from the client through the wire to the engine and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from control.harness import Running
from podd.errors import Invalid, NotFound, Unsupported
from podd.model.pod import Container, EnvVar

ORDER = {"namespace": None, "grace_period_s": None, "wait": True}

# method, parameters, what the engine is asked
ASKED: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("Get", {"name": "web"}, "get", {"name": "web", "namespace": None}),
    ("Get", {"name": "web", "namespace": "prod"}, "get", {"name": "web", "namespace": "prod"}),
    ("List", {}, "list_pods", {"namespace": None, "selector": ""}),
    ("List", {"selector": "app=web"}, "list_pods", {"namespace": None, "selector": "app=web"}),
    (
        "Amend",
        {"name": "web", "labels": {"a": "b", "c": None}},
        "amend",
        {"name": "web", "namespace": None, "labels": {"a": "b", "c": None}, "annotations": {}, "overwrite": False},
    ),
    ("Delete", {"name": "web"}, "delete", {"name": "web", **ORDER}),
    ("Delete", {"name": "web", "now": True}, "delete", {"name": "web", **ORDER, "grace_period_s": 0}),
    ("Delete", {"name": "web", "wait": False}, "delete", {"name": "web", **ORDER, "wait": False}),
    ("Stop", {"name": "web", "grace_period_s": 3}, "stop", {"name": "web", **ORDER, "grace_period_s": 3}),
    ("Stop", {"name": "web", "grace_period_s": 0, "now": True}, "stop", {"name": "web", **ORDER, "grace_period_s": 0}),
    ("Start", {"name": "web"}, "start", {"name": "web", "namespace": None, "wait": True}),
    ("Restart", {"name": "web"}, "restart", {"name": "web", **ORDER}),
    ("Pause", {"name": "web"}, "pause", {"name": "web", "namespace": None}),
    ("Resume", {"name": "web"}, "resume", {"name": "web", "namespace": None}),
    (
        "Resize",
        {"name": "web", "limits": {"memory": "1Gi"}},
        "resize",
        {"name": "web", "namespace": None, "container": None, "limits": {"memory": "1Gi"}, "requests": {}},
    ),
    (
        "Debug",
        {"name": "web", "image": "rootfs:/", "command": ["/bin/sh"], "env": {"A": "b"}, "target": "main", "tty": True},
        "debug",
        {
            "name": "web",
            "namespace": None,
            "target": "main",
            "added": Container(
                name="", image="rootfs:/", command=("/bin/sh",), env=(EnvVar(name="A", value="b"),), tty=True
            ),
        },
    ),
    ("Stats", {}, "stats", {"name": None, "namespace": None}),
    ("Namespaces", {"name": "web"}, "namespaces", {"name": "web", "namespace": None}),
    ("Tree", {"namespace": "prod"}, "cgroups", {"name": None, "namespace": "prod"}),
    (
        "CreateObject",
        {"manifest": "kind: Secret", "namespace": "ns"},
        "create_object",
        {"manifest": "kind: Secret", "source": "manifest", "namespace": "ns"},
    ),
    ("Objects", {"kind": "Secret"}, "objects", {"kind": "Secret", "name": None, "namespace": None}),
    (
        "DeleteObject",
        {"kind": "ConfigMap", "name": "m"},
        "delete_object",
        {"kind": "ConfigMap", "name": "m", "namespace": None},
    ),
    ("Drivers", {}, "drivers", {}),
    ("Info", {}, "info", {}),
    ("Reload", {}, "reload", {}),
    ("Forward", {"name": "web", "port": 80}, "forward", {"name": "web", "port": 80}),
    ("Attach", {"name": "web", "stdin": True}, "attach", {"name": "web", "container": None, "stdin": True}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "parameters", "verb", "arguments"), ASKED)
def test_the_engine_is_asked(
    podd: Running, method: str, parameters: Mapping[str, Any], verb: str, arguments: Mapping[str, Any]
) -> None:
    with podd.client() as client:
        client.call(method, parameters)
    assert podd.engine.asked == [(verb, arguments)]


def test_a_pod_is_shown_as_kubernetes_writes_it(podd: Running) -> None:
    with podd.client() as client:
        pod = client.call("Get", {"name": "web"})["pod"]
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    assert pod["metadata"]["namespace"] == "default"  # written though it is the default
    assert pod["metadata"]["labels"] == {"app": "web"}
    assert pod["spec"]["containers"][0]["name"] == "main"
    assert pod["status"]["phase"] == "Running"


def test_apply_tells_of_its_progress_to_those_who_ask_for_more(podd: Running) -> None:
    with podd.client() as client:
        replies = [reply.parameters for reply in client.call_more("Apply", {"manifest": "x", "wait": True})]
        alone = client.call("Apply", {"manifest": "x"})
    assert [reply["progress"] and reply["progress"]["phase"] for reply in replies] == ["Pending", "Running", None]
    assert [reply["results"] for reply in replies[:2]] == [None, None]
    assert replies[2] == alone
    assert alone["results"][0]["action"] == "amended"
    assert alone["results"][0]["changes"] == [
        {"path": "metadata.labels.a", "old": None, "new": '"b"', "means": "metadata", "note": ""}
    ]
    assert alone["results"][0]["warnings"] == ["w"]


@pytest.mark.parametrize(("given", "strict"), [({}, True), ({"strict": True}, True), ({"strict": False}, False)])
def test_apply_is_strict_unless_told(podd: Running, given: dict[str, bool], strict: bool) -> None:
    with podd.client() as client:
        client.call("Apply", {"manifest": "x", **given})
    assert podd.engine.asked[0][1]["strict"] is strict


def test_a_watch_shows_all_then_synced(podd: Running) -> None:
    with podd.client() as client:
        replies = client.call_more("Watch")
        seen = [next(replies).parameters for _ in range(3)]
    assert [(each["type"], each["pod"] and each["pod"]["metadata"]["name"]) for each in seen] == [
        ("ADDED", "web"),
        ("ADDED", "db"),
        ("SYNCED", None),
    ]


def test_logs_and_events_end_with_an_empty_batch(podd: Running) -> None:
    with podd.client() as client:
        logs = [reply.parameters["lines"] for reply in client.call_more("Logs", {"name": "web", "tail": 5})]
        events = [reply.parameters["events"] for reply in client.call_more("Events")]
    assert [len(lines) for lines in logs] == [1, 0]
    assert logs[0][0]["stream"] == "stdout"
    assert [len(batch) for batch in events] == [1, 0]
    assert events[0][0]["count"] == 1


def test_usage_is_shown_by_container_name_and_cgroups_flat(podd: Running) -> None:
    with podd.client() as client:
        usage = client.call("Stats")["pods"][0]
        nodes = client.call("Tree")["nodes"]
        row = client.call("Namespaces")["rows"][0]
    assert usage["containers"]["main"]["pids"] == 2
    assert usage["time"] == "2017-07-14T02:40:00.000000001Z"
    assert [(node["pod"], node["depth"], node["name"]) for node in nodes[:2]] == [("web", 0, "p"), ("web", 1, "main")]
    assert nodes[1]["processes"] == [{"pid": 7, "command": "sh -c \\udcff"}]
    assert (row["pod"], row["type"], row["inode"], row["members"]) == ("web", "net", 4026531840, ["main"])


def test_a_broken_plugin_is_a_driver_that_can_nothing(podd: Running) -> None:
    with podd.client() as client:
        good, bad = client.call("Drivers")["drivers"]
    assert good["usable"]
    assert good["capabilities"]["exec"]
    assert (bad["usable"], bad["reason"], bad["capabilities"]) == (False, "ImportError", {})


def test_exec_lends_the_clients_descriptors(podd: Running) -> None:
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    # out of order, so that the index and not the position counts
    wanted = {"stdin_fd": 2, "stdout_fd": 0, "stderr_fd": 1}
    with podd.client() as client:
        asked = {"name": "web", "argv": ["true"], "env": {"A": "b"}, **wanted}
        first, last = (reply.parameters for reply in client.call_more("Exec", asked, [writer, writer, null]))
        os.close(writer)
        assert (first["exec_id"], first["exit_code"]) == ("x1", None)
        assert (last["exit_code"], last["signal"]) == (137, 9)
        assert os.read(reader, 100) == b"hello"
        assert os.read(reader, 100) == b""  # the server has closed its copy
    assert [status.st_rdev for status in podd.engine.stdio] == [os.fstat(null).st_rdev, 0, 0]
    os.close(reader)
    os.close(null)


def test_the_servers_copies_are_closed_while_the_process_runs(podd: Running) -> None:
    podd.engine.exec_ends = False
    reader, writer = os.pipe()
    with podd.client() as client:
        asked = {"name": "web", "argv": ["x"], "stdin_fd": 0, "stdout_fd": 0, "stderr_fd": 0}
        replies = client.call_more("Exec", asked, [writer])
        os.close(writer)  # it has been sent
        next(replies)
        assert os.read(reader, 100) == b"hello"
        assert os.read(reader, 100) == b""
        assert not podd.engine.mark.left.is_set()
    os.close(reader)
    assert podd.engine.mark.left.wait(5), "the client has left: the exec should have been ended"


def test_a_terminal_comes_with_the_first_reply(podd: Running) -> None:
    with podd.client() as client:
        replies = client.call_more("Exec", {"name": "web", "argv": ["sh"], "tty": True, "rows": 33, "columns": 99})
        first = next(replies)
        assert first.parameters["master_fd"] == 0
        assert os.isatty(first.fds[0])
        os.close(first.fds[0])
        assert next(replies).parameters["master_fd"] is None
    assert podd.engine.asked[-1][1]["terminal_size"] == (33, 99)


def test_forward_hands_over_a_connection(podd: Running) -> None:
    with podd.client() as client:
        answer, fds = client.call_fds("Forward", {"name": "web", "port": 80})
        fd = fds[answer["fd"]]
        assert os.read(fd, 100) == b"forwarded"
        os.close(fd)
        for port in (0, 65536, "http"):
            with pytest.raises(Invalid):
                client.call("Forward", {"name": "web", "port": port})


def test_attach_hands_over_its_stream(podd: Running) -> None:
    with podd.client() as client:
        reply = client.call_fds("Attach", {"name": "web"})
    fd = reply.fds[reply.parameters["fd"]]
    assert os.read(fd, 100) == b"attached"
    os.close(fd)


REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("Get", {"name": "nope"}, NotFound, "pod nope: not found"),
    ("Get", {}, Invalid, "parameter name:"),
    ("Get", {"name": 5}, Invalid, "parameter name:"),
    ("Get", {"name": "web", "namspace": "x"}, Invalid, "parameter namspace:"),
    ("Stop", {"name": "web", "grace_period_s": -1}, Invalid, "parameter grace_period_s:"),
    ("Stop", {"name": "web", "grace_period_s": 10**30}, Invalid, "parameter grace_period_s:"),
    ("Stop", {"name": "web", "grace_period_s": 5, "now": True}, Invalid, "now: "),
    ("Amend", {"name": "web", "labels": {"a": 1}}, Invalid, "parameter labels"),
    ("Apply", {"manifest": ""}, Invalid, "manifest: is empty"),
    ("Fetch", {}, Unsupported, "method io.podd.Fetch:"),
    ("io.other.Get", {}, Unsupported, "interface io.other:"),
    ("nodots", {}, Unsupported, "method io.podd.nodots:"),
    ("Watch", {}, Invalid, "method: answers only to calls with more"),
]


@pytest.mark.parametrize(("method", "parameters", "error", "message"), REFUSED)
def test_a_refusal_keeps_its_kind_and_its_words(
    podd: Running, method: str, parameters: Mapping[str, Any], error: type[Exception], message: str
) -> None:
    with podd.client() as client:
        with pytest.raises(error) as caught:
            client.call(method, parameters)
        assert str(caught.value).startswith(message)
        assert client.call("List")["pods"], "the connection goes on"


def test_a_refusal_keeps_its_remedy_and_facts(podd: Running) -> None:
    with podd.client() as client, pytest.raises(NotFound) as caught:
        client.call("Get", {"name": "nope"})
    assert caught.value.remedy == "see podd-cli get pods"
    assert caught.value.facts == {"pod": "nope"}


EXEC_REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"argv": []}, 0, "argv: names no program"),
    ({"argv": [""]}, 0, "argv: names no program"),
    ({"argv": ["a\0b"]}, 0, "argv: holds a NUL character"),
    ({"argv": ["a"], "env": {"A=": "b"}}, 0, "env: 'A='"),
    ({"argv": ["a"], "env": {"A": "\0"}}, 0, "env: 'A'"),
    ({"argv": ["a"]}, 3, "exec: stdin_fd, stdout_fd and stderr_fd are needed"),
    ({"argv": ["a"], "tty": True, "stdin_fd": 0}, 1, "exec: tty:"),
    ({"argv": ["a"], "stdin_fd": 0, "stdout_fd": 1, "stderr_fd": 2}, 2, "descriptor 2: 2 came with the call"),
    ({"argv": ["a"], "stdin_fd": 0, "stdout_fd": 1, "stderr_fd": -1}, 3, "descriptor -1: 3 came with the call"),
]


def test_a_resize_without_amounts_is_refused(podd: Running) -> None:
    with podd.client() as client, pytest.raises(Invalid, match="names no amount"):
        client.call("Resize", {"name": "web", "limits": {}})


def test_debug_tells_the_name(podd: Running) -> None:
    with podd.client() as client:
        assert client.call("Debug", {"name": "web", "image": "rootfs:/"})["container"] == "seen"


@pytest.mark.parametrize(("asked", "passed", "message"), EXEC_REFUSED)
def test_exec_refuses_what_no_process_can_have(podd: Running, asked: dict[str, Any], passed: int, message: str) -> None:
    with podd.client() as client, pytest.raises(Invalid) as caught:
        next(client.call_more("Exec", {"name": "web", **asked}, [0] * passed))
    assert caught.value.message.startswith(message)
    assert podd.engine.asked == []


def test_objects_are_told_as_kubernetes_writes_them(podd: Running) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "uid": "u"},
        "data": {"word": "aHVudGVyMg=="},
    }
    with podd.client() as client:
        assert client.call("io.podd.CreateObject", {"manifest": ""}) == {"document": document}
        assert client.call("io.podd.Objects", {"kind": "Secret", "name": "s"}) == {"documents": [document]}
        assert client.call("io.podd.DeleteObject", {"kind": "Secret", "name": "s"}) == {}
        with pytest.raises(NotFound, match="there is none"):
            client.call("io.podd.Objects", {"kind": "Secret", "name": "gone"})
