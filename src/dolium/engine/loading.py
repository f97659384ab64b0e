"""Images out of what others have written, into the store: an OCI image layout (image-spec image-layout.md), as a directory or in a
tar archive, and what `docker save` writes, old and new.

Nothing of an archive is unpacked: blobs go into the store as they come, by the digest that their name says or that they turn out
to have, and only the small files are looked at.
"""

import os
import stat

from dolium.core import document
from dolium.engine import blobs, compression, images, manifests, references, saving, tar
from dolium.errors import ImageError, SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NoReturn

    from dolium.engine.manifests import Descriptor
    from dolium.engine.references import Reference

INDEX, LAYOUT, DOCKER = "index.json", "oci-layout", "manifest.json"
MOST_TEXT = 4 << 20
MOST_FILES = 100_000
CHUNK = 1 << 18
MAGIC = ((b"\x1f\x8b", "+gzip"), (b"\x28\xb5\x2f\xfd", "+zstd"))


class _Source:
    """What was found: `texts` of the small files by name, `digests` of the files that are blobs now, `links` from one name to
    another."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.texts: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        self.links: dict[str, str] = {}

    def refuse(self, problem: str, hint: str = "") -> "NoReturn":
        raise ImageError(self.name, problem, action="load", hint=hint) from None

    def json(self, name: str) -> "Any":
        try:
            return document.read(self.texts[name].decode(), name)
        except UnicodeDecodeError:
            self.refuse(f"{name} is not UTF-8")
        except SpecError as error:
            self.refuse(f"{name} {error.problem}")

    def need(self, about: "Descriptor") -> bytes:
        """A manifest, or an index, or a config."""
        return blobs.read(about.digest, manifests.MOST_MANIFEST)

    def digest(self, name: str) -> str:
        """Of the file of that name, as `docker save` names it."""
        for _ in range(8):
            if name in self.digests:
                return self.digests[name]
            if name not in self.links:
                break
            name = self.links[name]
        self.refuse(f"{quoted(name)} is missing in it")


class _Directory(_Source):
    """An image layout; blobs are taken when they are needed."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(name)
        self.path = path
        for name in (INDEX, LAYOUT):
            try:
                with open(f"{path}/{name}", "rb") as file:
                    self.texts[name] = file.read(MOST_TEXT + 1)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                self.refuse(f"it is a directory without {name}" if gone else f"{name} in it: {error.strerror}",
                            hint="an OCI image layout has oci-layout, index.json and blobs; dolium run ./DIR takes one of files")
            if len(self.texts[name]) > MOST_TEXT:
                self.refuse(f"{name} has more than {MOST_TEXT} bytes")

    def need(self, about: "Descriptor") -> bytes:
        self.take(about)
        return super().need(about)

    def take(self, about: "Descriptor") -> None:
        """A blob into the store.  Raises ImageError."""
        writer = blobs.ingest(about.digest, about.size)
        try:
            if not writer.done:
                algorithm, digits = blobs.parts(about.digest)
                with open(f"{self.path}/blobs/{algorithm}/{digits}", "rb") as file:
                    file.seek(writer.offset)
                    while data := file.read(CHUNK):
                        writer.write(data)
                writer.commit()
        except OSError as error:
            self.refuse(f"blob {about.digest}: {error.strerror}")
        finally:
            writer.close()


def _archive(fd: int, name: str) -> _Source:
    """What is in a tar archive, which may be compressed.  Raises ImageError and Unsupported."""
    found, count = _Source(name), 0
    stream = compression.Stream(fd, name)
    try:
        reader = tar.Reader(stream)
        for entry in reader:
            count += 1
            if count > MOST_FILES:
                found.refuse(f"it has more than {MOST_FILES} files: is it the archive of an image?")
            path = os.path.normpath(os.fsdecode(entry.name))
            if entry.kind in (tar.SYMLINK, tar.HARDLINK):  # of a layer that comes twice
                above = os.path.dirname(path) if entry.kind == tar.SYMLINK else ""
                found.links[path] = os.path.normpath(os.path.join(above, os.fsdecode(entry.target)))
            elif entry.kind == tar.FILE and entry.pieces is None:
                if path in (INDEX, LAYOUT, DOCKER):
                    if entry.size > MOST_TEXT:
                        found.refuse(f"{path} has {entry.size} bytes, and {MOST_TEXT} are the most")
                    found.texts[path] = b"".join(map(bytes, reader.content()))
                elif path not in ("repositories", "VERSION") and not path.endswith(("/VERSION", "/json")):
                    found.digests[path] = _store(path, entry.size, reader.content())
        stream.digest()
    finally:
        stream.close()
    return found


