"""The engine over the fake driver, on a clock that jumps: hours pass in milliseconds."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from harness import POD, apply, engine

from podd.engine.engine import Engine
from podd.engine.view import ManifestText
from podd.errors import Conflict, Invalid, NotFound, Unavailable, Unsupported
from podd.testing.fake import FakeHost, Fault, Program

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


async def states(one: Engine) -> dict[str, str]:
    status = (await one.get("web", None)).status
    shown = {}
    for member in status.container_statuses:
        now = member.state
        shown[member.name] = (
            now.waiting.reason if now.waiting else now.terminated.reason if now.terminated else "Running"
        )
    return shown


async def test_a_pod_runs_and_goes(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        result = await apply(one)
        assert (result.action, result.phase) == ("created", "Running")
        assert await states(one) == dict.fromkeys("abc", "Running")
        assert (await apply(one)).action == "unchanged"
        await one.delete("web", None, grace_period_s=0, wait=True)
        with pytest.raises(NotFound, match="default/web: there is none"):
            await one.get("web", None)
        assert not host.sandboxes
    assert not host.violations


async def test_one_that_cannot_be_made_undoes_all_and_says_why(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="b", call=1, error=Invalid("/bin/b: no such file")))
    async with engine(tmp_path, host) as one:
        result = await apply(one)
        assert (result.phase, result.reason) == ("Pending", "CreateContainerError")
        assert result.message == "/bin/b: no such file"
        assert not host.sandboxes
        assert not [e for e in host.journal if e.name == "released"]
        await anyio.sleep(10.1)
        assert await states(one) == dict.fromkeys("abc", "Running")
        reasons = [
            e.reason for batch in [b async for b in one.events(None, None, since=None, follow=False)] for e in batch
        ]
        assert reasons == ["Failed", "Started", "Started", "Started"]


async def test_a_crash_loop_backs_off(tmp_path: Path, host: FakeHost) -> None:
    host.programs["a"] = Program(exits_after_s=1, code=1)
    async with engine(tmp_path, host) as one:
        await apply(one)
        await anyio.sleep(200)
        (a, *others) = (await one.get("web", None)).status.container_statuses
        assert a.restart_count == 5  # at 1, 1+1+10, +1+20, +1+40, +1+80; the next is due 160 s later
        assert [o.restart_count for o in others] == [0, 0]
        assert a.last_state.terminated is not None


async def test_stop_waits_out_the_grace_period_once_for_all(tmp_path: Path, host: FakeHost) -> None:
    host.programs["b"] = Program(ignores_term=True)
    async with engine(tmp_path, host) as one:
        await apply(one)
        began = anyio.current_time()
        view = await one.stop("web", None, grace_period_s=None, wait=True)
        assert 30 <= anyio.current_time() - began < 31
        assert view.status.reason == "Stopped"
        signalled = [(e.of, e.detail, e.at_s - began) for e in host.journal if e.name == "signalled"]
        assert {s[:2] for s in signalled if s[2] < 1} == {("a", "15"), ("b", "15"), ("c", "15")}
        await anyio.sleep(3600)
        assert not host.sandboxes
        view = await one.start("web", None, wait=True)
        assert view.status.phase == "Running"


async def test_a_hung_driver_fails_one_pod_and_no_other(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_sandbox", of="web", hang=True))
    async with engine(tmp_path, host) as one:
        with pytest.raises(Unavailable, match="web: not running after 5 s"):
            await apply(one, timeout_s=5)
        other = await apply(one, POD.replace("name: web", "name: other"))
        assert other.phase == "Running"
        await anyio.sleep(70)
        status = (await one.get("web", None)).status
        assert (status.phase, status.reason) == ("Pending", "FailedCreatePodSandBox")
        assert "no answer within 60 s" in status.message
        await one.delete("web", None, grace_period_s=0, wait=True)


async def test_a_driver_that_raises_nonsense_is_blamed(tmp_path: Path, host: FakeHost) -> None:
    host.faults.append(Fault(verb="create_container", of="c", error=ZeroDivisionError("oops")))
    async with engine(tmp_path, host) as one:
        result = await apply(one)
        assert "driver fake: create_container: ZeroDivisionError: oops" in result.message


async def test_a_lost_sandbox_is_made_anew(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        (lost,) = host.sandboxes
        host.lose_sandbox(lost)
        await anyio.sleep(1)
        assert list(host.sandboxes) != [lost]
        status = (await one.get("web", None)).status
        assert status.phase == "Running"
        assert [m.restart_count for m in status.container_statuses] == [1, 1, 1]
        assert status.podd is not None
        assert status.podd.restarts == 1


async def test_pause_and_resume(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        assert (await one.pause("web", None)).status.reason == "Paused"
        with pytest.raises(Conflict, match="paused"):
            async with one.exec("web", None, "a", argv=["true"], env={}, tty=False, stdio=[0, 1, 2]):
                pass
        assert (await one.resume("web", None)).status.reason == ""


async def test_what_a_driver_cannot_do_is_said(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        with pytest.raises(Unsupported, match="driver fake: cannot inspect"):
            await one.namespaces("web", None)
        assert await one.namespaces(None, None) == []
        with pytest.raises(Invalid, match="has several containers: a, b, c"):
            one.logs("web", None, None, follow=False, tail=None, since=None, previous=False)


async def test_all_or_nothing_over_documents(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        wrong = POD.replace("restartPolicy: Always", "runtimeClassName: nobody")
        text = f"{POD.replace('name: web', 'name: fresh')}---{wrong}"
        fresh, web = await one.apply(
            [ManifestText(manifest=text, source="x")],
            namespace=None,
            dry_run=False,
            wait=False,
            timeout_s=None,
            progress=None,
        )
        assert (fresh.action, web.action) == ("refused", "refused")
        assert "spec.runtimeClassName: nobody: there is no such driver" in web.message
        assert "another object of the manifest is refused" in fresh.message
        assert [v.pod.metadata.name for v in await one.list_pods(None, "")] == ["web"]


async def test_names_uids_and_selectors(tmp_path: Path, host: FakeHost) -> None:
    labelled = POD.replace("metadata: {name: web}", "metadata: {name: web, labels: {tier: front}}")
    async with engine(tmp_path, host) as one:
        uid = (await apply(one, labelled)).uid
        await apply(one, POD.replace("name: web", "name: other"))
        assert (await one.get(uid[:8], None)).pod.metadata.name == "web"
        for selector, names in {
            "": ["other", "web"],
            "tier=front": ["web"],
            "tier!=front": ["other"],
            "tier in (front, back)": ["web"],
            "!tier": ["other"],
        }.items():
            assert [v.pod.metadata.name for v in await one.list_pods(None, selector)] == names, selector
        with pytest.raises(Invalid, match="'=x' is no requirement"):
            await one.list_pods(None, "=x")


async def test_watchers_see_every_visible_change_and_the_end(tmp_path: Path, host: FakeHost) -> None:
    seen: list[tuple[str, str]] = []
    async with engine(tmp_path, host) as one, anyio.create_task_group() as tasks:
        synced = anyio.Event()

        async def watch() -> None:
            async for change in one.watch(None, ""):
                seen.append((change.type, change.view.status.phase if change.view else ""))
                synced.set()

        tasks.start_soon(watch)
        await synced.wait()
        await apply(one)
        await one.delete("web", None, grace_period_s=0, wait=True)
        await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert seen[0] == ("SYNCED", "")
    assert seen[1] == ("ADDED", "Pending")
    assert ("MODIFIED", "Running") in seen
    assert seen[-1][0] == "DELETED"


async def test_a_damaged_record_costs_only_itself(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        await apply(one)
        await apply(one, POD.replace("name: web", "name: other"))

    def damage(store: object) -> None:
        store._db.execute("UPDATE pods SET record = x'7b7d' WHERE name = 'web'")  # type: ignore[attr-defined]

    async with engine(tmp_path, host, record_limit=damage) as one:
        shown = {v.pod.metadata.name: v.status.reason for v in await one.list_pods(None, "")}
        assert shown == {"other": "", "web": "RecordDamaged"}
        (problem,) = (await one.info()).problems
        assert "default/web: its record is damaged and set aside" in problem
        assert len(host.sandboxes) == 2, "what runs of it is left alone until a person decides"
        assert "there is one whose record is damaged" in (await apply(one)).message
    async with engine(tmp_path, host) as one:
        assert len(host.sandboxes) == 2
        await one.delete("web", None, grace_period_s=None, wait=True)
        assert len(host.sandboxes) == 1
        assert (await one.info()).problems == []
        assert (await apply(one)).phase == "Running"


async def test_logs_live_as_long_as_their_pod_and_the_last_two_instances_of_each_container(
    tmp_path: Path, host: FakeHost
) -> None:
    host.programs["a"] = Program(exits_after_s=1, code=1)
    async with engine(tmp_path, host) as one:
        uid = (await apply(one)).uid
        logs = tmp_path / "log" / f"default_web_{uid}" / "a"
        logs.mkdir(parents=True)
        for attempt in range(20):
            (logs / f"{attempt}.log").touch()
            (logs / f"{attempt}.log.1").touch()
        await anyio.sleep(15)
        (a, *_) = (await one.get("web", None)).status.container_statuses
        assert a.restart_count == 2
        # The fake driver writes none of its own: what lay there under the number of the newest went with the others.
        assert sorted(p.name for p in logs.iterdir()) == ["1.log", "1.log.1"]
        await one.delete("web", None, grace_period_s=0, wait=True)
        assert not logs.parent.exists()


async def test_many_pods_at_once(tmp_path: Path, host: FakeHost) -> None:
    async with engine(tmp_path, host) as one:
        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(apply, one, POD.replace("name: web", f"name: web-{n}"))
        assert len(host.sandboxes) == 50
        assert (await one.info()).pods == {"Running": 50}
    assert not host.violations
