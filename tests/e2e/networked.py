"""A podd with a network, in namespaces of its own: the host that it has to itself, and a client elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ground import FULL, own_network
from real import CONFIG, Podd, manifest, sleeper
from running import running

from podd.linux import namespaces

HOST = ("192.0.2.1", "fd00:e::1")
CLIENT = ("192.0.2.2", "fd00:e::2")
PODS = ("10.86.0.0/16", "fd86:706f:6464::/64")

KEPT = "|".join(
    (
        # What plugins make once for all pods; what is of one pod has an address of it, or a chain with its hash.
        r"^interface: podd0",
        r"^rule: (?!.*(10\.86\.\d|fd86:|CNI-[0-9a-f]{8}|CNI-DN-|CNI-SN-))",
        r"^file: .*/leases/(podd/(lock|last_reserved_ip\.\d)?)?( |$)",
        r"^file: .*/state/cni/(results/)?( |$)",
        r"^file: .*/cni\.d/",
    )
)


class Place:
    """host: the path of the namespace that podd has; client: that of who asks from outside."""

    def __init__(self, host: str, client: str) -> None:
        self.host = host
        self.client = client

    def get(self, address: str, port: int = 80, *, of: str = "") -> str:
        """What an HTTP server says to who asks from a namespace; by default from outside."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        fd = namespaces.open_socket(of or self.client, family, socket.SOCK_STREAM)
        with socket.socket(fileno=fd) as sock:
            sock.settimeout(5)
            sock.connect((address, port))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(4096), b""))
        return answer.partition(b"\r\n\r\n")[2].decode().strip()

    def refuses(self, address: str, port: int = 80, *, of: str = "") -> bool:
        try:
            self.get(address, port, of=of)
        except OSError:
            return True
        return False


@contextmanager
def place() -> Iterator[Place]:
    """The machine's own network stays as it is, which is looked at."""
    with own_network(), _holder() as host, _holder() as client:
        inside(host, "ip link add out type veth peer name in")
        inside(host, f"ip link set in netns {client.pid}")
        for holder, name, own in ((host, "out", HOST), (client, "in", CLIENT)):
            inside(holder, f"ip address add {own[0]}/24 dev {name}")
            inside(holder, f"ip address add {own[1]}/64 dev {name} nodad")
            inside(holder, f"ip link set {name} up")
        for subnet, gateway in zip(PODS, HOST, strict=True):
            inside(client, f"ip route add {subnet} via {gateway}")
        yield Place(f"/proc/{host.pid}/ns/net", f"/proc/{client.pid}/ns/net")


@contextmanager
def _holder() -> Iterator[subprocess.Popen[bytes]]:
    """Of a new network namespace, with its loopback up."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        yield holder
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def inside(holder: subprocess.Popen[bytes], words: str) -> None:
    subprocess.run(["nsenter", f"--net=/proc/{holder.pid}/ns/net", *words.split()], check=True)


def networked(there: Place, driver: str, *, configure: bool = True) -> Iterator[Podd]:
    """configure: with the fuller one of the configurations that podd ships."""
    config = CONFIG
    if driver != "setns":
        config = f'default_driver = "{driver}"\n{CONFIG}\n[drivers.{driver}]\ncgroup_parent = "{{cgroup}}"\n'
    groups = () if driver == "setns" else (driver,)
    first = manifest("first", sleeper("a"))
    for podd in running(config, ignoring=KEPT, groups=groups, first=first, network=there.host):
        if configure:
            write_network(podd.folder)
        yield podd


def write_network(folder: Path) -> None:
    document = json.loads(FULL.read_text())
    document["plugins"][0]["ipam"]["dataDir"] = f"{folder}/leases"
    (folder / "cni.d").mkdir(exist_ok=True)
    (folder / "cni.d" / "10-podd.conflist").write_text(json.dumps(document))


@contextmanager
def before_nf_tables(top: Path) -> Iterator[None]:
    """iptables as it was before nf_tables, first in PATH."""
    path = os.environ["PATH"]
    for name in ("iptables", "ip6tables", "iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"):
        found = shutil.which(name.replace("tables", "tables-legacy", 1))
        assert found is not None
        (top / name).symlink_to(found)
    os.environ["PATH"] = f"{top}:{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path