def _store(path: str, size: int, content: "Iterable[memoryview]") -> str:
    """One file as a blob; its digest.  What its name says must be so."""
    words = path.split("/")
    if len(words) == 3 and words[0] == "blobs" and len(words[2]) == blobs.LENGTHS.get(words[1]):
        digest = f"{words[1]}:{words[2]}"
        writer = blobs.ingest(digest, size)
        try:
            if not writer.done:
                if writer.offset:
                    writer.restart()
                for piece in content:
                    writer.write(piece)
                writer.commit()
        finally:
            writer.close()
        return digest
    with blobs.Fresh() as fresh:
        for piece in content:
            fresh.write(piece)
        return fresh.commit()


# ---- what there is in it


class _Listed:
    """An image in it: where its manifest is, or what `docker save` says instead; and its names."""

    def __init__(self, names: "list[str]", about: "Descriptor | None" = None, docker: "dict[str, Any] | None" = None,
                 tag: str = "") -> None:  # fmt: skip
        self.names = names
        self.about = about
        self.docker = docker
        self.tag = tag


def _listed(found: _Source) -> "list[_Listed]":
    """Raises ImageError."""
    old = _old(found) if DOCKER in found.texts else []
    if INDEX not in found.texts:
        if not old:
            found.refuse("it is no archive of an image: neither index.json nor manifest.json is in it",
                         hint="dolium import makes an image of a tarball of files, and dolium run takes one as it is")  # fmt: skip
        return old
    layout = found.json(LAYOUT) if LAYOUT in found.texts else None
    if not isinstance(layout, dict) or layout.get("imageLayoutVersion") != "1.0.0":
        found.refuse(f"{LAYOUT} does not say that its version is 1.0.0")
    index = manifests.parse(found.texts[INDEX], f"{INDEX} of {found.name}")
    if not isinstance(index, manifests.Index):
        found.refuse(f"{INDEX} is no index")
    listed = []
    for about in index.manifests:
        tag = about.annotations.get(saving.REF_NAME, "")
        names = [each for each in (about.annotations.get(saving.FULL_NAME, ""), tag) if _is_whole(each)]
        listed.append(_Listed([str(references.parse(each)) for each in names[:1]], about, tag=tag))
    if len(listed) == 1 and len(old) == 1 and not listed[0].names:
        listed[0].names = old[0].names
    return listed


def _is_whole(name: str) -> bool:
    """Whether it is a reference with a host or a path, and not a tag alone."""
    try:
        return "/" in name and references.parse(name).transport == "registry"
    except SpecError:
        return False


def _old(found: _Source) -> "list[_Listed]":
    """`docker save`'s own list.  Raises ImageError."""
    rows = found.json(DOCKER)
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows) or len(rows) > 1000:
        found.refuse(f"{DOCKER} is no list of images")
    listed = []
    for row in rows:
        config, layers, names = row.get("Config"), row.get("Layers"), row.get("RepoTags") or []
        if not isinstance(config, str) or not all(isinstance(each, list) for each in (layers, names)) \
                or not all(isinstance(each, str) for each in (*layers, *names)) or len(layers) > manifests.MOST_LAYERS:  # fmt: skip
            found.refuse(f"{DOCKER} has an image without config or layers, or with malformed names")
        try:
            whole = [str(references.parse(each)) for each in names]
        except SpecError as error:
            found.refuse(f"{DOCKER}: {error}")
        listed.append(_Listed(whole, docker={"config": config, "layers": layers}))
    return listed


