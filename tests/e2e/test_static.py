"""A folder of static pods under the real podd: its pods follow it, and come back with podd."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from real import Podd, manifest, sleeper, until

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.fixture
def folder(podd: Podd) -> Path:
    return podd.folder / "pods.d"


def put(path: Path, text: str) -> None:
    """As editors do it: whole, under another name, then renamed."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    os.rename(draft, path)


def statuses(podd: Podd) -> dict[str, str]:
    return {pod["metadata"]["name"]: pod["status"].get("reason") or pod["status"]["phase"] for pod in podd.pods()}


def test_a_folder_and_its_pods(podd: Podd, folder: Path) -> None:
    put(folder / "web.yaml", manifest("web", sleeper("main")))
    until(lambda: statuses(podd) == {"web": "Running"}, "the pod of the file runs")
    first = podd.pod("web")
    assert first["status"]["podd"]["source"] == str(folder / "web.yaml")
    assert str(folder / "web.yaml") in podd.cli("delete", "pod", "web", status=1)

    broken = json.loads(manifest("web", sleeper("main")))
    broken["spec"]["restartpolicy"] = "Always"
    put(folder / "web.yaml", json.dumps(broken, indent=1))
    until(lambda: statuses(podd) == {"web": "Running", "web.yaml": "ManifestError"}, "the broken file is shown")
    assert podd.pids("web") == {"main": first["status"]["containerStatuses"][0]["pid"]}
    line = next(
        n for n, text in enumerate((folder / "web.yaml").read_text().splitlines(), 1) if "restartpolicy" in text
    )
    said = f"web.yaml:{line}:3: spec.restartpolicy: unknown field; did you mean spec.restartPolicy?"
    assert said in podd.pod("web.yaml")["status"]["message"]
    assert said in podd.cli("events", "web.yaml")
    assert said in podd.cli("events", "web")
    assert said in podd.cli("info")

    put(folder / "web.yaml", manifest("web", sleeper("main"), sleeper("more")))
    until(lambda: set(podd.pids("web")) == {"main", "more"}, "the pod is what the file says now")
    until(lambda: statuses(podd) == {"web": "Running"}, "and the file is right")

    (folder / "web.yaml").unlink()
    until(lambda: statuses(podd) == {}, "the pod goes with its file")


def test_pods_of_the_folder_come_back_with_podd(podd: Podd, folder: Path) -> None:
    put(folder / "stays.yaml", manifest("stays", sleeper("main")))
    put(folder / "goes.yaml", manifest("goes", sleeper("main")))
    until(lambda: statuses(podd) == {"stays": "Running", "goes": "Running"}, "both run")
    pids = podd.pids("stays")
    podd.kill()
    (folder / "goes.yaml").unlink()
    put(folder / "comes.yaml", manifest("comes", sleeper("main")))
    podd.start()
    until(lambda: statuses(podd) == {"stays": "Running", "comes": "Running"}, "the pods are those of the folder")
    assert podd.pids("stays") == pids
    for path in folder.iterdir():
        path.unlink()
    until(lambda: statuses(podd) == {}, "all are gone")
