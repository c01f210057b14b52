"""The real engine over the fake driver, without kernel or socket: started, killed and started again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import anyio
import anyio.lowlevel
import anyio.to_thread

from podd.core import plan
from podd.engine.clock import Clock
from podd.engine.drivers import Choice, Drivers
from podd.engine.engine import Engine, Settings
from podd.engine.store import Store
from podd.engine.view import ApplyProgress, ApplyResult, ManifestText
from podd.model import manifest
from podd.model.pod import Pod
from podd.testing.fake import FakeDriver, FakeHost

T = TypeVar("T")

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  restartPolicy: Always
  terminationGracePeriodSeconds: 30
  containers:
  - {name: a, image: "rootfs:/", command: [/bin/a]}
  - {name: b, image: "rootfs:/", command: [/bin/b]}
  - {name: c, image: "rootfs:/", command: [/bin/c]}
"""


class Crash(BaseException):
    """podd ends here, as by SIGKILL: nothing that would run later runs."""


@asynccontextmanager
async def engine(
    tmp_path: Path,
    host: FakeHost,
    *,
    failpoint: Callable[[str], None] = lambda _point: None,
    record_limit: Callable[[Store], None] = lambda _store: None,
    driver: type[FakeDriver] = FakeDriver,
    pods_dir: str = "",
    admit: Callable[[Pod], Pod] = lambda pod: pod,
    addresses: Callable[[], Sequence[str]] = tuple,
    max_parallel_pulls: int = 4,
) -> AsyncIterator[Engine]:
    """As the daemon would run it on the same directories and host."""
    clock = Clock()
    store = Store.open(str(tmp_path / "podd.db"), now_ns=clock.now_ns, failpoint=failpoint)
    try:
        record_limit(store)
        async with driver(host) as entered:
            one = Engine(
                settings=Settings(
                    config_file="",
                    run_dir=str(tmp_path / "run"),
                    state_dir=str(tmp_path / "state"),
                    log_dir=str(tmp_path / "log"),
                    pods_dir=pods_dir,
                    max_parallel_pulls=max_parallel_pulls,
                ),
                host=plan.Host(
                    state_dir=str(tmp_path / "state"),
                    log_dir=str(tmp_path / "log"),
                    memory_bytes=2**33,
                ),
                store=store,
                clock=clock,
                drivers=Drivers(Choice(drivers={"fake": entered}, default="fake")),
                check=manifest.parse,
                admit=admit,
                addresses=addresses,
                failpoint=failpoint,
                listen=_deaf,
            )
            with patch.object(anyio.to_thread, "run_sync", _at_once), _no_checkpoints():
                async with anyio.create_task_group() as tasks:
                    await tasks.start(one.run)
                    yield one
                    tasks.cancel_scope.cancel()
    finally:
        store.close()


async def apply(
    one: Engine, text: str = POD, *, wait: bool = True, timeout_s: int | None = None, dry_run: bool = False
) -> ApplyResult:
    (result,) = await one.apply(
        [ManifestText(manifest=text, source="pod.yaml")],
        namespace=None,
        dry_run=dry_run,
        wait=wait,
        timeout_s=timeout_s,
        progress=ignore,
    )
    return result


def _no_checkpoints() -> AbstractContextManager[object]:
    """A virtual hour has hundreds, and each waits for a real disk."""
    return patch("podd.engine.engine.CHECKPOINT_S", 10**9)


async def _at_once(call: Callable[..., T], *args: object, **_: object) -> T:
    """Instead of in a thread, for which a clock that jumps does not wait."""
    await anyio.lowlevel.checkpoint()
    return call(*args)


async def _deaf(_folder: str, _told: Callable[[], None]) -> None:
    """No events of the file system, for which no virtual clock waits: looks come by time alone."""
    await anyio.sleep_forever()


async def ignore(_: ApplyProgress) -> None:
    pass
