"""Pods whose images are in a registry: pulled once, backed off, given up, and removed again."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from real import BIN, CONFIG, LIMIT_S, Podd, manifest, sleeper, until
from running import runc_config, running

from images.layouts import File, busybox, layout, needs_images, needs_program
from images.stores import BIG, is_running, layers_of, listing, whole_layers
from realregistry import PASSWORD, USER, Proxy, Served, a_proxy, served

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    needs_images()
    return layout(tmp_path_factory.mktemp("image") / "app", [busybox(), {"a": File(BIG)}], Cmd=["/bin/sleep", "1000"])


@pytest.fixture(scope="module")
def registry(source: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("registry"), password=True) as one:
        one.push(source, "team/app:1")
        yield one


proxy = pytest.fixture(a_proxy)


@pytest.fixture(params=["setns", "runc"])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def podd(tmp_path: Path, proxy: Proxy) -> Iterator[Podd]:
    yield from running(CONFIG + places(tmp_path, proxy))
    assert listing(tmp_path / "root") <= KEPT


KEPT = {"podd-pulls"}


PLACES = {"root": "root", "run_root": "run", "registries": "registries.conf", "auth_file": "auth.json"}


def places(folder: Path, proxy: Proxy) -> str:
    """Images lie outside podd's own folder, for what is pulled stays."""
    (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{proxy.host}"\ninsecure = true\n')
    (folder / "auth.json").write_text("{}")
    keys = {
        "auth_file": folder / "auth.json",
        "root": folder / "root",
        "run_root": folder / "run",
        "registries": folder / "registries.conf",
    }
    return "\n[images]\n" + "".join(f"{key} = {json.dumps(str(value))}\n" for key, value in keys.items())


def app(proxy: Proxy, name: str = "a", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": f"{proxy.host}/team/app:1", **more}


AUTH = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
WITH_PASSWORD = {"imagePullSecrets": [{"name": "registry"}]}


def log_in(podd: Podd, proxy: Proxy) -> None:
    words = ("--docker-server", proxy.host, "--docker-username", USER, "--docker-password-stdin")
    podd.cli("create", "secret", "docker-registry", "registry", *words, stdin=PASSWORD)


def remove_images(podd: Podd) -> None:
    for image in json.loads(podd.cli("image", "list", "-o", "json")):
        podd.cli("image", "rm", image["id"])


def reasons(podd: Podd, pod: str) -> list[str]:
    return [event["reason"] for event in json.loads(podd.cli("events", pod, "-o", "json"))]


def waiting(podd: Podd, pod: str = "web") -> str:
    state = podd.status(pod)["containerStatuses"][0]["state"]
    return str(state.get("waiting", {}).get("reason", ""))


def test_what_a_pod_pulls_runs_and_stays_as_long_as_it_is_used(tmp_path: Path, proxy: Proxy, driver: str) -> None:
    if driver == "runc":
        needs_program("runc")
        config = runc_config() + places(tmp_path, proxy)
        podds = running(config, groups=("runc",), first=manifest("first", sleeper("a")))
    else:
        podds = running(CONFIG + places(tmp_path, proxy))
    for podd in podds:
        log_in(podd, proxy)
        podd.apply(manifest("web", app(proxy), app(proxy, "b"), **WITH_PASSWORD))
        assert podd.status("web")["phase"] == "Running"
        assert reasons(podd, "web")[:2] == ["Pulling", "Pulled"]
        (image,) = json.loads(podd.cli("image", "list", "-o", "json"))
        assert image["pods"] == ["default/web"]
        assert podd.status("web")["containerStatuses"][0]["imageID"] == image["id"]
        assert "is used by pod default/web" in podd.cli("image", "rm", image["id"], status=1)
        podd.cli("delete", "pod", "web", "--now")
        podd.cli("image", "prune", "--all")
        assert listing(tmp_path / "root") <= KEPT
        assert PASSWORD not in (podd.folder / "d.log").read_text()


def test_five_pods_at_once_pull_once(podd: Podd, proxy: Proxy) -> None:
    log_in(podd, proxy)
    pods = "\n---\n".join(manifest(f"web-{n}", app(proxy), **WITH_PASSWORD) for n in range(5))
    podd.apply(pods)
    assert {pod["status"]["phase"] for pod in podd.pods()} == {"Running"}
    assert proxy.count("GET /v2/team/app/manifests/") == 1
    podd.cli("delete", "pods", "--all", "--now")
    remove_images(podd)


def test_without_the_password_it_backs_off_until_it_is_there(podd: Podd, proxy: Proxy) -> None:
    refused = podd.apply(manifest("web", app(proxy), sleeper("b"), **WITH_PASSWORD), status=1)
    assert "ImagePullBackOff" in refused
    assert "wants other credentials" in refused
    assert waiting(podd) == "ImagePullBackOff"
    assert {"FailedToRetrieveImagePullSecret", "Pulling", "Failed", "BackOff"} <= set(reasons(podd, "web"))
    assert podd.pids("web") == {}
    log_in(podd, proxy)
    podd.cli("start", "web")
    assert podd.status("web")["phase"] == "Running"
    podd.cli("delete", "pod", "web", "--now")
    remove_images(podd)


def test_a_registry_that_fails_is_told_and_it_runs_when_that_is_well_again(podd: Podd, proxy: Proxy) -> None:
    log_in(podd, proxy)
    proxy.fault, proxy.on = "500", "/manifests/"
    assert "the registry has a fault" in podd.apply(manifest("web", app(proxy), **WITH_PASSWORD), status=1)
    proxy.heal()
    podd.cli("start", "web")  # or it would try by itself after ten seconds
    assert podd.status("web")["phase"] == "Running"
    podd.cli("delete", "pod", "web", "--now")
    remove_images(podd)


def test_a_pod_that_is_deleted_gives_up_its_pull(podd: Podd, proxy: Proxy, tmp_path: Path, source: str) -> None:
    log_in(podd, proxy)
    proxy.fault, proxy.on = "hold", layers_of(source)[-1]
    podd.cli("apply", "-f", "-", stdin=manifest("web", app(proxy), **WITH_PASSWORD))
    until(lambda: whole_layers(tmp_path / "root") >= 1, "one layer is there")
    assert is_running("skopeo", proxy.host)
    podd.cli("delete", "pod", "web", "--now")
    until(lambda: not is_running("skopeo", proxy.host), "skopeo has ended")
    until(lambda: listing(tmp_path / "root") <= KEPT, "nothing is left")


def test_a_podd_that_is_killed_takes_its_pull_up_again(podd: Podd, proxy: Proxy, tmp_path: Path, source: str) -> None:
    log_in(podd, proxy)
    proxy.fault, proxy.on = "hold", layers_of(source)[-1]
    podd.cli("apply", "-f", "-", stdin=manifest("web", app(proxy), **WITH_PASSWORD))
    until(lambda: whole_layers(tmp_path / "root") >= 1, "one layer is there")
    podd.kill()
    until(lambda: not is_running("skopeo", proxy.host), "skopeo has ended with podd")
    proxy.heal()
    podd.start()
    until(lambda: podd.status("web")["phase"] == "Running", "it runs")
    podd.cli("delete", "pod", "web", "--now")
    remove_images(podd)


def test_who_pulls_by_hand_sees_how_far_it_is_and_may_leave(
    podd: Podd, proxy: Proxy, tmp_path: Path, source: str
) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {proxy.host: {"auth": AUTH}}}))
    proxy.fault, proxy.on = "hold", layers_of(source)[-1]
    master, slave = os.openpty()
    command = [BIN / "podd-cli", "--socket", podd.socket, "image", "pull", f"{proxy.host}/team/app:1"]
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = subprocess.Popen(command, stderr=slave)
    os.close(slave)
    try:
        told = bytearray()
        until(lambda: told.extend(os.read(master, 4096)) or b"1 of 2 layers" in told, "it tells how far it is")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    finally:
        process.kill()
        process.wait()
    os.close(master)
    until(lambda: not is_running("skopeo", proxy.host), "skopeo has ended")
    until(lambda: listing(tmp_path / "root") <= KEPT, "nothing is left")


def test_an_image_of_a_file(podd: Podd, source: str) -> None:
    podd.cli("image", "import", source, "mine:1")
    podd.apply(manifest("web", {"name": "a", "image": "mine:1"}, {"name": "b", "image": source}))
    assert podd.status("web")["phase"] == "Running"
    podd.cli("delete", "pod", "web", "--now")
    podd.cli("image", "prune", "--all")
    assert "no pod" not in podd.cli("image", "usage")
