"""A real podd, made and ended with the leak audit; on podd's own driver, or on a dockerd."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from real import CONFIG, Podd, manifest, sleeper

from dockerd import Dockerd
from podd.linux.cgroup import Layout


def running_on(dockerd: Dockerd, *keys: str, network: str = "") -> Iterator[Podd]:
    """One whose pods go to that dockerd, whose list must be empty afterwards, too. keys: more for [drivers.docker].
    network: as of Podd."""
    config = "\n".join((docker_config(dockerd), *keys))
    # A dockerd that was started again is another process, too.
    yield from running(config, ignoring=rf"^process: .*{dockerd.folder}", network=network)
    assert dockerd.containers() == []


def running_on_runc() -> Iterator[Podd]:
    """One whose pods are made by runc. Its driver begins with its first pod, so that one has come and gone."""
    yield from running(runc_config(), groups=("runc",), first=manifest("first", sleeper("a")))


def runc_config() -> str:
    return f'default_driver = "runc"\n{CONFIG}\n[drivers.runc]\ncgroup_parent = "{{cgroup}}"\n'


def running_on_all(dockerd: Dockerd, more: str) -> Iterator[Podd]:
    """One with podd's own driver, runc and that dockerd; pods that name none go to the first. Runc has had a pod.
    more: of its configuration."""
    setns = CONFIG.replace("{cgroup}", "{cgroup}/setns")
    config = f'{setns}\n[drivers.runc]\ncgroup_parent = "{{cgroup}}"\n{_docker_section(dockerd)}\n{more}'
    first = manifest("first", sleeper("a"), runtimeClassName="runc")
    yield from running(config, groups=("setns", "runc"), first=first, ignoring=rf"^process: .*{dockerd.folder}")
    assert dockerd.containers() == []


def docker_config(dockerd: Dockerd) -> str:
    """For a podd whose pods go to that dockerd."""
    setns = CONFIG.replace("{cgroup}", "{cgroup}-setns")
    return f'default_driver = "docker"\n{setns}\n{_docker_section(dockerd)}'


def _docker_section(dockerd: Dockerd) -> str:
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in dockerd.section.items())
    return f'[drivers.docker]\ncgroup_parent = "{{cgroup}}"\n{keys}'


def running(
    config: str, *, ignoring: str = "", groups: Iterable[str] = (), first: str = "", network: str = ""
) -> Iterator[Podd]:
    """ignoring: a pattern of what is not podd's, for the leak audit. groups: that a driver makes below podd's, and
    keeps. first: a pod to have been run before. network: as of Podd."""
    folder = Path(tempfile.mkdtemp(prefix="podd-e2e-", dir="/var/tmp"))
    for group in groups:
        Layout.everywhere().group(f"{folder.name}/{group}").create()
    one = Podd(folder, config, network)
    if ignoring:
        one.kept = (f"{one.kept[0]}|{ignoring}", *one.kept[1:])
    try:
        one.start()
        if first:
            one.apply(first)
            one.cli("delete", "pods", "--all")
        before = one.snapshot()
        yield one
        one.ensure_running()
        for pod in one.pods():
            one.cli("delete", "pod", pod["metadata"]["name"], "-n", pod["metadata"]["namespace"], "--now")
        one.assert_clean(before)
        one.stop()
        one.assert_clean(one.before, daemon=False)
    finally:
        one.stop()
        for group in (folder.name, f"{folder.name}-setns"):
            Layout.everywhere().group(group).remove()
        shutil.rmtree(folder)
