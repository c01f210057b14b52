"""A registry of one image, as much of it as a pull asks for. Source: the OCI distribution specification, pull."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    def __init__(self, port: int, config: bytes) -> None:
        self.image = f"127.0.0.1:{port}/app:1"
        self.image_id = _digest(config)
        self.asked = 0
        """How often somebody asked which manifest the tag means: dockerd does once for each pull."""


@contextmanager
def registry(layer: bytes, says: Mapping[str, Any] = {"Cmd": ["/bin/sleep", "1000"]}) -> Iterator[Registry]:
    """layer: the image's root file system, a tar archive. says: as in an OCI image: Entrypoint, Env and so on."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": says,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    ).encode()
    described = {"mediaType": "application/vnd.docker.image.rootfs.diff.tar", **_of(layer)}
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **_of(config)},
            "layers": [described],
        }
    ).encode()
    blobs = {_digest(blob): blob for blob in (config, layer)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, name = self.path.removeprefix("/v2/app/").partition("/")
            if kind == "manifests":
                one.asked += self.command == "HEAD"
                self._answer(manifest, _MANIFEST)
            elif name in blobs:
                self._answer(blobs[name], "application/octet-stream")
            else:
                self._answer(b"{}", "application/json")

        do_HEAD = do_GET  # noqa: N815  as http.server looks for it

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        one = Registry(server.server_port, config)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield one
        finally:
            server.shutdown()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _of(blob: bytes) -> dict[str, object]:
    return {"size": len(blob), "digest": _digest(blob)}
