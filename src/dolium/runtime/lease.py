"""A lease: the locked file that says a container lives, and which range of host ids is its own.

The lock is held by whoever watches over the container (Python, then dolium-keep too), so the kernel drops it when they
die, however they die.  A file that nobody locks belongs to a dead container: what it names is removed by the next
command.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from dolium.errors import DoliumError
from dolium.runtime import places

ID_FIRST, ID_SIZE, ID_RANGES = 0x80000, 0x10000, 28664
"""The host ids that containers' ranges are taken from: 524288 to 1879048191, the ones systemd sets aside for this."""

_held: "set[Lease]" = set()
RECENT = 64
_recent: "list[int]" = []
"""Numbers that this process has given back.  It takes them again first: a plan holds the ids, and can then be used again."""


class Lease:
    """A lock on one number.  `id_base` is the first host id of the range that goes with it."""

    __slots__ = ("path", "fd", "number")

    def __init__(self, path: str, fd: int, number: int) -> None:
        self.path: str = path
        self.fd: int = fd
        self.number: int = number
        _held.add(self)

    @property
    def id_base(self) -> int:
        """The first host id of the range that goes with it."""
        return ID_FIRST + self.number * ID_SIZE

    def record(self, name: str, groups: "list[str]") -> None:
        """Write down whose it is, and what must be removed if that container is found dead."""
        try:
            os.pwrite(self.fd, "".join(f"{line}\n" for line in (name, *groups)).encode(), 0)
        except OSError as error:
            error.filename = self.path  # a write knows no name
            raise

    def leave(self) -> None:
        """It goes on without this process."""
        _held.discard(self)
        if self.fd >= 0:
            os.close(self.fd)

    def release(self, again: bool = True) -> None:
        """Nothing is left of the container.  `again`: the number may be taken at once; not where an address goes with it,
        for the kernel takes a network apart at its leisure."""
        os.unlink(self.path)
        self.leave()
        if again and len(_recent) < RECENT:
            _recent.append(self.number)


def directory() -> str:
    """Where this user's leases are.  Raises OSError and DoliumError."""
    return places.below(places.state(), "leases")


def take() -> Lease:
    """A lease on a number that no living container has.  Raises OSError and DoliumError."""
    where = directory()
    for _ in range(1000):
        try:
            number = _recent.pop()  # no looking first: another thread may take the last one in between
        except IndexError:
            number = int.from_bytes(os.urandom(4), "little") % ID_RANGES
        if _reserved(number):
            continue
        path = f"{where}/{number}"
        fd = _open(path, os.O_CREAT)
        os.fchmod(fd, 0o600)  # whatever the caller's umask is
        if _lock(fd, path):
            if not os.fstat(fd).st_size:
                return Lease(path, fd, number)
            _mend(fd, path)  # of a dead container
        else:
            os.close(fd)
    raise DoliumError("no free range of ids for another container", hint=f"28,664 leases are in {where}")


def held(number: int, name: str) -> bool:
    """Whether that container, which had that number, is alive."""
    try:
        fd = os.open(f"{directory()}/{number}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if os.pread(fd, 256, 0).partition(b"\n")[0] != name.encode():
            return False  # it is another's by now
        flock(fd, LOCK_SH | LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def dead() -> int:
    """How many containers have died with nobody there to remove what is left of them."""
    where, count = directory(), 0
    for name in os.listdir(where):
        try:
            fd = os.open(f"{where}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            flock(fd, LOCK_SH | LOCK_NB)
            count += 1
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return count


def mend() -> "list[str]":
    """Remove what dead containers have left behind; the directories removed."""
    where, removed = directory(), []
    for name in os.listdir(where):
        path = f"{where}/{name}"
        try:
            fd = _open(path)
        except OSError:  # gone by now, or nothing of ours
            continue
        if _lock(fd, path):
            removed += _mend(fd, path)
        else:
            os.close(fd)
    return removed


def _open(path: str, flags: int = 0) -> int:
    """Also where a caller killed between two lines has left the file with the mode that its umask gave."""
    flags |= os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags, 0o600)
    except PermissionError:
        os.chmod(path, 0o600)
        return os.open(path, flags, 0o600)


def _lock(fd: int, path: str) -> bool:
    """Whether the file is ours now, and still the one of that name."""
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        return os.fstat(fd).st_ino == os.stat(path).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
    except BaseException:  # a file system without locks; the empty file is mended by whoever can lock it
        os.close(fd)
        raise


def _mend(fd: int, path: str) -> "list[str]":
    from dolium.runtime import cgroup

    groups = os.pread(fd, 65536, 0).decode("utf-8", "surrogateescape").split("\n")[1:-1]
    left = False
    for group in groups:
        if "/dolium" in group and os.path.isdir(group):
            cgroup.kill(group)
            left |= not cgroup.remove(group)
    if not left:  # else the next command tries again
        os.unlink(path)
    os.close(fd)
    return groups


_taken: "list[tuple[int, int]] | None" = None


def _reserved(number: int) -> bool:
    """Whether the range overlaps one that /etc/subuid or /etc/subgid gives to a user, subuid(5)."""
    global _taken
    if _taken is None:
        found = []
        for path in ("/etc/subuid", "/etc/subgid"):
            try:
                with open(path) as file:
                    for line in file:
                        fields = line.strip().split(":")
                        if len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit():
                            found.append((int(fields[1]), int(fields[1]) + int(fields[2])))
            except OSError:
                pass
        _taken = found
    first = ID_FIRST + number * ID_SIZE
    return any(first < end and start < first + ID_SIZE for start, end in _taken)


def _after_fork() -> None:
    """A lock belongs to the open file: with a forked child, which may live on, it would outlive its owner."""
    for each in _held:
        os.close(each.fd)
        each.fd = -1
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
