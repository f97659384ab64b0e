"""Which images there are, under which names: `images/images.db` (SQLite, WAL) over the blobs of engine/blobs.py.

A name is a whole reference (`docker.io/library/alpine:3.20`), and leads to the digest of one manifest.  An image without a name
stays until it is pruned.  Blobs that the database does not know of are collected; a pull, which brings blobs before the image that
they are of, holds `images/lock` shared until it has recorded them, and whoever collects holds it alone.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from time import time

from dolium.engine import blobs, manifests, spare, unsynced
from dolium.errors import DoliumError, ImageError, NotFound
from dolium.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    Result = TypeVar("Result")

VERSION = 1
TABLES = """
create table image (digest text primary key, id text not null, size integer not null, platform text not null, created text not null,
                    added real not null) without rowid;
create table name (name text primary key, digest text not null references image, source text not null, pulled real not null)
                    without rowid;
create table holds (digest text not null references image, blob text not null, primary key (digest, blob)) without rowid;
"""
PATIENCE = 30.0
"""Seconds to wait for another process that writes."""
WRITING = "begin immediate"
LEAST_ID = 4
"""Characters of an id; fewer are as likely a name."""


class Image:
    """One that is in the store.

    digest   of its manifest;  id  of its config, which is what docker calls the image's id
    names    the references that lead to it, sorted;  sources  name -> digest of the index that it was chosen from, or empty
    size     bytes of its blobs;  platform  such as `linux/amd64`
    created  as its config says, RFC 3339, or empty;  added, pulled  seconds since 1970, `pulled` name -> time
    """

    __slots__ = ("digest", "id", "names", "sources", "size", "platform", "created", "added", "pulled", "_config")

    def __init__(self, digest: str, id: str, size: int, platform: str, created: str, added: float) -> None:
        self.digest: str = digest
        self.id: str = id
        self.size: int = size
        self.platform: str = platform
        self.created: str = created
        self.added: float = added
        self.names: list[str] = []
        self.sources: dict[str, str] = {}
        self.pulled: dict[str, float] = {}
        self._config: manifests.Config | None = None

    @property
    def short_id(self) -> str:
        """Twelve digits of its id, as docker shows it."""
        return self.id.partition(":")[2][:12]

    def manifest(self) -> manifests.Manifest:
        """Its manifest.  Raises ImageError where that is damaged or gone."""
        return _manifest(self.digest)

    def config(self) -> manifests.Config:
        """Its config.  Raises ImageError where that is damaged or gone."""
        self._config = self._config or _config(self.manifest())
        return self._config


class Hold:
    """Nothing is collected while this is open.  Closed by `with`, `close`, or when the process ends."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Let others collect."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "Hold":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hold() -> Hold:
    """For a pull, or whatever else brings blobs or reads those of an image.  Waits for whoever collects.  Raises OSError."""
    fd = _lock_file()
    try:
        unsynced.distrust()
        flock(fd, LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return Hold(fd)


def alone() -> "Hold | None":
    """For whoever collects; None while somebody holds.  Raises OSError."""
    fd = _lock_file()
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return Hold(fd)


def _lock_file() -> int:
    return os.open(f"{_top()}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_there() -> bool:
    return os.path.exists(f"{places.data_path()}/images/images.db")


def _top() -> str:
    return places.below(places.data(), "images")


def _manifest(digest: str) -> manifests.Manifest:
    found = manifests.parse(blobs.read(digest, manifests.MOST_MANIFEST), f"manifest {digest}")
    if not isinstance(found, manifests.Manifest):
        raise ImageError(f"manifest {digest}", "it is an index of manifests", action="read")
    return found


def _config(manifest: manifests.Manifest) -> manifests.Config:
    about = manifest.config
    return manifests.parse_config(blobs.read(about.digest, manifests.MOST_CONFIG), f"config {about.digest}", len(manifest.layers))


# ---- the database


def _with(work: "Callable[[sqlite3.Connection], Result]", begin: str = "begin") -> "Result":
    """Have work done in one transaction, `WRITING` or not.  Raises DoliumError for a database that is damaged, or of another
    version."""
    import _sqlite3 as sqlite3  # the C half is all that is needed, and is there in half the time

    top = f"{places.data_path()}/images" if _is_there() else _top()
    path = f"{top}/images.db"
    try:
        try:
            return _once(sqlite3, path, work, begin)
        except sqlite3.Error:
            if not spare.give(top):
                raise
            result = _once(sqlite3, path, work, begin)
            spare.keep(top)
            return result
    except sqlite3.Error as error:
        if spare.is_full(top):
            raise DoliumError(f"`{path}`: the disk is full", hint="remove something else on it, then `dolium prune`") from None
        raise DoliumError(f"`{path}`: {error}", hint=f"if it stays so: remove {path}*, and pull or load the images anew") from None


def _once(sqlite3: "Any", path: str, work: "Callable[[sqlite3.Connection], Result]", begin: str) -> "Result":
    database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    try:
        _settle(database, path)
        database.execute(begin)
        try:
            result = work(database)
        except BaseException:
            database.execute("rollback")
            raise
        database.execute("commit")
        return result
    finally:
        database.close()


def _settle(database: "sqlite3.Connection", path: str) -> None:
    """Made by the first who comes; of two at once one waits."""
    database.execute("pragma foreign_keys = on")
    database.execute("pragma synchronous = full")
    version = database.execute("pragma user_version").fetchone()[0]
    if version == 0:
        lock = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flock(lock, LOCK_EX)  # a change of the journal's mode waits for nobody
            if database.execute("pragma user_version").fetchone()[0] == 0:
                database.execute("pragma journal_mode = wal")
                database.executescript(f"begin immediate; {TABLES} pragma user_version = {VERSION}; commit")
        finally:
            os.close(lock)
    elif version != VERSION:
        raise DoliumError(f"`{path}` is of another version of Dolium", hint="use that version, or remove it")


def _load(database: "sqlite3.Connection", where: str = "", *given: str) -> "list[Image]":
    rows = database.execute(f"select digest, id, size, platform, created, added from image {where}", given)
    found = {row[0]: Image(*row) for row in rows}
    for name, digest, source, pulled in database.execute("select name, digest, source, pulled from name order by name"):
        if image := found.get(digest):
            image.names.append(name)
            image.sources[name] = source
            image.pulled[name] = pulled
    return sorted(found.values(), key=lambda each: each.added, reverse=True)


# ---- what can be done


def record(name: str, digest: str, *, source: str = "") -> Image:
    """Remember the image whose manifest has that digest, and all of whose blobs are there, under a whole reference, which leaves
    whatever image had it before; an empty one: without a name.  `source` is the digest of the index that it was chosen from.

    Call it while holding (`hold`).  Raises ImageError for what is missing or malformed, OSError and DoliumError.
    """
    manifest = _manifest(digest)
    config = _config(manifest)
    for layer in manifest.layers:
        if not blobs.has(layer.digest):
            raise ImageError(f"layer {layer.digest}", "it is not in the store", action="use")
        if (there := blobs.size(layer.digest)) != layer.size:
            raise ImageError(f"layer {layer.digest}", f"it has {there} bytes, and the manifest says {layer.size}", action="use")
    about = {layer.digest: layer.size for layer in manifest.layers}
    about |= {manifest.config.digest: blobs.size(manifest.config.digest), digest: blobs.size(digest)}
    held = {*about, *([source] if source else [])}
    now = time()

    def work(database: "sqlite3.Connection") -> Image:
        row = (digest, manifest.config.digest, sum(about.values()), str(config.platform), config.created, now)
        database.execute("insert into image values (?, ?, ?, ?, ?, ?) on conflict do nothing", row)
        database.executemany("insert into holds values (?, ?) on conflict do nothing", [(digest, each) for each in held])
        if name:
            database.execute("insert or replace into name values (?, ?, ?, ?)", (name, digest, source, now))
        return _load(database, "where digest = ?", digest)[0]

    image = _with(work, WRITING)
    spare.keep(_top())
    return image


def every() -> "list[Image]":
    """All of them, the last that came first; where there has never been any, nothing is made.  Raises OSError and DoliumError."""
    return _with(_load) if _is_there() else []


def find(word: str) -> Image:
    """The image of that name, or digest, or id, or beginning of an id.  Raises NotFound, with the nearest names that there are."""

    def work(database: "sqlite3.Connection") -> "list[Image]":
        for where in ("where digest = (select digest from name where name = ?)", "where digest = ?"):
            if found := _load(database, where, word):
                return found
        digits = word.removeprefix("sha256:")
        if len(digits) < LEAST_ID or digits.strip(blobs.HEX):
            return []
        return _load(database, "where substr(id, 8, ?2) = ?1", digits, str(len(digits)))

    found = _with(work) if _is_there() else []
    if len({each.id for each in found}) > 1:
        raise NotFound("image", word, several=tuple(each.short_id for each in found))
    if found:
        return found[0]
    from dolium.engine.nearest import nearest

    similar = nearest(word, [name for each in every() for name in each.names])
    raise NotFound("image", word, similar=similar, hint="" if similar else "`dolium images` lists those that are here")


def untag(name: str) -> Image:
    """Take a name away; the image that had it, which stays.  Raises NotFound, OSError and DoliumError."""

    def work(database: "sqlite3.Connection") -> "Image | None":
        found = _load(database, "where digest = (select digest from name where name = ?)", name)
        database.execute("delete from name where name = ?", (name,))
        return found[0] if found else None

    found = _with(work, WRITING)
    if found is None:
        raise NotFound("image", name, hint="`dolium images` lists those that are here")
    found.names.remove(name)
    return found


def forget(digest: str) -> bool:
    """Forget an image that has no name; what it was made of goes with `collect`.  Whether it was there, and nameless."""

    def work(database: "sqlite3.Connection") -> bool:
        found = _load(database, "where digest = ?", digest)
        if not found or found[0].names:
            return False
        database.execute("delete from holds where digest = ?", (digest,))
        database.execute("delete from image where digest = ?", (digest,))
        return True

    return _with(work, WRITING)


def collect() -> "Iterable[tuple[str, int]] | None":
    """Remove the blobs that are of no image: digest and bytes of each.  None while a pull is under way: then nothing is removed,
    and the next who collects finds them.  Raises OSError and DoliumError."""
    if not os.path.isdir(f"{places.data_path()}/images"):
        return []
    held = alone()
    if held is None:
        return None
    with held:
        known: set[str] = set()
        if _is_there():
            known = _with(lambda database: {row[0] for row in database.execute("select distinct blob from holds")})
        gone = [*blobs.forget_partial()]
        for digest, size in [*blobs.every()]:
            if digest not in known:
                blobs.remove(digest)
                gone.append((digest, size))
        spare.keep(_top())
        return gone
