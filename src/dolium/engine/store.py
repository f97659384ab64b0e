"""Containers that are remembered: a directory each below `containers`, and a link for each name.

    containers/ID/config.json   what was asked for, written once
    containers/ID/began.json    since when it ran last; ended.json: how that ended (engine/settling.py)
    containers/ID/upper, work   what it wrote; not for one that is removed when it ends
    containers/ID/log           what it printed, if it was started detached
    names/NAME -> ../containers/ID

Each file appears by rename, so it is whole.  Who changes a container holds the lock of its directory (flock), and a directory
without a config that nobody holds is the trace of a `dolium` that was killed while it made it.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from time import time

from dolium.core import document
from dolium.engine import config
from dolium.errors import DoliumError, Exists, NotFound, SpecError
from dolium.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
READABLE = (FORMAT,)
NOT_KEPT = ("user", "size", "store", "watch", "why_denied")
"""Options that belong to one run of a container, or are kept elsewhere."""
SIGTERM, PATIENCE = 15, 10.0
"""How a container is asked to end, and the seconds it gets for it, unless told otherwise; as docker has it."""


class Container:
    """What is known of a container whether it runs or not.  `created` is seconds since 1970; `digest` of what was unpacked for it
    (trees.Use), if something was; `manifest` the digest of that of its image, where it has one; `remove` it when it ends;
    `damage`: why what was written about it cannot be read, so that it can only be removed."""

    __slots__ = ("id", "name", "created", "image", "digest", "manifest", "user", "options", "remove", "labels", "path",
                 "stop_signal", "stop_timeout", "damage")  # fmt: skip

    def __init__(self, identity: str, fields: "dict[str, Any]", damage: str = "") -> None:
        self.id = identity
        self.damage = damage
        self.path = f"{_containers()}/{identity}"
        self.name: str = fields["name"]
        self.created: float = fields["created"]
        self.image: str = fields["image"]
        self.digest: str = fields.get("digest", "")
        self.manifest: str = fields.get("manifest", "")
        self.user: str | None = fields["user"]
        self.options: dict[str, Any] = fields["options"]
        self.remove: bool = fields["remove"]
        self.labels: dict[str, str] = fields["labels"]
        self.stop_signal: int = fields["stop_signal"]
        self.stop_timeout: float = fields["stop_timeout"]

    def request(self) -> config.Options:
        """What was asked for, as the engine reads it.  Raises DoliumError for a damaged one."""
        self.must_be_whole()
        found = config.Options()
        for name, value in self.options.items():
            setattr(found, name, value)
        return found

    def must_be_whole(self) -> None:
        """Raises DoliumError for a damaged one."""
        if self.damage:
            raise DoliumError(self.damage, hint=f"dolium rm {self.name} removes it, with all that it wrote")


class Lock:
    """Holds a container's directory; released by `with`, or when the process ends."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _containers() -> str:
    return places.below(places.data(), "containers")


def _names() -> str:
    return places.below(places.data(), "names")


def _fresh() -> "tuple[str, str, Lock]":
    """A new id, its directory and the lock on that.  Before it is locked, `every` may take it for a trace: then another."""
    while True:
        identity = os.urandom(6).hex()
        path = f"{_containers()}/{identity}"
        os.mkdir(path, 0o700)
        if held := _hold(path):
            return identity, path, held


def create(
    image: str, options: config.Options, user: "str | None", *, name: "str | None" = None, remove: bool = False,
    labels: "dict[str, str] | None" = None, stop_signal: "int | None" = None, stop_timeout: "float | None" = None,
    digest: str = "", manifest: str = "",
) -> "tuple[Container, Lock]":  # fmt: skip
    """Remember a container; nothing of it runs yet, and it is locked.  Raises Exists, OSError and DoliumError."""
    identity, path, held = _fresh()
    try:
        name = _take_name(identity, name)
        plain = config.Options()
        asked = {each: getattr(options, each) for each in config.Options.__slots__
                 if each not in NOT_KEPT and getattr(options, each) != getattr(plain, each)}  # fmt: skip
        fields = {"format": FORMAT, "name": name, "created": time(), "image": image, "digest": digest, "manifest": manifest,
                  "user": user, "options": asked, "remove": remove, "labels": labels or {}, "stop_signal": stop_signal or SIGTERM,
                  "stop_timeout": PATIENCE if stop_timeout is None else stop_timeout}  # fmt: skip
        if not remove:
            for each in ("upper", "work"):
                os.mkdir(f"{path}/{each}", 0o755)
                os.chmod(f"{path}/{each}", 0o755)
        write(f"{path}/config.json", fields, durable=not remove)
    except BaseException:
        with held:
            erase(identity, name or "")
        raise
    return Container(identity, fields), held


