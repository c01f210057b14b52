"""Running CNI plugins: programs that are told by environment and standard input, and answer on standard output."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import anyio
import structlog
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from podd.errors import Unavailable
from podd.network import call, result
from podd.network.call import Attachment
from podd.network.conflist import Network, Plugin

log = structlog.get_logger(__name__)

MAX_ANSWER = 1024 * 1024
MAX_WORDS = 64 * 1024
END_S = 3.0
"""How long a plugin that nobody waits for any more may go on: one that is killed between two of its steps may leave
what it cannot find again."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Plugins:
    def __init__(self, directories: Sequence[str]) -> None:
        """directories: where plugins are looked for, in order."""
        self._directories = directories

    def find(self, kind: str) -> str:
        """Its path. Blocks. Raises Unavailable: there is none."""
        for directory in self._directories:
            path = f"{directory}/{kind}"
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
        raise Unavailable(
            f"CNI plugin {kind}: not found in {', '.join(self._directories)}",
            remedy="install it (Debian: containernetworking-plugins), or set network.bin_dirs in podd.toml",
        )

    async def run(
        self,
        command: str,
        network: Network,
        plugin: Plugin,
        made: Attachment | None = None,
        netns: str = "",
        **more: Any,
    ) -> bytes:
        """Have a plugin do a command; what it has printed. more: beside the plugin's configuration, as call.stdin.

        Cancelled: the plugin may end what it does for a moment, then it is killed with all that it has started.
        Raises Unavailable, Unsupported: it is not there, or it has failed.
        """
        path = await anyio.to_thread.run_sync(self.find, plugin.type)
        told = call.environment(command, self._directories, made, netns)
        began = anyio.current_time()
        done = await _run(path, told, call.stdin(network, plugin, made, **more))
        took_ms = round((anyio.current_time() - began) * 1000, 1)
        about = {"network": network.name, **({"sandbox": made.sandbox} if made is not None else {})}
        log.debug("plugin.called", plugin=plugin.type, command=command, **about, status=done.status, took_ms=took_ms)
        if done.status:
            raise result.refusal(plugin.type, command, done.stdout, done.stderr, done.status)
        if len(done.stdout) > MAX_ANSWER:
            raise Unavailable(f"CNI plugin {plugin.type}: {command}: it printed more than {MAX_ANSWER} bytes")
        return done.stdout


class _Done(NamedTuple):
    status: int
    stdout: bytes  # of one that prints more than it may, one byte more than that
    stderr: bytes


async def _run(path: str, told: dict[str, str], stdin: bytes) -> _Done:
    environment = {"PATH": os.environ.get("PATH", _PATH), **told}
    try:
        with anyio.CancelScope(shield=True):  # else what has begun is killed, and pipes are left open
            process = await anyio.open_process(
                [path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
    except OSError as exc:
        raise Unavailable(f"{path}: cannot be started: {exc.strerror}") from exc
    try:
        return await _talk(process, stdin)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


async def _talk(process: Process, stdin: bytes) -> _Done:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    answer, words = bytearray(), bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell, process.stdin, stdin)
        tasks.start_soon(_read, process.stdout, answer, MAX_ANSWER + 1)
        tasks.start_soon(_read, process.stderr, words, MAX_WORDS)
        status = await process.wait()
    return _Done(status, bytes(answer), bytes(words))


async def _tell(stream: ByteSendStream, text: bytes) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # it has ended, or does not want to know
        await stream.send(text)
        await stream.aclose()


async def _read(stream: ByteReceiveStream, into: bytearray, limit: int) -> None:
    """To the end, keeping the first of it."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            into += (await stream.receive())[: limit - len(into)]


async def _end(process: Process) -> None:
    if process.returncode is None:
        with anyio.move_on_after(END_S):
            await process.wait()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its session is its own
        await process.wait()
    await process.aclose()
