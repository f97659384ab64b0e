"""Snapshots: the files that a container had, kept until nobody in any process uses them.

    snapshots/NAME/tree        what it had that its image has not; or all, where there is no image below
    snapshots/NAME/about.json  how large

Who has a snapshot, or a container made from one, shares its directory (engine/trees.py).  The kernel drops that when it dies,
however it dies; a snapshot that nobody shares is removed by whoever lets go of it last, or else by the next who makes a container,
or by `dolium prune`.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH

from dolium.core import interrupts
from dolium.engine import rootfs, store, tar, trees
from dolium.engine.stack import Stack
from dolium.errors import DoliumError, StateError
from dolium.runtime import host, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from dolium.engine import images
    from dolium.engine.rootfs import Rootfs

    Found = Iterator[tuple[tar.Entry, Any]]

DEEPEST = 100
"""Snapshots of snapshots; what is deeper is copied into one.  overlayfs takes 500 layers, and a file is looked for in each."""
MULTIPLE = (6, 5)
"""Linux that takes more layers than two, plan/mounts.py."""
_held: "set[Hold]" = set()
_making: "set[int]" = set()


class Hold:
    """Layers that stay as long as this is open; what a container calls its `use`.  `names` are theirs, the lowest first.

    Raises DoliumError where one is gone.
    """

    __slots__ = ("digest", "names", "base", "image", "_locks")

    def __init__(self, names: "list[str]", base: "trees.Use | None") -> None:
        self.digest: str = base.digest if base else ""
        self.image: images.Image | None = base.image if base else None
        self.names: list[str] = names
        self.base: trees.Use | None = base
        self._locks: list[int] = []
        _held.add(self)
        for name in names:
            lock = trees.share(f"{_top()}/{name}")
            if lock < 0:
                self.close()
                raise DoliumError("the snapshot has been removed", hint="keep it open as long as containers are to be made from it")
            self._locks.append(lock)

    def close(self) -> None:
        """Let go; who is the last removes them."""
        if self not in _held:
            return
        _held.discard(self)
        self.forget()
        for name in self.names:
            trees.remove(f"{_top()}/{name}", lambda: False)
        if self.base:
            self.base.close()

    def forget(self) -> None:
        """In a forked child: they are its parent's."""
        while self._locks:
            os.close(self._locks.pop())


class Image:
    """What a container can be made of: layers of snapshots over what the first container was made of (`below`, its name), which
    does not count where `is_whole`.  Close it in the end."""

    __slots__ = ("below", "is_whole", "hold")

    def __init__(self, below: str, is_whole: bool, hold: Hold) -> None:
        self.below: str = below
        self.is_whole: bool = is_whole
        self.hold: Hold = hold

    def provide(self) -> Hold:
        """For one more container.  Raises StateError where it is closed, or of the process that this one was forked from."""
        if self.hold not in _held:
            raise StateError("snapshot", "closed", "open", hint="close it when no container is to be made from it any more")
        return Hold(self.hold.names, _again(self.below, self.hold.digest))

    def rootfs(self) -> "Rootfs":
        """What a container made from it has as `/`."""
        own = rootfs.find(self.below) if self.below in rootfs.OWN else None
        trees_of = [f"{name}/tree" for name in self.hold.names]
        if self.is_whole:
            found = rootfs.Rootfs(self.below, "overlay", _path())
            found.layers = trees_of
        else:
            found = rootfs.find(self.below, self.hold.digest)
            found.above_path, found.above = _path(), trees_of
        if own:
            found.mounts, found.path_first = own.mounts, own.path_first
        return found


def of_root(below: str, digest: str, root: int, id_base: int) -> Image:
    """A copy of all that a container that runs has at `root`, an open directory that is this function's own, but for what is
    mounted there.  Raises OSError, ImageError and DoliumError."""
    stack = Stack([root], rootless=host.facts().rootless, id_base=id_base)
    try:
        with _New() as new:
            return Image(below, True, Hold([new.fill(stack.everything(), [])], _again(below, digest)))
    finally:
        stack.close()


