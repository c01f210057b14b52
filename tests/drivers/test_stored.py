"""Images of a store, run by the drivers that make containers on this host themselves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from images.layouts import Directory, File, Link, busybox, layout, skopeo, store
from images.library import MANY
from podd.driver.contract import CanExec, CanStats, Driver, ExecRequest, Exit, Handle, Mount, Security
from podd.driver.hookspecs import DriverPaths, ImagePlaces, NetworkPlaces
from podd.errors import Invalid, NotFound
from podd.images.storage import Storage
from podd.supervision import plans
from podd.testing.lab import Act, Lab
from podd.testing.shim import read_log

pytestmark = [pytest.mark.root, pytest.mark.anyio, pytest.mark.timeout(180)]

MakeDriver = Callable[[], Driver]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def places(library: ImagePlaces) -> ImagePlaces:
    return library


@pytest.fixture
def paths(tmp_path: Path, places: ImagePlaces) -> DriverPaths:
    return DriverPaths(
        run_dir=f"{tmp_path}/run",
        state_dir=f"{tmp_path}/state",
        log_dir=f"{tmp_path}/log",
        images=places,
        network=NetworkPlaces(conf_dir=f"{tmp_path}/cni.d"),
    )


@pytest.fixture(params=["setns", "runc"])
def make_driver(request: pytest.FixtureRequest) -> MakeDriver:
    if request.param == "setns":
        made: MakeDriver = request.getfixturevalue("make_setns")
        return made
    make_runc: Callable[[str], MakeDriver] = request.getfixturevalue("make_runc")
    return make_runc("runc")


@pytest.fixture
async def lab(make_driver: MakeDriver, tmp_path: Path) -> AsyncIterator[Lab]:
    (tmp_path / "shared").mkdir()
    lab = Lab(make_driver, lambda config, _: config, tmp_path / "shared")
    await lab.enter()
    yield lab
    await lab.close()


@pytest.fixture
def no_srv() -> Iterator[None]:
    before = sorted(os.listdir("/srv"))
    yield
    assert sorted(os.listdir("/srv")) == before
    assert not os.path.exists("/escape")


async def run(lab: Lab, image: str, *command: str, sandbox: Handle | None = None, **given: Any) -> tuple[str, Exit]:
    """What it prints, and how it ends."""
    log = lab.shared / "log"
    log.unlink(missing_ok=True)
    where = sandbox or (await lab.sandbox()).handle
    asked = {"image": f"localhost/{image}:1", "command": command, "mounts": (), "log_path": str(log), **given}
    container = await lab.started(where, Act(""), **asked)
    ended = await lab.driver.wait_container(container)
    written = read_log({"log_path": str(log), "log_max_files": 1})  # type: ignore[typeddict-item]
    return (written["stdout"] + written["stderr"]).decode(), ended


def sh(script: str) -> tuple[str, str, str]:
    return ("/bin/sh", "-c", script)


async def test_an_image_says_how_it_is_to_be_run(lab: Lab) -> None:
    output, ended = await run(lab, "app", env=(("SECOND", "pod"),))
    assert (output.split("\n")[:-1], ended.code) == (["1000", "100", "/srv", "image pod /home/app"], 0)


async def test_a_pod_says_it_better(lab: Lab) -> None:
    output, _ = await run(lab, "app", args=("echo args; pwd",), working_dir="/tmp")
    assert output == "args\n/tmp\n"
    output, _ = await run(lab, "app", "/bin/id", security=Security(uid=0, gid=5, supplemental_groups=(7,)))
    assert output == "uid=0(root) gid=5 groups=5,7\n"


async def test_users_by_number_and_group_by_name(lab: Lab) -> None:
    output, _ = await run(lab, "strange", *sh("id -u; id -g; pwd"))
    assert output == "1000\n33\n/relative\n"


async def test_a_user_with_a_name_may_be_shown_not_to_be_root(lab: Lab) -> None:
    output, _ = await run(lab, "app", *sh("id -u"), security=Security(run_as_non_root=True))
    assert output == "1000\n"
    with pytest.raises(Invalid, match="runAsNonRoot"):
        await run(lab, "plain", *sh("id -u"), security=Security(run_as_non_root=True))


async def test_a_user_stays_who_he_was_when_the_container_was_made(lab: Lab) -> None:
    """An image may let everyone write its /etc/passwd, and a probe must not run as who is found there later."""
    sandbox = (await lab.sandbox()).handle
    shared = Mount(host_path=str(lab.shared), container_path="/shared")
    lab.shared.chmod(0o777)
    script = sh("echo app:x:0:0::/:/bin/sh > /etc/passwd; echo done > /shared/seen; sleep 100")
    given = {"image": "localhost/careless:1", "command": script, "mounts": (shared,)}
    container = await lab.started(sandbox, Act(""), **given)
    assert await lab.seen("seen") == "done"
    for number in range(2):
        assert isinstance(lab.driver, CanExec)
        request = ExecRequest(argv=sh(f"id -u > /shared/{number}"))
        null = os.open(os.devnull, os.O_RDWR)
        exec_id, _ = await lab.driver.exec_start(container, request, [null] * 3)
        os.close(null)
        assert (await lab.driver.exec_wait(container, exec_id)).code == 0
        assert await lab.seen(str(number)) == "1000"
        async with lab.away():
            pass
        await lab.driver.recover(sandbox, [container])


@pytest.mark.parametrize(("image", "message"), [("nobody", "none of this name"), ("huge", "4294967296")])
async def test_a_user_that_is_none_is_refused(lab: Lab, image: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        await run(lab, image, *sh("id -u"))


async def test_what_stops_it(lab: Lab) -> None:
    sandbox = (await lab.sandbox()).handle
    for image, wanted in (("app", 3), ("plain", None), ("strange", None)):
        made = await lab.created(sandbox, image=f"localhost/{image}:1", command=sh("sleep 100"), mounts=())
        assert made.stop_signal == wanted
        assert made.image_id.startswith("sha256:")


async def test_many_layers_are_one_root(lab: Lab) -> None:
    output, _ = await run(lab, "many", *sh("ls -d /layer* | wc -l; cat /which"))
    assert output == f"{MANY - 1}\n{MANY - 1}\n"


async def test_what_a_layer_takes_away_is_not_there(lab: Lab) -> None:
    output, _ = await run(lab, "whiteouts", *sh("ls /a /b"))
    assert output.splitlines()[0] == "/b"
    assert "/a: No such file" in output


async def test_volumes_of_an_image_can_be_written_though_its_root_cannot(lab: Lab) -> None:
    script = sh("cat /data/seed; echo more > /data/more && echo written; touch /tmp/no")
    output, _ = await run(lab, "app", *script, security=Security(uid=0, read_only_rootfs=True))
    assert output.startswith("of the imagewritten\n")
    assert "Read-only file system" in output


async def test_a_mount_of_the_pod_takes_the_place_of_a_volume(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    mount = Mount(host_path=str(tmp_path / "own"), container_path="/data/", read_only=True)
    output, _ = await run(lab, "app", *sh("ls /data; touch /data/x"), mounts=(mount,), security=Security(uid=0))
    assert "seed" not in output
    assert "Read-only file system" in output


async def test_what_an_image_names_stays_in_its_root(lab: Lab, no_srv: None) -> None:
    """CVE-2022-23648, CVE-2026-55686: volumes and the working directory lead out by "..", and by symbolic links."""
    with pytest.raises(Invalid, match="/etc/passwd"):  # CVE-2025-4437: nor is a file of any size read
        await run(lab, "evil", *sh("true"))


@pytest.mark.parametrize("read_only", [False, True])
async def test_links_in_an_image_lead_nowhere_else(
    lab: Lab, no_srv: None, places: ImagePlaces, tmp_path: Path, read_only: bool
) -> None:
    layers = [busybox(), {"out": Link("/../../../../../../srv"), "srv": Directory()}]
    volumes = {"../../../escape": {}, "/out/volume": {}, "/": {}, "/proc/sys": {}}
    name = f"links{read_only:d}"
    store(
        places,
        layout(tmp_path / "links", layers, Volumes=volumes, WorkingDir="out/work"),
        f"localhost/{name}:1",
    )
    script = sh("pwd; touch /srv/volume/x /escape/y && ls /srv /escape")
    output, ended = await run(lab, name, *script, security=Security(read_only_rootfs=read_only))
    assert ended.code == 0, output
    assert output.split() == ["/srv/work", "/escape:", "y", "/srv:", "volume", "work"]


async def test_two_containers_of_one_image_write_apart(lab: Lab) -> None:
    sandbox = (await lab.sandbox()).handle
    for _ in range(2):
        output, _ = await run(lab, "plain", *sh("ls /mine; echo > /mine"), sandbox=sandbox)
        assert "/mine: No such file" in output


async def test_what_it_writes_into_its_root_is_counted(lab: Lab) -> None:
    assert isinstance(lab.driver, CanStats)
    sandbox = (await lab.sandbox()).handle
    script = sh("head -c 2097152 /dev/urandom > /written; echo done > /shared/seen; sleep 100")
    shared = Mount(host_path=str(lab.shared), container_path="/shared")
    given = {"image": "localhost/plain:1", "mounts": (shared,)}
    busy = await lab.started(sandbox, Act(""), command=script, **given)
    held = (await lab.created(sandbox, Act(""), command=script, **given)).handle
    assert await lab.seen("seen") == "done"
    layers = (await lab.driver.usage(sandbox, [busy, held])).layers
    assert layers[busy.id] >= 2 << 20
    assert layers[held.id] < 1 << 20


async def test_an_image_that_is_not_here(lab: Lab) -> None:
    with pytest.raises(NotFound, match="not here"):
        await run(lab, "absent", *sh("true"))


async def test_no_command_anywhere(lab: Lab) -> None:
    with pytest.raises(Invalid, match="no entrypoint"):
        await run(lab, "plain")


async def test_an_image_that_is_removed_under_ones_hands(
    lab: Lab, places: ImagePlaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By podman, say, after its layers were found, and before it is known that they were whole."""
    store(places, layout(tmp_path / "gone", [busybox(), {"gone": File()}]), "localhost/gone:1")
    find = plans.stored

    def found_and_removed(config: Any, storage: Storage) -> plans.Root:
        found = find(config, storage)
        skopeo("delete", storage.address("localhost/gone:1"))
        os.makedirs(found.lowers[0])  # as if its removal were still under way
        return found

    monkeypatch.setattr(plans, "stored", found_and_removed)
    with pytest.raises(NotFound, match="removed meanwhile"):
        await run(lab, "gone", *sh("true"))
