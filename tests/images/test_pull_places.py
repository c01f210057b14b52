"""Where images may come from: registries with passwords, mirrors, files; and how they go again."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from images.layouts import skopeo
from images.stores import Store, until
from podd.errors import Denied, Invalid, NotFound, PoddError, Unavailable
from realregistry import PASSWORD, USER, Proxy, Served

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture
def anyio_backend() -> str:
    """skopeo does not wait for a virtual clock."""
    return "asyncio"


SECRET = {"username": USER, "password": PASSWORD}


class TestSecured:
    @pytest.fixture
    def trusting(self, secured: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", secured.authority)

    async def test_one_that_nobody_vouches_for(self, tmp_path: Path, secured: Served) -> None:
        with pytest.raises(Unavailable, match="certificate is not trusted") as refused:
            await Store(tmp_path).pull(f"{secured.host}/team/app:1")
        assert "certs.d" in refused.value.remedy

    @pytest.mark.usefixtures("trusting")
    async def test_without_a_password(self, tmp_path: Path, secured: Served) -> None:
        store = Store(tmp_path)
        wrong = {"auths": {secured.host: {"username": USER, "password": "guessed"}}}
        for given in ([], [wrong], [{"auths": {"other.example": SECRET}}]):
            with pytest.raises(Denied, match="wants other credentials") as refused:
                await store.pull(f"{secured.host}/team/app:1", *given)
            assert "guessed" not in str(refused.value)
        assert store.everything() == set()

    @pytest.mark.usefixtures("trusting")
    async def test_with_one_of_several(self, tmp_path: Path, secured: Served) -> None:
        wrong = {"auths": {secured.host: {"username": USER, "password": "guessed"}}}
        right = {"auths": {f"https://{secured.host}/v1/": SECRET}}
        assert await Store(tmp_path).pull(f"{secured.host}/team/app:1", wrong, right)

    @pytest.mark.usefixtures("trusting")
    async def test_with_the_hosts(self, tmp_path: Path, secured: Served) -> None:
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {secured.host: {"auth": auth}}}))
        assert await Store(tmp_path, auth_file=str(tmp_path / "auth.json")).pull(f"{secured.host}/team/app:1")


async def test_a_mirror_is_asked_first(tmp_path: Path, proxy: Proxy) -> None:
    mirror = f'[[registry.mirror]]\nlocation = "{proxy.host}"\ninsecure = true\n'
    store = Store(tmp_path, more=f'[[registry]]\nlocation = "registry.invalid"\n{mirror}')
    image = await store.pull("registry.invalid/team/app:1")
    assert image.names == ["registry.invalid/team/app:1"]
    assert proxy.count("/v2/team/app/manifests/1") > 0


async def test_one_that_is_blocked(tmp_path: Path, proxy: Proxy) -> None:
    blocked = f'[[registry]]\nlocation = "{proxy.host}"\nblocked = true\n'
    with pytest.raises(Denied, match="its registry is blocked"):
        await Store(tmp_path, more=blocked).pull(f"{proxy.host}/team/app:1")
    assert not proxy.asked


async def test_a_policy_that_refuses_it(tmp_path: Path, registry: Served) -> None:
    (tmp_path / "policy.json").write_text('{"default": [{"type": "reject"}]}')
    store = Store(tmp_path, registry.host, policy=str(tmp_path / "policy.json"))
    with pytest.raises(Denied, match="the signature policy refuses it"):
        await store.pull(f"{registry.host}/team/app:1")


async def test_a_short_name_is_looked_for_in_each_registry(tmp_path: Path, proxy: Proxy, registry: Served) -> None:
    search = f'unqualified-search-registries = ["{proxy.host}", "{registry.host}"]\n'
    proxy.fault, proxy.on = "500", "/v2/app/"
    store = Store(tmp_path, proxy.host, registry.host, more=search)
    assert (await store.pull("app:1")).names == [f"{registry.host}/app:1"]
    assert proxy.count("/v2/app/manifests/1") > 0
    assert (found := await store.service.find("app:1"))
    assert found.names == [f"{registry.host}/app:1"]
    with pytest.raises(NotFound):
        await store.pull("none:1")


async def test_one_that_speaks_no_tls(tmp_path: Path, proxy: Proxy) -> None:
    with pytest.raises(Unavailable, match="speaks no TLS"):
        await Store(tmp_path).pull(f"{proxy.host}/team/app:1")


# ---- without a registry, and away again ------------------------------------------------------------------------------


async def test_from_files(tmp_path: Path, source: str) -> None:
    store = Store(tmp_path)
    image = await store.pull(source)
    (name,) = image.names
    assert name.startswith("localhost/app-")
    assert await store.service.find(source) == image
    assert await store.pull(f"containers-storage:{image.id}") == image
    assert await store.pull(image.id) == image
    with pytest.raises(NotFound, match="there is no such image"):
        await store.pull("docker-archive:/nowhere.tar")
    with pytest.raises(NotFound, match="it is not here"):
        await store.pull("containers-storage:none")


async def test_what_was_built_here_is_not_looked_for_elsewhere(tmp_path: Path, source: str) -> None:
    store = Store(tmp_path, more='unqualified-search-registries = ["registry.invalid"]\n')
    (image,) = await store.service.load(source, "app", lambda _: None)
    assert image.names == ["localhost/app:latest"]
    for name in ("app", "localhost/app", "localhost/app:latest"):
        assert await store.pull(name) == image


ARCHIVES = {  # what is written, and the name under which it is kept
    "docker-archive:app.tar:app:1": "docker.io/library/app:1",
    "docker-archive:app.tar:registry.example/app:2": "registry.example/app:2",
    "oci-archive:app.tar:1": None,
    "oci-archive:app.tar:registry.example/app:3": "registry.example/app:3",
    "oci:app:2": None,
}


@pytest.mark.parametrize("target", ARCHIVES)
async def test_takes_in_what_an_archive_has(target: str, tmp_path: Path, source: str) -> None:
    store = Store(tmp_path)
    transport, _, rest = target.partition(":")
    file, _, name = rest.partition(":")
    skopeo("copy", "--quiet", source, f"{transport}:{tmp_path}/{file}:{name}")
    (image,) = await store.service.load(f"{tmp_path}/{file}", "", lambda _: None)
    (kept,) = image.names
    assert kept == ARCHIVES[target] or (ARCHIVES[target] is None and kept.startswith("localhost/app-"))
    (again,) = await store.service.load(f"{tmp_path}/{file}", "mine:7", lambda _: None)
    assert set(again.names) == {kept, "localhost/mine:7"}


NO_ARCHIVES: dict[str, tuple[bytes | dict[str, bytes] | None, type[PoddError]]] = {
    "not there": (None, NotFound),
    "no tar": (b"nothing", Invalid),
    "a tar of something": ({"readme": b"x"}, Invalid),
    "a manifest that is none": ({"manifest.json": b"{"}, Invalid),
    "a manifest of nonsense": ({"manifest.json": b"3"}, Invalid),
    "an index of nonsense": ({"index.json": b"{}"}, Invalid),
}


@pytest.mark.parametrize("case", NO_ARCHIVES)
async def test_what_is_no_archive(case: str, tmp_path: Path) -> None:
    content, kind = NO_ARCHIVES[case]
    file = tmp_path / "app.tar"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        with tarfile.open(file, "w") as archive:
            for name, text in content.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    with pytest.raises(kind, match=str(file)):
        await Store(tmp_path).service.load(str(file), "", lambda _: None)


async def test_removes_a_name_and_then_the_image(tmp_path: Path, registry: Served, source: str) -> None:
    store = Store(tmp_path, registry.host)
    image = await store.pull(f"{registry.host}/team/app:1")
    both = await store.pull(f"{registry.host}/library/busybox:1")
    assert both.id == image.id
    assert await store.service.remove(f"{registry.host}/team/app:1") == [f"{registry.host}/team/app:1"]
    assert (await store.service.list())[0].names == [f"{registry.host}/library/busybox:1"]
    assert await store.service.remove(image.id[7:]) == [f"{registry.host}/library/busybox:1", image.id]
    assert store.everything() == set()
    with pytest.raises(NotFound):
        await store.service.remove(image.id)


async def test_without_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="skopeo is not installed") as refused:
        await store.pull("registry.invalid/app")
    assert refused.value.remedy == "apt-get install skopeo"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A directory with little room."""
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "small", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


async def test_no_room(small: Path, registry: Served) -> None:
    store = Store(small, registry.host)
    with pytest.raises(Unavailable, match="the disk is full"):
        await store.pull(f"{registry.host}/team/app:1")
    assert store.everything() == set()


async def test_it_is_over_when_its_last_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What skopeo starts to unpack a layer may end later than skopeo: until then the pull's place counts as in use."""
    program = tmp_path / "skopeo"
    slow = f"trap '' HUP; : > {tmp_path}/started; while kill -0 $1; do sleep 0.02; done; sleep 0.3; : > {tmp_path}/over"
    program.write_text(f'#!/bin/sh\nsetsid sh -c "{slow.replace("$", chr(92) + "$")}" sh $$ &\nsleep 100\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    store = Store(tmp_path / "store")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.pull, "registry.invalid/app")
        await until((tmp_path / "started").exists)
        tasks.cancel_scope.cancel()
    assert (tmp_path / "over").exists()
    assert store.everything() == set()
