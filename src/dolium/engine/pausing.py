"""Stop all processes of a remembered container for a while, by the freezer of its cgroup v2 (cgroups(7), cgroup.freeze).

A child process lets them go on when we end, also by SIGKILL: a container must not stay frozen because whoever looked at it died.
"""

import os
from time import sleep

from dolium.engine import settling
from dolium.errors import DoliumError, Unsupported
from dolium.runtime import cgroup, lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container

LOOKS = 5000
"""How often, a millisecond apart, it is looked whether all have stopped: one that is in the kernel may take its time."""


class Paused:
    """A container that is paused until the end of the `with`; one that does not run stays as it is.

    Raises Unsupported where there is no freezer, and DoliumError.
    """

    def __init__(self, container: "Container") -> None:
        self._name = container.name
        self._door = -1
        self._guard = 0
        now = settling.begun(container)
        self._group = ""
        if now and lease.held(now["lease"], container.id):
            groups = [*now["groups"].values()]
            self._group = next((each for each in groups if os.path.exists(f"{each}/cgroup.freeze")), "")
            if not self._group:
                raise Unsupported(f"pausing `{container.name}`", "it has no cgroup v2 of its own, which could be frozen",
                                  hint="--pause=false takes its files while it goes on writing")  # fmt: skip

    def __enter__(self) -> "Paused":
        if not self._group:
            return self
        freezer = os.open(f"{self._group}/cgroup.freeze", os.O_WRONLY | os.O_CLOEXEC)
        try:
            theirs, self._door = os.pipe()
            self._guard = os.fork()
            if not self._guard:
                _guard(theirs, self._door, freezer)
            os.close(theirs)
        finally:
            os.close(freezer)
        try:
            cgroup.write(f"{self._group}/cgroup.freeze", b"1")
            for _ in range(LOOKS):
                if "frozen 1" in cgroup.read(f"{self._group}/cgroup.events"):
                    return self
                sleep(0.001)
            raise DoliumError(f"`{self._name}` did not stop", hint="--pause=false takes its files while it goes on writing")
        except BaseException:
            self._let_go()
            raise

    def __exit__(self, *_: object) -> None:
        if self._group:
            self._let_go()

    def _let_go(self) -> None:
        os.close(self._door)
        os.waitpid(self._guard, 0)


def _guard(waits: int, door: int, freezer: int) -> None:
    """The child: never returns.  Nothing of a terminal's ends it before its parent."""
    try:
        os.setsid()
        os.close(door)
        os.read(waits, 1)
        os.write(freezer, b"0")
    finally:
        os._exit(0)
