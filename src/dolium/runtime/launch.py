"""Carry out a plan: the host's steps here, the others by dolium-init; then wait, and leave nothing behind."""

import os
from _socket import MSG_CMSG_CLOEXEC
from _struct import Struct
from time import monotonic_ns

from dolium.core import spawn, wire
from dolium.errors import DoliumError, Unsupported
from dolium.plan import build, program, slots
from dolium.plan.quantities import show_size
from dolium.runtime import cgroup, lease, plans, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts
    from dolium.runtime.ending import Ending
    from dolium.runtime.guard import Guard
    from dolium.runtime.held import Hold

    class Use(Protocol):
        """What a container's files are, kept until it is closed (engine.trees.Use)."""

        digest: str
        image: Any

        def close(self) -> None: ...

GUARDED = {"make_net": "unshare", "nft": "execve", "resolver": "bind"}
"""The host's steps that runtime/guard.py carries out, and the call that most likely fails in each."""
LIFE = Struct("=Bq")
"""init/keep.c"""
OURS = (slots.START, slots.NETWORK, slots.HOST_NETWORK)
"""Slots whose descriptors are of no use here once dolium-init has them."""
_mended = False


class Running(watched.Watched):
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

    def count(self, found: "Ending") -> None:
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
    from dolium.core.interrupts import Held

    with Held():
        return _carried_out(steps, filled)


def _carried_out(steps: "list[Step]", filled: "dict[int, int]") -> "tuple[bytes, list[tuple[int, int, bytes]]]":
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

        raise watched.step_error(message.steps[report.failed], message.steps, report.errno, report.call, host.facts())
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
        raise watched.step_error(failed, steps, error.errno or 0, call, running.facts) from None


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


def _mend_once() -> None:
    """Once per process, and while the container starts by itself: remove what dead ones have left."""
    global _mended
    if not _mended:
        _mended = True
        lease.mend()
