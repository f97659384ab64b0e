"""Programs in a Sandbox whose end nobody asks for any more: they go on, and what is held of each must go some time after it."""

import os
from select import POLLIN, poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.runtime.joining import Joined


class Forgotten:
    """Each with its cgroup, whose path is empty where it has none."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[Joined, str]] = []

    def add(self, joined: "Joined", group: str) -> None:
        """One more.  This comes from the garbage collector, in the middle of anything: it takes no lock."""
        self._held.append((joined, group))

    def bury(self, *, every: bool) -> None:
        """Let go of those that have ended, or of all, where there is no Sandbox any more."""
        alive = []
        while self._held:
            try:
                joined, group = self._held.pop()
            except IndexError:  # another thread's
                break
            waiter = poll()
            waiter.register(joined.fileno(), POLLIN)
            if not every and not waiter.poll(0):
                alive.append((joined, group))
            else:
                joined.abandon()
                leave(group)
        self._held += alive


def leave(group: str) -> None:
    """After a program: its cgroup goes, unless something that it has started lives on."""
    if group:
        try:
            os.rmdir(group)
        except OSError:
            pass
