"""Debian's docker-registry on loopback, and before it a proxy that can be made to fail in every way."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

START_S = 20
USER, PASSWORD = "alice", "correct horse"


@dataclass(frozen=True)
class Served:
    """port: on 127.0.0.1. authority: of its certificate; "" where it speaks plain HTTP."""

    port: int
    authority: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, source: str, name: str) -> str:
        """Put an image there; gives its name for pods."""
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", source, f"docker://{self.host}/{name}"]
        command += [f"--dest-creds={USER}:{PASSWORD}", f"--dest-tls-verify={'true' if self.authority else 'false'}"]
        environment = {**os.environ, "SSL_CERT_FILE": self.authority} if self.authority else None
        subprocess.run(command, check=True, env=environment, timeout=60)
        return f"{self.host}/{name}"


@contextmanager
def served(directory: Path, *, tls: bool = False, password: bool = False, port: int = 0) -> Iterator[Served]:
    """A registry with its images below directory. It ends with the context."""
    for program in ("docker-registry", "skopeo", *(["htpasswd"] if password else []), *(["openssl"] if tls else [])):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: run tools/test-needs")
    directory.mkdir(parents=True, exist_ok=True)
    port = port or _free_port()
    authority = _certificate(directory) if tls else ""
    (directory / "config.yml").write_text(_config(directory, port, tls=tls, password=password))
    with ExitStack() as ending, open(directory / "log", "ab") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log, cwd=directory
        )
        ending.callback(process.wait)
        ending.callback(process.kill)
        _await_port(port, process, directory / "log")
        yield Served(port, authority)


def _config(directory: Path, port: int, *, tls: bool, password: bool) -> str:
    text = f"""
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}/data}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
"""
    if tls:
        text += f"  tls: {{certificate: {directory}/server.crt, key: {directory}/server.key}}\n"
    if password:
        made = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True, capture_output=True, text=True)
        (directory / "htpasswd").write_text(made.stdout)
        text += f"auth: {{htpasswd: {{realm: tests, path: {directory}/htpasswd}}}}\n"
    return text


def _certificate(directory: Path) -> str:
    """For 127.0.0.1, by an authority of its own; the authority's certificate."""
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    authority = ["-subj", "/CN=an authority of tests", "-keyout", "ca.key", "-out", "ca.crt"]
    server = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-CA", "ca.crt", "-CAkey", "ca.key"]
    for words in (authority, [*server, "-keyout", "server.key", "-out", "server.crt"]):
        subprocess.run([*new, *words], check=True, cwd=directory, capture_output=True)
    return str(directory / "ca.crt")


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        port: int = one.getsockname()[1]
        return port


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises AssertionError: it ended, or takes too long."""
    waiting = threading.Event()
    for _ in range(START_S * 50):
        assert process.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        waiting.wait(0.02)
    raise AssertionError(f"no registry after {START_S} s: {log.read_text()}")


# ---- a proxy that fails ----------------------------------------------------------------------------------------------

Fault = Literal["", "cut", "wrong", "500", "429", "hang", "hold"]
"""cut: the connection, in the middle of what is sent. wrong: one byte of it is another. hang: no answer at all.
hold: half of it, and the rest when `release` is called."""


@dataclass
class Proxy:
    """fault: what happens to requests whose path has `on` in it. asked: "GET /v2/…" of every request."""

    port: int
    fault: Fault = ""
    on: str = "/blobs/"
    also_on: str = ""
    asked: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def count(self, part: str) -> int:
        return sum(part in one for one in self.asked)

    def release(self, then_hold: tuple[str, str]) -> None:
        """Let go what is held, and hold those from now on."""
        self.on, self.also_on = then_hold
        self.released.set()
        self.released = threading.Event()

    def hits(self, path: str) -> bool:
        return self.on in path or bool(self.also_on and self.also_on in path)

    def heal(self) -> None:
        self.fault = ""
        self.released.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.proxy = Proxy(self.server_port)

    def handle_error(self, *_: object) -> None:
        """The other side has left."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        proxy = self.server.proxy
        released = proxy.released  # what is held is let go with all that was asked before
        proxy.asked.append(f"{self.command} {self.path}")
        fault = proxy.fault if proxy.hits(self.path) else ""
        if fault in ("500", "429"):
            self._send(int(fault), {}, b"")
        elif fault == "hang":
            proxy.held.set()
            released.wait()
            self.close_connection = True
        else:
            self._pass_on(fault, released)

    do_HEAD = do_GET  # noqa: N815  as http.server looks for it

    def _pass_on(self, fault: str, released: threading.Event) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # some come several times
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
        if fault == "wrong" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        held = released if fault == "hold" and self.command == "GET" else None
        cut = fault == "cut" and self.command == "GET"
        self._send(answer.status, headers, body, held=held, cut=cut)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes,
        *,
        held: threading.Event | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if cut:
            self.close_connection = True
            return
        if held:
            self.server.proxy.held.set()
            held.wait()
        self.wfile.write(body[half:])

    def log_message(self, *_: object) -> None:
        pass


def a_proxy(registry: Served) -> Iterator[Proxy]:
    """For a fixture."""
    with proxied(registry.port) as one:
        yield one


@contextmanager
def proxied(upstream: int) -> Iterator[Proxy]:
    """A proxy before the registry at that port of 127.0.0.1, which speaks plain HTTP."""
    with _Server(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.proxy
        finally:
            server.proxy.heal()
            server.shutdown()
            thread.join()