def _record(found: _Source, each: _Listed, wanted: manifests.Platform) -> images.Image:
    """One of them into the database, under all its names."""
    source = ""
    if each.docker is not None:
        digest = _rebuilt(found, each.docker)
    else:
        about, depth = each.about, 0
        assert about
        while isinstance(body := manifests.parse(found.need(about), f"manifest {about.digest}", about.media_type), manifests.Index):
            depth += 1
            if depth > manifests.DEEPEST:
                found.refuse(f"an index in more than {manifests.DEEPEST} others")
            source = source or about.digest
            about = manifests.choose(body, wanted, found.name)
        for part in (body.config, *body.layers):
            if isinstance(found, _Directory):
                found.take(part)
        digest = about.digest
    for name in each.names or [""]:
        image = images.record(name, digest, source=source)
    return image


def _rebuilt(found: _Source, docker: "dict[str, Any]") -> str:
    """The digest of a manifest for what has none: config and layers, by their names in the archive."""
    config = found.digest(os.path.normpath(docker["config"]))
    layers = []
    for name in docker["layers"]:
        digest = found.digest(os.path.normpath(name))
        fd = blobs.open_blob(digest)
        try:
            first = os.read(fd, 6)
        finally:
            os.close(fd)
        kind = next((kind for magic, kind in MAGIC if first.startswith(magic)), "")
        layers.append({"mediaType": f"{manifests.OCI}layer.v1.tar{kind}", "digest": digest, "size": blobs.size(digest)})
    about = {"mediaType": manifests.OCI_CONFIG, "digest": config, "size": blobs.size(config)}
    body = {"schemaVersion": 2, "mediaType": manifests.OCI_MANIFEST, "config": about, "layers": layers}
    return blobs.put(document.write(body).encode())


# ---- what can be asked for


def every(fd: int, name: str, platform: str = "") -> "Iterator[tuple[images.Image, list[str]]]":
    """All images of an archive, or a layout, that can be read from `fd`, with the names that they have there; `name` is for errors.

    Raises ImageError, Unsupported, OSError and DoliumError; then what came of it is collected later.
    """
    wanted = manifests.platform(platform) if platform else manifests.this_platform()
    with images.hold():
        found = _Directory(f"/proc/self/fd/{fd}", name) if stat.S_ISDIR(os.fstat(fd).st_mode) else _archive(fd, name)
        for each in _listed(found):
            yield _record(found, each, wanted), each.names


def one(reference: "Reference", platform: str = "") -> images.Image:
    """The image that an `oci:`, `oci-archive:` or `docker-archive:` name is of; it gets no name in the store.

    Raises ImageError, which lists what there is where that is not clear, Unsupported, OSError and DoliumError.
    """
    wanted = manifests.platform(platform) if platform else manifests.this_platform()
    with images.hold():
        if reference.transport == "oci":
            found: _Source = _Directory(reference.path, quoted(reference.path))
        else:
            found = _read(reference.path)
        listed = _listed(found)
        fitting = [each for each in listed if reference.tag in ("", each.tag, *each.names) or _ends(each.names, reference.tag)]
        if len(fitting) != 1:
            there = ", ".join(name for each in listed for name in (each.names or [each.tag] if each.tag or each.names else []))
            hint = f"there are {there}: {reference.transport}:{reference.path}:NAME" if there else ""
            found.refuse(f"it has no {quoted(reference.tag)}" if reference.tag else f"it has {len(listed)} images", hint)
        fitting[0].names = []
        return _record(found, fitting[0], wanted)


def _ends(names: "list[str]", tag: str) -> bool:
    return any(each.rpartition(":")[2] == tag for each in names)


def _read(path: str) -> _Source:
    name = quoted(os.path.basename(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(quoted(path), error.strerror or str(error), action="load") from None
    try:
        return _archive(fd, name)
    finally:
        os.close(fd)
