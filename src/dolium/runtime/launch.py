"""Carry out a plan: the host's steps here, the others by dolium-init; then wait, and leave nothing behind."""

import os
from _socket import MSG_CMSG_CLOEXEC
from _struct import Struct
from time import monotonic_ns

from dolium.core import spawn, wire
from dolium.errors import DoliumError, StepError, Unsupported
from dolium.plan import build, program, slots
from dolium.plan.quantities import show_size
from dolium.runtime import cgroup, ending, lease, plans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts
    from dolium.runtime.guard import Guard
    from dolium.runtime.held import Hold

    class Use(Protocol):
        """What a container's files are, kept until it is closed (engine.trees.Use)."""

        digest: str
        image: Any

        def close(self) -> None: ...

ECHILD, EPIPE, ECONNRESET, ECANCELED = 10, 32, 104, 125
KILLED = (("keep", ECHILD), ("born", ECHILD), ("sync", ECANCELED), ("sync", EPIPE), ("sync", ECONNRESET))
"""How it looks to dolium-init when the child has been killed: after the last meeting, at one, before one."""
GUARDED = {"make_net": "unshare", "nft": "execve", "resolver": "bind"}
"""The host's steps that runtime/guard.py carries out, and the call that most likely fails in each."""
LIFE = Struct("=Bq")
"""init/keep.c"""
OURS = (slots.START, slots.NETWORK, slots.HOST_NETWORK)
"""Slots whose descriptors are of no use here once dolium-init has them."""
_mended = False


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

    def finish(self) -> ending.Ending:
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
        return self._hear(b"X", ending.MESSAGE.size)[0]

    def counted(self, told: bytes) -> ending.Ending:
        """How it ended, with what is counted until `abandon`."""
        found = ending.told(told)
        self.count(found)
        return found

    def count(self, found: ending.Ending) -> None:
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


class Running(Watched):
    """A container on its way or alive.  `use`, where somebody has set it, is closed when it has ended."""

    __slots__ = ("lease", "controllers", "groups", "spent", "own_steps", "use", "guard", "hold", "peak", "gone")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", taken: "lease.Lease", filled: "dict[int, int]",
                 own_steps: "list[Step] | None" = None) -> None:  # fmt: skip
        super().__init__(spec, facts, filled)
        self.lease: lease.Lease = taken
        self.controllers: dict[str, str] = {}
        self.groups: list[str] = []
        self.spent: list[int] = []  # nanoseconds of each of the host's steps
        self.own_steps: list[Step] | None = own_steps
        self.use: Use | None = None
        self.guard: Guard | None = None  # of a network with an egress policy
        self.hold: Hold | None = None  # of one that is made in advance
        self.peak: cgroup.Peak | None = None  # where memory is counted from a later moment on
        self.gone: bool = False

    def steps(self) -> "list[Step]":
        """Its plan, made anew, or the steps that it was given instead."""
        return self.own_steps or build.plan(self.spec, self.facts)

    def times(self) -> "list[int]":
        """Nanoseconds that each step has taken, in the order of `steps`, by the clock of who did it; once it runs."""
        assert self.helper
        own, theirs = iter(self.spent), iter(wire.Report(self.helper.report()).rows)
        return [next(theirs)[1] if step.actor else next(own) for step in self.steps()]

    def stopped(self) -> "list[int]":
        """Wait for the end of steps that lead to no program, remove what they have made; their times.  Raises StepError."""
        assert self.helper
        try:
            self.helper.socket.recv(1)
            if wire.Report(self.helper.report()).failed >= 0:
                raise self.failure(died=False)
            return self.times()
        finally:
            self.abandon()

    def end_in(self, seconds: float) -> None:
        """It is killed so many seconds from now.  Raises BrokenPipeError and ConnectionResetError where it has ended."""
        assert self.helper
        self.helper.socket.send(LIFE.pack(0, round(seconds * 1000)))

    def leave(self) -> None:
        """Let it go on without this process; dolium-keep stays with it."""
        super().leave()
        self.lease.leave()

    def count(self, found: ending.Ending) -> None:
        """Add what the cgroups have counted."""
        found.count(self.controllers, self.memory_version(), self.peak)

    def memory_version(self) -> int:
        """Of cgroups, as far as memory is counted; or 0."""
        memory = self.facts.controllers.get("memory")
        return memory.version if memory else 0

    def abandon(self) -> None:
        """Kill the container if it lives, and remove all that was made for it, once; in a forked child, which it does not belong
        to, only close what is its own."""
        if self.gone:
            return
        self.gone = True
        if self.helper:
            self.helper.close()
        if self.hold:
            self.hold.close()
        if self.peak:
            self.peak.close()
        self._close_filled()
        if self.helper and not self.helper.is_ours():
            self.lease.leave()
            return
        left = [group for group in self.groups if not cgroup.remove(group)]
        if self.helper:
            self.helper.reap()
        if self.use:
            self.use.close()
        if self.guard:
            self.guard.close()
        if not left:
            self.lease.release(again=not self.spec["dolium"]["network"])
        else:  # the lease stays, for the next command to try again
            self.lease.leave()

    def _died_in_setup(self, status: int) -> DoliumError:
        limit = self.spec["linux"]["resources"].get("memory", {}).get("limit")
        group = self.controllers.get("memory")
        if limit and group and cgroup.memory_kills(group, self.facts.controllers["memory"].version):
            return Unsupported(f"a memory limit of {show_size(limit)}",
                               "it is too small even to start the program in", hint="give it at least --memory 512k")  # fmt: skip
        known = f" (wait status {status})" if status else ""
        return DoliumError(f"the container's first process was killed while it was set up{known}")


