"""Hooks in a container's namespaces, and mappings of users for its mounts: done by processes of dolium-init's, never by Python."""

import os
from select import POLLIN, poll

from dolium.core import wire
from dolium.core.wire import BOTH, INSIDE, OUTSIDE, Step, strings
from dolium.errors import HookError, StepError
from dolium.plan import joining, namespaces, program, slots
from dolium.plan.onecall import Slot, call
from dolium.runtime import hooks, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.plan.facts import Facts
    from dolium.runtime.listener import Listener


EACCES = 13


class Helping(watched.Watched):
    """A process that dolium-keep watches over while a hook runs."""

    __slots__ = ("planned", "listener")

    def __init__(self, steps: "list[Step]", spec: "dict[str, Any]", facts: "Facts", filled: "dict[int, int]") -> None:
        super().__init__(spec, facts, filled)
        self.planned = steps
        self.listener: Listener | None = None
        if any(step.op == "notify" for step in steps):
            from dolium.runtime import listener

            self.listener = listener.Listener()
            filled[slots.DENIALS] = self.listener.door

    def steps(self) -> "list[Step]":
        """Its plan."""
        return self.planned

    def offered(self) -> int:
        """The descriptor that comes next: the terminal, or a pidfd of the program that runs.  Raises StepError."""
        return self._hear_descriptor(b"S")

    def home(self) -> None:
        """Where its HOME is to be found out, do so.  Raises StepError."""
        if any(step.op == "home" for step in self.planned):
            from dolium.runtime import home

            self._hear(b"H", 1)
            assert self.helper
            home.put(self.helper, self.planned)
            self.helper.socket.send(b"G")

    def attach(self) -> None:
        """Where it is systemd that puts it into its group, have that done.  Raises DoliumError."""
        for step in self.planned:
            if step.op == "attach":
                from dolium.runtime import units

                self._hear(b"H", 1)
                assert self.helper
                units.attach(self.spec["dolium"]["unit"], self.helper.child(), step.path2)
                self.helper.socket.send(b"G")

    def notify(self, told: "dict[str, Any]") -> None:
        """Where its filter leaves calls to an agent, hand that the listener; `told` is the container's state.  Raises
        DoliumError."""
        if self.listener:
            self._hear(b"H", 1)
            assert self.helper
            self.listener.hand_over(self.spec["linux"]["seccomp"], told, self.helper.child())
            self.helper.socket.send(b"G")


def run_before_pivot(spec: "dict[str, Any]", facts: "Facts", pid: int, hook: "dict[str, Any]", why: str,
                     told: "dict[str, Any]") -> None:  # fmt: skip
    """createContainer: in the container's namespaces, but with the root that its first process still has, the host's.

    Raises HookError."""
    first = os.pidfd_open(pid)
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    types = namespaces.wanted(spec) | namespaces.joined(spec) | ({"user"} if facts.own_users else set())
    argv, env = hook.get("args") or [hook["path"]], hook.get("env", [])
    steps = [
        Step("clone", OUTSIDE, why, what="clone3"),
        namespaces.forget(),
        Step("join", INSIDE, why, fd=slots.CONTAINER, n1=namespaces.flags(types), what="join its namespaces"),
        *namespaces.become_root(facts),
        call(why, "fchdir", (Slot(slots.ROOT),), what="fchdir", note=""),
        call(why, "chroot", (b".\0",), what="chroot", note=""),
        call(why, "chdir", (os.fsencode(told["bundle"]) + b"\0",), what="chdir to the bundle", note="as those on the host",
             accept=(EACCES,)),  # root of other users may not be let in
        program.umask(spec),
        Step(
            "exec",
            INSIDE,
            why,
            data=strings(hook["path"], *argv, why=why) + strings(*env, why=why),
            n1=1,
            n2=len(argv),
            n3=len(env),
            what=f"exec {hook['path']}",
        ),
        Step("keep", OUTSIDE, why, fd=slots.KEEP, data=strings("announce"), what="become dolium-keep"),
    ]
    helping = Helping(steps, spec, facts, {slots.CONTAINER: first, slots.ROOT: root})
    _run(helping, lambda passed: wire.encode(steps, passed).data, hook, why, told)


def run_inside(spec: "dict[str, Any]", facts: "Facts", pid: int, hook: "dict[str, Any]", why: str, told: "dict[str, Any]") -> None:
    """startContainer: as a process of the container, with its rights and no others.  Raises HookError."""
    process = {**spec["process"], "args": hook.get("args") or [hook["path"]], "env": hook.get("env", []), "cwd": "/"}
    process.pop("execCPUAffinity", None)
    own = {**spec["dolium"], "watch": {}, "preserve": 0, "hook": True}
    inner = {**spec, "process": process, "dolium": own}
    steps = joining.plan(inner, facts)
    execute = next(step for step in steps if step.op == "exec")
    execute.data = strings(hook["path"], *process["args"], why=why) + strings(*process["env"], why=why)
    execute.n1 = 1
    helping = Helping(steps, inner, facts, {slots.CONTAINER: os.pidfd_open(pid)})
    _run(helping, lambda passed: wire.encode(steps, passed).data, hook, why, told)


def _run(helping: Helping, message: "Callable[[dict[int, int]], bytes]", hook: "dict[str, Any]", why: str,
         told: "dict[str, Any]") -> None:  # fmt: skip
    stdin, words = hooks.given(told), os.memfd_create("words", os.MFD_CLOEXEC)
    try:
        helping.begin(message, (stdin, words, words), {})
        helping.attach()
        try:
            helping.notify(told)
            os.close(helping.offered())
        except StepError as error:
            raise HookError(why, hook["path"], str(error)) from None
        waiting = poll()
        waiting.register(helping.fileno(), POLLIN)
        timeout = hook.get("timeout")
        if not waiting.poll(timeout * 1000 if timeout else None):
            raise HookError(why, hook["path"], f"took longer than its {timeout} s", hooks.said(words))
        found = helping.finish()
        problem = hooks.ended(-found.signal if found.signal else found.exit_code)
        if problem:
            raise HookError(why, hook["path"], problem, hooks.said(words))
    finally:
        helping.abandon()
        os.close(stdin)
        os.close(words)


def make_users(step: "Step", facts: "Facts") -> int:
    """A descriptor of a user namespace that has the step's mapping, and nobody in it.  Raises StepError."""
    steps = [
        Step("clone", OUTSIDE, step.why, n1=namespaces.FLAGS["user"], what=step.what),
        Step("map_ids", OUTSIDE, step.why, path=step.path, path2=step.path2, n1=1, what="uid_map"),
        Step("ask", OUTSIDE, step.why, what="meet Python"),
        Step("sync", BOTH, step.why, what="never"),
    ]
    helping = Helping(steps, {}, facts, {})
    try:
        helping.begin(lambda passed: wire.encode(steps, passed).data, (0, 1, 2), {})
        helping._hear(b"H", 1)
        assert helping.helper
        return os.open(f"/proc/{helping.helper.child()}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        helping.abandon()
