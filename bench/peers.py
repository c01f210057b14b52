"""Other engines on this host, each on private directories, asked by its own command as people ask it.

All run the same pod: three members with the same image, command and limits, that share network and IPC.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, Self

import processes
from places import cgroup, make, wipe
from subject import COMMAND, CONFIG, CPUS, MEMBERS, MEMORY_MIB, ON_RUNC, PIDS, START_S, STOP_S, Podd
from wire import Wire

from podd_docker.daemon_json import wanted

IMAGE = "bench"
RUNTIME = "podd"
ON_DOCKER = """
[drivers.docker]
socket = "{dockerd}/docker.sock"
exec_root = "{dockerd}/run/docker"
network = "none"
cgroup_parent = "{cgroup}/docker"
runtime = "{runtime}"
"""
LIMITS = (f"--memory={MEMORY_MIB}m", f"--cpus={CPUS}", f"--pids-limit={PIDS}")


class Skipped(Exception):
    """This engine cannot be measured here; str() says why."""


class Engine(Protocol):
    """Entered before use; leaving removes its pods and ends what it started."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def start(self, pod: str) -> None: ...
    def delete(self, *pods: str) -> None:
        """At once, without grace."""

    def supervisors(self) -> list[int]:
        """Processes that are there because pods are."""

    def daemons(self) -> list[int]:
        """Processes that are there all the time."""


class OurOwn:
    """podd by way of podd-cli."""

    def __init__(self, folder: str, podd: Podd) -> None:
        self._podd = podd
        self._manifest = f"{folder}.pod.json"

    def __enter__(self) -> Self:
        self._podd.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._podd.__exit__(*exc)
        os.unlink(self._manifest)

    def start(self, pod: str) -> None:
        with open(self._manifest, "w", encoding="utf-8") as file:
            file.write(self._podd.manifest(pod))
        self._podd.cli("apply", "-f", self._manifest, "--wait")

    def delete(self, *pods: str) -> None:
        self._podd.cli("delete", "pod", *pods, "--now")

    def supervisors(self) -> list[int]:
        parents = processes.parents()
        with Wire(self._podd.socket) as wire:
            return [pid for pod in wire.call("List")["pods"] for pid in self._podd.shims(pod, parents)]

    def daemons(self) -> list[int]:
        return [self._podd.pid, *self._podd.zygotes(processes.parents())]


class OurOwnOnSetns(OurOwn):
    """The same, with podd's own driver."""

    def __init__(self, folder: str, rootfs: str) -> None:
        super().__init__(folder, Podd(folder, rootfs))


class OurOwnOnRunc(OurOwn):
    """The same, with the members made by runc."""

    def __init__(self, folder: str, rootfs: str) -> None:
        super().__init__(folder, Podd(folder, rootfs, config=ON_RUNC))

    def __enter__(self) -> Self:
        _need("runc")
        super().__enter__()
        return self


class Installed(Engine):
    """An engine of the host's, in directories of its own. It has one pod for a trial first: what an engine does but
    once, it does then.

    NEEDS: programs. _begin: makes it ready for pods.
    """

    NEEDS: ClassVar[tuple[str, ...]]

    def __init__(self, folder: str, rootfs: str) -> None:
        self._folder = folder
        self._rootfs = rootfs
        self._process: subprocess.Popen[bytes] | None = None  # its daemon, where it has one

    def __enter__(self) -> Self:
        _need(*self.NEEDS)
        make(self._folder)
        try:
            self._begin()
            self.start("trial")
            self.delete("trial")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._process)  # dockerd ends its containers, and its containerd
        _wait_gone(self.supervisors)
        wipe(self._folder, cgroup(self._folder))

    @abstractmethod
    def _begin(self) -> None: ...


