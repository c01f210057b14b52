"""The benchmark runs, measures everything, and leaves nothing. How fast anything is, no test says."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BENCH = [sys.executable, str(ROOT / "bench" / "bench.py"), "--quick"]

PLAUSIBLE = {
    "ms": (0.001, 60_000),
    "pods/s": (0.01, 10_000),
    "MiB": (0.01, 2_000),
    "% core": (0, 200),
    "x": (0.1, 100),
    "times": (0.01, 100),
}

ALONE = {
    "start, request to last release": "ms",
    "start skew, first to last release": "ms",
    "delete, grace 0": "ms",
    "stop with grace 0, and start": "ms",
    "pods started 8 at a time": "pods/s",
    "exec true": "ms",
    "podd-cli exec POD -- true": "ms",
    "podd-cli get pods, 4 pods": "ms",
    "python -c pass": "ms",
    "PSS of the daemon, no pod": "MiB",
    "RSS of the daemon, no pod": "MiB",
    "PSS of a pod's supervisor, 4 pods": "MiB",
    "PSS of the daemon, 4 pods": "MiB",
    "RSS of the daemon, 4 pods": "MiB",
    "idle CPU, 4 pods, scheduler's clock": "% core",
    "idle CPU, 4 pods, utime + stime": "% core",
    "http probe each second, of 4 pods": "% core",
    "tcp probe each second, of 4 pods": "% core",
}
ON_RUNC = {name: unit for name, unit in ALONE.items() if name.startswith(("start", "delete", "stop"))}
COMPARED = {"start": "ms", "delete": "ms", "PSS of a pod's supervisors, 2 pods": "MiB"}

CPU = {  # where there is a cgroup v2
    "CPU of a start and a delete, all processes": "ms",
    "exec probe each second, of 4 pods": "% core",
}
NETWORK = {
    "loopback: start": "ms",
    "bridge: start": "ms",
    "bridge: start, as many times loopback": "x",
    "bridge, 10 layers: start, as many times loopback": "x",
    "both families: start, as many times loopback": "x",
    "loopback: delete, grace 0": "ms",
    "bridge: delete, grace 0": "ms",
    "bridge: plugin bridge ADD": "ms",
    "bridge: plugin bridge DEL": "ms",
}
PULL = {"podd-cli image pull, 200 MB in 10 layers": "ms"}
HAS_IMAGE = shutil.which("busybox") is not None


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not HAS_IMAGE, reason="needs busybox, linked statically: busybox-static")
def test_everything_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    before = traces()
    file = tmp_path / "figures.json"
    done = subprocess.run([*BENCH, "--json", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())
    wanted = ALONE | (CPU if "cgroup2" in Path("/proc/self/mounts").read_text() else {})
    wanted |= {f"runc: {name}": unit for name, unit in ON_RUNC.items()} if shutil.which("runc") else {}
    wanted |= {} if "network" in found["skipped"] else NETWORK
    wanted |= {} if "pull" in found["skipped"] else PULL
    for engine in {"podd-cli", "podd-runc", "podd-docker", "podman", "docker", "containerd"} - set(found["skipped"]):
        wanted |= {f"{engine}: {quantity}": unit for quantity, unit in COMPARED.items()}
    rows = {row["name"]: row for row in found["rows"]}
    assert {name: rows[name]["unit"] for name in wanted if name in rows} == wanted
    for row in rows.values():
        assert_plausible(row)
        assert row["name"] in done.stdout
    assert found["machine"]["cores"] >= 1
    pulls = {"pull", "podman pull", "ctr images pull"}
    assert set(found["skipped"]) <= {"podd-runc", "podd-docker", "podman", "docker", "containerd", "network", *pulls}
    assert all(found["skipped"].values()), "what is skipped says why"
    assert set(traces()) <= set(before)


@pytest.mark.root
@pytest.mark.skipif(not HAS_IMAGE, reason="needs busybox, linked statically: busybox-static")
def test_one_part_alone(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    subprocess.run([*BENCH, "--only", "parallel", "--json", str(file)], capture_output=True, check=True)
    assert [row["name"] for row in json.loads(file.read_text())["rows"]] == ["pods started 8 at a time"]


def assert_plausible(row: dict[str, Any]) -> None:
    least, most = PLAUSIBLE[row["unit"]]
    for value in (row["median"], row["p95"], row["best"]):
        assert least <= value <= most, row
    more_is_better = row["unit"] in ("pods/s", "times")
    worse = (row["best"] >= row["median"] >= row["p95"]) if more_is_better else (row["best"] <= row["median"])
    assert worse, row


def traces() -> list[str]:
    """What a benchmark could leave: mounts, processes, directories, cgroups; their names have a word of its own."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    folders = [str(path) for path in Path("/var/tmp").iterdir()]
    cgroups = [path for path, _, _ in os.walk("/sys/fs/cgroup")]
    return [one for one in [*mounts, *arguments(), *folders, *cgroups] if "podd-benchmark-" in one]


def arguments() -> Iterator[str]:
    for name in os.listdir("/proc"):
        with suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            yield Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")


# ---- figures


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_figures", ROOT / "bench" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("values", "target", "median", "p95", "best", "met"),
    [
        ([3.0, 1.0, 2.0], {"most": 2.0}, 2.0, 3.0, 1.0, True),
        ([3.0, 1.0, 2.0], {"most": 1.9}, 2.0, 3.0, 1.0, False),
        ([3.0, 1.0, 2.0], {"least": 2.0}, 2.0, 1.0, 3.0, True),
        ([3.0, 1.0, 2.0], {"least": 2.1}, 2.0, 1.0, 3.0, False),
        ([float(n) for n in range(1, 101)], {}, 50.5, 95.0, 1.0, None),
        ([float(n) for n in range(1, 21)], {}, 10.5, 19.0, 1.0, None),
        ([7.0], {}, 7.0, 7.0, 7.0, None),
    ],
)
def test_what_a_row_says(
    figures: ModuleType,
    values: list[float],
    target: dict[str, float],
    median: float,
    p95: float,
    best: float,
    met: bool | None,
) -> None:
    row = figures.Row("a", "ms", values, **target)
    assert (row.median, row.p95, row.best, row.met) == (median, p95, best, met)


def test_others_are_shown_as_multiples_of_ours(figures: ModuleType) -> None:
    rows = [figures.Row(name, "ms", [value]) for name, value in (("us: start", 20.0), ("them: start", 500.0))]
    assert figures.comparison(rows, "us")[1].split() == ["start", "ms", "20", "500", "(25.0x)"]
