"""Images for tests: OCI layouts made from nothing but Python and a static busybox, and put into a store by skopeo."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from podd.driver.hookspecs import ImagePlaces
from podd.images.storage import Storage

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


class File(NamedTuple):
    content: bytes = b""
    mode: int = 0o644
    owner: int = 0


class Directory(NamedTuple):
    mode: int = 0o755
    owner: int = 0


class Link(NamedTuple):
    target: str


Layer = Mapping[str, File | Directory | Link]
"""What a layer brings, by path from the root, without a leading slash; ".wh.NAME" takes NAME away."""

PROGRAMS = (
    "cat",
    "echo",
    "env",
    "head",
    "id",
    "ls",
    "mkdir",
    "mount",
    "pwd",
    "sh",
    "sleep",
    "stat",
    "touch",
    "true",
    "wc",
)


def needs_program(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: run tools/test-needs")


def needs_images() -> None:
    """Skip the test where what makes images is missing."""
    needs_program("skopeo")
    needs_program("busybox")


def busybox() -> Layer:
    """A root with a shell, an /etc/passwd, and not much more."""
    binary = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    return {
        "bin": Directory(),
        "bin/busybox": File(binary, 0o755),
        **{f"bin/{name}": Link("busybox") for name in PROGRAMS},
        "etc": Directory(),
        "etc/passwd": File(b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:100:app:/home/app:/bin/sh\n"),
        "etc/group": File(b"root:x:0:\nusers:x:100:\nweb:x:33:app\n"),
        "root": Directory(0o700),
        "tmp": Directory(0o1777),
    }


def layout(directory: Path, layers: Sequence[Layer], **config: Any) -> str:
    """Write an image below directory, whose config is as in an OCI image: Entrypoint, Env and so on.

    Gives it as skopeo calls it.
    """
    tars = [_tar(layer) for layer in layers]
    blobs = _Blobs(directory)
    described = {
        "architecture": _architecture(),
        "os": "linux",
        "created": "2024-02-29T12:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": blobs.add(json.dumps(described).encode(), _CONFIG),
        "layers": [blobs.add(gzip.compress(tar, mtime=0), _LAYER) for tar in tars],
    }
    listed = blobs.add(json.dumps(manifest).encode(), _MANIFEST)
    listed["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    return f"oci:{directory}:latest"


def store(places: ImagePlaces, source: str, name: str) -> None:
    """Have skopeo copy an image into a store, under a name of it."""
    skopeo("copy", "--quiet", source, Storage(places).address(name))


def skopeo(*words: str) -> str:
    """What it prints. In a mount namespace of its own, so that whatever it mounts ends with it."""
    command = ["unshare", "--mount", "skopeo", "--insecure-policy", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class _Blobs:
    def __init__(self, directory: Path) -> None:
        self._directory = directory / "blobs" / "sha256"
        self._directory.mkdir(parents=True)

    def add(self, content: bytes, kind: str) -> dict[str, Any]:
        digest = _digest(content)
        (self._directory / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}


def _tar(layer: Layer) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, entry in layer.items():
            member = tarfile.TarInfo(path)
            match entry:
                case File(content, mode, owner):
                    member.size, member.mode = len(content), mode
                    member.uid = member.gid = owner
                    archive.addfile(member, io.BytesIO(content))
                    continue
                case Directory(mode, owner):
                    member.type, member.mode = tarfile.DIRTYPE, mode
                    member.uid = member.gid = owner
                case Link(target):
                    member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _architecture() -> str:
    """Of this machine, in the words of Go."""
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
