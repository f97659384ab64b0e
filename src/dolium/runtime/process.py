"""What /proc says of a process, proc(5).  A number may be given away between two looks: who asks holds a pidfd, and sees by it
whether the process still lived afterwards."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAMESPACES = ("pid", "net", "user", "mnt", "uts", "ipc", "cgroup", "time")
STATES = {"R": "running", "S": "sleeping", "D": "in the kernel", "T": "stopped", "t": "traced", "Z": "dead", "X": "dead",
          "I": "idle"}  # fmt: skip
MOST = 4096
"""Bytes of a command line that are looked at."""


def stat(pid: int) -> "tuple[str, int, int]":
    """Its state (a letter), its session, and when it was started, in clock ticks since boot: proc_pid_stat(5).

    Raises FileNotFoundError and ProcessLookupError where it has gone.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()  # its name, before that, may hold anything
    return fields[0].decode(), int(fields[3]), int(fields[19])


def start_time(pid: int) -> int:
    """Of a process, in clock ticks since boot; 0 where it is gone."""
    try:
        return stat(pid)[2]
    except (FileNotFoundError, ProcessLookupError):
        return 0


_boot_id = ""


def boot_id() -> str:
    """Of this run of the kernel, random(4)."""
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id") as file:
            _boot_id = file.read().strip()
    return _boot_id


def status(pid: int) -> "dict[str, Any]":
    """Its `state` in a word, `threads`, `uid` on this host, number `inside` its own PID namespace.

    Raises FileNotFoundError and ProcessLookupError where it has gone.
    """
    fields = _fields(pid)
    letter = fields["State"].split()[0]
    return {"state": STATES.get(letter, letter), "threads": int(fields["Threads"]), "uid": int(fields["Uid"].split()[1]),
            "inside": int(fields.get("NSpid", str(pid)).split()[-1])}  # fmt: skip


def bounds(pid: int) -> "dict[str, str]":
    """What holds it, as /proc/PID/status has it: `NoNewPrivs`, `Seccomp`.  Raises FileNotFoundError and ProcessLookupError."""
    fields = _fields(pid)
    return {name: fields.get(name, "0").strip() for name in ("NoNewPrivs", "Seccomp")}


def _fields(pid: int) -> "dict[str, str]":
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="surrogateescape") as file:
        return dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)


def command(pid: int) -> "list[str]":
    """The words it was started with, as it shows them; its name in brackets, as ps(1) has it, where it shows none.

    Raises FileNotFoundError and ProcessLookupError.
    """
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(MOST).rstrip(b"\0")
    if words:
        return [os.fsdecode(word) for word in words.split(b"\0")]
    with open(f"/proc/{pid}/comm", "rb") as file:
        return [f"[{os.fsdecode(file.read().rstrip())}]"]


def namespaces(pid: "int | str") -> "dict[str, int | None]":
    """The inode number of each namespace that it is in; None where that is not for us to see; `self` is this process.

    Raises FileNotFoundError and ProcessLookupError where it has gone.
    """
    found: dict[str, int | None] = {}
    for name in NAMESPACES:
        try:
            found[name] = int(os.readlink(f"/proc/{pid}/ns/{name}").partition("[")[2].rstrip("]"))
        except PermissionError:
            found[name] = None
        except FileNotFoundError:
            if not os.path.exists(f"/proc/{pid}/ns/mnt"):
                raise
    return found


def of_namespace(inode: int) -> "list[int]":
    """The processes of a PID namespace that we may look at, in order."""
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}/ns/pid").st_ino == inode:
                found.append(int(name))
        except OSError:
            pass
    return sorted(found)


def write_pid(path: str, pid: int) -> None:
    """A pid file, whole or not at all.  Raises DoliumError."""
    fresh = f"{path}.{os.getpid()}"
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        from dolium.errors import DoliumError

        raise DoliumError(f"--pid-file: `{path}`: {error.strerror}") from None
    os.write(fd, str(pid).encode())
    os.close(fd)
    os.rename(fresh, path)