class Podman(Installed):
    """`podman pod create`, one `podman create` a member, `podman pod start`."""

    NEEDS = ("podman", "conmon")

    def _begin(self) -> None:
        # What podman gives to containers by default may be more than this process has, and may hand on.
        most = {name: min(20000, resource.getrlimit(kind)[1]) for name, kind in _RLIMITS.items()}
        ulimits = ", ".join(f'"{name}={number}:{number}"' for name, number in most.items())
        with open(f"{self._folder}/containers.conf", "w", encoding="utf-8") as file:
            file.write(f"[containers]\ndefault_ulimits = [{ulimits}]\n")
        self._run("import", _image(self._folder, self._rootfs), IMAGE)

    def __exit__(self, *_: object) -> None:
        try:
            self._run("pod", "rm", "--all", "--force", "--time=0")
        finally:
            _wait_gone(lambda: processes.whose_arguments_have(self._folder, program="podman"))
            wipe(self._folder, cgroup(self._folder))

    def start(self, pod: str) -> None:
        self._run("pod", "create", f"--name={pod}", "--network=none", f"--cgroup-parent=/{cgroup(self._folder)}")
        for number in range(MEMBERS):
            self._run("create", f"--pod={pod}", f"--name={pod}-{number}", *LIMITS, IMAGE, *COMMAND)
        self._run("pod", "start", pod)

    def delete(self, *pods: str) -> None:
        self._run("pod", "rm", "--force", "--time=0", *pods)

    def supervisors(self) -> list[int]:
        return processes.whose_arguments_have(self._folder, program="conmon")

    def daemons(self) -> list[int]:
        return []

    def _run(self, *words: str) -> None:
        where = {"root": "root", "runroot": "run/c", "tmpdir": "run/t"}  # podman takes 50 characters
        places = [f"--{option}={self._folder}/{name}" for option, name in where.items()]
        runtime = ["--runtime=runc"] if shutil.which("runc") else []
        how = ["--cgroup-manager=cgroupfs", "--storage-driver=overlay", "--events-backend=file", *runtime]
        _run(["podman", *places, *how, *words], {"CONTAINERS_CONF": f"{self._folder}/containers.conf"})


class Docker(Installed):
    """A container for the namespaces, then `docker run --network container:… --ipc container:…` a member."""

    NEEDS = ("dockerd", "docker", "containerd", "runc")

    def _begin(self) -> None:
        self._start_dockerd()
        self._run("import", _image(self._folder, self._rootfs), IMAGE)

    def _start_dockerd(self) -> None:
        where = {"data-root": "data", "exec-root": "run/docker", "pidfile": "run/pid"}
        places = [f"--{option}={self._folder}/{name}" for option, name in where.items()]
        with open(f"{self._folder}/daemon.json", "w", encoding="utf-8") as file:
            json.dump(wanted(), file)
        places.append(f"--config-file={self._folder}/daemon.json")
        no_network = ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"]
        command = ["dockerd", *places, "-H", self._socket, "--exec-opt=native.cgroupdriver=cgroupfs", *no_network]
        self._process = _daemon(command, f"{self._folder}/dockerd.log", lambda: self._run("version"))

    def start(self, pod: str) -> None:
        run = ["run", "--detach", f"--cgroup-parent=/{cgroup(self._folder)}"]
        self._run(*run, f"--name={pod}", "--network=none", "--ipc=shareable", IMAGE, *COMMAND)
        shared = [f"--network=container:{pod}", f"--ipc=container:{pod}"]
        for number in range(MEMBERS):
            self._run(*run, f"--name={pod}-{number}", *shared, *LIMITS, IMAGE, *COMMAND)

    def delete(self, *pods: str) -> None:
        members = [f"{pod}-{number}" for pod in pods for number in range(MEMBERS)]
        self._run("rm", "--force", *members, *pods)

    def supervisors(self) -> list[int]:
        return processes.whose_arguments_have(self._folder, program="containerd-shim")

    def daemons(self) -> list[int]:
        assert self._process is not None
        return [self._process.pid, *processes.whose_arguments_have(self._folder, program="containerd")]

    @property
    def _socket(self) -> str:
        return f"unix://{self._folder}/docker.sock"

    def _run(self, *words: str) -> None:
        _run(["docker", "--config", f"{self._folder}/client", "-H", self._socket, *words], {})


