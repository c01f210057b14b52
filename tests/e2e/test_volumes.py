"""Volumes and values from elsewhere, as a container sees them; on the real daemon."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from real import MOUNT, Podd, manifest, sh, shared, sleeper, until

pytestmark = pytest.mark.root

Json = dict[str, Any]

WORD = "correct-horse-battery"
ENCODED = base64.b64encode(WORD.encode()).decode()


def config_map(name: str = "m", **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name: str = "s", **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def together(*documents: Json | str) -> str:
    return "\n---\n".join(each if isinstance(each, str) else json.dumps(each) for each in documents)


def volume(name: str, **source: Any) -> Json:
    return {"name": name, **source}


def mount(name: str, **more: Any) -> Json:
    return {"name": name, "mountPath": f"/{name}", **more}


def sees(podd: Podd, script: str, container: str = "a", pod: str = "web") -> str:
    return podd.cli("exec", pod, "-c", container, "--", "/bin/sh", "-c", script)


def told(field: str, path: str) -> Json:
    return {"path": path, "fieldRef": {"fieldPath": field}}


def test_every_kind_of_volume_as_a_container_sees_it(podd: Podd) -> None:
    sources = [
        {"configMap": {"name": "m", "items": [{"key": "k", "path": "deep/k", "mode": 0o440}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [told("metadata.labels", "labels")]}},
        {"configMap": {"name": "absent", "optional": True}},
    ]
    cpu = {"path": "cpu", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu", "divisor": "1m"}}
    volumes = [
        volume("cm", configMap={"name": "m", "defaultMode": 0o400}),
        volume("sec", secret={"secretName": "s", "defaultMode": 0o400}),
        volume("down", downwardAPI={"items": [told("metadata.name", "name"), cpu]}),
        volume("all", projected={"sources": sources, "defaultMode": 0o444}),
        volume("empty", emptyDir={}),
        volume("host", hostPath={"path": str(podd.shared), "type": "Directory"}),
    ]
    limits = {"resources": {"limits": {"cpu": "250m"}}}
    member = sleeper("a", volumeMounts=[mount(each["name"]) for each in volumes], **limits)
    pod = json.loads(manifest("web", member, volumes=volumes, terminationGracePeriodSeconds=0))
    pod["metadata"]["labels"] = {"app": "web"}
    podd.apply(together(pod, config_map(k="v", other="o"), secret(word=WORD)))
    assert sees(podd, "cat /cm/k /cm/other /sec/word /down/name /down/cpu") == f"vo{WORD}web250"
    assert sees(podd, "cat /all/deep/k /all/word /all/labels") == f'v{WORD}app="web"'
    assert sees(podd, "stat -L -c %a /cm/k /sec/word /all/deep/k /all/word").split() == ["400", "400", "440", "444"]
    assert sees(podd, "ls -A /all; readlink /cm/k").split()[-4:] == ["deep", "labels", "word", "..data/k"]
    for path in ("/cm/k", "/sec/word", "/all/labels", "/down/new"):
        assert "Read-only" in podd.cli("exec", "web", "--", "/bin/sh", "-c", f"echo x > {path}", status=None)
    assert sees(podd, "echo 1 > /empty/x && echo 2 > /host/x && cat /empty/x") == "1\n"
    assert (podd.shared / "x").read_text() == "2\n"


def test_variables_from_elsewhere(podd: Podd) -> None:
    env = [
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "x", "optional": True}}},
        {"name": "BOTH", "value": "$(NAME)/$(C_k)"},
    ]
    member = sleeper(
        "a",
        env=env,
        envFrom=[{"prefix": "C_", "configMapRef": {"name": "m"}}],
        resources={"limits": {"memory": "64Mi"}},
    )
    podd.apply(together(config_map(k="v"), secret(word=WORD), manifest("web", member, terminationGracePeriodSeconds=0)))
    seen = dict(line.split("=", 1) for line in sees(podd, "cat /proc/1/environ | tr '\\0' '\\n'").splitlines())
    assert {name: seen.get(name) for name in ("NAME", "MEMORY", "WORD", "C_k", "BOTH", "NONE")} == {
        "NAME": "web",
        "MEMORY": "64",
        "WORD": WORD,
        "C_k": "v",
        "BOTH": "web/v",
        "NONE": None,
    }
    assert seen["NODE"] == os.uname().nodename.lower()
    assert seen["CPUS"] == str(os.cpu_count())


def test_a_change_reaches_the_files_of_a_running_pod_and_nothing_else(podd: Podd) -> None:
    volumes = [volume("cm", configMap={"name": "m"})]
    mounts = [mount("cm"), {"name": "cm", "mountPath": "/part", "subPath": "k"}]
    pod = manifest("web", sleeper("a", volumeMounts=mounts), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.apply(together(config_map(k="1"), pod))
    pids = podd.pids("web")
    assert podd.apply(together(config_map(k="2", new="3"))) == "configmap/m configured\n"
    until(lambda: sees(podd, "cat /cm/k /cm/new") == "23", "the change is seen")
    assert sees(podd, "cat /part") == "1", "a subPath stays as it was, as in Kubernetes"
    podd.cli("delete", "configmap", "m")
    assert sees(podd, "cat /cm/k") == "2"
    assert podd.pids("web") == pids


def test_a_change_of_labels_is_seen(podd: Podd) -> None:
    volumes = [volume("down", downwardAPI={"items": [told("metadata.labels", "labels")]})]
    pod = manifest("web", sleeper("a", volumeMounts=[mount("down")]), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.apply(pod)
    podd.cli("label", "pod", "web", "tier=front")
    until(lambda: sees(podd, "cat /down/labels") == 'tier="front"', "the label is seen")


def test_a_secret_is_on_no_disk_and_in_no_output(podd: Podd) -> None:
    volumes = [volume("sec", secret={"secretName": "s"})]
    member = sh("a", "cat /sec/word > /dev/null; exec sleep 1000", volumeMounts=[mount("sec")])
    podd.apply(together(secret(word=WORD), manifest("web", member, volumes=volumes, terminationGracePeriodSeconds=0)))
    assert sees(podd, "cat /sec/word") == WORD
    uid = podd.pod("web")["metadata"]["uid"]
    place = podd.folder / "state" / "volumes" / uid / "sec"
    assert (place / "word").read_text() == WORD
    on_disk = subprocess.run(
        ["find", podd.folder, "-xdev", "-type", "f", "-not", "-name", "podd.db*", "-not", "-path", "*/ns/*"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "d.log" in on_disk.stdout
    holding = [p for p in on_disk.stdout.splitlines() if hides(Path(p).read_bytes())]
    assert holding == []
    modes = {p.name: p.stat().st_mode & 0o777 for p in (podd.folder / "state").glob("podd.db*")}
    assert set(modes.values()) == {0o600}
    assert (podd.folder / "state").stat().st_mode & 0o777 == 0o700
    shown = [
        podd.cli(*words)
        for words in (
            ("get", "pod", "web", "-o", "yaml"),
            ("get", "secrets", "-o", "wide"),
            ("describe", "pod", "web"),
            ("describe", "secret", "s"),
            ("events",),
            ("info", "-o", "json"),
        )
    ]
    assert not any(hides(text.encode()) for text in shown)
    assert ENCODED in podd.cli("get", "secret", "s", "-o", "yaml")


def hides(content: bytes) -> bool:
    return WORD.encode() in content or ENCODED.encode() in content


def test_what_is_missing_is_told_with_its_place(podd: Podd) -> None:
    volumes = [volume("cm", configMap={"name": "absent"})]
    pod = manifest("web", sleeper("a", volumeMounts=[mount("cm")]), volumes=volumes)
    said = podd.apply(together(config_map(k="1"), pod), status=1)
    assert 'spec.volumes[0].configMap.name: there is no ConfigMap "absent" in namespace default' in said
    assert "stdin:3:" in said
    assert podd.pods() == []
    assert podd.cli("get", "configmaps", "-o", "name") == ""


def test_objects_come_and_go_by_the_command_line(podd: Podd, tmp_path: Path) -> None:
    (tmp_path / "app.conf").write_text("x = 1\n")
    podd.cli("create", "configmap", "m", "--from-file", tmp_path / "app.conf", "--from-literal", "k=v")
    podd.cli("create", "secret", "generic", "s", "--from-file", "word=/dev/stdin", stdin=WORD)
    assert "there is one already" in podd.cli("create", "configmap", "m", status=1)
    assert json.loads(podd.cli("get", "cm", "m", "-o", "json"))["data"] == {"app.conf": "x = 1\n", "k": "v"}
    podd.kill()
    podd.start()
    volumes = [volume("cm", configMap={"name": "m"}), volume("sec", secret={"secretName": "s"})]
    mounts = [mount("cm"), mount("sec")]
    text = manifest("web", sleeper("a", volumeMounts=mounts), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.apply(text)
    assert sees(podd, "cat /cm/app.conf /sec/word") == f"x = 1\n{WORD}"
    given = together(text, config_map(), secret())
    gone = podd.cli("delete", "-f", "-", stdin=given)
    assert gone.splitlines() == ["pod/web deleted", "configmap/m deleted", "secret/s deleted"]
    assert podd.cli("delete", "-f", "-", "--ignore-not-found", stdin=given) == ""


def test_volumes_outlive_podd(podd: Podd) -> None:
    """It finds them again, and brings them up to date."""
    volumes = [volume("cm", configMap={"name": "m"})]
    text = manifest("web", sleeper("a", volumeMounts=[mount("cm")]), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.apply(together(config_map(k="1"), text))
    podd.kill()
    podd.start()
    assert sees(podd, "cat /cm/k") == "1"
    podd.apply(together(config_map(k="2")))
    until(lambda: sees(podd, "cat /cm/k") == "2", "the change is seen")


def test_a_podd_killed_while_it_prepares_leaves_nothing(podd: Podd) -> None:
    podd.stop()
    podd.start(PODD_FAILPOINT="driver.volumes.after:1")
    volumes = [volume("cm", configMap={"name": "m"}), volume("sec", secret={"secretName": "s"})]
    mounts = [mount("cm"), mount("sec")]
    text = manifest("web", sleeper("a", volumeMounts=mounts), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.cli("apply", "-f", "-", stdin=together(config_map(k="1"), secret(word=WORD), text), status=None)
    podd.wait_dead()
    podd.start()
    until(lambda: podd.pids("web"), "the pod runs all the same")
    assert sees(podd, "cat /cm/k /sec/word") == f"1{WORD}"


def test_a_podd_killed_before_a_change_is_written_writes_it_afterwards(podd: Podd) -> None:
    volumes = [volume("cm", configMap={"name": "m"})]
    text = manifest("web", sleeper("a", volumeMounts=[mount("cm")]), volumes=volumes, terminationGracePeriodSeconds=0)
    podd.apply(together(config_map(k="1"), text))
    podd.stop()
    podd.start(PODD_FAILPOINT="store.objects.after:1")
    podd.cli("apply", "-f", "-", stdin=json.dumps(config_map(k="2")), status=None)
    podd.wait_dead()
    podd.start()
    until(lambda: sees(podd, "cat /cm/k") == "2", "the change is seen")


# ---- who may read and write ------------------------------------------------------------------------------------------


def test_the_group_of_a_pod_owns_its_volumes(podd: Podd) -> None:
    volumes = [
        volume("sec", secret={"secretName": "s", "defaultMode": 0o400}),
        volume("empty", emptyDir={}),
        volume("host", hostPath={"path": str(podd.shared)}),
    ]
    context = {"runAsUser": 1234, "runAsGroup": 1234, "fsGroup": 4711}
    member = sleeper("a", volumeMounts=[mount(each["name"]) for each in volumes])
    before = podd.shared.stat()
    pod = manifest("web", member, volumes=volumes, securityContext=context, terminationGracePeriodSeconds=0)
    podd.apply(together(secret(word=WORD), pod))
    assert sees(podd, "cat /sec/word") == WORD
    assert sees(podd, "stat -L -c '%a %u %g' /sec/word /sec /empty").splitlines() == [
        "440 0 4711",
        "2755 0 4711",
        "2777 0 4711",
    ]
    assert sees(podd, "touch /empty/mine && stat -c '%u %g' /empty/mine") == "1234 4711\n"
    after = podd.shared.stat()
    assert (after.st_gid, after.st_mode) == (before.st_gid, before.st_mode), "a part of the host stays as it is"


def test_parts_of_volumes(podd: Podd) -> None:
    (podd.shared / "there").mkdir()
    (podd.shared / "there" / "file").write_text("content")
    mounts = [
        {"name": "shared", "mountPath": "/whole"},
        {"name": "shared", "mountPath": "/file", "subPath": "there/file", "readOnly": True},
        {"name": "shared", "mountPath": "/mine", "subPathExpr": "pods/$(POD)"},
    ]
    env = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    member = sleeper("a", volumeMounts=mounts, env=env)
    podd.apply(manifest("web", member, terminationGracePeriodSeconds=0, **shared(podd)))
    assert sees(podd, "cat /file; touch /mine/made; ls /whole/pods/web") == "contentmade\n"
    assert "Read-only" in podd.cli("exec", "web", "--", "/bin/sh", "-c", "echo x > /file", status=None)


def test_a_part_that_leads_out_of_its_volume_is_not_mounted(podd: Podd) -> None:
    """A member plants the link; the pod's other member, and its next start, must not follow it."""
    (podd.shared / "out").symlink_to("/etc")
    mounts = [{"name": "shared", "mountPath": "/stolen", "subPath": "out"}]
    said = podd.apply(manifest("web", sleeper("a", volumeMounts=mounts), **shared(podd)), status=1)
    assert "volume mount /stolen: its subPath leads out of the volume" in said


