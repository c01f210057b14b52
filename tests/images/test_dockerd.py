"""dockerd's images by podd's verbs: the same answers as of podd's own store, on a real dockerd and a real registry."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from dockerd import IMAGE, Dockerd, a_dockerd
from images.stores import layers_of
from podd.driver.contract import Credentials, PullProgress
from podd.errors import Conflict, Denied, Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd_docker.api import Api
from podd_docker.service import DockerImages
from realregistry import PASSWORD, USER, Proxy, Served, served

pytestmark = [pytest.mark.anyio, pytest.mark.root, pytest.mark.slow]

dockerd = pytest.fixture(scope="module")(a_dockerd)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def service(dockerd: Dockerd) -> AsyncIterator[DockerImages]:
    """Afterwards dockerd has what it had before."""
    api = Api("docker", str(dockerd.socket), 30)
    one = DockerImages(api, str(dockerd.socket), 60)
    before = await one.list()
    yield one
    for image in await one.list():
        if image.id not in [old.id for old in before]:
            await one.remove(image.id)
    assert await one.list() == before
    await api.close()


def quiet(_: PullProgress) -> None:
    pass


async def test_brings_finds_lists_and_removes(service: DockerImages, registry: Served) -> None:
    name, told = f"{registry.host}/team/app:1", list[PullProgress]()
    image = await service.pull(name, [], told.append)
    assert (image.names, image.digests[0].partition("@")[0]) == ([name], f"{registry.host}/team/app")
    assert max(one.done_bytes for one in told) > 0
    for reference in (name, image.digests[0], image.id, image.id[7:20], f"docker-daemon:{name}"):
        assert await service.find(reference) == image, reference
    assert await service.find(f"{registry.host}/team/other") is None
    assert image.id in [one.id for one in await service.list()]
    assert await service.usage_bytes() >= image.size_bytes > 0
    assert await service.pull(image.id, [], quiet) == image
    assert set(await service.remove(name)) >= {name, image.id}
    assert await service.find(name) is None
    with pytest.raises(NotFound):
        await service.remove(name)
    with pytest.raises(NotFound):
        await service.pull(image.id, [], quiet)


async def test_an_id_takes_all_names(service: DockerImages, registry: Served) -> None:
    first = await service.pull(f"{registry.host}/team/app:1", [], quiet)
    second = await service.pull(f"{registry.host}/app:1", [], quiet)
    assert first.id == second.id
    gone = await service.remove(f"{registry.host}/app:1")
    assert (first.id in gone, f"{registry.host}/app:1" in gone) == (False, True)
    gone = await service.remove(second.id)
    assert (first.id in gone, f"{registry.host}/team/app:1" in gone) == (True, True)


async def test_who_asks_with_a_password(service: DockerImages, source: str, tmp_path: Path) -> None:
    with served(tmp_path / "secured", password=True) as secured:
        name = secured.push(source, "team/app:1")

        def credentials(password: str) -> Credentials:
            auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
            return {"auths": {secured.host: {"auth": auth}}}

        for given in ([], [credentials("hunter2")]):
            with pytest.raises(Denied) as refused:
                await service.pull(name, given, quiet)
            assert "hunter2" not in str(refused.value)
        assert (await service.pull(name, [credentials("hunter2"), credentials(PASSWORD)], quiet)).names == [name]


@pytest.mark.parametrize(
    ("fault", "name", "kind"),
    [
        ("", "team/app:none", NotFound),
        ("500", "team/app:1", Unavailable),
        ("429", "team/app:1", Unavailable),
    ],
)
async def test_what_cannot_be_pulled(
    service: DockerImages, proxy: Proxy, fault: str, name: str, kind: type[PoddError]
) -> None:
    proxy.fault, proxy.on = fault, "/manifests/"  # type: ignore[assignment]
    with pytest.raises(kind, match=f"image {proxy.host}/{name}: "):
        await service.pull(f"{proxy.host}/{name}", [], quiet)


async def test_a_registry_that_is_away_and_a_dockerd_that_is_away(service: DockerImages, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the registry does not answer"):
        await service.pull("127.0.0.1:1/nowhere:1", [], quiet)
    api = Api("docker", f"{tmp_path}/none.sock", 5)
    with pytest.raises(Unavailable, match="cannot reach dockerd"):
        await DockerImages(api, f"{tmp_path}/none.sock", 5).pull("busybox", [], quiet)


async def test_a_cancelled_pull_leaves_nothing(service: DockerImages, proxy: Proxy, source: str) -> None:
    proxy.fault, proxy.on = "hold", layers_of(source)[1]
    before = await service.usage_bytes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.pull, f"{proxy.host}/team/app:1", [], quiet)
        await anyio.to_thread.run_sync(proxy.held.wait, 20)
        tasks.cancel_scope.cancel()
    proxy.heal()
    assert await service.find(f"{proxy.host}/team/app:1") is None
    assert await service.usage_bytes() == before


async def test_takes_in_an_archive(service: DockerImages, source: str, tmp_path: Path) -> None:
    archive = tmp_path / "app.tar"
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", source, f"docker-archive:{archive}:team/app:1"]
    await anyio.run_process(command)
    (loaded,) = await service.load(str(archive), "", quiet)
    assert loaded.names == ["docker.io/team/app:1"]
    (named,) = await service.load(f"docker-archive:{archive}", "registry.example/other:2", quiet)
    assert "registry.example/other:2" in named.names
    for wrong, kind in ((f"oci:{tmp_path}/x", Unsupported), (str(tmp_path), Unsupported), (f"{archive}.no", NotFound)):
        with pytest.raises(kind):
            await service.load(wrong, "", quiet)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(Invalid):
        await service.load(f"{tmp_path}/text", "", quiet)


async def test_one_that_is_in_use_stays(service: DockerImages, dockerd: Dockerd) -> None:
    dockerd.create("uses", IMAGE)
    try:
        with pytest.raises(Conflict):
            await service.remove(IMAGE)
    finally:
        dockerd.remove("uses")


@pytest.mark.parametrize("reference", ["oci:/srv/app", "containers-storage:app", "UPPER", ""])
async def test_what_is_no_name_of_dockerds(service: DockerImages, reference: str) -> None:
    with pytest.raises(Invalid):
        await service.find(reference)
