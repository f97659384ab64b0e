"""Each hint, by the step and the errno that it is for; and that no other pair gets it."""

from __future__ import annotations

import errno
import inspect

import invent
import pytest

from dolium.core.wire import HOST, INSIDE, OPERATIONS, OUTSIDE, Step
from dolium.plan import hints, slots

ROOT = invent.facts("v2", id_base=invent.RANGE)
NESTED = invent.facts("none", rootless=True)
PLAIN = invent.facts("none", rootless=True, uid=1000, gid=1000)


def step(op: str, path: str = "", **fields: object) -> Step:
    return Step(op, HOST if op in ("set_limit", "make_group", "watch_oom") else INSIDE, "why", path=path, **fields)  # type: ignore[arg-type]


GROUP = "/sys/fs/cgroup/dolium/x"
TABLE = [
    (step("set_limit", f"{GROUP}/blkio.throttle.read_bps_device"), errno.ENODEV, ROOT, "no whole disk"),
    (step("set_limit", f"{GROUP}/io.max"), errno.ENODEV, ROOT, "no whole disk"),
    (step("netlink"), errno.EOPNOTSUPP, ROOT, "veth"),
    (step("netlink"), errno.ENODEV, ROOT, "once more"),
    (step("netlink"), errno.EPERM, ROOT, "CAP_NET_ADMIN"),
    (step("enter_net"), errno.EINVAL, ROOT, "no network namespace"),
    (Step("open", OUTSIDE, "linux.namespaces[2]"), errno.ENOENT, ROOT, "linux.namespaces[2].path"),
    (Step("join", OUTSIDE, "linux.namespaces[1]", what="join the uts namespace /x"), errno.EINVAL, ROOT, "[1].path: that file is no uts namespace"),
    (step("open"), errno.ENOSYS, ROOT, "older than Linux 5.10"),
    (step("clone"), errno.ENOSYS, ROOT, "older than Linux 5.10"),
    (step("unshare"), errno.ENOSPC, ROOT, "limit of namespaces"),
    (step("clone"), errno.ENOSPC, PLAIN, "limit of namespaces"),
    (step("write_file"), errno.ENOSPC, ROOT, "is full"),
    (step("new_mount", "tmpfs"), errno.EMFILE, ROOT, "ulimit -n"),
    (step("unshare"), errno.EPERM, PLAIN, "only root make user namespaces"),
    (step("unshare"), errno.EPERM, ROOT, "outer container"),
    (step("clone"), errno.EACCES, PLAIN, "only root make user namespaces"),
    (step("clone", fd=slots.CGROUP), errno.EACCES, PLAIN, "delegated to you with it: call from within that group"),
    (step("clone"), errno.EPERM, ROOT, "outer container"),
    (step("hostname"), errno.EPERM, PLAIN, "outer container or its seccomp profile"),
    (step("keyring"), errno.EPERM, ROOT, "outer container or its seccomp profile"),
    (step("unshare"), errno.EPERM, NESTED, "outer container or its seccomp profile"),
    (step("map_ids"), errno.EPERM, PLAIN, "only root make user namespaces"),
    (step("map_ids"), errno.EPERM, ROOT, "--userns host"),
    (step("new_mount", "proc"), errno.EPERM, ROOT, "part of proc is hidden"),
    (step("new_mount", "sysfs"), errno.EPERM, PLAIN, "part of sysfs is hidden"),
    (step("new_mount", "mqueue"), errno.ENODEV, ROOT, "no file system `mqueue`"),
    (step("open_tree", "/srv"), errno.ENOENT, ROOT, "does not exist on this host"),
    (step("open_tree", "/srv"), errno.EACCES, PLAIN, "may not read it"),
    (step("open_tree", "/srv"), errno.EPERM, PLAIN, "may not read it"),
    (step("open_tree", "/srv"), errno.EINVAL, PLAIN, "mounted below it"),
    (step("set_attr", fd2=4), errno.EINVAL, ROOT, "--userns host"),
    (step("set_attr", fd2=4), errno.EPERM, ROOT, "--userns host"),
    (step("move_mount", "/proc"), errno.ELOOP, ROOT, "no directory at /proc"),
    (step("move_mount", "/dev"), errno.ENOTDIR, ROOT, "no directory at /dev"),
    (step("move_mount", "/data"), errno.ENOTDIR, ROOT, "a file can only be mounted on a file"),
    (step("move_mount", "/data"), errno.EINVAL, ROOT, "a file can only be mounted on a file"),
    (step("write", "sys/net/x"), errno.ENOENT, ROOT, "no such setting"),
    (step("write", "sys/net/x"), errno.EACCES, ROOT, "cannot be changed from within a namespace"),
    (step("write", "sys/net/x"), errno.EPERM, ROOT, "cannot be changed from within a namespace"),
    (step("write", "sys/net/x"), errno.EINVAL, ROOT, "does not take this value"),
    (step("write", "sys/net/x"), errno.ERANGE, ROOT, "does not take this value"),
    (step("write", "/proc/self/oom_score_adj"), errno.EACCES, ROOT, "CAP_SYS_RESOURCE"),
    (step("clone"), errno.EAGAIN, ROOT, "`ulimit -u`"),
    (step("reap"), errno.EAGAIN, ROOT, "--pids-limit 2"),
    (step("exec", what="exec /bin/x"), errno.ENOENT, ROOT, "not in the container, or the interpreter"),
    (step("exec", what="exec /bin/x"), errno.ENOENT, ROOT, "CR LF"),
    (step("probe", what="exec /bin/x"), errno.ENOENT, ROOT, "not in the container"),
    (step("exec", what="exec x"), errno.ENOENT, ROOT, "PATH"),
    (step("exec", what="exec --memory"), errno.ENOENT, ROOT, "come before the image"),
    (step("exec", what="exec x"), errno.EACCES, ROOT, "not executable"),
    (step("exec", what="exec x"), errno.ENOEXEC, ROOT, "begins with #!"),
    (step("chdir", "/srv"), errno.ENOENT, ROOT, "--workdir"),
    (step("chdir", "/proc/self/fd/3"), errno.ELOOP, ROOT, "link of /proc"),
    (step("keyring"), errno.EDQUOT, ROOT, "/proc/key-users"),
    (step("seccomp"), errno.EBUSY, ROOT, "leave --why-denied out"),
    (step("mknod", "/dev/x"), errno.EEXIST, ROOT, "something else is there already"),
    (step("set_limit", f"{GROUP}/memory.limit_in_bytes"), errno.EINVAL, ROOT, "memory.swap"),
    (step("set_limit", f"{GROUP}/memory.swap.max"), errno.ENOENT, ROOT, "no memory.swap.max"),
    (step("set_limit", f"{GROUP}/devices.allow"), errno.EPERM, ROOT, "may not use all of these devices"),
    (step("device_filter"), errno.EPERM, ROOT, "CAP_BPF"), (step("device_filter"), errno.EINVAL, ROOT, "CONFIG_CGROUP_BPF"),
    (step("set_limit", f"{GROUP}/memory.max"), errno.EBUSY, ROOT, "below what the group uses"),
    (step("set_limit", f"{GROUP}/cpu.max"), errno.EINVAL, ROOT, "a quota of 1000 at least"),
    (step("set_limit", f"{GROUP}/cpuset.cpus"), errno.EINVAL, ROOT, "not all on this host"),
    (step("set_limit", f"{GROUP}/cpuset.cpus"), errno.EACCES, ROOT, "not all on this host"),
    (step("set_limit", f"{GROUP}/cpuset.mems"), errno.ERANGE, ROOT, "not all on this host"),
    (step("make_group", GROUP), errno.EACCES, ROOT, "not writable here"),
    (step("make_group", GROUP), errno.EPERM, ROOT, "not writable here"),
    (step("caps"), errno.EPERM, ROOT, "--userns auto"),
    (step("rlimit"), errno.EPERM, ROOT, "CAP_SYS_RESOURCE"),
    (step("read_file", "/etc/passwd"), errno.EFBIG, ROOT, "/etc/passwd is too large"),
    (step("ptmx", "/dev/pts"), errno.ENOSPC, ROOT, "/proc/sys/kernel/pty/max"),
    (step("ptmx", "/dev/pts"), errno.EMFILE, ROOT, "ulimit -n"),
    *((step("ptmx", "/dev/pts"), each, ROOT, "no terminals of its own") for each in (
        errno.ENOENT, errno.ENODEV, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)),
    (step("ctty"), errno.EPERM, ROOT, "taken the terminal first"),
]  # fmt: skip

