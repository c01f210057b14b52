from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from podd import config
from podd.config import Config, RuntimeClass
from podd.errors import Denied, Invalid, NotFound
from podd.model import manifest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "config" / "podd.toml"


SECTIONS = ("daemon", "images", "network")


def plain(value: object) -> Any:
    """As a file would have it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def parse(text: str) -> Config:
    return config.parse(text.encode(), "/etc/podd/podd.toml")


def test_the_example_file_has_every_key_with_its_default() -> None:
    document = tomllib.loads(EXAMPLE.read_text())
    assert document == {name: plain(getattr(Config(), name)) for name in ("default_driver", *SECTIONS)}


def test_every_key_is_explained_in_the_example_file() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z_]+ = ", line):
            assert lines[number - 1].startswith("# "), f"{line}: no comment above it"


def test_every_key_is_in_the_documentation_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `(.*?)` \|", page, re.MULTILINE))
    defaults: dict[str, object] = {"default_driver": "setns"}
    for section in SECTIONS:
        defaults |= {f"{section}.{name}": value for name, value in plain(getattr(Config(), section)).items()}
    assert {key: json.loads(value) for key, value in rows.items()} == defaults


def test_what_is_not_given_is_as_by_default() -> None:
    assert parse("") == Config(source="/etc/podd/podd.toml")


def test_relative_paths_start_at_the_file() -> None:
    read = config.parse(
        b'[daemon]\nsocket = "a.sock"\nrun_dir = "../run/"\nstate_dir = "/s/./x"', "/demo/etc/podd.toml"
    )
    assert (read.daemon.socket, read.daemon.run_dir, read.daemon.state_dir) == ("/demo/etc/a.sock", "/demo/run", "/s/x")


def test_a_drivers_section_is_handed_over_untouched() -> None:
    read = parse('[drivers.setns]\nany = "${HOME}"\n[drivers.setns.deep]\nlist = [1, 2]\n[drivers.other]')
    assert read.drivers == {"setns": {"any": "${HOME}", "deep": {"list": [1, 2]}}, "other": {}}


def test_a_runtime_class_is_of_a_driver_and_keeps_the_rest_untouched() -> None:
    read = parse('[runtime_classes.fast]\ndriver = "runc"\nruntime = "crun"')
    assert read.runtime_classes == {"fast": RuntimeClass(driver="runc", section={"runtime": "crun"})}


def test_files_of_images_and_network_start_at_the_file_too() -> None:
    read = parse('[images]\nroot = "x"\n[network]\nbin_dirs = ["a", "/b"]')
    assert (read.images.root, read.images.run_root) == ("/etc/podd/x", "")
    assert read.network.bin_dirs == ("/etc/podd/a", "/b")


WRONG = {
    "[images]\nrot = 1": ":2: images.rot: unknown key; did you mean images.root?",
    'defualt_driver = "x"': ":1: defualt_driver: unknown key; did you mean default_driver?",
    'socket = "/x"': ":1: socket: unknown key; did you mean daemon.socket?",
    '[daemon]\n\nsockets = "/x"': ":3: daemon.sockets: unknown key; did you mean daemon.socket?",
    '[daemon]\ndefault_driver = "x"': ":2: daemon.default_driver: unknown key; did you mean default_driver?",
    "[daemn]": ":1: daemn: unknown key; did you mean daemon?",
    "zzz = 1": ":1: zzz: unknown key; known are default_driver, daemon, images, network, drivers, runtime_classes",
    "[daemon]\nsocket = 5": ":2: daemon.socket: expected `str`, got `int`",
    '[daemon]\nlog_level = "loud"': ":2: daemon.log_level: invalid enum value 'loud'",
    '[daemon]\nsocket = ""': ":2: daemon.socket: is empty; give a path",
    '[daemon]\nrun_dir = "/a\\nb"': ":2: daemon.run_dir: has control characters in it",
    'default_driver = ""': ":1: default_driver: is empty; name a driver",
    "default_driver = 1": ":1: default_driver: expected `str`, got `int`",
    "daemon = 1": ":1: daemon: is a section; write [daemon]",
    "[drivers]\nsetns = 1": ":2: drivers.setns: is a section; write [drivers.setns]",
    "[[drivers]]": "drivers: is a section",
    "runtime_classes = 1": ":1: runtime_classes: is a section; write [runtime_classes]",
    "[runtime_classes]\nfast = 1": ":2: runtime_classes.fast: is a section; write [runtime_classes.fast]",
    "[runtime_classes.fast]\nruntime = 1": ":1: runtime_classes.fast: a class is of a driver; name the driver",
    "[runtime_classes.fast]\ndriver = 1": ":2: runtime_classes.fast.driver: a class is of a driver; name the driver",
    "[runtime_classes.Fast]\ndriver = 'runc'": ":1: runtime_classes.Fast: is not the name of a class; use lower-case",
    "[runtime_clases.fast]": ": runtime_clases: unknown key; did you mean runtime_classes?",
    "a = [1": ": is not TOML: unclosed array",
    "a = 1\na = 2": ": is not TOML: cannot overwrite a value",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=list(WRONG))
def test_wrong(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert str(caught.value).startswith("/etc/podd/podd.toml")
    assert message in str(caught.value)


def test_text_that_is_not_utf8() -> None:
    with pytest.raises(Invalid, match="is not UTF-8: at byte 1"):
        config.parse(b"a\xff", "/x")


@pytest.mark.parametrize("length", [107, 108])
def test_a_socket_has_a_path_that_the_kernel_takes(length: int) -> None:
    text = f'[daemon]\nsocket = "/{"s" * (length - 1)}"'
    if length == 107:
        assert len(parse(text).daemon.socket) == length
    else:
        with pytest.raises(Invalid, match="108 bytes long, and the kernel takes 107"):
            parse(text)


def test_load_reads_the_file_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "podd.toml").write_text('[daemon]\nstate_dir = "state"')
    monkeypatch.chdir(tmp_path)
    read = config.load("podd.toml")
    assert (read.source, read.daemon.state_dir) == (f"{tmp_path}/podd.toml", f"{tmp_path}/state")


def test_load_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        config.load(f"{tmp_path}/podd.toml")


def test_load_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is a directory"):
        config.load(str(tmp_path))


def test_load_of_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, _mode: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(config, "open", refuse, raising=False)
    with pytest.raises(Denied, match="/x: may not be read"):
        config.load("/x")


def test_load_without_a_file_is_as_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", f"{tmp_path}/podd.toml")
    assert config.load() == Config()
    (tmp_path / "podd.toml").write_text('default_driver = "other"')
    assert config.load().default_driver == "other"


def test_differences_are_told_by_key() -> None:
    old = parse('[drivers.a]\nx = 1\n[drivers.b]\n[daemon]\nlog_level = "info"\n[runtime_classes.c]\ndriver = "a"')
    new = parse(
        'default_driver = "b"\n[drivers.a]\nx = 2\n[drivers.b]\n[drivers.c]\ny=1\n[daemon]\nlog_level = "debug"'
    )
    assert config.differences(old, new) == [
        "default_driver",
        "daemon.log_level",
        "drivers.a",
        "drivers.c",
        "runtime_classes.c",
    ]
    assert config.differences(old, old) == []


EXAMPLES = sorted((ROOT / "config" / "pods").glob("*.yaml"))


def test_there_are_examples() -> None:
    assert ROOT / "config" / "pods" / "hello.yaml" in EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_pod_is_good_and_named_as_its_file(path: Path) -> None:
    read = manifest.parse(path.read_bytes(), str(path))
    assert [pod.metadata.name for pod in read.pods] == [path.stem]
    assert read.remarks == ()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_pod_runs_programs_that_every_debian_has(path: Path) -> None:
    for member in manifest.parse(path.read_bytes()).pods[0].spec.containers:
        assert member.image == "rootfs:/"
        assert member.command[0] in ("/bin/sh", "/bin/sleep", "/usr/bin/python3")
