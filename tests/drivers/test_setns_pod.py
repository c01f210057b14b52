"""What members of a pod share, what they have for themselves, and what they may: asked of the kernel."""

# ruff: noqa: ASYNC240  the files looked at are the kernel's, or the test's own
from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from podd.driver.contract import Exit, Handle, Limits, NamespaceScopes, Security
from podd.driver.hookspecs import DriverPaths
from podd.errors import Invalid, NotFound, PoddError
from podd.linux import capabilities
from podd.linux.cgroup import Layout
from podd.testing.lab import FOREVER, SHARED, Act, Lab, together

pytestmark = [pytest.mark.root, pytest.mark.anyio]

MAPPABLE = ("net", "ipc", "uts", "pid", "mnt", "cgroup")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def run(lab: Lab, sandbox: Handle, script: str, **given: Any) -> tuple[str, Exit]:
    """What a container's script prints to a file, and how it ends."""
    name = f"out{len(os.listdir(lab.shared))}"
    container = await lab.started(sandbox, Act(f"({script}) > {SHARED}/{name} 2>&1"), **given)
    ended = await lab.driver.wait_container(container)
    return (lab.shared / name).read_text(), ended


async def pid_of(lab: Lab, container: Handle) -> int:
    pid = (await lab.driver.container_status(container)).pid
    assert pid is not None
    return pid


def namespaces_of(pid: int | str) -> dict[str, int]:
    return {name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in MAPPABLE}


# ---- sharing ---------------------------------------------------------------------------------------------------------


async def members(lab: Lab, scopes: NamespaceScopes) -> list[dict[str, int]]:
    made = await lab.sandbox(namespaces=scopes)
    started = [await lab.started(made.handle) for _ in range(3)]
    return [namespaces_of(await pid_of(lab, one)) for one in started]


@pytest.mark.parametrize(
    ("scopes", "shared", "host"),
    [
        (NamespaceScopes(), {"net", "ipc", "uts"}, set[str]()),
        (NamespaceScopes(pid="pod"), {"net", "ipc", "uts", "pid"}, set[str]()),
        (NamespaceScopes(net="node", uts="node"), {"ipc"}, {"net", "uts"}),
        (NamespaceScopes(ipc="node"), {"net", "uts"}, {"ipc"}),
        (NamespaceScopes(pid="node"), {"net", "ipc", "uts"}, {"pid"}),
    ],
    ids=["default", "shareProcessNamespace", "hostNetwork", "hostIPC", "hostPID"],
)
async def test_namespaces_are_shared_as_asked(
    lab: Lab, scopes: NamespaceScopes, shared: set[str], host: set[str]
) -> None:
    found = await members(lab, scopes)
    hosts = namespaces_of("self")
    for name in MAPPABLE:
        inodes = [one[name] for one in found]
        assert len(set(inodes)) == (1 if name in shared | host else 3), name
        assert (inodes[0] == hosts[name]) == (name in host), name


LISTEN = """
import socket
server = socket.create_server(("127.0.0.1", 4711))
open("%s/listening", "w").write("yes\\n")
server.accept()[0].sendall(b"from the other")
"""
CONNECT = """
import socket
print(socket.create_connection(("127.0.0.1", 4711)).recv(100).decode(), end="")
"""


async def test_members_talk_over_localhost_and_nobody_else_does(lab: Lab) -> None:
    made = await lab.sandbox()
    await lab.started(made.handle, Act(f"exec {sys.executable} -c '{LISTEN % SHARED}'"))
    await lab.seen("listening")
    other = await lab.sandbox()
    said, ended = await run(lab, other.handle, f"{sys.executable} -c '{CONNECT}'")
    assert ended.code == 1
    assert "ConnectionRefusedError" in said
    said, _ = await run(lab, made.handle, f"{sys.executable} -c '{CONNECT}'")
    assert said == "from the other"