def passing(kept: bool) -> "tuple[str, str, Lock]":
    """The id of a container that is not to be remembered, its directory and the lock on that; `kept`: with room for what it
    writes.  Call `erase` in the end; of whoever is killed before, `every` removes the trace.

    Raises OSError and DoliumError.
    """
    identity, path, held = _fresh()
    for each in ("upper", "work") if kept else ():
        os.mkdir(f"{path}/{each}", 0o755)
    return identity, path, held


def _take_name(identity: str, wanted: "str | None") -> str:
    where = _names()
    for attempt in range(100):
        name = wanted or _invent(attempt)
        try:
            os.symlink(f"../containers/{identity}", f"{where}/{name}")
            return name
        except FileExistsError:
            if wanted and not _is_stale(f"{where}/{name}"):
                raise Exists("container", wanted, hint=f"dolium rm {wanted}, or choose another --name") from None
    raise DoliumError("no free name found", hint="give one with --name")


def _invent(attempt: int) -> str:
    from dolium.engine.names import invent

    return invent(attempt)


def _is_stale(link: str) -> bool:
    """Whether a name belongs to no container any more, or to one that calls itself otherwise; then it is free now."""
    try:
        target = os.path.basename(os.readlink(link))
    except FileNotFoundError:
        return True
    except OSError:  # no link: nothing of ours
        return False
    held = _hold(f"{_containers()}/{target}", wait=False)
    if held is None and os.path.isdir(f"{_containers()}/{target}"):
        return False  # somebody is at it
    if held:
        with held:
            if (found := load(target)) and found.name == os.path.basename(link):
                return False
    try:
        os.unlink(link)
    except FileNotFoundError:
        pass
    return True


