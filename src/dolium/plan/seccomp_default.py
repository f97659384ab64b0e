"""The default seccomp profile: what a container may ask of the kernel when nobody says otherwise.

The effect is that of Docker's default profile (moby/profiles, state of June 2026), so an image that runs there runs
here; the grouping, the reasons and the exceptions noted below are ours.  Every call of the kernel's tables stands in
one of these places, which a test checks, so that a new call gets a decision and a reason:

- ALLOWED: what ordinary programs need, and what the kernel guards well enough by itself;
- BY_CAPABILITY: useless without a capability, so allowed together with it;
- RULES: allowed with certain arguments;
- DENIED: answered with EPERM.

A call with a higher number than all that are named here is answered with ENOSYS (see `seccomp.compile`), as on a kernel
that does not have it, so that programs fall back.

It stands beside capabilities, namespaces and LSMs, not in their place: most calls it denies would fail anyhow.  It
keeps code of the kernel out of reach in which the next hole may be: mostly what is new, rarely used, or was written for
root and later opened to user namespaces.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALLOWED = (
    ("programs, processes and threads", """
        execve execveat fork vfork exit exit_group wait4 waitid waitpid
        getpid getppid gettid getpgid getpgrp setpgid getsid setsid set_tid_address
        futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue get_robust_list set_robust_list
        membarrier rseq getcpu arch_prctl modify_ldt get_thread_area set_thread_area
        prctl kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease restart_syscall uretprobe"""),
    # Debuggers and crash handlers.  Safe from 4.8 on, where a tracer can no longer change a call after the filter has
    # seen it (seccomp(2), "Caveats"; kernel commit 93e35efb8de4); whom one may trace is ptrace(2)'s own check.
    ("tracing one's own processes", "ptrace process_vm_readv process_vm_writev"),
    ("signals and events", """
        rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn signalfd signalfd4 pause
        poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64
        epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
        eventfd eventfd2 inotify_add_watch inotify_init inotify_init1 inotify_rm_watch fanotify_mark"""),
    ("memory", """
        brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall mseal
        remap_file_pages pkey_alloc pkey_free pkey_mprotect map_shadow_stack memfd_create memfd_secret"""),
    # adjtimex and clock_adjtime also set the clock, for which the kernel wants CAP_SYS_TIME; reading it is what NTP
    # libraries and `ntpq` do.
    ("time", """
        time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep
        clock_nanosleep_time64 nanosleep alarm getitimer setitimer times adjtimex clock_adjtime clock_adjtime64
        timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
        timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64"""),
    ("open descriptors", """
        read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek close close_range
        dup dup2 dup3 pipe pipe2 fcntl fcntl64 flock ioctl sendfile sendfile64 splice tee vmsplice copy_file_range
        fsync fdatasync sync syncfs sync_file_range readahead fadvise64 fadvise64_64 fallocate cachestat
        ftruncate ftruncate64 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
        """),
    # openat2 has what a program needs against symlink races; name_to_handle_at only gives a name (its counterpart
    # open_by_handle_at is the danger, see CAP_DAC_READ_SEARCH).
    ("files and directories", """
        open openat openat2 creat access faccessat faccessat2 stat stat64 lstat lstat64 fstat fstat64 fstatat64
        newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount listmount getdents getdents64 getcwd chdir fchdir
        mkdir mkdirat rmdir mknod mknodat link linkat symlink symlinkat readlink readlinkat unlink unlinkat
        rename renameat renameat2 truncate truncate64 utime utimes futimesat utimensat utimensat_time64 umask
        chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 name_to_handle_at
        getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
        listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat"""),
    ("sockets (socket itself: see RULES)", """
        socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
        send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64 socketcall"""),
    ("System V and POSIX IPC, which have a namespace of their own", """
        ipc semget semctl semop semtimedop semtimedop_time64 shmget shmctl shmat shmdt msgget msgctl msgsnd msgrcv
        mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive
        mq_timedreceive_time64"""),
    ("who one is", """
        getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32
        getresuid getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32
        setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32
        setfsuid setfsuid32 setfsgid setfsgid32 capget capset"""),
    ("scheduling and limits", """
        sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
        sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_rr_get_interval_time64 getpriority setpriority ioprio_get ioprio_set
        getrlimit ugetrlimit setrlimit prlimit64 getrusage"""),
    ("what system this is, and chance", "uname sysinfo getrandom"),
    ("giving up rights of one's own", "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
)

BY_CAPABILITY = {
    # Mounting, namespaces, hostnames, quotas: what the capability is for.
    "CAP_SYS_ADMIN": """
        mount umount umount2 mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick
        clone clone3 unshare setns sethostname setdomainname quotactl quotactl_fd fanotify_init
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules bpf perf_event_open syslog lookup_dcookie""",
    "CAP_BPF": "bpf",                # CVE-2021-3490, CVE-2022-23222: the verifier, reached by the unprivileged
    "CAP_PERFMON": "perf_event_open",  # CVE-2013-2094, CVE-2023-5717
    "CAP_SYSLOG": "syslog",          # the host's kernel log: addresses, other containers' names
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_NICE": "get_mempolicy set_mempolicy set_mempolicy_home_node mbind",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_BOOT": "reboot",
    # Opens any inode of a file system by number, past every directory above it: the 2014 escape called "shocker".
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
}

DENIED = (
    # CVE-2022-29582, CVE-2023-2598, CVE-2024-0582 and many more; and what a ring does, no filter sees.
    ("io_uring", "io_uring_setup io_uring_enter io_uring_register"),
    # Keys are kept per user, not per container (keyrings(7)), and CVE-2016-0728 made them a way to root.
    ("the kernel's keyrings", "add_key request_key keyctl"),
    # Lets a program stop the kernel in the middle of a copy for as long as it likes, which turns races in the kernel
    # into certainties; userfaultfd(2) wants a privilege for it since 5.11.
    ("handling page faults", "userfaultfd"),
    # Moving other processes' pages between NUMA nodes.
    ("page migration", "migrate_pages move_pages"),
    ("a new kernel, or swap, for the whole host", "kexec_load kexec_file_load swapon swapoff"),
    # The runtime has done it; done again, it takes the root away under programs that enter later (`exec`).
    ("changing the root", "pivot_root"),
    ("old-style emulation of an 8086 in the kernel", "vm86 vm86old"),
    # Calls that were replaced, removed, or never there; what is left of them answers ENOSYS or is not worth its risk.
    ("of another age", """
        _sysctl afs_syscall bdflush break create_module ftime get_kernel_syms getpmsg gtty idle lock mpx nfsservctl nice
        oldfstat oldlstat oldolduname oldstat olduname prof profil putpmsg query_module readdir security sgetmask
        sigaction signal sigpending sigsuspend ssetmask stty sysfs tuxcall ulimit uselib ustat vserver"""),
    # Newer than the newest call that is named above, so ENOSYS; entered from the kernel's own trampoline only (uprobe).
    ("not looked at yet", "file_getattr file_setattr listns rseq_slice_yield uprobe"),
)


def _when(index: int, op: str, value: int, second: int = 0) -> "dict[str, Any]":
    return {"index": index, "op": "SCMP_CMP_" + op, "value": value, "valueTwo": second}


# The kernel reads an `int` argument from the lower half of its register, and a C caller may leave anything in the upper
# half.  A comparison of all 64 bits would answer such a call by chance, and lets one through that hides a denied value
# behind a set bit 32 (as "not 40" does in Docker's profile).  So: compare the lower half only.
_INT = 0xFFFFFFFF

# AF_VSOCK (40) knows no network namespace: it reaches the host and every virtual machine on it.  AF_ALG (38) opens the
# kernel's cryptography to whoever asks (CVE-2026-31431).  All other families up to 63, the kernel has 46, are allowed:
# each of these is a block of 2^n numbers.  A 32-bit program still gets at both through socketcall(2), whose arguments
# are in memory where no filter sees them; denying socketcall breaks too many of them (moby/profiles commit 3c28324).
_SOCKET_FAMILIES = ((0, 32), (32, 4), (36, 2), (39, 1), (41, 1), (42, 2), (44, 4), (48, 16))

# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.  A new user namespace makes a program root over
# kernel code that was written for root: CVE-2022-0185 (fsconfig), CVE-2022-25636 and CVE-2024-1086 (nf_tables).
_NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

RULES = (
    *(("socket", _when(0, "MASKED_EQ", _INT & -size, first)) for first, size in _SOCKET_FAMILIES),
    # PER_LINUX and PER_LINUX32, each with UNAME26 or without, and 0xffffffff, which only asks.  Others switch off
    # address randomisation, make all readable memory executable, or imitate systems long gone (personality(2)).
    ("personality", _when(0, "MASKED_EQ", _INT & ~(0x0020000 | 0x0008), 0)),
    ("personality", _when(0, "MASKED_EQ", _INT, 0xFFFFFFFF)),
)


def default_profile(capabilities: "frozenset[str]") -> "dict[str, Any]":
    """The default profile, as `linux.seccomp` of config.json, for a container with these capabilities.

    `capabilities` is the bounding set, names as "CAP_SYS_ADMIN": a program can regain anything in it by execve(2).
    The result is new each time and the caller's to change.
    """
    entries: "list[dict[str, Any]]" = [
        {"names": names.split(), "action": "SCMP_ACT_ALLOW"} for _, names in ALLOWED]
    entries += [
        {"names": names.split(), "action": "SCMP_ACT_ALLOW"}
        for capability, names in BY_CAPABILITY.items() if capability in capabilities]
    entries += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": [dict(when)]} for name, when in RULES]
    if "CAP_SYS_ADMIN" not in capabilities:
        entries += [
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [_when(0, "MASKED_EQ", _NEW_NAMESPACES, 0)]},
            # Its flags are in memory, so there is no rule to write; with ENOSYS the C libraries take clone instead.
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": entries,
    }