SEGMENT = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
segment = libc.shmget(0x4711, 4096, %s)
assert segment >= 0, "no segment"
address = libc.shmat(segment, None, 0)
"""


async def test_members_share_sysv_segments_and_dev_shm(lab: Lab) -> None:
    made = await lab.sandbox()
    write = SEGMENT % "0o1600" + 'ctypes.memmove(address, b"from a", 7)\n'
    read = SEGMENT % "0" + "print(ctypes.string_at(address).decode())\n"
    said, ended = await run(lab, made.handle, f"echo shm > /dev/shm/note; {sys.executable} -c '{write}'")
    assert (said, ended.code) == ("", 0)
    said, _ = await run(lab, made.handle, f"cat /dev/shm/note; {sys.executable} -c '{read}'")
    assert said == "shm\nfrom a\n"
    stranger = await lab.sandbox()
    said, _ = await run(lab, stranger.handle, f"ls /dev/shm; {sys.executable} -c '{read}'")
    assert said.endswith("no segment\n")
    assert not Path("/dev/shm/note").exists()


async def test_dev_shm_has_the_size_that_was_asked_for(lab: Lab) -> None:
    made = await lab.sandbox(shm_size_bytes=1 << 20)
    said, _ = await run(lab, made.handle, "df -k --output=size /dev/shm | tail -1")
    assert said.split() == ["1024"]


async def test_shared_pids_are_seen_and_orphans_are_reaped(lab: Lab) -> None:
    made = await lab.sandbox(namespaces=NamespaceScopes(pid="pod"))
    await lab.started(made.handle, Act("exec sleep 4711"))
    script = "(setsid sh -c 'exec sleep 0.01' &); for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.02; done; ps -eo stat,args"
    said, _ = await run(lab, made.handle, script)
    assert "sleep 4711" in said
    assert not [line for line in said.splitlines() if line.startswith("Z")]


async def test_hostname_and_sysctls_are_the_pods(lab: Lab) -> None:
    asked = {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net/ipv4/conf/lo/rp_filter": "2",
        "kernel.shm_rmid_forced": "1",
        "kernel.msgmax": "4711",
        "kernel.sem": "251\t32001\t33\t129",
        "fs.mqueue.msg_max": "11",
    }
    files = {f"/proc/sys/{name.replace('.', '/')}": value for name, value in asked.items()}
    before = {path: Path(path).read_text() for path in files}
    made = await lab.sandbox(hostname="web-0", sysctls={n: v.replace("\t", " ") for n, v in asked.items()})
    said, _ = await run(lab, made.handle, f"hostname; cat {' '.join(files)}")
    assert said.splitlines() == ["web-0", *asked.values()]
    assert {path: Path(path).read_text() for path in files} == before
    assert os.uname().nodename != "web-0"


# ---- limits ----------------------------------------------------------------------------------------------------------

FILES = {
    "memory": {2: {"memory.max": "67108864"}, 1: {"memory.limit_in_bytes": "67108864"}},
    "pids": {2: {"pids.max": "77"}, 1: {"pids.max": "77"}},
    "cpu": {2: {"cpu.max": "50000 100000"}, 1: {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}},
}


async def test_limits_are_in_the_kernels_files(lab: Lab) -> None:
    limits = Limits(memory_bytes=64 << 20, pids=77, cpu_quota_us=50_000)
    made = await lab.sandbox(limits=limits)
    container = await lab.started(made.handle, limits=limits)
    own = {
        controller: line.split(":")[2]
        for line in Path(f"/proc/{await pid_of(lab, container)}/cgroup").read_text().splitlines()
        for controller in line.split(":")[1].split(",")
    }
    for controller, files in FILES.items():
        hierarchy = Layout.detect().of(controller)
        if hierarchy is None:
            continue
        group = own[controller if hierarchy.version == 1 else ""]
        assert group == f"/{made.cgroup}/{container.id}"
        for level in (group, f"/{made.cgroup}"):
            for name, value in files[hierarchy.version].items():
                assert Path(f"{hierarchy.mount}{level}/{name}").read_text().strip() == value


async def test_who_takes_too_much_memory_is_killed_and_it_is_told(lab: Lab) -> None:
    made = await lab.sandbox()
    script = f"exec {sys.executable} -c 'x = bytearray(256 << 20)'"
    hungry = await lab.started(made.handle, Act(script), limits=Limits(memory_bytes=32 << 20))
    ended = await lab.driver.wait_container(hungry)
    assert (ended.code, ended.signal, ended.oom_killed) == (137, 9, True)


async def test_who_forks_too_much_cannot(lab: Lab) -> None:
    made = await lab.sandbox(limits=Limits(pids=20))
    said, _ = await run(
        lab, made.handle, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 9 & done"
    )
    assert "fork" in said


# ---- how little it may -----------------------------------------------------------------------------------------------


def status(text: str) -> Mapping[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def mask(*names: str) -> int:
    return capabilities.mask_of(names) & capabilities.bounding_set()


RIGHTS: dict[str, tuple[Security, Mapping[str, object]]] = {
    "default": (
        Security(),
        {"CapEff": capabilities.DEFAULT, "CapInh": 0, "CapAmb": 0, "NoNewPrivs": "0", "Seccomp": "2"},
    ),
    "drop all": (Security(capabilities_drop=("ALL",)), {"CapEff": 0, "CapBnd": 0, "CapPrm": 0, "Seccomp": "2"}),
    "drop all, add": (
        Security(capabilities_drop=("ALL",), capabilities_add=("NET_BIND_SERVICE",)),
        {"CapEff": mask("NET_BIND_SERVICE"), "CapBnd": mask("NET_BIND_SERVICE")},
    ),
    "no new privileges": (Security(no_new_privileges=True), {"NoNewPrivs": "1"}),
    "unconfined": (Security(seccomp="unconfined"), {"Seccomp": "0", "CapEff": capabilities.DEFAULT}),
    "user": (
        Security(uid=1000, gid=2000, supplemental_groups=(3000, 3001)),
        {"Uid": "1000\t1000\t1000\t1000", "Gid": "2000\t2000\t2000\t2000", "CapEff": 0, "CapBnd": capabilities.DEFAULT},
    ),
    "privileged": (
        Security(privileged=True),
        {"CapEff": capabilities.ALL & capabilities.bounding_set() if os.geteuid() == 0 else 0, "Seccomp": "0"},
    ),
}


@pytest.mark.parametrize(("security", "expected"), RIGHTS.values(), ids=RIGHTS)
async def test_rights(lab: Lab, security: Security, expected: Mapping[str, object]) -> None:
    made = await lab.sandbox()
    container = await lab.started(made.handle, FOREVER, security=security)
    found = status(Path(f"/proc/{await pid_of(lab, container)}/status").read_text())
    for key, value in expected.items():
        assert (int(found[key], 16) if isinstance(value, int) else found[key]) == value, key
    if security.supplemental_groups:
        assert {"3000", "3001"} <= set(found["Groups"].split())


async def test_environment_holds_what_was_asked_for_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODD_SECRET", "of the daemon")
    made = await lab.sandbox()
    first, _ = await run(lab, made.handle, "env", env=(("FIRST", "1"),))
    second, _ = await run(lab, made.handle, "env", env=(("SECOND", "2"),))
    assert "FIRST=1" in first
    assert "SECOND=2" in second
    assert "FIRST" not in second
    assert "PODD_SECRET" not in first + second


READ_ONLY = Security(read_only_rootfs=True)
UNMASKED = Security(unmasked_proc=True)
PATHS = [
    (Security(), "cat /proc/kcore /proc/keys 2> /dev/null | head -c 10", ""),
    (Security(), "echo 1 > /proc/sys/kernel/panic", "Read-only file system"),
    (Security(), "echo x > /podd-probe && echo made", "made"),
    (READ_ONLY, "echo x > /podd-probe", "Read-only file system"),
    (UNMASKED, "head -c 1 /proc/interrupts | wc -c", "1"),
]


@pytest.mark.parametrize(("security", "script", "expected"), PATHS)
async def test_paths(lab: Lab, security: Security, script: str, expected: str) -> None:
    made = await lab.sandbox()
    said, _ = await run(lab, made.handle, script, security=security)
    assert (expected in said) if expected else (said == "")
    assert not Path("/podd-probe").exists()


async def test_log_is_written_in_the_format_of_the_cri(lab: Lab, paths: DriverPaths) -> None:
    made = await lab.sandbox(log_directory=f"{paths.log_dir}/pod")
    log_path = f"{paths.log_dir}/pod/web.log"
    container = await lab.started(made.handle, Act("echo out; echo err >&2; printf rest"), log_path=log_path)
    await lab.driver.wait_container(container)
    await lab.driver.destroy_sandbox(made.handle.id)  # type: ignore[arg-type]
    lines = [line.split(" ", 3)[1:] for line in Path(log_path).read_text().splitlines()]
    assert sorted(lines) == [["stderr", "F", "err"], ["stdout", "F", "out"], ["stdout", "P", "rest"]]


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], type[PoddError], str]] = {
    "an image that is not here": ({"image": "docker.io/library/nginx"}, NotFound, "podd-cli image pull"),
    "a relative directory": ({"image": "rootfs:some/where"}, Invalid, "not an absolute path"),
    "a directory that is not there": ({"image": "rootfs:/no/such/directory"}, Invalid, "/no/such/directory"),
    "no command": ({"command": (), "args": ()}, Invalid, "set command"),
    "an unknown capability": (
        {"security": Security(capabilities_add=("NET_ADMN",))},
        Invalid,
        "did you mean NET_ADMIN",
    ),
    "root that must not be": ({"security": Security(run_as_non_root=True)}, Invalid, "runAsNonRoot"),
    "a profile that is not there": (
        {"security": Security(seccomp="localhost//no/such.json")},
        Invalid,
        "/no/such.json",
    ),
    "a NUL in a word": ({"command": ("a\0b",)}, Invalid, "NUL"),
    "a variable without a name": ({"env": (("", "x"),)}, Invalid, "name of a variable"),
}


@pytest.mark.parametrize(("given", "kind", "words"), REFUSED.values(), ids=REFUSED)
async def test_refused_before_anything_is_made(
    lab: Lab, given: dict[str, Any], kind: type[PoddError], words: str
) -> None:
    made = await lab.sandbox()
    config = msgspec.structs.replace(lab.container_config(made.handle), **given)
    with pytest.raises(kind) as refused:
        await lab.driver.create_container(made.handle, config)
    assert words in str(refused.value)
    (mine,) = await lab.driver.owned()
    assert not mine.containers


async def test_one_that_cannot_be_made_lets_no_other_run(lab: Lab) -> None:
    """As the engine does it: three are asked for at once, one is refused, all is undone, and none has run."""
    made = await lab.sandbox()
    acts = [Act(f"echo ran > {SHARED}/{n}") for n in range(2)]
    with pytest.raises(BaseExceptionGroup) as group:
        await together(
            [
                *(lambda act=act: lab.created(made.handle, act) for act in acts),
                lambda: lab.created(made.handle, FOREVER, security=Security(run_as_non_root=True)),
            ]
        )
    assert group.group_contains(Invalid)
    await lab.driver.destroy_sandbox(made.handle.id)  # type: ignore[arg-type]
    assert os.listdir(lab.shared) == []


async def test_exits_are_told_in_order_and_once(lab: Lab) -> None:
    made = await lab.sandbox()
    ends: list[int] = []

    async def wait(container: Handle) -> None:
        ends.append((await lab.driver.wait_container(container)).code)

    containers = [(await lab.created(made.handle, Act(f"exit {code}"))).handle for code in (3, 4, 5)]
    async with anyio.create_task_group() as tasks:
        for container in containers:
            tasks.start_soon(wait, container)
        await lab.driver.start_containers(containers)
    assert sorted(ends) == [3, 4, 5]
    assert json.dumps([container.state for container in containers])
