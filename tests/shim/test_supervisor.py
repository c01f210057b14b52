"""The shim on the real kernel, by its wire: a pod from fork to the last trace of it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from podd.errors import Conflict, Invalid, NotFound, PoddError
from podd.shim.plan import ContainerPlan
from podd.testing.shim import Client, read_log
from staging import volume

from .conftest import CGROUP, TestPod

pytestmark = pytest.mark.root

Pods = Callable[..., TestPod]


def namespace(pid: int, name: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{name}").st_ino


def is_running(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """For what the kernel tells nobody of."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        select.select([], [], [], 0.002)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def attendants(pod: TestPod) -> list[int]:
    """The shim's children outside the pod's cgroup: one at work, and one that has just ended perhaps."""
    inside = pod.group.pids()
    return [child for child in children(pod.report["shim_pid"]) if child not in inside]


def is_parked(pod: TestPod) -> bool:
    """Whether the shim has no attendant now, and rests from the last."""
    state = Path(f"/proc/{pod.report['shim_pid']}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "S" and not attendants(pod)


# ---- the sandbox -----------------------------------------------------------------------------------------------------


def test_sandbox_is_reported_as_the_kernel_has_it(pods: Pods) -> None:
    pod = pods(limits={"memory_bytes": 64 << 20, "pids": 50}).ready()
    report = pod.report
    assert is_running(report["shim_pid"])
    assert set(report["namespaces"]) == {"net", "ipc", "uts"}
    for name, inode in report["namespaces"].items():
        assert os.stat(f"{pod.run_dir}/ns/{name}").st_ino == inode != namespace(os.getpid(), name)
    assert report["cgroup"] == pod.plan["cgroup"]
    assert (report["limits"]["memory_bytes"], report["limits"]["pids"]) == (64 << 20, 50)
    assert report["notes"] == []
    assert os.stat(f"{pod.run_dir}/shm").st_mode & 0o7777 == 0o1777
    assert os.stat(pod.run_dir).st_mode & 0o7777 == 0o700


def links(pid: int) -> list[str]:
    """What its descriptors lead to."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_shim_holds_nothing_it_does_not_need(pod: TestPod) -> None:
    """No descriptor of the daemon's side, no terminal, no directory, not in the pod's cgroup; shown by its name."""
    pid = pod.report["shim_pid"]
    wait_until(lambda: is_parked(pod))
    # The last descriptor of its attendant it closes after that is gone. The namespace is one with nothing in it.
    kept = ["/dev/null"] * 3 + ["anon_inode", "anon_inode", "mnt", "socket", "socket"]
    wait_until(lambda: sorted(link.partition(":")[0] for link in links(pid)) == kept)
    assert os.readlink(f"/proc/{pid}/ns/mnt") not in links(pid)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    assert pid not in pod.group.pids()
    assert Path(f"/proc/{pid}/comm").read_text() == "podd-shim test-\n"
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"podd-shim: default/test-pod ({pod.id})\0".encode())


def test_shim_is_the_one_who_listens_as_far_as_peers_can_see(pod: TestPod) -> None:
    def listens() -> bool:  # at first its attendant does, until the shim has read of it
        client = Client.to_shim(pod.run_dir)
        with socket.socket(fileno=os.dup(client.connection.fileno())) as sock:
            pid, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        client.close()
        return (pid, uid) == (pod.report["shim_pid"], 0)

    wait_until(listens)


def test_create_sandbox_again_gives_the_same_report(pod: TestPod) -> None:
    assert pod.client.call("create_sandbox", sandbox=pod.plan) == pod.report
    with pytest.raises(Conflict):
        pod.client.call("create_sandbox", sandbox={**pod.plan, "hostname": "other"})


def test_second_shim_for_a_sandbox_is_refused_and_harms_nothing(pods: Pods, pod: TestPod) -> None:
    client, pidfd = pod.zygote.fork(pod.plan)
    with pytest.raises(Conflict):
        client.answer(0)
    client.close()
    os.close(pidfd)
    assert pod.client.call("status")["sandbox"] == pod.report
    pod.run(pod.sh("a", "exit 4"))
    assert pod.exit_of(pod.sh("a", "exit 4"))["code"] == 4


BAD_PLANS: dict[str, dict[str, Any]] = {
    "a sysctl that does not exist": {"sysctls": {"net.ipv4.no_such_thing": "1"}},
    "a cgroup that is not the sandbox's": {"cgroup": "elsewhere/other"},
    "a cgroup outside": {"cgroup": "elsewhere/../elsewhere"},
    "a directory that is not the sandbox's": {"run_dir": "/run/other"},
    "a limit that the kernel refuses": {"limits": {"pids": -5}},
}


@pytest.mark.parametrize("changes", BAD_PLANS.values(), ids=BAD_PLANS)
def test_sandbox_that_cannot_be_made_leaves_nothing(pods: Pods, tmp_path: Path, changes: dict[str, Any]) -> None:
    pod = pods(**changes)
    with pytest.raises(PoddError):
        pod.ready()
    assert pod.shim_ended()
    assert not os.path.exists(f"{tmp_path}/run/pods/{pod.id}")
    assert not os.path.exists(f"{tmp_path}/containers/{pod.id}")
    pod.plan.update({"cgroup": pod.group.path, "run_dir": f"{tmp_path}/run/pods/{pod.id}"})


# ---- containers ------------------------------------------------------------------------------------------------------


def test_held_container_is_reported_and_has_run_nothing(pod: TestPod, tmp_path: Path) -> None:
    mount = volume(tmp_path, "/mnt")
    plan = pod.sh("a", "echo ran > /mnt/ran", mounts=[mount], limits={"memory_bytes": 32 << 20, "pids": 20})
    (report,) = pod.create(plan)
    pid = report["pid"]
    assert report["namespaces"] == {name: namespace(pid, name) for name in report["namespaces"]}
    assert {name: report["namespaces"][name] for name in ("net", "ipc", "uts")} == pod.report["namespaces"]
    for name in ("pid", "mnt", "cgroup"):
        assert report["namespaces"][name] != namespace(os.getpid(), name)
    assert report["cgroup"] == f"{pod.plan['cgroup']}/{plan['id']}"
    assert (report["limits"]["memory_bytes"], report["limits"]["pids"]) == (32 << 20, 20)
    assert pid in pod.group.child(plan["id"]).pids()
    assert pod.client.call("status")["containers"][plan["id"]]["state"] == "created"
    assert pod.create(plan) == [report]
    assert not (tmp_path / "ran").exists()
    pod.client.call("subscribe")
    pod.start(plan)
    assert pod.exit_of(plan)["code"] == 0
    assert (tmp_path / "ran").exists()


def test_members_start_together_and_end_with_their_own_codes(pod: TestPod) -> None:
    plans = [pod.sh(name, f"echo {name}; echo {name} >&2; exit {code}") for code, name in enumerate("abc")]
    started = pod.run(*plans)
    assert [report["id"] for report in started] == [plan["id"] for plan in plans]
    assert [report["error"] for report in started] == ["", "", ""]
    for code, plan in enumerate(plans):
        ended = pod.exit_of(plan)
        assert (ended["code"], ended["signal"], ended["reason"]) == (code, 0, "")
        assert ended["started_at_ns"] <= ended["finished_at_ns"] <= time.time_ns()
        assert read_log(plan) == {"stdout": f"{plan['name']}\n".encode(), "stderr": f"{plan['name']}\n".encode()}
    assert pod.start(*plans) == started
    state = pod.client.call("status")["containers"][plans[2]["id"]]
    assert (state["state"], state["pid"], state["exit"]["code"]) == ("exited", None, 2)


FAILING: dict[str, tuple[dict[str, Any], str]] = {
    "no such command": ({"argv": ["/no/such/command"]}, "/no/such/command"),
    "no such root": ({"lowers": ["/no/such/root"]}, "/no/such/root"),
    "root as a user that must not be": ({"run_as_non_root": True}, "runAsNonRoot"),
    "a limit that the kernel refuses": ({"limits": {"cpu_quota_us": 1}}, "cpu"),
}


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_container_that_cannot_be_made_leaves_nothing_and_the_others_alone(
    pod: TestPod, case: tuple[dict[str, Any], str]
) -> None:
    changes, named = case
    good, bad = pod.sh("good", "exit 5"), pod.sh("bad", "exit 6", **changes)
    requests = [pod.client.ask("create_container", container=plan) for plan in (bad, good)]
    with pytest.raises(Invalid, match=named):
        pod.client.answer(requests[0])
    pod.client.answer(requests[1])
    assert not pod.group.child(bad["id"]).exists()
    assert not os.path.exists(f"{pod.plan['containers_dir']}/{pod.plan['id']}/{bad['id']}")
    assert list(pod.client.call("status")["containers"]) == [good["id"]]
    with pytest.raises(NotFound):
        pod.start(bad)
    pod.client.call("subscribe")
    pod.start(good)
    assert pod.exit_of(good)["code"] == 5


def test_execve_that_fails_is_an_error_of_the_start(pod: TestPod, tmp_path: Path) -> None:
    """Found executable when it was made, not any more when it was let go."""
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    mount = volume(tmp_path, "/mnt")
    bad, good = pod.container("bad", "/mnt/program", mounts=[mount]), pod.sh("good", "exit 0")
    pod.client.call("subscribe")
    pod.create(bad, good)
    program.write_bytes(b"\x7fELF" + b"\0" * 100)
    started = pod.start(bad, good)
    assert [bool(report["error"]) for report in started] == [True, False]
    ended = pod.exit_of(bad)
    assert (ended["reason"], ended["started_at_ns"]) == ("StartError", None)


def test_plan_of_a_known_id_may_not_change(pod: TestPod) -> None:
    pod.create(pod.sh("a", "exit 1"))
    with pytest.raises(Conflict):
        pod.create(pod.sh("a", "exit 2"))


def test_exits_while_nobody_is_connected_are_found_later(pod: TestPod) -> None:
    plan = pod.sh("a", "echo out; exit 7")
    pod.create(plan)
    pod.client.ask("start", containers=[plan["id"]])
    pod.client.close()
    wait_until(lambda: os.path.exists(f"{pod.run_dir}/exits/{plan['id']}.json"))
    record = json.loads(Path(f"{pod.run_dir}/exits/{plan['id']}.json").read_text())
    assert record["code"] == 7
    assert read_log(plan)["stdout"] == b"out\n"
    pod.reconnect()
    assert pod.client.call("status")["containers"][plan["id"]]["exit"] == record
    assert pod.client.call("status")["sandbox"] == pod.report


def test_zygote_may_end_before_its_shims(tmp_path: Path, pods: Pods) -> None:
    from podd.testing.shim import ZygoteProcess, sandbox_plan  # noqa: PLC0415

    plan = sandbox_plan(str(tmp_path), "test", cgroup=f"{CGROUP}/test")
    with ZygoteProcess() as short_lived:
        client, pidfd = short_lived.fork(plan)
        client.answer(0)
        client.close()
    again = Client.to_shim(plan["run_dir"])
    assert again.call("status")["containers"] == {}
    again.call("shutdown")
    again.close()
    os.close(pidfd)
    assert not os.path.exists(plan["run_dir"])


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_daemonized_grandchildren_end_with_their_container(pod: TestPod) -> None:
    plan = pod.sh(
        "a",
        "(setsid sh -c 'trap \"\" TERM; sleep 987654 & sleep 987655' </dev/null >/dev/null 2>&1 &); sleep 0.1",
    )
    pod.run(plan)
    pod.exit_of(plan)
    assert pod.group.pids() == []


def test_daemonized_grandchildren_on_the_host_pid_namespace_end_too(pods: Pods) -> None:
    pod = pods(pid="node").ready()
    plan = pod.sh(
        "a", "(setsid sleep 987656 </dev/null >/dev/null 2>&1 &); (setsid sleep 987657 &) ; sleep 0.1; exit 0"
    )
    pod.run(plan)
    assert namespace(pod.report["shim_pid"], "pid") == namespace(os.getpid(), "pid")
    pod.exit_of(plan)
    assert pod.group.pids() == []


def test_stop_signal_reaches_the_first_process(pod: TestPod) -> None:
    plans = [pod.sh(name, "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done") for name in "ab"]
    pod.create(*plans)
    attached = [attach(pod, plan) for plan in plans]
    pod.client.call("subscribe")
    pod.start(*plans)
    for sock in attached:
        assert next_frame(sock) == (1, b"up\n")
        sock.close()
    pod.client.call("signal", containers=[plan["id"] for plan in plans], signal=signal.SIGTERM)
    assert [pod.exit_of(plan)["code"] for plan in plans] == [9, 9]
    pod.client.call("signal", containers=[plans[0]["id"]], signal=signal.SIGTERM)


def test_sigkill_ends_what_ignores_everything_else(pod: TestPod) -> None:
    plan = pod.sh("a", "trap '' TERM HUP INT; sleep 987658 & echo up; wait; sleep 987659")
    pod.create(plan)
    sock = attach(pod, plan)
    pod.client.call("subscribe")
    pod.start(plan)
    assert next_frame(sock) == (1, b"up\n")
    pod.client.call("signal", containers=[plan["id"]], signal=signal.SIGTERM)
    pod.client.call("signal", containers=[plan["id"]], signal=signal.SIGKILL)
    ended = pod.exit_of(plan)
    assert (ended["code"], ended["signal"], ended["oom_killed"]) == (137, 9, False)
    assert pod.group.pids() == []
    sock.close()


def test_death_for_want_of_memory_is_told_apart(pod: TestPod) -> None:
    plan = pod.container(
        "a", "/usr/bin/env", "awk", 'BEGIN { s = "x"; while (1) s = s s }', limits={"memory_bytes": 16 << 20}
    )
    pod.run(plan)
    ended = pod.exit_of(plan)
    assert (ended["code"], ended["oom_killed"]) == (137, True)


@pytest.mark.parametrize("state", ["held", "running", "exited", "unknown"])
def test_destroy_container_leaves_its_log_alone(pod: TestPod, state: str) -> None:
    plan = pod.sh("a", "echo out; touch /tmp/written; exec sleep 987660" if state == "running" else "echo out; exit 0")
    pod.client.call("subscribe")
    if state != "unknown":
        pod.create(plan)
    if state in ("running", "exited"):
        pod.start(plan)
    if state == "exited":
        pod.exit_of(plan)
    for _ in range(2):
        pod.client.call("destroy_container", container=plan["id"])
    assert not pod.group.child(plan["id"]).exists()
    assert not os.path.exists(f"{pod.plan['containers_dir']}/{pod.plan['id']}/{plan['id']}")
    assert os.listdir(f"{pod.run_dir}/exits") == []
    assert pod.client.call("status")["containers"] == {}
    assert read_log(plan)["stdout"] == (b"out\n" if state == "exited" else read_log(plan)["stdout"])
    pod.create(plan)


def test_destroy_while_it_is_being_made(pod: TestPod) -> None:
    plan = pod.sh("a", "exit 0")
    create = pod.client.ask("create_container", container=plan)
    destroy = pod.client.ask("destroy_container", container=plan["id"])
    with pytest.raises(PoddError):
        pod.client.answer(create)
    pod.client.answer(destroy)
    assert not pod.group.child(plan["id"]).exists()
    assert pod.client.call("status")["containers"] == {}


def test_shutdown_leaves_nothing_but_the_logs(pod: TestPod) -> None:
    plans = [pod.sh(name, "trap '' TERM; echo out; sleep 987661 & wait") for name in "ab"]
    held = pod.sh("c", "exit 0")
    pod.run(*plans)
    pod.create(held)
    pod.client.call("shutdown")
    assert pod.shim_ended()
    assert not os.path.exists(pod.run_dir)
    assert not os.path.exists(f"{pod.plan['containers_dir']}/{pod.plan['id']}")
    assert not pod.group.exists()
    assert os.path.exists(pod.plan["log_directory"])


def test_shutdown_asked_by_many_is_answered_to_all(pod: TestPod) -> None:
    plan = pod.sh("a", "sleep 987662")
    pod.run(plan)
    others = [Client.to_shim(pod.run_dir) for _ in range(3)]
    for client in others:
        client.call("status")
    os.kill(pod.report["shim_pid"], signal.SIGSTOP)
    requests = [client.ask("shutdown") for client in (pod.client, *others)]
    os.kill(pod.report["shim_pid"], signal.SIGCONT)
    for client, request in zip((pod.client, *others), requests, strict=True):
        assert client.answer(request)[0] == {}
    for client in others:
        client.close()


def test_killed_shim_takes_its_containers_along(pod: TestPod) -> None:
    plans = [pod.sh(name, "trap '' TERM; sleep 987663 & wait") for name in "ab"]
    pids = [report["pid"] for report in pod.run(*plans)]
    (held,) = pod.create(pod.sh("c", "exit 0"))
    os.kill(pod.report["shim_pid"], signal.SIGKILL)
    assert pod.shim_ended()
    for pid in (*pids, held["pid"]):
        wait_until(lambda pid=pid: not is_running(pid) or pid not in pod.group.pids())  # type: ignore[misc]
    wait_until(lambda: pod.group.pids() == [])


def test_shim_that_is_told_to_end_waits_for_its_containers_and_writes_down_their_ends(pod: TestPod) -> None:
    """As systemd tells it: when the host goes down, every process of a unit gets SIGTERM."""
    quick = pod.sh("quick", "trap 'echo bye; exit 3' TERM; touch /dev/shm/up; sleep infinity & wait")
    slow = pod.sh("slow", "trap 'read _ < /dev/shm/go; exit 4' TERM; mkfifo /dev/shm/go; sleep infinity & wait")
    pids = {report["id"]: report["pid"] for report in pod.run(quick, slow)}
    fifo = Path(pod.run_dir, "shm/go")
    wait_until(lambda: fifo.exists() and fifo.with_name("up").exists())
    for pid in (pod.report["shim_pid"], *pids.values()):
        os.kill(pid, signal.SIGTERM)
    assert pod.exit_of(quick)["code"] == 3
    assert not pod.shim_ended(0.05)
    assert pod.client.call("status")["containers"][slow["id"]]["state"] == "running"
    fifo.write_text("\n")
    assert pod.exit_of(slow)["code"] == 4
    assert pod.shim_ended()
    assert read_log(quick)["stdout"] == b"bye\n"
    assert json.loads(Path(pod.run_dir, f"exits/{slow['id']}.json").read_text())["code"] == 4


def test_shim_without_containers_ends_when_it_is_told(pods: Pods) -> None:
    pod = pods(pid="pod").ready()
    os.kill(pod.report["shim_pid"], signal.SIGTERM)
    assert pod.shim_ended()
    wait_until(lambda: not is_running(pod.report["init_pid"]))


def test_container_that_is_held_when_its_shim_is_told_to_end_is_killed(pod: TestPod) -> None:
    (held,) = pod.create(pod.sh("a", "exit 0"))
    os.kill(pod.report["shim_pid"], signal.SIGTERM)
    assert pod.shim_ended()
    wait_until(lambda: not is_running(held["pid"]))


def test_containers_do_not_inherit_that_their_shim_blocks_a_signal(pod: TestPod) -> None:
    plan = pod.sh("a", "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    pod.run(plan)
    assert pod.output(plan).split() == [b"SigBlk:", b"0000000000000000", b"SigIgn:", b"0000000000000000"]


# ---- shared process namespace ----------------------------------------------------------------------------------------


def test_members_of_a_shared_pid_namespace(pods: Pods) -> None:
    pod = pods(pid="pod").ready()
    assert pod.report["init_pid"] is not None
    plans = [pod.sh(name, "exec sleep 987664") for name in "ab"]
    reports = pod.create(*plans)
    inodes = {report["namespaces"]["pid"] for report in reports}
    assert inodes == {pod.report["namespaces"]["pid"]} == {namespace(pod.report["init_pid"], "pid")}
    pod.start(*plans)
    pod.client.call("destroy_container", container=plans[0]["id"])
    assert pod.client.call("status")["containers"][plans[1]["id"]]["state"] == "running"
    assert is_running(pod.report["init_pid"])
    pod.client.call("shutdown")
    assert not is_running(pod.report["init_pid"])


# ---- output and attachments ------------------------------------------------------------------------------------------


def attach(pod: TestPod, plan: ContainerPlan, *, stdin: bool = False) -> socket.socket:
    _, (fd,) = pod.client.answer(pod.client.ask("attach", container=plan["id"], stdin=stdin))
    sock = socket.socket(fileno=fd)
    sock.settimeout(10)
    return sock


def next_frame(sock: socket.socket) -> tuple[int, bytes]:
    """(0, b"") at the end."""
    header = read_exactly(sock, 5)
    if not header:
        return 0, b""
    stream, size = struct.unpack(">BI", header)
    return stream, read_exactly(sock, size)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


def send_input(sock: socket.socket, data: bytes) -> None:
    sock.sendall(struct.pack(">BI", 0, len(data)) + data)


def test_many_lines_at_once_are_all_there(pod: TestPod) -> None:
    plan = pod.sh("a", "i=0; while [ $i -lt 10000 ]; do echo $i; i=$((i+1)); done; echo end >&2")
    pod.run(plan)
    assert pod.output(plan) == b"".join(b"%d\n" % n for n in range(10000))


def test_log_is_rotated_without_loss(pod: TestPod) -> None:
    plan = pod.sh("a", "seq 1 20000", log_max_bytes=100_000, log_max_files=50)
    pod.run(plan)
    assert pod.output(plan) == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert os.path.exists(f"{plan['log_path']}.5")


def test_chatty_container_does_not_starve_the_control_socket(pod: TestPod) -> None:
    chatty = pod.container("a", "/usr/bin/yes", log_max_bytes=1 << 20, log_max_files=2)
    pod.run(chatty)
    worst = 0.0
    for _ in range(50):
        begun = time.monotonic()
        pod.client.call("status")
        worst = max(worst, time.monotonic() - begun)
    assert worst < 0.5
    pod.client.call("destroy_container", container=chatty["id"])


def test_attached_input_and_output(pod: TestPod) -> None:
    plan = pod.sh("a", "read line; echo got $line; cat; echo end", stdin=True, stdin_once=True)
    pod.create(plan)
    sock, reader = attach(pod, plan, stdin=True), attach(pod, plan)
    pod.client.call("subscribe")
    pod.start(plan)
    send_input(sock, b"one\n")
    assert next_frame(sock) == (1, b"got one\n") == next_frame(reader)
    send_input(sock, b"two\n")
    assert next_frame(sock) == (1, b"two\n") == next_frame(reader)
    send_input(sock, b"")
    assert next_frame(sock) == (1, b"end\n") == next_frame(reader)
    assert next_frame(sock) == (0, b"")
    assert pod.exit_of(plan)["code"] == 0
    with pytest.raises(Conflict):
        attach(pod, plan)
    for one in (sock, reader):
        one.close()


def test_terminal(pod: TestPod) -> None:
    plan = pod.sh("a", "test -t 0 && test -t 1 && test -t 2 || exit 1; read x; stty size; exit 3", tty=True, stdin=True)
    pod.create(plan)
    sock = attach(pod, plan, stdin=True)
    sock.sendall(struct.pack(">BIHH", 3, 4, 33, 101))
    pod.client.call("subscribe")
    pod.start(plan)
    send_input(sock, b"\n")
    data = b""
    while b"33 101\r\n" not in data:
        stream, piece = next_frame(sock)
        assert stream == 1, data
        data += piece
    assert pod.exit_of(plan)["code"] == 3
    sock.close()


# ---- exec ------------------------------------------------------------------------------------------------------------


def exec_plan(name: str, *argv: str, tty: bool = False) -> dict[str, Any]:
    return {
        "id": name,
        "argv": list(argv),
        "env": [["EXTRA", "more"]],
        "tty": tty,
        "terminal_size": [0, 0],
        "bound": False,
    }


def run_exec(
    pod: TestPod, plan: ContainerPlan, request: dict[str, Any], given: bytes = b""
) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr)"""
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    os.write(stdin[1], given)
    pod.client.call("exec", [stdin[0], stdout[1], stderr[1]], container=plan["id"], exec=request)
    for fd in (stdin[0], stdin[1], stdout[1], stderr[1]):
        os.close(fd)
    ended = pod.client.call("exec_wait", exec=request["id"])
    with open(stdout[0], "rb") as out, open(stderr[0], "rb") as err:
        return ended["code"], out.read(), err.read()


@pytest.fixture
def sleeper(pod: TestPod) -> ContainerPlan:
    plan = pod.sh("a", "exec sleep 987665", env=[["HELLO", "world"]])
    pod.run(plan)
    return plan


def test_exec_with_descriptors(pod: TestPod, sleeper: ContainerPlan) -> None:
    request = exec_plan("e1", "sh", "-c", "cat; echo $HELLO $EXTRA; echo err >&2; exit 5")
    assert run_exec(pod, sleeper, request, b"in\n") == (5, b"in\nworld more\n", b"err\n")
    notice = pod.client.notice()
    assert (notice["event"], notice["exec"], notice["exit"]["code"]) == ("exec_exited", "e1", 5)
    assert pod.client.call("exec_wait", exec="e1")["code"] == 5


def test_exec_is_in_the_container(pod: TestPod, sleeper: ContainerPlan) -> None:
    own = {
        name: namespace(pod.client.call("status")["containers"][sleeper["id"]]["pid"], name)
        for name in ("mnt", "pid", "net")
    }
    _, out, _ = run_exec(
        pod, sleeper, exec_plan("e1", "sh", "-c", "stat -Lc %i /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/net")
    )
    assert [int(line) for line in out.split()] == [own["mnt"], own["pid"], own["net"]]


def test_exec_with_a_terminal(pod: TestPod, sleeper: ContainerPlan) -> None:
    request = exec_plan("e1", "sh", "-c", "test -t 0 && stty size && read x && echo got $x", tty=True)
    answer, (master,) = pod.client.answer(pod.client.ask("exec", container=sleeper["id"], exec=request))
    assert is_running(answer["pid"])
    os.write(master, b"hi\n")
    data = b""
    while b"got hi" not in data:
        data += os.read(master, 1000)
    assert pod.client.call("exec_wait", exec="e1")["code"] == 0
    os.close(master)


def test_exec_that_cannot_run(pod: TestPod, sleeper: ContainerPlan) -> None:
    with pytest.raises(Invalid, match="no-such-command"):
        run_exec(pod, sleeper, exec_plan("e1", "no-such-command"))
    with pytest.raises(NotFound):
        pod.client.call("exec_wait", exec="e1")
    with pytest.raises(Invalid):
        pod.client.call("exec", container=sleeper["id"], exec=exec_plan("e2", "true"))


def test_exec_needs_a_running_container(pod: TestPod) -> None:
    plan = pod.sh("a", "exit 0")
    pod.create(plan)
    with pytest.raises(Conflict):
        run_exec(pod, plan, exec_plan("e1", "true"))


def test_a_bound_exec_ends_when_its_asker_hangs_up(pod: TestPod, sleeper: ContainerPlan) -> None:
    """podd was killed: what a probe runs must not run on with nobody waiting for it, nor be run beside it again."""
    asker = Client.to_shim(pod.run_dir)
    read, write = os.pipe()
    request = {**exec_plan("e1", "sh", "-c", "sleep 987667; :"), "bound": True}
    asker.call("exec", [write, write, write], container=sleeper["id"], exec=request)
    os.close(write)
    null = os.open("/dev/null", os.O_RDWR)
    free = exec_plan("e2", "sleep", "987668")
    asker.call("exec", [null, null, null], container=sleeper["id"], exec=free)
    os.close(null)
    asker.close()
    assert os.read(read, 1) == b"", "it and what it started have let go of their output"
    assert pod.client.call("exec_wait", exec="e1")["signal"] == 9
    os.close(read)
    end = time.monotonic() + 5
    while len(pod.group.pids()) != 2 and time.monotonic() < end:  # what has let go of its output is not gone yet
        time.sleep(0.01)
    assert len(pod.group.pids()) == 2, "the sleeper, and what is not bound"


def test_exec_kill_ends_it_and_what_it_started(pod: TestPod, sleeper: ContainerPlan) -> None:
    request = exec_plan("e1", "sh", "-c", "sh -c 'sleep 987666; :' & echo up; wait")
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    pod.client.call("exec", [null, write, null], container=sleeper["id"], exec=request)
    assert os.read(read, 10) == b"up\n"
    wait_until(lambda: len(pod.group.pids()) == 4)
    pod.client.call("exec_kill", exec="e1")
    assert pod.client.call("exec_wait", exec="e1")["signal"] == 9
    wait_until(lambda: len(pod.group.pids()) == 1)
    pod.client.call("exec_kill", exec="e1")
    for fd in (read, write, null):
        os.close(fd)


def test_end_of_the_container_ends_its_execs(pod: TestPod, sleeper: ContainerPlan) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    pod.client.call("exec", [null] * 3, container=sleeper["id"], exec=exec_plan("e1", "sleep", "987667"))
    os.close(null)
    pod.client.call("signal", containers=[sleeper["id"]], signal=signal.SIGKILL)
    assert pod.client.call("exec_wait", exec="e1")["signal"] == 9


# ---- the socket ------------------------------------------------------------------------------------------------------

GARBAGE = {
    "random bytes": b"\xff\xfe\xfd" * 50,
    "a length and no end": struct.pack(">I", 100) + b"{",
    "not an object": struct.pack(">I", 2) + b"[]",
    "no id": struct.pack(">I", 2) + b"{}",
    "an id of the wrong type": struct.pack(">I", 10) + b'{"id":"1"}',
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_harms_only_its_sender(pod: TestPod, data: bytes) -> None:
    bad = Client.to_shim(pod.run_dir)
    os.write(bad.connection.fileno(), data)
    if not data.endswith(b"{"):
        with pytest.raises((ConnectionError, TimeoutError)):
            bad.notice()
    bad.close()
    assert pod.client.call("status")["sandbox"] == pod.report


@pytest.mark.parametrize(
    ("verb", "args", "kind"),
    [
        ("no_such_verb", {}, Invalid),
        ("start", {"containers": ["nobody"]}, NotFound),
        ("signal", {"containers": ["nobody"], "signal": 15}, NotFound),
        ("attach", {"container": "nobody", "stdin": False}, NotFound),
        ("exec_wait", {"exec": "nobody"}, NotFound),
        ("create_container", {}, PoddError),
        ("create_container", {"container": {"id": "../../escape"}}, PoddError),
    ],
)
def test_requests_that_make_no_sense_are_answered(
    pod: TestPod, verb: str, args: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        pod.client.call(verb, **args)
    assert pod.client.call("status")["containers"] == {}


def test_descriptors_that_nobody_asked_for_are_closed(pod: TestPod) -> None:
    directory = f"/proc/{pod.report['shim_pid']}/fd"
    wait_until(lambda: is_parked(pod))
    before = len(os.listdir(directory))
    for _ in range(20):
        pod.client.call("status", [0, 1, 2])
    wait_until(lambda: is_parked(pod))
    assert len(os.listdir(directory)) == before


def test_no_descriptor_is_left_after_a_full_life(pod: TestPod) -> None:
    directory = f"/proc/{pod.report['shim_pid']}/fd"
    wait_until(lambda: is_parked(pod))
    before = len(os.listdir(directory))
    for n in range(2):
        plans = [pod.sh("a", "echo x"), pod.sh("b", "exec sleep 987668", stdin=True), pod.sh("t", "exit 0", tty=True)]
        pod.run(*plans)
        run_exec(pod, plans[1], exec_plan(f"e{n}", "true"))
        attach(pod, plans[1], stdin=True).close()
        with pytest.raises(Invalid):
            pod.create(pod.sh("bad", "x", argv=["/no/such"]))
        for plan in plans:
            pod.client.call("destroy_container", container=plan["id"])
    wait_until(lambda: is_parked(pod))
    assert len(os.listdir(directory)) == before
