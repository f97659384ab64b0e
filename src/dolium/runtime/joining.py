"""One more process in a container that runs: carry out the plan of joining, wait, leave nothing behind."""

from dolium.core import wire
from dolium.plan import joining, slots
from dolium.runtime import launch, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts


class Joined(watched.Watched):
    """A process that has joined a container, or is about to."""

    __slots__ = ()

    def steps(self) -> "list[Step]":
        """Its plan, made anew."""
        return joining.plan(self.spec, self.facts)


def start(spec: "dict[str, Any]", facts: "Facts", container: int, stdio: "tuple[int, int, int]") -> Joined:
    """Start a process in the container whose first process the pidfd `container` is of; the pidfd is its own from now on.
    `stdio` are the caller's descriptors for its 0, 1 and 2.

    Raises SpecError and Unsupported from the planner; failures of dolium-init's own steps come from `started`.
    """
    joined = Joined(spec, facts, {slots.CONTAINER: container})
    try:
        steps = joined.steps()
        joined.begin(lambda passed: wire.encode(steps, passed).data, stdio, {})
    except BaseException:
        joined.abandon()
        raise
    return joined


def read(facts: "Facts", container: int, path: str, cap: int) -> str:
    """The text of a regular file of at most `cap` bytes in a container that runs, whatever its symlinks say; empty where
    there is none.  `container` is a pidfd.  Raises StepError."""
    return launch.read(joining.reading(facts, path, cap), {slots.CONTAINER: container})


def open_path(facts: "Facts", container: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of a file in a container that runs, opened as its root would, whatever its symlinks say; with O_CREAT
    the directories above it are made, too.  `container` is a pidfd.  Raises StepError."""
    return launch.opened(joining.opening(facts, path, flags, mode), {slots.CONTAINER: container})
