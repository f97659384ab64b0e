"""Tarballs as rootfs: unpacked once, into a cache that is named by what is in them.

    rootfs/sha256-HEX/tree        the files, there when they are all there
    rootfs/sha256-HEX/about.json  of what, how many, how large
    rootfs/sha256-HEX/new         files on their way in or out
    rootfs/seen/DEVICE-INODE-SIZE-MTIME-CTIME -> ../sha256-HEX

Who is about to use one, or does so without being remembered (dolium.run), shares its directory (engine/trees.py).
"""

import os
from time import time

from dolium.engine import rootfs, store, trees
from dolium.errors import ImageError, NotFound
from dolium.plan.quantities import quoted, show_size
from dolium.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Say = Callable[[str], object]

SETTLED = 2.0
"""Seconds: a file changed so lately can change again without a new time, whose grain is a tick of the clock."""
WHOLE = 1 << 20
LARGE = 8 << 20
"""Bytes: what takes less than a second is not talked about."""
ARCHIVES = (("oci-layout", "of an OCI image (oci-archive)"), ("manifest.json", "of an image (docker save)"))
ROOTS = {"bin", "dev", "etc", "lib", "sbin", "usr"}
"""What a rootfs has at least one of, if it is to be told from something else."""


def provide(path: str, say: "Say | None" = None) -> trees.Use:
    """Unpack the tarball at that path, unless that is done; `say` is told before it takes time.

    Raises ImageError, Unsupported, OSError and DoliumError; then nothing is left of it.
    """
    fd = _open(path)
    try:
        status = os.fstat(fd)
        digest = _seen(_top(), status)
        if digest and (lock := _share(digest)) >= 0:
            return trees.Use(digest, lock, [])
        mend()
        digest = _digest(fd, path)
        notes: list[str] = []
        while (lock := _share(digest)) < 0:
            notes = _unpack(fd, path, digest, say)
        try:
            _remember(fd, path, status, digest)
        except BaseException:
            os.close(lock)
            raise
        return trees.Use(digest, lock, notes)
    finally:
        os.close(fd)


def look(path: str) -> "tuple[str, bool]":
    """The digest of the tarball at that path, and whether it is unpacked; nothing is made.  Raises ImageError and OSError."""
    top = f"{places.data_path()}/rootfs"
    fd = _open(path)
    try:
        digest = _seen(top, os.fstat(fd)) or _digest(fd, path)
    finally:
        os.close(fd)
    return digest, os.path.isdir(rootfs.unpacked(digest))


def _top() -> str:
    return places.below(places.data(), "rootfs")


def _name(digest: str) -> str:
    return digest.replace(":", "-")


def _shown(path: str) -> str:
    """In an error: its last name, which a long path would push out of the line."""
    return quoted(os.path.basename(path))


