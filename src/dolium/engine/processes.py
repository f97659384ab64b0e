"""One more process in a remembered container: who it is and where, from what the container was asked to be."""

import os

from dolium.engine import config, life, rootfs, users
from dolium.errors import DoliumError
from dolium.plan.facts import Hierarchy
from dolium.runtime import host, joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.store import Container
    from dolium.plan.facts import Facts


class Another:
    """What is asked for: the words of the program; variables besides the container's; directory and user, None: its own.

    `detached`: it outlives its caller; `tty`: it has a terminal, of `size` (rows, columns)."""

    __slots__ = ("argv", "env", "cwd", "user", "detached", "tty", "size")

    def __init__(self, argv: "list[str]", *, env: "dict[str, str] | None" = None, cwd: "str | None" = None,
                 user: "str | None" = None, detached: bool = False, tty: bool = False,
                 size: "tuple[int, int] | None" = None) -> None:  # fmt: skip
        self.argv = argv
        self.env = env or {}
        self.cwd = cwd
        self.user = user
        self.detached = detached
        self.tty = tty
        self.size = size


def start(container: "Container", asked: Another, stdio: "tuple[int, int, int]") -> joining.Joined:
    """Start it, and wait until it runs; `stdio` are the caller's descriptors for its 0, 1 and 2.

    Raises StateError where the container does not run, NotFound and SpecError for a user, StepError.
    """
    first, now = life.first_process(container, "running")
    try:
        facts = found_running(now)
        spec = specification(container, asked, facts, lambda path: joining.read(facts, first, path, users.CAP))
    except BaseException:
        os.close(first)
        _must_run(container)
        raise
    joined = joining.start(spec, facts, first, stdio)
    try:
        os.close(joined.started())
    except DoliumError:
        _must_run(container)
        raise
    return joined


def specification(container: "Container", asked: Another, facts: "Facts", read: "users.Read") -> "dict[str, Any]":
    """The container's config with the other process in it; `read` gives the text of a file of the container.

    Raises NotFound, SpecError and Unsupported.
    """
    options = container.request()
    options.argv = asked.argv
    options.env = {**options.env, **asked.env}
    options.cwd = asked.cwd or options.cwd
    options.tty, options.size = asked.tty, asked.size
    user = container.user if asked.user is None else asked.user
    if user is not None:
        options.user = users.find(user, read)
    if asked.detached:
        options.watch = {"detached": True}
    return config.another(container.id, options, rootfs.find(container.image, container.digest), facts)


def found_running(now: "dict[str, Any]") -> "Facts":
    """The facts of this host with the ids and the groups that a running container was given; `now` is what is written of it."""
    facts = host.facts().with_ids(now["id_base"])
    facts.controllers = {controller: Hierarchy(1 if os.path.exists(f"{path}/tasks") else 2, os.path.dirname(path))
                         for controller, path in now["groups"].items()}  # fmt: skip
    return facts


def _must_run(container: "Container") -> None:
    """What went wrong may be that the container has ended meanwhile: then that is the error.  Raises StateError."""
    first, _ = life.first_process(container, "running")
    os.close(first)