class Containerd(Installed):
    """A container for the namespaces, then one `ctr run --with-ns …` a member.

    All of a pod have the annotation by which containerd's CRI service lets them share one shim, so that its memory is
    what crictl's pods take. `ctr` limits no processes, and here it mounts no overlay.
    """

    NEEDS = ("containerd", "ctr", "runc")

    def _begin(self) -> None:
        with open(f"{self._folder}/config.toml", "w", encoding="utf-8") as file:
            file.write(
                f'version = 2\nroot = "{self._folder}/root"\nstate = "{self._folder}/run/state"\n'
                f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{self._socket}"\n'
            )
        command = ["containerd", "--config", f"{self._folder}/config.toml"]
        self._process = _daemon(command, f"{self._folder}/containerd.log", lambda: self._run("version"))

    def start(self, pod: str) -> None:
        holder = f"{self._folder}/run/{pod}.pid"
        self._make(pod, pod, f"--pid-file={holder}")
        with open(holder, encoding="ascii") as file:
            pid = file.read()
        shared = [f"--with-ns={kind}:/proc/{pid}/ns/{name}" for kind, name in (("network", "net"), ("ipc", "ipc"))]
        limits = [f"--memory-limit={MEMORY_MIB << 20}", f"--cpus={CPUS}"]
        for number in range(MEMBERS):
            self._make(pod, f"{pod}-{number}", *shared, *limits)

    def _make(self, pod: str, name: str, *how: str) -> None:
        where = [f"--cgroup=/{cgroup(self._folder)}/{name}", f"--runc-root={self._folder}/run/runc"]
        alike = ["--env=PATH=/bin", "--seccomp", f"--annotation=io.kubernetes.cri.sandbox-id={pod}"]
        self._run("run", "--detach", *where, *alike, *how, "--rootfs", self._rootfs, name, *COMMAND)

    def delete(self, *pods: str) -> None:
        all_of = [name for pod in pods for name in (*(f"{pod}-{number}" for number in range(MEMBERS)), pod)]
        self._run("task", "delete", "--force", *all_of)
        self._run("container", "delete", *all_of)

    def supervisors(self) -> list[int]:
        return processes.whose_arguments_have(self._folder, program="containerd-shim")

    def daemons(self) -> list[int]:
        assert self._process is not None
        return [self._process.pid]

    @property
    def _socket(self) -> str:
        return f"{self._folder}/containerd.sock"

    def _run(self, *words: str) -> None:
        _run(["ctr", "--address", self._socket, *words], {})


def podd_on(dockerd: str, rootfs: str, folder: str, runtime: str = "") -> Podd:
    """One whose pods go to the Docker of that directory. runtime: by which members are held; "" for none."""
    config = f'default_driver = "docker"\n{CONFIG}{ON_DOCKER}'.replace("{dockerd}", dockerd)
    return Podd(folder, rootfs, config=config.replace("{runtime}", runtime), image=f"{IMAGE}:latest")


class OurOwnOnDocker(OurOwn):
    """podd, with the members made by a dockerd, and held."""

    def __init__(self, folder: str, rootfs: str) -> None:
        self._docker = Docker(f"{folder}-dockerd", rootfs)
        super().__init__(folder, podd_on(f"{folder}-dockerd", rootfs, folder, RUNTIME))

    def __enter__(self) -> Self:
        self._docker.__enter__()
        try:
            super().__enter__()
        except BaseException:
            self._docker.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self._docker.__exit__()

    def supervisors(self) -> list[int]:
        return self._docker.supervisors()

    def daemons(self) -> list[int]:
        return [*super().daemons(), *self._docker.daemons()]


PEERS: dict[str, Callable[[str, str], Engine]] = {
    "podd-runc": OurOwnOnRunc,
    "podd-docker": OurOwnOnDocker,
    "podman": Podman,
    "docker": Docker,
    "containerd": Containerd,
}

_RLIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Skipped(f"not installed: {', '.join(missing)}")


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    """Raises Skipped: it failed."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Skipped(done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}")


def _daemon(command: Sequence[str], log_path: str, answers: Callable[[], object]) -> subprocess.Popen[bytes]:
    """Started. answers: raises Skipped until it does. Raises Skipped: it does not start."""
    with open(log_path, "wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    until = time.monotonic() + START_S
    while True:
        try:
            answers()
        except Skipped:
            if daemon.poll() is not None or time.monotonic() > until:
                _end(daemon)
                raise Skipped(f"{command[0]} does not start: {_last_line(log_path)}") from None
            time.sleep(0.1)
        else:
            return daemon


def _end(daemon: subprocess.Popen[bytes] | None) -> None:
    if daemon is None or daemon.poll() is not None:
        return
    daemon.terminate()
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _image(folder: str, rootfs: str) -> str:
    archive = f"{folder}/image.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", archive, "."], check=True)
    return archive


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip().rpartition("\n")[2]


# ---- leaving nothing


def _wait_gone(left: Callable[[], list[int]]) -> None:
    """Engines end some processes after they have answered."""
    until = time.monotonic() + STOP_S
    while left():
        if time.monotonic() > until:
            raise RuntimeError(f"processes {left()}: still there after {STOP_S} s")
        time.sleep(0.05)
