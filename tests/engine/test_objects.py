"""ConfigMaps and Secrets over the real engine: kept, changed, needed, missed, and brought into running pods."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
from harness import engine, ignore
from structlog.testing import capture_logs

from podd import volumes
from podd.core.state import PodState
from podd.engine.engine import Engine
from podd.engine.podvolumes import PodVolumes
from podd.engine.store import Store
from podd.engine.view import ApplyResult, ManifestText
from podd.errors import Conflict, Invalid, NotFound
from podd.linux.syscalls import UmountFlag, umount2
from podd.testing.fake import FakeHost

Json = dict[str, Any]

pytestmark = [pytest.mark.anyio, pytest.mark.root]  # files of volumes lie in a tmpfs of their own

SECRET_WORD = "hunter2"


@pytest.fixture
def anyio_backend() -> str:
    """Real time: files are written by threads, and a clock that jumps does not wait for them."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _nothing_is_left_mounted(tmp_path: Path) -> Iterator[None]:
    yield
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [point for point in points if point.startswith(f"{tmp_path}/")]
    for point in left:
        umount2(point, UmountFlag.DETACH)
    assert left == []


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def config_map(name: str = "m", **fields: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "1"}, **fields}


def secret(name: str = "s", **fields: Any) -> Json:
    data = {"stringData": {"word": SECRET_WORD}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **data, **fields}