def _hold(path: str, wait: bool = True) -> "Lock | None":
    """The lock of a directory; None where it is gone or none, or somebody's and not to be waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        flock(fd, LOCK_EX if wait else LOCK_EX | LOCK_NB)
        if os.fstat(fd).st_nlink:  # it has not been removed while we waited
            return Lock(fd)
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def hold_unless_busy(container: Container) -> "Lock | None":
    """Lock a container; None where it is gone, or somebody is at it."""
    return _hold(container.path, wait=False)


def hold(container: Container) -> Lock:
    """Lock a container, waiting for whoever is at it.  Raises NotFound where it has been removed."""
    held = _hold(container.path)
    if held is None:
        raise NotFound("container", container.name)
    return held


def load(identity: str) -> "Container | None":
    """The container of that id; None where there is none, or not yet.  What cannot be read is a damaged one."""
    path = f"{_containers()}/{identity}/config.json"
    try:
        fields = read(path)
        if fields:
            _check(fields, path)
    except DoliumError as problem:
        kept = os.path.isdir(f"{_containers()}/{identity}/upper")
        return _damaged(identity, str(problem)) if kept or os.path.getsize(path) else None  # a disk that lost power: a trace
    return Container(identity, fields) if fields else None


KINDS = {"name": str, "created": (int, float), "image": str, "user": (str, type(None)), "options": dict, "remove": bool,
         "labels": dict, "stop_signal": int, "stop_timeout": (int, float)}  # fmt: skip


def _check(fields: "dict[str, Any]", path: str) -> None:
    """Whether it can have been written by `create`.  Raises DoliumError."""
    from dolium.plan import quantities

    wrong = [name for name, kind in KINDS.items() if not isinstance(fields.get(name), kind)]  # type: ignore[arg-type]
    wrong = wrong or [name for name in fields["options"] if name not in config.Options.__slots__]
    argv = [] if wrong else fields["options"].get("argv")
    if wrong or not argv or not isinstance(argv, list) or not all(isinstance(each, str) for each in argv):
        raise DoliumError(f"`{path}` makes no sense: {', '.join(wrong) or 'argv'}")
    quantities.name(fields["name"], path)


def _damaged(identity: str, why: str) -> Container:
    def is_its(link: str) -> bool:
        try:
            return os.path.basename(os.readlink(f"{_names()}/{link}")) == identity
        except OSError:
            return False

    fields = {"name": next((each for each in os.listdir(_names()) if is_its(each)), identity), "image": "?", "user": None,
              "created": os.stat(f"{_containers()}/{identity}").st_mtime, "options": {"argv": ["?"]}, "remove": False, "labels": {},
              "stop_signal": SIGTERM, "stop_timeout": PATIENCE}  # fmt: skip
    return Container(identity, fields, why)


def _ids() -> "list[str]":
    """Of all containers, and of traces of those that never came to be."""
    return [each for each in os.listdir(_containers()) if len(each) == 12 and not each.strip("0123456789abcdef")]


def is_there(identity: str) -> bool:
    """Whether a container has that id, or is about to."""
    return os.path.isdir(f"{_containers()}/{identity}")


def every() -> "list[Container]":
    """All of them, the youngest first.  Removes the traces of those that never came to be, and names of none."""
    found = []
    for identity in _ids():
        container = load(identity)
        if container:
            found.append(container)
        elif held := _hold(f"{_containers()}/{identity}", wait=False):
            with held:
                if not load(identity):
                    erase(identity, "")
    for name in {*os.listdir(_names())} - {each.name for each in found}:
        _is_stale(f"{_names()}/{name}")
    return sorted(found, key=lambda each: each.created, reverse=True)


def find(word: str) -> Container:
    """The container of that name, or id, or beginning of an id.  Raises NotFound, with the nearest that there are."""
    if word and "/" not in word and word not in (".", ".."):
        try:
            identity = os.path.basename(os.readlink(f"{_names()}/{word}"))
            if (container := load(identity)) and word == container.name:
                return container
        except OSError:
            pass
        matches = [each for each in _ids() if each.startswith(word)]
        if len(matches) == 1 and (container := load(matches[0])):
            return container
        if len(matches) > 1:
            raise NotFound("container", word, several=tuple(matches))
    from dolium.engine.nearest import nearest

    names = [name for each in every() for name in (each.name, each.id)]
    raise NotFound(
        "container", word, similar=nearest(word, names), hint="" if nearest(word, names) else "`dolium ps -a` lists them all"
    )


def is_known(word: str) -> bool:
    """Whether a container has exactly that name or id.  Nothing is made or mended for the answer."""
    top = places.data_path()
    return "/" not in word and any(os.path.lexists(f"{top}/{each}/{word}") for each in ("names", "containers"))


def rename(container: Container, name: str) -> None:
    """Give a locked container another name.  Raises Exists, and OSError on a full disk; then it has the one it had.

    The link first, then the name in the config, which counts: a kill in between leaves a link that counts for nothing.
    """
    container.must_be_whole()
    fields = read(f"{container.path}/config.json")  # somebody may have renamed it since
    if name == fields["name"]:
        return
    _take_name(container.id, name)
    try:
        write(f"{container.path}/config.json", {**fields, "name": name})
    except BaseException:
        _drop_name(container.id, name)
        raise
    _drop_name(container.id, fields["name"])
    container.name = name


def remove(container: Container) -> None:
    """Forget a locked container that does not run, with all that it wrote."""
    name = container.name
    try:
        is_its = os.path.basename(os.readlink(f"{_names()}/{name}")) == container.id
    except OSError:
        is_its = False
    if not is_its and (now := load(container.id)):  # somebody has renamed it since
        name = now.name
    erase(container.id, name)


def erase(identity: str, name: str = "") -> None:
    """Remove a locked container's directory.  The config first: a kill in the middle leaves a trace that the next command
    removes."""
    path = f"{_containers()}/{identity}"
    for each in ("config.json", "config.json.new", "began.json", "began.json.new", "ended.json", "ended.json.new", "log"):
        try:
            os.unlink(f"{path}/{each}")
        except (FileNotFoundError, IsADirectoryError):
            pass
    try:
        os.rmdir(path)
    except OSError:
        from dolium.engine import erase as eraser

        eraser.tree(path)
    if name:
        _drop_name(identity, name)


def _drop_name(identity: str, name: str) -> None:
    link = f"{_names()}/{name}"
    try:
        if os.path.basename(os.readlink(link)) == identity:
            os.unlink(link)
    except OSError:  # gone by now, or nothing of ours
        pass


def write(path: str, value: "dict[str, Any]", durable: bool = True) -> None:
    """A file that appears whole.  `durable`: not before the disk has it."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        data = (document.write(value) + "\n").encode()
        while data:
            data = data[os.write(fd, data) :]
        if durable:
            os.fsync(fd)
    except OSError as error:
        error.filename = path  # a write knows no name
        os.unlink(f"{path}.new")
        raise
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def read(path: str) -> "dict[str, Any]":
    """What `write` wrote; empty where there is none.  Raises DoliumError for what this version cannot read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DoliumError(f"`{path}` cannot be read: {error.strerror}", hint="somebody else has put it there; remove it") from None
    try:
        with open(fd, "rb") as file:
            found = document.read(file.read().decode(), f"`{path}`")
    except (OSError, UnicodeDecodeError, SpecError) as error:
        raise DoliumError(f"`{path}` cannot be read: {error}", hint="somebody else has written it; remove it") from None
    if not isinstance(found, dict) or found.get("format") not in READABLE:
        raise DoliumError(f"`{path}` is of another version of Dolium", hint="use that version, or remove it")
    return found
