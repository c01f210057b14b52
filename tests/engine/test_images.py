"""Images are there before anything of a pod is made; until they can be had it backs off, and nothing of it runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from harness import Crash, apply, engine, ignore
from test_crash import Points

from podd.driver.contract import Image, PullProgress
from podd.engine.engine import Engine
from podd.engine.view import ManifestText
from podd.errors import Conflict, Invalid, NotFound, Unavailable
from podd.model.status import ContainerStateWaiting, PodStatus
from podd.testing.fake import FakeDriver, FakeHost, Program

pytestmark = pytest.mark.anyio

NO_ANSWER = Unavailable("image far:1: the registry does not answer", remedy="check the network")


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost()
    host.remote = {"far:1": 5, "farther:1": 20, "here": 1}
    return host


def pod(*images: str, name: str = "web", more: str = "", each: str = "") -> str:
    containers = "".join(f"  - {{name: c{n}, image: '{image}'{each}}}\n" for n, image in enumerate(images))
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{more}  containers:\n{containers}"


async def status(one: Engine, name: str = "web") -> PodStatus:
    return (await one.get(name, None)).status


async def waiting(one: Engine, container: int = 0, name: str = "web") -> ContainerStateWaiting:
    found = (await status(one, name)).container_statuses[container].state.waiting
    assert found is not None
    return found


async def told(one: Engine, name: str = "web") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async for batch in one.events(name, None, since=None, follow=False):
        found += [(event.reason, event.message) for event in batch]
    return found


def effects(host: FakeHost, *names: str) -> Sequence[str]:
    return [f"{e.name} {e.of}" for e in host.effects() if e.name in names]


# ---- they are there first --------------------------------------------------------------------------------------------


async def test_all_are_pulled_at_once_and_before_anything_is_made(tmp_path: Path, host: FakeHost) -> None:
    init = "  initContainers: [{name: i, image: 'here'}]\n"
    host.programs["i"] = Program(exits_after_s=0)
    async with engine(tmp_path, host) as one:
        began = anyio.current_time()
        await apply(one, pod("far:1", "farther:1", "rootfs:/", more=init, each=", command: [/bin/x]"))
        assert anyio.current_time() - began == pytest.approx(20)
        assert (await status(one)).phase == "Running"
        events = await told(one)
    assert effects(host, "pulled", "sandbox_made")[:4] == [
        "pulled here",
        "pulled far:1",
        "pulled farther:1",
        "sandbox_made web",
    ]
    assert ("Pulling", 'Pulling image "far:1"') in events
    assert ("Pulled", 'Successfully pulled image "far:1" in 5s. Image size: 5 bytes.') in events


async def test_a_container_is_told_which_image_it_is(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1", "rootfs:/", each=", command: [/bin/x]"))
        first, second = (await status(one)).container_statuses
        assert first.image_id == host.images["far:1"].id == host.container("c0").config.image_id
        assert second.image_id == host.container("c1").config.image_id == ""


async def test_of_one_that_cannot_be_had_nothing_runs(tmp_path: Path, host: FakeHost) -> None:
    host.fault("pull", of="far:1", error=NO_ANSWER)
    async with engine(tmp_path, host) as one:
        result = await apply(one, pod("here", "farther:1", "far:1"))
        assert (result.phase, result.reason) == ("Pending", "ImagePullBackOff")
        assert not host.effects("sandbox_made")
        said = await waiting(one, 2)
        assert said.reason == "ImagePullBackOff"
        assert said.message.startswith('Back-off pulling image "far:1": ErrImagePull: Failed to pull image "far:1": ')
        assert said.message.endswith("does not answer; check the network")
        assert (await waiting(one, 0)).reason == "ContainerCreating"
        events = await told(one)
        assert ("Failed", f'Failed to pull image "far:1": {NO_ANSWER.message}') in events
        assert ("BackOff", 'Back-off pulling image "far:1"') in events


async def test_it_backs_off_as_a_kubelet_does_and_runs_when_it_can(tmp_path: Path, host: FakeHost) -> None:
    host.remote["far:1"] = 0
    host.fault("pull", of="far:1", error=NO_ANSWER)
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1", more="  restartPolicy: Never\n"))
        await anyio.sleep(2000)
        at = [call.at_s for call in host.calls("pull")]
        assert [round(b - a) for a, b in pairwise(at)][:7] == [10, 20, 40, 80, 160, 300, 300]
        host.faults.clear()
        await anyio.sleep(301)
        assert (await status(one)).phase == "Running"
        assert (await status(one)).container_statuses[0].restart_count == 0


async def test_who_starts_it_waits_for_the_next_pull(tmp_path: Path, host: FakeHost) -> None:
    host.fault("pull", of="far:1", call=1, error=NO_ANSWER)
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1"))
        began = anyio.current_time()
        assert (await one.start("web", None, wait=True)).status.phase == "Running"
        assert anyio.current_time() - began == pytest.approx(5)


async def test_while_it_is_pulled_again_it_is_what_the_last_try_came_to(tmp_path: Path, host: FakeHost) -> None:
    host.fault("pull", of="far:1", error=NO_ANSWER)
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1"), wait=False)
        await anyio.sleep(1)
        assert (await waiting(one)).reason == "ContainerCreating"
        await anyio.sleep(5)
        assert (await waiting(one)).reason == "ImagePullBackOff"
        await anyio.sleep(10)
        assert (await waiting(one)).reason == "ErrImagePull"


# ---- when it is pulled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "image", "pulls"),
    [("Always", "far:1", 2), ("IfNotPresent", "far:1", 1), ("", "far:1", 1), ("", "here", 2), ("Never", "far:1", 1)],
)
async def test_the_policy_says_when(policy: str, image: str, pulls: int, tmp_path: Path, host: FakeHost) -> None:
    """For another pod, when it is here already."""
    each = f", imagePullPolicy: {policy}" if policy else ""
    async with engine(tmp_path, host) as one:
        await apply(one, pod(image))
        await apply(one, pod(image, name="second", each=each))
        assert (await status(one, "second")).phase == "Running"
        assert len(host.effects("pulled")) == pulls
        here = ("Pulled", f'Container image "{image}" already present on machine')
        assert (here in await told(one, "second")) == (pulls == 1)


async def test_never_is_never(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1", each=", imagePullPolicy: Never"))
        said = await waiting(one)
        assert said.reason == "ErrImageNeverPull"
        why = 'Container image "far:1" is not present with pull policy of Never'
        assert why in said.message
        assert ("ErrImageNeverPull", why) in await told(one)
        assert not host.effects("pulling")


async def test_a_container_that_comes_back_looks_again(tmp_path: Path, host: FakeHost) -> None:
    host.programs["c0"] = [Program(exits_after_s=1, code=1)] * 2 + [Program()]
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1", each=", imagePullPolicy: Always"))
        await anyio.sleep(8)
        assert len(host.effects("pulled")) == 2
        host.fault("pull", of="far:1", call=3, error=NO_ANSWER)
        await anyio.sleep(15)
        assert (await waiting(one)).reason == "ImagePullBackOff"
        await anyio.sleep(60)
        found = (await status(one)).container_statuses[0]
        assert found.state.running is not None
        assert found.restart_count == 2, "what was never made has not run"


# ---- one pull for all ------------------------------------------------------------------------------------------------


async def test_five_pods_at_once_are_one_pull(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(apply, one, pod("far:1", name=f"web-{n}"))
        assert len(host.effects("pulling")) == 1
        assert len(host.running()) == 5


async def test_one_that_nobody_waits_for_is_given_up(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        for name in ("web", "other"):
            await apply(one, pod("far:1", name=name), wait=False)
        await anyio.sleep(1)
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert not host.effects("pull_cancelled")
        await one.stop("other", None, grace_period_s=0, wait=True)
        await anyio.sleep(0.1)
        assert host.effects("pull_cancelled")
        assert (await status(one, "other")).phase == "Pending"
        await one.start("other", None, wait=True)
        assert (await status(one, "other")).phase == "Running"


async def test_a_deadline_counts_while_it_is_pulled(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("farther:1", more="  activeDeadlineSeconds: 3\n"), wait=False)
        await anyio.sleep(4)
        assert (await status(one)).reason == "DeadlineExceeded"
        assert host.effects("pull_cancelled")


# ---- how many at once ------------------------------------------------------------------------------------------------


QUEUED = "its image is pulled when others have been: see images.max_parallel_pulls"


async def test_who_asks_first_is_served_first_and_status_says_who_waits(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, max_parallel_pulls=1) as one:
        for name, image in (("a", "far:1"), ("b", "farther:1"), ("c", "here"), ("d", "farther:1")):
            await apply(one, pod(image, name=name), wait=False)
            await anyio.sleep(0.1)
        assert effects(host, "pulling") == ["pulling far:1"]
        said = [await waiting(one, name=name) for name in "abcd"]
        assert [(each.reason, each.message) for each in said] == [
            ("ContainerCreating", ""),
            *[("ContainerCreating", QUEUED)] * 3,
        ]
        await anyio.sleep(6)
        assert effects(host, "pulling") == ["pulling far:1", "pulling farther:1"]
        assert (await status(one, "a")).phase == "Running"
        assert [(await waiting(one, name=name)).message for name in "bcd"] == ["", QUEUED, ""]
        await anyio.sleep(21)
        assert effects(host, "pulling")[2:] == ["pulling here"]
        assert [(await status(one, name)).phase for name in "abcd"] == ["Running"] * 4
        assert 'Successfully pulled image "here" in 1s (25.8s including waiting). Image size: 4 bytes.' in [
            message for _, message in await told(one, "c")
        ]


async def test_who_gives_up_waiting_leaves_the_turn_to_others(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, max_parallel_pulls=1) as one:
        for name, image in (("a", "far:1"), ("b", "farther:1"), ("c", "here")):
            await apply(one, pod(image, name=name), wait=False)
            await anyio.sleep(0.1)
        await one.delete("b", None, grace_period_s=0, wait=True)
        await anyio.sleep(6)
        assert effects(host, "pulling") == ["pulling far:1", "pulling here"]


async def test_by_hand_one_waits_for_pods_and_is_told(tmp_path: Path, host: FakeHost) -> None:
    seen: list[bool] = []

    async def tell(progress: PullProgress) -> None:
        seen.append(progress.queued)

    async with engine(tmp_path, host, max_parallel_pulls=1) as one:
        await apply(one, pod("far:1"), wait=False)
        await anyio.sleep(0.1)
        await one.images.pull("here", None, tell)
        assert seen == [True, False]


# ---- with which passwords --------------------------------------------------------------------------------------------


def secret(name: str, password: str) -> str:
    config = {"auths": {"reg.example": {"username": "u", "password": password}}}
    held = base64.b64encode(json.dumps(config).encode()).decode()
    return (
        f"---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/dockerconfigjson\n"
        f"data: {{.dockerconfigjson: {held}}}\n"
    )


class Seen(FakeDriver):
    """Tells with which passwords it was asked to pull."""

    given: list[list[str]] = []

    def __init__(self, host: FakeHost) -> None:
        super().__init__(host)
        real = self.images.pull

        async def pull(reference, credentials, progress):  # type: ignore[no-untyped-def]
            self.given.append([one["auths"]["reg.example"]["password"] for one in credentials])
            return await real(reference, credentials, progress)

        self.images.pull = pull  # type: ignore[method-assign]


async def test_with_those_that_the_pod_names(tmp_path: Path, host: FakeHost) -> None:
    Seen.given = []
    async with engine(tmp_path, host, driver=Seen) as one:
        for text in (secret("one", "1"), secret("two", "2")):
            await keep(one, text)
        both = "  imagePullSecrets: [{name: two}, {name: one}]\n"
        async with anyio.create_task_group() as tasks:
            for name, more in (("a", both), ("b", both), ("c", "  imagePullSecrets: [{name: one}, {name: three}]\n")):
                tasks.start_soon(apply, one, pod("far:1", name=name, more=more))
        assert sorted(Seen.given) == [["1"], ["2", "1"]], "who has other passwords pulls by himself"
        (warning,) = [message for reason, message in await told(one, "c") if reason.startswith("FailedToRetrieve")]
        assert "(three)" in warning


async def keep(one: Engine, text: str) -> None:
    await one.apply(
        [ManifestText(manifest=text, source="")],
        namespace=None,
        dry_run=False,
        wait=False,
        timeout_s=None,
        progress=ignore,
        strict=True,
    )


# ---- podd is killed --------------------------------------------------------------------------------------------------


async def until_crash(tmp_path: Path, host: FakeHost, points: Points) -> bool:
    """True: the crash came."""
    try:
        async with engine(tmp_path, host, failpoint=points) as one:
            await apply(one, pod("far:1", "farther:1"))
            await one.delete("web", None, grace_period_s=0, wait=True)
    except BaseExceptionGroup as group:
        if group.subgroup(Crash) is None:
            raise
        return True
    except Crash:
        return True
    return False


def crashing_host() -> FakeHost:
    host = FakeHost()
    host.remote = {"far:1": 5, "farther:1": 20}
    host.fault("pull", of="far:1", call=1, error=NO_ANSWER)
    return host


async def test_a_crash_at_every_point_is_made_good(tmp_path: Path) -> None:
    points = Points()
    assert not await until_crash(tmp_path / "count", crashing_host(), points)
    for n in range(1, len(points.reached) + 1):
        host = crashing_host()
        assert await until_crash(tmp_path / str(n), host, Points(crash_at=n))
        async with engine(tmp_path / str(n), host) as one:
            await anyio.sleep(900)
            context = f"crash {n}, at {points.reached[n - 1]}"
            try:
                found = await status(one)
            except NotFound:
                assert not host.sandboxes, context
            else:
                assert found.phase == "Running", context
                assert host.running() == ["c0", "c1"], context
        assert not host.violations, context


# ---- what people do with them ----------------------------------------------------------------------------------------


async def no_progress(_: PullProgress) -> None:
    pass


async def test_one_that_a_pod_uses_is_not_removed(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1"))
        with pytest.raises(Conflict, match="is used by pod default/web"):
            await one.images.remove("far:1", None)
        await one.stop("web", None, grace_period_s=0, wait=True)
        with pytest.raises(Conflict):
            await one.images.remove("far:1", None)
        assert (await one.images.prune(None, every=True)).removed == []
        assert (await one.images.usage(None)).unused == 0
        (shown,) = await one.images.list(None)
        assert shown.pods == ["default/web"]
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert (await one.images.remove("far:1", None))[0] == "far:1"
        with pytest.raises(NotFound):
            await one.images.inspect("far:1", None)


async def test_what_is_pruned(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1"))
        await one.images.pull("farther:1", None, no_progress)
        host.images["<none>"] = Image(id=f"sha256:{'1' * 64}")
        assert (await one.images.prune(None, every=False)).removed == ["<none>", f"sha256:{'1' * 64}"]
        assert (await one.images.prune(None, every=True)).removed[0] == "farther:1"
        assert list(host.images) == ["far:1"]


async def test_who_pulls_by_hand_joins_a_pod(tmp_path: Path, host: FakeHost) -> None:
    told: list[PullProgress] = []

    async def tell(progress: PullProgress) -> None:
        told.append(progress)

    async with engine(tmp_path, host) as one:
        await apply(one, pod("far:1"), wait=False)
        await anyio.sleep(1)
        await one.images.pull("far:1", None, no_progress)
        await one.images.pull("here", None, tell)
        assert len(host.effects("pulling")) == 2
        assert [progress.message for progress in told] == ["1 layers"]
        with pytest.raises(Invalid):
            await one.images.pull("Here", None, no_progress)
        with pytest.raises(NotFound, match="driver other: there is none"):
            await one.images.pull("here", "other", no_progress)
        host.fault("pull", of="farther:1", error=NO_ANSWER)
        with pytest.raises(Unavailable, match="does not answer"):
            await one.images.pull("farther:1", None, no_progress)