def pod(*volumes: Json, name: str = "web", meta: Json | None = None, spec: Json | None = None, **member: Any) -> Json:
    container = {"name": "a", "image": "rootfs:/", "command": ["/bin/a"], **member}
    named = [{"name": f"v{n}", **volume} for n, volume in enumerate(volumes)]
    of = {"containers": [container], "volumes": named, "terminationGracePeriodSeconds": 0, **(spec or {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **(meta or {})}, "spec": of}


async def apply(one: Engine, *documents: Json, wait: bool = True, dry_run: bool = False) -> list[ApplyResult]:
    text = ManifestText(manifest="\n---\n".join(map(json.dumps, documents)), source="f.yaml")
    return list(await one.apply([text], namespace=None, dry_run=dry_run, wait=wait, timeout_s=10, progress=ignore))


async def actions(one: Engine, *documents: Json, **how: Any) -> list[tuple[str, str, str]]:
    return [(result.kind, result.name, result.action) for result in await apply(one, *documents, **how)]


async def until(is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not is_so():  # noqa: ASYNC110  what a worker thread writes rings no bell
            await anyio.sleep(0.005)


async def gone(one: Engine, name: str = "web") -> None:
    await one.delete(name, None, grace_period_s=0, wait=True)


def files(tmp_path: Path, uid: str, volume: str = "v0") -> dict[str, str]:
    place = tmp_path / "state" / "volumes" / uid / volume
    return {path.name: path.read_text() for path in place.iterdir() if not path.name.startswith("..")}


# ---- kept ------------------------------------------------------------------------------------------------------------


async def test_applied_again_they_are_unchanged_or_configured(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        assert await actions(one, config_map(), secret()) == [("ConfigMap", "m", "created"), ("Secret", "s", "created")]
        first = (await one.objects("ConfigMap", "m", None))[0].metadata
        assert first.uid
        assert first.creation_timestamp
        assert await actions(one, config_map(), secret()) == [
            ("ConfigMap", "m", "unchanged"),
            ("Secret", "s", "unchanged"),
        ]
        assert await actions(one, config_map(data={"k": "2"})) == [("ConfigMap", "m", "configured")]
        assert (await one.objects("ConfigMap", "m", None))[0].metadata == first


async def test_what_would_change_is_told_but_not_of_a_secret(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, config_map(), secret())
        results = await apply(one, config_map(data={"k": "2"}), secret(stringData={"word": "x"}), dry_run=True)
        (config_change,), (secret_change,) = (result.changes for result in results)
        assert (config_change.path, config_change.old, config_change.new) == ("data.k", '"1"', '"2"')
        assert (secret_change.old, secret_change.new) == ('"7 bytes, not shown"', '"1 bytes, not shown"')


async def test_they_are_there_after_a_restart(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, config_map(), secret())
        there = [*await one.objects("ConfigMap", None, None), *await one.objects("Secret", None, None)]
    async with engine(tmp_path, host) as one:
        assert [*await one.objects("ConfigMap", None, None), *await one.objects("Secret", None, None)] == there
        assert there[1].contents() == {"word": SECRET_WORD.encode()}


async def test_dry_run_keeps_nothing(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        assert await actions(one, config_map(), dry_run=True) == [("ConfigMap", "m", "created")]
        assert await one.objects("ConfigMap", None, None) == []


@pytest.mark.parametrize(
    ("there", "then"),
    [
        (config_map(immutable=True), config_map(immutable=True, data={"k": "2"})),
        (config_map(immutable=True), config_map()),
        (secret(immutable=True), secret(immutable=True, stringData={"word": "2"})),
        (secret(), secret(type="example.com/other")),
    ],
)
async def test_what_cannot_change_is_refused_with_all_beside_it(
    tmp_path: Path, host: FakeHost, there: Json, then: Json
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, there)
        results = await apply(one, then, config_map("new"), pod())
        assert {result.action for result in results} == {"refused"}
        (told,) = [result for result in results if result.name == there["metadata"]["name"]]
        assert told.reason == "Conflict"
        assert await one.list_pods(None, "") == []
        with pytest.raises(NotFound):
            await one.objects("ConfigMap", "new", None)


async def test_labels_of_an_immutable_one_may_change(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, config_map(immutable=True))
        again = config_map(immutable=True, metadata={"name": "m", "labels": {"a": "b"}})
        assert await actions(one, again) == [("ConfigMap", "m", "configured")]


async def test_create_makes_one_and_not_another(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        made = await one.create_object(json.dumps(secret()), source="create", namespace="ns")
        assert made.metadata.namespace == "ns"
        with pytest.raises(Conflict, match="Secret ns/s: there is one already"):
            await one.create_object(json.dumps(secret()), source="create", namespace="ns")
        for other in (pod(), {"apiVersion": "v1", "kind": "List", "items": [config_map("a"), config_map("b")]}):
            with pytest.raises(Invalid, match="one ConfigMap or Secret is wanted"):
                await one.create_object(json.dumps(other), source="create", namespace=None)
        await one.delete_object("Secret", "s", "ns")
        with pytest.raises(NotFound, match="Secret ns/s: there is none"):
            await one.delete_object("Secret", "s", "ns")


async def test_a_damaged_one_is_a_problem_until_it_is_applied_again(tmp_path: Path, host: FakeHost) -> None:
    store = Store.open(str(tmp_path / "podd.db"))
    store.save_objects([("Secret", "default", "s", b"{"), ("ConfigMap", "default", "m", b"{")])
    store.close()
    async with engine(tmp_path, host) as one:
        assert len([p for p in (await one.info()).problems if "its record is damaged" in p]) == 2
        await apply(one, secret())
        await one.delete_object("ConfigMap", "m", None)
        assert (await one.info()).problems == []


# ---- needed ----------------------------------------------------------------------------------------------------------


async def test_a_pod_that_needs_what_is_not_there_is_refused_before_anything_is_made(
    tmp_path: Path, host: FakeHost
) -> None:
    needy = pod({"configMap": {"name": "x"}}, envFrom=[{"secretRef": {"name": "s"}}])
    async with engine(tmp_path, host) as one:
        for dry_run in (True, False):
            *others, refused = await apply(one, config_map("other"), secret(), needy, dry_run=dry_run)
            assert [other.action for other in others] == ["created" if dry_run else "refused"] * 2
            assert (refused.kind, refused.action, refused.reason) == ("Pod", "refused", "Invalid")
            assert refused.message.startswith("f.yaml:5:")
            assert 'spec.volumes[0].configMap.name: there is no ConfigMap "x" in namespace default; ' in refused.message
        assert await one.objects("Secret", None, None) == []
        assert await one.list_pods(None, "") == []


async def test_a_key_that_is_not_there_is_missed_too(tmp_path: Path, host: FakeHost) -> None:
    needy = pod({"configMap": {"name": "m", "items": [{"key": "none", "path": "p"}]}})
    async with engine(tmp_path, host) as one:
        await apply(one, config_map())
        (refused,) = await apply(one, needy)
        assert 'items[0].key: ConfigMap "m" in namespace default has no key "none"' in refused.message
        needy = pod({"configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}})
        *_, refused = await apply(one, config_map(data={"other": ""}), needy)
        assert "has no key" in refused.message, "what the manifest says of it counts, not what is there"
        assert (await apply(one, needy))[0].action == "created"
        await gone(one)


async def test_what_is_in_the_manifest_or_was_there_or_is_optional_will_do(tmp_path: Path, host: FakeHost) -> None:
    sources = [
        {"configMap": {"name": "m"}},
        {"secret": {"secretName": "s"}},
        {"configMap": {"name": "x", "optional": True}},
    ]
    async with engine(tmp_path, host) as one:
        await apply(one, config_map())
        results = await apply(one, pod(*sources), secret())
        assert [(r.kind, r.action, r.phase) for r in results] == [
            ("Secret", "created", ""),
            ("Pod", "created", "Running"),
        ]
        uid = results[1].uid
        assert [files(tmp_path, uid, f"v{n}") for n in range(3)] == [{"k": "1"}, {"word": SECRET_WORD}, {}]
        await gone(one)
        assert not (tmp_path / "state" / "volumes" / uid).exists()


# ---- missed at a start -----------------------------------------------------------------------------------------------


async def missed(one: Engine, needed: Json, given: Json, reason: str) -> str:
    """What is said, with that reason, when what the pod needs was deleted while it was stopped."""
    await apply(one, given, needed)
    await one.stop("web", None, grace_period_s=0, wait=True)
    await one.delete_object(given["kind"], given["metadata"]["name"], None)
    await one.start("web", None, wait=False)
    with anyio.fail_after(10):
        async for change in one.watch(None, ""):
            status = change.view.status if change.view else None
            if status and status.reason == reason:
                return status.message
    raise AssertionError


async def test_a_variable_from_what_is_gone_fails_the_start(tmp_path: Path, host: FakeHost) -> None:
    env = [{"name": "W", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}}]
    async with engine(tmp_path, host) as one:
        told = await missed(one, pod(env=env), secret(), "CreateContainerConfigError")
        assert told == 'secret "s" not found; podd-cli create secret generic s'
        await gone(one)


async def test_a_volume_of_what_is_gone_fails_the_start(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        told = await missed(one, pod({"configMap": {"name": "m"}}), config_map(), "FailedMount")
        assert told.startswith('MountVolume.SetUp failed for volume "v0" : configmap "m" not found; ')
        await gone(one)


async def test_a_member_that_restarts_waits_for_what_is_gone(tmp_path: Path, host: FakeHost) -> None:
    env = [{"name": "W", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}}]
    async with engine(tmp_path, host) as one:
        await apply(one, secret(), pod(env=env))
        (box,) = host.sandboxes.values()
        (member,) = box.containers
        await one.delete_object("Secret", "s", None)
        host.kill_container(member)
        with anyio.fail_after(10):
            async for change in one.watch(None, ""):
                (status,) = change.view.status.container_statuses if change.view else (None,)
                if status and status.state.waiting and status.state.waiting.reason == "CreateContainerConfigError":
                    assert status.state.waiting.message.startswith('secret "s" not found')
                    break
        assert list(host.sandboxes.values()) == [box], "the pod itself is as it was"
        await gone(one)


# ---- brought into running pods ---------------------------------------------------------------------------------------


async def test_a_change_while_volumes_are_made_is_not_lost(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, changed, prepare = anyio.Event(), anyio.Event(), PodVolumes.prepare

    async def held(volumes: PodVolumes, state: PodState) -> None:
        await prepare(volumes, state)
        made.set()
        await changed.wait()

    monkeypatch.setattr(PodVolumes, "prepare", held)
    async with engine(tmp_path, host) as one, anyio.create_task_group() as tasks:
        tasks.start_soon(apply, one, config_map(), pod({"configMap": {"name": "m"}}))
        await made.wait()
        await apply(one, config_map(data={"k": "2"}))
        await anyio.wait_all_tasks_blocked()
        changed.set()
        uid = (await one.get("web", None)).pod.metadata.uid
        with anyio.fail_after(10):
            while files(tmp_path, uid) != {"k": "2"}:
                await anyio.lowlevel.checkpoint()
        await gone(one)


async def test_a_bug_in_writing_files_anew_ends_no_pod(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, config_map(), pod({"configMap": {"name": "m"}}))
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(volumes, "update", lambda _: 1 / 0)
            await apply(one, config_map(data={"k": "2"}))
            await anyio.wait_all_tasks_blocked()
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["task.failed"]
        assert (await one.get("web", None)).status.phase == "Running"
        await gone(one)


async def test_variables_are_those_of_the_moment_of_creation(tmp_path: Path, host: FakeHost) -> None:
    env = [
        {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
        {"name": "W", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ]
    async with engine(tmp_path, host) as one:
        await apply(one, config_map(), secret(), pod(env=env))
        (box,) = host.sandboxes.values()
        (made,) = box.containers.values()
        assert list(made.config.env) == [("K", "1"), ("W", SECRET_WORD), ("N", "")]
        await apply(one, config_map(data={"k": "2"}))
        await one.restart("web", None, grace_period_s=0, wait=True)
        (box,) = host.sandboxes.values()
        (made,) = box.containers.values()
        assert made.config.env[0] == ("K", "2")
        await gone(one)


async def test_the_addresses_of_the_host_are_told(tmp_path: Path, host: FakeHost) -> None:
    env = [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}]
    async with engine(tmp_path, host, addresses=lambda: ("192.0.2.7", "2001:db8::7")) as one:
        await apply(one, pod(env=env))
        (box,) = host.sandboxes.values()
        (made,) = box.containers.values()
        assert list(made.config.env) == [("IP", "192.0.2.7,2001:db8::7")]
        await gone(one)


async def test_a_changed_object_reaches_the_files_of_a_running_pod(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        *_, told = await apply(
            one, config_map(), secret(), pod({"configMap": {"name": "m"}}, {"secret": {"secretName": "s"}})
        )
        await apply(one, config_map(data={"k": "2", "new": "3"}))
        await until(lambda: files(tmp_path, told.uid) == {"k": "2", "new": "3"})
        await apply(one, secret(stringData={"word": "other"}))
        await until(lambda: files(tmp_path, told.uid, "v1") == {"word": "other"})
        await gone(one)


async def test_one_that_is_deleted_leaves_the_files_and_says_so(tmp_path: Path, host: FakeHost) -> None:
    volumes = [{"configMap": {"name": "m"}}, {"configMap": {"name": "m", "optional": True}}]
    async with engine(tmp_path, host) as one:
        *_, told = await apply(one, config_map(), pod(*volumes))
        await one.delete_object("ConfigMap", "m", None)
        await until(lambda: files(tmp_path, told.uid, "v1") == {})
        assert files(tmp_path, told.uid, "v0") == {"k": "1"}
        reasons = [e.reason async for batch in one.events("web", None, since=None, follow=False) for e in batch]
        assert "FailedMount" in reasons
        await gone(one)


async def test_changed_labels_reach_the_files_of_a_running_pod(tmp_path: Path, host: FakeHost) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    async with engine(tmp_path, host) as one:
        (told,) = await apply(one, pod({"downwardAPI": {"items": items}}, meta={"labels": {"a": "1"}}))
        assert files(tmp_path, told.uid) == {"labels": 'a="1"'}
        await apply(one, pod({"downwardAPI": {"items": items}}, meta={"labels": {"a": "2", "b": "3"}}))
        await until(lambda: files(tmp_path, told.uid) == {"labels": 'a="2"\nb="3"'})
        await gone(one)


async def test_after_the_host_was_restarted_the_files_are_made_again(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        *_, told = await apply(one, config_map(), pod({"configMap": {"name": "m"}}))
        unmounted(tmp_path, told.uid)
        (box,) = host.sandboxes
        host.lose_sandbox(box)
        await until(lambda: bool(host.sandboxes) and box not in host.sandboxes)
        await until(lambda: files(tmp_path, told.uid) == {"k": "1"})
        await gone(one)


def unmounted(tmp_path: Path, uid: str) -> None:
    place = tmp_path / "state" / "volumes" / uid / "v0"
    umount2(str(place), UmountFlag.DETACH)
    assert list(place.iterdir()) == []


# ---- nobody is told --------------------------------------------------------------------------------------------------


async def test_what_a_secret_holds_is_in_no_log_nor_event_nor_view(tmp_path: Path, host: FakeHost) -> None:
    env = [{"name": "W", "valueFrom": {"secretKeyRef": {"name": "s", "key": "word"}}}]

    async def everything(one: Engine) -> str:
        shown = [repr(await apply(one, secret(), pod({"secret": {"secretName": "s"}}, env=env)))]
        shown.append(repr(await apply(one, secret(stringData={"word": f"{SECRET_WORD}!"}))))
        shown.append(repr(await one.list_pods(None, "")))
        shown.append(repr(await one.info()))
        shown += [repr(batch) async for batch in one.events(None, None, since=None, follow=False)]
        await gone(one)
        await one.delete_object("Secret", "s", None)
        return "".join(shown)

    with structlog.testing.capture_logs() as logged:
        async with engine(tmp_path, host) as one:
            shown = await everything(one)
    for hidden in (SECRET_WORD, "aHVudGVyM"):  # as it is, and in base64
        assert hidden not in shown
        assert hidden not in repr(logged)


async def test_a_pod_may_need_what_another_text_has(tmp_path: Path, host: FakeHost) -> None:
    """As files of a folder do, whichever comes first by its name."""
    given = (pod(envFrom=[{"configMapRef": {"name": "m"}}]), config_map())
    texts = [ManifestText(manifest=json.dumps(one), source=f"{n}.yaml") for n, one in enumerate(given)]
    async with engine(tmp_path, host) as one:
        results = await one.apply(texts, namespace=None, dry_run=False, wait=True, timeout_s=10, progress=ignore)
        assert [(result.name, result.phase) for result in results] == [("m", ""), ("web", "Running")]


async def test_where_one_text_is_wrong_none_is_applied(tmp_path: Path, host: FakeHost) -> None:
    good, bad = json.dumps(config_map("c")), '{"kind": "ConfigMap"}'
    async with engine(tmp_path, host) as one:
        for texts, told in (
            ((good, bad, bad), ("1.yaml:1:", "2.yaml:1:")),
            ((good, good), ("1.yaml:1:", "metadata.name: is the name of a ConfigMap at 0.yaml:1:")),
        ):
            given = [ManifestText(manifest=text, source=f"{n}.yaml") for n, text in enumerate(texts)]
            with pytest.raises(Invalid) as caught:
                await one.apply(given, namespace=None, dry_run=False, wait=False, timeout_s=None, progress=ignore)
            assert all(words in caught.value.message for words in told)
        assert await one.objects("ConfigMap", None, None) == []
