"""The podd that is measured: a real daemon on private directories, and the pod that it runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

from places import cgroup, cpu_ms, make, unified, wipe
from wire import Wire

BIN = os.path.dirname(sys.executable)
START_S = 20
STOP_S = 20

MEMBERS = 3
COMMAND = ("sleep", "3600")
MEMORY_MIB = 64
CPUS = 0.5
PIDS = 64
WEB, WEB_PORT = "/var/www", 8080

CONFIG = """\
[daemon]
socket = "podd.sock"
socket_group = ""
run_dir = "run/podd"
state_dir = "state"
log_dir = "log"
pods_dir = "pods.d"
log_level = "info"
log_format = "json"

[network]
conf_dir = "cni.d"

[drivers.setns]
cgroup_parent = "{cgroup}"
"""


ON_RUNC = f'default_driver = "runc"\n{CONFIG.replace("drivers.setns", "drivers.runc")}'


def make_rootfs(folder: str) -> str:
    """The smallest image there is: busybox, linked statically. Returns its directory.

    Raises FileNotFoundError: there is no such busybox on this host.
    """
    busybox = shutil.which("busybox")
    if busybox is None or not _is_static(busybox):
        raise FileNotFoundError("busybox: no static one found: install busybox-static")
    rootfs = os.path.join(folder, "rootfs")
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"):  # as every image has them
        os.makedirs(os.path.join(rootfs, name))
    shutil.copy(busybox, os.path.join(rootfs, "bin", "busybox"))
    for name in ("sh", "sleep", "true"):
        os.symlink("busybox", os.path.join(rootfs, "bin", name))
    os.mkdir(f"{rootfs}{WEB}")
    with open(f"{rootfs}{WEB}/index.html", "w", encoding="ascii") as page:
        page.write("ok\n")
    return rootfs


class Podd:
    """Started by entering; leaving deletes its pods, ends it and removes what it kept."""

    def __init__(
        self, folder: str, rootfs: str, *, config: str = CONFIG, image: str = "", own_network: bool = False
    ) -> None:
        """folder: is made. image: of the pods, instead of rootfs. own_network: it makes bridges, and not the host's."""
        self._elsewhere = ["unshare", "--net"] if own_network else []
        self.socket = os.path.join(folder, "podd.sock")
        self._folder = folder
        self._image = image or f"rootfs:{rootfs}"
        self._written = config
        self._config = os.path.join(folder, "podd.toml")
        # Compiled before, as it is where podd is installed; but not into the source tree that it may run from.
        self._compiled = os.path.join(os.path.dirname(folder), "pycache")
        self.environment = {**os.environ, "PYTHONPYCACHEPREFIX": self._compiled}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._own_group = f"{cgroup(folder)}-daemon"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # ---- its life

    def __enter__(self) -> Self:
        make(self._folder)
        with open(self._config, "w", encoding="utf-8") as file:
            file.write(self._written.replace("{cgroup}", cgroup(self._folder)))
        try:
            if not os.path.isdir(self._compiled):
                self._start()
                self.cli("version")
                self._stop()
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process is None or self._process.poll() is not None:
                self._start()  # it takes up what the one that died has left
            with Wire(self.socket) as wire:
                for pod in wire.call("List")["pods"]:
                    wire.call("Delete", name=pod["metadata"]["uid"], now=True)
        finally:
            self._end()

    def _start(self) -> None:
        with open(os.path.join(self._folder, "podd.log"), "ab") as log:
            command = [*self._elsewhere, f"{BIN}/podd", "--config", self._config]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        if (top := unified()) is not None:
            os.makedirs(f"{top}/{self._own_group}", exist_ok=True)
            with open(f"{top}/{self._own_group}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(self.pid))
        until = time.monotonic() + START_S
        while True:
            try:
                with Wire(self.socket) as wire:
                    wire.call("Info")
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"podd does not start: {self._said()}") from None
                time.sleep(0.01)

    def _said(self) -> str:
        with open(os.path.join(self._folder, "podd.log"), encoding="utf-8") as log:
            return log.read()[-2000:]

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _end(self) -> None:
        self._stop()
        wipe(self._folder, cgroup(self._folder), self._own_group)

    # ---- what it is asked

    def manifest(self, name: str, image: str = "") -> str:
        """Three members with limits; the default seccomp profile, capabilities and masked paths are podd's own.

        image: of this pod, instead of the one that all have.
        """
        limits = {"cpu": str(CPUS), "memory": f"{MEMORY_MIB}Mi", "podd.io/pids": PIDS}
        made_from = {"image": image or self._image, "imagePullPolicy": "IfNotPresent"}
        container = {**made_from, "command": COMMAND, "resources": {"limits": limits}}
        return _pod(name, [{"name": f"c{number}", **container} for number in range(MEMBERS)])

    def probed(self, name: str, probe: dict[str, Any]) -> str:
        """One member, which serves a page; with that as its readiness probe."""
        serve = ["busybox", "httpd", "-f", "-p", f"127.0.0.1:{WEB_PORT}", "-h", WEB]
        return _pod(name, [{"name": "c", "image": self._image, "command": serve, "readinessProbe": probe}])

    def cli(self, *words: str) -> None:
        """Raises CalledProcessError."""
        command = [f"{BIN}/podd-cli", "--socket", self.socket, *words]
        # No timeout: Popen would not wait for the end then, but look for it every so often.
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=self.environment)

    # ---- what it consists of

    def cpu_ms(self) -> float | None:
        """Used so far by the daemon, the zygote, the shims, whatever these start, and the pods."""
        return cpu_ms(self._own_group, cgroup(self._folder))

    def shims(self, pod: dict[str, Any], parents: Mapping[int, int]) -> list[int]:
        """Every process between the zygote and the containers of this pod. parents: of every process."""
        members = {status["pid"] for status in pod["status"]["containerStatuses"]}
        shims = {parents[pid] for pid in members}
        helpers = {pid for pid, parent in parents.items() if parent in shims and pid not in members}
        return sorted(shims | helpers)

    def zygotes(self, parents: Mapping[int, int]) -> list[int]:
        """What the daemon has started and all shims share."""
        return [pid for pid, parent in parents.items() if parent == self.pid]


def _pod(name: str, containers: list[dict[str, Any]]) -> str:
    return json.dumps(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers}}
    )  # JSON is YAML


def _is_static(program: str) -> bool:
    """It names no interpreter to load it. Source: elf(5), PT_INTERP."""
    with open(program, "rb") as file:
        return b"/ld-linux" not in file.read(4096)
