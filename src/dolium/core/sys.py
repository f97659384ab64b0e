"""System calls that Python has no name for, by ctypes; for cold paths only.

Paths below a rootfs are walked by openat2(2), which takes symbolic links as the container would: from the rootfs, never from the
host's root.
"""

import ctypes
import os

from dolium.errors import Unsupported

SYS_SYNCFS, SYS_OPENAT2 = {"x86_64": 306, "aarch64": 267}.get(os.uname().machine, -1), 437
"""Numbers of calls newer than Linux 5.1 are the same everywhere."""
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x01, 0x02, 0x04, 0x08, 0x10
ENOSYS, EAGAIN = 38, 11
ATTEMPTS = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *given: "int | bytes") -> int:
    """What it returns.  Bytes are passed by address.  Raises OSError."""
    result: int = _libc.syscall(
        ctypes.c_long(number), *(each if isinstance(each, bytes) else ctypes.c_long(each) for each in given)
    )
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_in_root(root: int, path: bytes, flags: int) -> int:
    """A descriptor, close-on-exec, of a path below the directory `root`: `/` and `..` lead no further up than that.

    Raises OSError, and Unsupported where the kernel has no openat2(2) or does not let us have it.
    """
    return _open(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """The same of a path that is the file's own: no symbolic link on the way (ELOOP), and no mount (EXDEV)."""
    return _open(root, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV)


def _open(root: int, path: bytes, flags: int, resolve: int) -> int:
    how = b"".join(each.to_bytes(8, "little") for each in (flags | os.O_CLOEXEC, 0, resolve))
    for attempt in range(ATTEMPTS):
        try:
            return call(SYS_OPENAT2, root, path, how, len(how))
        except OSError as error:
            if error.errno == ENOSYS:
                hint = "it came with Linux 5.6; in a container, a seccomp profile may hide it"
                raise Unsupported("files of an image", "openat2(2) is missing", hint=hint) from None
            if error.errno != EAGAIN or attempt == ATTEMPTS - 1:  # something was renamed while the kernel followed a `..`
                raise
    raise AssertionError("the last attempt returns or raises")


def sync_file_system(fd: int) -> None:
    """Write everything of the file system that `fd` is on to the disk, syncfs(2).  Raises OSError."""
    call(SYS_SYNCFS, fd)


CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 0x4, 0x1000, 0x4000, 0x40000, 0x80000


def own_users() -> None:
    """This process, which has one thread, goes into a user namespace of its own, in which it is root, and everybody else
    nobody: as in a plain user's container, it may read whatever is his.  Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _unshare(flag: int) -> None:
    if _libc.unshare(flag):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def own_mounts(slave: bool = False) -> None:
    """This thread goes into a mount namespace of its own: what it mounts nobody else sees, and ends with it.  As a `slave` it
    sees what is mounted on the host later.  Raises OSError."""
    _unshare(CLONE_NEWNS)
    _mount(b"none", b"/", None, MS_REC | (MS_SLAVE if slave else MS_PRIVATE), None)


def bind(source: str, target: str) -> None:
    """Show a directory with all that is mounted below it at another place, mount(2).  Raises OSError."""
    _mount(os.fsencode(source), os.fsencode(target), None, MS_BIND | MS_REC, None)


def mount(kind: str, target: str, options: str) -> None:
    """Mount a file system of that type, in which devices cannot be opened, mount(2).  Raises OSError."""
    _mount(kind.encode(), os.fsencode(target), kind.encode(), MS_NODEV, options.encode())


def _mount(source: bytes, target: bytes, kind: "bytes | None", flags: int, options: "bytes | None") -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), options):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def new_network() -> None:
    """This thread goes into a network namespace of its own, unshare(2).  Raises OSError."""
    _unshare(CLONE_NEWNET)


def enter_network(fd: int) -> None:
    """This thread goes into that network namespace, setns(2).  Raises OSError."""
    if _libc.setns(fd, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Owner:
    """In a `with`, and between `enter` and `leave`: files that this thread makes belong to another user, setfsuid(2).  For
    root only.  Raises OSError."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid
        self._was = (_libc.setfsuid(-1), _libc.setfsgid(-1))  # what is refused changes nothing, and tells

    def __enter__(self) -> "Owner":
        self.enter()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Be the other one."""
        _libc.setfsgid(self.gid)
        _libc.setfsuid(self.uid)
        if (_libc.setfsuid(-1), _libc.setfsgid(-1)) != (self.uid, self.gid):
            self.leave()
            raise OSError(1, os.strerror(1))

    def leave(self) -> None:
        """Be oneself again."""
        _libc.setfsuid(self._was[0])
        _libc.setfsgid(self._was[1])
