"""Drivers of strangers, really installed into an environment of their own: the example, and some that are broken."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from podd.linux.cgroup import Layout

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "podd_process"

CONFIG = """\
default_driver = "process"
[daemon]
socket = "podd.sock"
socket_group = ""
run_dir = "run"
state_dir = "state"
log_dir = "log"
pods_dir = "pods.d"
[drivers.setns]
cgroup_parent = "{cgroup}"
[drivers.process]
cgroup_parent = "{cgroup}"
[runtime_classes.other]
driver = "process"
"""

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hello"},
    "spec": {
        "hostNetwork": True,
        "hostIPC": True,
        "hostPID": True,
        "containers": [
            {
                "name": "a",
                "image": "rootfs:/",
                "command": ["/bin/sh", "-c", "echo hello; exec sleep 3600"],
                "securityContext": {"privileged": True},
            }
        ],
    },
}

HEAD = "from podd.driver.hookspecs import hookimpl\nfrom podd.driver.contract import Capabilities\n"
DRIVER = """
PODD_CONTRACT_VERSION = 1
class Stranger:
    capabilities = Capabilities(held_start=False, shared_uts=False, pid_pod=False, pid_node=False)
    def __init__(self, name, section, paths):
        self.name = name
    async def __aenter__(self):
        return self
    async def __aexit__(self, *why):
        pass
    async def probe(self):
        import anyio
        await anyio.sleep_forever()
    async def owned(self):
        return []
@hookimpl
def podd_drivers():
    return {"NAME": Stranger}
"""
BROKEN = {
    "unimportable": ("import no_such_module_anywhere\n", "No module named 'no_such_module_anywhere'"),
    "later": (HEAD + DRIVER.replace("VERSION = 1", "VERSION = 9"), "written for contract version 9"),
    "raising": (
        HEAD + DRIVER.replace('    return {"NAME": Stranger}', '    raise OSError("no disk")'),
        "OSError: no disk",
    ),
    "hanging": (HEAD + DRIVER, "no answer within 10 s"),
    "nothing": (HEAD + DRIVER.replace('{"NAME": Stranger}', '{"NAME": lambda *a: None}'), "AttributeError"),
    "frail": (HEAD + DRIVER.replace("        return self\n", '        raise OSError("no luck")\n'), "OSError: no luck"),
}


class Installed:
    """An environment with podd, its drivers and those of strangers, and a daemon in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        venv.create(folder / "venv", with_pip=False)
        (packages,) = (folder / "venv").glob("lib/python*/site-packages")
        paths = [str(ROOT / "src"), *map(str, ROOT.glob("plugins/*")), *site.getsitepackages()]
        (packages / "podd-of-the-tests.pth").write_text("\n".join(paths) + "\n")
        for broken, (code, _) in BROKEN.items():
            self._write(broken, code)
        source = shutil.copytree(EXAMPLE, folder / "source")  # what is built leaves its traces there
        offline = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
        self.run(self.bin / "python", "-m", "pip", "install", *offline, source, *sorted(folder.glob("broken_*")))

    def _write(self, name: str, code: str) -> None:
        package = self.folder / f"broken_{name}"
        package.mkdir()
        (package / f"stranger_{name}.py").write_text(code.replace("NAME", name))
        project = (EXAMPLE / "pyproject.toml").read_text().replace("podd-process", f"stranger-{name}")
        project = project.replace('process = "podd_process"', f'{name} = "stranger_{name}"')
        project = project.replace('packages = ["podd_process"]', f'include = ["stranger_{name}.py"]')
        (package / "pyproject.toml").write_text(project)

    def run(self, *words: object, status: int = 0, stdin: str | None = None) -> str:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env |= {"PODD_SOCKET": str(self.folder / "podd.sock"), "COLUMNS": "200"}
        done = subprocess.run(
            [*map(str, words)], cwd=self.folder, env=env, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if status else "")

    def cli(self, *words: object, status: int = 0, stdin: str | None = None) -> str:
        main = "import sys; from podd.cli.main import main; sys.exit(main())"
        return self.run(self.bin / "python", "-c", main, *words, status=status, stdin=stdin)


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    folder = Path(tempfile.mkdtemp(prefix="podd-strangers-", dir="/var/tmp"))
    try:
        yield Installed(folder)
    finally:
        Layout.detect().group(folder.name).remove()
        shutil.rmtree(folder)


@pytest.fixture
def daemon(installed: Installed) -> Iterator[Installed]:
    (installed.folder / "podd.toml").write_text(CONFIG.format(cgroup=installed.folder.name))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (installed.folder / "d.log").open("wb") as log:
        words = [installed.bin / "python", "-m", "podd.daemon", "--config", installed.folder / "podd.toml"]
        process = subprocess.Popen(words, stdout=log, stderr=log, env=env)
    try:
        end = time.monotonic() + 30
        while not (installed.folder / "podd.sock").exists():
            assert process.poll() is None, (installed.folder / "d.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        yield installed
    finally:
        process.terminate()
        assert process.wait(30) == 0, (installed.folder / "d.log").read_text()


def test_the_example_passes_the_contract_where_it_is_installed(installed: Installed) -> None:
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir",
        installed.folder,
        "--import-mode=importlib",
    ]
    said = installed.run(installed.bin / "python", "-m", "pytest", *options, installed.folder / "source" / "tests")
    assert " passed" in said
    assert "failed" not in said


def test_a_pod_runs_on_the_example_and_what_is_broken_harms_nothing(daemon: Installed) -> None:
    shown = {one["name"]: one for one in json.loads(daemon.cli("drivers", "-o", "json"))}
    assert (shown["process"]["usable"], shown["process"]["is_default"]) == (True, True)
    assert (shown["other"]["usable"], shown["other"]["driver"]) == (True, "process")
    assert shown["setns"]["usable"]
    for name, (_, reason) in BROKEN.items():
        assert (name, shown[name]["usable"], reason in shown[name]["reason"]) == (name, False, True), shown[name]
    assert daemon.cli("apply", "-f", "-", "--wait", stdin=json.dumps(POD)) == "pod/hello created: Running\n"
    assert daemon.cli("logs", "hello") == "hello\n"
    assert daemon.cli("recreate", "hello", "--driver", "other") == "pod/hello recreated: Running\n"
    refused = json.dumps({**POD, "metadata": {"name": "no"}, "spec": {**POD["spec"], "hostPID": False}})  # type: ignore[dict-item]
    assert "spec.hostPID: false needs capability isolation; driver process lacks it" in daemon.cli(
        "apply", "-f", "-", stdin=refused, status=1
    )
    daemon.cli("delete", "pod", "hello", "--now")
