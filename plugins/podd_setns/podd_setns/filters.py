"""Seccomp programs, compiled in worker threads and kept in the form that plans carry."""

from __future__ import annotations

import base64

import anyio
import structlog

from podd.errors import PoddError
from podd.linux import capabilities, seccomp

log = structlog.get_logger(__name__)

DEFAULT_PROFILE = "runtime/default"


class Filters:
    """Compiling takes some milliseconds, once for each mask of capabilities."""

    def __init__(self) -> None:
        self._defaults: dict[int, str] = {}

    async def program(self, profile: str, mask: int) -> str:
        """Base64 of the program for a container with this mask of capabilities; "" for "unconfined".

        Raises as podd.linux.seccomp.program.
        """
        if profile == "unconfined":
            return ""
        if profile != DEFAULT_PROFILE:  # its file may have changed, which takes a look at the disk
            return await anyio.to_thread.run_sync(_compile, profile, mask)
        if mask not in self._defaults:
            self._defaults[mask] = await anyio.to_thread.run_sync(_compile, profile, mask)
        return self._defaults[mask]

    async def warm(self) -> None:
        """Have the program that most containers get."""
        try:
            await self.program(DEFAULT_PROFILE, capabilities.DEFAULT)
        except PoddError as exc:  # whoever needs it will be told
            log.warning("seccomp.unavailable", error=exc.message, remedy=exc.remedy)


def _compile(profile: str, mask: int) -> str:
    return base64.b64encode(seccomp.program(profile, mask)).decode()