def _open(path: str) -> int:
    """A regular file, and nothing that would block or change by being opened.  Raises ImageError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ImageError(quoted(path), error.strerror or str(error)) from None
    if os.fstat(fd).st_mode & 0o170000 != 0o100000:
        os.close(fd)
        raise ImageError(quoted(path), "it is no regular file")
    return fd


def _print(status: os.stat_result) -> str:
    return f"{status.st_dev}-{status.st_ino}-{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _seen(top: str, status: os.stat_result) -> str:
    """The digest of a file that was read before and has not changed since; empty where none was."""
    try:
        return os.path.basename(os.readlink(f"{top}/seen/{_print(status)}")).replace("-", ":")
    except OSError:
        return ""


def _remember(fd: int, path: str, status: os.stat_result, digest: str) -> None:
    if _print(os.fstat(fd)) != _print(status):
        raise ImageError(_shown(path), "it changed while it was read", hint="is it still being written or downloaded?")
    if time() - max(status.st_mtime, status.st_ctime) < SETTLED:
        return
    seen = places.below(_top(), "seen")
    try:
        os.symlink(f"../{_name(digest)}", f"{seen}/{_print(status)}")
    except FileExistsError:
        pass


def _digest(fd: int, path: str) -> str:
    """Of a tarball.  Of what does not begin as one, or is compressed by what cannot be undone here, nobody wants to know it:
    raises ImageError and Unsupported."""
    from hashlib import sha256

    from dolium.engine import compression, tar

    stream = compression.Stream(fd, _shown(path))
    try:
        next(iter(tar.Reader(stream)), None)
    finally:
        stream.close()
    total, at = sha256(), 0
    while data := os.pread(fd, WHOLE, at):
        total.update(data)
        at += len(data)
    return f"sha256:{total.hexdigest()}"


def _share(digest: str) -> int:
    """Keep it from being removed; -1 where it is not there.  Waits for whoever unpacks it."""
    return trees.share(f"{_top()}/{_name(digest)}")


def _unpack(fd: int, path: str, digest: str, say: "Say | None") -> "list[str]":
    """The file into its place, or nothing of it; what there is to say of it.  It may be there already: somebody was faster."""
    notes: list[str] = []

    def fill(where: str) -> "dict[str, Any]":
        if say and os.fstat(fd).st_size > LARGE:
            say(f"unpacking {_shown(path)} ({show_size(os.fstat(fd).st_size)}): only this time")
        about, said = _fill(fd, path, digest, where)
        notes.extend(said)
        return about

    trees.make(f"{_top()}/{_name(digest)}", fill)
    return notes


def _fill(fd: int, path: str, digest: str, where: str) -> "tuple[dict[str, Any], list[str]]":
    """Unpack into a new directory, until the disk has it all; what is to be remembered of it, and to be said."""
    from dolium.core import sys
    from dolium.engine import compression, tar, unpack
    from dolium.runtime import host

    name, own = _shown(path), host.facts().rootless
    os.lseek(fd, 0, os.SEEK_SET)
    os.mkdir(where, 0o755)
    os.chmod(where, 0o755)
    root = os.open(where, trees.DIRECTORY)
    try:
        stream = compression.Stream(fd, name)
        try:
            unpacker = unpack.Unpacker(root, name, own)
            try:
                reader = tar.Reader(stream)
                for entry in reader:
                    unpacker.add(entry, reader.content())
            finally:
                unpacker.flush()
            if stream.digest() != digest:
                raise ImageError(name, "it changed while it was read", hint="is it still being written or downloaded?")
        finally:
            stream.close()
        _must_be_rootfs(name, os.listdir(root))
        sys.sync_file_system(root)
    finally:
        os.close(root)
    notes = []
    if unpacker.no_devices:
        count = unpacker.no_devices
        notes.append(f"{name}: {count} device node{'s' if count > 1 else ''} left out, which only root can make; "
                     "each container has a /dev of its own")  # fmt: skip
    return {"format": store.FORMAT, "source": path, "entries": unpacker.entries, "size": unpacker.size, "time": time()}, notes


def _must_be_rootfs(name: str, found: "list[str]") -> None:
    """Archives of images are tar archives too.  Raises ImageError."""
    if not found:
        raise ImageError(name, "the archive is empty")
    kind = next((each for name, each in ARCHIVES if name in found), "")
    if kind and not ROOTS & {*found}:
        form = kind.partition("(")[2].rstrip(")").replace("docker save", "docker-archive")
        raise ImageError(name, f"it is the archive {kind}", hint=f"dolium run {form}:FILE runs it, dolium load -i FILE keeps it")


def mend() -> None:
    """Remove what one that was killed has left, and marks of files whose tarballs are gone."""
    top = _top()
    for name in os.listdir(top):
        if name == "seen":
            for each in os.listdir(f"{top}/seen"):
                if not os.path.exists(f"{top}/seen/{each}"):
                    _forget(f"{top}/seen/{each}")
        else:
            trees.mend(f"{top}/{name}")


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def prune() -> "Iterator[tuple[str, int]]":
    """Remove those that no container uses: the name and the bytes of each that is gone.  Raises OSError and DoliumError."""
    if not os.path.isdir(f"{places.data()}/rootfs"):
        return
    top = _top()
    for name in sorted(os.listdir(top)):
        path = f"{top}/{name}"
        if name == "seen":
            continue
        gone = trees.remove(path, lambda name=name: any(_name(each.digest) == name for each in store.every()))  # type: ignore[misc]
        if gone is not None:
            yield name, gone
    mend()


def must_be_there(image: str, digest: str) -> None:
    """Of a container that was made from it.  Raises NotFound."""
    if not os.path.isdir(rootfs.unpacked(digest)):
        raise NotFound("unpacked copy of", image, hint="its directory has been removed; dolium rm the container, and run it anew")
