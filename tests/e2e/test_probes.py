"""Probes and hooks of every kind on the real kernel, from inside the pod's network, with no tool in the container."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from real import MOUNT, Podd, manifest, sh, shared, sleeper, until

pytestmark = pytest.mark.root

SERVES = f"exec {sys.executable} -u /shared/server.py"
SERVER = """
import http.server, os, pathlib, signal, socketserver

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/shared/asked", "a") as asked:
            asked.write(f"{self.path} {self.headers['User-Agent']} {self.client_address[0]}\\n")
        ill = pathlib.Path("/shared/ill").exists()
        self.send_response(500 if ill else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # a first process ignores what it does not handle
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""


GRPC_SERVER = """
import os, signal, socket
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.create_server(("127.0.0.1", 8080))
while True:
    client, _ = listener.accept()
    machine = H2Connection(H2Configuration(client_side=False))
    machine.initiate_connection()
    client.sendall(machine.data_to_send())
    while data := client.recv(65536):
        for event in machine.receive_data(data):
            if isinstance(event, StreamEnded):
                status = bytes([1 if os.path.exists("/shared/well") else 2])
                machine.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                machine.send_data(event.stream_id, bytes([0, 0, 0, 0, 2, 8]) + status)
                machine.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        client.sendall(machine.data_to_send())
    client.close()
"""


def server(podd: Podd, **more: Any) -> dict[str, Any]:
    (podd.shared / "server.py").write_text(SERVER)
    ports = [{"name": "http", "containerPort": 8080}]
    return sh("web", SERVES, ports=ports, **MOUNT, **more)


def ready(podd: Podd, name: str = "p") -> bool:
    (found,) = podd.status(name)["containerStatuses"]
    return bool(found["ready"])


def restarts(podd: Podd, name: str = "p") -> int:
    (found,) = podd.status(name)["containerStatuses"]
    return int(found["restartCount"])


def told(podd: Podd, reason: str) -> str:
    return "\n".join(line for line in podd.cli("events", "p").splitlines() if reason in line)


def asked(podd: Podd) -> list[str]:
    try:
        return (podd.shared / "asked").read_text().splitlines()
    except FileNotFoundError:
        return []


# ---- probes


@pytest.mark.parametrize(
    "handler", [{"httpGet": {"port": "http", "path": "/ready"}}, {"tcpSocket": {"port": 8080}}], ids=["http", "tcp"]
)
def test_ready_when_it_listens(podd: Podd, handler: dict[str, Any]) -> None:
    probe = {**handler, "periodSeconds": 1, "failureThreshold": 1}
    late = server(podd, readinessProbe=probe)
    late["command"][2] = f"while ! test -e /shared/go; do sleep 0.05; done; {SERVES}"
    podd.apply(manifest("p", late, **shared(podd)))
    until(lambda: "connect: connection refused" in told(podd, "Unhealthy"), "the probe is refused")
    assert not ready(podd)
    (podd.shared / "go").touch()
    until(lambda: ready(podd), "the pod is ready")
    if "httpGet" in handler:
        path, agent, client = asked(podd)[0].split()
        assert (path, agent.split("/")[0], client) == ("/ready", "kube-probe", "127.0.0.1")


def test_ready_when_it_serves_by_grpc(podd: Podd) -> None:
    member = server(podd, readinessProbe={"grpc": {"port": 8080}, "periodSeconds": 1})
    (podd.shared / "server.py").write_text(GRPC_SERVER)
    podd.apply(manifest("p", member, **shared(podd)))
    until(lambda: 'service unhealthy (responded with "NOT_SERVING")' in told(podd, "Unhealthy"), "it does not serve")
    assert not ready(podd)
    (podd.shared / "well").touch()
    until(lambda: ready(podd), "the pod is ready")


def test_what_two_pods_serve_on_one_port_is_told_apart(podd: Podd) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    podd.apply(manifest("p", server(podd, readinessProbe=probe), **shared(podd)))
    podd.apply(manifest("deaf", sleeper("web", readinessProbe=probe)))
    until(lambda: ready(podd, "p"), "the pod that listens is ready")
    assert not ready(podd, "deaf")


def test_a_probe_in_the_hosts_network(podd: Podd) -> None:
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    member = server(podd, readinessProbe=probe)
    del member["ports"]
    podd.apply(manifest("p", member, hostNetwork=True, **shared(podd)))
    until(lambda: ready(podd), "the pod is ready")


def test_unready_and_ready_again_by_exec(podd: Podd) -> None:
    probe = {"exec": {"command": ["cat", "/shared/well"]}, "periodSeconds": 1, "failureThreshold": 1}
    (podd.shared / "well").touch()
    podd.apply(manifest("p", sleeper("a", readinessProbe=probe, **MOUNT), **shared(podd)))
    until(lambda: ready(podd), "the pod is ready")
    (podd.shared / "well").unlink()
    until(lambda: not ready(podd), "the pod is not ready")
    assert "Readiness probe failed: cat: /shared/well: No such file or directory" in told(podd, "Unhealthy")
    (podd.shared / "well").touch()
    until(lambda: ready(podd), "the pod is ready again")
    assert restarts(podd) == 0


def test_an_exec_that_hangs_is_killed_with_what_it_started(podd: Podd) -> None:
    command = ["sh", "-c", "sleep 4711 & wait"]
    probe = {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1000}
    podd.apply(manifest("p", sleeper("a", readinessProbe=probe)))
    until(lambda: 'command "sh -c sleep 4711 & wait" timed out' in told(podd, "Unhealthy"), "the probe timed out")
    left = [line for line in podd.cli("tree", "p").splitlines() if line.endswith(" sleep 4711")]
    assert len(left) <= 1  # of the probe that runs now


def test_one_that_is_ill_is_restarted(podd: Podd) -> None:
    probe = {"httpGet": {"port": 8080, "path": "/live"}, "periodSeconds": 1, "failureThreshold": 2}
    startup = {"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 30}
    podd.apply(manifest("p", server(podd, livenessProbe=probe, startupProbe=startup), **shared(podd)))
    until(lambda: asked(podd), "the liveness probe is asked")
    (podd.shared / "ill").touch()
    until(lambda: restarts(podd) > 0, "the container is restarted")
    (podd.shared / "ill").unlink()
    assert "Liveness probe failed: HTTP probe failed with statuscode: 500" in told(podd, "Unhealthy")
    assert "failed liveness probe, will be restarted" in told(podd, "Killing")
    until(lambda: podd.status("p")["phase"] == "Running" and ready(podd), "it runs again")


def test_probes_go_on_after_podd_was_killed(podd: Podd) -> None:
    probe = {"httpGet": {"port": 8080, "path": "/live"}, "periodSeconds": 1, "failureThreshold": 1}
    startup = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30}
    podd.apply(manifest("p", server(podd, readinessProbe=probe, startupProbe=startup), **shared(podd)))
    until(lambda: ready(podd), "the pod is ready")
    podd.kill()
    before = len(asked(podd))
    podd.start()
    assert ready(podd)
    until(lambda: len(asked(podd)) > before, "it is probed again")
    (podd.shared / "ill").touch()
    until(lambda: not ready(podd), "the pod is not ready")
    assert restarts(podd) == 0


# ---- hooks


def test_hooks_run_before_readiness_and_before_the_signal(podd: Podd) -> None:
    note = "echo {} >> /shared/notes"
    life = {
        "postStart": {"exec": {"command": ["sh", "-c", note.format("postStart")]}},
        "preStop": {"exec": {"command": ["sh", "-c", note.format("preStop")]}},
    }
    member = sh("a", f"trap '{note.format('TERM')}; exit 0' TERM; sleep infinity & wait", lifecycle=life, **MOUNT)
    podd.apply(manifest("p", member, **shared(podd)))
    until(lambda: ready(podd), "the hook has run")
    podd.cli("stop", "p")
    until(lambda: podd.status("p")["phase"] != "Running", "the pod has ended")
    assert (podd.shared / "notes").read_text().split() == ["postStart", "preStop", "TERM"]


def test_hooks_by_http_and_tcp(podd: Podd) -> None:
    life = {"preStop": {"httpGet": {"port": "http", "path": "/drain?now"}}, "postStart": {"sleep": {"seconds": 1}}}
    probe = {"tcpSocket": {"port": "http"}, "periodSeconds": 1}
    podd.apply(manifest("p", server(podd, lifecycle=life, readinessProbe=probe), **shared(podd)))
    until(lambda: ready(podd), "the pod is ready")
    podd.cli("stop", "p")
    until(lambda: podd.status("p")["phase"] != "Running", "the pod has ended")
    assert [line.split()[0] for line in asked(podd)] == ["/drain?now"]


def test_a_start_hook_that_fails_ends_its_container(podd: Podd) -> None:
    hook = "until [ -e /shared/hears ]; do sleep 0.1; done; echo no disk >&2; exit 3"
    life = {"postStart": {"exec": {"command": ["sh", "-c", hook]}}}
    hears = "trap 'exit 0' TERM; touch /shared/hears; sleep infinity & wait"
    podd.apply(manifest("p", sh("a", hears, lifecycle=life, **MOUNT), restartPolicy="Never", **shared(podd)))
    until(lambda: podd.status("p")["phase"] == "Succeeded", "its container has heard the signal")
    message = told(podd, "FailedPostStartHook")
    assert f"Exec lifecycle hook ([sh -c {hook}])" in message
    assert "exited with 3: no disk" in message


def test_a_stop_hook_ends_with_the_grace_period(podd: Podd) -> None:
    life = {"preStop": {"exec": {"command": ["sleep", "600"]}}}
    podd.apply(manifest("p", sleeper("a", lifecycle=life), terminationGracePeriodSeconds=1))
    began = time.monotonic()
    podd.cli("stop", "p")
    until(lambda: podd.status("p")["phase"] != "Running", "the pod has ended")
    assert time.monotonic() - began < 10
