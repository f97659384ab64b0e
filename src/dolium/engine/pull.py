"""Bring an image from a registry into the store: name -> index -> manifest -> config -> layers, four at a time, unpacked.

A tag is asked for by HEAD first: where it leads to what is here already, that one request was all.  What was cut off stays
(engine/blobs.py), and the next one goes on with it; an image is recorded once all of it is there.
"""

from collections import deque
from threading import Event, Thread

from dolium.engine import arriving, blobs, images, layers, manifests, registries, registry, unsynced
from dolium.errors import ImageError, NotFound
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.engine.connections import Patience
    from dolium.engine.manifests import Descriptor, Manifest, Platform
    from dolium.engine.references import Reference
    from dolium.engine.registries import Registries

AT_ONCE = 4
"""Layers on their way, as docker has it."""

PATIENCE = 2.0
"""Seconds that an interrupt waits for them; one that waits for another process is left to the end of this one."""


class Progress:
    """Hears what happens; this one says nothing.  Called by several threads."""

    def say(self, line: str) -> None:
        """Something that people should know."""

    def layer(self, digest: str, size: int, there: bool) -> None:
        """A layer that belongs to it; `there`: it need not be sent."""

    def came(self, digest: str, count: int) -> None:
        """So many bytes of it more; fewer than none where some are sent again."""

    def done(self, digest: str) -> None:
        """All of its bytes have come, or gone, and are right."""


class Pulled:
    """`image` as it is now; `fresh`: it was not, or not so, here before."""

    __slots__ = ("image", "fresh")

    def __init__(self, image: images.Image, fresh: bool) -> None:
        self.image = image
        self.fresh = fresh


def pull(reference: "Reference", *, platform: "str | None" = None, settings: "Registries | None" = None,
         progress: "Progress | None" = None, patience: "Patience | None" = None) -> Pulled:  # fmt: skip
    """Fetch an image, record and unpack it.  `platform` as `--platform` has it; else this machine's.

    Raises RegistryError, ImageError, SpecError, Unsupported, OSError and DoliumError; then nothing is recorded.
    """
    progress = progress or Progress()
    wanted = manifests.platform(platform) if platform else manifests.this_platform()
    client = registry.Client(reference, f"pull {reference}", settings or registries.load(), patience=patience, say=progress.say)
    try:
        with images.hold():
            unsynced.settle()
            found = _known(reference, client, wanted)
            image = found if isinstance(found, images.Image) else _fetch(reference, found, client, wanted, bool(platform), progress)
        used = layers.provide(image, progress.say)
        for note in used.notes:
            progress.say(note)
        used.close()
        return Pulled(image, image is not found)
    finally:
        client.close()


def _known(reference: "Reference", client: registry.Client, wanted: "Platform") -> "images.Image | str":
    """The image, where it is here as the registry has it; else what to ask the registry for."""
    try:
        image = images.find(str(reference))
    except NotFound:
        image = None
    if image is not None and (not _fits(image, str(reference), wanted) or not _whole(image)):
        image = None
    if reference.digest:
        return image or reference.digest
    if image is None:
        return reference.tag
    there = client.resolve(reference.tag)
    if there is None or there.digest in (image.digest, image.sources.get(str(reference))):
        return image if there else reference.tag
    return there.digest


def _fits(image: images.Image, name: str, wanted: "Platform") -> bool:
    """Whether it is what would be chosen for that platform."""
    source = image.sources.get(name)
    if not source:
        return _is_for(image.platform, wanted)
    try:
        index = manifests.parse(blobs.read(source, manifests.MOST_MANIFEST), f"index {source}")
        return isinstance(index, manifests.Index) and manifests.choose(index, wanted, name).digest == image.digest
    except ImageError:
        return False


def _is_for(platform: str, wanted: "Platform") -> bool:
    return platform.split("/")[:2] == [wanted.os, wanted.architecture]


def _whole(image: images.Image) -> bool:
    try:
        manifest = image.manifest()
        return all(blobs.has(each.digest) for each in (manifest.config, *manifest.layers))
    except ImageError:
        return False


