"""How images are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid
from podd.model.image import ById, InFile, InStore, Named, parse, parse_bare

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

NAMES = {
    "busybox": "busybox:latest",
    "busybox:1.36": "busybox:1.36",
    "team/app": "team/app:latest",
    "docker.io/busybox": "docker.io/library/busybox:latest",
    "index.docker.io/busybox:1": "docker.io/library/busybox:1",
    "docker.io/grafana/grafana": "docker.io/grafana/grafana:latest",
    "docker://docker.io/busybox:1": "docker.io/library/busybox:1",
    "localhost/app": "localhost/app:latest",
    "localhost:5000/app:v1": "localhost:5000/app:v1",
    "127.0.0.1:5000/a/b/c:v1": "127.0.0.1:5000/a/b/c:v1",
    "[::1]:5000/app": "[::1]:5000/app:latest",
    "Registry.Example/app": "Registry.Example/app:latest",
    f"registry.example/app@{DIGEST}": f"registry.example/app@{DIGEST}",
    f"registry.example/app:1.2@{DIGEST}": f"registry.example/app@{DIGEST}",
    f"busybox@{DIGEST}": f"busybox@{DIGEST}",
    "registry.example/a__b/c.d-e--f:_x.Y-z": "registry.example/a__b/c.d-e--f:_x.Y-z",
    "oci:1.0": "oci:1.0",  # an image of that name: no path follows
}
OTHERS = {
    DIGEST: ById(digits=HEX),
    HEX: ById(digits=HEX),
    "sha256:0123456789ab": ById(digits="0123456789ab"),
    "oci:/srv/app:1.2": InFile(transport="oci", place="/srv/app:1.2"),
    "docker-archive:/srv/App.tar": InFile(transport="docker-archive", place="/srv/App.tar"),
    "oci-archive:/srv/app.tar": InFile(transport="oci-archive", place="/srv/app.tar"),
    "dir:/srv/app": InFile(transport="dir", place="/srv/app"),
    "docker-daemon:app:1": InStore(transport="docker-daemon", inner=Named(domain="", path="app", tag="1")),
    f"containers-storage:{DIGEST}": InStore(transport="containers-storage", inner=ById(digits=HEX)),
}
WRONG = {
    "": "no name",
    "App": "capitals",
    "registry.example/App": "capitals",
    "a//b": "no name",
    "a/": "no name",
    "/a": "no name",
    "-a": "no name",
    "a:": "no tag",
    "a:b c": "no tag",
    f"a:{'x' * 129}": "no tag",
    "a@sha256:12": "no digest",
    "a@": "no digest",
    "registry..example/a": "no registry",
    "registry.example:port/a": "no registry",
    "oci:./app": "no registry",
    "oci:/srv/a\nb": "control characters",
    "docker-daemon:App": "capitals",
    "https://registry.example/a": "no registry",
    "a" * 256: "longer than 255",
    "a\n": "no name",
}


@pytest.mark.parametrize("text", NAMES)
def test_a_name(text: str) -> None:
    assert str(parse(text)) == NAMES[text]


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text[:40])
def test_what_is_in_no_registry(text: str) -> None:
    assert parse(text) == OTHERS[text]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:40]))
def test_what_names_no_image(text: str) -> None:
    with pytest.raises(Invalid, match=WRONG[text]) as refused:
        parse(text)
    assert refused.value.facts["reason"] == "InvalidImageName"


def test_digits_alone_are_an_id_only_where_people_copy_them() -> None:
    assert parse("cafecafecafe") == Named(domain="", path="cafecafecafe")
    assert parse_bare("cafecafecafe") == ById(digits="cafecafecafe")
    assert parse_bare("cafe") == Named(domain="", path="cafe")


@pytest.mark.parametrize(
    ("text", "prefix", "found"),
    [
        ("busybox", "docker.io", "docker.io/library/busybox:latest"),
        ("team/app:1", "docker.io", "docker.io/team/app:1"),
        ("busybox", "registry.example/mirror", "registry.example/mirror/busybox:latest"),
        (f"busybox@{DIGEST}", "quay.io", f"quay.io/busybox@{DIGEST}"),
    ],
)
def test_a_short_name_below_a_registry(text: str, prefix: str, found: str) -> None:
    named = parse(text)
    assert isinstance(named, Named)
    assert str(named.at(prefix)) == found


@pytest.mark.parametrize(
    ("text", "begins", "tag"),
    [
        ("oci:/srv/My App:1.2", "my-app-", "1.2"),
        ("docker-archive:/srv/app.tar", "app-tar-", "latest"),
        ("docker-archive:/srv/app.tar:other:3", "app-tar-", "3"),
        ("dir:/", "image-", "latest"),
    ],
)
def test_what_comes_from_a_file_is_kept_under_a_name_of_its_own(text: str, begins: str, tag: str) -> None:
    found = parse(text)
    assert isinstance(found, InFile)
    assert found.kept_as.domain == "localhost"
    assert found.kept_as.path.startswith(begins)
    assert found.kept_as.tag == tag
    assert parse(str(found.kept_as)) == found.kept_as


def test_two_files_of_one_name_are_two_images() -> None:
    one, other = parse("oci:/a/app:1"), parse("oci:/b/app:1")
    assert isinstance(one, InFile)
    assert isinstance(other, InFile)
    assert one.kept_as != other.kept_as


@given(st.text(max_size=80) | st.from_regex(r"[a-zA-Z0-9./:@_\-]{1,80}"))
def test_whatever_is_taken_is_taken_again_as_the_same(text: str) -> None:
    try:
        found = parse(text)
    except Invalid:
        return
    assert parse(str(found)) == found
