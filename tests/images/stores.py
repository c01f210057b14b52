"""A store that a test pulls into, and what it sees of it from outside."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from podd.driver.contract import Image
from podd.driver.hookspecs import ImagePlaces
from podd.images.service import ContainersStorage
from podd.images.storage import Storage

BIG = random.Random(1).randbytes(3_000_000)


class Store:
    """A service on a store below a directory, with a registries.conf of the test's."""

    def __init__(self, directory: Path, *insecure: str, more: str = "", stall_s: float = 60, **places: Any) -> None:
        directory.mkdir(exist_ok=True)
        self.root = directory / "root"
        text = more + "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in insecure)
        (directory / "registries.conf").write_text(text)
        self.places = ImagePlaces(
            root=str(self.root),
            run_root=str(directory / "run"),
            registries=str(directory / "registries.conf"),
            **places,
        )
        self.service = ContainersStorage(self.places, Storage(self.places), stall_s=stall_s)

    async def pull(self, name: str, *credentials: dict[str, Any]) -> Image:
        return await self.service.pull(name, credentials, lambda _: None)

    def whole_layers(self) -> int:
        return whole_layers(self.root)

    def everything(self) -> set[str]:
        return listing(self.root)


def whole_layers(root: Path) -> int:
    """How many are unpacked."""
    listed = root / "overlay-layers" / "layers.json"
    text = listed.read_text() if listed.exists() else "[]"
    return sum("flags" not in layer for layer in json.loads(text or "[]"))


def listing(root: Path) -> set[str]:
    """What there is, but for what the library has for itself in a store without images."""
    walked = os.walk(root)  # which passes over what is removed meanwhile
    found = {os.path.relpath(f"{place}/{name}", root) for place, folders, files in walked for name in folders + files}
    parts = ("overlay/", "overlay-images/", "overlay-layers/", "podd-pulls/")
    own = {f"overlay-{kind}/{kind}.{end}" for kind in ("images", "layers") for end in ("json", "lock")}
    own |= {"overlay/l", "overlay/.has-mount-program"}
    own |= {one for one in found if "/.tmp-" in one}  # of a skopeo that was killed; gone when a minute old
    return {one for one in found if one.startswith(parts)} - own


def layers_of(source: str) -> list[str]:
    """The digests of its layers, the lowest first."""
    directory = Path(source.removeprefix("oci:").rpartition(":")[0])
    blob: dict[str, Any] = json.loads((directory / "index.json").read_text())["manifests"][0]
    manifest = json.loads((directory / "blobs" / blob["digest"].replace(":", "/")).read_text())
    return [layer["digest"] for layer in manifest["layers"]]


def is_running(program: str, word: str) -> bool:
    """Whether it runs somewhere with that word."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0].endswith(program) and any(word in one for one in words):
            return True
    return False


async def until(is_so: Callable[[], object], within_s: float = 20) -> None:
    """Wait for what other processes do."""
    with anyio.fail_after(within_s):
        while not is_so():  # noqa: ASYNC110  nobody tells
            await anyio.sleep(0.01)