NONE = [
    (step("mkdir"), errno.EPERM), (step("open_tree", "/srv"), errno.EIO), (step("exec", what="exec x"), errno.EIO),
    (step("set_limit", f"{GROUP}/pids.max"), errno.EINVAL), (step("move_mount", "/data"), errno.EPERM), (step("caps"), errno.EINVAL),
    (step("set_attr"), errno.EINVAL), (step("chdir", "/x"), errno.EACCES), (step("new_mount", "tmpfs"), errno.EPERM),
    (step("keyring"), errno.ENOMEM), (step("make_group"), errno.EEXIST), (step("rlimit"), errno.EINVAL), (step("read_file"), errno.EINVAL),
    (step("ptmx", "/dev/pts"), errno.EIO), (step("ctty"), errno.EINVAL),
]  # fmt: skip


@pytest.mark.parametrize(("step", "number", "facts", "wanted"), TABLE,
                         ids=[f"{row[0].op}-{errno.errorcode[row[1]]}-{index}" for index, row in enumerate(TABLE)])  # fmt: skip
def test_hint(step: Step, number: int, facts: object, wanted: str) -> None:
    found = hints.hint(step, number, facts)  # type: ignore[arg-type]
    assert wanted in found
    assert "\n" not in found and not found.endswith(".") and len(found) < 320


