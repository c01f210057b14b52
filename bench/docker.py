"""Pods on dockerd: by podd's driver, by the same requests made by hand, and by the docker command.

One after the other on one dockerd, again and again, so that none has a quieter machine than another.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from effort import Effort
from figures import Row
from measures import apply
from peers import IMAGE, RUNTIME, Docker, podd_on
from subject import COMMAND, CPUS, MEMBERS, MEMORY_MIB, PIDS, Podd
from wire import Wire

HOLDER = "podd/holder:1"


def docker(folder: str, rootfs: str, effort: Effort) -> list[Row]:
    """Raises Skipped: there is no dockerd to be had."""
    where = f"{folder}/dockerd"
    with (
        Docker(where, rootfs) as engine,
        podd_on(where, rootfs, f"{folder}/on-docker") as podd,
        podd_on(where, rootfs, f"{folder}/held", RUNTIME) as held,
        Wire(podd.socket) as wire,
        Wire(held.socket) as wire_held,
        ByHand(f"{where}/docker.sock") as by_hand,
    ):
        took: dict[str, list[float]] = defaultdict(list)
        for number in range(effort.warm_up + effort.rounds // 2):
            name = f"pod-{number}"
            _life(took, "", podd, wire, name)
            _life(took, " held", held, wire_held, f"held-{number}")
            took["hand"].append(_ms(lambda name=name: by_hand.start(name)))  # type: ignore[misc]
            by_hand.delete(name)
            took["recipe"].append(_ms(lambda name=name: engine.start(name)))  # type: ignore[misc]
            engine.delete(name)
    return _rows({what: values[effort.warm_up :] for what, values in took.items()})


def _life(took: dict[str, list[float]], kind: str, podd: Podd, wire: Wire, name: str) -> None:
    took[f"start{kind}"].append(_ms(lambda: apply(wire, podd.manifest(name))))
    took[f"skew{kind}"].append(wire.call("Get", name=name)["pod"]["status"]["podd"]["startSkewUs"] / 1e3)
    took[f"delete{kind}"].append(_ms(lambda: wire.call("Delete", name=name, now=True)))


def _rows(took: dict[str, list[float]]) -> list[Row]:
    hand = Row("on dockerd: the same requests by hand", "ms", took["hand"])
    most = round(hand.median * 1.1)
    rows = [
        Row("on dockerd: start", "ms", took["start"], most=most),
        Row("on dockerd: start skew", "ms", took["skew"]),
        Row("on dockerd: delete", "ms", took["delete"]),
        Row("on dockerd, held: start", "ms", took["start held"], most=most),
        Row("on dockerd, held: start skew", "ms", took["skew held"]),
        Row("on dockerd, held: delete", "ms", took["delete held"]),
        hand,
        Row("on dockerd: the docker command's recipe", "ms", took["recipe"]),
    ]
    ratios = [theirs / ours for theirs, ours in zip(took["recipe"], took["start"], strict=True)]
    return [*rows, Row("the recipe, over podd's start", "times", ratios, least=2)]


class ByHand:
    """A holder; then all members created at once, and started at once: as little as it takes, by plain HTTP."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(MEMBERS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def start(self, pod: str) -> None:
        shared = {"NetworkMode": f"container:{pod}", "IpcMode": f"container:{pod}"}
        limits = {
            "Memory": MEMORY_MIB << 20,
            "MemorySwap": MEMORY_MIB << 20,
            "CpuQuota": int(CPUS * 100_000),
            "CpuPeriod": 100_000,
            "PidsLimit": PIDS,
        }
        body = {"Image": IMAGE, "Cmd": COMMAND, "HostConfig": {**shared, **limits, "CgroupnsMode": "private"}}
        own = {"NetworkMode": "none", "IpcMode": "shareable", "CgroupnsMode": "private"}
        members = [f"{pod}-{number}" for number in range(MEMBERS)]
        holder = {"Image": HOLDER, "Cmd": ["/podd-init"], "NetworkDisabled": True, "HostConfig": own}
        self._post(f"containers/create?name={pod}", holder)
        self._post(f"containers/{pod}/start")
        list(self._pool.map(lambda name: self._post(f"containers/create?name={name}", body), members))
        list(self._pool.map(lambda name: self._post(f"containers/{name}/start"), members))

    def delete(self, pod: str) -> None:
        names: Sequence[str] = [*(f"{pod}-{number}" for number in range(MEMBERS)), pod]
        list(self._pool.map(lambda name: self._ask("DELETE", f"containers/{name}?force=1&v=1"), names))

    def _post(self, path: str, body: dict[str, Any] | None = None) -> None:
        self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        connection = _Connection(self._path)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, f"/v1.41/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {text.decode(errors='replace')}")
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


def _ms(act: Any) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1e3
