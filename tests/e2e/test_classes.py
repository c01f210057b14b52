"""Runtime classes and a configuration that changes while pods run, on the real daemon."""

from __future__ import annotations

import json

import pytest
from real import Podd, manifest, sleeper

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture(autouse=True)
def what_a_class_keeps(podd: Podd) -> None:
    """Its places, which are empty, and the process from which its shims are forked, with a socket to it."""
    podd.kept += (
        r"^file: .*/(run|state)/(classes/)?(\w+/){0,2}((pods|containers)/)?$",
        r"^cgroup: .*/(small|runc)$",
        r"^descriptor: \d+ more of socket unix",
    )


def configure(podd: Podd, *, default: str = "setns", setns: str = "", more: str = "") -> None:
    file = podd.folder / "podd.toml"
    kept = file.read_text().partition("[daemon]")[2].partition("[drivers.setns]")[0]
    group = f'cgroup_parent = "{podd.folder.name}"\n'
    file.write_text(f'default_driver = "{default}"\n[daemon]{kept}[drivers.setns]\n{group}{setns}\n{more}')


SMALL = '[runtime_classes.small]\ndriver = "setns"\nlog_max_bytes = 4096\n'


def test_a_class_comes_and_goes_while_pods_run(podd: Podd) -> None:
    podd.apply(manifest("plain", sleeper("a")))
    configure(podd, more=SMALL)
    assert podd.cli("reload") == "runtime_classes.small changed\n"
    podd.apply(manifest("one", sleeper("a"), runtimeClassName="small"))
    shown = {d["name"]: (d["driver"], d["usable"]) for d in json.loads(podd.cli("drivers", "-o", "json"))}
    assert shown["small"] == ("setns", True)
    before = {name: podd.pids(name) for name in ("plain", "one")}
    assert list((podd.folder / "run/classes/small").glob("**/pods/*"))

    configure(podd)
    assert podd.cli("reload") == "runtime_classes.small changed\n"
    refused = podd.apply(manifest("two", sleeper("a"), runtimeClassName="small"), status=1)
    assert "spec.runtimeClassName: small: there is no such driver or runtime class" in refused
    assert podd.cli("exec", "one", "--", "echo", "there") == "there\n"
    assert {name: podd.pids(name) for name in ("plain", "one")} == before

    podd.stop()
    podd.start()  # without the class, what runs of it waits
    podd.cli("drivers")
    assert podd.pids("plain") == before["plain"]
    configure(podd, more=SMALL)
    podd.stop()
    podd.start()
    assert {name: podd.pids(name) for name in ("plain", "one")} == before
    assert podd.cli("exec", "one", "--", "echo", "there") == "there\n"


def test_a_changed_section_and_default_hold_for_new_pods(podd: Podd) -> None:
    podd.apply(manifest("old", sleeper("a")))
    configure(podd, default="small", setns="log_max_files = 3", more=SMALL)
    told = podd.cli("reload").splitlines()
    assert told == ["default_driver changed", "drivers.setns changed", "runtime_classes.small changed"]
    podd.apply(manifest("new", sleeper("a")))
    podd.apply(manifest("other", sleeper("a"), runtimeClassName="setns"))
    pods = ("old", "new", "other")
    assert [podd.cli("exec", name, "--", "echo", name) for name in pods] == [f"{name}\n" for name in pods]
    assert "unchanged" in podd.apply(manifest("old", sleeper("a"), runtimeClassName="setns"))
    before = {name: podd.pids(name) for name in pods}
    podd.kill()
    podd.start()
    assert {name: podd.pids(name) for name in pods} == before
    podd.cli("delete", "pods", "--all", "--now")


def test_a_file_that_is_wrong_changes_nothing(podd: Podd) -> None:
    configure(podd, setns="log_max_file = 3", more=SMALL)
    assert "drivers.setns.log_max_file: unknown key; did you mean log_max_files?" in podd.cli("reload", status=1)
    configure(podd, more=SMALL + "log_max_file = 3")
    assert "runtime_classes.small.log_max_file: unknown key; did you mean" in podd.cli("reload", status=1)
    assert "small" not in podd.cli("drivers")


def test_a_pod_moves_to_another_driver_and_back(podd: Podd) -> None:
    configure(podd, more=SMALL)
    podd.cli("reload")
    podd.apply(manifest("web", sleeper("a"), sleeper("b")))
    first = podd.pids("web")
    assert podd.cli("recreate", "web", "--driver", "small") == "pod/web recreated: Running\n"
    moved = podd.pids("web")
    assert podd.pod("web")["spec"]["runtimeClassName"] == "small"
    assert set(moved) == {"a", "b"}
    assert not set(moved.values()) & set(first.values())
    assert podd.cli("recreate", "web", "--driver", "small") == "pod/web unchanged: Running\n"
    refused = podd.cli("recreate", "web", "--driver", "smal", status=1)
    assert "spec.runtimeClassName: smal: there is no such driver or runtime class" in refused
    assert podd.pids("web") == moved
    assert podd.cli("recreate", "--all", "--driver", "setns") == "pod/web recreated: Running\n"
    assert podd.cli("exec", "web", "-c", "b", "--", "echo", "there") == "there\n"
