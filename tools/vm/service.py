"""The first boot: podd as a service of systemd, from the units that are enabled to the last pod that is deleted."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from pathlib import Path

from machine import (
    CONFIG,
    EXAMPLES,
    KEPT,
    RESTLESS,
    UNIT,
    alive,
    apply,
    cli,
    containers,
    group_of,
    is_pure,
    journal,
    look,
    main_pid,
    members_of,
    pids,
    pods,
    restarts,
    run,
    shims,
    systemd,
    unified,
    until,
)

from podd.testing import audit

MIB = 1 << 20
empty: list[audit.Snapshot] = []
"""The host before the first pod."""


def check_units_are_enabled_by_one_word() -> None:
    run("systemctl", "enable", "podd.service")
    run("systemctl", "start", "podd.socket")
    assert systemd("ActiveState", "podd.socket") == "active"
    assert systemd("ActiveState") == "inactive"


def check_the_socket_is_roots_and_the_groups() -> None:
    found = os.stat("/run/podd/podd.sock")
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (0, int(run("getent", "group", "podd").split(":")[2]))
    assert stat.S_IMODE(os.stat("/run/podd").st_mode) == 0o711


def check_the_first_connection_starts_podd() -> None:
    assert "setns" in cli("drivers")
    assert systemd("ActiveState") == "active"
    assert systemd("ActiveState", "podd-pods.service") == "active"
    assert systemd("StatusText") == "listening on /run/podd/podd.sock"
    assert systemd("WatchdogUSec") == "30s"


def check_the_driver_is_content() -> None:
    (driver,) = [one for one in json.loads(cli("drivers", "-o", "json")) if one["name"] == "setns"]
    assert driver["usable"], driver
    assert not driver.get("notes"), driver
    empty.append(look())


def check_every_example_runs() -> None:
    apply_examples()
    assert {pod["status"]["phase"] for pod in pods().values()} <= {"Running", "Succeeded"}, cli("get", "pods")


def check_those_that_do_not_stay_as_they_are_go() -> None:
    cli("delete", "pods", *RESTLESS, "--now")


def apply_examples(*but: str) -> None:
    for manifest in sorted(EXAMPLES.glob("*.yaml")):
        if manifest.stem not in but:
            cli("apply", "-f", manifest, "--wait")


def check_pods_and_supervisors_live_beside_podd() -> None:
    for name, pid in pids().items():
        assert group_of(pid).parent.parent == unified() / UNIT / "pods", (name, group_of(pid))
    supervisors = shims()
    assert len(supervisors) == len(pods())
    for pid in supervisors:
        assert group_of(pid) == unified() / UNIT / "supervisor", (pid, group_of(pid))
    assert members_of(unified() / "system.slice/podd.service") == [main_pid()]


def check_limits_are_in_the_kernels_files() -> None:
    if not is_pure():
        return
    quiet = group_of(pids("limits")["limits/quiet"])
    busy = group_of(pids("limits")["limits/busy"])
    expected = {
        quiet: {"cpu.max": "5000 100000", "memory.max": str(16 * MIB), "pids.max": "4"},
        busy: {"cpu.max": "25000 100000", "memory.max": str(32 * MIB), "pids.max": "8"},
        busy.parent: {"cpu.max": "30000 100000", "memory.max": str(48 * MIB), "pids.max": "12"},
    }
    for group, files in expected.items():
        assert {name: (group / name).read_text().strip() for name in files} == files, group
    assert (busy / "cpu.weight").read_text() != (quiet / "cpu.weight").read_text()


def check_limits_hold() -> None:
    before, at = _cpu_us("limits/busy"), time.monotonic()
    time.sleep(5)
    share = (_cpu_us("limits/busy") - before) / 1e6 / (time.monotonic() - at)
    assert 0.15 < share < 0.30, share
    said = cli(
        "exec", "limits", "-c", "quiet", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 9 & done", status=None
    )
    assert "fork" in said.lower(), said


def _cpu_us(member: str) -> int:
    group = group_of(pids()[member])
    return int((group / "cpu.stat").read_text().split()[1]) if is_pure() else _cpuacct_us(pids()[member])


def _cpuacct_us(pid: int) -> int:
    return int((group_of(pid, "cpuacct") / "cpuacct.usage").read_text()) // 1000


def check_all_pods_can_be_bounded_together() -> None:
    if not is_pure():
        return
    bound = unified() / UNIT / "memory.max"
    run("systemctl", "set-property", "--runtime", "podd-pods.service", "MemoryMax=1G")
    assert bound.read_text() == f"{1 << 30}\n"
    run("systemctl", "set-property", "--runtime", "podd-pods.service", "MemoryMax=infinity")
    assert bound.read_text() == "max\n"
    check_limits_are_in_the_kernels_files()


def check_limits_survive_a_reload_of_systemd() -> None:
    for word in ("daemon-reload", "daemon-reexec"):
        run("systemctl", word)
        check_limits_are_in_the_kernels_files()
        check_pods_and_supervisors_live_beside_podd()


def check_a_container_has_nothing_of_the_services() -> None:
    pid = pids()["shared-processes/worker"]  # BestEffort
    assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) == 1000
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    for name in (b"NOTIFY_SOCKET", b"WATCHDOG", b"LISTEN_", b"INVOCATION_ID", b"JOURNAL_STREAM", b"RUNTIME_DIRECTORY"):
        assert name not in environment, environment
    limits = Path(f"/proc/{pid}/limits").read_text()
    soft = int(next(line.split()[3] for line in limits.splitlines() if line.startswith("Max open files")))
    assert soft == 1024, f"Max open files: {soft}, where programs that use select() need 1024"


def check_pause_and_resume() -> None:
    pid = pids()["hello/witness"]
    cli("pause", "hello")
    pod = group_of(pid).parent
    assert "frozen 1" in (pod / "cgroup.events").read_text()
    cli("resume", "hello")
    until(lambda: "frozen 0" in (pod / "cgroup.events").read_text(), "it is thawed")


def check_a_kill_for_want_of_memory_is_seen() -> None:
    eater = {"name": "eater", "command": ["tail", "/dev/zero"], "resources": {"limits": {"memory": "24Mi"}}}
    apply("eats", eater, {"name": "other", "command": ["sleep", "infinity"]}, restartPolicy="Never")
    ended = until(lambda: containers("eats")["eater"]["state"].get("terminated"), "the kernel kills it")
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), ended
    assert "running" in containers("eats")["other"]["state"]
    assert systemd("ActiveState", "podd-pods.service") == "active"
    cli("delete", "pod", "eats", "--now")


def check_killed_podd_comes_back_to_the_same_processes() -> None:
    before, podd = pids(), main_pid()
    os.kill(podd, signal.SIGKILL)
    until(lambda: main_pid() not in (0, podd) and systemd("ActiveState") == "active", "systemd starts it again")
    assert pids() == before
    assert restarts() == 0
    assert cli("exec", "hello", "-c", "writer", "--", "echo", "there") == "there\n"
    check_pods_and_supervisors_live_beside_podd()


def check_restart_leaves_pods_alone() -> None:
    before = pids()
    run("systemctl", "restart", "podd")
    assert pids() == before
    assert restarts() == 0
    check_pods_and_supervisors_live_beside_podd()


def check_restart_left_nothing_in_the_unit() -> None:
    assert "left-over" not in journal()
    assert "remains running" not in journal()


def check_reload_reads_the_configuration() -> None:
    CONFIG.write_text(CONFIG.read_text().replace('log_level = "info"', 'log_level = "debug"'))
    run("systemctl", "reload", "podd")
    until(lambda: "config.reloaded" in journal(), "it says so")


def check_the_journal_gets_facts_as_fields() -> None:
    CONFIG.write_text(CONFIG.read_text().replace('log_format = "console"', 'log_format = "journal"'))
    run("systemctl", "restart", "podd")
    apply("told", {"name": "c", "command": ["sleep", "infinity"]})
    cli("delete", "pod", "told", "--now")
    run("journalctl", "--sync")
    lines = run("journalctl", "-b", "-o", "json", "-u", "podd", "PODD_POD=told", "PODD_EVENT=pod.deleted")
    (fields,) = map(json.loads, lines.splitlines())
    assert fields["MESSAGE"].startswith("pod.deleted pod=told"), fields
    assert fields["SYSLOG_IDENTIFIER"] == "podd", fields


def check_a_hanging_podd_is_killed_by_the_watchdog() -> None:
    before, podd = pids(), main_pid()
    os.kill(podd, signal.SIGSTOP)
    until(lambda: main_pid() not in (0, podd) and systemd("ActiveState") == "active", "systemd starts it again")
    assert systemd("NRestarts") != "0"
    assert pids() == before


def check_pods_run_on_while_podd_is_stopped() -> None:
    before = pids()
    run("systemctl", "stop", "podd.socket")
    assert systemd("ActiveState") == "inactive"
    assert not os.path.exists("/run/podd/podd.sock")
    assert all(map(alive, before.values()))
    log = next(Path("/var/log/podd/pods").glob("default_hello_*/reader/0.log"))
    size = log.stat().st_size
    until(lambda: log.stat().st_size > size, "its supervisor goes on logging")
    run("systemctl", "start", "podd.socket")
    assert pids() == before
    assert restarts() == 0


def check_a_killed_supervisor_is_replaced() -> None:
    before = pids("hello")
    shim = int(Path(f"/proc/{before['hello/writer']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shim, signal.SIGKILL)
    until(lambda: len(pids("hello")) == 3 and not set(pids("hello").values()) & set(before.values()), "they are back")
    assert not any(map(alive, before.values()))


def check_a_user_outside_of_the_group_is_refused() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        os.seteuid(65534)
        try:
            sock.connect("/run/podd/podd.sock")
        except PermissionError:
            return
        finally:
            os.seteuid(0)
    raise AssertionError("nobody may open the socket")


def check_stopping_the_pods_unit_ends_all_and_starting_brings_them_back() -> None:
    said = Path("/var/lib/podd-said")
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/mnt"}]}
    script = f"trap 'sleep 2; echo bye > /mnt/{said.name}; exit 0' TERM; sleep infinity & wait"
    apply(
        "graceful",
        {"name": "c", "command": ["sh", "-c", script], **mount},
        volumes=[{"name": "v", "hostPath": {"path": str(said.parent), "type": "Directory"}}],
    )
    before = pids()
    run("systemctl", "stop", "podd-pods.service")
    assert not any(map(alive, before.values()))
    assert shims() == []
    assert systemd("ActiveState") == "inactive"
    assert said.read_text() == "bye\n", "a member was not given its time"
    until(lambda: pids().keys() == before.keys() and not set(pids().values()) & set(before.values()), "they are back")
    cli("delete", "pod", "graceful", "--now")
    check_pods_and_supervisors_live_beside_podd()


def check_nothing_is_left_when_pods_are_deleted() -> None:
    (before,) = empty
    assert len(audit.leaks(before, look())) > 50
    cli("delete", "pods", "--all", "--grace-period", "2")
    audit.assert_clean(before, look(), ignoring=KEPT)


def check_the_group_stays_when_it_is_empty() -> None:
    run("systemctl", "stop", "podd.service")
    until(lambda: len(members_of(unified() / UNIT)) == 1, "only the sleeper is left")
    assert not (unified() / "system.slice/podd.service").exists()
    assert systemd("ActiveState", "podd-pods.service") == "active"
    run("systemctl", "start", "podd.service")
