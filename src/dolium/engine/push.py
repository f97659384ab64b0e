"""Send an image of the store to a registry: its blobs, four at a time and those that are not there, then its manifest.

What it was chosen from, an index, goes too where every image of it is here.
"""

from dolium.engine import blobs, images, manifests, references, registries, registry, uploads
from dolium.engine.pull import Progress, at_once
from dolium.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.engine.connections import Patience
    from dolium.engine.manifests import Descriptor, Index, Manifest
    from dolium.engine.references import Reference
    from dolium.engine.registries import Registries


def push(image: images.Image, reference: "Reference", *, settings: "Registries | None" = None, progress: "Progress | None" = None,
         patience: "Patience | None" = None) -> str:  # fmt: skip
    """Send it, under the tag (or digest) of that reference; the digest that it has there.

    Raises RegistryError, ImageError, SpecError, OSError and DoliumError.
    """
    progress = progress or Progress()
    client = registry.Client(reference, f"push {reference}", settings or registries.load(), push=True, patience=patience)
    try:
        with images.hold():
            top, every = _all_of(image, reference)
            wanted = {each.digest: each for _, manifest in every for each in (*manifest.layers, manifest.config)}
            sources = _next_door(reference)
            todo: list[Callable[[], object]] = []
            for each in wanted.values():
                todo.append(lambda each=each: _send(client, each, sources, progress))  # type: ignore[misc]
            at_once(todo, client)
            for digest, manifest in every:
                if digest != top:
                    uploads.manifest(client, blobs.read(digest, manifests.MOST_MANIFEST), manifest.media_type, digest)
            return _send_top(client, top, reference)
    finally:
        client.close()


def _all_of(image: images.Image, reference: "Reference") -> "tuple[str, list[tuple[str, Manifest]]]":
    """What the name is to lead to, and all manifests of that, which are here whole.  Raises ImageError."""
    source = next((each for each in image.sources.values() if each), "")
    index = _read(source) if source and blobs.has(source) else None
    top, every = image.digest, [(image.digest, image.manifest())]
    if isinstance(index, manifests.Index) and (whole := _whole(index)):
        top, every = source, whole
    if reference.digest and reference.digest != top:
        if reference.digest != image.digest:
            raise ImageError(f"`{reference}`", f"the image has the digest {image.digest}", action="push")
        top, every = image.digest, [(image.digest, image.manifest())]
    return top, every


def _read(digest: str, media_type: str = "") -> "Manifest | Index":
    return manifests.parse(blobs.read(digest, manifests.MOST_MANIFEST), f"manifest {digest}", media_type)


def _whole(index: "Index") -> "list[tuple[str, Manifest]]":
    """Its manifests; none where one of them, or a blob of one, is not here."""
    found = []
    for each in index.manifests:
        if not blobs.has(each.digest):
            return []
        manifest = _read(each.digest, each.media_type)
        if not isinstance(manifest, manifests.Manifest):
            return []
        if not all(blobs.has(blob.digest) for blob in (manifest.config, *manifest.layers)):
            return []
        found.append((each.digest, manifest))
    return found


def _next_door(reference: "Reference") -> "dict[str, list[str]]":
    """Blob -> other repositories of the same registry that have it, or had."""
    found: dict[str, list[str]] = {}
    for image in images.every():
        for name in image.names:
            other = references.parse(name) if "/" in name else None
            if other is None or other.registry != reference.registry or other.repository == reference.repository:
                continue
            try:
                for each in (image.manifest().config, *image.manifest().layers):
                    found.setdefault(each.digest, []).append(other.repository)
            except ImageError:
                break
    return found


def _send(client: registry.Client, blob: "Descriptor", sources: "dict[str, list[str]]", progress: Progress) -> None:
    there = uploads.has(client, blob.digest, blob.size)
    there = there or any(uploads.mount(client, blob.digest, each) for each in sources.get(blob.digest, [])[:2])
    progress.layer(blob.digest, blob.size, there)
    if not there:
        uploads.blob(client, blob.digest, lambda count: progress.came(blob.digest, count))
        progress.done(blob.digest)


def _send_top(client: registry.Client, digest: str, reference: "Reference") -> str:
    data = blobs.read(digest, manifests.MOST_MANIFEST)
    media_type = manifests.parse(data, f"manifest {digest}").media_type
    uploads.manifest(client, data, media_type, reference.tag or digest)
    return digest
