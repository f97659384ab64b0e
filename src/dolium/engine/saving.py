"""Images as others read them: an OCI image layout (image-spec image-layout.md), as a directory or in a tar archive, with what
`docker load` looks for besides.

    oci-layout  index.json  blobs/ALGORITHM/HEX     each blob once, however many images have it
    manifest.json  repositories                     of docker-archive only: which blobs are whose config and layers, and names

Blobs are as they were stored: compressed, so that digests stay what they are.
"""

import os

from dolium.core import document
from dolium.engine import blobs, manifests, tar
from dolium.engine.archive import Writer
from dolium.engine.references import parse
from dolium.errors import DoliumError, ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from dolium.engine.archive import Buffer
    from dolium.engine.images import Image
    from dolium.engine.manifests import Manifest

CHUNK = 1 << 20
LAYOUT = {"imageLayoutVersion": "1.0.0"}
REF_NAME, FULL_NAME = "org.opencontainers.image.ref.name", "io.containerd.image.name"
"""Annotations that say how an image is called in a layout: by its tag (image-spec), and by its whole name (containerd, docker)."""


class Saved:
    """An image, and the names under which it is to be known; none: it has only its digest."""

    __slots__ = ("image", "names", "manifest")

    def __init__(self, image: "Image", names: "list[str]") -> None:
        self.image = image
        self.names = names
        self.manifest = image.manifest()


def archive(found: "list[Saved]", write: "Callable[[Buffer], object]", *, docker: bool) -> None:
    """All into one tar archive; `docker`: with what `docker load` looks for.  Raises ImageError, OSError and what `write` does."""
    writer, made = Writer(write), set()

    def below(name: str) -> None:
        for at, each in enumerate(name):
            if each == "/" and name[:at] not in made:
                made.add(name[:at])
                writer.add(tar.Entry(os.fsencode(name[:at]), tar.DIRECTORY, 0o755))

    for name, digest, size in _blobs(found):
        below(name)
        writer.add(tar.Entry(os.fsencode(name), tar.FILE, 0o444, size=size), _content(digest, size))
    for name, text in _documents(found, docker):
        writer.add(tar.Entry(os.fsencode(name), tar.FILE, size=len(text)), [text])
    writer.close()


def directory(found: "list[Saved]", path: str) -> None:
    """All into a new directory, which appears whole.  Raises ImageError, OSError and DoliumError."""
    from dolium.engine import erase
    from dolium.engine.blobs import sync_directory

    target = os.path.abspath(path)
    if os.path.lexists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise DoliumError(f"cannot write `{path}`: there is something already", hint="name a directory that is not there, or empty")
    made = f"{os.path.dirname(target)}/.{os.path.basename(target)[:200]}.{os.urandom(6).hex()}"
    os.mkdir(made, 0o755)
    try:
        for name, digest, size in _blobs(found):
            _write(f"{made}/{name}", _content(digest, size))
        for name, text in _documents(found, docker=False):
            _write(f"{made}/{name}", iter([text]))
        os.rename(made, target)
        sync_directory(os.path.dirname(target))
    except BaseException:
        if os.path.isdir(made):
            erase.tree(made)
        raise


def _write(path: str, content: "Iterator[bytes]") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "xb", buffering=0) as file:
        for piece in content:
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/", 1)


def _blobs(found: "list[Saved]") -> "Iterator[tuple[str, str, int]]":
    """(path, digest, size) of each, in an order that depends on nothing else."""
    sizes = {}
    for saved in found:
        for each in (saved.manifest.config, *saved.manifest.layers):
            sizes[each.digest] = each.size
        sizes[saved.image.digest] = blobs.size(saved.image.digest)
    for digest in sorted(sizes):
        yield _path(digest), digest, sizes[digest]


def _content(digest: str, size: int) -> "Iterator[bytes]":
    """Of a blob, which still is what it was.  Raises ImageError."""
    from hashlib import new

    algorithm, digits = blobs.parts(digest)
    total, left, fd = new(algorithm), size, blobs.open_blob(digest)
    try:
        while left and (data := os.read(fd, min(CHUNK, left))):
            total.update(data)
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    if left or total.hexdigest() != digits:
        raise ImageError(f"blob {digest}", "it has been changed since it was stored", action="save", hint="pull the image anew")


def _documents(found: "list[Saved]", docker: bool) -> "Iterator[tuple[str, bytes]]":
    """The small files, by name."""
    listed: list[dict[str, Any]] = []
    for saved in found:
        about: dict[str, Any] = {"mediaType": saved.manifest.media_type, "digest": saved.image.digest,
                                 "size": blobs.size(saved.image.digest)}  # fmt: skip
        system, machine, *variant = [*saved.image.platform.split("/"), "", ""][:3]
        if system and machine:
            about["platform"] = {"architecture": machine, "os": system, **({"variant": variant[0]} if variant[0] else {})}
        for name in saved.names:
            listed.append({**about, "annotations": {FULL_NAME: name, REF_NAME: parse(name).tag or "latest"}})
        if not saved.names:
            listed.append(about)
    yield "index.json", _json({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed})
    if docker:
        yield "manifest.json", _json([_docker(saved) for saved in found])
    yield "oci-layout", _json(LAYOUT)
    if docker and any(saved.names for saved in found):
        yield "repositories", _json(_repositories(found))


def _docker(saved: Saved) -> "dict[str, Any]":
    manifest: Manifest = saved.manifest
    return {"Config": _path(manifest.config.digest), "RepoTags": saved.names or None,
            "Layers": [_path(each.digest) for each in manifest.layers]}  # fmt: skip


def _repositories(found: "list[Saved]") -> "dict[str, dict[str, str]]":
    """What was there before manifest.json: which layer is the last one of a name."""
    named: dict[str, dict[str, str]] = {}
    for saved in found:
        last = saved.manifest.layers[-1].digest.partition(":")[2] if saved.manifest.layers else ""
        for each in saved.names:
            name, _, tag = each.rpartition(":")
            named.setdefault(name, {})[tag] = last
    return named


def _json(value: "Any") -> bytes:
    return document.write(value).encode() + b"\n"
