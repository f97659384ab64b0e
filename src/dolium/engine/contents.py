"""The files of a remembered container, whether it runs or not: all of them, or what it has changed of its image."""

import os

from dolium.engine import config, etc, life, processes, rootfs, tar
from dolium.engine.stack import Stack
from dolium.errors import StateError, Unsupported
from dolium.runtime import host, joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dolium.engine.stack import Change
    from dolium.engine.store import Container

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def whole(container: "Container") -> "Stack":
    """All that shows in it, but for what is mounted; close it in the end.  A plain user's process is in a user namespace then.

    Raises Unsupported for one that is made of this host's own programs, StateError, NotFound, OSError and DoliumError.
    """
    container.must_be_whole()
    if container.image in rootfs.OWN:
        raise Unsupported(f"the files of {container.image}", "they are this host's own programs, which run nowhere else",
                          hint=f"`dolium diff {container.name}` lists what it wrote; start from an image to make one")  # fmt: skip
    if container.remove:
        return _of_running(container)
    return _opened([f"{container.path}/upper", *lowers(container)])


def lowers(container: "Container") -> "list[str]":
    """The directories of its image, the uppermost first.  Raises NotFound."""
    return rootfs.find(container.image, container.digest).lowers()


def _opened(paths: "list[str]") -> "Stack":
    is_rootless = host.facts().rootless
    roots: list[int] = []
    stack = Stack(roots, rootless=is_rootless)
    try:
        for path in paths:
            roots.append(os.open(path, DIRECTORY))
        _see_as_container()
    except BaseException:
        stack.close()
        raise
    return stack


def _see_as_container() -> None:
    """A plain user's files are root's in his container, and others' nobody's; root there reads what is his, whatever its mode."""
    if host.facts().rootless:
        from dolium.core import sys

        sys.own_users()


def _of_running(container: "Container") -> "Stack":
    """One whose files are gone when it ends are seen in its root alone.  Raises StateError."""
    first, now = life.first_process(container, "running")
    try:
        facts = processes.found_running(now)
        root = joining.open_path(facts, first, "/", os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(first)
    _see_as_container()
    return Stack([root], rootless=facts.rootless, id_base=facts.id_base)


def changes(container: "Container") -> "Iterator[Change]":
    """What it has added, changed and removed; but not the empty places that were made for what is mounted.

    Raises StateError for one that is removed when it ends, NotFound, OSError and DoliumError.
    """
    container.must_be_whole()
    if container.remove:
        raise StateError(container.name, "removed when it ends (--rm)", "kept", hint="start it without `--rm`")
    is_own = container.image in rootfs.OWN
    stack = _opened([f"{container.path}/upper", *([] if is_own else lowers(container))])
    known = _filling(container) if is_own else set()
    places = _places(container, rootfs.find(container.image).mounts if is_own else [])
    touched: dict[bytes, Change] = {}
    try:
        for change in stack.changes():
            entry = change.entry
            if is_own and change.kind == "D" and entry.name not in known:
                continue
            if change.kind == "A" and entry.name in known:
                change.kind, change.is_touched = "C", entry.kind == tar.DIRECTORY
            elif change.kind == "A" and entry.name in places and not entry.size and entry.kind in (tar.FILE, tar.DIRECTORY):
                continue
            if change.is_touched and any(each.startswith(entry.name + b"/") for each in places):
                touched[entry.name] = change
                continue
            for above in _above(entry.name):  # the nearest root first
                if above in touched:
                    yield touched.pop(above)
            yield change
    finally:
        stack.close()


def _above(name: bytes) -> "Iterator[bytes]":
    at = name.find(b"/")
    while at > 0:
        yield name[:at]
        at = name.find(b"/", at + 1)


def _places(container: "Container", mounts: "list[dict[str, Any]]") -> "set[bytes]":
    """Where something is mounted in it, as names in an archive, with the directories above them."""
    options = container.request()
    own = [path for path, _ in etc.files("x", config.Options(), None)[0]]
    paths = [*own, *(path for path, _, _ in config.MOUNTS), *(path for path, _ in options.tmpfs),
             *(path for _, path, _ in options.volumes), *options.places, *(each["destination"] for each in mounts)]  # fmt: skip
    clean = {os.fsencode(os.path.normpath("/" + path).lstrip("/")) for path in paths}
    return clean | {above for each in clean for above in _above(each)}


def _filling(container: "Container") -> "set[bytes]":
    """What was there before, of a root that was filled for it."""
    found = rootfs.find(container.image)
    paths = [path for path, *_ in (*found.directories, *found.links, *found.files)]
    return {os.fsencode(path.lstrip("/")) for path in paths}
