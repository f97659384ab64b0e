"""A snapshot of a Sandbox: its files, for other containers."""

import os
from time import monotonic, sleep

from dolium.core.interrupts import Held, Let
from dolium.engine import snapshots
from dolium.errors import StateError
from dolium.sandbox import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.snapshots import Image
    from dolium.sandbox.box import Sandbox

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
MOMENT = 0.5
"""Seconds in which what has ended is gone."""


class Snapshot:
    """The files that a Sandbox had: the `image` of any number of containers, each of which sees its own copy.  Made by
    `Sandbox.snapshot`; use it with `with`, or `close` it.  It is removed when it is closed, or this process has ended, and no
    container that was made from it is left.  A process that was forked from this one cannot use it."""

    def __init__(self, image: "Image") -> None:
        self._image = image
        self._is_closed = False

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_is_closed"):
            self.close()

    def __repr__(self) -> str:
        return f"<Snapshot over {self._image.below}: {'closed' if self._is_closed else self.depth}>"

    @property
    def depth(self) -> int:
        """How many snapshots lie over each other in it: each of a container that was made from the one before."""
        return len(self._image.hold.names)

    def close(self) -> None:
        """Remove it, as soon as no container needs it.  Closing twice is no mistake."""
        self._is_closed = True
        with Held():
            self._image.hold.close()


def taken(box: "Sandbox") -> Snapshot:
    """One of a Sandbox in which nothing can be started meanwhile.  Raises what Sandbox.snapshot does."""
    with Held():
        return _taken(box)


def _taken(box: "Sandbox") -> Snapshot:
    first = box._enter()
    try:
        running = box._running
        if running is None or running.helper is None:
            raise StateError(box.id, "closed", "running")
        with Let():
            _must_be_still(box, running.pid())
        is_overlay = running.spec["dolium"]["root"]["kind"] != "tmpfs"
        id_base = running.facts.id_base
        digest = running.use.digest if running.use else ""
        if is_overlay and not snapshots.is_deep(box._image):
            image = snapshots.of_upper(box._image, digest, _upper(running.helper.pid), id_base)
        else:
            below = box._image if isinstance(box._image, str) else box._image.below
            root = files.open_path(running.facts, first, "/", DIRECTORY)
            image = snapshots.of_root(below, digest, root, id_base)
        found = Snapshot(image)
        try:
            box._must_run()
        except BaseException:
            found.close()
            raise
        return found
    finally:
        os.close(first)


def _upper(keeper: int) -> int:
    """The upper directory of the container that this dolium-keep watches over."""
    with open(f"/proc/{keeper}/cmdline", "rb") as file:
        words = file.read().split(b"\0")  # it has put a NUL in the place of each `=`
    number = int(words[words.index(b"store") + 1])
    return os.open(f"/proc/{keeper}/fd/{number}/upper", DIRECTORY | os.O_CLOEXEC)


def _must_be_still(box: "Sandbox", first: int) -> None:
    """Raises StateError while there is another process in it than the first."""
    deadline, others = monotonic() + MOMENT, list[int]()
    while box._starting or (others := _members(first)):
        if monotonic() > deadline:
            what = "starting a program"
            if others:
                what = f"running {len(others)} process{'es' if len(others) > 1 else ''} (pid {others[0]})"
            raise StateError(box.id, what, "at rest",
                             hint="a snapshot has no processes: wait for them, or kill them, first")  # fmt: skip
        sleep(0.005)


def _members(first: int) -> "list[int]":
    """All in the PID namespace of that process, but itself."""
    own, found = os.stat(f"/proc/{first}/ns/pid").st_ino, []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and int(name) != first and os.stat(f"/proc/{name}/ns/pid").st_ino == own and not _is_dead(name):
                found.append(int(name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or somebody else's
            pass
    return found


def _is_dead(pid: str) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
