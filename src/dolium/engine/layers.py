"""Layers of images, unpacked: one tree for each, which images share, and of each image a list of those that it is a stack of.

    layers/sha256-HEX   unpacked (engine/trees.py), by the digest of the uncompressed archive (its diff_id)
    layers/chain-HEX    one that takes something from those below it, by the digest of all down to it (image-spec, ChainID)
    layers/stacks/HEX   of the image with that ChainID: the names of those directories, the lowest first
    layers/stacks/HEX.d links to them with short names, for Linux before 6.5 (plan/mounts.py)

Who starts from an image shares (flock) the file of its stack; so does dolium.run, until it has ended.  Layers that are in no stack
go when images are pruned.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from time import time

from dolium.engine import blobs, images, store, trees, unsynced
from dolium.engine.rootfs import Rootfs
from dolium.errors import DoliumError, ImageError, NotFound
from dolium.plan.mounts import short_name
from dolium.plan.quantities import show_size
from dolium.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from dolium.engine.arriving import Arrival
    from dolium.engine.manifests import Descriptor

    Say = Callable[[str], object]

KIND = "layers:"
"""What the digest of a Use of an image begins with; its ChainID follows."""
EMPTY = "empty"
"""The directory that an image without layers is a stack of."""
LARGE = 8 << 20


class _Depends(Exception):
    """A layer was unpacked, and its place is another."""


def chain_ids(diff_ids: "tuple[str, ...]") -> "list[str]":
    """The ChainID of each layer, image-spec config.md."""
    found: list[str] = []
    for each in diff_ids:
        found.append(blobs.digest_of(f"{found[-1]} {each}".encode()) if found else each)
    return found


def provide(image: images.Image, say: "Say | None" = None) -> trees.Use:
    """Unpack the layers of an image, unless that is done; `say` is told before it takes time.  Close what is returned when a
    container is remembered that uses it, or has ended.

    Raises ImageError, Unsupported, OSError and DoliumError.
    """
    config = image.config()
    chain = chain_ids(config.diff_ids)
    identity = chain[-1] if chain else blobs.digest_of(b"")
    notes: list[str] = []
    while (lock := _share(identity)) < 0:
        with images.hold():
            names: list[str] = []
            for at, layer in enumerate(image.manifest().layers):
                name = unpack(layer, config.diff_ids[at], chain[at], lambda found=names: found, _shown(image), say, notes)  # type: ignore[misc]
                names = over(names, name)
            if not names:
                trees.make(f"{_top()}/{EMPTY}", _make_empty)
            _write(identity, names or [EMPTY])
    return trees.Use(KIND + identity, lock, notes, image)


def names(digest: str) -> "list[str]":
    """The directories, below `top_path`, that the image with that digest (of a Use) is a stack of, the lowest first.  Raises
    DoliumError for one that is not unpacked."""
    found = store.read(_stack(digest.removeprefix(KIND))).get("layers")
    if not found or not isinstance(found, list) or not all(isinstance(each, str) and "/" not in each for each in found):
        raise NotFound("unpacked copy of", digest, hint="its directory has been removed; pull the image anew")
    return [f"{each}/tree" for each in found]


def links(digest: str) -> str:
    """The directory, below `top_path`, in which those have short names."""
    return f"stacks/{digest.rpartition(':')[2]}.d"


def expected(image: images.Image, name: str) -> "tuple[Rootfs, bool]":
    """The rootfs that `provide` would make of an image, called `name`, and whether it has; nothing is made.  Raises ImageError."""
    found = Rootfs(name, "overlay", top_path())
    diff_ids = image.config().diff_ids
    found.short = links(chain_ids(diff_ids)[-1]) if diff_ids else ""
    try:
        found.layers = names(chain_ids(diff_ids)[-1]) if diff_ids else [f"{EMPTY}/tree"]
        return found, True
    except NotFound:
        found.layers = [f"{each.replace(':', '-')}/tree" for each in diff_ids]
        return found, False


def top_path() -> str:
    """Where layers are; nothing is made."""
    return f"{places.data_path()}/layers"


def must_be_there(image: str, digest: str, manifest: str = "") -> None:
    """Of a container that was made from it: else they are made anew, as long as the image with that manifest is in the store.
    Raises NotFound, and what `provide` does."""
    unsynced.distrust()
    for again in (False, True):
        try:
            if again:
                provide(images.find(manifest)).close()
            if all(os.path.isdir(f"{top_path()}/{each}") for each in names(digest)):
                return
        except NotFound:
            pass
    raise NotFound("unpacked copy of", image, hint="its directory has been removed; dolium rm the container, and run it anew")


def _top() -> str:
    return places.below(places.data(), "layers")


def _stack(identity: str) -> str:
    return f"{top_path()}/stacks/{identity.partition(':')[2]}"


def _shown(image: images.Image) -> str:
    return image.names[0] if image.names else image.short_id


def _share(identity: str) -> int:
    """Keep a stack from being removed: a descriptor; -1 where it is not there, or not whole."""
    unsynced.distrust()
    try:
        fd = os.open(_stack(identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    try:
        flock(fd, LOCK_SH)
        if os.fstat(fd).st_nlink and all(os.path.isdir(f"{top_path()}/{each}") for each in names(identity)):
            return fd
    except DoliumError:  # of another version
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def over(below: "list[str]", name: str) -> "list[str]":
    """A stack with one more layer on it.  Of a layer that comes twice only the upper stays: overlayfs refuses two, and it hides
    the lower."""
    return [name] if _hides_all(name) else [*(each for each in below if each != name), name]


def _hides_all(name: str) -> bool:
    """Whether its root is opaque, which overlayfs does not look at."""
    from dolium.engine import lookup

    fd = os.open(f"{_top()}/{name}/tree", trees.DIRECTORY)
    try:
        return lookup.is_opaque(fd)
    finally:
        os.close(fd)


def _write(identity: str, found: "list[str]") -> None:
    """Once: whoever shares the file shares it by its inode."""
    lock = os.open(places.below(_top(), "stacks"), trees.DIRECTORY)
    try:
        flock(lock, LOCK_EX)
        try:
            if names(identity) == [f"{each}/tree" for each in found]:
                return
        except DoliumError:
            pass
        trees.erase(f"{_stack(identity)}.d")
        os.mkdir(f"{_stack(identity)}.d", 0o700)
        for number, each in enumerate(found):
            os.symlink(f"../../{each}/tree", f"{_stack(identity)}.d/{short_name(number)}")
        store.write(_stack(identity), {"format": store.FORMAT, "layers": found})
    finally:
        os.close(lock)


def _make_empty(where: str) -> "dict[str, Any]":
    os.mkdir(where, 0o755)
    return {"format": store.FORMAT, "size": 0, "time": time()}


def unpack(layer: "Descriptor", diff_id: str, chain_id: str, below: "Callable[[], list[str]]", image: str, say: "Say | None",
           notes: "list[str]", arrival: "Arrival | None" = None) -> str:  # fmt: skip
    """The name of a layer's directory, which is there now.  `below`, asked where something of them is needed, names those below it,
    which are there then; `arrival` is its blob, where that is on its way.  Raises what `provide` does."""
    own, chained = diff_id.replace(":", "-"), f"chain-{chain_id.partition(':')[2]}"

    def fill(where: str) -> "dict[str, Any]":
        if say and layer.size > LARGE:
            say(f"unpacking {image}, a layer of {show_size(layer.size)}: only this time")
        about, depends = _fill(layer, diff_id, lambda: [f"{_top()}/{each}/tree" for each in below()], where, image, notes, arrival)
        if not depends:
            return about

        def take(new: str) -> "dict[str, Any]":
            os.rename(where, new)
            return about

        trees.make(f"{_top()}/{chained}", take, durable=False)
        raise _Depends

    while True:
        for name in (own, chained):
            if os.path.isdir(f"{_top()}/{name}/tree"):
                return name
        try:
            trees.make(f"{_top()}/{own}", fill, durable=False)
        except _Depends:
            pass


def _fill(layer: "Descriptor", diff_id: str, below: "Callable[[], list[str]]", where: str, image: str, notes: "list[str]",
          arrival: "Arrival | None" = None) -> "tuple[dict[str, Any], bool]":  # fmt: skip
    """Unpack a layer into a new directory: what is to be remembered of it, and whether it depends on those below it."""
    from dolium.engine import compression, tar, whiteouts
    from dolium.runtime import host

    name = f"layer {layer.digest.partition(':')[2][:12]} of {image}"
    blob = arrival.open(layer.digest) if arrival else blobs.open_blob(layer.digest)
    root = -1
    try:
        os.mkdir(where, 0o755)
        os.chmod(where, 0o755)
        root = os.open(where, trees.DIRECTORY)
        stream = compression.Stream(blob, name, diff_id.partition(":")[0], arrival.wait if arrival else None)
        try:
            if stream.kind not in ("", "gzip", "zstd"):
                stream.refuse(f"it is compressed with {stream.kind}, which no layer is")
            unpacker = whiteouts.LayerUnpacker(root, name, host.facts().rootless, below)
            try:
                reader = tar.Reader(stream)
                for entry in reader:
                    unpacker.add(entry, reader.content())
            finally:
                unpacker.flush()
            if (found := stream.content_digest()) != diff_id:
                stream.refuse(f"what is in it has the digest {found}, and the config says {diff_id}")
            whole = stream.digest()
            if layer.digest.startswith("sha256:") and whole != layer.digest:
                stream.refuse("it has been changed since it was stored", hint=blobs.DAMAGED)
            if stream.consumed != layer.size:
                stream.refuse(f"it has {stream.consumed} bytes, and the manifest says {layer.size}")
        finally:
            stream.close()
    finally:
        if root >= 0:
            os.close(root)
        os.close(blob)
    if count := unpacker.no_devices:
        notes.append(f"{name}: {count} device node{'s' if count > 1 else ''} left out, which only root can make; "
                     "each container has a /dev of its own")  # fmt: skip
    about = {"format": store.FORMAT, "source": layer.digest, "entries": unpacker.entries, "size": unpacker.size, "time": time()}
    return about, unpacker.depends


def mend() -> None:
    """Remove what one that was killed has left."""
    for name in os.listdir(_top()):
        if name != "stacks":
            trees.mend(f"{_top()}/{name}")


def collect() -> "list[tuple[str, int]] | None":
    """Remove what is of no image in the store and of no container: the name and the bytes of each.  None while a pull is under way,
    or something is unpacked: then all stays.  Raises OSError and DoliumError."""
    if not os.path.isdir(top_path()):
        return []
    held = images.alone()
    if held is None:
        return None
    with held:
        used = {each.digest.removeprefix(KIND) for each in store.every() if each.digest.startswith(KIND)}
        for image in images.every():
            try:
                used.update(chain_ids(image.config().diff_ids)[-1:])
            except ImageError:  # damaged: it cannot be unpacked either
                pass
        kept: set[str] = set()
        stacks = places.below(_top(), "stacks")
        for name in os.listdir(stacks):
            if name.endswith(".d"):
                if not os.path.exists(f"{stacks}/{name.removesuffix('.d')}"):
                    trees.erase(f"{stacks}/{name}")
                continue
            if f"sha256:{name}" in used or not _forget(f"{stacks}/{name}"):
                try:
                    kept.update(each.partition("/")[0] for each in names(f"sha256:{name}"))
                except DoliumError:  # damaged
                    pass
        gone = []
        for name in sorted(os.listdir(_top())):
            if name != "stacks" and name not in kept and (size := trees.remove(f"{_top()}/{name}", lambda: False)) is not None:
                gone.append((name, size))
        return gone


def _forget(path: str) -> bool:
    """Whether a stack that nobody shares is gone now."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        os.unlink(path)
        trees.erase(f"{path}.d")
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def verify(image: images.Image) -> "Iterator[str]":
    """What is wrong with an image: blobs that are not what they were, and trees that are not what the layers say; a line each.

    A layer is unpacked once more for that, beside its tree.  Raises OSError and DoliumError.
    """
    try:
        config, manifest = image.config(), image.manifest()
    except ImageError as problem:
        yield str(problem)
        return
    from dolium.engine.comparing import differences

    chain = chain_ids(config.diff_ids)
    below: list[str] = []
    with images.hold():
        for at, layer in enumerate(manifest.layers):
            names = [config.diff_ids[at].replace(":", "-"), f"chain-{chain[at].partition(':')[2]}"]
            name = next((each for each in names if os.path.isdir(f"{_top()}/{each}/tree")), "")
            work = f"{_top()}/verify-{os.urandom(6).hex()}"
            os.mkdir(work, 0o700)
            held = trees.lock(work, LOCK_EX)
            try:
                _fill(layer, config.diff_ids[at], lambda found=below: [f"{_top()}/{each}/tree" for each in found],  # type: ignore[misc]
                      f"{work}/new", _shown(image), [])  # fmt: skip
                for difference in differences(f"{work}/new", f"{_top()}/{name}/tree") if name else ():
                    yield f"layer {at + 1}, unpacked: {difference}"
            except ImageError as problem:
                yield str(problem)
            finally:
                trees.erase(work)
                os.close(held)
            if name:
                below = over(below, name)
