"""Pulls from a real registry: what is said where they cannot be, and that nothing is left of what was broken off."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from images.layouts import File, busybox, layout
from images.stores import BIG, Store, is_running, layers_of, until
from podd.driver.contract import Image, PullProgress
from podd.errors import Kind, PoddError, Unavailable
from realregistry import Proxy, Served

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture
def anyio_backend() -> str:
    """skopeo does not wait for a virtual clock."""
    return "asyncio"


async def test_brings_what_is_not_there(tmp_path: Path, proxy: Proxy) -> None:
    store = Store(tmp_path, proxy.host)
    told: list[PullProgress] = []
    image = await store.service.pull(f"{proxy.host}/team/app:1", [], told.append)
    assert image.names == [f"{proxy.host}/team/app:1"]
    assert await store.service.find(f"{proxy.host}/team/app:1") == image
    assert await store.service.find(image.digests[0]) == image
    assert await store.service.find(image.id[7:20]) == image
    assert await store.service.find(f"{proxy.host}/team/other") is None
    assert await store.service.usage_bytes() >= 2 * len(BIG)
    fetched = proxy.count("GET /v2/team/app/blobs/")
    assert await store.pull(f"{proxy.host}/team/app:1") == image
    assert proxy.count("GET /v2/team/app/blobs/") <= fetched + 1, "its layers are not fetched again"
    assert not list((store.root / "podd-pulls").iterdir())


async def test_tells_how_far_it_is(tmp_path: Path, proxy: Proxy, source: str) -> None:
    store = Store(tmp_path, proxy.host)
    """Of the layer that is held half has come; how large it is was in the manifest, which is asked for once."""
    proxy.fault, proxy.on = "hold", layers_of(source)[1]
    seen = anyio.Event()

    def tell(progress: PullProgress) -> None:
        if progress.message == "2 of 3 layers" and 0 < progress.done_bytes < (progress.total_bytes or 0):
            seen.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.service.pull, f"{proxy.host}/team/app:1", [], tell)
        with anyio.fail_after(20):
            await seen.wait()
        proxy.heal()
    assert proxy.count("GET /v2/team/app/manifests/") == 1


async def test_one_that_is_pinned(tmp_path: Path, registry: Served) -> None:
    store = Store(tmp_path, registry.host)
    first = await store.pull(f"{registry.host}/team/app:1")
    (pinned,) = first.digests
    other = Store(tmp_path / "other", registry.host)
    image = await other.pull(pinned)
    assert image.id == first.id
    assert await other.service.find(pinned) == image
    tagged = pinned.replace("@", ":nonsense@")
    assert await other.service.find(tagged) == image, "beside a digest a tag says nothing"


# ---- what goes wrong -------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[str, str, str, Kind, str]] = {  # fault, on, name, kind, words
    "no such tag": ("", "", "team/app:2", Kind.NOT_FOUND, "there is no such image"),
    "no such image": ("", "", "team/none", Kind.NOT_FOUND, "there is no such image"),
    "another digest": ("", "", f"team/app@sha256:{'0' * 64}", Kind.NOT_FOUND, "there is no such image"),
    "cut in the manifest": ("cut", "/manifests/", "team/app:1", Kind.UNAVAILABLE, "EOF"),
    "cut in a layer": ("cut", "LAYER", "team/app:1", Kind.UNAVAILABLE, "EOF"),
    "a byte of a layer is another": ("wrong", "LAYER", "team/app:1", Kind.INVALID, "not what the image should be"),
    "a fault of the registry": ("500", "/manifests/", "team/app:1", Kind.UNAVAILABLE, "500"),
    "a fault in a layer": ("500", "LAYER", "team/app:1", Kind.UNAVAILABLE, "500"),
    "a byte of its config is another": ("wrong", "/blobs/", "team/app:1", Kind.INVALID, "not what the image should be"),
    "a manifest that is none": ("wrong", "/manifests/", "team/app:1", Kind.INVALID, "not what the image should be"),
    "no answer": ("hang", "/manifests/", "team/app:1", Kind.UNAVAILABLE, "nothing came for 1 s"),
    "no more answer": ("hold", "LAYER", "team/app:1", Kind.UNAVAILABLE, "nothing came for 1 s"),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_each_fault_is_told_and_leaves_nothing(case: str, tmp_path: Path, proxy: Proxy, source: str) -> None:
    fault, on, name, kind, words = FAULTS[case]
    proxy.on = layers_of(source)[1] if on == "LAYER" else on
    proxy.fault = fault  # type: ignore[assignment]
    store = Store(tmp_path, proxy.host, stall_s=1)
    with anyio.fail_after(20), pytest.raises(PoddError) as refused:
        await store.pull(f"{proxy.host}/{name}")
    assert refused.value.kind == kind, refused.value
    assert f"image {proxy.host}/{name.partition('@')[0].partition(':')[0]}" in refused.value.message
    assert words in refused.value.message
    assert refused.value.remedy
    assert store.everything() == set()
    proxy.heal()
    assert await store.pull(f"{proxy.host}/team/app:1"), "and when it is well again, it comes"


async def test_no_registry_is_told_at_once(tmp_path: Path, proxy: Proxy) -> None:
    store = Store(tmp_path, "127.0.0.1:1")
    with anyio.fail_after(5), pytest.raises(Unavailable, match=r"does not answer.*refused"):
        await store.pull("127.0.0.1:1/app")
    with anyio.fail_after(10), pytest.raises(Unavailable, match="does not answer"):
        await store.pull("no-such-host.invalid/app")


async def test_what_takes_too_long(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = "hold"
    store = Store(tmp_path, proxy.host, pull_deadline_s=1.5)
    with anyio.fail_after(10), pytest.raises(Unavailable, match=r"not here within 1\.5 s"):
        await store.pull(f"{proxy.host}/team/app:1")
    assert store.everything() == set()


async def test_one_that_is_cancelled_leaves_nothing(tmp_path: Path, proxy: Proxy, source: str) -> None:
    """The lower layer is whole and unpacked when it is cancelled; the others are on their way."""
    store = Store(tmp_path, proxy.host)
    proxy.fault, proxy.on = "hold", layers_of(source)[-1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.pull, f"{proxy.host}/team/app:1")
        with anyio.fail_after(20):
            await until(proxy.held.is_set)
            await until(lambda: store.whole_layers() >= 1)
        tasks.cancel_scope.cancel()
    assert store.everything() == set()
    assert not is_running("skopeo", proxy.host)


async def test_one_that_fails_leaves_what_another_has(
    tmp_path: Path, proxy: Proxy, registry: Served, source: str
) -> None:
    store = Store(tmp_path, proxy.host, registry.host)
    other = layout(tmp_path / "other", [busybox(), {"c": File(b"c")}, {"d": File(b"d")}], Cmd=["/bin/sh"])
    registry.push(other, "team/other:1")
    await store.pull(f"{registry.host}/team/app:1")
    before = store.everything()
    proxy.fault, proxy.on = "500", layers_of(other)[-1]
    with pytest.raises(Unavailable):
        await store.pull(f"{proxy.host}/team/other:1")
    assert store.everything() == before


async def test_two_at_once_that_share_layers(tmp_path: Path, proxy: Proxy, registry: Served, source: str) -> None:
    """One is cancelled when both have the layer that they share, and neither is done."""
    store = Store(tmp_path, proxy.host)
    other = layout(tmp_path / "other", [busybox(), {"e": File(BIG[:-1])}], Cmd=["/bin/sh"])
    registry.push(other, "team/sharing:1")
    proxy.fault, proxy.on = "hold", "/blobs/"
    got: list[Image] = []

    async def pull_other() -> None:
        got.append(await store.pull(f"{proxy.host}/team/sharing:1"))

    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.pull, f"{proxy.host}/team/app:1")
            others.start_soon(pull_other)
            await until(lambda: proxy.count("/team/app/blobs/") and proxy.count("/team/sharing/blobs/"))
            proxy.release(then_hold=(layers_of(source)[-1], layers_of(other)[-1]))
            await until(lambda: store.whole_layers() >= 1)
            tasks.cancel_scope.cancel()
        proxy.heal()
    assert await store.service.find(f"{proxy.host}/team/sharing:1") == got[0]
    assert await store.service.remove(got[0].id)
    await store.service.tidy()
    assert store.everything() == set()


# ---- podd is killed --------------------------------------------------------------------------------------------------

KILLED = """
import sys, anyio
sys.path[:0] = {path!r}
from images.stores import Store
from pathlib import Path
anyio.run(Store(Path({directory!r}), {host!r}).pull, {name!r})
"""


async def test_what_a_killed_podd_had_in_hand(tmp_path: Path, proxy: Proxy, source: str) -> None:
    store = Store(tmp_path, proxy.host)
    proxy.fault, proxy.on = "hold", layers_of(source)[-1]
    name = f"{proxy.host}/team/app:1"
    program = KILLED.format(path=sys.path, directory=str(tmp_path), host=proxy.host, name=name)
    async with await anyio.open_process([sys.executable, "-c", program], stdout=None, stderr=None) as podd:
        await until(lambda: store.whole_layers() >= 1, within_s=30)
        podd.kill()
        await podd.wait()
    assert store.everything() != set()
    await until(lambda: not is_running("skopeo", name))
    with anyio.fail_after(20):
        while store.everything():  # the kernel takes a moment to close what it had open
            await store.service.tidy()
    proxy.heal()
    assert await store.pull(name)
