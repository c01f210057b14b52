"""What a pull takes: an image of 200 MB from a registry on this host, by podd, podman and containerd in turn."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import layout
from effort import Effort
from figures import Row
from peers import Skipped
from places import wipe
from subject import CONFIG, START_S, Podd

LAYERS, LAYER_MB = 10, 20
ROUNDS = 5
NAME = "bench/large:1"
US = "podd-cli image pull"

Engine = tuple[Callable[[], None], Callable[[], None]]
"""Have the image, from nothing; and remove it again, which is not measured."""


def pulling(folder: str, rootfs: str, effort: Effort) -> tuple[list[Row], dict[str, str]]:
    """Raises Skipped: there is no registry or no skopeo here. Returns the rows, and the engines that were left out."""
    for program in ("docker-registry", "skopeo"):
        if shutil.which(program) is None:
            raise Skipped(f"{program}: not installed")
    rounds = min(effort.batches, ROUNDS)
    took: dict[str, list[float]] = {}
    skipped: dict[str, str] = {}
    with ExitStack() as ending:
        registry = ending.enter_context(_registry(f"{folder}/registry"))
        _push(f"{folder}/image", registry)
        engines: dict[str, Engine] = {US: ending.enter_context(_ours(f"{folder}/pulling", rootfs, registry))}
        for name, begin in (("podman pull", _podman), ("ctr images pull", _containerd)):
            try:
                engines[name] = ending.enter_context(begin(f"{folder}/{name.partition(' ')[0]}", registry))
            except Skipped as why:
                skipped[name] = str(why)
        for number in range(rounds + 1):  # the first has the registry's files read from the disk
            for name, (pull, remove) in engines.items():
                began = time.perf_counter()
                pull()
                if number:
                    took.setdefault(name, []).append((time.perf_counter() - began) * 1e3)
                remove()
    rows = [Row(f"{name}, {LAYERS * LAYER_MB} MB in {LAYERS} layers", "ms", values) for name, values in took.items()]
    if "podman pull" in took:
        ratios = [one / other for one, other in zip(took[US], took["podman pull"], strict=True)]
        rows.append(Row("a pull, as many times podman's", "x", ratios, most=1.0))
    return rows, skipped


# ---- the engines -----------------------------------------------------------------------------------------------------


@contextmanager
def _ours(folder: str, rootfs: str, registry: str) -> Iterator[Engine]:
    conf = f"{folder}.conf"
    Path(conf).write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
    with Podd(folder, rootfs, config=f"{CONFIG}\n[images]\nregistries = {json.dumps(conf)}\n") as podd:
        yield (
            lambda: podd.cli("image", "pull", f"{registry}/{NAME}"),
            lambda: podd.cli("image", "rm", f"{registry}/{NAME}"),
        )


@contextmanager
def _podman(folder: str, registry: str) -> Iterator[Engine]:
    if shutil.which("podman") is None:
        raise Skipped("podman: not installed")
    os.makedirs(folder)
    where = [f"--root={folder}/root", f"--runroot={folder}/run", f"--tmpdir={folder}/t"]
    command = ["podman", *where, "--cgroup-manager=cgroupfs", "--storage-driver=overlay", "--events-backend=file"]
    try:
        yield (
            lambda: _run(*command, "pull", "--quiet", "--tls-verify=false", f"{registry}/{NAME}"),
            lambda: _run(*command, "rmi", f"{registry}/{NAME}"),
        )
    finally:
        wipe(folder)


@contextmanager
def _containerd(folder: str, registry: str) -> Iterator[Engine]:
    if shutil.which("containerd") is None or shutil.which("ctr") is None:
        raise Skipped("containerd: not installed")
    os.makedirs(folder)
    address = f"{folder}/c.sock"
    Path(f"{folder}/config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{address}"\n'
    )
    ctr = ["ctr", "--address", address]

    def answers() -> bool:
        return subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode == 0

    try:
        with _daemon(folder, answers, "containerd", "--config", f"{folder}/config.toml"):
            yield (
                lambda: _run(*ctr, "images", "pull", "--plain-http", f"{registry}/{NAME}"),
                lambda: _run(*ctr, "images", "rm", "--sync", f"{registry}/{NAME}"),
            )
    finally:
        wipe(folder)


@contextmanager
def _daemon(folder: str, answers: Callable[[], bool], *command: str) -> Iterator[None]:
    """One that runs from when it answers."""
    with open(f"{folder}/log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until(answers)
        yield
    finally:
        process.terminate()
        process.wait()


def _run(*command: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


# ---- what they pull --------------------------------------------------------------------------------------------------


@contextmanager
def _registry(folder: str) -> Iterator[str]:
    """HOST:PORT."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    os.makedirs(folder)
    Path(f"{folder}/config.yml").write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '{host}'}}\n"
    )
    address, _, port = host.partition(":")
    answers = partial(_answers, address, int(port))
    with _daemon(folder, answers, "docker-registry", "serve", f"{folder}/config.yml"):
        yield host


def _answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def _until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > end:
            raise Skipped("it does not start")
        time.sleep(0.05)


def _push(folder: str, registry: str) -> None:
    """An image as they are in life: half of it is compressed to little, half cannot be compressed."""
    dice = random.Random(200)  # noqa: S311  always the same image
    layout.write(folder, [_layer(dice, number) for number in range(LAYERS)])
    target = ["--dest-tls-verify=false", f"oci:{folder}", f"docker://{registry}/{NAME}"]
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", *target], check=True)


def _layer(dice: random.Random, number: int) -> bytes:
    """Two hundred files in a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in range(200):
            size = LAYER_MB * 1_000_000 // 200
            content = dice.randbytes(size) if file % 2 else (b"the quick brown fox %d\n" % file) * (size // 24)
            member = tarfile.TarInfo(f"layer-{number}/file-{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
