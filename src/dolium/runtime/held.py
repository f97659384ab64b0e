"""A container that was made in advance, and is held before its last steps until its command is known.

Its first process waits in the container, with every right given up that the program will not have, for one message with the
program's 0, 1 and 2; what comes after it, a directory and a command, is written into its plan before that.  So the command
costs no process, no namespace and no mount (docs/decisions/0029-held-containers.md).
"""

import os
from _socket import AF_UNIX, MSG_NOSIGNAL, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socketpair
from _struct import Struct
from select import POLLIN, poll
from stat import S_ISFIFO

from dolium.plan import devices
from dolium.runtime import cgroup, plans, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Mapping
    from typing import Any

    from dolium.runtime.ending import Ending
    from dolium.runtime.launch import Running
    from dolium.runtime.plans import Planned

E2BIG = 7
THREE = Struct("=3i")
FAILED = 16
"""Where in the header the record that failed is, init/wire.h."""
_live: "set[Hold]" = set()


class Hold:
    """The way to tell a container its command: `theirs` is its end of the socket."""

    __slots__ = ("planned", "ours", "theirs")

    def __init__(self, planned: "Planned") -> None:
        self.planned: Planned = planned
        self.ours: socket
        self.theirs: socket
        self.ours, self.theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        _live.add(self)

    def close(self) -> None:
        """A container that still waits ends."""
        _live.discard(self)
        self.ours.close()
        self.theirs.close()


class Held:
    """A held container that is ready.  Then `command` it and wait for its `ended`, or `idle` it for programs that join; in the
    end `abandon` it.  `first` is a pidfd of its first process; `options` are what it was asked to be.

    Raises StepError where it did not become ready; then nothing is left.
    """

    __slots__ = ("running", "first", "options", "_spent")

    def __init__(self, running: "Running", options: "Any" = None) -> None:
        self.running: Running = running
        self.first: int = running.started()
        self.options: Any = options
        self._spent = _cpu_seconds(running.pid())

    def is_alive(self) -> bool:
        """Whether it still waits for its command."""
        waiter = poll()
        waiter.register(self.running.fileno(), POLLIN)
        waiter.register(self.first, POLLIN)  # dolium-keep comes to know it a moment later
        return not waiter.poll(0)

    def command(self, argv: "list[str]", env: "Mapping[str, str]", cwd: "str | None", stdio: "tuple[int, int, int]") -> bool:
        """Have it run that, with these variables besides its own; False where it has died before.

        Raises SpecError, and StepError for more words than the kernel takes.
        """
        running = self.running
        process = {**running.spec["process"], "args": argv, "cwd": cwd or running.spec["process"]["cwd"]}
        if env:
            process["env"] = merged(process["env"], env)
        spec = running.spec = {**running.spec, "process": process}
        for step in devices.pipes(spec, running.facts):
            for fd in stdio:
                if S_ISFIFO(os.fstat(fd).st_mode):
                    os.fchown(fd, step.n1, step.n2)
        if group := running.controllers.get("memory"):
            running.peak = cgroup.Peak(group, running.memory_version())
        return self._tell(spec, stdio)

    def idle(self, seconds: "float | None") -> bool:
        """Have it wait for programs that join, for no longer than that; False where it has died before."""
        running = self.running
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            if seconds is not None:
                running.end_in(seconds)
            assert running.hold
            return self._tell(running.spec, (null, null, null)) and running.hold.ours.recv(1) == b"" and self.is_alive()
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            os.close(null)

    def _tell(self, spec: "dict[str, Any]", stdio: "tuple[int, int, int]") -> bool:
        hold, helper = self.running.hold, self.running.helper
        assert hold and helper
        records, words = hold.planned.late(spec)
        if len(words[1]) > plans.ROOM:
            steps = self.running.steps()
            failed = next(step for step in steps if step.op in ("exec", "idle"))
            raise watched.step_error(failed, steps, E2BIG, 0, self.running.facts)
        for place, data in (words, records):
            os.pwrite(helper.plan, data, place)
        try:
            hold.ours.sendmsg([b"G"], [(SOL_SOCKET, SCM_RIGHTS, THREE.pack(*stdio))], MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def ended(self) -> "Ending":
        """Wait for the end of its command, and count from when that was given.  Raises StepError where it never came to run."""
        running = self.running
        told = running.told()
        assert running.helper
        if int.from_bytes(os.pread(running.helper.plan, 4, FAILED), "little", signed=True) >= 0:
            raise running.failure(died=False)
        found = running.counted(told)
        found.cpu_seconds = max(0.0, found.cpu_seconds - self._spent)
        return found

    def abandon(self) -> None:
        """Kill it if it lives, and remove all that was made for it.  Twice is no mistake."""
        if self.first >= 0:
            os.close(self.first)
            self.first = -1
            self.running.abandon()


def merged(own: "list[str]", env: "Mapping[str, str]") -> "list[str]":
    """NAME=VALUE of the container's own variables and these, which are put in the place of those of the same names."""
    named = dict(each.split("=", 1) for each in own)
    named.update(env)
    return [f"{name}={value}" for name, value in named.items()]


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process until now; it has no threads and no children."""
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):  # it has died, or this kernel does not count
        return 0.0


def _after_fork() -> None:
    """In a forked child, which these containers do not belong to."""
    for each in _live:
        each.ours.close()
        each.theirs.close()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
