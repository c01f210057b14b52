"""The folder of static pods: its pods are as it says, and what is wrong in it costs itself alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from harness import apply, engine
from structlog.testing import capture_logs

from podd.engine.engine import Engine
from podd.engine.static import RESCAN_S, RETRY_S, SETTLE_S, listen
from podd.engine.store import Store
from podd.engine.view import PodView
from podd.errors import Conflict, Unavailable
from podd.model.document import MAX_BYTES
from podd.model.pod import Pod
from podd.testing.fake import FakeHost

pytestmark = pytest.mark.anyio

LOOKED_S = RESCAN_S + 2 * SETTLE_S + 1


@pytest.fixture
def anyio_backend(virtual_clock: object) -> object:
    return virtual_clock


def pod(name: str, command: str = "/bin/a", **labels: str) -> str:
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, labels: {labels or {}} }}\n"
        f"spec:\n  terminationGracePeriodSeconds: 1\n"
        f"  containers: [{{ name: main, image: 'rootfs:/', command: [{command}] }}]\n"
    )


BROKEN = "apiVersion: v1\nkind: Pod\nmetadata: { name: web }\nspec:\n  containers: [{ nmae: main }]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pods.d"
    folder.mkdir()
    return folder


@asynccontextmanager
async def podd(folder: Path, host: FakeHost | None = None) -> AsyncIterator[Engine]:
    """Once it has looked at the folder for the first time."""
    async with engine(folder.parent, host or FakeHost(), pods_dir=str(folder)) as one:
        await anyio.sleep(2 * SETTLE_S + 1)
        yield one


async def shown(one: Engine) -> dict[str, PodView]:
    return {view.pod.metadata.name: view for view in await one.list_pods(None, "")}


async def names(one: Engine) -> list[str]:
    return sorted(await shown(one))


async def until(one: Engine, is_so: Callable[[dict[str, PodView]], bool]) -> dict[str, PodView]:
    """To remove what a pod leaves takes threads, for which a clock that jumps does not wait: its changes tell."""
    async with aclosing(one.watch(None, "")) as changes:
        async for _ in changes:
            found = await shown(one)
            if is_so(found):
                return found
    raise AssertionError("podd has ended")


async def until_names(one: Engine, *wanted: str) -> dict[str, PodView]:
    return await until(one, lambda found: sorted(found) == sorted(wanted))


async def events(one: Engine, name: str) -> list[tuple[str, str]]:
    told = [event async for batch in one.events(None, None, since=None, follow=False) for event in batch]
    return [(event.reason, event.message) for event in told if event.pod == name]


async def events_about(one: Engine, name: str) -> list[str]:
    return [event.message async for batch in one.events(name, None, since=None, follow=False) for event in batch]


# ---- as the folder says


async def test_a_file_comes_changes_and_goes(folder: Path) -> None:
    async with podd(folder) as one:
        assert await names(one) == []
        (folder / "web.yaml").write_text(pod("web"))
        await anyio.sleep(LOOKED_S)
        first = (await shown(one))["web"]
        assert first.status.phase == "Running"
        assert first.status.podd is not None
        assert first.status.podd.source == str(folder / "web.yaml")

        (folder / "web.yaml").write_text(pod("web", tier="front"))
        await anyio.sleep(LOOKED_S)
        amended = (await shown(one))["web"].pod.metadata
        assert (amended.uid, amended.labels) == (first.pod.metadata.uid, {"tier": "front"})

        (folder / "web.yaml").write_text(pod("web", "/bin/b"))
        uid = first.pod.metadata.uid
        second = (await until(one, lambda found: "web" in found and found["web"].pod.metadata.uid != uid))["web"]
        assert second.pod.spec.containers[0].command == ("/bin/b",)
        assert second.status.podd is not None
        assert second.status.podd.source == str(folder / "web.yaml")

        (folder / "web.yaml").unlink()
        await until_names(one)


async def test_a_pod_that_its_file_no_longer_names_goes_and_the_others_stay(folder: Path) -> None:
    (folder / "pods.yaml").write_text(pod("a") + "---\n" + pod("b"))
    async with podd(folder) as one:
        before = await shown(one)
        assert sorted(before) == ["a", "b"]
        (folder / "pods.yaml").write_text(pod("b"))
        after = await until_names(one, "b")
        assert after["b"].pod.metadata.uid == before["b"].pod.metadata.uid


async def test_what_has_no_effect_is_logged(folder: Path) -> None:
    (folder / "web.yaml").write_text(pod("web").replace("spec:", "spec:\n  nodeName: x"))
    with capture_logs() as logs:
        async with podd(folder):
            pass
    (told,) = [entry["message"] for entry in logs if entry["event"] == "static_pod.warned"]
    assert told.startswith(f"{folder}/web.yaml:5:3: warning: spec.nodeName: has no effect")


async def test_pods_run_on_while_podd_is_away_and_it_sees_what_changed_meanwhile(folder: Path) -> None:
    host = FakeHost()
    for name in ("stays", "goes"):
        (folder / f"{name}.yaml").write_text(pod(name))
    async with podd(folder, host) as one:
        uid = (await shown(one))["stays"].pod.metadata.uid
    (folder / "goes.yaml").unlink()
    (folder / "comes.yaml").write_text(pod("comes"))
    async with podd(folder, host) as one:
        found = await until_names(one, "comes", "stays")
        assert found["stays"].pod.metadata.uid == uid


@pytest.mark.parametrize("kept", [True, False], ids=["with the store", "without it"])
async def test_pods_come_back_after_a_reboot(folder: Path, kept: bool) -> None:
    (folder / "web.yaml").write_text(pod("web"))
    async with podd(folder, FakeHost()) as one:
        before = (await shown(one))["web"]
    if not kept:
        for path in folder.parent.glob("podd.db*"):
            os.unlink(path)
    async with podd(folder, FakeHost()) as one:
        after = (await until(one, lambda found: "web" in found and found["web"].status.phase == "Running"))["web"]
        assert (after.pod.metadata.uid == before.pod.metadata.uid) is kept


async def test_pods_of_others_are_let_be(folder: Path) -> None:
    async with podd(folder) as one:
        await apply(one, pod("mine"))
        await anyio.sleep(LOOKED_S)
        assert await names(one) == ["mine"]


async def test_reload_looks_at_once(folder: Path) -> None:
    async with podd(folder) as one:
        (folder / "web.yaml").write_text(pod("web"))
        await one.reload()
        await anyio.sleep(2 * SETTLE_S + 1)
        assert await names(one) == ["web"]


# ---- what is no manifest, or not yet


async def test_what_editors_and_others_leave_there_is_let_be(folder: Path) -> None:
    (folder / "directory.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    (folder / "dangling.yaml").symlink_to("nowhere")
    for name in (".hidden.yaml", ".web.yaml.swp", "web.yaml~", "#web.yaml#", "#web.yaml", "web.yaml.bak", "notes.txt"):
        (folder / name).write_text(pod("wrong"))
    (folder.parent / "elsewhere").write_text(pod("linked"))
    (folder / "link.yml").symlink_to("../elsewhere")
    (folder / "web.json").write_text("{}")
    async with podd(folder) as one:
        assert await names(one) == ["linked", "web.json"]


async def test_a_file_is_read_when_it_is_let_alone(folder: Path) -> None:
    """What is written in pieces is right in between as well, and means something else then."""
    text = pod("a") + "---\n" + pod("b")
    (folder / "pods.yaml").write_text(text)
    async with podd(folder) as one:
        await one.reload()
        for size in range(len(pod("a")), len(text), 5):
            (folder / "pods.yaml").write_text(text[:size])
            await anyio.sleep(SETTLE_S / 2)
            assert await names(one) == ["a", "b"]
        (folder / "pods.yaml").write_text(text)
        await anyio.sleep(LOOKED_S)
        assert await names(one) == ["a", "b"]
        assert await events(one, "pods.yaml") == []


# ---- what is wrong


async def test_a_file_that_is_wrong_leaves_its_pod_alone_and_is_shown_with_its_line(folder: Path) -> None:
    path = folder / "web.yaml"
    path.write_text(pod("web"))
    async with podd(folder) as one:
        before = (await shown(one))["web"]
        path.write_text(BROKEN)
        await anyio.sleep(LOOKED_S)
        found = await shown(one)
        assert sorted(found) == ["web", "web.yaml"]
        assert (found["web"].pod, found["web"].status.phase) == (before.pod, "Running")
        wrong = found["web.yaml"].status
        assert wrong.reason == "ManifestError"
        assert f"{path}:5:18: spec.containers[0].nmae: unknown field" in wrong.message
        assert (await one.get("web.yaml", None)).status == wrong
        assert (await one.get(str(path), None)).status == wrong
        assert (await one.info()).problems == [f"static pods: {wrong.message}"]
        for name in ("web", "web.yaml"):
            told = [message for reason, message in await events(one, name) if reason == "ManifestError"]
            assert len(told) == 1
            assert told[0].startswith(f"{path}:5:16: ")
        assert await events_about(one, str(path)) == await events_about(one, "web.yaml") != []
        with pytest.raises(Conflict, match="nmae"):
            await one.delete("web.yaml", None, grace_period_s=None, wait=False)

        path.write_text(pod("web"))
        await anyio.sleep(LOOKED_S)
        assert await shown(one) == {"web": found["web"]}
        assert (await one.info()).problems == []


async def test_a_file_that_is_wrong_when_podd_comes_back_keeps_its_pods(folder: Path) -> None:
    host = FakeHost()
    (folder / "web.yaml").write_text(pod("web"))
    async with podd(folder, host) as one:
        uid = (await shown(one))["web"].pod.metadata.uid
    (folder / "web.yaml").write_text(BROKEN)
    async with podd(folder, host) as one:
        await anyio.sleep(LOOKED_S)
        found = await shown(one)
        assert sorted(found) == ["web", "web.yaml"]
        assert found["web"].pod.metadata.uid == uid


WRONG: dict[str, tuple[bytes, str]] = {
    "latin1.yaml": (pod("w\u00e9b").encode("latin-1"), "latin1.yaml:3:20: is not UTF-8"),
    "large.yaml": (b"#" * (MAX_BYTES + 1), "large.yaml:1:1: larger than 3145728 bytes"),
    "empty.yaml": (b"", "empty.yaml:1:1: there is no Pod in it"),
    "driver.yaml": (
        pod("nobody").replace("spec:", "spec:\n  runtimeClassName: nosuch").encode(),
        "driver.yaml:5:21: spec.runtimeClassName: nosuch: there is no such driver",
    ),
}


async def test_what_is_wrong_costs_itself_alone(folder: Path) -> None:
    for name, (data, _) in WRONG.items():
        (folder / name).write_bytes(data)
    (folder / "good.yaml").write_text(pod("web"))
    async with podd(folder) as one:
        found = await shown(one)
        assert sorted(found) == sorted(["web", *WRONG])
        for name, (_, said) in WRONG.items():
            assert said in found[name].status.message


async def test_a_store_that_is_full_keeps_pods_whose_file_is_gone_for_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Unavailable("store: save: the disk is full")

    (folder / "web.yaml").write_text(pod("web"))
    async with podd(folder) as one:
        (folder / "web.yaml").unlink()
        with monkeypatch.context() as patched:
            patched.setattr(Store, "save", full)
            await anyio.sleep(LOOKED_S)
            assert await names(one) == ["web"]
        await until_names(one)


async def test_a_bug_costs_the_file_in_which_it_shows_alone(folder: Path) -> None:
    def admit(asked: Pod) -> Pod:
        if asked.metadata.name == "a":
            raise ZeroDivisionError
        return asked

    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(pod(name))
    async with engine(folder.parent, FakeHost(), pods_dir=str(folder), admit=admit) as one:
        await anyio.sleep(LOOKED_S)
        found = await shown(one)
        assert sorted(found) == ["a.yaml", "b"]
        assert "unexpected ZeroDivisionError" in found["a.yaml"].status.message


async def test_what_a_pod_needs_may_come_later(folder: Path) -> None:
    needy = pod("web").replace("image:", "envFrom: [{ configMapRef: { name: settings } }], image:")
    (folder / "web.yaml").write_text(needy)
    async with podd(folder) as one:
        (wrong,) = (await shown(one)).values()
        assert wrong.status.message.startswith(f"{folder}/web.yaml:6:64: spec.containers[0].envFrom[0]")
        (folder / "z-settings.yaml").write_text(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\ndata: { A: x }\n"
        )
        await anyio.sleep(LOOKED_S + RETRY_S)
        assert await names(one) == ["web"]


# ---- whose a pod is


async def test_a_pod_of_a_file_is_changed_and_deleted_by_its_file_alone(folder: Path) -> None:
    (folder / "web.yaml").write_text(pod("web"))
    async with podd(folder) as one:
        assert (await apply(one, pod("web"))).action == "unchanged"
        refused = await apply(one, pod("web", "/bin/b"))
        assert refused.action == "refused"
        assert "comes from" in refused.message
        assert "change that file" in refused.message
        with pytest.raises(Conflict, match="comes from"):
            await one.amend("web", None, labels={"a": "b"}, annotations={}, overwrite=False)
        with pytest.raises(Conflict, match="comes from"):
            await one.resize("web", None, None, limits={"cpu": "1"}, requests={})
        with pytest.raises(Conflict, match="would come back") as caught:
            await one.delete("web", None, grace_period_s=None, wait=False)
        assert "podd-cli stop web" in caught.value.remedy
        await one.stop("web", None, grace_period_s=None, wait=True)
        await anyio.sleep(LOOKED_S)
        assert (await shown(one))["web"].status.reason == "Stopped"


async def test_a_file_takes_no_pod_that_others_have_made(folder: Path) -> None:
    async with podd(folder) as one:
        await apply(one, pod("web"))
        (folder / "web.yaml").write_text(pod("web"))
        await anyio.sleep(LOOKED_S)
        found = await shown(one)
        assert sorted(found) == ["web", "web.yaml"]
        assert "is there, and comes from no file" in found["web.yaml"].status.message
        await one.delete("web", None, grace_period_s=None, wait=True)
        await anyio.sleep(RETRY_S + 2 * SETTLE_S + 1)
        assert await names(one) == ["web"]


async def test_two_files_with_one_pod(folder: Path) -> None:
    (folder / "a.yaml").write_text(pod("web"))
    (folder / "b.yaml").write_text(pod("web", "/bin/b"))
    async with podd(folder) as one:
        await anyio.sleep(LOOKED_S)
        found = await shown(one)
        assert sorted(found) == ["b.yaml", "web"]
        assert "is in" in found["b.yaml"].status.message
        assert found["web"].pod.spec.containers[0].command == ("/bin/a",)
        (folder / "a.yaml").unlink()
        await until(one, lambda found: "web" in found and found["web"].pod.spec.containers[0].command == ("/bin/b",))
        assert await names(one) == ["web"]


# ---- the folder


def _sources(found: dict[str, PodView]) -> dict[str, str]:
    return {name: view.status.podd.source for name, view in found.items() if view.status.podd}


async def test_two_files_that_are_swapped(folder: Path) -> None:
    (folder / "one.yaml").write_text(pod("one"))
    (folder / "two.yaml").write_text(pod("two"))
    async with podd(folder) as one:
        (folder / "one.yaml").rename(folder / "other")
        (folder / "two.yaml").rename(folder / "one.yaml")
        (folder / "other").rename(folder / "two.yaml")
        swapped = {"one": str(folder / "two.yaml"), "two": str(folder / "one.yaml")}
        with anyio.fail_after(LOOKED_S):
            await until(one, lambda found: _sources(found) == swapped)
        await anyio.sleep(LOOKED_S)
        assert await names(one) == ["one", "two"]
        assert not (await one.info()).problems


async def test_a_folder_that_is_away_says_nothing_about_its_pods(folder: Path) -> None:
    (folder / "web.yaml").write_text(pod("web"))
    async with podd(folder) as one:
        os.rename(folder, folder.parent / "away")
        await anyio.sleep(LOOKED_S)
        assert await names(one) == ["web"]
        (problem,) = (await one.info()).problems
        assert "No such file or directory; pods that came from it are left as they are" in problem
        os.rename(folder.parent / "away", folder)
        await anyio.sleep(LOOKED_S)
        assert (await one.info()).problems == []


async def test_a_folder_that_was_never_there_is_no_problem(folder: Path) -> None:
    os.rmdir(folder)
    async with podd(folder) as one:
        assert (await one.info()).problems == []


async def test_a_folder_that_is_none(folder: Path) -> None:
    os.rmdir(folder)
    os.mknod(folder)
    async with podd(folder) as one:
        (problem,) = (await one.info()).problems
        assert "Not a directory" in problem


# ---- being told


class TestListen:
    """On the real kernel and clock."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "asyncio"

    async def test_what_happens_in_the_folder_is_told(self, folder: Path) -> None:
        told = _Bell()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, str(folder), told)
            await told.rings()  # it listens
            (folder / "web.yaml").write_text("x")
            await told.rings()
            shutil.move(folder, folder.parent / "old")
            os.mkdir(folder)
            await told.rings()  # it listens to the new one
            (folder / "web.yaml").write_text("x")
            await told.rings()
            tasks.cancel_scope.cancel()


class _Bell:
    def __init__(self) -> None:
        self._rung = anyio.Event()

    def __call__(self) -> None:
        self._rung.set()

    async def rings(self) -> None:
        with anyio.fail_after(10):
            await self._rung.wait()
        self._rung = anyio.Event()
