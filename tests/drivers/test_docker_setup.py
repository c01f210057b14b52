"""`podd-cli docker setup`: what it puts into daemon.json, and that dockerd takes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockerd import Dockerd, a_dockerd
from podd.driver.hookspecs import DriverPaths
from podd.errors import Conflict, Invalid
from podd_docker.daemon_json import merged, put_into, wanted
from podd_docker.driver import DockerDriver

OURS = wanted()["runtimes"]["podd"]
ELSEWHERE = {"path": "/bin/sh", "runtimeArgs": ["/opt/old/site-packages/podd_docker/oci-runtime.sh"]}
OTHERS = {"path": "/usr/bin/crun"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", {"runtimes": {"podd": OURS}}),
        ("{}", {"runtimes": {"podd": OURS}}),
        ('{"debug": true, "a": "é"}', {"debug": True, "a": "é", "runtimes": {"podd": OURS}}),
        (json.dumps({"runtimes": {"crun": OTHERS}}), {"runtimes": {"crun": OTHERS, "podd": OURS}}),
        (json.dumps({"runtimes": {"podd": ELSEWHERE}}), {"runtimes": {"podd": OURS}}),
    ],
)
def test_all_else_is_kept(before: str, after: dict[str, object]) -> None:
    text = merged(before, "daemon.json")
    assert text is not None
    assert json.loads(text) == after
    assert merged(text, "daemon.json") is None


@pytest.mark.parametrize(
    ("before", "kind", "why"),
    [
        ("{", Invalid, "is no JSON"),
        ("[]", Invalid, "is no JSON object"),
        ('{"runtimes": []}', Invalid, "runtimes is no JSON object"),
        ('{"debug": true, "debug": false}', Invalid, "a key is there twice"),
        (json.dumps({"runtimes": {"podd": OTHERS}}), Conflict, "not podd's"),
        (json.dumps({"runtimes": {"podd": "crun"}}), Conflict, "not podd's"),
    ],
)
def test_what_it_does_not_understand_it_leaves_alone(
    tmp_path: Path, before: str, kind: type[Exception], why: str
) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(before)
    with pytest.raises(kind, match=why):
        put_into(str(path))
    assert [path.read_text(), os.listdir(tmp_path)] == [before, ["daemon.json"]]


def test_a_file_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    real, link = tmp_path / "etc" / "real.json", tmp_path / "daemon.json"
    link.symlink_to(real)
    assert put_into(str(link))
    assert real.stat().st_mode & 0o777 == 0o644
    real.write_text("{}")
    real.chmod(0o600)
    assert put_into(str(link))
    assert not put_into(str(link))
    assert real.stat().st_mode & 0o777 == 0o600
    assert os.listdir(real.parent) == ["real.json"]


@pytest.fixture
def own_dockerd() -> Iterator[Dockerd]:
    yield from a_dockerd()


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.anyio
async def test_a_dockerd_takes_it_by_a_reload(own_dockerd: Dockerd, paths: DriverPaths, cgroup_parent: str) -> None:
    own_dockerd.stop()
    own_dockerd.config.write_text('{"log-level": "warn"}')
    own_dockerd.start()
    section = {**own_dockerd.section, "cgroup_parent": cgroup_parent, "runtime": "podd"}
    async with DockerDriver("docker", section, paths) as driver:
        health = await driver.probe()
        assert (health.usable, "podd-cli docker setup" in health.remedy) == (False, True)
        said = podd_cli("docker", "setup", "--write", "--file", own_dockerd.config)
        assert "systemctl reload docker" in said
        own_dockerd.reload()
        end = time.monotonic() + 10
        while not (await driver.probe()).usable:
            assert time.monotonic() < end, "dockerd has not taken it"
    assert json.loads(own_dockerd.config.read_text())["log-level"] == "warn"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_it_prints_what_it_would_write(tmp_path: Path) -> None:
    said = podd_cli("docker", "setup")
    assert json.loads(said[: said.rindex("}") + 1]) == wanted()
    (tmp_path / "daemon.json").write_text("[]")
    assert "is no JSON object" in podd_cli("docker", "setup", "--write", "--file", tmp_path / "daemon.json", status=1)


def podd_cli(*words: object, status: int = 0) -> str:
    """What it says, first on stdout, then on stderr."""
    command = [str(Path(sys.executable).parent / "podd-cli"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr
