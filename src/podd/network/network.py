"""Connecting pods: what a driver asks for, done by plugins, and undone whatever happens in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import TypeVar

import anyio
import structlog
from msgspec.structs import replace

from podd.driver.contract import NetworkStatus, PortMapping
from podd.driver.hookspecs import NetworkPlaces
from podd.errors import Conflict, PoddError, Unavailable, Unsupported
from podd.linux.listeners import listeners
from podd.network import call, folder, orphans, ports, result, standin
from podd.network.call import INTERFACE, Attachment, Wanted
from podd.network.conflist import Network, Plugin
from podd.network.journal import Journal
from podd.network.plugins import Plugins

log = structlog.get_logger(__name__)
T = TypeVar("T")

ADD_S = 40.0
DEL_S = 30.0
CHECK_S = 30.0
STATUS_S = 5.0
GC_S = 30.0
"""How long all plugins of a chain may take together."""

INSTALL = "install containernetworking-plugins and put a *.conflist there; podd comes with one, 10-podd.conflist"


class Networks:
    """The networks of the pods of one driver. Commands about one pod never run at the same time."""

    def __init__(self, driver: str, places: NetworkPlaces) -> None:
        """places: with cache_dir filled in."""
        self._driver = driver
        self._places = places
        self._journal = Journal(places.cache_dir)
        self._plugins = Plugins(places.bin_dirs)
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(partial(anyio.Lock, fast_acquire=True))
        self._ours: set[str] = set()  # whose plugins this podd alone has run
        self._none: set[str] = set()  # that were to be connected when there was no network: nothing is written of them

    # ---- one pod -----------------------------------------------------------------------------------------------------

    async def attach(self, wanted: Wanted) -> tuple[str, ...]:
        """Connect a pod; its addresses, which are none where there is no network. Again: the same.

        What has failed, or was cancelled, is undone by `detach`. Raises Unsupported: a port or a limit is asked for
        that this network cannot give; Conflict: a port is taken; Unavailable: a plugin has failed.
        """
        async with self._alone(wanted.sandbox):
            before, found = await _thread(self._look, wanted.sandbox)
            if before is not None and before.complete:
                return _ips(before)
            if before is not None:
                await self._undo(before)
            network = await self._network(wanted, found)
            if network is None:
                self._none.add(wanted.sandbox)
                return ()
            self._none.discard(wanted.sandbox)
            return await self._add(call.attachment(self._driver, network, wanted), wanted)

    async def detach(self, sandbox: str) -> None:
        """Undo whatever was done, or begun, to connect it. Of what is not connected: nothing.

        Raises Unavailable: a plugin has failed; asked again, all are run again.
        """
        async with self._alone(sandbox):
            if sandbox in self._none:
                self._none.remove(sandbox)
                return
            made = await _thread(self._journal.read, sandbox)
            if made is not None:
                await self._undo(made)

    async def check(self, sandbox: str) -> None:
        """Raises Unavailable: a plugin finds that something of it is missing. Of what is not connected: nothing."""
        async with self._alone(sandbox):
            made = await self._made(sandbox)
            if made is None or made.network.disable_check or not made.network.speaks("0.4.0"):
                return
            with _deadline(CHECK_S, f"sandbox {sandbox}: CNI CHECK"):
                for plugin in made.network.plugins:
                    await self._check_one(made, plugin)

    async def _check_one(self, made: Attachment, plugin: Plugin) -> None:
        try:
            await self._plugins.run("CHECK", made.network, plugin, made, made.netns)
        except PoddError as exc:
            if "code" in exc.facts:
                raise
            # It has broken, which tells nothing of the pod: bandwidth 1.1 does so of a pod without limits.
            log.debug("plugin.broke", plugin=plugin.type, command="CHECK", error=exc.message)

    async def publish(self, sandbox: str, wanted: Sequence[PortMapping]) -> None:
        """Lead these ports of the host to it, instead of those before.

        Raises Conflict, Unsupported, Unavailable: all is as it was, unless the message says otherwise.
        """
        async with self._alone(sandbox):
            made = await self._made(sandbox)
            if made is None:
                if wanted:
                    why = "it was made when there was no network"
                    raise Unsupported(f"host ports: {why}", remedy="restart the pod")
                return
            mappers = [plugin for plugin in made.network.plugins if plugin.can("portMappings")]
            if wanted and not mappers:
                raise _cannot(made.network, "portMappings", "host ports")
            await _thread(_must_be_free, wanted, made.capability_args.get("portMappings") or ())
            with anyio.CancelScope(shield=True):  # all or nothing, also for who has stopped waiting
                await self._change_ports(made, mappers, wanted)

    def held(self) -> list[str]:
        """Sandboxes of this driver that are connected, or not yet wholly disconnected. Blocks."""
        return self._journal.sandboxes(self._driver)

    # ---- the whole network -------------------------------------------------------------------------------------------

    async def status(self) -> NetworkStatus:
        found = await _thread(folder.find, self._places.conf_dir)
        if found.network is None:
            why = "; ".join(f"{path}: {reason}" for path, reason in found.skipped.items())
            nothing = f"no network configuration in {self._places.conf_dir}"
            return NetworkStatus(ready=False, reason=why or nothing, remedy="correct it" if why else INSTALL)
        network = found.network
        try:
            for plugin in network.plugins:
                await _thread(self._plugins.find, plugin.type)
            if network.speaks("1.1.0"):
                with _deadline(STATUS_S, f"network {network.name}: CNI STATUS"):
                    for plugin in network.plugins:
                        await self._plugins.run("STATUS", network, plugin)
        except PoddError as exc:
            return NetworkStatus(ready=False, name=network.name, reason=exc.message, remedy=exc.remedy)
        return NetworkStatus(ready=True, name=network.name)

    async def collect(self) -> None:
        """Have plugins remove what they keep for pods that are none of podd's. Failures are logged."""
        network = (await _thread(folder.find, self._places.conf_dir)).network
        if network is None or network.disable_gc or not network.speaks("1.1.0"):
            return
        async with _entered(self._journal.collecting(alone=True)) as free:
            if not free:  # somebody is connecting a pod, whose record is perhaps not written yet
                return
            valid = call.valid_attachments(await _thread(self._journal.attached, network.name))
            for plugin in network.plugins:
                try:
                    with _deadline(GC_S, f"network {network.name}: CNI GC"):
                        await self._plugins.run("GC", network, plugin, **valid)
                except PoddError as exc:
                    log.warning("network.not_collected", plugin=plugin.type, error=exc.message, remedy=exc.remedy)

    # ---- ADD ---------------------------------------------------------------------------------------------------------

    def _look(self, sandbox: str) -> tuple[Attachment | None, folder.Found]:
        """How it is connected, and what networks there are. Blocks."""
        return self._journal.read(sandbox), folder.find(self._places.conf_dir)

    async def _network(self, wanted: Wanted, found: folder.Found) -> Network | None:
        """The one that counts now. Raises Unsupported: it cannot give what is wanted."""
        for path, reason in found.skipped.items():
            log.warning("network.file_skipped", path=path, reason=reason, remedy="correct it, or take it away")
        if found.network is None:
            if wanted.ports:
                status = await self.status()
                raise Unsupported(f"host ports: {status.reason}", remedy=status.remedy)
            return None
        if wanted.ports and not found.network.can("portMappings"):
            raise _cannot(found.network, "portMappings", "host ports")
        if (wanted.ingress_bits or wanted.egress_bits) and not found.network.can("bandwidth"):
            raise _cannot(found.network, "bandwidth", "limits of bandwidth")
        return found.network

    async def _add(self, made: Attachment, wanted: Wanted) -> tuple[str, ...]:
        await _thread(_must_be_free, wanted.ports)
        async with _entered(self._journal.collecting(alone=False)):
            self._ours.add(made.sandbox)
            await _thread(self._journal.begin, made, wanted.ports)
            with _deadline(ADD_S, f"network {made.network.name}: CNI ADD"):
                for plugin in made.network.plugins:
                    made = await self._add_one(made, plugin)
            made = replace(made, complete=True)
            await _thread(self._journal.write, made)
        return _ips(made)

    async def _add_one(self, made: Attachment, plugin: Plugin) -> Attachment:
        """Written down at once: a plugin such as firewall finds what to remove by the result alone."""
        text = await self._plugins.run("ADD", made.network, plugin, made, made.netns)
        answer = result.parse_result(text, made.network.version, plugin.type)
        if answer == made.result:
            return made
        made = replace(made, result=answer)
        if plugin is not made.network.plugins[-1]:  # else it is written with the end of it all
            await _thread(self._journal.write, made)
        return made

    # ---- DEL ---------------------------------------------------------------------------------------------------------

    async def _undo(self, made: Attachment) -> None:
        """By the configuration that ADD had, whatever that is now. The first that fails ends it, as the plugins before
        it in the chain may give away what it still uses: an address that a port leads to."""
        await self._see_out(made.sandbox)
        with _deadline(DEL_S, f"network {made.network.name}: CNI DEL"):
            try:
                await self._delete(made)
            except PoddError as exc:
                if not standin.has_ended(exc):
                    raise
                await self._delete(made)
        await _thread(self._journal.remove, made)
        self._ours.discard(made.sandbox)

    async def _see_out(self, sandbox: str) -> None:
        """Let plugins of an earlier podd that still work on it come to their end."""
        if sandbox not in self._ours:
            await _thread(orphans.see_out, sandbox)
            self._ours.add(sandbox)

    async def _delete(self, made: Attachment) -> None:
        async with _entered(standin.place(made)) as place:
            for plugin in reversed(made.network.plugins):
                for stand_in in place.before(plugin):
                    await self._end_masquerading(made, plugin, stand_in)
                await self._plugins.run("DEL", made.network, plugin, made, place.netns)

    async def _end_masquerading(self, made: Attachment, plugin: Plugin, stand_in: str) -> None:
        try:
            await self._plugins.run("DEL", made.network, plugin, made, stand_in)
        except PoddError as exc:
            if not standin.has_ended(exc):
                raise

    # ---- ports -------------------------------------------------------------------------------------------------------

    async def _change_ports(self, made: Attachment, mappers: Sequence[Plugin], wanted: Sequence[PortMapping]) -> None:
        """While it is changed the journal has both: whichever of them is there is then found and undone."""
        before, after = made.capability_args.get("portMappings") or [], call.port_mappings(wanted)
        if before == after:
            return
        await self._see_out(made.sandbox)
        both = [*before, *(one for one in after if one not in before)]
        await _thread(self._journal.begin, _with_ports(made, both), wanted)
        try:
            await self._map_ports(mappers, _with_ports(made, before), _with_ports(made, after))
        except PoddError as exc:
            await self._map_back(mappers, made, _with_ports(made, both), exc)
            raise
        await _thread(self._journal.write, _with_ports(made, after))

    async def _map_ports(self, mappers: Sequence[Plugin], before: Attachment, after: Attachment) -> None:
        with _deadline(ADD_S, f"sandbox {before.sandbox}: changing its host ports"):
            for plugin in reversed(mappers):
                await self._plugins.run("DEL", before.network, plugin, before, before.netns)
            for plugin in mappers:
                await self._plugins.run("ADD", after.network, plugin, after, after.netns)

    async def _map_back(
        self, mappers: Sequence[Plugin], before: Attachment, both: Attachment, failed: PoddError
    ) -> None:
        try:
            await self._map_ports(mappers, both, before)
            await _thread(self._journal.write, before)
        except PoddError as exc:
            raise Unavailable(
                f"{failed.message}; and the ports from before could not be led to the pod again: {exc.message}",
                remedy="ask again, or make the pod anew",
            ) from exc

    # ---- helpers -----------------------------------------------------------------------------------------------------

    async def _made(self, sandbox: str) -> Attachment | None:
        """None: it is not connected."""
        made = await _thread(self._journal.read, sandbox)
        return made if made is not None and made.complete else None

    @asynccontextmanager
    async def _alone(self, sandbox: str) -> AsyncIterator[None]:
        lock = self._locks[sandbox]
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().locked:  # nobody has waited for it
                self._locks.pop(sandbox, None)


