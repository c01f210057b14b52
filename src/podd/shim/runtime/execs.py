"""Further processes in containers that an OCI runtime has made."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from podd.errors import Internal
from podd.shim import stage
from podd.shim.execs import Execs
from podd.shim.files import unlink, write_json
from podd.shim.runtime import config
from podd.shim.runtime.command import Console
from podd.shim.runtime.config import User
from podd.shim.runtime.container import RuntimeContainer

if TYPE_CHECKING:
    from podd.shim.container import Container
    from podd.shim.plan import ExecPlan
    from podd.shim.processes import Child
    from podd.shim.wire import Descriptors


class RuntimeExecs(Execs):
    """See Execs."""

    async def _start(self, container: Container, plan: ExecPlan, fds: Descriptors) -> tuple[Child, int, list[int]]:
        if not isinstance(container, RuntimeContainer):
            raise Internal(f"container {container.id}: it was not made by a runtime")
        names = [f"exec-{plan['id']}.{kind}" for kind in ("json", "pid", "log", "sock")]
        try:
            return await self._exec(container, plan, fds, *names)
        finally:
            for name in names:
                unlink(container.bundle.path(name))

    async def _exec(
        self,
        container: RuntimeContainer,
        plan: ExecPlan,
        fds: Descriptors,
        described: str,
        pid: str,
        log: str,
        socket: str,
    ) -> tuple[Child, int, list[int]]:
        bundle, subject = container.bundle, f"exec in {container.plan['name']}"
        write_json(bundle.path(described), _process(container, plan))
        words = ["exec", "--detach", "--pid-file", bundle.path(pid), "--process", bundle.path(described)]
        console = Console(bundle.directory, socket) if plan["tty"] else None
        try:
            if console is not None:
                words += ["--tty", "--console-socket", socket]
            child = self._launch(container, [*words, container.id], log, fds)
            await container.runtime.finished(child, bundle.path(log), subject)
            process = self._pod.keeping.add_child(bundle.pid(pid))
            return process, time.monotonic_ns(), console.master().take() if console is not None else []
        finally:
            if console is not None:
                console.close()

    def _launch(self, container: RuntimeContainer, words: list[str], log: str, fds: Descriptors) -> Child:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            stdio = list(fds) or [null] * 3
            directory = container.bundle.directory
            pid = container.runtime.spawn(container.bundle.path(log), words, stdio, directory)
            return self._pod.keeping.add_child(pid)
        finally:
            os.close(null)
            fds.close()


def _process(container: RuntimeContainer, plan: ExecPlan) -> dict[str, object]:
    """Raises as `stage.look`: it is known before the runtime is asked whether there is such a command."""
    assert container.process is not None
    found = stage.look(container.plan, plan["argv"], dict(plan["env"]), container.process.pidfd, container.identity)
    variables = stage.environment(container.plan, dict(plan["env"]), found.identity.home, tty=plan["tty"])
    size = plan["terminal_size"] if plan["tty"] else None
    user = User(found.identity, found.capabilities, config.oom_score_adj(container.plan, []))
    return config.process(container.plan, plan["argv"], variables, user, tty=plan["tty"], size=size)
