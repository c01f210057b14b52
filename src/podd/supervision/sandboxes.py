"""The sandboxes that this driver has in hand: made by it, or taken up from an earlier daemon; and their end."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from podd.driver.handles import check_id
from podd.errors import Conflict, Internal, NotFound, PoddError, Unavailable
from podd.linux.process import PidIdentity, boot_id
from podd.network.call import Wanted
from podd.network.network import Networks
from podd.shim.plan import SandboxPlan, SandboxReport
from podd.supervision import handles
from podd.supervision.host import Host
from podd.supervision.link import Link
from podd.supervision.peer import ConnectionLost
from podd.supervision.zygote import Zygote

log = structlog.get_logger(__name__)

DYING_S = 1.0
SHUTDOWN_S = 15.0
"""How long a shim may take to make or to remove its sandbox before it is killed. It takes milliseconds; the bound is
there so that a sandbox can be destroyed even where its shim does not answer at all."""

SWEEP_S = 60.0
"""How long the zygote may take to sweep."""


class _Sandbox:
    """From before it is made until nothing is left of it. plan: None where an earlier daemon made it."""

    def __init__(self, plan: SandboxPlan | None) -> None:
        self.plan = plan
        self.ips: tuple[str, ...] | None = None  # once it is connected
        self.ready = anyio.Event()  # made, taken up, or failed
        self.report: SandboxReport | None = None
        self.link: Link | None = None
        self.failure: PoddError | None = None
        self.making = anyio.CancelScope()
        self.removing = anyio.Lock(fast_acquire=True)


class Sandboxes:
    """By id. What takes several steps runs in tasks of its own: a caller that is cancelled must not leave a fork that
    nobody can wait for."""

    def __init__(self, host: Host, networks: Networks, zygote: Zygote, tasks: TaskGroup) -> None:
        self._host = host
        self._networks = networks
        self._zygote = zygote
        self._tasks = tasks
        self._known: dict[str, _Sandbox] = {}

    def ids(self) -> set[str]:
        return set(self._known)

    async def create(self, plan: SandboxPlan, wanted: Wanted | None) -> tuple[SandboxReport, tuple[str, ...]]:
        """What its shim tells, and its addresses; again: the same. wanted: None for one that is not to be connected.

        Raises Conflict: there is one of this id, made from another plan; or as the shim, or as Networks.attach.
        """
        sandbox = self._known.get(plan["id"])
        if sandbox is None:
            sandbox = self._known[plan["id"]] = _Sandbox(plan)
            self._tasks.start_soon(self._make, sandbox, plan, wanted)
        await sandbox.ready.wait()
        if sandbox.failure is not None:
            raise sandbox.failure
        if sandbox.report is None or sandbox.plan != plan:  # the shim knows what it was made from
            sandbox.report = await self.ask(plan["id"], "create_sandbox", {"sandbox": plan})  # type: ignore[assignment]
        if sandbox.ips is None:  # taken up before it was asked for
            sandbox.ips = await self._attach(wanted)
        assert sandbox.report is not None
        return sandbox.report, sandbox.ips

    async def link(self, sandbox_id: str, state: handles.SandboxState | None = None) -> Link:
        """To its shim, which may have died since; taken up from an earlier daemon where need be.

        state: where to look for it, else where this driver keeps its own. Raises NotFound: it has no shim.
        """
        sandbox = self._known.get(sandbox_id)
        if sandbox is None:
            sandbox = self._known[check_id(sandbox_id)] = _Sandbox(None)
            self._tasks.start_soon(self._take_up, sandbox_id, sandbox, state)
        if not sandbox.ready.is_set():  # to wait for what has happened is a turn of the event loop
            await sandbox.ready.wait()
        if sandbox.link is None:
            raise sandbox.failure or NotFound(f"sandbox {sandbox_id}: it has no shim")
        return sandbox.link

    async def ask(self, sandbox_id: str, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Unavailable: the shim is lost; NotFound: there is none; or what the shim refuses with."""
        link = await self.link(sandbox_id)
        if link.lost.is_set():
            raise Unavailable(f"sandbox {sandbox_id}: {link.why}")
        answer, _ = await link.call(verb, args)
        return answer

    async def destroy(self, sandbox_id: str) -> None:
        """Return when nothing is left of it. Raises Unavailable: something is."""
        sandbox = self._known.get(sandbox_id)
        if sandbox is None:
            sandbox = self._known[sandbox_id] = _Sandbox(None)
            sandbox.failure = Conflict(f"sandbox {sandbox_id}: it is being destroyed")
            sandbox.ready.set()
        async with sandbox.removing:
            with anyio.move_on_after(SHUTDOWN_S):
                await sandbox.ready.wait()
            sandbox.making.cancel()
            if self._known.get(sandbox_id) is sandbox:  # else who had the lock before has removed it
                await self._remove(sandbox_id, sandbox)

    # ---- making ------------------------------------------------------------------------------------------------------

    async def _make(self, sandbox: _Sandbox, plan: SandboxPlan, wanted: Wanted | None) -> None:
        try:
            with sandbox.making:
                try:
                    sandbox.report = await self._fork(sandbox, plan)
                except Conflict:  # a shim, or remains, of an earlier daemon that did not live to store the handle
                    await self._make_over(sandbox, plan)
                sandbox.ips = await self._attach(wanted)
        except Exception as exc:  # noqa: BLE001  whoever waits is told
            # Undo what was begun. Where that fails too, `owned` finds it, and whoever asked destroys it.
            sandbox.failure = _known_error(exc, plan["id"])
            with suppress(PoddError):
                await self._remove(plan["id"], sandbox)
        finally:
            if sandbox.ips is None and sandbox.failure is None:
                sandbox.failure = Unavailable(f"sandbox {plan['id']}: making it was given up")
            sandbox.ready.set()

    async def _attach(self, wanted: Wanted | None) -> tuple[str, ...]:
        return () if wanted is None else await self._networks.attach(wanted)

    async def _make_over(self, sandbox: _Sandbox, plan: SandboxPlan) -> None:
        """Take up the one that is there, or remove what is left of it and make it anew."""
        if sandbox.link is not None:
            await sandbox.link.aclose()
            sandbox.link = None
        try:
            sandbox.link = await self._connect(plan["id"])
        except NotFound:
            await self._sweep(plan["id"])
            sandbox.report = await self._fork(sandbox, plan)
        else:
            sandbox.plan = None  # it was made from another, perhaps: `create` asks its shim

    async def _fork(self, sandbox: _Sandbox, plan: SandboxPlan) -> SandboxReport:
        ours, theirs = socket.socketpair()
        try:
            forked, fds = await self._zygote.call("fork", {"sandbox": plan}, (theirs.fileno(),))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        (pidfd,) = fds.take()
        shim = PidIdentity(forked["pid"], forked["starttime_ticks"], boot_id())
        sandbox.link = link = Link(plan["id"], plan["run_dir"], shim, pidfd, ours)
        report = link.peer.expect(0)
        link.peer.post("subscribe", {})
        self._tasks.start_soon(link.run)
        answer, _ = await report.answer()
        for note in answer["notes"]:
            log.warning("sandbox.limited", sandbox=plan["id"], note=note)
        return answer  # type: ignore[return-value]

    # ---- taking up ---------------------------------------------------------------------------------------------------

    async def _take_up(self, sandbox_id: str, sandbox: _Sandbox, state: handles.SandboxState | None) -> None:
        try:
            sandbox.link = await self._connect(sandbox_id, state)
        except Exception as exc:  # noqa: BLE001  whoever waits is told
            sandbox.failure = _known_error(exc, sandbox_id)
            del self._known[sandbox_id]
        finally:
            sandbox.ready.set()

    async def _connect(self, sandbox_id: str, state: handles.SandboxState | None = None) -> Link:
        """Raises NotFound: it has no shim; Unavailable: it cannot be reached."""
        if state is None:
            state = await anyio.to_thread.run_sync(self._host.state_of, sandbox_id)
        link = await Link.connect(sandbox_id, state.run_dir, state.shim)
        self._tasks.start_soon(link.run)
        try:
            await link.refresh()
        except BaseException as exc:
            died = isinstance(exc, ConnectionLost) and await _has_died(link)
            await link.aclose()
            if died:
                raise NotFound(f"sandbox {sandbox_id}: {link.why}") from exc
            raise
        return link

    # ---- the end -----------------------------------------------------------------------------------------------------

    async def _remove(self, sandbox_id: str, sandbox: _Sandbox) -> None:
        """Its processes end also where its network does not let go of it; that is then asked again."""
        attached = await self._detach(sandbox_id)
        if sandbox.link is None:
            with suppress(NotFound, Unavailable):
                sandbox.link = await self._connect(sandbox_id)
        bugs = self._host.bugs(sandbox_id)
        if bugs:
            log.error("shim.broken", sandbox=sandbox_id, traceback=bugs, remedy="report this: it is a bug in podd")
        if sandbox.link is not None:
            await _shut_down(sandbox.link)
        if await anyio.to_thread.run_sync(self._host.remains, sandbox_id):
            await self._sweep(sandbox_id)
        if sandbox.link is not None:
            await sandbox.link.aclose()
        del self._known[sandbox_id]
        if attached is not None:
            raise attached

    async def _detach(self, sandbox_id: str) -> PoddError | None:
        """While its network namespace is there; why that could not be done."""
        try:
            await self._networks.detach(sandbox_id)
        except PoddError as exc:
            return exc
        return None

    async def _sweep(self, sandbox_id: str) -> None:
        try:
            with anyio.fail_after(SWEEP_S):
                await self._zygote.call("sweep", {"sandbox": self._host.places.sweep_plan(sandbox_id)})
        except TimeoutError as exc:
            await self._zygote.give_up()
            raise Unavailable(f"sandbox {sandbox_id}: removing its remains took longer than {SWEEP_S:g} s") from exc


async def _shut_down(link: Link) -> None:
    """Have the shim remove everything and end; kill it where it cannot."""
    with anyio.move_on_after(SHUTDOWN_S), suppress(PoddError):
        await link.call("shutdown", {})
        await link.lost.wait()
    if not link.lost.is_set():
        link.kill()
        with anyio.move_on_after(SHUTDOWN_S):
            await link.lost.wait()


def _known_error(exc: Exception, sandbox_id: str) -> PoddError:
    if isinstance(exc, PoddError):
        return exc
    log.error("driver.broken", sandbox=sandbox_id, exc_info=exc, remedy="report this: it is a bug in podd")
    return Internal(f"sandbox {sandbox_id}: {type(exc).__name__}: {exc}")


async def _has_died(link: Link) -> bool:
    """Of a shim that hung up: a dying one is connected to for a moment by those that die with it."""
    with anyio.move_on_after(DYING_S):
        await link.lost.wait()
    return link.died
