"""A process and the helper of ours that watches over it; and the words for a step that failed."""

import os
from _socket import MSG_CMSG_CLOEXEC

from dolium.core import spawn, wire
from dolium.errors import DoliumError, StepError
from dolium.plan import slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts
    from dolium.runtime.ending import Ending

ECHILD, EPIPE, ECONNRESET, ECANCELED = 10, 32, 104, 125
KILLED = (("keep", ECHILD), ("born", ECHILD), ("sync", ECANCELED), ("sync", EPIPE), ("sync", ECONNRESET))
"""How it looks to dolium-init when the child has been killed: after the last meeting, at one, before one."""


class Watched:
    """A process on its way or alive, watched over by a helper of ours.  Call `finish` or `abandon` in the end, whatever happens.

    `filled` are descriptors for slots of the plan, its own from now on; `terminal` is that of the program, once it has
    started, or -1.
    """

    __slots__ = ("spec", "facts", "helper", "filled", "terminal")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", filled: "dict[int, int]") -> None:
        self.spec: dict[str, Any] = spec
        self.facts: Facts = facts
        self.filled: dict[int, int] = filled
        self.helper: spawn.Helper | None = None
        self.terminal: int = -1

    def steps(self) -> "list[Step]":
        """Its plan, made anew: for the words of an error."""
        raise NotImplementedError

    def begin(self, message: "Callable[[dict[int, int]], bytes]", stdio: "tuple[int, int, int]", lent: "dict[int, int]",
              room: int = 0) -> None:  # fmt: skip
        """Start dolium-init on what `message` makes of the descriptors: our own, dolium-keep's, and those `lent`; `room` is for
        what is written into the plan later.

        Raises Unsupported and OSError.
        """
        self.filled[slots.KEEP] = spawn.program("dolium-keep")
        passed = {**self.filled, **lent}
        self.helper = spawn.start(message(passed), tuple(passed.values()), stdio, room)

    def fileno(self) -> int:
        """Readable when it has ended."""
        assert self.helper
        return self.helper.socket.fileno()

    def signal(self, number: int) -> None:
        """Send it a signal; nothing if it has ended."""
        assert self.helper
        try:
            self.helper.socket.send(bytes([number]))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def started(self) -> int:
        """Wait until the program runs; a pidfd of it.  Only where the plan has dolium-keep announce it.

        Raises StepError where it never came to run; then nothing is left.
        """
        if self.spec["process"].get("terminal") and not self.spec["dolium"]["watch"].get("detached"):
            self.terminal = self._hear_descriptor(b"T")
        return self._hear_descriptor(b"S")

    def hang_up(self) -> None:
        """Close the terminal, as when its window is closed: the kernel sends SIGHUP to who leads the session in it."""
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1

    def pid(self) -> int:
        """Of its first process as this one sees it, after `started`; whether it still is, only a pidfd knows."""
        assert self.helper
        found: int = wire.Report(self.helper.report()).child
        return found

    def leave(self) -> None:
        """Let it go on without this process, if its plan is one of a detached process; dolium-keep stays with it."""
        assert self.helper
        self.signal(0)
        self.helper.close()
        self._close_filled()

    def finish(self) -> "Ending":
        """Wait for the end, count, remove everything.

        Raises StepError where it never came to run.
        """
        told = self.told()
        try:
            return self.counted(told)
        finally:
            self.abandon()

    def told(self) -> bytes:
        """Wait for the end: what dolium-keep says of it.  Raises StepError where it never came to run; then nothing is left."""
        from dolium.runtime import ending

        return self._hear(b"X", ending.MESSAGE.size)[0]

    def counted(self, told: bytes) -> "Ending":
        """How it ended, with what is counted until `abandon`."""
        from dolium.runtime import ending

        found = ending.told(told)
        self.count(found)
        return found

    def count(self, found: "Ending") -> None:
        """Add to how it ended what is known besides."""

    def abandon(self) -> None:
        """Kill it if it lives, and remove all that was made for it."""
        if self.helper:
            self.helper.close()
            self.helper.reap()
        self._close_filled()

    def _hear(self, kind: bytes, size: int) -> "tuple[bytes, list[tuple[int, int, bytes]]]":
        """What the helper says, and the descriptors that come with it.  Raises StepError if it is not what must come now."""
        assert self.helper
        try:
            data, control, _, _ = self.helper.socket.recvmsg(size, 32, MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it ended with a signal of ours unread; that is said once, before what it had told us
            data, control, _, _ = self.helper.socket.recvmsg(size, 32, MSG_CMSG_CLOEXEC)
        if data[:1] != kind:
            error = self.failure(died=not data)
            self.abandon()
            raise error
        return data, control

    def _hear_descriptor(self, kind: bytes) -> int:
        _, control = self._hear(kind, 1)
        return int.from_bytes(control[0][2][:4], "little")

    def _close_filled(self) -> None:
        self.hang_up()
        for fd in self.filled.values():
            os.close(fd)
        self.filled = {}

    def failure(self, died: bool) -> DoliumError:
        """What went wrong, in words; `died`: its helper has, too."""
        assert self.helper
        report = wire.Report(self.helper.report())
        if report.failed < 0:
            return DoliumError("dolium-init died on the way" if died else "dolium-init stopped without a reason",
                               hint="was it killed? What it had begun is gone")  # fmt: skip
        steps = self.steps()
        step = wire.acting(steps)[report.failed]
        if (step.op, report.errno) in KILLED:
            return self._died_in_setup(report.status)
        listed = wire.items(step)
        item = listed[report.item] if report.item < len(listed) else ""
        return step_error(step, steps, report.errno, report.call, self.facts, report.message, item)

    def _died_in_setup(self, status: int) -> DoliumError:
        return DoliumError(f"the process was killed while it was set up (wait status {status})")


def step_error(
    step: "Step", steps: "list[Step]", errno: int, call: "int | str", facts: "Facts", words: str = "", item: str = ""
) -> StepError:
    """The error for a step that failed; `words` are the file system's own, `item` the one of the step's list."""
    from dolium.plan.hints import deed, hint

    if isinstance(call, int):
        calls = wire.OPERATIONS[step.op]
        call = calls[min(call, len(calls) - 1)] if step.op != "call" else step.path
    numbered = [each for each in steps if not each.is_part]
    index = sum(not each.is_part for each in steps[: steps.index(step) + 1]) if step in steps else 0
    code = 125
    if step.op == "exec":
        code = 127 if errno == 2 else 126
    advice = hint(step, errno, facts)
    if words:
        advice = f"the kernel says: {words}" + (f"; {advice}" if advice else "")
    return StepError(deed(step, item), index=index, total=len(numbered), call=f"{call}(2)", errno=errno, why=f"`{step.why}`",
                     filename=item or step.path, hint=advice, exit_code=code)  # fmt: skip


def preserved(count: int) -> "dict[int, int]":
    """No slot names them; that they stay open is all.  Raises DoliumError where one is not."""
    for fd in range(3, 3 + count):
        try:
            os.set_inheritable(fd, True)
        except OSError:
            raise DoliumError(f"--preserve-fds {count}: descriptor {fd} is not open") from None
    return {slots.FIRST_MOUNT + number: 3 + number for number in range(count)}
