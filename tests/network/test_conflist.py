"""What a network configuration says, and which of several counts."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ground import FULL, SHIPPED
from hypothesis import given
from hypothesis import strategies as some

from podd.errors import Invalid
from podd.network import conflist, folder

ONE = {"type": "bridge"}


def text(**keys: Any) -> bytes:
    return json.dumps({"name": "net", "cniVersion": "1.0.0", "plugins": [ONE], **keys}).encode()


VERSIONS: dict[str, tuple[dict[str, Any], str]] = {
    "one": ({"cniVersion": "0.3.1"}, "0.3.1"),
    "the latest of several": ({"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.1.0", "1.0.0"]}, "1.1.0"),
    "that one alone which is spoken": ({"cniVersion": "0.4.0", "cniVersions": ["9.9.9"]}, "0.4.0"),
}


@pytest.mark.parametrize(("keys", "version"), VERSIONS.values(), ids=VERSIONS)
def test_the_version_that_is_spoken(keys: dict[str, Any], version: str) -> None:
    assert conflist.parse(text(**keys)).version == version


def test_versions_have_an_order() -> None:
    network = conflist.parse(text(cniVersion="0.4.0"))
    assert network.speaks("0.3.1")
    assert network.speaks("0.4.0")
    assert not network.speaks("1.0.0")


FLAGS = {True: True, False: False, "true": True, "TRUE": True, "false": False}


@pytest.mark.parametrize(("written", "meant"), FLAGS.items(), ids=map(str, FLAGS))
def test_flags_may_be_words(written: Any, meant: bool) -> None:
    network = conflist.parse(text(disableCheck=written, disableGC=written))
    assert (network.disable_check, network.disable_gc) == (meant, meant)


WRONG: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "is not JSON"),
    "not UTF-8": (b'{"name": "\xff"}', "is not JSON"),
    "too deep": (b"[" * 100_000, "is not JSON"),
    "no object": (b"[]", "is no JSON object"),
    "no name": (text(name=None), "name: None is not the name of a network"),
    "a name that is a path": (text(name="../etc"), "is not the name of a network"),
    "no version": (json.dumps({"name": "n", "plugins": [ONE]}).encode(), "cniVersion: is missing"),
    "an old version": (text(cniVersion="0.2.0"), "cniVersion: 0.2.0 is not spoken here"),
    "versions that are none": (text(cniVersions="1.0.0"), "cniVersions: is no list"),
    "no plugins": (text(plugins=[]), "plugins: there are none"),
    "plugins that are no list": (text(plugins={"type": "x"}), "plugins: is no list"),
    "a plugin that is no object": (text(plugins=["bridge"]), "plugins: one is no object"),
    "a plugin without a type": (text(plugins=[{}]), "type: None is not the name of a plugin"),
    "a plugin elsewhere": (text(plugins=[{"type": "../../bin/sh"}]), "is not the name of a plugin"),
    "a flag that is none": (text(disableCheck=3), "disableCheck: 3 is neither true nor false"),
}


@pytest.mark.parametrize(("given", "why"), WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_refused(given: bytes, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        conflist.parse(given)
    assert why in refused.value.message


@given(
    some.binary()
    | some.recursive(
        some.none()
        | some.booleans()
        | some.integers()
        | some.text(max_size=5)
        | some.sampled_from(["1.0.0", "bridge"]),
        lambda inner: (
            some.lists(inner, max_size=3)
            | some.dictionaries(
                some.sampled_from(
                    ["name", "cniVersion", "cniVersions", "plugins", "type", "disableGC", "capabilities"]
                ),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_nothing_breaks_it(anything: bytes) -> None:
    for read in (conflist.parse, conflist.parse_single, conflist.name_of):
        with suppress(Invalid):
            read(anything)


def test_capabilities_are_those_that_are_true() -> None:
    network = conflist.parse(text(plugins=[ONE, {"type": "portmap", "capabilities": {"portMappings": True, "dns": 0}}]))
    assert network.can("portMappings")
    assert not network.can("dns")
    assert not network.can("bandwidth")
    assert not conflist.plugin({"type": "x", "capabilities": ["portMappings"]}).can("portMappings")


def test_a_document_says_all_of_it() -> None:
    network = conflist.parse(text(disableGC=True), [{"type": "more", "key": 1}])
    assert conflist.parse(json.dumps(network.document()).encode()) == network
    assert conflist.name_of(json.dumps(network.document()).encode()) == "", "no file is needed to understand it"


def test_the_shipped_ones_are_valid() -> None:
    network, full = (conflist.parse(path.read_bytes()) for path in (SHIPPED, FULL))
    assert [plugin.type for plugin in network.plugins] == ["bridge", "portmap", "firewall"]
    assert [plugin.type for plugin in full.plugins] == ["bridge", "portmap", "firewall", "bandwidth"]
    assert full.name == network.name, "so that one takes the other's place, and pods keep their addresses"
    assert full.can("portMappings")
    assert full.can("bandwidth")


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_the_first_valid_file_counts(tmp_path: Path) -> None:
    for name, content in {
        "00-not-this.txt": text(name="txt"),
        "05-broken.conflist": b"{",
        "10-good.conflist": text(name="good"),
        "20-other.conflist": text(name="other"),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "01-folder.conflist").mkdir()
    found = folder.find(str(tmp_path))
    assert found.network is not None
    assert found.network.name == "good"
    assert list(found.skipped) == [str(tmp_path / "05-broken.conflist")]


@pytest.mark.parametrize("name", ["a.conf", "a.json"])
def test_a_single_plugin_is_a_network(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps({"name": "alone", "cniVersion": "0.4.0", "type": "macvlan", "mode": "l2"}))
    network = folder.find(str(tmp_path)).network
    assert network is not None
    assert (network.name, network.version) == ("alone", "0.4.0")
    assert [plugin.conf["mode"] for plugin in network.plugins] == ["l2"]


def test_a_list_by_the_name_of_a_single_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text())
    network = folder.find(str(tmp_path)).network
    assert network is not None
    assert network.name == "net"


@pytest.mark.parametrize(("inlined_only", "types"), [(False, ["bridge", "a", "b"]), (True, ["bridge"])])
def test_plugins_in_files_of_their_own(tmp_path: Path, inlined_only: bool, types: list[str]) -> None:
    (tmp_path / "10.conflist").write_bytes(text(loadOnlyInlinedPlugins=inlined_only))
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "2.conf").write_text('{"type": "b"}')
    (tmp_path / "net" / "1.conf").write_text('{"type": "a"}')
    (tmp_path / "net" / "3.txt").write_text('{"type": "c"}')
    network = folder.find(str(tmp_path)).network
    assert network is not None
    assert [plugin.type for plugin in network.plugins] == types


def test_a_file_that_is_too_large_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.conflist").write_bytes(b" " * conflist.MAX_BYTES + text())
    assert "is larger than" in folder.find(str(tmp_path)).skipped[str(tmp_path / "a.conflist")]


def test_no_folder_is_no_network(tmp_path: Path) -> None:
    assert folder.find(str(tmp_path / "nowhere")) == folder.Found(None, {})
