"""Which registry a short name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from podd.errors import Invalid
from podd.images import registries
from podd.images.registries import Registries, load
from podd.model.image import Named, parse

SEARCH = ("quay.io", "registry.example:5000")
HEX = "0123456789abcdef" * 4

CANDIDATES = {
    "none is configured": (Registries(), "busybox", ["docker.io/library/busybox:latest"]),
    "one is named": (Registries(search=SEARCH), "docker.io/busybox", ["docker.io/library/busybox:latest"]),
    "several": (Registries(search=SEARCH), "a/b:1", ["quay.io/a/b:1", "registry.example:5000/a/b:1"]),
    "an alias": (Registries(search=SEARCH, aliases={"fedora": "reg.example/f"}), "fedora:40", ["reg.example/f:40"]),
    "an alias of another": (Registries(aliases={"fedora": "reg.example/f"}), "fed", ["docker.io/library/fed:latest"]),
    "an alias and a digest": (
        Registries(aliases={"f": "reg.example/f"}),
        f"f@sha256:{HEX}",
        [f"reg.example/f@sha256:{HEX}"],
    ),
    "enforcing, and only one": (Registries(search=["quay.io"], is_enforcing=True), "a", ["quay.io/a:latest"]),
}


@pytest.mark.parametrize("case", CANDIDATES)
def test_candidates(case: str) -> None:
    configured, text, wanted = CANDIDATES[case]
    assert list(map(str, configured.candidates(_named(text)))) == wanted


def test_what_was_built_here_comes_first() -> None:
    found = Registries(search=SEARCH[:1]).names(_named("app"))
    assert list(map(str, found)) == ["localhost/app:latest", "quay.io/app:latest"]


def test_nobody_can_be_asked() -> None:
    with pytest.raises(Invalid, match=r"quay\.io or registry\.example:5000"):
        Registries(search=SEARCH, is_enforcing=True).candidates(_named("a"))


def test_an_alias_that_leads_nowhere() -> None:
    with pytest.raises(Invalid, match="alias 'b' names no registry"):
        Registries(aliases={"a": "b"}).candidates(_named("a"))


def test_the_hosts_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main, folder = tmp_path / "registries.conf", tmp_path / "registries.conf.d"
    folder.mkdir()
    monkeypatch.setattr(registries, "HOST_FILES", (str(main),))
    monkeypatch.setattr(registries, "HOST_DROP_INS", str(folder))
    assert load("") == Registries()
    main.write_text('unqualified-search-registries = ["a.example"]\nshort-name-mode = "enforcing"\n')
    (folder / "10-names.conf").write_text('[aliases]\n"x" = "one.example/x"\n"y" = "one.example/y"\n')
    (folder / "20-more.conf").write_text(
        'unqualified-search-registries = ["b.example"]\n[aliases]\n"x" = "two.example/x"\n'
    )
    (folder / "README").write_text("not = [toml")
    found = load("")
    assert found.search == ("b.example",)
    assert found.aliases == {"x": "two.example/x", "y": "one.example/y"}
    assert found.is_enforcing


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = [", "Invalid value"),
        ("[registries.search]\nregistries = []\n", "version 1"),
        ('unqualified-search-registries = "docker.io"', "not a list"),
        ("[aliases]\na = 1\n", "not a table of names"),
        ('short-name-mode = "perhaps"', "neither"),
    ],
)
def test_a_file_that_makes_no_sense(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "r.conf").write_text(text)
    with pytest.raises(Invalid, match=why):
        load(str(tmp_path / "r.conf"))


def _named(text: str) -> Named:
    found = parse(text)
    assert isinstance(found, Named)
    return found
