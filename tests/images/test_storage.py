"""Storage reads what skopeo has written, and tells apart what is wrong with what it did not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from images.layouts import File, busybox, layout, needs_images, skopeo, store
from podd.driver.hookspecs import ImagePlaces
from podd.errors import Invalid, NotFound, PoddError, Unavailable, Unsupported
from podd.images.index import file_name, nanoseconds, repository
from podd.images.storage import LIMIT_BYTES, ImageConfig, Storage

CONFIG = {
    "User": "app:web",
    "Env": ["PATH=/bin", "EMPTY=", "SUM=1=1"],
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["true"],
    "WorkingDir": "/srv",
    "Volumes": {"/data": {}},
    "StopSignal": "SIGQUIT",
    "Labels": {"maker": "a test"},
}
NAME = "registry.test:5000/team/app:1"


@pytest.fixture
def places(tmp_path: Path) -> ImagePlaces:
    return ImagePlaces(root=str(tmp_path / "root"), run_root=str(tmp_path / "run"))


class TestWithSkopeo:
    pytestmark = pytest.mark.root

    @pytest.fixture
    def filled(self, places: ImagePlaces, tmp_path: Path) -> ImagePlaces:
        needs_images()
        source = layout(tmp_path / "app", [busybox(), {"second": File(b"2")}], **CONFIG)
        store(places, source, NAME)
        return places

    def test_finds_by_name_digest_and_id(self, filled: ImagePlaces) -> None:
        storage = Storage(filled)
        (image,) = storage.list()
        (digest,) = image.digests
        assert image.names == [NAME]
        assert digest.startswith("registry.test:5000/team/app@sha256:")
        assert (image.user, image.labels) == ("app:web", {"maker": "a test"})
        assert image.created_at_ns == 1709208000 * 10**9
        assert image.size_bytes > 100_000
        for reference in (NAME, digest, image.id, image.id.removeprefix("sha256:"), image.id[7:19]):
            assert storage.find(reference) == image, reference
        for reference in ("app", "registry.test:5000/team/app", image.id[7:18], "f" * 64):
            assert storage.find(reference) is None, reference

    def test_layers_are_the_directories_topmost_first(self, filled: ImagePlaces) -> None:
        storage = Storage(filled)
        upper, lower = storage.layers(storage.list()[0].id)
        assert (Path(upper) / "second").read_bytes() == b"2"
        assert (Path(lower) / "bin/busybox").exists()

    def test_says_how_the_image_is_to_be_run(self, filled: ImagePlaces) -> None:
        storage = Storage(filled)
        assert storage.config(storage.list()[0].id) == ImageConfig(
            user="app:web",
            env=[("PATH", "/bin"), ("EMPTY", ""), ("SUM", "1=1")],
            entrypoint=["/bin/sh", "-c"],
            cmd=["true"],
            working_dir="/srv",
            volumes=["/data"],
            stop_signal="SIGQUIT",
            labels={"maker": "a test"},
        )

    def test_sees_at_once_what_another_process_changes(self, filled: ImagePlaces, tmp_path: Path) -> None:
        storage = Storage(filled)
        first = storage.list()[0]
        store(filled, layout(tmp_path / "other", [busybox(), {"other": File()}]), "localhost/other:1")
        assert {name for image in storage.list() for name in image.names} == {NAME, "localhost/other:1"}
        skopeo("delete", storage.address(NAME))
        assert not storage.holds(first.id)
        with pytest.raises(NotFound):
            storage.layers(first.id)

    def test_what_two_images_share_goes_with_the_second(self, filled: ImagePlaces, tmp_path: Path) -> None:
        storage = Storage(filled)
        store(filled, layout(tmp_path / "other", [busybox(), {"other": File()}]), "localhost/other:1")
        (other,) = (image for image in storage.list() if "localhost/other:1" in image.names)
        shared = storage.layers(other.id)[-1]
        assert storage.usage_bytes() < sum(image.size_bytes for image in storage.list())
        skopeo("delete", storage.address(NAME))
        assert Path(shared).is_dir()
        skopeo("delete", storage.address("localhost/other:1"))
        assert not Path(shared).exists()
        assert storage.usage_bytes() == 0

    def test_leaves_no_mount(self, filled: ImagePlaces) -> None:
        assert filled.root not in Path("/proc/self/mountinfo").read_text()


LAYER = {"id": "a" * 64, "diff-size": 10, "field-of-another-version": [1]}
IMAGE = {
    "id": "1" * 64,
    "digest": "sha256:" + "2" * 64,
    "names": ["localhost/one:1"],
    "layer": "a" * 64,
    "created": "2024-02-29T12:00:00.123456789Z",
    "field-of-another-version": {},
}
MANIFEST = {"config": {"digest": "sha256:" + "1" * 64}}


def write(
    places: ImagePlaces,
    images: Any = (IMAGE,),
    layers: Any = (LAYER,),
    manifest: Any = MANIFEST,
    config: Any = {"config": {}},  # noqa: B006 nobody changes it
) -> Storage:
    beside = Path(places.root, "overlay-images", IMAGE["id"])
    for directory in (beside, Path(places.root, "overlay-layers")):
        directory.mkdir(parents=True, exist_ok=True)
    contents = {
        beside.parent / "images.json": images,
        Path(places.root, "overlay-layers/layers.json"): layers,
        beside / "manifest": manifest,
        beside / file_name("sha256:" + "1" * 64): config,
    }
    for path, content in contents.items():
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return Storage(places)


def layers_of(storage: Storage) -> object:
    return storage.layers(IMAGE["id"])


def config_of(storage: Storage) -> object:
    return storage.config(IMAGE["id"])


WRONG: dict[str, tuple[dict[str, Any], Callable[[Storage], object], type[PoddError], str]] = {
    "no layer at all": ({"images": [{**IMAGE, "layer": ""}]}, layers_of, Invalid, "no layers"),
    "a layer that is missing": ({"layers": []}, layers_of, NotFound, "aaaaaaaaaaaa is missing"),
    "a parent that is missing": ({"layers": [{**LAYER, "parent": "b" * 64}]}, layers_of, NotFound, "is missing"),
    "its own parent": ({"layers": [{**LAYER, "parent": LAYER["id"]}]}, layers_of, NotFound, "is missing"),
    "half a layer": ({"layers": [{**LAYER, "flags": {"incomplete": True}}]}, layers_of, NotFound, "is incomplete"),
    "a list": ({"manifest": {"manifests": []}}, config_of, Invalid, "list of images"),
    "no JSON": ({"config": b"{"}, config_of, Invalid, "sha256:1111"),
    "an environment of numbers": ({"config": {"config": {"Env": [1]}}}, config_of, Invalid, "Env"),
    "too large": ({"config": b" " * (LIMIT_BYTES + 1)}, config_of, Unavailable, "larger than"),
    "a broken store": ({"images": b"["}, lambda storage: storage.list(), Unavailable, "images.json"),
    "not an id of an image": ({"images": []}, layers_of, NotFound, "is not here"),
}


@pytest.mark.parametrize(("given", "ask", "kind", "message"), WRONG.values(), ids=WRONG)
def test_wrong(
    places: ImagePlaces,
    given: dict[str, Any],
    ask: Callable[[Storage], object],
    kind: type[PoddError],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        ask(write(places, **given))


def test_an_image_without_a_config_is_listed_and_can_be_removed(places: ImagePlaces) -> None:
    (image,) = write(places, config=b"nonsense").list()
    assert (image.names, image.size_bytes) == (["localhost/one:1"], 10)


def test_layers_for_composefs_are_refused(places: ImagePlaces) -> None:
    storage = write(places)
    Path(places.root, "overlay", LAYER["id"], "composefs-data").mkdir(parents=True)
    with pytest.raises(Unsupported, match="composefs"):
        layers_of(storage)


def test_a_beginning_that_several_ids_have_is_none(places: ImagePlaces) -> None:
    storage = write(places, images=[{"id": "1" * 64}, {"id": "1" * 63 + "2"}])
    with pytest.raises(Invalid, match="2 images"):
        storage.find("1" * 20)


def test_a_digest_belongs_to_a_repository(places: ImagePlaces) -> None:
    of_list = "sha256:" + "3" * 64
    storage = write(places, images=[{**IMAGE, "big-data-digests": {f"manifest-{of_list}": of_list, "x": "y"}}])
    for digest in (IMAGE["digest"], of_list):
        assert storage.find(f"localhost/one@{digest}") is not None
        assert storage.find(f"localhost/one:9@{digest}") is not None  # the digest is what counts
        assert storage.find(f"localhost/two@{digest}") is None


def test_nothing_is_there_before_the_first_pull(places: ImagePlaces) -> None:
    assert (Storage(places).list(), Storage(places).usage_bytes()) == ([], 0)


def test_a_path_that_skopeo_misreads_is_refused() -> None:
    with pytest.raises(Invalid, match="takes no path with"):
        Storage(ImagePlaces(root="/srv/a:b", run_root="/run/x")).address("one")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.io/library/busybox:1", "docker.io/library/busybox"),
        ("host:5000/app", "host:5000/app"),
        ("host:5000/app:1@sha256:00", "host:5000/app"),
    ],
)
def test_repository(name: str, expected: str) -> None:
    assert repository(name) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2024-02-29T12:00:00.123456789+01:00", 1709204400123456000),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("2024-02-29", None),
    ],
)
def test_nanoseconds(text: str, expected: int | None) -> None:
    assert nanoseconds(text) == expected
