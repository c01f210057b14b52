"""The driver contract's tests of images. See podd.testing.contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from podd.driver.contract import CanImages, Image, ImageService, PullProgress, Security
from podd.errors import Invalid, NotFound
from podd.testing.cancelling import cancelled_everywhere
from podd.testing.lab import SHARED, Lab, needs, needs_processes, together

_SAYS = f'echo "$(id -u):$(id -g) $(pwd) $FIRST $SECOND" > {SHARED}/said.new; mv {SHARED}/said.new {SHARED}/said'

IMAGE_CONFIG: dict[str, Any] = {
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": [_SAYS],
    "Env": ["PATH=/bin", "FIRST=image", "SECOND=image"],
    "User": "1000:2000",
    "WorkingDir": "/tmp",
    "Labels": {"of": "the contract"},
}
"""What the image of these tests says of itself, as in an OCI image. In it is what other images of tests have, too."""


class Images:
    """Mixed into DriverContract."""

    @pytest.fixture
    def remote(self) -> str:
        """An image with IMAGE_CONFIG that is to be had and is not here, by the name under which it is pulled."""
        pytest.skip("this driver's tests do not say where images are")

    # ---- brought, found, taken away

    async def test_an_image_is_here_from_its_pull_to_its_removal(self, lab: Lab, remote: str) -> None:
        service = _service(lab)
        assert await service.find(remote) is None
        image = await _pull(service, remote)
        for reference in (remote, image.id, *image.names, *image.digests):
            assert _key(await service.find(reference)) == _key(image), reference
        assert [one.id for one in await service.list()].count(image.id) == 1
        assert await service.usage_bytes() > 0
        assert await service.remove(remote)
        assert await service.find(remote) is None
        assert image.id not in [one.id for one in await service.list()]

    async def test_what_was_pulled_is_here_after_a_restart_of_podd(self, lab: Lab, remote: str) -> None:
        image = await _pull(_service(lab), remote)
        async with lab.away():
            pass
        assert _key(await _service(lab).find(remote)) == _key(image)
        await _service(lab).remove(image.id)
        assert await _service(lab).find(remote) is None

    async def test_asked_again_each_verb_gives_the_same(self, lab: Lab, remote: str) -> None:
        service = _service(lab)
        assert len({(await _pull(service, remote)).id for _ in range(2)}) == 1
        assert await service.find(remote) == await service.find(remote)
        assert await service.list() == await service.list()
        await service.remove(remote)
        with pytest.raises(NotFound):
            await service.remove(remote)

    async def test_what_is_no_reference_is_refused(self, lab: Lab) -> None:
        for verb in (_service(lab).find, _service(lab).remove):
            with pytest.raises(Invalid):
                await verb("UPPER//case")

    async def test_two_pulls_at_once_bring_one_image(self, lab: Lab, remote: str) -> None:
        service = _service(lab)
        one, other = await together([lambda: _pull(service, remote)] * 2)
        assert _key(one) == _key(other)
        assert [image.id for image in await service.list()].count(one.id) == 1
        await service.remove(remote)

    async def test_a_pull_tells_of_no_more_than_there_is(self, lab: Lab, remote: str) -> None:
        told: list[PullProgress] = []
        await _service(lab).pull(remote, [], told.append)
        assert all(0 <= one.done_bytes <= (one.total_bytes or one.done_bytes) for one in told)
        await _service(lab).remove(remote)

    # ---- cancelled

    async def test_a_pull_cancelled_anywhere_brings_all_or_leaves_nothing(self, lab: Lab, remote: str) -> None:
        """One that is asked for again meets a backend that may still be at the first: nothing is left of either."""
        service = _service(lab)
        await _pull(service, remote)  # a store that has never been used has not made all of its files yet
        await service.remove(remote)
        before, size = await service.list(), await service.usage_bytes()
        async for where in cancelled_everywhere(lambda: _pull(service, remote)):
            await _pull(service, remote)
            await service.remove(remote)
            assert await service.list() == before, where
            assert await service.usage_bytes() == size, where

    async def test_a_removal_cancelled_anywhere_is_carried_out_when_asked_again(self, lab: Lab, remote: str) -> None:
        service = _service(lab)

        async def bring_and_remove() -> None:
            await _pull(service, remote)
            await service.remove(remote)

        await bring_and_remove()
        size = await service.usage_bytes()
        await _pull(service, remote)
        async for where in cancelled_everywhere(lambda: service.remove(remote)):
            if await service.find(remote) is not None:
                await service.remove(remote)
            assert await service.usage_bytes() == size, where
            await _pull(service, remote)
        await service.remove(remote)

    async def test_looking_can_be_cancelled_anywhere(self, lab: Lab, remote: str) -> None:
        service = _service(lab)
        image = await _pull(service, remote)
        for look in (lambda: service.find(remote), service.list, service.usage_bytes):
            async for _ in cancelled_everywhere(look):
                pass
        assert _key(await service.find(remote)) == _key(image)
        await service.remove(remote)

    # ---- what it says

    async def test_an_image_says_how_it_is_run(self: Any, lab: Lab, remote: str) -> None:
        needs_processes(self)
        image = await _pull(_service(lab), remote)
        assert (image.user, image.labels) == ("1000:2000", {"of": "the contract"})
        assert await _said(lab, remote, image) == "1000:2000 /tmp image image"

    async def test_a_pod_says_it_better(self: Any, lab: Lab, remote: str) -> None:
        needs_processes(self)
        image = await _pull(_service(lab), remote)
        given = {"env": (("SECOND", "pod"),), "working_dir": "/bin", "security": Security(uid=5, gid=6)}
        assert await _said(lab, remote, image, **given) == "5:6 /bin image pod"
        given = {"args": (_SAYS.replace("$FIRST", "args"),)}
        assert await _said(lab, remote, image, **given) == "1000:2000 /tmp args image"


def _service(lab: Lab) -> ImageService:
    needs(lab, "images")
    assert isinstance(lab.driver, CanImages)
    return lab.driver.images


async def _pull(service: ImageService, reference: str, credentials: Sequence[Any] = ()) -> Image:
    return await service.pull(reference, credentials, lambda _: None)


def _key(image: Image | None) -> tuple[str, Sequence[str]] | None:
    """What does not depend on how much of it somebody looked at."""
    return None if image is None else (image.id, sorted(image.names))


async def _said(lab: Lab, reference: str, image: Image, **given: Any) -> str:
    """What a container of the image, run as these say, has written; and that it knows what it is of."""
    lab.shared.chmod(0o777)
    (lab.shared / "said").unlink(missing_ok=True)
    made = await lab.sandbox()
    config = lab.container_config(made.handle)
    asked = {"image": reference, "image_id": image.id, "command": (), "args": (), **given}
    container = await lab.driver.create_container(made.handle, msgspec.structs.replace(config, **asked))
    assert container.image_id == image.id
    (started,) = await lab.driver.start_containers([container.handle])
    assert not started.error
    assert (await lab.driver.wait_container(container.handle)).code == 0
    return await lab.seen("said")
