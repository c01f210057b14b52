"""ConfigMaps and Secrets on the command line."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.conftest import Run
from cli.fake_daemon import Call, FakeDaemon, Json, Refusal
from cli.samples import ago

DAY = ago(days=1, hours=2)


def config_map(name: str, namespace: str = "default", **fields: Any) -> Json:
    meta = {"name": name, "namespace": namespace, "creationTimestamp": DAY}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, **fields}


def secret(name: str, **data: bytes) -> Json:
    meta = {"name": name, "namespace": "default", "creationTimestamp": DAY}
    encoded = {key: base64.b64encode(content).decode() for key, content in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": encoded}


THERE = {
    "ConfigMap": [
        config_map("a", data={"k": "one\ntwo\x1b[2J"}, binaryData={"b": "AAE="}),
        config_map("b", "other", immutable=True),
    ],
    "Secret": [secret("s", word=b"hunter2")],
}


@pytest.fixture
def objects(daemon: FakeDaemon) -> FakeDaemon:
    def find(call: Call) -> Json:
        asked = call.parameters
        there = THERE[asked["kind"]]
        if asked["name"] is not None:
            there = [one for one in there if one["metadata"]["name"] == asked["name"]]
            if not there:
                raise Refusal("NotFound", f"{asked['kind']} default/{asked['name']}: there is none")
        return {"documents": there}

    daemon.answers |= {"Objects": find, "DeleteObject": lambda _: {}}
    return daemon


@pytest.fixture
def created(daemon: FakeDaemon) -> list[Json]:
    """What the daemon was told to make."""
    made: list[Json] = []

    def create(call: Call) -> Json:
        made.append(json.loads(call.parameters["manifest"]))
        return {"document": made[-1]}

    daemon.answers["CreateObject"] = create
    return made


# ---- get, describe, delete -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["configmap", "configmaps", "cm"])
def test_a_table_of_config_maps(word: str, run: Run, objects: FakeDaemon) -> None:
    assert run("get", word).lines == ["NAME   DATA   AGE", "a      2      26h", "b      0      26h"]
    assert run("get", word, "-A").lines[2].split() == ["other", "b", "0", "26h"]
    assert [call.parameters["namespace"] for call in objects.calls] == ["default", None]


def test_a_table_of_secrets(run: Run, objects: FakeDaemon) -> None:
    assert run("get", "secrets").lines == ["NAME   TYPE     DATA   AGE", "s      Opaque   1      26h"]


def test_a_secret_is_shown_as_it_is_where_that_is_asked_for(run: Run, objects: FakeDaemon) -> None:
    assert yaml.safe_load(run("get", "secret", "s", "-o", "yaml").out) == THERE["Secret"][0]
    assert json.loads(run("get", "secret/s", "-o", "json").out)["data"] == {"word": "aHVudGVyMg=="}
    assert run("get", "secrets", "-o", "name").lines == ["secret/s"]
    assert "hunter2" not in run("get", "secret", "s", "-o", "wide").out


def test_describe_shows_a_config_map_and_hides_a_secret(run: Run, objects: FakeDaemon) -> None:
    shown = run("describe", "cm/a").out
    assert "k:\n----\none\ntwo\\x1b[2J\n" in shown
    assert "b: 2 bytes" in shown
    shown = run("describe", "secret", "s").out
    assert "word: 7 bytes" in shown
    assert "Type:         Opaque" in shown
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown


def test_describe_shows_no_secret_that_kubectl_has_left_in_an_annotation(run: Run, daemon: FakeDaemon) -> None:
    one = secret("s", word=b"hunter2")
    applied = json.dumps({"kind": "Secret", "stringData": {"word": "hunter2"}})
    one["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": applied, "x": "a\x1b[2J"}
    daemon.answers["Objects"] = lambda _: {"documents": [one]}
    shown = run("describe", "secret", "s").out
    assert "hunter2" not in shown
    assert "Annotations:  x=a\\x1b[2J\n" in shown


def test_one_that_is_not_there(run: Run, objects: FakeDaemon) -> None:
    done = run("get", "cm", "a", "x", "-o", "name")
    assert (done.status, done.out) == (1, "configmap/a\n")
    assert done.err == "podd-cli: ConfigMap default/x: there is none\n"


def test_delete(run: Run, objects: FakeDaemon) -> None:
    assert run("delete", "secret", "s", "-n", "ns").lines == ["secret/s deleted"]
    assert objects.calls[-1].parameters == {"kind": "Secret", "name": "s", "namespace": "ns"}
    assert run("delete", "configmaps", "--all").lines == ["configmap/a deleted", "configmap/b deleted"]
    assert [call.parameters["namespace"] for call in objects.calls[-2:]] == ["default", "other"]


@pytest.mark.parametrize(
    "words",
    [
        ("get", "cm/a", "secret/s"),
        ("get", "cm/a", "pod/s"),
        ("get", "cm", "secret/s"),
        ("get", "cm/"),
        ("get", "cm", "-l", "a=b"),
        ("get", "secrets", "-w"),
        ("get", "cm", "a", "-A"),
        ("delete", "cm"),
        ("delete", "cm", "a", "--all"),
        ("create", "configmap"),
        ("create", "secret", "s"),
        ("create", "pod", "p"),
        ("create", "secret", "docker-registry", "s", "--docker-username", "u"),
        ("create", "secret", "docker-registry", "s", "--docker-password", "p"),
        ("create", "secret", "docker-registry", "s", "--from-literal", "a=b"),
        ("create", "secret", "tls", "s", "--cert", "c"),
        ("create", "secret", "tls", "s", "--cert", "c", "--key", "k", "--from-literal", "a=b"),
        ("create", "cm", "m", "--type", "x"),
        ("create", "cm", "m", "--from-literal", "k"),
        ("create", "cm", "m", "--from-literal", "k=1", "--from-literal", "k=2"),
        ("create", "cm", "m", "--from-literal", "a/b=1"),
        ("create", "cm", "m", "--from-file", "-"),
        ("create", "cm", "m", "--from-file", "=x"),
    ],
)
def test_what_cannot_be_meant(words: tuple[str, ...], run: Run, objects: FakeDaemon) -> None:
    done = run(*words)
    assert done.status == 2, done
    assert objects.calls == []


# ---- create ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "folder"
    place.mkdir()
    (place / "text.conf").write_text("a\nb\n")
    (place / "blob").write_bytes(b"\xff\0")
    (place / "not a key").write_text("")
    (place / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    return place


def test_a_config_map_of_values_and_files(run: Run, created: list[Json], folder: Path) -> None:
    literals = ("--from-literal", "k=1=2", "--from-literal", "empty=")
    done = run("create", "configmap", "m", *literals, "--from-file", "folder/text.conf", "--from-file", "b=folder/blob")
    assert done.lines == ["configmap/m created"]
    assert created == [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "m"},
            "data": {"k": "1=2", "empty": "", "text.conf": "a\nb\n"},
            "binaryData": {"b": "/wA="},
        }
    ]


def test_the_password_of_a_registry(run: Run, created: list[Json], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("word\n"))
    of_one = ("--docker-server", "reg.example", "--docker-username", "u", "--docker-password-stdin")
    assert run("create", "secret", "docker-registry", "s", *of_one).lines == ["secret/s created"]
    assert created[0]["type"] == "kubernetes.io/dockerconfigjson"
    held = json.loads(base64.b64decode(created[0]["data"][".dockerconfigjson"]))
    assert held == {"auths": {"reg.example": {"username": "u", "password": "word", "auth": "dTp3b3Jk"}}}


def test_a_certificate(run: Run, created: list[Json], tmp_path: Path) -> None:
    for name in ("crt", "key"):
        (tmp_path / name).write_text(name)
    assert run("create", "secret", "tls", "s", "--cert", f"{tmp_path}/crt", "--key", f"{tmp_path}/key").status == 0
    assert (created[0]["type"], created[0]["data"]) == ("kubernetes.io/tls", {"tls.crt": "Y3J0", "tls.key": "a2V5"})
    assert run("create", "secret", "tls", "s", "--cert", f"{tmp_path}/no", "--key", f"{tmp_path}/key").status == 1


def test_a_folder_gives_its_files(run: Run, created: list[Json], folder: Path) -> None:
    run("create", "cm", "m", "--from-file", "folder", "-n", "ns", "--immutable")
    assert created[0]["metadata"] == {"name": "m", "namespace": "ns"}
    assert (created[0]["data"], created[0]["binaryData"]) == ({"text.conf": "a\nb\n"}, {"blob": "/wA="})
    assert created[0]["immutable"] is True


def test_a_secret(run: Run, created: list[Json], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"\xffhunter2")

    monkeypatch.setattr("sys.stdin", Stdin())
    done = run("create", "secret", "generic", "s", "--from-file", "word=-", "--type", "example.com/x")
    assert done.lines == ["secret/s created"]
    assert (created[0]["type"], created[0]["data"]) == ("example.com/x", {"word": "/2h1bnRlcjI="})


def test_an_env_file(run: Run, created: list[Json], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "here")
    (tmp_path / "env").write_text('# comment\n\n A=1\nB="x y"=\nFROM_HERE\nNOT_HERE\n')
    run("create", "cm", "m", "--from-env-file", str(tmp_path / "env"))
    assert created[0]["data"] == {"A": "1", "B": '"x y"=', "FROM_HERE": "here"}


def test_dry_run_shows_it_and_makes_nothing(run: Run, daemon: FakeDaemon) -> None:
    done = run("create", "cm", "m", "--from-literal", "k=1", "--dry-run")
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "1"}}
    assert yaml.safe_load(done.out) == document
    assert json.loads(run("create", "cm", "m", "--from-literal", "k=1", "--dry-run", "-o", "json").out) == document
    assert daemon.calls == []


def test_one_that_is_there_already(run: Run, daemon: FakeDaemon) -> None:
    def refuse(_: Call) -> Json:
        raise Refusal("Conflict", "ConfigMap default/m: there is one already", "delete it first")

    daemon.answers["CreateObject"] = refuse
    done = run("create", "cm", "m")
    assert (done.status, done.out) == (1, "")
    assert "there is one already" in done.err


def test_a_file_that_is_not_there(run: Run, created: list[Json]) -> None:
    done = run("create", "cm", "m", "--from-file", "/nowhere")
    assert done.status == 1
    assert "/nowhere" in done.err
    assert created == []
