"""The composition root: reads the configuration, makes every part, joins them, runs them, ends them.

The only module that sees everything. Nothing is decided here.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack

import anyio
import structlog
from msgspec.structs import replace

import podd
from podd import config, log
from podd.backends import Backends
from podd.config import Config
from podd.control import systemd
from podd.control.listener import Listener, inherit, listen
from podd.control.server import raise_descriptor_limit, serve
from podd.control.service import make_service
from podd.core import plan
from podd.driver.hookspecs import DriverPaths
from podd.driver.plugins import Discovered, discover
from podd.engine.clock import Clock
from podd.engine.drivers import Drivers
from podd.engine.engine import Engine, Settings
from podd.engine.store import Store
from podd.engine.view import ReloadReport
from podd.errors import Denied, Invalid, PoddError
from podd.linux.addresses import host_addresses
from podd.linux.cgroup import Layout
from podd.model import manifest

logger = structlog.get_logger()

PRIVATE = 0o700
"""Of the directory in which Secrets are."""

GARBAGE = 10_000
"""New objects that hold others before podd looks for cycles among them, instead of 700: a few megabytes if all were."""

FAILPOINT = "PODD_FAILPOINT"
"""For tests of crashes: "POINT:N" in the environment ends podd by SIGKILL the Nth time it comes to that point."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command `podd`. Exit status: 0 ended as told, 1 it could not run, 2 usage."""
    args = _arguments(argv)
    try:
        settings = config.load(args.config)
        if args.check:
            print(f"{settings.source or 'defaults'}: good")  # noqa: T201
            return 0
        if os.geteuid() != 0:
            raise Denied("podd: must run as root", remedy="use sudo, or the systemd service")
        _run(settings)
    except PoddError as exc:
        print(f"podd: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="podd", description="Runs Kubernetes Pods on this host, in the foreground.")
    parser.add_argument("--config", metavar="FILE", help=f"default: {config.DEFAULT_PATH} where it exists")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    parser.add_argument("--version", action="version", version=f"podd {podd.__version__}")
    return parser.parse_args(argv)


def _run(settings: Config) -> None:
    daemon = settings.daemon
    os.umask(0o022)
    os.chdir("/")
    log.configure(daemon.log_level, daemon.log_format)
    raise_descriptor_limit()
    for path, mode in ((daemon.run_dir, 0o711), (daemon.state_dir, PRIVATE), (daemon.log_dir, 0o750)):
        _make_private(path, mode)
    found = discover()
    backends = Backends(settings, found, _places(settings))
    with ExitStack() as stack:
        failpoint = _failpoint()
        store = Store.open(f"{daemon.state_dir}/podd.db", failpoint=failpoint)
        stack.callback(store.close)
        listeners = [stack.enter_context(each) for each in _listeners(settings)]
        anyio.run(_serve, settings, found, backends, store, listeners, failpoint)


def _places(settings: Config) -> DriverPaths:
    daemon, images, network = settings.daemon, settings.images, settings.network
    return DriverPaths(
        run_dir=daemon.run_dir,
        state_dir=daemon.state_dir,
        log_dir=daemon.log_dir,
        images=replace(
            images,
            root=images.root or f"{daemon.state_dir}/storage",
            run_root=images.run_root or f"{daemon.run_dir}/storage",
        ),
        network=replace(network, cache_dir=network.cache_dir or f"{daemon.state_dir}/cni"),
    )


def _make_private(path: str, mode: int) -> None:
    """podd's own directories: made so, and refused where others may write."""
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
        found = os.stat(path)
        if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o022:
            raise Denied(f"{path}: others than root may write there", remedy=f"chown root {path}; chmod go-w {path}")
        if mode == PRIVATE:
            os.chmod(path, stat.S_IMODE(found.st_mode) & mode)  # an older podd, or a person, made it wider
    except OSError as exc:
        raise Denied(f"{path}: cannot be made: {exc.strerror}", remedy="name another directory in podd.toml") from exc


def _listeners(settings: Config) -> list[Listener]:
    """Those that the service manager passed, else one of our own."""
    try:
        inherited = systemd.inherited_sockets()
    except ValueError as exc:
        raise Invalid(f"inherited socket: {exc}", remedy="see the socket unit") from exc
    if inherited:
        return [inherit(each.sock) for each in inherited]
    return [listen(settings.daemon.socket, group=settings.daemon.socket_group)]


async def _serve(
    settings: Config,
    found: Discovered,
    backends: Backends,
    store: Store,
    listeners: list[Listener],
    failpoint: Callable[[str], None],
) -> None:
    async with anyio.create_task_group() as lives:
        drivers = await backends.enter(lives)
        reload = _Reloader(settings, backends)
        engine = _make_engine(settings, found, drivers, reload, store, failpoint)
        sockets = [each.sock for each in listeners]
        addresses = [sock.getsockname() for sock in sockets]
        async with anyio.create_task_group() as tasks:
            await tasks.start(engine.run)
            await tasks.start(lambda *, task_status: serve(sockets, make_service(engine), task_status=task_status))
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
                tasks.start_soon(systemd.feed_watchdog)
                gc.collect()
                gc.set_threshold(GARBAGE)
                gc.freeze()  # what is there now stays: no later collection has to look at it again
                systemd.notify("READY=1", f"STATUS=listening on {', '.join(addresses)}")
                names = [driver.name for driver in drivers]
                logger.info("podd.started", version=podd.__version__, sockets=addresses, drivers=names)
                await _until_told(engine, signals)
            systemd.notify("STOPPING=1")
            logger.info("podd.stopping", pods="run on")
            tasks.cancel_scope.cancel()
        backends.leave()


def _make_engine(
    settings: Config,
    found: Discovered,
    drivers: Drivers,
    reload: _Reloader,
    store: Store,
    failpoint: Callable[[str], None],
) -> Engine:
    daemon = settings.daemon
    problems = [f"plugin {b.plugin}: {b.reason}" for b in found.broken]
    if store.damage is not None:
        problems.append(f"the store was damaged and replaced: {store.damage.reason}; see {store.damage.moved_to}")
    return Engine(
        settings=Settings(
            config_file=settings.source,
            run_dir=daemon.run_dir,
            state_dir=daemon.state_dir,
            log_dir=daemon.log_dir,
            pods_dir=daemon.pods_dir,
            max_parallel_pulls=settings.images.max_parallel_pulls,
        ),
        host=plan.Host(
            state_dir=daemon.state_dir,
            log_dir=f"{daemon.log_dir}/pods",
            memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            node_name=os.uname().nodename.lower(),
            cpus=os.cpu_count() or 1,
            storage_bytes=_size_of_file_system(daemon.state_dir),
        ),
        store=store,
        clock=Clock(),
        drivers=drivers,
        check=manifest.parse,
        admit=found.admit,
        observe=found.observe,
        reload=reload,
        problems=problems,
        cgroups=Layout.detect().kind,
        addresses=host_addresses,
        failpoint=failpoint,
    )


def _size_of_file_system(path: str) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


_FIXED = ("daemon.", "images.", "network.")
"""Keys that hold until podd is started again."""


class _Reloader:
    """Reads the configuration again. What is in force changes only where it says so; a file that is wrong, nothing."""

    def __init__(self, settings: Config, backends: Backends) -> None:
        self._settings = settings
        self._backends = backends
        self._one_at_a_time = anyio.Lock()

    async def __call__(self) -> ReloadReport:
        async with self._one_at_a_time:
            new = config.load(self._settings.source or None)
            differing = config.differences(self._settings, new)
            fixed = [key for key in differing if key.startswith(_FIXED) and key != "daemon.log_level"]
            await self._backends.change(new)
            log.configure(new.daemon.log_level, self._settings.daemon.log_format)
            in_force = replace(self._settings.daemon, log_level=new.daemon.log_level)
            self._settings = replace(new, daemon=in_force, images=self._settings.images, network=self._settings.network)
        return ReloadReport(changed=[key for key in differing if key not in fixed], needs_restart=fixed)


async def _until_told(engine: Engine, signals: AsyncIterator[signal.Signals]) -> None:
    """SIGTERM and SIGINT end podd; SIGHUP has it read its configuration again."""
    async for number in signals:
        if number != signal.SIGHUP:
            return
        try:
            report = await engine.reload()
            logger.info("config.reloaded", changed=report.changed, needs_restart=report.needs_restart)
        except PoddError as exc:
            logger.error("config.refused", error=exc.message, remedy=exc.remedy)


def _failpoint() -> Callable[[str], None]:
    wanted, _, times = os.environ.pop(FAILPOINT, "").partition(":")
    if not wanted:
        return lambda _point: None
    left = int(times or 1)

    def reach(point: str) -> None:
        nonlocal left
        if point == wanted or wanted == "any":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


if __name__ == "__main__":
    sys.exit(main())