def _fetch(reference: "Reference", ask: str, client: registry.Client, wanted: "Platform", asked: bool,
           progress: Progress) -> images.Image:  # fmt: skip
    manifest, digest, source = _manifest(reference, ask, client, wanted)
    _fetch_blobs(client, (manifest.config,), Progress())
    config = manifests.parse_config(blobs.read(manifest.config.digest, manifests.MOST_CONFIG), f"the config of {reference}",
                                    len(manifest.layers))  # fmt: skip
    if not _is_for(str(config.platform), wanted) and config.platform.architecture:
        if asked:
            raise ImageError(f"`{reference}`", f"it is for {config.platform}, not {wanted}", action="pull",
                             hint="leave --platform out, or choose another tag")  # fmt: skip
        progress.say(f"{reference} is for {config.platform}, and this machine is {wanted}")
    with arriving.Unpacking(manifest, config, str(reference)) as unpacking:
        _fetch_blobs(client, manifest.layers, progress, unpacking.arrivals)
        image = images.record(str(reference), digest, source=source)
    for note in unpacking.notes:
        progress.say(note)
    return image


def _manifest(reference: "Reference", ask: str, client: registry.Client, wanted: "Platform") -> "tuple[Manifest, str, str]":
    """The manifest for a platform, stored; its digest, and that of the first index on the way there."""
    media_type, source = "", ""
    for _ in range(manifests.DEEPEST + 1):
        data, sent_as, digest = client.manifest(ask)
        if media_type and sent_as in manifests.ACCEPT and sent_as != media_type:
            problem = f"its index says that {digest} is {quoted(media_type)}, and it came as {quoted(sent_as)}"
            raise ImageError(f"`{reference}`", problem, action="pull")
        found = manifests.parse(data, f"the manifest of {reference}", sent_as or media_type)
        digest = _keep(data, digest)
        if isinstance(found, manifests.Manifest):
            return found, digest, source
        source = source or digest
        chosen = manifests.choose(found, wanted, f"`{reference}`")
        ask, media_type = chosen.digest, chosen.media_type
    raise ImageError(f"`{reference}`", f"its indexes go deeper than {manifests.DEEPEST}", action="pull")


def _keep(data: bytes, digest: str) -> str:
    """Store a manifest under the digest that it was asked for by."""
    writer = blobs.ingest(digest, len(data))
    try:
        if not writer.done:
            writer.write(data[writer.offset :])
            writer.commit()
    finally:
        writer.close()
    return digest


def _fetch_blobs(client: registry.Client, wanted: "tuple[Descriptor, ...]", progress: Progress,
                 arrivals: "dict[str, arriving.Arrival] | None" = None) -> None:  # fmt: skip
    """All of them, those that are not here, a few at a time; `arrivals` are told how far each is."""
    each_once = {each.digest: each for each in wanted}
    todo: list[Callable[[], object]] = []
    for each in each_once.values():
        there = blobs.has(each.digest)
        progress.layer(each.digest, each.size, there)
        arrival = arrivals[each.digest] if arrivals else None
        if not there:
            todo.append(lambda each=each, arrival=arrival: _fetch_blob(client, each, progress, arrival))  # type: ignore[misc]
        elif arrival:
            arrival.end()
    at_once(todo, client)


def _fetch_blob(client: registry.Client, wanted: "Descriptor", progress: Progress, arrival: "arriving.Arrival | None") -> None:
    writer = blobs.ingest(wanted.digest, wanted.size)

    def came(count: int) -> None:
        progress.came(wanted.digest, count)
        if arrival:
            arrival.came(writer.offset)

    try:
        if arrival:
            arrival.begin(writer)
        progress.came(wanted.digest, writer.offset)
        client.blob(wanted.digest, writer, came)
        writer.commit(durable=arrival is None)
        if arrival:
            arrival.end()
    finally:
        writer.close()
    progress.done(wanted.digest)


def at_once(todo: "list[Callable[[], object]]", client: registry.Client) -> None:
    """Do all of them, AT_ONCE at a time.  The first error ends the others; so does an interrupt."""
    if len(todo) == 1:
        todo[0]()
        return
    left, stop = deque(todo), Event()
    errors: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                each = left.popleft()
            except IndexError:
                return
            try:
                each()
            except BaseException as error:
                errors.append(error)
                stop.set()
                client.abort()

    threads = [Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(todo)))]
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    except BaseException:
        stop.set()
        client.abort()
        for each in threads:
            if each.ident is not None:
                each.join(PATIENCE)
        raise
    if errors:
        raise errors[0]
