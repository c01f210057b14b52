"""The images of pods: had before anything of a pod is made, in the kubelet's words, and kept while pods are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import anyio
import msgspec

from podd.core import events as ev
from podd.core import look, pullsecrets
from podd.core.difference import pull_policy
from podd.core.sources import Sources
from podd.core.state import PodState
from podd.driver.contract import CanImages, Credentials, Driver, ImageService, PullProgress
from podd.engine.calls import Calls
from podd.engine.pulls import Pulls
from podd.errors import Kind, PoddError
from podd.model.image import parse
from podd.model.pod import ROOTFS, Container


def service_of(driver: Driver) -> ImageService | None:
    """None: it has no images, or sees to them by itself."""
    return driver.images if driver.capabilities.images and isinstance(driver, CanImages) else None


Queued = Callable[[str, bool], None]
"""Whether the pull of an image waits for its turn."""


class Missing(NamedTuple):
    """Why an image cannot be had. reason: of the container's state."""

    reason: ev.ImageReason
    failure: ev.Failure


class Images:
    """Those of one pod. told: an event for people. report: for the pod's own state."""

    def __init__(
        self,
        driver: Driver,
        calls: Calls,
        pulls: Pulls,
        told: Callable[[ev.Tell], None],
        report: Callable[[ev.Report], Awaitable[None]],
    ) -> None:
        self._driver = driver
        self._calls = calls
        self._pulls = pulls
        self._told = told
        self._report = report
        self._queued: set[str] = set()

    async def all_of(self, state: PodState, sources: Sources) -> ev.ImagesPulled:
        """Of every member, all at once. Events tell of each as it comes, the report when there is none to wait for."""
        wanted: dict[tuple[str, str], list[str]] = {}
        for name in look.lasting(state):
            spec = look.spec_of(state, name)
            wanted.setdefault((spec.image, _policy(spec)), []).append(name)
        found: dict[str, str | Missing] = {}
        credentials = self._credentials(state, sources)

        async def have(names: Sequence[str]) -> None:
            got = await self._one(look.spec_of(state, names[0]), credentials, queued)
            found.update(dict.fromkeys(names, got))

        def queued(image: str, is_so: bool) -> None:
            if is_so != (image in self._queued):
                self._queued ^= {image}
                tasks.start_soon(self._report_queued)

        async with anyio.create_task_group() as tasks:
            for names in wanted.values():
                tasks.start_soon(have, names)
        ids = {name: found[name] for name in look.lasting(state)}
        for name, got in ids.items():
            if isinstance(got, Missing):
                return ev.ImagesPulled(culprit=name, reason=got.reason, failure=got.failure)
        return ev.ImagesPulled(ids=ids)  # type: ignore[arg-type]  # none is missing

    async def _report_queued(self) -> None:
        await self._report(ev.ImagesQueued(images=sorted(self._queued)))

    async def one_of(self, state: PodState, name: str, sources: Sources) -> str | Missing:
        """Of one container that is made: what was found for the whole pod; for one that comes later, what is now."""
        if name in state.image_ids and state.members[name].begun <= 1:
            return state.image_ids[name]
        return await self._one(look.spec_of(state, name), self._credentials(state, sources), lambda *_: None)

    def _credentials(self, state: PodState, sources: Sources) -> Sequence[Credentials]:
        secrets = pullsecrets.of(state.pod, sources)
        if secrets.missing:
            names = ", ".join(secrets.missing)
            message = (
                f"Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."
            )
            self._told(ev.Tell(type="Warning", reason="FailedToRetrieveImagePullSecret", message=message))
        return secrets.found

    async def _one(self, spec: Container, credentials: Sequence[Credentials], queued: Queued) -> str | Missing:
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
        return await self._pull(service, spec, credentials, queued)

    async def _pull(
        self, service: ImageService, spec: Container, credentials: Sequence[Credentials], queued: Queued
    ) -> str | Missing:
        image = spec.image
        self._tell(spec, "Pulling", f'Pulling image "{image}"')
        took = _Took()

        def note(progress: PullProgress) -> None:
            took.note(progress.queued)
            queued(image, progress.queued)

        pulled, failure = await self._calls("pull_image", lambda: self._pulls.pull(service, image, credentials, note))
        if pulled is None:
            assert failure is not None
            message = f'Failed to pull image "{image}": {failure.message}'
            return Missing("ErrImagePull", msgspec.structs.replace(failure, message=message))
        size = f" Image size: {pulled.size_bytes} bytes." if pulled.size_bytes else ""
        self._tell(spec, "Pulled", f'Successfully pulled image "{image}" in {took}.{size}')
        return pulled.id

    def _tell(self, spec: Container, reason: str, message: str) -> None:
        self._told(ev.Tell(reason=reason, message=message, container=spec.name))


class _Took:
    """How long a pull has taken until now, with and without the time in which it waited for its turn."""

    def __init__(self) -> None:
        self._asked = self._began = anyio.current_time()
        self._is_queued = False

    def note(self, is_queued: bool) -> None:
        if self._is_queued and not is_queued:
            self._began = anyio.current_time()
        self._is_queued = is_queued

    def __str__(self) -> str:
        now = anyio.current_time()
        waited = f" ({now - self._asked:.3g}s including waiting)" if self._began > self._asked else ""
        return f"{now - self._began:.3g}s{waited}"


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
