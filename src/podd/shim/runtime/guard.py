"""What kills a pod's containers when their shim is killed.

A container that the shim makes itself asks the kernel to be killed with its parent. A runtime does not ask that for
those that it makes. So a process of a few pages waits at a pipe of which the keeper alone has the other end, and when
that closes, however that comes, kills the pod's group at once.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from podd.linux.script import ANY, Script
from podd.linux.spawn import spawn
from podd.linux.syscalls import Prctl
from podd.shim import credentials

if TYPE_CHECKING:
    from podd.shim.container import Pod

NAME = b"podd-guard"
PIPE = "guard"
_LAST_FD = 2**32 - 1


def post(pod: Pod) -> int | None:
    """Have one, as a child of the keeper; its pid. None: this kernel kills no group at once, so podd has to."""
    kill = pod.group.open_kill()
    if kill is None:
        return None
    waits, held = os.pipe2(os.O_CLOEXEC)
    script = Script(waits)
    script.doing("guard")
    script.call("prctl", Prctl.SET_NAME, NAME)
    credentials.default_signals(script)
    script.call("setsid")
    first, second = sorted((waits, kill))
    for low, high in ((3, first - 1), (first + 1, second - 1), (second + 1, _LAST_FD)):
        script.call("close_range", low, high, 0, least=ANY)  # of no descriptors: an error that does no harm
    script.call("read", waits, bytes(1), 1, least=ANY)
    script.call("write", kill, b"1", 1, least=ANY)
    script.call("exit_group", 0)
    try:
        pid = spawn(script, {waits, kill}, sibling=True)
        pod.keeping.keep(PIPE, held)
    finally:
        os.close(kill)
        os.close(waits)
    pod.keeping.add_child(pid)
    return pid
