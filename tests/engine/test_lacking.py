"""Pods that lack a ConfigMap or Secret: they go on as soon as it is there, and not when a back-off is over."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import engine, ignore

from podd.engine.engine import Engine
from podd.engine.view import ManifestText
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

SECRET: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"word": "w"}}
ENV = [{"name": "W", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}}]


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


def pod(policy: str) -> Json:
    member = {"name": "a", "image": "rootfs:/", "command": ["/bin/a"], "env": ENV}
    spec = {"restartPolicy": policy, "containers": [member]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}


async def apply(one: Engine, *documents: Json) -> None:
    text = ManifestText(manifest="\n---\n".join(map(json.dumps, documents)), source="f.yaml")
    await one.apply([text], namespace=None, dry_run=False, wait=True, timeout_s=10, progress=ignore)


async def reason(one: Engine) -> str:
    (status,) = (await one.get("web", None)).status.container_statuses
    return status.state.waiting.reason if status.state.waiting else ""


async def runs(one: Engine) -> None:
    async with aclosing(one.watch(None, "")) as changes:
        async for change in changes:
            if change.view and [s.ready for s in change.view.status.container_statuses] == [True]:
                return


@pytest.mark.parametrize("policy", ["Always", "Never"])
async def test_a_start_that_lacks_a_secret_is_made_when_it_comes(tmp_path: Path, policy: str) -> None:
    async with engine(tmp_path, FakeHost()) as one:
        await apply(one, SECRET, pod(policy))
        await one.stop("web", None, grace_period_s=0, wait=True)
        await one.delete_object("Secret", "s", None)
        await one.start("web", None, wait=False)
        await anyio.sleep(1205)  # of tries in vain, in whatever rhythm
        assert await reason(one) == "CreateContainerConfigError"
        before = anyio.current_time()
        await apply(one, SECRET)
        await runs(one)
        assert anyio.current_time() - before < 1


async def test_a_member_that_restarts_goes_on_when_what_it_lacks_comes(tmp_path: Path) -> None:
    host = FakeHost()
    async with engine(tmp_path, host) as one:
        await apply(one, SECRET, pod("Always"))
        (box,) = host.sandboxes.values()
        await one.delete_object("Secret", "s", None)
        host.kill_container(next(iter(box.containers)))
        await anyio.sleep(1205)  # between two tries
        assert await reason(one) == "CreateContainerConfigError"
        before = anyio.current_time()
        await apply(one, SECRET)
        await runs(one)
        assert anyio.current_time() - before < 1
        (status,) = (await one.get("web", None)).status.container_statuses
        assert status.restart_count == 1, "what was never made is no restart"