@pytest.mark.parametrize(("step", "number"), NONE, ids=lambda value: getattr(value, "op", value))
def test_where_the_error_says_it_all(step: Step, number: int) -> None:
    assert hints.hint(step, number, ROOT) == ""


def test_every_hint_is_in_the_table() -> None:
    """Every `return` of a text in hints.py is reached by a row above, by its line."""
    import sys

    reached: set[int] = set()

    def watch(frame: object, event: str, _: object) -> object:
        if event == "line":
            reached.add(frame.f_lineno)  # type: ignore[attr-defined]
        return watch

    before = sys.gettrace()
    sys.settrace(watch)  # type: ignore[arg-type]
    try:
        for row in TABLE:
            hints.hint(row[0], row[1], row[2])
    finally:
        sys.settrace(before)
    for function in (hints.hint, hints._source, hints._program, hints._limit, hints._network, hints._terminal):
        lines, first = inspect.getsourcelines(function)
        for number, line in enumerate(lines, first):
            if line.strip().startswith("return ") and line.strip() != 'return ""':
                assert number in reached, f"no test for line {number}: {line.strip()}"


def test_numbers_are_the_kernels() -> None:
    for name, value in vars(hints).items():
        if name.startswith("E") and name.isupper():
            assert getattr(errno, name) == value, name


def test_deeds() -> None:
    """What follows "cannot"."""
    assert hints.deed(Step("pivot_root", INSIDE, "x", what="pivot_root")) == "pivot_root"
    assert hints.deed(Step("rlimit", INSIDE, "x", what="RLIMIT_CORE = 0")) == "set RLIMIT_CORE = 0"
    assert hints.deed(Step("mkdir", OUTSIDE, "x", what="make 3 directories"), "/etc") == "mkdir /etc"
    assert hints.deed(Step("read_only", INSIDE, "x", what="y"), "/proc/sys") == "make /proc/sys read-only"
    for path, what, wanted in (("/x", "bind /tmp", "bind /tmp on /x"), ("/etc", "bind /etc/hostname", "bind /etc/hostname on /etc"), ("/x", "mount proc on /x", "mount proc on /x"),
                               ("/dev/null", "bind /dev/null", "bind /dev/null"), ("console", "bind it on /dev/console", "bind it on /dev/console")):  # fmt: skip
        assert hints.deed(Step("move_mount", INSIDE, "x", path=path, what=what)) == wanted
    assert {*hints.VERBS} <= {*OPERATIONS, "set_limit", "make_group", "watch_oom", "make_net", "nft", "resolver"}
