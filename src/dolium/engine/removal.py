"""Take images away: their names, then what they were made of, unless a container still needs it."""

from dolium.engine import images, layers, sources, store
from dolium.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def users(image: images.Image) -> "list[str]":
    """Names of the containers that were made from it."""
    return [each.name for each in store.every() if each.manifest == image.digest]


def remove(word: str, force: bool) -> "Iterator[str]":
    """Take a name away, and the image with its last one; by its id, all of it.  What is gone, a line each.  `force`: also the names
    of one that a container needs, which stays without them until that has gone.  Raises NotFound, StateError."""
    image = sources.stored(word)
    by_name = [each for each in image.names if each == sources.whole(word)]
    names = by_name or image.names
    last = len(names) == len(image.names)
    if not by_name and len(names) > 1 and not force:
        raise StateError(word, f"known by {len(names)} names", "removed by its id", kind="image",
                         hint=f"it is {', '.join(names[:4])}; name one of them, or --force")  # fmt: skip
    needed = users(image) if last else []
    if needed and not force:
        raise StateError(word, f"what container {needed[0]} was made from", "removed", kind="image",
                         hint=f"dolium rm {' '.join(needed[:4])}, or --force takes its name away")  # fmt: skip
    for name in names:
        images.untag(name)
        yield f"Untagged: {name}"
    if last and not needed and images.forget(image.digest):
        yield f"Deleted: {image.id}"


def prune(everything: bool) -> "Iterator[str]":
    """Remove images that have no name and that no container was made from; with `everything`, those with names too."""
    needed = {each.manifest for each in store.every()}
    for image in images.every():
        if image.digest in needed or (image.names and not everything):
            continue
        for name in image.names:
            images.untag(name)
            yield f"Untagged: {name}"
        if images.forget(image.digest):
            yield f"Deleted: {image.id}"


def sweep() -> "int | None":
    """Remove what no image and no container needs any more; bytes.  None while a pull, or another who reads images, is at it: the
    next who sweeps finds it."""
    gone, trees = images.collect(), layers.collect()
    return None if gone is None or trees is None else sum(size for _, size in (*gone, *trees))
