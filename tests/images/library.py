"""The images that tests of drivers and of the whole podd run: made once, since one of many layers takes its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images.layouts import Directory, File, Layer, Link, busybox, layout, store
from podd.driver.hookspecs import ImagePlaces

MANY = 130
"""Layers. An image may have as many as skopeo takes, and more than the kernel mounts at once."""

_SAYS = {
    "Entrypoint": ["/bin/sh", "-c"],
    "WorkingDir": "/srv",
    "Volumes": {"/data": {}},
    "StopSignal": "SIGQUIT",
}


def fill(folder: Path) -> ImagePlaces:
    """A store, which others than podd put images into; each is localhost/NAME:1."""
    places = ImagePlaces(root=str(folder / "root"), run_root=str(folder / "run"))
    for name, (layers, config) in _images().items():
        store(places, layout(folder / name, layers, **config), f"localhost/{name}:1")
    return places


def _images() -> Mapping[str, tuple[Sequence[Layer], Mapping[str, Any]]]:
    base = busybox()
    return {
        "plain": ([base], {}),
        "app": (
            [base, {"srv": Directory(0o750, 1000), "data": Directory(0o755, 1000), "data/seed": File(b"of the image")}],
            {
                **_SAYS,
                "Cmd": ["id -u; id -g; pwd; echo $FIRST $SECOND $HOME"],
                "Env": ["FIRST=image", "SECOND=image"],
                "User": "app",
            },
        ),
        "lasting": (
            [base, {"srv": Directory(0o755, 1000), "data": Directory(0o755, 1000), "data/seed": File(b"seed\n")}],
            {
                **_SAYS,
                "Cmd": ["echo $WHO in $(pwd) is $(id -u):$(id -g); sleep 1000"],
                "Env": ["WHO=image", "PATH=/bin"],
                "User": "app:web",
            },
        ),
        "many": ([base, *({f"layer{n}": File(), "which": File(b"%d\n" % n)} for n in range(1, MANY))], {}),
        "whiteouts": ([base, {"a": File(b"a"), "b": File(b"b")}, {".wh.a": File()}], {}),
        "evil": (
            [base, {"out": Link("/../../../../../../srv"), "etc/passwd": File(b"x" * (2 << 20))}],
            {"Volumes": {"../../../escape": {}, "/out/volume": {}, "/": {}, "/proc/sys": {}}, "WorkingDir": "out/work"},
        ),
        "nobody": ([base], {"User": "nobody-of-this-name"}),
        "huge": ([base], {"User": "4294967296"}),
        "careless": (
            [base, {"etc/passwd": File(b"app:x:1000:100::/home/app:/bin/sh\n", 0o666)}],
            {"User": "app"},
        ),
        "strange": ([base], {"User": "1000:web", "StopSignal": "SIGNONSENSE", "WorkingDir": "relative"}),
    }