def _with_ports(made: Attachment, mappings: Sequence[object]) -> Attachment:
    args = {key: value for key, value in made.capability_args.items() if key != "portMappings"}
    return replace(made, capability_args={**args, "portMappings": list(mappings)} if mappings else args)


def _ips(made: Attachment) -> tuple[str, ...]:
    return result.pod_ips(made.result or {}, INTERFACE)


def _cannot(network: Network, capability: str, what: str) -> PoddError:
    return Unsupported(
        f"network {network.name}: {what}: no plugin of it has the capability {capability}",
        remedy="add such a plugin to its configuration (portmap, bandwidth), with that capability set to true",
        capability=capability,
    )


def _must_be_free(wanted: Sequence[PortMapping], own: Sequence[object] = ()) -> None:
    """That no program of the host waits there: nobody would reach it any more. Blocks. Raises Conflict.

    own: as plugins are told, those that lead to the pod already.
    """
    new = [port for port in wanted if call.port_mappings([port])[0] not in own]
    port = ports.clash(new, _waited_on({port.protocol for port in new}))
    if port is not None:
        raise Conflict(
            f"host port {ports.shown(port)}: a program of the host listens there",
            remedy="choose another hostPort, or stop that program (ss -lp shows it)",
            port=port.host_port,
        )


def _waited_on(protocols: Collection[str]) -> list[dict[str, object]]:
    """As plugins are told of ports. A socket of all IPv6 addresses is mostly one of all addresses."""
    return [
        {"hostPort": one.port, "hostIP": "" if one.ip == "::" else one.ip, "protocol": protocol}
        for protocol in ("tcp", "udp")
        if protocol.upper() in protocols
        for one in listeners(protocol)
    ]


@contextmanager
def _deadline(seconds: float, what: str) -> Iterator[None]:
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as exc:
        raise Unavailable(f"{what}: no answer within {seconds:g} s") from exc


@asynccontextmanager
async def _entered(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """One whose entering blocks."""
    entered = await _thread(manager.__enter__)
    try:
        yield entered
    finally:
        with anyio.CancelScope(shield=True):
            await _thread(lambda: manager.__exit__(None, None, None))


async def _thread(work: Callable[..., T], *args: object) -> T:
    try:
        return await anyio.to_thread.run_sync(work, *args)
    except OSError as exc:
        raise Unavailable(f"network: {exc.filename or ''}: {exc.strerror or exc}") from exc
