"""The parts of the docker driver that need no dockerd: times, logs, the holder, profiles, what is refused."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.driver.contract import (
    ContainerConfig,
    Dns,
    Handle,
    Mount,
    NamespaceScopes,
    PortMapping,
    SandboxConfig,
    Security,
)
from podd.errors import Invalid, Unavailable, Unsupported
from podd.linux import capabilities
from podd.linux.process import identity
from podd.model.ids import ContainerId, PodUid, SandboxId
from podd_docker import filters, holder, logs, plans, times
from podd_docker.config import parse
from podd_docker.containers import Containers
from podd_docker.execs import BOUND, end_bound
from podd_docker.found import Found
from podd_docker.handles import SandboxState

HELD = b"2026-11-23T10:00:0%d.%09dZ"


# ---- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamp", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:01.000000001Z", 1_000_000_001),
        ("1970-01-01T01:00:01.25+01:00", 1_250_000_000),
        ("1969-12-31T23:00:01.25-01:00", 1_250_000_000),
    ],
)
def test_times_of_dockerd(stamp: str, ns: int) -> None:
    assert times.nanoseconds(stamp) == ns


def test_never_is_the_year_one() -> None:
    assert times.known("0001-01-01T00:00:00Z") is None
    assert times.known("") is None


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_stamp_is_read_as_it_was_written(ns: int) -> None:
    assert times.nanoseconds(times.stamp_of(ns)) == ns


# ---- logs ------------------------------------------------------------------------------------------------------------


class FakeLog:
    """dockerd's log of a container: what it gives of it depends on the time that it is asked from."""

    def __init__(self, entries: Iterable[tuple[int, bytes, bytes]]) -> None:
        self.entries = list(entries)
        self.cut_after: int | None = None

    def stream(self, _method: str, _path: str, params: dict[str, str]) -> Any:
        since = params["since"]
        since_ns = 0 if since == "0" else int(since.replace(".", ""))
        told = [one for one in self.entries if times.nanoseconds(one[1].decode()) >= since_ns][: self.cut_after]
        body = b"".join(self._frame(*one) for one in told)
        return _Body(body)

    @staticmethod
    def _frame(stream: int, stamp: bytes, text: bytes) -> bytes:
        message = stamp + b" " + text
        return bytes([stream, 0, 0, 0]) + len(message).to_bytes(4, "big") + message


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def __aexit__(self, *_: object) -> None:
        pass

    async def _pieces(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._body), 37):  # frames come in any pieces
            yield self._body[at : at + 37]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def texts_in(folder: Path) -> list[str]:
    """Of 0.log and what it was before, the oldest first."""
    written = sorted(folder.iterdir(), key=lambda file: -int(file.suffix[1:]) if file.suffix != ".log" else 1)
    return [line.split(" ", 3)[3] for file in written for line in lines_of(file)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_log_in_cri_format(tmp_path: Path) -> None:
    told = FakeLog([(1, HELD % (1, 1), b"whole\n"), (2, HELD % (1, 2), b"to stderr\n"), (1, HELD % (1, 3), b"part")])
    log = logs.Log(path=f"{tmp_path}/c/0.log", max_bytes=1 << 20, max_files=3)
    await logs.copy(told, "id", log, tty=False)  # type: ignore[arg-type]
    assert lines_of(tmp_path / "c/0.log") == [
        "2026-11-23T10:00:01.000000001Z stdout F whole",
        "2026-11-23T10:00:01.000000002Z stderr F to stderr",
        "2026-11-23T10:00:01.000000003Z stdout P part",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("max_bytes", [1 << 20, 120])
async def test_a_log_that_is_taken_up_again_has_no_gap_and_nothing_twice(
    tmp_path: Path, first: int, max_bytes: int
) -> None:
    """Two entries of one moment, and one that was stamped earlier and written later, among them; torn by a crash."""
    entries = [
        (1, HELD % (1, 0), b"0\n"),
        (1, HELD % (1, 5), b"1\n"),
        (1, HELD % (1, 5), b"2\n"),
        (2, HELD % (1, 4), b"3\n"),
        (1, HELD % (1, 900_000_000), b"4\n"),
        (2, HELD % (1, 899_999_990), b"5\n"),
        (1, HELD % (2, 0), b"6\n"),
        (1, HELD % (2, 1), b"7\n"),
    ]
    told, log = FakeLog(entries), logs.Log(path=f"{tmp_path}/0.log", max_bytes=max_bytes, max_files=9)
    told.cut_after = first
    await logs.copy(told, "id", log, tty=False)  # type: ignore[arg-type]
    with (tmp_path / "0.log").open("ab") as file:
        file.write(b"2026-11-23T10:00:02.00")
    told.cut_after = None
    for _ in range(2):
        await logs.copy(told, "id", log, tty=False)  # type: ignore[arg-type]
    assert texts_in(tmp_path) == list("01234567")


@pytest.mark.anyio
async def test_a_terminals_log_has_no_frames(tmp_path: Path) -> None:
    class Terminal(FakeLog):
        @staticmethod
        def _frame(_: int, stamp: bytes, text: bytes) -> bytes:
            return stamp + b" " + text

    told = Terminal([(1, HELD % (1, 1), b"a\r\n"), (1, HELD % (1, 2), b"b\r\n")])
    await logs.copy(told, "id", logs.Log(path=f"{tmp_path}/0.log", max_bytes=999, max_files=2), tty=True)  # type: ignore[arg-type]
    assert [line.partition(" stdout F ")[2] for line in lines_of(tmp_path / "0.log")] == ["a", "b"]


# ---- the holder ------------------------------------------------------------------------------------------------------


def test_the_holders_image_is_one_program() -> None:
    for machine in holder.MACHINES:
        with tarfile.open(fileobj=io.BytesIO(holder.image(machine))) as tar:
            (entry,) = tar.getmembers()
            assert (f"/{entry.name}", entry.mode) == (holder.PROGRAM, 0o555)


@pytest.mark.root
def test_the_init_reaps_orphans_and_ends_when_told(tmp_path: Path) -> None:
    if os.uname().machine not in holder.MACHINES:
        pytest.skip(f"no init for {os.uname().machine}")
    program = tmp_path / "podd-init"
    program.write_bytes(holder.program(os.uname().machine))
    program.chmod(0o755)
    # A child that its parent leaves behind when it becomes the init: the init's own, then, and dead at once.
    script = f"true & exec {program}"
    init = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script])
    try:
        pid = _only_child(init.pid)
        _until(lambda: Path(f"/proc/{pid}/comm").read_text() == "podd-init\n")
        _until(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        os.kill(pid, signal.SIGTERM)
        assert init.wait(10) == 0
    finally:
        init.kill()
        init.wait()


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    _until(lambda: children.read_text().split())
    return int(children.read_text().split()[0])


def _until(true: Any) -> None:
    import time  # noqa: PLC0415

    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- profiles --------------------------------------------------------------------------------------------------------


def test_the_default_profile_as_dockerd_takes_it() -> None:
    plain = json.loads(filters.text("runtime/default", capabilities.DEFAULT))
    assert plain["defaultAction"] == "SCMP_ACT_ERRNO"
    by_name = {name: rule for rule in plain["syscalls"] for name in rule["names"]}
    assert by_name["read"]["action"] == "SCMP_ACT_ALLOW"
    assert (by_name["clone3"]["action"], by_name["clone3"]["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)
    assert "mount" not in by_name
    assert "keyctl" not in by_name
    admin = json.loads(filters.text("runtime/default", capabilities.ALL))
    assert "mount" in {name for rule in admin["syscalls"] for name in rule["names"]}


def test_the_holders_profile_is_a_part_of_the_default() -> None:
    default, holders = json.loads(filters.text("runtime/default", 0)), json.loads(filters.of_holder())
    its_program = {"rt_sigprocmask", "rt_sigtimedwait", "wait4", "exit_group"}
    assert its_program <= {name for rule in holders["syscalls"] for name in rule["names"]}
    assert holders["defaultAction"] == default["defaultAction"]
    whole = {json.dumps({**rule, "names": [name]}) for rule in default["syscalls"] for name in rule["names"]}
    part = {json.dumps({**rule, "names": [name]}) for rule in holders["syscalls"] for name in rule["names"]}
    assert part < whole
    assert {"clone", "clone3"} <= {name for rule in holders["syscalls"] for name in rule["names"]}


def test_other_profiles(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    assert json.loads(filters.text(f"localhost/{file}", 0)) == {"defaultAction": "SCMP_ACT_ALLOW"}
    assert filters.text("unconfined", 0) == "unconfined"
    file.write_text("{")
    for wrong in (f"localhost/{file}", f"localhost/{file}.none", "other"):
        with pytest.raises(Invalid):
            filters.text(wrong, 0)


# ---- what dockerd is told --------------------------------------------------------------------------------------------


def container(**given: Any) -> ContainerConfig:
    base: dict[str, Any] = {"id": ContainerId("a" * 16), "sandbox_id": SandboxId("b" * 16), "name": "c", "attempt": 0}
    return ContainerConfig(**{**base, "image": "busybox", **given})


@pytest.mark.parametrize(
    ("security", "image", "user"),
    [
        ({}, {}, ""),
        ({}, {"User": "app:grp"}, "app:grp"),
        ({"uid": 7}, {"User": "app:grp"}, "7"),
        ({"uid": 7, "gid": 8}, {"User": "app"}, "7:8"),
        ({"gid": 8}, {"User": "app:grp"}, "app:8"),
        ({"gid": 8}, {}, "0:8"),
        ({"run_as_non_root": True, "uid": 7}, {}, "7"),
        ({"run_as_non_root": True}, {"User": "1000"}, "1000"),
    ],
)
def test_the_user(security: dict[str, Any], image: dict[str, str], user: str) -> None:
    assert plans.user(container(security=Security(**security)), image) == user


@pytest.mark.parametrize("image", [{}, {"User": "0"}, {"User": "root"}, {"User": "app"}, {"User": ":5"}])
def test_who_may_be_root_is_not_run_as_non_root(image: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="runAsNonRoot"):
        plans.user(container(security=Security(run_as_non_root=True)), image)


@pytest.mark.parametrize(
    ("given", "image", "word"),
    [
        ({"command": ("a",), "args": ("b",)}, {"Entrypoint": ["e"], "Cmd": ["c"]}, "a"),
        ({"args": ("b",)}, {"Entrypoint": ["e"], "Cmd": ["c"]}, "e"),
        ({"args": ("b",)}, {"Cmd": ["c"]}, "b"),
        ({}, {"Cmd": ["c"]}, "c"),
    ],
)
def test_the_program(given: dict[str, Any], image: dict[str, Any], word: str) -> None:
    assert plans.argv0(container(**given), image) == word


def test_what_dockerd_cannot_do_is_refused() -> None:
    with pytest.raises(Invalid, match="no command"):
        plans.argv0(container(), {})
    with pytest.raises(Unsupported, match="directories"):
        plans.check(container(image="rootfs:/"))
    for wrong in (
        {"command": ("a\0",)},
        {"env": (("A=B", ""),)},
        {"mounts": (Mount(host_path="/\0", container_path="/"),)},
    ):
        with pytest.raises(Invalid):
            plans.check(container(**wrong))


def sandbox(**given: Any) -> SandboxConfig:
    base: dict[str, Any] = {"id": SandboxId("b" * 16), "pod_uid": PodUid("u"), "pod_name": "p", "pod_namespace": "n"}
    return SandboxConfig(**{**base, "attempt": 0, "hostname": "p", **given})


def holder_of(config: SandboxConfig, **section: Any) -> dict[str, Any]:
    return plans.holder_body(config, "/run/podd", parse("docker", section), "podd/x", "{}")


def test_ports_and_names_of_a_holder() -> None:
    ports = [
        PortMapping(container_port=80, host_port=8080),
        PortMapping(container_port=80, host_port=8081, host_ip="127.0.0.1"),
        PortMapping(container_port=53, host_port=53, protocol="UDP"),
    ]
    dns = Dns(of_host=False, servers=("192.0.2.53",), searches=("a.example",), options=("ndots:2",))
    config = sandbox(ports=ports, dns=dns)
    body = holder_of(config)
    assert body["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert body["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }
    assert "Dns" not in body["HostConfig"], "in dockerd's own bridge podd writes resolv.conf"
    told = holder_of(config, network="named")["HostConfig"]
    assert (told["Dns"], told["DnsSearch"], told["DnsOptions"]) == (["192.0.2.53"], ["a.example"], ["ndots:2"])


@pytest.mark.parametrize(
    ("section", "scope", "mode", "disabled"),
    [
        ({}, "pod", "bridge", False),
        ({"network": "none"}, "pod", "none", True),
        ({"network": "none"}, "node", "host", False),
        ({}, "node", "host", False),
    ],
)
def test_the_network_of_a_holder(section: dict[str, str], scope: Any, mode: str, disabled: bool) -> None:
    body = holder_of(sandbox(namespaces=NamespaceScopes(net=scope)), **section)
    assert (body["HostConfig"]["NetworkMode"], body["NetworkDisabled"]) == (mode, disabled)


@pytest.mark.parametrize("field", ["ingress_bits", "egress_bits"])
def test_a_bandwidth_is_refused_where_there_is_a_network(field: str) -> None:
    with pytest.raises(Unsupported, match="limits no network"):
        holder_of(sandbox(**{field: 1000}))
    holder_of(sandbox(**{field: 1000}, namespaces=NamespaceScopes(net="node")))


def test_files_of_the_pod_are_mounted_where_the_container_mounts_nothing_itself() -> None:
    state = SandboxState(
        docker_id="d", cgroup="podd/x", hostname="p", namespaces=NamespaceScopes(), shares_uts=False,
        pid=1, starttime_ticks=1, boot_id="",
    )  # fmt: skip
    own = Mount(host_path="/srv/hosts", container_path="/etc/../etc/hosts")
    config = container(mounts=(own,), security=Security(read_only_rootfs=True), image_id="sha256:1")
    body = plans.member_body(
        config, owner="/run/podd", section=parse("docker", {}), sandbox=state, image={}, seccomp="{}", target="",
        binds={}, files={"/etc/hosts": "/run/h", "/etc/hostname": "/run/n"}, least_oom_score_adj=0,
    )  # fmt: skip
    assert body["Image"] == "sha256:1"
    mounts = {mount["Source"]: (mount["Target"], mount["ReadOnly"]) for mount in body["HostConfig"]["Mounts"]}
    assert mounts == {"/srv/hosts": ("/etc/../etc/hosts", False), "/run/n": ("/etc/hostname", True)}


# ---- what dockerd tells ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "ended"),
    [(0, (0, 0)), (1, (1, 0)), (128, (128, 0)), (137, (137, 9)), (143, (143, 15)), (255, (255, 0))],
)
def test_an_end(code: int, ended: tuple[int, int]) -> None:
    state = {"ExitCode": code, "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": "2026-01-01T00:00:00.5Z"}
    found = Found({"Id": "x", "State": state, "Config": {}})
    told = found.exit(found.started_at_ns)
    assert (told.code, told.signal) == ended
    assert told.started_at_ns == 1_767_225_601_000_000_000
    assert told.finished_at_ns == told.started_at_ns


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("told", "written"), [({"SizeRw": 7}, {"b": 7}), ({}, {"b": 0}), ({"SizeRw": -1}, {"b": 0}), (None, {})]
)
async def test_what_is_written_where_dockerds_storage_has_no_directory_for_it(
    told: dict[str, Any] | None, written: dict[str, int], tmp_path: Path
) -> None:
    state = {"Running": True, "Pid": 1, "StartedAt": "2026-01-01T00:00:01Z"}

    class Api:
        async def get(self, path: str, **params: str) -> dict[str, Any]:
            if params:
                if told is None:
                    raise Unavailable("did not answer")
                return {"Id": path, "State": state, "Config": {}, **told}
            (of,) = [name for name in "ab" if f"podd-{name}/" in path]
            shown = {"GraphDriver": {"Data": {"UpperDir": str(tmp_path)}}} if of == "a" else {}
            return {"Id": of, "State": state, "Config": {"Labels": {plans.ID: of}}, **shown}

    (tmp_path / "file").write_bytes(bytes(100_000))
    nobody: Any = None
    containers = Containers(Api(), *[nobody] * 7)  # type: ignore[arg-type]
    found = await containers.written([Handle(driver="docker", id=name, version=1, state={}) for name in "ab"])
    assert found.pop("a") >= 100_000
    assert found == written


def test_a_start_that_failed_is_an_end() -> None:
    state = {"ExitCode": 127, "StartedAt": "0001-01-01T00:00:00Z", "Error": "no such thing"}
    found = Found({"Id": "x", "State": state, "Config": {}})
    assert found.has_ended
    ended = found.exit(None)
    assert (ended.code, ended.reason, ended.message) == (127, "StartError", "no such thing")


# ---- the OCI runtime -------------------------------------------------------------------------------------------------


def become_runc(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the bundle says then, and the words that runc was given."""
    (folder / "config.json").write_text(json.dumps(config, separators=(",", ":")))
    script = Path(holder.__file__).parent / "oci-runtime.sh"
    words = ["--root", "/r", "create", "--bundle", str(folder), "id"]
    done = subprocess.run(
        ["/bin/sh", script, *words], env={**os.environ, "PODD_RUNC": "echo"}, capture_output=True, text=True, check=True
    )
    return json.loads((folder / "config.json").read_text()), [*done.stdout.split()][: len(words)]


def bundle(net: str | None, uts: str | None = "") -> dict[str, Any]:
    spaces = [{"type": "mount"}, {"type": "network"} | ({"path": net} if net else {})]
    if uts is not None:
        spaces.append({"type": "uts"} | ({"path": uts} if uts else {}))
    process = {"args": ['{"type":"uts"},"hostname":"x"', '{"type":"network","path":"/proc/1/ns/net"}']}
    return {"process": process, "hostname": "h", "linux": {"namespaces": spaces}}


def test_uts_is_joined_where_the_network_is(tmp_path: Path) -> None:
    before = bundle("/proc/4711/ns/net")
    after, words = become_runc(tmp_path, before)
    assert words == ["--root", "/r", "create", "--bundle", str(tmp_path), "id"]
    assert after.pop("linux")["namespaces"] == [
        {"type": "mount"},
        {"type": "network", "path": "/proc/4711/ns/net"},
        {"type": "uts", "path": "/proc/4711/ns/uts"},
    ]
    assert after == {"process": before["process"]}


@pytest.mark.parametrize(
    "config",
    [
        bundle(None),
        bundle("/proc/1/ns/net", uts=None),
        bundle("/proc/1/ns/net", uts="/proc/2/ns/uts"),
        bundle("/var/run/docker/netns/default"),
        bundle("/proc/self/ns/net"),
        {},
    ],
)
def test_nothing_else_is_changed(tmp_path: Path, config: dict[str, Any]) -> None:
    assert become_runc(tmp_path, config)[0] == config


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ({"socketr": "/x"}, "did you mean socket"),
        ({"socket": "x"}, "drivers.docker.socket"),
        ({"network": "host"}, "hostNetwork"),
        ({"network": "container:x"}, "no network of a pod"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"cgroup_parent": "/podd"}, "drivers.docker.cgroup_parent"),
        ({"log_max_files": 1}, "drivers.docker.log_max_files"),
    ],
)
def test_a_wrong_section(section: dict[str, Any], why: str) -> None:
    with pytest.raises(Invalid, match=why):
        parse("docker", section)


# ---- execs -----------------------------------------------------------------------------------------------------------


def test_what_was_to_end_with_a_podd_that_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    """And exactly that: a number that another process has by now is left alone."""
    with subprocess.Popen(["sleep", "3600"]) as left, subprocess.Popen(["sleep", "3600"]) as stranger:
        try:
            other = identity(stranger.pid)._replace(starttime_ticks=1)
            for name, one in (("exec-1", identity(left.pid)), ("exec-2", other)):
                (tmp_path / name).mkdir()
                (tmp_path / name / BOUND).write_text(json.dumps(one._asdict()))
            (tmp_path / "exec-3").mkdir()
            end_bound(str(tmp_path))
            assert left.wait(timeout=10) == -signal.SIGKILL
            assert stranger.poll() is None
        finally:
            left.kill()
            stranger.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["exec-3"]
