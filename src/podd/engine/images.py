"""The images of pods: had before anything of a pod is made, in the kubelet's words, and kept while pods are there.

However many pods want an image, it is pulled once. Who has other passwords pulls by himself: else a pod would have, or
be refused, an image for what another may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio
import msgspec

from podd.core import events as ev
from podd.core import look, pullsecrets
from podd.core.difference import pull_policy
from podd.core.sources import Sources
from podd.core.state import PodState
from podd.driver.contract import CanImages, Credentials, Driver, Image, ImageService, PullProgress
from podd.engine.calls import Calls
from podd.engine.flights import Flights, Tell
from podd.errors import Kind, PoddError
from podd.model.image import parse
from podd.model.pod import ROOTFS, Container

Pulls = Flights[Image, PullProgress]


async def pull(
    pulls: Pulls,
    service: ImageService,
    reference: str,
    credentials: Sequence[Credentials],
    tell: Tell[PullProgress] = lambda _: None,
) -> Image:
    """Raises as ImageService.pull."""
    key = (service.name, reference, msgspec.json.encode(credentials, order="deterministic"))
    return await pulls.join(key, lambda told: service.pull(reference, credentials, told), tell)


def service_of(driver: Driver) -> ImageService | None:
    """None: it has no images, or sees to them by itself."""
    return driver.images if driver.capabilities.images and isinstance(driver, CanImages) else None


class Missing(NamedTuple):
    """Why an image cannot be had. reason: of the container's state."""

    reason: ev.ImageReason
    failure: ev.Failure


class Images:
    """Those of one pod. told: an event for people."""

    def __init__(self, driver: Driver, calls: Calls, pulls: Pulls, told: Callable[[ev.Tell], None]) -> None:
        self._driver = driver
        self._calls = calls
        self._pulls = pulls
        self._told = told

    async def all_of(self, state: PodState, sources: Sources) -> ev.ImagesPulled:
        """Of every member, all at once. Events tell of each as it comes, the report when there is none to wait for."""
        wanted: dict[tuple[str, str], list[str]] = {}
        for name in look.lasting(state):
            spec = look.spec_of(state, name)
            wanted.setdefault((spec.image, _policy(spec)), []).append(name)
        found: dict[str, str | Missing] = {}
        credentials = self._credentials(state, sources)

        async def have(names: Sequence[str]) -> None:
            got = await self._one(look.spec_of(state, names[0]), credentials)
            found.update(dict.fromkeys(names, got))

        async with anyio.create_task_group() as tasks:
            for names in wanted.values():
                tasks.start_soon(have, names)
        ids = {name: found[name] for name in look.lasting(state)}
        for name, got in ids.items():
            if isinstance(got, Missing):
                return ev.ImagesPulled(culprit=name, reason=got.reason, failure=got.failure)
        return ev.ImagesPulled(ids=ids)  # type: ignore[arg-type]  # none is missing

    async def one_of(self, state: PodState, name: str, sources: Sources) -> str | Missing:
        """Of one container that is made: what was found for the whole pod; for one that comes later, what is now."""
        if name in state.image_ids and state.members[name].begun <= 1:
            return state.image_ids[name]
        return await self._one(look.spec_of(state, name), self._credentials(state, sources))

    def _credentials(self, state: PodState, sources: Sources) -> Sequence[Credentials]:
        secrets = pullsecrets.of(state.pod, sources)
        if secrets.missing:
            names = ", ".join(secrets.missing)
            message = (
                f"Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
            )
            self._told(ev.Tell(type="Warning", reason="FailedToRetrieveImagePullSecret", message=message))
        return secrets.found

    async def _one(self, spec: Container, credentials: Sequence[Credentials]) -> str | Missing:
        """Its id; "" where there is nothing that has one."""
        service, image = service_of(self._driver), spec.image
        if service is None or image.startswith(ROOTFS):
            return ""
        refused = _refused(image)
        if refused is not None:
            return Missing("InvalidImageName", refused)
        if (policy := _policy(spec)) != "Always":
            found, failure = await self._calls("find_image", lambda: service.find(image))
            if failure is not None:
                return Missing("ImageInspectError", failure)
            if found is not None:
                self._tell(spec, "Pulled", f'Container image "{image}" already present on machine')
                return found.id
            if policy == "Never":
                return Missing("ErrImageNeverPull", _never(image))
        return await self._pull(service, spec, credentials)

    async def _pull(self, service: ImageService, spec: Container, credentials: Sequence[Credentials]) -> str | Missing:
        image = spec.image
        self._tell(spec, "Pulling", f'Pulling image "{image}"')
        began = anyio.current_time()
        pulled, failure = await self._calls("pull_image", lambda: pull(self._pulls, service, image, credentials))
        if pulled is None:
            assert failure is not None
            message = f'Failed to pull image "{image}": {failure.message}'
            return Missing("ErrImagePull", msgspec.structs.replace(failure, message=message))
        took_s = anyio.current_time() - began
        size = f" Image size: {pulled.size_bytes} bytes." if pulled.size_bytes else ""
        self._tell(spec, "Pulled", f'Successfully pulled image "{image}" in {took_s:.3g}s.{size}')
        return pulled.id

    def _tell(self, spec: Container, reason: str, message: str) -> None:
        self._told(ev.Tell(reason=reason, message=message, container=spec.name))


def _policy(spec: Container) -> str:
    return spec.image_pull_policy or pull_policy(spec.image)


def _refused(image: str) -> ev.Failure | None:
    try:
        parse(image)
    except PoddError as exc:
        return ev.Failure(kind=exc.kind, message=f"{exc.message}", remedy=exc.remedy)
    return None


def _never(image: str) -> ev.Failure:
    return ev.Failure(
        kind=Kind.NOT_FOUND,
        message=f'Container image "{image}" is not present with pull policy of Never',
        remedy=f"bring it: podd-cli image pull {image}, or image import",
    )
