"""podd is killed at every point of a change of ports of the host; the next podd has them as the manifest says."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from harness import apply, engine
from test_crash import Points, run_until_crash
from test_network import OTHER_PORT, POD, led

from podd.engine.engine import Engine
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


async def change_ports(one: Engine) -> None:
    """A pod that runs gets another port, its first one leads to another pod then, and it wants that one back."""
    await apply(one, POD)
    await apply(one, OTHER_PORT)
    await apply(one, POD.replace("name: web", "name: other"))
    await apply(one, POD)
    await one.delete("other", None, grace_period_s=0, wait=True)


async def test_a_crash_at_every_point_of_a_change(tmp_path: Path) -> None:
    points = Points()
    assert not await run_until_crash(tmp_path / "count", FakeHost(), points, change_ports)
    total = len(points.reached)
    assert points.reached.count("driver.publish.before") >= 2
    for n in range(1, total + 1):
        place, host, points = tmp_path / str(n), FakeHost(), Points(crash_at=n)
        assert await run_until_crash(place, host, points, change_ports)
        context = f"crash {n} of {total}, at {points.reached[-1]}"
        async with engine(place, host) as one:
            await anyio.sleep(900)
            asked = {pod.pod.metadata.name: pod for pod in await one.list_pods(None, "")}
            ports = {name: [p.host_port for p in pod.pod.spec.containers[0].ports] for name, pod in asked.items()}
            if "web" in ports and ports["web"] == ports.get("other"):  # it wants what the other has
                refused = [c.type for c in asked["web"].status.conditions if c.type.startswith("PodPublish")]
                assert refused == ["PodPublishPending"], context
                await one.delete("other", None, grace_period_s=0, wait=True)
                await anyio.sleep(900)
                ports = {"web": [8080]}
            assert led(host) == ports, context
            assert len([e for e in host.journal if e.name == "released" and e.of == "a"]) <= 2, context
        assert not host.violations, (context, host.violations)
