"""A dockerd for tests, on directories of its own: the system's is never touched."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from podd.linux.cgroup import Layout
from podd_docker.daemon_json import wanted

IMAGE = "podd-test/busybox:1"
LIMIT_S = 30
APPLETS = (  # noqa: SIM905  as a shell would list them
    "sh sleep cat kill stat setsid mv echo test stty true false ls env hostname id grep mount touch dd seq ipcs date "
    "wc head tail nc wget tr readlink rm mkdir ln tee sync printf"
).split()


def missing() -> str:
    """What this host lacks for it; "" for nothing."""
    lacking = [name for name in ("dockerd", "containerd", "runc", "busybox", "curl") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def missing_of_systemd() -> str:
    """What keeps it from having systemd make cgroups here; "" for nothing."""
    if not os.path.isdir("/run/systemd/system"):
        return "the host's first process is not systemd"
    return "" if Layout.detect().kind == "v2" else "the host has not cgroup v2 alone"


NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")


class Dockerd:
    """Networks: "none" alone, so that nothing of the host's is changed."""

    def __init__(self, folder: Path, *options: str, network: str = "", cgroups: str = "cgroupfs") -> None:
        """network: the path of a network namespace that it has to itself, with bridges and all. cgroups: its driver."""
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.exec_root = folder / "run"
        self._options = options if network else (*NO_NETWORK, *options)
        self._cgroups = cgroups
        self._inside = ["nsenter", f"--net={network}"] if network else []
        self.network = "bridge" if network else "none"
        self.config = self.folder / "daemon.json"
        self.config.write_text(json.dumps(wanted()))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def section(self) -> dict[str, object]:
        """What a driver needs to know of it."""
        return {"socket": str(self.socket), "exec_root": str(self.exec_root), "network": self.network}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        where = {"data-root": "data", "exec-root": "run", "pidfile": "pid"}
        command = [
            *self._inside,
            "dockerd",
            *(f"--{option}={self.folder}/{name}" for option, name in where.items()),
            f"--host=unix://{self.socket}",
            f"--exec-opt=native.cgroupdriver={self._cgroups}",
            f"--config-file={self.config}",
            *self._options,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + LIMIT_S
        while self._curl("http://d/_ping") != "OK":
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            assert time.monotonic() < end, "dockerd does not answer"
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(LIMIT_S)

    def freeze(self) -> None:
        """It does not answer, as when it hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def reload(self) -> None:
        """Have it read its configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    def info(self) -> dict[str, Any]:
        return json.loads(self._curl("http://d/v1.41/info"))  # type: ignore[no-any-return]

    def containers(self) -> list[dict[str, Any]]:
        """Every one that it knows, of whomever."""
        return json.loads(self._curl("http://d/v1.41/containers/json?all=1"))  # type: ignore[no-any-return]

    def create(self, name: str, image: str) -> None:
        """As a person would. It is not started."""
        self._post(f"containers/create?name={name}", {"Image": image, "Cmd": ["true"]})

    def publish(self, name: str, image: str, port: int) -> None:
        """As create; and start it, with a port of the host that leads to it."""
        leads = {"PortBindings": {"80/tcp": [{"HostPort": str(port)}]}}
        body = {"Image": image, "Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": leads}
        self._post(f"containers/create?name={name}", body)
        self._curl("-X", "POST", f"http://d/v1.41/containers/{name}/start")

    def create_network(self, name: str) -> None:
        self._post("networks/create", {"Name": name})

    def remove_network(self, name: str) -> None:
        self._curl("-X", "DELETE", f"http://d/v1.41/networks/{name}")

    def restart(self, container: str) -> None:
        """As a person would, behind podd's back."""
        self._curl("-X", "POST", f"http://d/v1.41/containers/{container}/restart?t=0")

    def remove(self, container: str) -> None:
        self._curl("-X", "DELETE", f"http://d/v1.41/containers/{container}?force=1&v=1")

    def import_busybox(self) -> None:
        body = self.folder / "busybox.tar"
        body.write_bytes(busybox())
        repository, _, tag = IMAGE.partition(":")
        self._curl(
            *("-X", "POST", "--data-binary", f"@{body}", "-H", "Content-Type: application/x-tar"),
            f"http://d/v1.41/images/create?fromSrc=-&repo={repository}&tag={tag}",
        )

    def _post(self, path: str, body: dict[str, Any]) -> None:
        how = ("-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body))
        self._curl(*how, f"http://d/v1.41/{path}")

    def _curl(self, *words: str) -> str:
        return subprocess.run(
            ["curl", "-s", "--unix-socket", str(self.socket), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        ).stdout


def busybox() -> bytes:
    """A root file system with busybox, some users, and the directories that every image has."""
    program = shutil.which("busybox")
    assert program is not None
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(program, "bin/busybox")
        for name in APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for name, text in (
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:2000::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\napp:x:2000:\n"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


def a_dockerd(*options: str, network: str = "", cgroups: str = "cgroupfs") -> Iterator[Dockerd]:
    """With the image. A short path: a socket's has 107 bytes."""
    if why := missing():
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="podd-dockerd-", dir="/var/tmp"))
    one = Dockerd(folder, *options, network=network, cgroups=cgroups)
    try:
        one.start()
        one.import_busybox()
        yield one
    finally:
        one.stop()
        _unmount_below(folder)
        shutil.rmtree(folder)


def _unmount_below(folder: Path) -> None:
    """dockerd leaves the pin of the host's network, and under live-restore more."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in reversed([point for point in points if point.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", point], check=True)
