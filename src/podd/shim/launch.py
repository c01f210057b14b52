"""For the daemon's side: start the zygote, from an executable that no container can ever write to.

A container can open the program that a process runs, by /proc/PID/exe or by a script whose interpreter is
/proc/self/exe, and overwrite it once nobody runs it any more: so runc was replaced by its containers (CVE-2019-5736).
The zygote, and with it every shim and every held container, therefore runs the interpreter through a mount that cannot
be made writable: an overlay without an upper layer, attached nowhere. Where the kernel refuses that, it runs a sealed
copy in memory.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import tempfile

import podd
from podd.linux.mounts import filesystem

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(podd.__file__)))
_CODE = "import sys; sys.path.insert(0, {root!r}); from podd.shim.zygote import main; main({channel})"


def launch() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a zygote. Returns its channel and its process, both owned by the caller; closing the channel ends it.

    Takes about as long as an interpreter takes to start, in the background: the first answer comes when it is warm.
    Its stderr is the caller's; it is written to only by a crash.
    """
    ours, theirs = socket.socketpair()
    executable = open_protected(os.path.realpath(sys.executable))
    try:
        process = subprocess.Popen(
            # argv[0] is what the interpreter finds its library by; the executable's own path leads nowhere.
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", _CODE.format(root=_ROOT, channel=theirs.fileno())],
            executable=f"/proc/{os.getpid()}/fd/{executable}",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={},
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(executable)
    return ours, process


def open_protected(path: str) -> int:
    """A descriptor, owned by the caller, that executes as path does and through which path cannot be written."""
    try:
        return _through_overlay(path)
    except OSError:
        return _sealed_copy(path)


def _through_overlay(path: str) -> int:
    """Raises OSError: the kernel cannot, or may not, mount it."""
    directory, name = os.path.split(path)
    with tempfile.TemporaryDirectory(prefix="podd-") as second:  # an overlay that is never written wants two layers
        mount = filesystem("overlay", {"lowerdir": f"{_escaped(directory)}:{_escaped(second)}"})
    try:
        return os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _sealed_copy(path: str) -> int:
    with open(path, "rb") as source:
        copy = os.memfd_create("podd-zygote", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            while os.sendfile(copy, source.fileno(), None, 1 << 24):
                pass
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
        except BaseException:
            os.close(copy)
            raise
    return copy
