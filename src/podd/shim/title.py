"""The name of a process, as ps and top show it."""

from __future__ import annotations

import os


class Title:
    """Found once, by whoever was started by exec, and set by it and its forks.

    Source of the place of the arguments: proc_pid_stat(5), fields 48 and 49.
    """

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        self._start = int(fields[45])
        self._room = int(fields[46]) - self._start

    def set(self, comm: str, command_line: str) -> None:
        """comm: cut to 15 bytes. command_line: cut to the length of the arguments that the process began with."""
        text = command_line.encode()[: self._room - 1].ljust(self._room, b"\0")
        for path, place, data in (("/proc/self/comm", 0, comm.encode()[:15]), ("/proc/self/mem", self._start, text)):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            if place:
                os.lseek(fd, place, os.SEEK_SET)
            os.write(fd, data)
            os.close(fd)
