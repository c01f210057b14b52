"""The unit files: what systemd says of them, and what they must have in common with podd."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from podd import config
from podd.linux.cgroup import layout

UNITS = Path(__file__).parent.parent.parent / "systemd"
PODD = Path(sys.executable).parent / "podd"
NAMES = ("podd-pods.service", "podd.service", "podd.socket")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with the path of a podd that exists."""
    for name in NAMES:
        (tmp_path / name).write_text((UNITS / name).read_text().replace("/usr/local/bin/podd", str(PODD)))
    return tmp_path


def verify(folder: Path) -> str:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is missing: it is in Debian's package systemd")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(folder / name for name in NAMES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout + (f"exit status {done.returncode}" if done.returncode else "")


def test_systemd_takes_the_units_without_a_word(installed: Path) -> None:
    assert verify(installed) == ""


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("Type=notify\nNoSuchKey=1", "NoSuchKey"),
        ("Type=nonsense", "nonsense"),
        ("Type=notify\nExecStartPre=/no/such/program", "/no/such/program"),
    ],
)
def test_systemd_would_complain(installed: Path, line: str, complaint: str) -> None:
    unit = installed / "podd.service"
    unit.write_text(unit.read_text().replace("Type=notify", line))
    assert complaint in verify(installed)


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((UNITS / name).read_text())
    return parser


def test_the_socket_is_where_podd_and_its_clients_look_for_it() -> None:
    defaults = config.Daemon()
    sock = unit("podd.socket")["Socket"]
    assert (sock["ListenStream"], sock["SocketGroup"]) == (defaults.socket, defaults.socket_group)
    assert f"g {defaults.socket_group} -" in (UNITS / "sysusers.d/podd.conf").read_text()


def test_systemd_makes_the_directories_as_podd_wants_them() -> None:
    service, defaults = unit("podd.service")["Service"], config.Daemon()
    assert f"/run/{service['RuntimeDirectory']}" == defaults.run_dir
    assert f"/var/lib/{service['StateDirectory']}" == defaults.state_dir
    assert f"/var/log/{service['LogsDirectory']}" == defaults.log_dir


def test_pods_have_a_group_that_is_not_podds() -> None:
    """systemd cannot start podd.service again in a group whose children, the pods', have controllers."""
    assert unit(layout.POD_UNIT)["Service"]["Delegate"] == "yes"
    assert layout.POD_UNIT in unit("podd.service")["Unit"]["Requires"]
    assert layout.POD_UNIT in unit("podd.service")["Unit"]["After"]
    assert "Delegate" not in unit("podd.service")["Service"]
