"""A runtime that is missing, too old, no runtime at all, or not made for this host is told of with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from podd.driver.hookspecs import DriverPaths
from podd.errors import Invalid, PoddError, Unavailable, Unsupported
from podd.linux.cgroup import Hierarchy, Layout
from podd_runc import runtime
from podd_runc.driver import RuncDriver
from podd_runc.runtime import described, find

V1, V2 = Hierarchy("/v1", 1, frozenset({"cpu", "memory", "pids"})), Hierarchy("/v2", 2, frozenset())
UNIFIED, HYBRID = Layout((V2,)), Layout((V2, V1))
RUNC = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1\nspec: 1.0.2-dev\ngo: go1.19.8\n"
CRUN = "crun version 1.15\ncommit: f8a096\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD +SECCOMP\n"


def program(tmp_path: Path, text: str, status: int = 0) -> str:
    file = tmp_path / "runtime"
    file.write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\nexit {status}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(("text", "name", "version"), [(RUNC, "runc", "1.1.5+ds1"), (CRUN, "crun", "1.15")])
def test_what_a_runtime_says_of_itself(tmp_path: Path, text: str, name: str, version: str) -> None:
    found = find("runc", program(tmp_path, text), UNIFIED)
    assert (found.name, found.version) == (name, version)


@pytest.mark.parametrize(
    ("text", "status", "layout", "kind", "words"),
    [
        (RUNC.replace("1.0.2-dev", "0.9"), 0, UNIFIED, Unsupported, "version 0.9 of the OCI runtime specification"),
        ("GNU coreutils 9\n", 0, UNIFIED, Unsupported, "does not answer --version as an OCI runtime does"),
        (RUNC, 3, UNIFIED, Unavailable, "ended with status 3"),
        (CRUN, 0, HYBRID, Unsupported, "hybrid mode"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, text: str, status: int, layout: Layout, kind: type[PoddError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        find("runc", program(tmp_path, text, status), layout)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("version", "may", "works"), [("1.8.1", True, True), ("1.8.1", False, False), ("1.14", False, True)]
)
def test_an_old_crun_must_be_able_to_lift_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, may: bool, works: bool
) -> None:
    monkeypatch.setattr(runtime, "_may_lock_memory", lambda: may)
    path = program(tmp_path, CRUN.replace("1.15", version))
    if works:
        assert find("runc", path, UNIFIED).version == version
        return
    with pytest.raises(Unsupported, match="must lift its limit on locked memory") as caught:
        find("runc", path, UNIFIED)
    assert "LimitMEMLOCK" in caught.value.remedy


def test_runc_takes_hybrid_mode(tmp_path: Path) -> None:
    assert find("runc", program(tmp_path, RUNC), HYBRID).name == "runc"


@pytest.mark.parametrize("wanted", ["no-such-runtime", "/no/such/runtime", "./relative"])
def test_one_that_is_missing(wanted: str) -> None:
    with pytest.raises(Unavailable, match="there is no such program") as caught:
        find("runc", wanted, UNIFIED)
    assert "drivers.runc.runtime" in caught.value.remedy


def test_a_version_with_another_word_order() -> None:
    assert described("runc", "/x", "youki 0.3.0\nspec: 1.0.2\n").name == "youki"


@pytest.mark.root
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_probe_tells_of_a_missing_runtime(paths: DriverPaths) -> None:
    async with RuncDriver("runc", {"runtime": "/no/such/runtime"}, paths) as driver:
        health = await driver.probe()
        assert not health.usable
        assert "/no/such/runtime" in health.reason
        assert health.remedy
        with pytest.raises(Unavailable):
            await driver.owned()


@pytest.mark.parametrize("section", [{"runtime": 3}, {"runtim": "crun"}])
def test_a_section_that_is_wrong(paths: DriverPaths, section: Mapping[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"drivers\.runc\.runtim"):
        RuncDriver("runc", section, paths)
