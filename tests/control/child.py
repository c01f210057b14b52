"""python -m control.child SOCKET [DESCRIPTORS]: a server in a process of its own. "ready" on stdout when it serves."""

from __future__ import annotations

import resource
import socket
import sys

import anyio

from control.fakes import FakeEngine
from podd.control.server import serve
from podd.control.service import make_service


async def main(path: str, descriptors: int) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(4096)
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve, [listener], make_service(FakeEngine("web")))
            if descriptors:  # after the start, so that the server could not reckon with it
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
            print("ready", flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
