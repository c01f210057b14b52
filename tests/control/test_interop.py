"""Clients that podd did not write: the varlink command and asyncvarlink."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Literal, TypedDict

import pytest
from asyncvarlink import FileDescriptor, VarlinkInterface, varlinkmethod
from asyncvarlink.clientprotocol import VarlinkClientProtocol
from asyncvarlink.error import VarlinkErrorReply
from asyncvarlink.serviceinterface import InterfaceNotFound, VarlinkServiceInterface
from asyncvarlink.util import connect_unix_varlink

from control.harness import Running, open_descriptors, settled
from podd.control.service import interface_text

# ---- the varlink command


def varlink(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "varlink.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_varlink_info(podd: Running) -> None:
    done = varlink("info", f"unix:{podd.path}")
    assert done.returncode == 0, done.stderr
    assert "Product: podd" in done.stdout
    assert "io.podd" in done.stdout


def test_varlink_help(podd: Running) -> None:
    done = varlink("help", f"unix:{podd.path}/io.podd")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == interface_text().strip()


def test_varlink_call(podd: Running) -> None:
    done = varlink("call", f"unix:{podd.path}/io.podd.Get", json.dumps({"name": "web"}))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pod"]["metadata"]["name"] == "web"


def test_varlink_call_more(podd: Running) -> None:
    done = varlink("call", "-m", f"unix:{podd.path}/io.podd.Apply", json.dumps({"manifest": "x"}))
    assert done.returncode == 0, done.stderr
    assert '"Pending"' in done.stdout
    assert '"amended"' in done.stdout


def test_varlink_call_refused(podd: Running) -> None:
    done = varlink("call", f"unix:{podd.path}/io.podd.Get", json.dumps({"name": "nope"}))
    assert "pod nope: not found" in done.stderr  # its exit status is 0 all the same


# ---- asyncvarlink, with stubs as an independent reader of the interface would write them


class Change(TypedDict):
    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED"]
    pod: Any


class Attached(TypedDict):
    fd: FileDescriptor
    container: str
    tty: bool


class Executed(TypedDict):
    exec_id: str
    master_fd: FileDescriptor | None
    exit_code: int | None
    signal: int | None


class Podd(VarlinkInterface, name="io.podd"):
    @varlinkmethod(return_parameter="pod", allow_foreign=True)
    def Get(self, *, name: str) -> Any:  # noqa: N802
        raise NotImplementedError

    @varlinkmethod
    def Fetch(self, *, name: str) -> None:  # noqa: N802
        raise NotImplementedError

    @varlinkmethod(allow_foreign=True)
    def Watch(self) -> Iterator[Change]:  # noqa: N802
        raise NotImplementedError

    @varlinkmethod
    def Attach(self, *, name: str) -> Attached:  # noqa: N802
        raise NotImplementedError

    @varlinkmethod
    def Exec(  # noqa: N802
        self,
        *,
        name: str,
        argv: list[str],
        stdin_fd: FileDescriptor,
        stdout_fd: FileDescriptor,
        stderr_fd: FileDescriptor,
    ) -> Iterator[Executed]:
        raise NotImplementedError


def converse(path: str, talk: Callable[[Any, Any], Awaitable[None]]) -> None:
    """talk(podd, service), each a proxy of its interface, on one connection."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[VarlinkClientProtocol]:
        transport, protocol = await connect_unix_varlink(VarlinkClientProtocol, path)
        try:
            yield protocol
        finally:
            transport.close()
            await transport.closed_future

    async def main() -> None:
        async with asyncio.timeout(20), connected() as protocol:
            await talk(protocol.make_proxy(Podd), protocol.make_proxy(VarlinkServiceInterface))

    asyncio.run(main())


def test_asyncvarlink_introspects(podd: Running) -> None:
    async def talk(_: Any, service: Any) -> None:
        info = await service.GetInfo()
        assert info["interfaces"] == ["org.varlink.service", "io.podd"]
        described = await service.GetInterfaceDescription(interface="io.podd")
        assert described["description"] == interface_text()
        with pytest.raises(InterfaceNotFound):
            await service.GetInterfaceDescription(interface="io.nope")

    converse(podd.path, talk)


def test_asyncvarlink_calls_and_is_refused(podd: Running) -> None:
    async def talk(proxy: Any, _: Any) -> None:
        assert (await proxy.Get(name="web"))["pod"]["metadata"]["name"] == "web"
        for method, error in ((proxy.Get, "io.podd.NotFound"), (proxy.Fetch, "org.varlink.service.MethodNotFound")):
            with pytest.raises(VarlinkErrorReply) as refused:
                await method(name="nope")
            assert refused.value.name == error

    converse(podd.path, talk)


def test_asyncvarlink_watches_and_leaves(podd: Running) -> None:
    async def talk(proxy: Any, _: Any) -> None:
        seen = []
        async with aclosing(proxy.Watch()) as changes:
            async for change in changes:
                seen.append(change["type"])
                if seen[-1] == "SYNCED":
                    break
        assert seen == ["ADDED", "ADDED", "SYNCED"]

    converse(podd.path, talk)
    assert podd.engine.mark.left.wait(5)


def test_asyncvarlink_passes_descriptors_both_ways(podd: Running) -> None:
    before = open_descriptors()
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)

    async def talk(proxy: Any, _: Any) -> None:
        replies = []
        nothing, output = FileDescriptor(null), FileDescriptor(writer)
        stdio = {"stdin_fd": nothing, "stdout_fd": output, "stderr_fd": nothing}  # it sends two, and names one twice
        async with aclosing(proxy.Exec(name="web", argv=["x"], **stdio)) as executed:
            async for reply in executed:
                with reply as each:
                    replies.append((each["exec_id"], each["exit_code"]))
        assert replies == [("x1", None), ("x1", 137)]
        with await proxy.Attach(name="web") as attached:
            assert os.read(attached["fd"].fileno(), 100) == b"attached"

    converse(podd.path, talk)
    os.close(writer)
    assert os.read(reader, 100) == b"hello"
    assert os.read(reader, 100) == b""
    os.close(reader)
    os.close(null)
    assert settled(before)