def test_a_key_that_is_not_in_the_volume_makes_no_directory_there(podd: Podd) -> None:
    volumes = [volume("cm", configMap={"name": "m"})]
    mounts = [{"name": "cm", "mountPath": "/x", "subPath": "none"}]
    said = podd.apply(
        together(config_map(k="1"), manifest("web", sleeper("a", volumeMounts=mounts), volumes=volumes)), status=1
    )
    assert "volume mount /x: its subPath is not in the volume, and nothing can be made in it" in said


@pytest.mark.parametrize(
    ("mode", "writable"), [(None, True), ("Disabled", True), ("IfPossible", False), ("Enabled", False)]
)
def test_read_only_with_what_is_mounted_below(podd: Podd, mode: str | None, writable: bool) -> None:
    inner = podd.shared / "inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(inner)], check=True)
    try:
        more = {"recursiveReadOnly": mode} if mode else {}
        member = sh("a", "touch /shared/x; touch /shared/inner/x; true", **MOUNT)
        member["volumeMounts"] = [{**MOUNT["volumeMounts"][0], "readOnly": True, **more}]
        podd.apply(manifest("web", member, restartPolicy="Never", **shared(podd)))
        until(lambda: podd.status("web")["phase"] == "Succeeded", "it has ended")
        assert not (podd.shared / "x").exists()
        assert (inner / "x").exists() == writable
        podd.cli("delete", "pod", "web", "--now")
    finally:
        subprocess.run(["umount", str(inner)], check=True)
