"""cgroup directories: make, limit, read, remove; cgroup v2, v1 and both at once, cgroups(7)."""

import os
from time import monotonic, sleep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.facts import Hierarchy

EBUSY, ENOTEMPTY = 16, 39
_prepared: "set[str]" = set()


def prepare(hierarchies: "dict[str, Hierarchy]") -> None:
    """Make the parents of our groups, once per process, with the controllers that their children are to have.

    Raises OSError.
    """
    for controller, hierarchy in hierarchies.items():
        parent = hierarchy.parent
        if (key := f"{controller}:{parent}") in _prepared:
            continue
        if hierarchy.version == 2:
            _leave(os.path.dirname(parent))
        try:
            os.mkdir(parent, 0o755)
        except FileExistsError:
            pass
        if hierarchy.version == 2 and controller not in ("unified", "devices"):  # those two are not switched on
            for directory in (os.path.dirname(parent), parent):
                _enable(directory, controller)
        elif controller == "cpuset":  # v1: empty until written, and tasks are refused while empty
            for name in ("cpuset.cpus", "cpuset.mems"):
                if not read(f"{parent}/{name}").strip():
                    write(f"{parent}/{name}", read(f"{os.path.dirname(parent)}/{name}").encode())
        _prepared.add(key)


def _enable(directory: str, controller: str) -> None:
    if controller not in read(f"{directory}/cgroup.subtree_control").split():
        write(f"{directory}/cgroup.subtree_control", b"+" + controller.encode())


def _leave(directory: str) -> None:
    """A cgroup that passes controllers on may hold no process.  Where this process is alone in its own delegated cgroup, it
    moves into a child; other processes are not ours to move."""
    if not os.path.exists(f"{directory}/cgroup.type"):  # the true root may hold processes
        return
    if read(f"{directory}/cgroup.procs").split() == [str(os.getpid())]:
        leaf = f"{directory}/dolium.caller"
        try:
            os.mkdir(leaf, 0o755)
        except FileExistsError:
            pass
        write(f"{leaf}/cgroup.procs", b"0")


def make(directory: str, hierarchies: "dict[str, Hierarchy]") -> None:
    """Make a container's group, after `prepare`.  Raises OSError."""
    try:
        os.mkdir(directory, 0o755)
    except FileNotFoundError:  # `dolium system reset` has removed the parents since
        _prepared.clear()
        prepare(hierarchies)
        os.mkdir(directory, 0o755)


def make_below(top: str, path: str) -> None:
    """Make a group wherever an engine wants it, with all directories on the way from `top`, where the hierarchy is mounted.
    On v2 they pass on every controller that they can, on v1 CPUs and memory nodes are those of the directory above.  Raises
    OSError."""
    at = top
    parts = path[len(top):].strip("/").split("/")
    v2 = os.path.exists(f"{top}/cgroup.subtree_control")
    for part in parts:
        if v2:
            _pass_on(at)
        above, at = at, f"{at}/{part}"
        try:
            os.mkdir(at, 0o755)
        except FileExistsError:
            pass
        for name in ("cpuset.cpus", "cpuset.mems") if not v2 and os.path.exists(f"{at}/cpuset.cpus") else ():
            if not read(f"{at}/{name}").strip():
                write(f"{at}/{name}", read(f"{above}/{name}").encode())


def _pass_on(directory: str) -> None:
    """What cannot be passed on is missed, with its name, where a limit needs it."""
    missing = {*read(f"{directory}/cgroup.controllers").split()} - {*read(f"{directory}/cgroup.subtree_control").split()}
    if not missing:
        return
    _leave(directory)
    try:
        write(f"{directory}/cgroup.subtree_control", " ".join(f"+{each}" for each in missing).encode())
    except OSError:
        for each in missing:
            try:
                write(f"{directory}/cgroup.subtree_control", f"+{each}".encode())
            except OSError:
                pass


def watch_oom(directory: str) -> int:
    """An eventfd that the kernel signals when this cgroup v1 memory group runs out (memory.rst, section 10)."""
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write(f"{directory}/cgroup.event_control", b"%d %d" % (event, control))
        finally:
            os.close(control)
    except BaseException:
        os.close(event)
        raise
    return event


def memory_peak(directory: str, version: int) -> int:
    """The most bytes that a memory group ever held; 0 before Linux 5.19, which has no memory.peak."""
    try:
        return int(read(f"{directory}/{'memory.peak' if version == 2 else 'memory.max_usage_in_bytes'}"))
    except FileNotFoundError:
        return 0


