"""The profile "runtime/default": what programs in a container need, and nothing that reaches out of it.

Whatever is not named here fails with EPERM. That is, by design: the kernel's keyrings (add_key, request_key, keyctl:
not divided into namespaces), io_uring and userfaultfd (a long history of holes, and a way past filters like this one),
kexec and swap, reading the host's memory layout, and calls that were removed or never became real. clone3 fails with
ENOSYS, because its flags lie behind a pointer where no filter sees them: libc then uses clone, whose flags are checked.
"""

from __future__ import annotations

from podd.errors import Unsupported
from podd.linux.capabilities import BITS
from podd.linux.seccomp.rules import ALLOW, ENOSYS, EPERM, Arg, Profile, Rule

ARCHITECTURES = {
    # x32 is left out: nothing is built for it, and its numbers are a second door to every call.
    "x86_64": ("X86_64", "X86"),
    "aarch64": ("AARCH64", "ARM"),
}

_FILES = """
    access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64
    getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek
    lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
    openat openat2 pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readdir readlink
    readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr
    setxattrat splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
    sync_file_range2 arm_sync_file_range arm_fadvise64_64 syncfs tee truncate truncate64 umask unlink unlinkat
    utime utimensat utimensat_time64 utimes vmsplice write writev listmount statmount
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 fanotify_mark
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6
    pselect6_time64 select signalfd signalfd4
"""
_MEMORY = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
    mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
    process_madvise process_mrelease remap_file_pages shmat shmctl shmdt shmget
"""
_NETWORK = """
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
    recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_OTHER_IPC = """
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64
"""
_TIME = """
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times
"""
_SIGNALS = """
    kill pause pidfd_open pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sigaction sigaltstack signal sigpending sigprocmask sigreturn sigsuspend tgkill tkill
"""
_PROCESSES = """
    arch_prctl set_tls cacheflush breakpoint capget capset execve execveat exit exit_group fork
    futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid
    getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid
    getuid32 ioprio_get ioprio_set landlock_add_rule landlock_create_ruleset landlock_restrict_self
    lsm_get_self_attr lsm_list_modules lsm_set_self_attr modify_ldt nice prctl prlimit64 process_vm_readv
    process_vm_writev ptrace rseq rseq_slice_yield sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
    seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
    setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setuid setuid32 sysinfo ugetrlimit uname uprobe uretprobe
    vfork wait4 waitid waitpid
"""
# ptrace and process_vm_* reach only what the kernel's own check lets them reach: processes of the container's pid
# namespace, of the same user, with no more capabilities.

_ALWAYS = " ".join((_FILES, _WAITING, _MEMORY, _NETWORK, _OTHER_IPC, _TIME, _SIGNALS, _PROCESSES)).split()

_MOUNTING = """
    fsconfig fsmount fsopen fspick listns mount mount_setattr move_mount open_tree open_tree_attr pivot_root
    setns umount umount2 unshare
"""
WITH_CAPABILITY = {
    "BPF": "bpf",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "PERFMON": "perf_event_open",
    "SYS_ADMIN": f"{_MOUNTING} bpf clone clone3 fanotify_init lookup_dcookie perf_event_open quotactl quotactl_fd "
    "setdomainname sethostname syslog",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module finit_module init_module",
    "SYS_NICE": "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd",
    "SYS_RAWIO": "ioperm iopl",
    "SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "SYS_TTY_CONFIG": "vhangup",
    "SYSLOG": "syslog",
}
"""Calls that a container may make once it has been given the capability that the kernel asks for."""

_CLONE_NEW = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_SYS_ADMIN = 1 << BITS["SYS_ADMIN"]
_INT = 0xFFFFFFFF  # the kernel takes the low half of such an argument, so nothing may depend on the high one

# All families below 48 but AF_ALG (38: the kernel's crypto, needed by nearly no one and often broken) and AF_VSOCK
# (40: a way to the hypervisor that no network namespace closes), as ranges aligned to powers of two.
_FAMILIES = ((0, 32), (32, 4), (36, 2), (39, 1), (41, 1), (42, 2), (44, 4))

# Linux, 32-bit Linux, both with UNAME26, and the question which one it is. Not ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def profile(machine: str, capabilities: int) -> Profile:
    """The default profile for a container with this mask of capabilities. Raises Unsupported: an unknown machine."""
    if machine not in ARCHITECTURES:
        others = ", ".join(ARCHITECTURES)
        raise Unsupported(f"seccomp: no default profile for {machine}: there is one for {others}")
    granted = [calls.split() for name, calls in WITH_CAPABILITY.items() if capabilities >> BITS[name] & 1]
    rules = [
        Rule(_ALWAYS, ALLOW),
        *(Rule(calls, ALLOW) for calls in granted),
        *(Rule(["socket"], ALLOW, (Arg(0, "MASKED_EQ", _INT & -size, first),)) for first, size in _FAMILIES),
        *(Rule(["personality"], ALLOW, (Arg(0, "EQ", value),)) for value in _PERSONALITIES),
    ]
    if not capabilities & _SYS_ADMIN:
        rules += [Rule(["clone"], ALLOW, (Arg(0, "MASKED_EQ", _CLONE_NEW, 0),)), Rule(["clone3"], ENOSYS)]
    named = frozenset(_ALWAYS).union(*(calls.split() for calls in WITH_CAPABILITY.values()))
    return Profile(EPERM, ARCHITECTURES[machine], rules, named, whole_socketcall=False)
