"""Which passwords go to which registry, and what skopeo's failures mean."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from podd.errors import Conflict, Denied, Invalid, Kind, NotFound, Unavailable
from podd.images.credentials import attempts
from podd.images.failures import explained, words
from podd.images.leftovers import UNFINISHED_S, Layer, User, chains, remove_unfinished
from podd.model.image import Named, parse

ONE = {"auth": base64.b64encode(b"a:b").decode()}
OTHER = {"auth": base64.b64encode(b"c:d").decode()}

FITS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "the host": ("reg.example/a", {"reg.example": ONE}, {"reg.example": ONE}),
    "another host": ("reg.example/a", {"other.example": ONE}, None),
    "another port": ("reg.example:5000/a", {"reg.example": ONE}, None),
    "an address": ("reg.example/a", {"https://reg.example/v1/": ONE}, {"reg.example": ONE}),
    "docker's own": ("docker.io/library/a", {"https://index.docker.io/v1/": ONE}, {"docker.io": ONE}),
    "the longest counts": (
        "reg.example/team/a",
        {"reg.example": ONE, "reg.example/team": OTHER},
        {"reg.example": OTHER, "reg.example/team": OTHER},
    ),
    "of another team": ("reg.example/team/a", {"reg.example/tea": ONE}, None),
    "one label": ("eu.reg.example/a", {"*.reg.example": ONE}, {"eu.reg.example": ONE}),
    "two labels": ("x.eu.reg.example/a", {"*.reg.example": ONE}, None),
    "user and password": ("reg.example/a", {"reg.example": {"username": "a", "password": "b"}}, {"reg.example": ONE}),
    "no entry": ("reg.example/a", {"reg.example": "nonsense"}, None),
}


@pytest.mark.parametrize("case", FITS)
def test_what_is_tried(case: str) -> None:
    text, auths, wanted = FITS[case]
    named = parse(text)
    assert isinstance(named, Named)
    found = list(attempts(named, [{"auths": auths}]))
    assert found[-1] is None, "the host's own come last"
    assert found[:-1] == ([] if wanted is None else [{"auths": wanted}])


SAID = {
    'time="x" level=fatal msg="initializing source docker://a: pinging container registry r: Get \\"https://r/v2/\\": '
    'dial tcp 1.2.3.4:443: connect: network is unreachable"': (Unavailable, 'Get "https://r/v2/"'),
    'level=fatal msg="reading blob sha256:1: fetching blob: toomanyrequests: slow down"': (Unavailable, "limits how"),
    'level=fatal msg="writing blob: adding layer with blob \\"sha256:1\\": write: no space left on device"': (
        Unavailable,
        "the disk is full",
    ),
    'level=fatal msg="Source image rejected: Running image docker://a is rejected by policy."': (Denied, "policy"),
    'level=fatal msg="reading manifest 1 in docker.io/library/a: requested access to the resource is denied"': (
        Denied,
        "other credentials, or has no such image",
    ),
    'level=fatal msg="choosing an image from manifest list docker://a: no image found in manifest list for '
    'architecture amd64, variant \\"\\", OS linux"': (Invalid, "none for this machine"),
    'level=fatal msg="Image used by abc: image is in use by a container: abc"': (Conflict, "uses it"),
    'level=fatal msg="open /nowhere: no such file or directory"': (NotFound, "no such image"),
    "panic: something": (Unavailable, "panic: something"),
    "": (Unavailable, "without a word"),
}


@pytest.mark.parametrize("said", SAID)
def test_what_a_failure_means(said: str) -> None:
    kind, why = SAID[said]
    found = explained("a", said)
    assert type(found) is kind
    assert why in found.message
    assert found.message.startswith("image a: ")


def test_no_password_shows() -> None:
    said = words('level=fatal msg="proxyconnect tcp: Get http://alice:secret@proxy.example:3128: refused"')
    assert "secret" not in said
    assert "http://proxy.example:3128" in said


def test_kinds_are_those_of_an_image_service() -> None:
    assert {explained("a", said).kind for said in SAID} <= set(Kind) - {Kind.INTERNAL}


def _layer(id: str, parent: str = "", *, whole: bool = True) -> Layer:
    return Layer(
        id=id, parent=parent, diff=f"d{id}", compressed=f"c{id}", flags=None if whole else {"incomplete": True}
    )


CHAINS: dict[str, tuple[list[Layer], list[User], set[str], list[list[str]]]] = {
    "nothing": ([], [], {"c1"}, []),
    "one": ([_layer("1")], [], {"c1"}, [["d1"]]),
    "one of somebody else": ([_layer("1")], [], {"c2"}, []),
    "several": ([_layer("1"), _layer("2", "1")], [], {"c1", "c2"}, [["d1", "d2"]]),
    "upon one that is used": ([_layer("1"), _layer("2", "1")], [User(layer="1")], {"c1", "c2"}, [["d1", "d2"]]),
    "all are used": ([_layer("1"), _layer("2", "1")], [User(layer="2")], {"c1", "c2"}, []),
    "two ends": ([_layer("1"), _layer("2", "1"), _layer("3", "1")], [], {"c2", "d3"}, [["d1", "d2"], ["d1", "d3"]]),
    "not whole": ([_layer("1", whole=False)], [], {"c1"}, [[]]),
    "the upper is not whole": ([_layer("1"), _layer("2", "1", whole=False)], [], {"c1", "c2"}, [["d1"]]),
    "one is below another's": ([_layer("1"), _layer("2", "1")], [], {"c1"}, []),
}


@pytest.mark.parametrize("case", CHAINS)
def test_what_is_left_of_a_pull(case: str) -> None:
    layers, users, blobs, wanted = CHAINS[case]
    assert chains({layer.id: layer for layer in layers}, users, blobs) == wanted


def test_what_a_killed_skopeo_was_writing_goes_when_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "overlay-layers"
    folder.mkdir()
    for name in (".tmp-layers.json1", ".tmp-layers.json2", "layers.json"):
        (folder / name).write_text("[]")
    for name in (".tmp-layers.json1", "layers.json"):
        os.utime(folder / name, (0, (folder / name).stat().st_mtime - UNFINISHED_S - 1))
    remove_unfinished(str(tmp_path))
    remove_unfinished(str(tmp_path / "no-such-store"))
    assert sorted(one.name for one in folder.iterdir()) == [".tmp-layers.json2", "layers.json"]
