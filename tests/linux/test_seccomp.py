"""Seccomp: programs looked into by a small BPF machine, then loaded and felt."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyseccomp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podd.errors import Invalid, PoddError, Unavailable, Unsupported
from podd.linux import seccomp
from podd.linux.capabilities import ALL, DEFAULT, mask_of
from podd.linux.seccomp import bpf, default, oci
from podd.linux.seccomp.rules import ALLOW, ENOSYS, EPERM, KILL_PROCESS, Arg, Profile, error
from podd.linux.seccomp.written import written

X86_64, X86, AARCH64 = pyseccomp.Arch.X86_64, pyseccomp.Arch.X86, pyseccomp.Arch.AARCH64
NOBODY = 0
SYS_ADMIN = mask_of(["SYS_ADMIN"])


def words(text: str) -> list[str]:
    return text.split()


def run_bpf(program: bytes, arch: int, nr: int, args: tuple[int, ...] = ()) -> int:
    """What the kernel would do: the part of classic BPF that libseccomp uses."""
    data = struct.pack("<IIQ6Q", nr, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    acc = pc = 0
    while True:
        op, jt, jf, k = code[pc]
        pc += 1
        match op:
            case 0x20:
                acc = int(struct.unpack_from("<I", data, k)[0])
            case 0x06:
                return int(k)
            case 0x05:
                pc += k
            case 0x15:
                pc += jt if acc == k else jf
            case 0x25:
                pc += jt if acc > k else jf
            case 0x35:
                pc += jt if acc >= k else jf
            case 0x54:
                acc &= k
            case _:
                raise AssertionError(f"unknown instruction {op:#x}")


def compiled(capabilities: int, machine: str = "x86_64") -> bytes:
    return bpf.compile_profile(default.profile(machine, capabilities), "runtime/default")


PLAIN = compiled(NOBODY)


def answer(name: str, *args: int, program: bytes = PLAIN, arch: int = X86_64) -> int:
    number = pyseccomp.resolve_syscall(arch, name)
    assert number >= 0, f"{name} is no call there"
    return run_bpf(program, arch, number, args)


# ---- the default profile ---------------------------------------------------------------------------------------------

NEWER_THAN_SOME_LIBSECCOMP = words(
    "cachestat fchmodat2 file_getattr file_setattr futex_requeue futex_wait futex_wake getxattrat listmount listns "
    "listxattrat lsm_get_self_attr lsm_list_modules lsm_set_self_attr map_shadow_stack mseal open_tree_attr "
    "removexattrat rseq_slice_yield setxattrat statmount uprobe uretprobe"
)


def test_every_name_is_a_real_call() -> None:
    arches = (X86_64, X86, AARCH64, pyseccomp.Arch.ARM)
    strange = {
        name
        for name in default.profile("x86_64", ALL).known
        if all(pyseccomp.resolve_syscall(arch, name) == -1 for arch in arches)
    }
    assert strange <= set(NEWER_THAN_SOME_LIBSECCOMP)


@pytest.mark.parametrize("arch", [X86_64, X86], ids=["x86_64", "i386"])
@pytest.mark.parametrize(
    "name",
    words(
        "add_key bpf chroot clock_settime delete_module fsopen init_module io_uring_enter io_uring_register iopl "
        "io_uring_setup ioperm kcmp kexec_load keyctl mbind mount mount_setattr move_mount open_by_handle_at open_tree "
        "perf_event_open pidfd_getfd pivot_root quotactl reboot request_key setns settimeofday swapoff swapon syslog "
        "umount2 unshare uselib userfaultfd vhangup"
    ),
)
def test_what_reaches_out_of_a_container_is_refused(name: str, arch: int) -> None:
    assert answer(name, arch=arch) == EPERM


@pytest.mark.parametrize(("capability", "calls"), default.WITH_CAPABILITY.items())
def test_a_capability_brings_its_calls_and_no_others(capability: str, calls: str) -> None:
    with_it = compiled(mask_of([capability]))
    every = {name for name in default.profile("x86_64", ALL).known if pyseccomp.resolve_syscall(X86_64, name) >= 0}
    changed = {name for name in every if answer(name, program=with_it) != answer(name)}
    assert changed <= set(calls.split())
    refused = {name for name in set(calls.split()) & every if answer(name, program=with_it) != ALLOW}
    assert not refused


FAMILIES = [family for family in range(48) if family not in (38, 40)]


@given(st.one_of(st.integers(0, 60), st.sampled_from([38, 40])), st.integers(0, 2**32 - 1))
def test_no_vsock_and_no_kernel_crypto_whatever_the_unused_half_holds(family: int, garbage: int) -> None:
    """The kernel takes the family as an int: what stands in the other 32 bits must not decide."""
    allowed = ALLOW if family in FAMILIES else EPERM
    assert answer("socket", family | garbage << 32) == allowed
    assert run_bpf(PLAIN, X86, 359, (family,)) == allowed  # socket(2) of i386


def test_the_32_bit_socketcall_makes_no_sockets_and_does_the_rest() -> None:
    """socketcall(SYS_SOCKET) hides the family behind a pointer."""
    answers = {call: answer("socketcall", call, arch=X86) for call in range(1, 21)}
    assert answers == {call: EPERM if call == 1 else ALLOW for call in range(1, 21)}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("bit", range(32))
def test_clone_makes_processes_and_threads_but_no_namespaces(machine: str, bit: int) -> None:
    namespaces = {17, 25, 26, 27, 28, 29, 30}
    program = compiled(NOBODY, machine)
    for name in default.ARCHITECTURES[machine]:
        arch = getattr(pyseccomp.Arch, name)
        assert answer("clone", 1 << bit, program=program, arch=arch) == (EPERM if bit in namespaces else ALLOW)


def test_clone3_hides_its_flags_so_libc_is_told_there_is_none() -> None:
    assert answer("clone3") == ENOSYS
    assert answer("clone3", program=compiled(SYS_ADMIN)) == ALLOW


@pytest.mark.parametrize("capabilities", [NOBODY, DEFAULT, ALL])
def test_calls_newer_than_the_profile_do_not_exist(capabilities: int) -> None:
    program = compiled(capabilities)
    for arch in (X86_64, X86):
        for number in (600, 1000, 0x3FFFFFFF):
            assert run_bpf(program, arch, number) == ENOSYS
    assert run_bpf(program, X86_64, 0x40000000 | 1) == ENOSYS, "write(2) of x32"
    assert run_bpf(program, X86_64, 0xFFFFFFFF) == ENOSYS


def test_a_program_of_another_architecture_is_killed() -> None:
    assert run_bpf(PLAIN, AARCH64, 64) == KILL_PROCESS


@pytest.mark.parametrize(
    ("value", "allowed"),
    [(0, True), (8, True), (0x20000, True), (0xFFFFFFFF, True), (0x0040000, False), (1 << 32, False)],
)
def test_personality_is_asked_and_set_to_linux_alone(value: int, *, allowed: bool) -> None:
    assert answer("personality", value) == (ALLOW if allowed else EPERM)


def test_an_unknown_machine_is_told_what_there_is() -> None:
    with pytest.raises(Unsupported, match="no default profile for vax: there is one for x86_64, aarch64"):
        default.profile("vax", 0)


def test_the_kernel_takes_a_program_of_every_capability() -> None:
    assert len(compiled(ALL)) // 8 < 4096 // 2


# ---- profiles in files -----------------------------------------------------------------------------------------------

DENY = "SCMP_ACT_ERRNO"


def write(tmp_path: Path, content: object) -> str:
    file = tmp_path / "profile.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def load(tmp_path: Path, content: object, *, capabilities: int = 0, release: str = "6.1.0-18-amd64") -> bytes:
    path = write(tmp_path, content)
    return bpf.compile_profile(oci.load(path, "x86_64", release, capabilities), path)


def one_rule(**rule: Any) -> dict[str, Any]:
    return {"defaultAction": DENY, "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", **rule}]}


def test_a_file_decides_alone(tmp_path: Path) -> None:
    content = {
        "defaultAction": DENY,
        "defaultErrnoRet": 95,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "comment": "enough"},
            {"name": "reboot", "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["getpid"], "action": DENY, "errno": "EPERM", "errnoRet": 5},
            {"names": ["tee"], "action": DENY, "errnoRet": 5},
        ],
    }
    program = load(tmp_path, content)
    answers = {name: answer(name, program=program) for name in ("read", "reboot", "getpid", "tee", "brk")}
    assert answers == {"read": ALLOW, "reboot": KILL_PROCESS, "getpid": EPERM, "tee": error(5), "brk": error(95)}
    assert run_bpf(program, X86_64, 0x40000000 | 1) == ALLOW, "write(2) of x32, which it names"
    assert run_bpf(program, X86_64, 400) == ENOSYS, "beyond all it names"
    assert run_bpf(program, X86, 4) == KILL_PROCESS


def test_a_list_of_refusals_leaves_newer_calls_alone(tmp_path: Path) -> None:
    content = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["reboot"], "action": DENY, "errnoRet": 13}]}
    program = load(tmp_path, content)
    assert answer("reboot", program=program) == error(13)
    assert run_bpf(program, X86_64, 600) == ALLOW


def test_an_empty_profile_denies_all(tmp_path: Path) -> None:
    assert answer("read", program=load(tmp_path, {"defaultAction": DENY})) == EPERM


def test_architectures_come_from_the_map_for_this_machine(tmp_path: Path) -> None:
    content = one_rule()
    content["archMap"] = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    program = load(tmp_path, content)
    assert answer("mount", program=program, arch=X86) == ALLOW
    assert run_bpf(program, pyseccomp.Arch.ARM, 1) == KILL_PROCESS


@pytest.mark.parametrize(
    ("conditions", "capabilities", "release", "applies"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, SYS_ADMIN, "6.1", True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, 0, "6.1", False),
        ({"includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, SYS_ADMIN, "6.1", False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, SYS_ADMIN, "6.1", False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, 0, "6.1", True),
        ({"includes": {"arches": ["amd64"]}}, 0, "6.1", True),
        ({"includes": {"arches": ["arm64"]}}, 0, "6.1", False),
        ({"excludes": {"arches": ["amd64", "s390"]}}, 0, "6.1", False),
        ({"includes": {"minKernel": "4.8"}}, 0, "6.1.0-18-amd64", True),
        ({"includes": {"minKernel": "6.10"}}, 0, "6.9.3", False),
        ({"includes": {}, "excludes": None}, 0, "6.1", True),
    ],
)
def test_a_rule_applies_where_it_says(
    tmp_path: Path, conditions: dict[str, Any], capabilities: int, release: str, *, applies: bool
) -> None:
    program = load(tmp_path, one_rule(**conditions), capabilities=capabilities, release=release)
    assert answer("mount", program=program) == (ALLOW if applies else EPERM)


@pytest.mark.parametrize(
    ("op", "value", "second", "passes", "fails"),
    [
        ("EQ", 7, 0, [7], [6, 8, 7 << 32]),
        ("NE", 7, 0, [6, 8], [7]),
        ("LT", 7, 0, [0, 6], [7, 8]),
        ("LE", 7, 0, [7], [8]),
        ("GE", 7, 0, [7, 1 << 40], [6]),
        ("GT", 7, 0, [8], [7]),
        ("MASKED_EQ", 0xF0, 0x20, [0x20, 0x12F], [0x30, 0]),
    ],
)
def test_an_argument_decides(
    tmp_path: Path, op: str, value: int, second: int, passes: list[int], fails: list[int]
) -> None:
    arg = {"index": 1, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second}
    program = load(tmp_path, one_rule(args=[arg]))
    assert {answer("mount", 0, n, program=program) for n in passes} == {ALLOW}
    assert {answer("mount", 0, n, program=program) for n in fails} == {EPERM}


def test_conditions_on_two_arguments_hold_together_and_on_one_apart(tmp_path: Path) -> None:
    two = [{"index": n, "value": 5, "op": "SCMP_CMP_EQ"} for n in (0, 1)]
    program = load(tmp_path, one_rule(args=two))
    assert [answer("mount", *args, program=program) for args in ((5, 5), (5, 1))] == [ALLOW, EPERM]
    one = [{"index": 0, "value": n, "op": "SCMP_CMP_EQ"} for n in (5, 6)]
    program = load(tmp_path, one_rule(args=one))
    assert [answer("mount", n, program=program) for n in (5, 6, 7)] == [ALLOW, ALLOW, EPERM]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("{", "not JSON: Expecting property name.* line 1 column 2"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the file is not an object"),
        ({}, "defaultAction is missing"),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "defaultAction is SCMP_ACT_MAYBE; there are"),
        ({"defaultAction": 3}, "defaultAction is 3, not a string"),
        ({"defaultAction": DENY, "defaultErrnoRet": "EPERM"}, 'defaultErrnoRet is "EPERM", not a whole number'),
        ({"defaultAction": DENY, "defaultErrnoRet": 70000}, "defaultErrnoRet is 70000"),
        ({"defaultAction": DENY, "defaultErrno": "ENOPE"}, 'defaultErrno is "ENOPE", not the name of an error'),
        ({"defaultAction": DENY, "sycalls": []}, "sycalls is no key here; there are .*syscalls"),
        ({"defaultAction": DENY, "syscalls": {}}, "syscalls is not a list"),
        ({"defaultAction": DENY, "syscalls": [3]}, r"syscalls\[0\] is not an object"),
        ({"defaultAction": DENY, "flags": ["X"]}, "flags has X; there are"),
        ({"defaultAction": DENY, "architectures": ["SCMP_ARCH_VAX"]}, "unknown architecture VAX"),
        (one_rule(names=[]), r"syscalls\[0\].names is empty"),
        (one_rule(names=["read", 3]), r"syscalls\[0\].names\[1\] is 3, not a string"),
        (one_rule(action=None), r"syscalls\[0\].action is missing"),
        (one_rule(args=[{"index": 6, "op": "SCMP_CMP_EQ"}]), r"syscalls\[0\].args\[0\].index is 6"),
        (one_rule(args=[{"index": True, "op": "SCMP_CMP_EQ"}]), r"args\[0\].index is true"),
        (one_rule(args=[{"op": "SCMP_CMP_EQUAL"}]), r"args\[0\].op is SCMP_CMP_EQUAL; there are NE, LT"),
        (one_rule(args=[{"op": "SCMP_CMP_EQ", "value": -1}]), r"args\[0\].value is -1"),
        (one_rule(includes={"caps": ["CAP_FLY"]}), r"includes.caps has CAP_FLY, which is no capability"),
        (one_rule(includes={"minKernel": "new"}), r'includes.minKernel is not like "5.10"'),
        (one_rule(includes=[1]), r"includes is not an object"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path: Path, content: object, place: str) -> None:
    with pytest.raises(Invalid, match=f"^seccomp profile {tmp_path}/profile.json: .*{place}"):
        load(tmp_path, content)


@pytest.mark.parametrize("content", [{"defaultAction": "SCMP_ACT_NOTIFY"}, {"listenerPath": "/x"}])
def test_a_profile_that_wants_a_listener_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(Unsupported, match="podd passes no notifications on"):
        load(tmp_path, content)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-1, 300) | st.sampled_from(["read", DENY, "SCMP_ACT_ALLOW", "EQ", ""]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(words("defaultAction syscalls names action args index op value includes caps flags")),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    path = write(tmp_path_factory.mktemp("any"), {"defaultAction": DENY, "syscalls": content})
    with contextlib.suppress(PoddError):
        oci.load(path, "x86_64", "6.1", 0)


# ---- programs --------------------------------------------------------------------------------------------------------


def test_profiles_are_found_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, one_rule())
    assert seccomp.program("unconfined", DEFAULT) == b""
    assert seccomp.program("runtime/default", DEFAULT) is seccomp.program("runtime/default", DEFAULT)
    assert seccomp.program("runtime/default", DEFAULT) != seccomp.program("runtime/default", ALL)
    first = seccomp.program(f"localhost/{path}", 0)
    assert answer("mount", program=first) == ALLOW
    write(tmp_path, {"defaultAction": DENY})
    assert answer("mount", program=seccomp.program(f"localhost/{path}", 0)) == EPERM


@pytest.mark.parametrize("name", ["", "docker/default", "localhost/relative.json", "runtime/other", "localhost/"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match='use "runtime/default"'):
        seccomp.program(name, 0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=f"{tmp_path}/none.json: cannot read it: No such file"):
        seccomp.program(f"localhost/{tmp_path}/none.json", 0)


def test_without_libseccomp_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    with pytest.raises(Unavailable, match="apt install libseccomp2"):
        compiled(12345)


def test_importing_it_loads_neither_json_nor_libseccomp() -> None:
    code = "import sys; old = set(sys.modules); import podd.linux.seccomp; print(*set(sys.modules) - old)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"json", "pyseccomp", "ctypes", "podd.linux.seccomp.default"} & set(loaded)


# ---- programs at work ------------------------------------------------------------------------------------------------


def confined(code: str, capabilities: int | None, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python code under the default profile (None: without) as a process that keeps root's capabilities."""
    program = b"" if capabilities is None else compiled(capabilities)
    load = (
        "import sys; from podd.linux import syscalls\n"
        f"program = {program!r}\n"
        "if program: syscalls.prctl(syscalls.Prctl.SET_NO_NEW_PRIVS, 1); syscalls.load_seccomp_filter(program)\n"
    )
    command = [sys.executable, "-c", load + code, *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


CALLS = {
    "mount": (0, 0, 0, 0, 0),
    "umount2": (0, 0),
    "unshare": (0,),
    "setns": (-1, 0),
    "keyctl": (0, -1, 0),
    "add_key": (0, 0, 0, 0, 0),
    "request_key": (0, 0, 0, 0),
    "reboot": (0, 0, 0, 0),
    "bpf": (-1, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "userfaultfd": (-1,),
    "io_uring_setup": (0, 0),
    "fsopen": (0, 0),
    "open_tree": (-1, 0, 0),
    "pivot_root": (0, 0),
    "chroot": (0,),
    "swapon": (0, 0),
    "delete_module": (0, 0),
    "kexec_load": (0, 99, 0, 0),
    "open_by_handle_at": (-1, 0, 0),
    "clock_settime": (0, 0),
}
TRY = """
import ctypes, errno, json
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, (number, args) in json.loads(sys.argv[1]).items():
    done = libc.syscall(number, *[ctypes.c_long(arg) for arg in args])
    found[name] = errno.errorcode[ctypes.get_errno()] if done < 0 else "done"
print(json.dumps(found))
"""


def tried(capabilities: int | None, calls: dict[str, tuple[int, ...]]) -> dict[str, str]:
    native = {name: (pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name), args) for name, args in calls.items()}
    result = confined(TRY, capabilities, json.dumps(native))
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


@pytest.mark.root
def test_the_kernel_refuses_what_root_could_do_unconfined() -> None:
    assert tried(NOBODY, CALLS) == dict.fromkeys(CALLS, "EPERM")
    unconfined = tried(None, CALLS)
    assert "EPERM" not in unconfined.values(), "else the filter was not what refused above"


@pytest.mark.root
def test_the_kernel_lets_through_what_capabilities_bring() -> None:
    names = [name for calls in default.WITH_CAPABILITY.values() for name in calls.split() if name in CALLS]
    found = tried(ALL, {name: CALLS[name] for name in names})
    assert "EPERM" not in found.values()
    never = {name: args for name, args in CALLS.items() if name not in names}
    assert set(tried(ALL, never).values()) == {"EPERM"}
    assert {"keyctl", "add_key", "io_uring_setup", "userfaultfd", "kexec_load"} <= never.keys()


def test_sockets_threads_and_tracing_as_the_kernel_sees_them() -> None:
    calls = {"clone3": (0, 0), "ptrace": (0, 0, 0, 0), "personality": (0xFFFFFFFF,), "getpid": ()}
    assert tried(NOBODY, calls) == {"clone3": "ENOSYS", "ptrace": "done", "personality": "done", "getpid": "done"}
    for family, expected in ((1, "done"), (2, "done"), (38, "EPERM"), (40, "EPERM"), (38 | 1 << 32, "EPERM")):
        assert tried(NOBODY, {"socket": (family, 2, 0)}) == {"socket": expected}


ORDINARY = {
    "threads": "import threading; t = [threading.Thread(target=print) for _ in range(4)]; [x.start() for x in t]",
    "subprocess": "import subprocess; subprocess.run(['sh', '-c', 'ls / | wc -l && sleep 0'], check=True)",
    "fork": "import os; pid = os.fork(); pid or os._exit(7); assert os.waitpid(pid, 0)[1] == 7 << 8",
    "pool": "from concurrent.futures import ProcessPoolExecutor as P; print(list(P(2).map(abs, [-1, -2])))",
    "asyncio": "import asyncio; asyncio.run(asyncio.create_subprocess_exec('true'))",
    "network": "import socket as s; a = s.create_server(('127.0.0.1', 0)); b = s.create_connection(a.getsockname())",
    "files": "import tempfile, os, shutil; d = tempfile.mkdtemp(); os.symlink('a', d + '/b'); shutil.rmtree(d)",
    "memory": "import mmap; m = mmap.mmap(-1, 1 << 20); m[0] = 1; m.madvise(mmap.MADV_DONTNEED)",
    "shared memory": "import multiprocessing.shared_memory as m; s = m.SharedMemory(create=True, size=9); s.unlink()",
    "signals": "import signal; signal.signal(14, lambda *a: None); signal.setitimer(0, 0.01); signal.pause()",
    "watching": "import select, os; e = select.epoll(); e.register(os.eventfd(1), 1); assert e.poll(1)",
    "database": "import sqlite3; sqlite3.connect(':memory:').execute('select 1')",
    "names": "import pwd, platform, time; pwd.getpwuid(0); platform.uname(); time.localtime()",
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_programs_notice_nothing(what: str) -> None:
    program = "import warnings; warnings.simplefilter('ignore')\n"
    result = confined(program + ORDINARY[what], NOBODY)
    assert result.returncode == 0, result.stderr


# ---- written down for a runtime


@pytest.mark.parametrize("capabilities", [0, DEFAULT, ALL], ids=["none", "default", "all"])
def test_a_profile_written_down_for_a_runtime_is_read_as_the_same(tmp_path: Path, capabilities: int) -> None:
    """But for socketcall(2), which libseccomp works out of the calls that it stands for."""
    profile = default.profile("x86_64", capabilities)
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(written(profile)))
    again = oci.load(str(file), "x86_64", "6.1.0", capabilities)
    assert (again.default, list(again.architectures)) == (profile.default, list(profile.architectures))
    assert _flat(again) == _flat(profile) - {("socketcall", ALLOW, ())}


def _flat(profile: Profile) -> set[tuple[str, int, tuple[Arg, ...]]]:
    return {(name, rule.action, rule.args) for rule in profile.rules for name in rule.names}


def test_no_filter_for_a_runtime() -> None:
    assert seccomp.for_runtime("unconfined", DEFAULT) is None
    assert seccomp.for_runtime("runtime/default", DEFAULT) == written(default.profile(os.uname().machine, DEFAULT))
