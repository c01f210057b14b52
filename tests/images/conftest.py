"""One registry for all tests of images."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from images.layouts import File, busybox, layout, needs_images
from images.stores import BIG
from realregistry import Served, a_proxy, served


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of three layers, as skopeo calls it."""
    needs_images()
    layers = [busybox(), {"a": File(BIG)}, {"b": File(BIG[::-1])}]
    return layout(tmp_path_factory.mktemp("image") / "app", layers, Cmd=["/bin/sleep", "1000"])


@pytest.fixture(scope="session")
def registry(source: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("registry")) as one:
        for name in ("team/app:1", "library/busybox:1", "app:1"):
            one.push(source, name)
        yield one


@pytest.fixture(scope="session")
def secured(source: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With a certificate that nobody knows, and a password."""
    with served(tmp_path_factory.mktemp("secured"), tls=True, password=True) as one:
        one.push(source, "team/app:1")
        yield one


proxy = pytest.fixture(a_proxy)
