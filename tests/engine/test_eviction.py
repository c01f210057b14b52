"""Pods that fill the disk, on the fake driver and a clock that jumps."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from harness import apply, engine

from podd.engine.eviction import LOOK_S
from podd.errors import Unavailable
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio

POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: a, image: "rootfs:/", command: [/bin/a], resources: {limits: {ephemeral-storage: LIMIT}}}
  volumes:
  - {name: v, emptyDir: {}}
"""


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def pod(name: str, limit: str) -> str:
    return POD.replace("NAME", name).replace("LIMIT", limit)


async def test_who_has_too_much_is_evicted_and_nobody_else(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("small", "1Mi"))
        await apply(one, pod("large", "4Mi"))
        host.written["a"] = 2 << 20
        await anyio.sleep(LOOK_S + 2)
        small, large = [(await one.get(name, None)).status for name in ("small", "large")]
        assert (small.phase, small.reason) == ("Failed", "Evicted")
        assert small.message == 'Container a exceeded its local ephemeral storage limit "1Mi"'
        assert large.phase == "Running"
    host.verify()


async def test_logs_and_volumes_are_charged(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        for name, where in (("logs", "log/default_{0}_{1}/a"), ("volumes", "state/volumes/{1}/v")):
            await apply(one, pod(name, "1Mi"))
            view = await one.get(name, None)
            place = tmp_path / where.format(name, view.pod.metadata.uid)
            place.mkdir(parents=True, exist_ok=True)
            (place / "file").write_bytes(b"x" * (2 << 20))
        await anyio.sleep(LOOK_S + 2)
        found = [(await one.get(name, None)).status.message for name in ("logs", "volumes")]
        assert found[0].startswith("Container a exceeded")
        assert found[1].startswith("Pod ephemeral local storage usage exceeds the total limit")


async def test_a_driver_that_does_not_answer_spares_its_pod_for_now(tmp_path: Path, host: FakeHost) -> None:
    host.fault("usage", call=1, error=Unavailable("not now"))
    host.fault("usage", call=2, hang=True)
    async with engine(tmp_path, host) as one:
        await apply(one, pod("web", "1Mi"))
        host.written["a"] = 2 << 20
        await anyio.sleep(2 * LOOK_S + 5)
        assert (await one.get("web", None)).status.phase == "Running"
        await anyio.sleep(1000)
        assert (await one.get("web", None)).status.reason == "Evicted"
