"""The main job, once, on private directories: start podd, run a pod, look at it, stop it, leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from podd.linux.cgroup import Layout
from podd.testing import audit

HERE = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
POD = HERE / "config/pods/hello.yaml"

CONFIG = """\
[daemon]
socket = "podd.sock"
socket_group = ""
run_dir = "run"
state_dir = "state"
log_dir = "log"
pods_dir = "pods.d"
log_level = "warning"

[network]
conf_dir = "cni.d"

[drivers.setns]
cgroup_parent = "{cgroup}"
"""


def main() -> int:
    if os.geteuid() != 0:
        print("demo: pods need root: sudo make demo", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="podd-demo-", dir="/var/tmp"))
    config = folder / "podd.toml"
    config.write_text(CONFIG.format(cgroup=folder.name))
    os.environ["PODD_SOCKET"] = str(folder / "podd.sock")
    before = audit.snapshot([str(folder)], cgroup_parent=folder.name)
    daemon = subprocess.Popen([BIN / "podd", "--config", config])
    try:
        wait_for(folder / "podd.sock", daemon)
        show(daemon)
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)
    Layout.detect().group(folder.name).remove()  # the empty parent of all pods, which podd keeps
    after = audit.snapshot([str(folder)], cgroup_parent=folder.name)
    shutil.rmtree(folder)
    # podd's own directories, its store and the pod's logs are meant to stay; here they were temporary.
    audit.assert_clean(before, after, ignoring=["^file: "])
    print("\nnothing is left: no process, mount, namespace or cgroup")
    return 0


def show(daemon: subprocess.Popen[bytes]) -> None:
    assert daemon.poll() is None
    podd("drivers")
    podd("apply", "-f", POD, "--wait")
    podd("get", "pods", "-o", "wide")
    podd("ns", "hello")
    podd("tree", "hello")
    podd("exec", "hello", "-c", "reader", "--", "cat", "/dev/shm/hello")
    podd("logs", "hello", "-c", "witness")
    podd("stats", "hello")
    podd("delete", "pod", "hello")
    podd("get", "pods")


def podd(*words: object) -> None:
    line = [str(word) for word in words]
    print(f"\n$ podd-cli {' '.join(line)}", flush=True)
    subprocess.run([BIN / "podd-cli", *line], check=True)


def wait_for(socket: Path, daemon: subprocess.Popen[bytes]) -> None:
    """Until podd listens: its socket is there from then on."""
    while not socket.exists():
        if daemon.poll() is not None:
            raise SystemExit("demo: podd did not start; see above")
        try:
            daemon.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main())
