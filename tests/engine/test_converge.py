"""Applying again what has changed: the least is done, and what runs is not given up for what cannot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import pytest
from harness import POD, apply, engine, ignore
from msgspec.structs import replace

from podd.engine.engine import Engine
from podd.engine.view import ApplyResult, ManifestText
from podd.errors import Conflict, Invalid, NotFound, Unavailable
from podd.testing.fake import CAPABILITIES, FOREVER, FakeDriver, FakeHost, Fault, Program

pytestmark = pytest.mark.anyio

CHANGED = POD.replace("/bin/a]", "/bin/a, --more]")
CHANGED_AGAIN = POD.replace("/bin/a]", "/bin/a, --most]")
LABELLED = POD.replace("{name: web}", "{name: web, labels: {app: web}}")
BOUNDED = POD.replace("[/bin/a]", '[/bin/a], resources: {limits: {cpu: "1"}}')
BOUNDED_MORE = BOUNDED.replace('cpu: "1"', 'cpu: "2"')


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


def released(host: FakeHost) -> list[str]:
    return [e.of for e in host.journal if e.name == "released"]


async def told(one: Engine) -> list[tuple[str, str]]:
    return [
        (e.reason, e.message)
        for batch in [b async for b in one.events(None, None, since=None, follow=False)]
        for e in batch
    ]


async def test_the_same_changes_nothing(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        calls = len(host.journal)
        again = await apply(one, POD.replace("spec:", "spec:\n  enableServiceLinks: true\n  hostNetwork: false"))
        assert (again.action, again.uid, again.changes) == ("unchanged", first.uid, [])
        assert len(host.journal) == calls


async def test_a_label_is_taken_in_place(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        calls = len(host.journal)
        result = await apply(one, LABELLED)
        assert (result.action, result.uid) == ("amended", first.uid)
        assert [(c.path, c.old, c.new, c.means) for c in result.changes] == [
            ("metadata.labels.app", None, '"web"', "metadata")
        ]
        view = await one.get("web", None)
        assert view.pod.metadata.labels == {"app": "web"}
        assert len(host.journal) == calls
        assert [v.pod.metadata.name for v in await one.list_pods(None, "app=web")] == ["web"]
    async with engine(tmp_path, host) as one:
        assert (await apply(one, LABELLED)).action == "unchanged"


async def labelled(one: Engine, **labels: str | None) -> None:
    await one.amend("web", None, labels=labels, annotations={"note": "seen"}, overwrite=True)


async def metadata(one: Engine) -> tuple[dict[str, str], dict[str, str]]:
    meta = (await one.get("web", None)).pod.metadata
    return dict(meta.labels), dict(meta.annotations)


async def test_an_apply_takes_back_only_what_a_manifest_has_given(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, LABELLED)
        await labelled(one, team="red")
        assert (await apply(one, LABELLED)).action == "unchanged"
        assert await metadata(one) == ({"app": "web", "team": "red"}, {"note": "seen"})
    async with engine(tmp_path, host) as one:
        result = await apply(one, POD)
        assert [c.path for c in result.changes] == ["metadata.labels.app"]
        assert await metadata(one) == ({"team": "red"}, {"note": "seen"})
        assert (await apply(one, CHANGED)).action == "recreated"
        assert await metadata(one) == ({"team": "red"}, {"note": "seen"})


async def test_a_label_that_a_manifest_gives_too_is_the_manifests_from_then_on(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD)
        await labelled(one, app="web")
        assert (await apply(one, LABELLED)).action == "unchanged"
        assert (await apply(one, POD)).action == "amended"
        assert await metadata(one) == ({}, {"note": "seen"})


async def test_limits_of_a_pod_that_is_stopped_are_stored(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one, BOUNDED)
        await one.stop("web", None, grace_period_s=0, wait=True)
        result = await apply(one, BOUNDED_MORE)
        assert (result.action, result.uid, result.reason) == ("resized", first.uid, "Stopped")
        assert (await one.start("web", None, wait=True)).status.phase == "Running"
        assert (await one.get("web", None)).pod.spec.containers[0].resources.limits == {"cpu": "2"}


async def test_limits_of_a_pod_that_runs_are_changed_in_place(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one, BOUNDED)
        result = await apply(one, BOUNDED_MORE)
        assert (result.action, result.uid, result.phase, result.reason) == ("resized", first.uid, "Running", "")
        assert [(c.path, c.old, c.new, c.means) for c in result.changes] == [
            ("spec.containers[0].resources.limits.cpu", '"1"', '"2"', "resize")
        ]
        (box,) = host.sandboxes.values()
        (a,) = [c for c in box.containers.values() if c.config.name == "a"]
        assert a.observed.limits is not None
        assert a.observed.limits.cpu_quota_us == 200_000
        assert released(host) == ["a", "b", "c"]
        assert (await apply(one, BOUNDED_MORE)).action == "unchanged"


async def test_limits_that_the_kernel_refuses_are_told(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="resize_container", of="a", error=Conflict("a: uses more than that")))
    async with engine(tmp_path, host) as one:
        await apply(one, BOUNDED)
        result = await apply(one, BOUNDED_MORE)
        assert (result.action, result.phase) == ("resized", "Running")
        assert (result.reason, result.message) == ("Infeasible", "a: uses more than that")
        again = await apply(one, BOUNDED_MORE)
        assert (again.action, again.reason) == ("unchanged", "Infeasible")


class Rigid(FakeDriver):
    def __init__(self, host: FakeHost) -> None:
        super().__init__(host, capabilities=replace(CAPABILITIES, resize=False))


async def test_a_driver_that_cannot_resize_gets_another_pod(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host, driver=Rigid) as one:
        await apply(one, BOUNDED)
        result = await apply(one, BOUNDED_MORE, dry_run=True)
        assert result.action == "recreated"
        assert result.changes[0].note == "the driver cannot change limits of what runs"


async def test_labels_are_set_without_a_manifest(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, LABELLED)

        async def label(*, overwrite: bool = False, **labels: str | None) -> dict[str, str]:
            view = await one.amend("web", None, labels=labels, annotations={}, overwrite=overwrite)
            return dict(view.pod.metadata.labels)

        assert await label(tier="front") == {"app": "web", "tier": "front"}
        assert await label(tier="front") == {"app": "web", "tier": "front"}
        with pytest.raises(Conflict, match='label tier: is there with the value "front"'):
            await label(tier="back")
        assert await label(tier="back", overwrite=True) == {"app": "web", "tier": "back"}
        assert await label(app=None) == {"tier": "back"}
        with pytest.raises(Invalid, match='"a b" is not a label value'):
            await label(tier="a b", overwrite=True)
        noted = await one.amend("web", None, labels={}, annotations={"why": "a b"}, overwrite=False)
        assert noted.pod.metadata.annotations == {"why": "a b"}
        with pytest.raises(Invalid, match=r"podd\.io/start"):
            await one.amend("web", None, labels={}, annotations={"podd.io/start": "ordered"}, overwrite=False)
        assert released(host) == ["a", "b", "c"]


async def test_two_who_change_a_pod_at_one_moment_undo_nothing_of_each_other(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, LABELLED)

        async def label(key: str) -> None:
            await one.amend("web", None, labels={key: "x"}, annotations={}, overwrite=False)

        async with anyio.create_task_group() as tasks:
            for key in ("a", "b", "c"):
                tasks.start_soon(label, key)
        assert (await one.get("web", None)).pod.metadata.labels == {"app": "web", "a": "x", "b": "x", "c": "x"}


async def test_who_watches_a_label_sees_pods_come_and_go_with_it(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, POD.replace("name: web", "name: other"))
        seen: list[tuple[str, str]] = []

        async def watch(selector: str) -> None:
            async for change in one.watch(None, selector):
                seen.append((change.type, change.view.pod.metadata.name if change.view else ""))  # noqa: PERF401

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, "app=web")
            await anyio.sleep(1)
            assert seen == [("SYNCED", "")]
            for value in ("web", "db", "web"):
                await one.amend("other", None, labels={"app": value}, annotations={}, overwrite=True)
                await anyio.sleep(1)
            await one.amend("other", None, labels={"more": "x"}, annotations={}, overwrite=True)
            await one.delete("other", None, grace_period_s=0, wait=True)
            await apply(one)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        kinds = [kind for kind, name in seen if name == "other"]
        assert kinds[:4] == ["ADDED", "DELETED", "ADDED", "MODIFIED"]
        assert kinds.count("DELETED") == 2
        assert kinds[-1] == "DELETED"
        assert all(name != "web" for _, name in seen)


async def test_events_of_what_is_selected(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one, LABELLED)
        await apply(one, POD.replace("name: web", "name: other"))

        async def pods(selector: str) -> set[str]:
            batches = [b async for b in one.events(None, None, selector=selector, since=None, follow=False)]
            return {e.pod for batch in batches for e in batch}

        assert await pods("") == {"web", "other"}
        assert await pods("app=web") == {"web"}
        assert await pods("!app") == {"other"}
        await one.delete("other", None, grace_period_s=0, wait=True)
        assert await pods("!app") == set()
        assert await pods("") == {"web", "other"}


async def test_another_command_needs_another_pod(tmp_path: Path, host: FakeHost) -> None:
    """The old one runs until the new one is prepared, ends by its own grace, and then the new one is let go."""
    host.programs["b"] = Program(term_takes_s=7)
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        result = await apply(one, CHANGED)
        assert (result.action, result.phase) == ("recreated", "Running")
        assert result.uid != first.uid
        (view,) = await one.list_pods(None, "")
        assert view.pod.metadata.uid == result.uid
        with pytest.raises(NotFound):
            await one.get(first.uid, None)
        assert len(host.sandboxes) == 1
        events = [b async for b in one.events("web", None, since=None, follow=False)]
        assert {e.uid for batch in events for e in batch} == {first.uid, result.uid}
        of_one = [b async for b in one.events(result.uid, None, since=None, follow=False)]
        assert {e.uid for batch in of_one for e in batch} == {result.uid}
        times = {(e.name, e.id): e.at_s for e in host.journal}
        effects = [e.name for e in host.journal if e.what == "effect" and e.name in ("sandbox_made", "sandbox_removed")]
        assert effects == ["sandbox_made", "sandbox_made", "sandbox_removed"]
        made = max(at for (name, _), at in times.items() if name == "container_made")
        signalled = min(at for (name, _), at in times.items() if name == "signalled")
        gone = max(at for (name, _), at in times.items() if name == "sandbox_removed")
        let_go = max(at for (name, _), at in times.items() if name == "released")
        assert made <= signalled <= gone - 7
        assert gone <= let_go
        assert (await apply(one, CHANGED)).action == "unchanged"
    assert not host.violations


async def test_one_that_cannot_be_prepared_leaves_the_old_one_alone(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="a", call=2, error=Invalid("/bin/a: no such file")))
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        result = await apply(one, CHANGED)
        assert (result.action, result.uid, result.phase) == ("kept", first.uid, "Running")
        assert (result.reason, result.message) == ("CreateContainerError", "/bin/a: no such file")
        await anyio.sleep(100)
        view = await one.get("web", None)
        assert view.pod.metadata.uid == first.uid
        assert [c.restart_count for c in view.status.container_statuses] == [0, 0, 0]
        assert released(host) == ["a", "b", "c"]
        assert len(host.sandboxes) == 1
        why = "cannot be made anew, and goes on as it is: CreateContainerError: a: /bin/a: no such file"
        assert ("FailedRecreate", why) in await told(one)
        assert (await apply(one, CHANGED)).action == "recreated"  # the file is there now


async def test_a_pod_is_deleted_also_while_the_one_that_was_to_take_its_place_goes(
    tmp_path: Path, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.faults.append(Fault(verb="create_container", of="a", call=2, error=Invalid("/bin/a: no such file")))
    async with engine(tmp_path, host) as one:
        await apply(one)
        changed = [ManifestText(manifest=CHANGED, source="")]
        await one.apply(changed, namespace=None, dry_run=False, wait=False, timeout_s=None, progress=ignore)
        heir = one._registry.successor(one._registry.find("web", None))
        assert heir is not None
        await heir.until(lambda _: False)
        monkeypatch.setattr(one._registry, "successor", lambda _: heir)  # as it was found a moment before
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert not host.sandboxes


async def test_the_old_one_is_shown_until_it_is_gone(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = Program(term_takes_s=10)
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        seen: list[tuple[str, str]] = []

        async def watch() -> None:
            async for change in one.watch(None, ""):
                seen.append((change.type, change.view.pod.metadata.uid if change.view else ""))  # noqa: PERF401

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await anyio.sleep(1)
            second = await apply(one, CHANGED, wait=False)
            await anyio.sleep(5)
            assert [v.pod.metadata.uid for v in await one.list_pods(None, "")] == [first.uid]
            assert (await one.get("web", None)).status.reason == "Terminating"
            assert (await one.get(second.uid, None)).status.reason == "WaitingForPredecessor"
            assert (await apply(one, CHANGED, wait=False)).action == "unchanged"
            refused = await apply(one, CHANGED_AGAIN)
            assert (refused.action, refused.reason) == ("refused", "Conflict")
            for order in (one.stop, one.restart):
                with pytest.raises(Conflict, match="another is taking its place"):
                    await order("web", None, grace_period_s=0, wait=True)
            await anyio.sleep(10)
            tasks.cancel_scope.cancel()
        kinds = list(dict.fromkeys(each for each in seen if each[1]))
        assert kinds[0] == ("ADDED", first.uid)
        assert kinds.index(("DELETED", first.uid)) < kinds.index(("ADDED", second.uid))
        assert (await apply(one, CHANGED_AGAIN)).action == "recreated"


async def test_deleting_a_pod_deletes_what_was_to_take_its_place(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = Program(term_takes_s=10)
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, CHANGED, wait=False)
        await anyio.sleep(5)
        await one.delete("web", None, grace_period_s=None, wait=True)
        await anyio.sleep(60)
        assert await one.list_pods(None, "") == []
        assert not host.sandboxes
        assert (await apply(one)).action == "created"


async def test_deleting_what_was_to_take_its_place_keeps_the_old_one(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="a", call=2, delay_s=20))
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        second = await apply(one, CHANGED, wait=False)
        await anyio.sleep(5)
        await one.delete(second.uid, None, grace_period_s=None, wait=True)
        await anyio.sleep(60)
        view = await one.get("web", None)
        assert (view.pod.metadata.uid, view.status.phase) == (first.uid, "Running")
        assert len(host.sandboxes) == 1
        assert (await apply(one, CHANGED)).action == "recreated"


async def test_what_is_slow_is_waited_for_no_longer_than_was_asked(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = Program(ignores_term=True)
    async with engine(tmp_path, host) as one:
        await apply(one)
        with pytest.raises(Unavailable, match="web: not running after 5 s"):
            await apply(one, CHANGED, timeout_s=5)
        await anyio.sleep(60)
        assert (await apply(one, CHANGED)).action == "unchanged"


async def test_a_pod_that_is_stopped_stays_stopped(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        await one.stop("web", None, grace_period_s=0, wait=True)
        result = await apply(one, CHANGED)
        assert (result.action, result.reason) == ("recreated", "Stopped")
        await anyio.sleep(60)
        view = await one.get("web", None)
        assert view.pod.metadata.uid == result.uid != first.uid
        assert not host.sandboxes
        assert (await one.start("web", None, wait=True)).status.phase == "Running"


async def test_one_that_never_ran_is_replaced_by_one_that_does(tmp_path: Path, host: FakeHost) -> None:
    host.faults += [
        Fault(verb="create_container", of="a", call=n, error=Invalid("/bin/a: no such file")) for n in (1, 2, 3)
    ]
    async with engine(tmp_path, host) as one:
        assert (await apply(one)).reason == "CreateContainerError"
        assert (await apply(one, CHANGED)).action == "kept"
        await anyio.sleep(15)
        assert (await apply(one, CHANGED_AGAIN)).phase == "Running"
        assert len(host.sandboxes) == 1


async def test_a_dry_run_tells_and_does_nothing(tmp_path: Path, host: FakeHost) -> None:
    other = POD.replace("name: web", "name: other")
    async with engine(tmp_path, host) as one:
        first = await apply(one)
        calls = len(host.journal)
        wrong = POD.replace("name: web", "name: wrong").replace(
            "restartPolicy", "runtimeClassName: none\n  restartPolicy"
        )
        results = await apply_all(one, CHANGED, other, wrong, dry_run=True)
        assert [(r.name, r.action) for r in results] == [
            ("web", "recreated"),
            ("other", "created"),
            ("wrong", "refused"),
        ]
        assert results[0].uid == first.uid
        assert [(c.path, c.old, c.new) for c in results[0].changes] == [
            ("spec.containers[0].command", '["/bin/a"]', '["/bin/a","--more"]')
        ]
        assert len(host.journal) == calls
        assert len(await one.list_pods(None, "")) == 1
        refused = await apply_all(one, CHANGED, other, wrong)
        assert [r.action for r in refused] == ["refused", "refused", "refused"]
        assert len(await one.list_pods(None, "")) == 1


async def test_what_was_ordered_is_done_for_a_client_that_leaves(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        other = POD.replace("name: web", "name: other")
        with anyio.CancelScope() as leaving:
            leaving.cancel()
            await apply_all(one, LABELLED, other)
        await anyio.sleep(1)
        found = {view.pod.metadata.name: view for view in await one.list_pods(None, "")}
        assert found["web"].pod.metadata.labels == {"app": "web"}
        assert found["other"].status.phase == "Running"


async def test_remarks_stand_at_their_pod(tmp_path: Path, host: FakeHost) -> None:
    warned = POD.replace("name: web", "name: other").replace("restartPolicy", "nodeName: x\n  restartPolicy")
    async with engine(tmp_path, host) as one:
        first, second = await apply_all(one, POD, warned)
        assert first.warnings == []
        assert [w.partition(": ")[2].partition(":")[0] for w in second.warnings] == ["warning"]


async def test_what_must_be_is_left_out_for_who_must(tmp_path: Path, host: FakeHost) -> None:
    text = POD.replace("restartPolicy", "overhead: {cpu: 1}\n  restartPolicy")
    async with engine(tmp_path, host) as one:
        with pytest.raises(Invalid, match="overhead"):
            await apply(one, text)
        (result,) = await apply_all(one, text, strict=False)
        assert result.action == "created"
        assert "is left out" in result.warnings[0]
        assert (await apply(one)).action == "unchanged"


async def apply_all(one: Engine, *texts: str, dry_run: bool = False, strict: bool = True) -> Sequence[ApplyResult]:
    return await one.apply(
        [ManifestText(manifest="\n---\n".join(texts), source="pods.yaml")],
        namespace=None,
        strict=strict,
        dry_run=dry_run,
        wait=False,
        timeout_s=None,
        progress=ignore,
    )


# ---- whatever the old one is doing


async def pause(one: Engine) -> None:
    await one.pause("web", None)


async def crash_loop(one: Engine) -> None:
    await anyio.sleep(200)


async def end(one: Engine) -> None:
    await anyio.sleep(50)


async def be_stopping(one: Engine) -> None:
    await one.stop("web", None, grace_period_s=20, wait=False)


DOING = {
    "it is paused": (pause, Program(), "Always", "Running"),
    "it crashes again and again": (crash_loop, Program(exits_after_s=1, code=1), "Always", "Running"),
    "it has ended": (end, Program(exits_after_s=1), "Never", "Running"),
    "it has failed": (end, Program(exits_after_s=1, code=1), "Never", "Running"),
    "it is being stopped": (be_stopping, Program(ignores_term=True), "Always", "Pending"),
}


@pytest.mark.parametrize(("first", "program", "policy", "phase"), DOING.values(), ids=DOING)
async def test_a_pod_is_recreated_whatever_it_does(
    first: Callable[[Engine], Awaitable[None]],
    program: Program,
    policy: str,
    phase: str,
    tmp_path: Path,
    host: FakeHost,
) -> None:
    host.programs |= dict.fromkeys("abc", program)
    async with engine(tmp_path, host) as one:
        old = await apply(one, POD.replace("Always", policy))
        await first(one)
        host.programs |= dict.fromkeys("abc", FOREVER)
        result = await apply(one, CHANGED.replace("Always", policy))
        assert (result.action, result.phase) == ("recreated", phase)
        assert result.uid != old.uid
        assert len(host.sandboxes) == (1 if phase == "Running" else 0)
    assert not host.violations