class Peak:
    """The most bytes that a memory group has held since this was made.  Close it in the end.

    v1 counts anew when it is told to (memory.rst, section 5.5), v2 for who holds the descriptor that told it, from Linux 6.12 on
    (cgroup-v2.rst).  Before that a peak is known only if it is higher than the one from before.
    """

    __slots__ = ("_directory", "_version", "_fd", "_before")

    def __init__(self, directory: str, version: int) -> None:
        self._directory = directory
        self._version = version
        self._fd = -1
        self._before = 0
        try:
            if version == 2:
                self._fd = os.open(f"{directory}/memory.peak", os.O_RDWR | os.O_CLOEXEC)
                os.write(self._fd, b"reset")
            else:
                write(f"{directory}/memory.max_usage_in_bytes", b"0")
        except OSError:
            self.close()
            self._before = memory_peak(directory, version)

    def read(self) -> int:
        """Bytes; 0 where that is not known.  Raises OSError."""
        if self._fd >= 0:
            return int(os.pread(self._fd, 32, 0))
        found = memory_peak(self._directory, self._version)
        return found if found > self._before else 0

    def close(self) -> None:
        """It is of no more use."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def memory_kills(directory: str, version: int) -> int:
    """How many processes of a memory group the kernel has killed for want of memory."""
    return _field(read(f"{directory}/{'memory.events' if version == 2 else 'memory.oom_control'}"), "oom_kill")


def memory_of_files(directory: str) -> int:
    """Bytes that files in tmpfs take of a memory group now."""
    return _field(read(f"{directory}/memory.stat"), "shmem")


def cpu_seconds(directory: str) -> float:
    """CPU time of all that ever ran in a cgroup v2 group: cpu.stat is there without the controller."""
    return _field(read(f"{directory}/cpu.stat"), "usage_usec") / 1e6


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def kill(directory: str) -> None:
    """SIGKILL to every process in a group, at once by cgroup.kill (v2, Linux 5.14), else one by one until none is left."""
    try:
        write(f"{directory}/cgroup.kill", b"1")
        return
    except OSError:
        pass
    for _ in range(1000):
        try:
            pids = read(f"{directory}/cgroup.procs").split()
        except FileNotFoundError:
            return
        for pid in pids:
            _kill_member(int(pid), directory)
        if not pids:
            return
        sleep(0.001)


def _kill_member(pid: int, directory: str) -> None:
    """By pidfd, and only if it still is in the group after the pidfd was opened: a number may have been given away."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if str(pid) in read(f"{directory}/cgroup.procs").split():
            from _signal import SIGKILL, pidfd_send_signal

            pidfd_send_signal(fd, SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        pass
    finally:
        os.close(fd)


def removed_if_empty(directory: str) -> bool:
    """Remove a group that holds no process and no group; whether it is gone."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (EBUSY, ENOTEMPTY):
            raise
        return False
    return True


def remove(directory: str, patience: float = 5.0) -> bool:
    """Remove a group and those below it; it stays busy for a moment after its last process.  Whether it is gone."""
    deadline = monotonic() + patience
    while not removed_if_empty(directory):
        try:
            below = [each.path for each in os.scandir(directory) if each.is_dir(follow_symlinks=False)]
        except FileNotFoundError:  # another command has just removed it
            return True
        for path in below:
            kill(path)
            remove(path, deadline - monotonic())
        if monotonic() > deadline:
            return False
        sleep(0.0005)
    return True


def read(path: str) -> str:
    """The whole of a file of the cgroup file system.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while chunk := os.read(fd, 65536):
            data += chunk
            if len(chunk) < 2048:  # the end: the kernel fills about a page before it stops
                break
        return data.decode()
    finally:
        os.close(fd)


def write(path: str, data: bytes) -> None:
    """In one call, as the kernel wants it.  Raises OSError with what it refuses."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def give(path: str, uid: int) -> None:
    """A cgroup v2 directory becomes that user's, and those of its files that are safe to give, cgroups(7) "Cgroup delegation".
    Raises OSError."""
    try:
        names = read("/sys/kernel/cgroup/delegate").split()
    except FileNotFoundError:  # before Linux 4.15
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    for name in ("", *names):
        try:
            os.chown(f"{path}/{name}", uid, -1)
        except FileNotFoundError:  # a file of a controller that is not on here
            if not name:
                raise
