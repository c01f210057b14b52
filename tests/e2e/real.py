"""A real podd for tests: started, killed and started again on the same directories; driven by podd-cli."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from podd.control.client import Client
from podd.testing import audit

T = TypeVar("T")

BIN = Path(sys.executable).parent
LIMIT_S = 20

CONFIG = """\
[daemon]
socket = "podd.sock"
socket_group = ""
run_dir = "run"
state_dir = "state"
log_dir = "log"
pods_dir = "pods.d"
log_level = "debug"
log_format = "json"

[network]
conf_dir = "cni.d"

[drivers.setns]
cgroup_parent = "{cgroup}"
"""


OTHERS = ("run/docker/sandboxes", "run/runc/pods", "state/runc/containers")
"""What drivers make that are not podd's first choice."""


class Podd:
    # The store and the logs of pods stay by design, and a podd that was started again is another process.
    kept = (
        r"^file: .*/(podd\.db|log/|d\.log|podd\.toml|shared/)",
        r"^file: .*\.lock$",
        r"^process: pid \d+ \((\S+ \S+/podd --config|podd-zygote)",
        r"^namespace: mnt:\[\d+\] <- pid \d+ \(podd-zygote\)",  # the empty one, which it makes when it has begun
    )

    def __init__(self, folder: Path, config: str = CONFIG, network: str = "") -> None:
        """network: the path of the network namespace that it lives in; "" for the machine's own."""
        self.folder = folder
        self._network = network
        self.socket = folder / "podd.sock"
        self.shared = folder / "shared"
        self.shared.mkdir(mode=0o777)
        self.shared.chmod(0o777)
        folder.chmod(0o755)
        (folder / "podd.toml").write_text(config.replace("{cgroup}", folder.name))
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("run/pods", *OTHERS, "state/containers", "state/volumes", "log/pods"):
            (folder / name).mkdir(mode=0o700, parents=True)  # podd makes them, and keeps them
        (folder / "pods.d").mkdir()
        self.before = self.snapshot(daemon=False)

    # -- the daemon

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, **environment: str) -> None:
        self._log = (self.folder / "d.log").open("ab")
        elsewhere = ["nsenter", f"--net={self._network}"] if self._network else []
        self._process = subprocess.Popen(
            [*elsewhere, BIN / "podd", "--config", self.folder / "podd.toml"],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environment},
        )
        self._log.close()
        until(lambda: self._answers() or self._process.poll() is not None, "podd answers")  # type: ignore[union-attr]
        assert self._process.poll() is None, (self.folder / "d.log").read_text()[-3000:]

    def _answers(self) -> bool:
        try:
            with Client(str(self.socket)) as client:
                client.call("io.podd.Info")
        except Exception:  # noqa: BLE001  not yet
            return False
        return True

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(LIMIT_S) == 0, (self.folder / "d.log").read_text()[-3000:]

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(LIMIT_S)

    def wait_dead(self) -> int:
        assert self._process is not None
        return self._process.wait(LIMIT_S)

    def ensure_running(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self.start()

    def snapshot(self, *, daemon: bool = True) -> audit.Snapshot:
        pid = self._process.pid if daemon and self._process else None
        return audit.snapshot([str(self.folder)], cgroup_parent=self.folder.name, daemon=pid, network=self._network)

    def assert_clean(self, before: audit.Snapshot, *, daemon: bool = True) -> None:
        """Nothing is left."""
        kept = [what for what in self.kept if daemon or not what.startswith(("^process", "^namespace"))]
        audit.until_clean(before, lambda: self.snapshot(daemon=daemon), ignoring=kept)

    def log(self) -> list[dict[str, Any]]:
        lines = (self.folder / "d.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    # -- podd-cli

    def cli(self, *words: object, status: int | None = 0, stdin: str | None = None) -> str:
        """stdout; where another exit status is expected, stdout and stderr. status None: any."""
        done = subprocess.run(
            [BIN / "podd-cli", *map(str, words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PODD_SOCKET": str(self.socket), "COLUMNS": "200"},
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        if status is not None:
            assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout if status == 0 else done.stdout + done.stderr

    def apply(self, manifest: str, *words: str, status: int = 0) -> str:
        return self.cli("apply", "-f", "-", "--wait", *words, stdin=manifest, status=status)

    def pods(self) -> list[dict[str, Any]]:
        return json.loads(self.cli("get", "pods", "-A", "-o", "json"))["items"]  # type: ignore[no-any-return]

    def pod(self, name: str) -> dict[str, Any]:
        return json.loads(self.cli("get", "pod", name, "-o", "json"))  # type: ignore[no-any-return]

    def status(self, name: str) -> dict[str, Any]:
        return self.pod(name)["status"]  # type: ignore[no-any-return]

    def pids(self, name: str) -> dict[str, int]:
        """The first process of each member, in the host's pid namespace."""
        return {c["name"]: c["pid"] for c in self.status(name)["containerStatuses"] if c.get("pid")}

    def shim(self, name: str) -> int:
        """The supervisor of a pod: the parent of its members."""
        pid = next(iter(self.pids(name).values()))
        return parent_of(pid)


def manifest(name: str, *containers: dict[str, Any], **spec: Any) -> str:
    """JSON is YAML. A container without an image gets the host's own root."""
    full = [{"image": "rootfs:/", **c} for c in containers]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": full, **spec}}
    return json.dumps(pod)


def sh(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "command": ["/bin/sh", "-c", script], **more}


def sleeper(name: str, **more: Any) -> dict[str, Any]:
    """Runs until it is told to end, and then ends at once."""
    return sh(name, "trap 'exit 0' TERM; sleep infinity & wait", **more)


def shared(podd: Podd) -> dict[str, Any]:
    """A directory of the test's, at /shared in every member that mounts it."""
    return {"volumes": [{"name": "shared", "hostPath": {"path": str(podd.shared)}}]}


MOUNT = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}


def until(is_so: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
    """Look again and again until it is so; what the host does has no other bell to ring."""
    end = time.monotonic() + limit_s
    while True:
        found = is_so()
        if found:
            return found
        assert time.monotonic() < end, f"waited {limit_s} s in vain until {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def namespaces(pid: int | str) -> dict[str, int]:
    names = ("net", "ipc", "uts", "pid", "mnt", "cgroup", "user")
    return {n: os.stat(f"/proc/{pid}/ns/{n}").st_ino for n in names}


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
