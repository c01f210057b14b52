"""Images that need no registry: layers written down as an OCI layout, which skopeo copies from."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

_KIND = "application/vnd.oci.image"


def write(folder: str, layers: Sequence[bytes]) -> None:
    """layers: tar archives, the lowest first."""
    blobs = Path(folder) / "blobs/sha256"
    blobs.mkdir(parents=True)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": _blob(blobs, json.dumps(config).encode(), f"{_KIND}.config.v1+json"),
        "layers": [_blob(blobs, gzip.compress(tar, 6, mtime=0), f"{_KIND}.layer.v1.tar+gzip") for tar in layers],
    }
    listed = _blob(blobs, json.dumps(manifest).encode(), f"{_KIND}.manifest.v1+json")
    (Path(folder) / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [listed]}))
    (Path(folder) / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _blob(blobs: Path, content: bytes, kind: str) -> dict[str, object]:
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}
