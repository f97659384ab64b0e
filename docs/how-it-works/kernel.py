"""The system calls that Python has no function for, and `show`, which prints what the kernel says of this process."""

import ctypes
import os
import platform
import struct
import sys

if sys.platform != "linux" or platform.machine() != "x86_64":
    sys.exit("these programs need Linux on x86_64: they call the kernel by numbers")

libc = ctypes.CDLL(None, use_errno=True)
PIVOT_ROOT, CLONE3, MOUNT_SETATTR = 155, 435, 442  # what has no function in libc is called by its number

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000  # sched.h
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_INTO_CGROUP = 0x10000000, 0x20000000, 0x40000000, 0x200000000
SIGCHLD = 17

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 1, 2, 4, 8, 4096, 16384, 1 << 18, 1 << 19
SAFE = MS_NOSUID | MS_NODEV | MS_NOEXEC
MNT_DETACH = 2
ATTR_RDONLY, ATTR_NOSUID = 1, 2  # of mount_setattr

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 22, 24, 38  # prctl.h


def call(name, *words):
    """A function of libc; raises OSError, with the first path among the words in it."""
    words = [each.encode() if isinstance(each, str) else ctypes.c_ulong(each) if isinstance(each, int) else each for each in words]
    result = getattr(libc, name)(*words)
    if result < 0:
        number = ctypes.get_errno()
        path = next((each.decode() for each in words if isinstance(each, bytes) and each[:1] == b"/"), None)
        raise OSError(number, f"{name}: {os.strerror(number)}", path)
    return result


def mount(kind, target, flags=0, data=""):
    """A file system of that kind on `target`."""
    call("mount", kind, target, kind, flags, data)


def bind(source, target):
    """What is at `source`, and all below it, at `target` too."""
    call("mount", source, target, None, MS_BIND | MS_REC, None)


def propagation(flags):
    """How all mounts of this namespace behave towards others."""
    call("mount", None, "/", None, flags | MS_REC, None)


def read_only(target, flags=ATTR_RDONLY):
    """A mount, and all below it: mount_setattr(2)."""
    everything_below, at_cwd = 0x8000, -100
    call("syscall", MOUNT_SETATTR, at_cwd, target, everything_below, struct.pack("QQQQ", flags, 0, 0, 0), 32)


def pivot_root(new, old):
    """`new` becomes /, what was / is from now on at `old`."""
    call("syscall", PIVOT_ROOT, new, old)


def clone3(flags, cgroup=None):
    """Like fork, into new namespaces, and into a group of cgroup v2 where a descriptor of one is given."""
    if cgroup is not None:
        flags |= CLONE_INTO_CGROUP
    return call("syscall", CLONE3, struct.pack("11Q", flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, cgroup or 0), 88)


def show(when, path, *names):
    """Print a link, or the lines of a file, or only those that begin with (or, as a mount's, are for) one of the names."""
    if os.path.islink(path):
        lines = [os.readlink(path)]
    else:
        with open(path) as file:
            lines = [line.rstrip("\n").replace("\t", " ") for line in file]
        if names:
            lines = [line for line in lines if line.strip().startswith(names)]
    for line in lines or ["(nothing)"]:
        print(f"{when:<7} {path}  {line}", flush=True)