def of_upper(below: "str | Image", digest: str, upper: int, id_base: int) -> Image:
    """A copy of what a container has changed, `upper` being the uppermost directory of its overlay; as above."""
    earlier = below if isinstance(below, Image) else None
    found = earlier.rootfs() if earlier else rootfs.find(str(below), digest)
    start, is_whole = (earlier.below, earlier.is_whole) if earlier else (str(below), False)
    names = earlier.hold.names if earlier else []
    roots = [upper]
    stack = Stack(roots, rootless=host.facts().rootless, id_base=id_base)
    try:
        for path in found.lowers():
            roots.append(os.open(path, trees.DIRECTORY))
        with _New() as new:
            name = new.fill(_changes(stack), found.lowers())
            return Image(start, is_whole, Hold([*names, name], _again(start, digest)))
    finally:
        stack.close()


def _again(below: str, digest: str) -> "trees.Use | None":
    """What the first container was made of, held for one more.  Raises DoliumError where it is another now."""
    base = rootfs.provide(below)
    if base and base.digest != digest:
        base.close()
        raise DoliumError(f"`{below}` is not what it was when the container was made",
                          hint="make the container and its snapshot anew")  # fmt: skip
    return base


def is_deep(image: "str | Image") -> bool:
    """Whether a snapshot of a container made from it would have more layers than are good."""
    count = len(image.hold.names) if isinstance(image, Image) else 0
    return count >= (DEEPEST if host.facts().kernel >= MULTIPLE else 1)


def _changes(stack: Stack) -> "Found":
    """As a layer of an image says them."""
    from dolium.engine import commits

    for change in stack.changes():
        commits.must_be_said(change.entry)
        if change.kind == "D":
            above, slash, name = change.entry.name.rpartition(b"/")
            yield tar.Entry(above + slash + commits.REMOVED + name, tar.FILE), None
        else:
            yield change.entry, change.content


class _New:
    """A new directory, held until the end of `with`, which gives its name; `fill` it there.  An error removes it."""

    def __enter__(self) -> "_New":
        mend()
        self._lock = -1
        while self._lock < 0:  # who looks for dead ones may have found this one before it was held
            self.name = os.urandom(8).hex()
            self._path = f"{_top()}/{self.name}"
            os.mkdir(self._path, 0o700)
            self._lock = trees.lock(self._path, LOCK_SH)
        _making.add(self._lock)
        return self

    def fill(self, found: "Found", below: "list[str]") -> str:
        """Write them into it, above these layers; its name.  Raises ImageError and OSError."""
        size = _fill(found, below, f"{self._path}/new")
        store.write(f"{self._path}/about.json", {"format": store.FORMAT, "size": size})
        os.rename(f"{self._path}/new", f"{self._path}/tree")
        return self.name

    def __exit__(self, kind: object, *_: object) -> None:
        if self._lock not in _making:  # a forked child
            return
        _making.discard(self._lock)
        os.close(self._lock)
        if kind:
            trees.erase(self._path)


def _fill(found: "Found", below: "list[str]", where: str) -> int:
    """Bytes of it."""
    from dolium.engine import unpack, whiteouts

    os.mkdir(where, 0o755)
    os.chmod(where, 0o755)
    root, own = os.open(where, trees.DIRECTORY), host.facts().rootless
    try:
        unpacker = unpack.Unpacker(root, "the snapshot", own)
        if below:
            unpacker = whiteouts.LayerUnpacker(root, "the snapshot", own, lambda: below[::-1])
        try:
            for entry, content in found:
                interrupts.check()
                unpacker.add(entry, _pieces(content or ()))
        finally:
            unpacker.flush()
        return unpacker.size
    finally:
        os.close(root)


def _pieces(content: "Iterable[bytes]") -> "Iterator[memoryview]":
    for piece in content:
        interrupts.check()
        yield memoryview(piece)


def mend() -> int:
    """Remove what those that were killed have left; how many bytes that were."""
    return sum(trees.remove(path, lambda: False) or 0 for path in every())


def every() -> "list[str]":
    """Directories of all snapshots of this user, and of what is left of some."""
    return [f"{_path()}/{name}" for name in sorted(os.listdir(_path()))] if os.path.isdir(_path()) else []


def is_used(path: str) -> bool:
    """Whether somebody shares it."""
    held = trees.lock(path, LOCK_EX | LOCK_NB)
    if held >= 0:
        os.close(held)
    return held < 0 and os.path.isdir(path)


def _path() -> str:
    return f"{places.data_path()}/snapshots"


def _top() -> str:
    return places.below(places.data(), "snapshots")


def _after_fork() -> None:
    """A lock belongs to the open file: with a forked child it would outlive its owner."""
    for each in _held:
        each.forget()
    _held.clear()
    for lock in _making:
        os.close(lock)
    _making.clear()


os.register_at_fork(after_in_child=_after_fork)