def start(spec: "dict[str, Any]", facts: "Facts", taken: "lease.Lease", stdio: "tuple[int, int, int]",
          more: "dict[int, int] | None" = None, steps: "list[Step] | None" = None) -> Running:  # fmt: skip
    """Start a container; `stdio` are the caller's descriptors for its 0, 1 and 2, `more` those for slots of the plan: they
    are the new container's from now on.  `steps` are carried out instead of its plan (plan/until.py).

    Raises SpecError and Unsupported from the planner, StepError from the kernel; then nothing is left and the lease is
    released.  Failures of dolium-init's own steps come from `finish`.
    """
    running = Running(spec, facts, taken, more or {}, steps)
    try:
        planned = plans.Given(spec, facts, steps) if steps else plans.find(spec, facts)
        running.controllers = planned.controllers(spec)
        taken.record(
            plans.name(spec), sorted(set(running.controllers.values()))
        )  # before they are made: a name of nothing does no harm
        for step in planned.host:
            began = monotonic_ns()
            _act(step, planned.renamed(step.path, spec), running)
            running.spent.append(monotonic_ns() - began)
        room = 0
        if isinstance(planned, plans.Planned) and program.is_held(spec):
            room = plans.ROOM
            from dolium.runtime.held import Hold

            running.hold = Hold(planned)
            running.filled[slots.START] = running.hold.theirs.detach()
        running.begin(lambda passed: planned.message(spec, passed), stdio, {slots.LEASE: taken.fd}, room)
        for slot in OURS:  # dolium-init has it now; here it would outlive us in a forked child
            if slot in running.filled:
                os.close(running.filled.pop(slot))
        _mend_once()
    except BaseException:
        running.abandon()
        raise
    return running


def read_in_root(root: str, path: str, cap: int) -> str:
    """The text of a regular file of at most `cap` bytes below `root`, whatever its symlinks say; empty where there is none.

    Raises StepError.
    """
    return read(_reading(root, path, cap), {})


def _reading(root: str, path: str, cap: int) -> "list[Step]":
    directory = wire.Step("open", wire.OUTSIDE, "root.path", path=root, n1=os.O_PATH | os.O_DIRECTORY, out=slots.ROOT,
                          what=f"open {root}")  # fmt: skip
    reading = wire.Step("read_file", wire.OUTSIDE, "process.user", fd=slots.ROOT, path=path, data=bytes(cap), accept=(2, 20),
                        what=f"read {path}")  # fmt: skip
    return [directory, reading]


def read(steps: "list[Step]", filled: "dict[int, int]") -> str:
    """What the last of these steps of dolium-init reads; `filled` are descriptors for their slots.  Raises StepError."""
    return wire.read_result(_alone(steps, filled)[0], len(steps) - 1).decode("utf-8", "replace")


def opened(steps: "list[Step]", filled: "dict[int, int]") -> int:
    """The descriptor that the last of these steps of dolium-init offers.  Raises StepError."""
    return int.from_bytes(_alone(steps, filled)[1][0][2][:4], "little")


def done(steps: "list[Step]") -> None:
    """These steps of dolium-init are carried out.  Raises StepError."""
    _alone(steps, {})


def _alone(steps: "list[Step]", filled: "dict[int, int]") -> "tuple[bytes, list[tuple[int, int, bytes]]]":
    """Have dolium-init carry out steps that start nothing: its report, and the descriptors that it offers."""
    message = wire.encode(steps, filled)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        helper = spawn.start(message.data, tuple(filled.values()), (null, null, null))
    finally:
        os.close(null)
    try:
        _, control, _, _ = helper.socket.recvmsg(1, 32, MSG_CMSG_CLOEXEC)
        data = helper.report()
    finally:
        helper.close()
        helper.reap()
    report = wire.Report(data)
    if report.failed >= 0:
        from dolium.runtime import host

        raise step_error(message.steps[report.failed], message.steps, report.errno, report.call, host.facts())
    return data, control


def _act(step: "Step", path: str, running: Running) -> None:
    """One of the host's steps, on this path."""
    try:
        if step.op == "make_group":
            _make_group(path, running)
        elif step.op == "set_limit":
            cgroup.write(path, step.data)
        elif step.op == "watch_oom":
            running.filled[step.out] = cgroup.watch_oom(path)
        elif step.op in GUARDED:
            _guard(running).act(step, running.filled)
        else:
            raise AssertionError(f"no host step {step.op}")
    except OSError as error:
        if error.errno in step.accept:
            return
        call = {"make_group": "mkdir", "set_limit": "write", "watch_oom": "eventfd", **GUARDED}[step.op]
        steps = running.steps()
        failed = next(each for each in steps if (each.op, each.path, each.data) == (step.op, path, step.data))
        raise step_error(failed, steps, error.errno or 0, call, running.facts) from None


def _guard(running: Running) -> "Guard":
    if running.guard is None:
        from dolium.runtime.guard import Guard

        running.guard = Guard()
    return running.guard


def _make_group(path: str, running: Running) -> None:
    if not running.groups:
        cgroup.prepare(running.facts.controllers)
    running.groups.append(path)
    cgroup.make(path, running.facts.controllers)


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


def _mend_once() -> None:
    """Once per process, and while the container starts by itself: remove what dead ones have left."""
    global _mended
    if not _mended:
        _mended = True
        lease.mend()
