"""The driver contract's tests of optional powers: each that is declared is proved. See podd.testing.contract."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
import msgspec
import pytest

from podd.driver.contract import (
    CanAttach,
    CanConnect,
    CanExec,
    CanInspect,
    CanPause,
    CanStats,
    CgroupNode,
    ExecRequest,
    Limits,
    NamespaceScopes,
    SandboxCreated,
)
from podd.driver.plugins import missing_powers
from podd.errors import Conflict, Invalid, NotFound
from podd.model.ids import SandboxId
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import FOREVER, SHARED, Act, Lab, exits, needs, needs_processes

STDOUT, STDERR = 1, 2
COUNTS = Act(f"n=0; while :; do n=$((n+1)); echo $n > {SHARED}/n.new; mv {SHARED}/n.new {SHARED}/n; done")
ECHOES = Act("while read line; do echo out:$line; echo err:$line >&2; done")


class Powers:
    """Mixed into DriverContract."""

    async def test_what_is_declared_has_methods(self, lab: Lab) -> None:
        assert missing_powers(lab.driver) == []

    # ---- exec

    async def test_exec_gives_its_exit(self: Any, lab: Lab) -> None:
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        with _output() as (read, write):
            script = "echo $GREETING; cat; exit 7"
            request = ExecRequest(argv=("sh", "-c", script), env=(("GREETING", "hello"),))
            with _input(b"typed\n") as stdin:
                exec_id, terminal = await driver.exec_start(container, request, (stdin, write, write))
            assert terminal is None
            ended = await driver.exec_wait(container, exec_id)
            assert (ended.code, ended.signal) == (7, 0)
            assert os.read(read, 100) == b"hello\ntyped\n"
        assert (await driver.exec_wait(container, exec_id)).code == 7
        await driver.exec_kill(container, exec_id)

    async def test_exec_with_a_terminal(self: Any, lab: Lab) -> None:
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        script = 'test -t 0 && test -t 1 && test "$(stty size)" = "33 99" && exit 7'
        request = ExecRequest(argv=("sh", "-c", script), tty=True, terminal_size=(33, 99))
        exec_id, terminal = await driver.exec_start(container, request, ())
        assert terminal is not None
        with contextlib.closing(os.fdopen(terminal, "rb", buffering=0)):
            assert (await driver.exec_wait(container, exec_id)).code == 7

    async def test_exec_that_cannot_be(self: Any, lab: Lab) -> None:
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        held = (await lab.created(made.handle)).handle
        ended = await lab.started(made.handle, exits(0))
        await lab.driver.wait_container(ended)
        with _null() as null:
            with pytest.raises(Invalid, match="no-such-command"):
                await driver.exec_start(container, ExecRequest(argv=("no-such-command",)), (null,) * 3)
            for one in (held, ended):
                with pytest.raises(Conflict):
                    await driver.exec_start(one, ExecRequest(argv=("true",)), (null,) * 3)
        with pytest.raises(NotFound):
            await driver.exec_wait(container, "no-such-exec")

    async def test_exec_kill_and_exec_ends_with_its_container(self: Any, lab: Lab) -> None:
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        with _null() as null:
            execs = [
                (await driver.exec_start(container, ExecRequest(argv=("sleep", "3600")), (null,) * 3))[0]
                for _ in range(2)
            ]
        await driver.exec_kill(container, execs[0])
        assert (await driver.exec_wait(container, execs[0])).signal == 9
        await lab.driver.signal_containers([container], 9)
        assert (await driver.exec_wait(container, execs[1])).signal == 9

    async def test_a_bound_exec_ends_with_podd(self: Any, lab: Lab) -> None:
        needs_processes(self)
        needs(lab, "outlives_podd")
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        read, write = os.pipe2(os.O_CLOEXEC)
        with _null() as null:
            request = ExecRequest(argv=("sleep", "3600"), bound=True)
            await driver.exec_start(container, request, (null, write, write))
        os.close(write)
        async with lab.away():
            pass
        await lab.driver.recover(made.handle, [container])
        with anyio.fail_after(10):  # it holds the other end of the pipe as long as it runs
            await anyio.wait_readable(read)
        os.close(read)

    async def test_exec_cancelled_anywhere_leaves_no_descriptor(self: Any, lab: Lab) -> None:
        driver = _exec_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle)
        request = ExecRequest(argv=("sleep", "3600"), tty=True)

        async def run() -> None:
            exec_id, terminal = await driver.exec_start(container, request, ())
            assert terminal is not None
            os.close(terminal)
            await driver.exec_kill(container, exec_id)

        async for _ in cancelled_everywhere(run):
            pass

    # ---- attach

    async def test_attach_carries_both_streams_and_input(self: Any, lab: Lab) -> None:
        driver = _attach_driver(self, lab)
        made = await lab.sandbox()
        container = (await lab.created(made.handle, ECHOES, stdin=True, stdin_once=True)).handle
        sock = await driver.attach(container, stdin=True)
        try:
            await lab.driver.start_containers([container])
            os.write(sock, _frame(0, b"hello\n"))
            got = {STDOUT: b"", STDERR: b""}
            with anyio.fail_after(10):
                async with contextlib.aclosing(_frames(sock)) as frames:
                    async for stream, payload in frames:
                        got[stream] += payload
                        if got == {STDOUT: b"out:hello\n", STDERR: b"err:hello\n"}:
                            os.write(sock, _frame(0, b""))  # end of input
            assert (await lab.driver.wait_container(container)).code == 0
            assert got == {STDOUT: b"out:hello\n", STDERR: b"err:hello\n"}
        finally:
            os.close(sock)

    async def test_attach_and_detach_leave_the_container_alone(self: Any, lab: Lab) -> None:
        driver = _attach_driver(self, lab)
        made = await lab.sandbox()
        container = await lab.started(made.handle, COUNTS)
        for _ in range(3):
            os.close(await driver.attach(container, stdin=False))
        before = int(await lab.seen("n"))
        await _until_more(lab, before)

    # ---- pause

    async def test_pause_stops_every_process_and_resume_lets_them_go_on(self: Any, lab: Lab) -> None:
        needs(lab, "pause")
        driver = lab.driver
        assert isinstance(driver, CanPause)
        made = await lab.sandbox()
        await lab.started(made.handle, COUNTS)
        await driver.pause(made.handle)
        await driver.pause(made.handle)
        assert (await lab.driver.sandbox_status(made.handle)).paused
        if self.real_processes:
            # Between the two there is time enough for thousands of steps.
            before = (lab.shared / "n").read_text() if (lab.shared / "n").exists() else ""
            await anyio.sleep(0.05)
            assert before == ((lab.shared / "n").read_text() if (lab.shared / "n").exists() else "")
        await driver.resume(made.handle)
        await driver.resume(made.handle)
        assert not (await lab.driver.sandbox_status(made.handle)).paused
        if self.real_processes:
            await _until_more(lab, int(before or 0))

    async def test_pause_and_resume_cancelled_anywhere(self: Any, lab: Lab) -> None:
        needs(lab, "pause")
        driver = lab.driver
        assert isinstance(driver, CanPause)
        made = await lab.sandbox()
        await lab.started(made.handle, FOREVER)
        async for _ in cancelled_everywhere(lambda: driver.pause(made.handle)):
            pass
        await driver.pause(made.handle)
        assert (await lab.driver.sandbox_status(made.handle)).paused
        async for _ in cancelled_everywhere(lambda: driver.resume(made.handle)):
            pass
        await driver.resume(made.handle)
        assert not (await lab.driver.sandbox_status(made.handle)).paused

    async def test_a_paused_sandbox_can_be_destroyed(self, lab: Lab) -> None:
        needs(lab, "pause")
        driver = lab.driver
        assert isinstance(driver, CanPause)
        made = await lab.sandbox()
        await lab.started(made.handle, FOREVER)
        await driver.pause(made.handle)
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))

    # ---- connect

    async def test_a_socket_is_of_the_sandbox_and_of_no_other(self: Any, lab: Lab) -> None:
        driver = _connect_driver(lab)
        here, elsewhere = await lab.sandbox(), await lab.sandbox()
        with await _opened(driver, here) as server, await _opened(driver, here) as client:
            assert client.type is socket.SOCK_STREAM
            assert not os.get_blocking(client.fileno())
            assert not client.get_inheritable()
            server.bind(("127.0.0.1", 0))
            server.listen()
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
            await anyio.wait_writable(client)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            if self.real_processes:
                assert _network_of(client) == here.observed.namespaces["net"]
                with await _opened(driver, elsewhere) as stranger:
                    assert _network_of(stranger) == elsewhere.observed.namespaces["net"]
        networks = {os.stat(f"/proc/self/task/{thread}/ns/net").st_ino for thread in os.listdir("/proc/self/task")}
        assert len(networks) == 1, "a thread of podd has stayed in a sandbox's network"

    async def test_a_socket_of_each_family_and_kind(self, lab: Lab) -> None:
        driver = _connect_driver(lab)
        made = await lab.sandbox()
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with await _opened(driver, made, family, kind) as one:
                    assert (one.family, one.type) == (family, kind)

    async def test_a_socket_of_a_sandbox_without_a_network_of_its_own(self: Any, lab: Lab) -> None:
        driver = _connect_driver(lab)
        needs_processes(self)
        made = await lab.sandbox(namespaces=NamespaceScopes(net="node"))
        with await _opened(driver, made) as one:
            assert _network_of(one) == os.stat("/proc/self/ns/net").st_ino

    async def test_a_socket_after_a_restart_of_podd(self: Any, lab: Lab) -> None:
        made = await lab.sandbox()
        _connect_driver(lab)
        async with lab.away():
            pass
        (found,) = [one for one in await lab.driver.owned() if one.sandbox_id == made.handle.id]
        for handle in (made.handle, found.handle):
            assert handle is not None
            await lab.driver.recover(handle, ())
            with await _opened(_connect_driver(lab), msgspec.structs.replace(made, handle=handle)) as one:
                assert not self.real_processes or _network_of(one) == made.observed.namespaces["net"]

    async def test_no_socket_of_what_is_gone(self, lab: Lab) -> None:
        driver = _connect_driver(lab)
        made = await lab.sandbox()
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        with pytest.raises(NotFound):
            await _opened(driver, made)

    async def test_open_socket_cancelled_anywhere_leaves_no_descriptor(self, lab: Lab) -> None:
        driver = _connect_driver(lab)
        made = await lab.sandbox()

        async def run() -> None:
            (await _opened(driver, made)).close()

        async for _ in cancelled_everywhere(run):
            pass

    # ---- stats

    async def test_usage_counts_what_is_used(self: Any, lab: Lab) -> None:
        needs(lab, "stats")
        driver = lab.driver
        assert isinstance(driver, CanStats)
        made = await lab.sandbox(limits=Limits(pids=100))
        busy = await lab.started(made.handle, COUNTS, limits=Limits(memory_bytes=64 << 20))
        held = (await lab.created(made.handle)).handle
        if self.real_processes:
            await lab.seen("n")
        usage = await driver.usage(made.handle, [busy, held])
        assert set(usage.containers) == {busy.id, held.id}
        mine = usage.containers[busy.id]
        for value in (mine.cpu_usage_ns, mine.memory_usage_bytes, mine.memory_working_set_bytes, mine.pids):
            assert value is not None
        assert mine.memory_limit_bytes == 64 << 20
        assert usage.pod.pids_limit == 100
        assert usage.pod.pids is not None
        assert usage.pod.pids >= 1
        if self.real_processes:
            assert min(mine.memory_usage_bytes or 0, usage.pod.memory_usage_bytes or 0) > 0
            later = await driver.usage(made.handle, [busy, held])  # the pod may have been looked at before its members
            assert (later.pod.cpu_usage_ns or 0) >= (mine.cpu_usage_ns or 0) > 0

    async def test_usage_of_what_is_gone_is_not_found(self, lab: Lab) -> None:
        needs(lab, "stats")
        driver = lab.driver
        assert isinstance(driver, CanStats)
        made = await lab.sandbox()
        await lab.driver.destroy_sandbox(SandboxId(made.handle.id))
        with pytest.raises(NotFound):
            await driver.usage(made.handle, [])

    # ---- inspect

    async def test_namespaces_and_cgroups_are_as_observed(self, lab: Lab) -> None:
        driver = lab.driver
        if not isinstance(driver, CanInspect):
            pytest.skip("the driver cannot inspect")
        made = await lab.sandbox()
        created = [await lab.created(made.handle, limits=Limits(pids=50 + n)) for n in range(2)]
        containers = [one.handle for one in created]
        members = [one.observed for one in created]
        if not lab.driver.capabilities.held_start:
            members = [one.observed for one in await lab.driver.start_containers(containers)]
        rows = {(str(row.type), row.inode): row for row in await driver.namespaces(made.handle, containers)}
        for kind, inode in made.observed.namespaces.items():
            assert rows[kind, inode].scope in ("pod", "node")
        for member in members:
            assert member is not None
            for kind in ("mnt", "pid"):
                row = rows[kind, member.namespaces[kind]]
                assert (row.scope, len(row.members), bool(row.pinned_by)) == ("container", 1, True)
        tree = await driver.cgroups(made.handle, containers)
        assert tree.path == made.cgroup
        limits = {node.path: node.limits.pids for node in _nodes(tree)}
        assert [limits[member.cgroup] for member in members if member] == [50, 51]
        assert {pid for node in _nodes(tree) for pid, _ in node.processes} >= {
            (await lab.driver.container_status(one)).pid for one in containers
        }


def _exec_driver(contract: Any, lab: Lab) -> CanExec:
    needs(lab, "exec")
    needs_processes(contract)
    assert isinstance(lab.driver, CanExec)
    return lab.driver


def _attach_driver(contract: Any, lab: Lab) -> CanAttach:
    needs(lab, "attach")
    needs_processes(contract)
    assert isinstance(lab.driver, CanAttach)
    return lab.driver


def _connect_driver(lab: Lab) -> CanConnect:
    needs(lab, "connect")
    assert isinstance(lab.driver, CanConnect)
    return lab.driver


async def _opened(
    driver: CanConnect, made: SandboxCreated, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
) -> socket.socket:
    return socket.socket(fileno=await driver.open_socket(made.handle, family, kind))


def _network_of(one: socket.socket) -> int:
    """The inode of its network namespace, as the kernel knows it. Source: <linux/sockios.h>, SIOCGSKNS."""
    fd = fcntl.ioctl(one, 0x894C)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def _nodes(node: CgroupNode) -> Iterator[CgroupNode]:
    yield node
    for child in node.children:
        yield from _nodes(child)


async def _until_more(lab: Lab, than: int) -> None:
    with anyio.fail_after(10):
        while int(await lab.seen("n")) <= than:  # noqa: ASYNC110 a process tells by a file
            await anyio.sleep(0.002)


# ---- descriptors -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _null() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _output() -> Iterator[tuple[int, int]]:
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def _input(text: bytes) -> Iterator[int]:
    read, write = os.pipe2(os.O_CLOEXEC)
    os.write(write, text)
    os.close(write)
    try:
        yield read
    finally:
        os.close(read)


def _frame(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BI", stream, len(payload)) + payload


async def _frames(sock: int) -> AsyncGenerator[tuple[int, bytes], None]:
    """What comes from an attachment, until its end."""
    os.set_blocking(sock, False)
    buffer = b""
    while True:
        while len(buffer) >= 5:
            stream, size = struct.unpack(">BI", buffer[:5])
            if len(buffer) < 5 + size:
                break
            yield stream, buffer[5 : 5 + size]
            buffer = buffer[5 + size :]
        await anyio.wait_readable(sock)
        data = os.read(sock, 65536)
        if not data:
            return
        buffer += data
