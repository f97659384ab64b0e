"""From the name of an image to one in the store: it is there, or comes from a layout, an archive, or a registry."""

from dolium.engine import images, manifests, references, registries
from dolium.errors import ImageError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.engine.pull import Progress

    Say = Callable[[str], object]


def image(name: str, say: "Say | None" = None, *, pull: str = "missing", platform: str = "",
          progress: "Callable[[], Progress] | None" = None) -> images.Image:  # fmt: skip
    """The image of that name, digest or id.  `pull` says when a registry is asked: always, if it is missing here (or for another
    `platform`), or never; `progress` hears of that.

    Raises SpecError for what is no name, NotFound, RegistryError, ImageError, Unsupported, OSError and DoliumError.
    """
    settings = registries.known()
    reference = references.parse(name, short=settings.short) if not _is_digest(name) else None
    if reference and reference.transport != "registry":
        from dolium.engine import loading

        return loading.one(reference, platform)
    if pull == "never":
        return here(name, platform)
    if pull != "always" or reference is None:
        try:
            found = stored(name)
            if not platform or _fits(found, manifests.platform(platform)):
                if settings.problem and say:
                    say(f"{settings.problem}; no registry was asked")
                return found
        except NotFound:
            if reference is None:
                raise
    from dolium.engine.pull import Progress as Silent
    from dolium.engine.pull import pull as fetch

    assert reference
    heard = progress() if progress else Silent()
    if not progress and say:
        say(f"pulling {reference.familiar(settings.short)}")
    return fetch(reference, platform=platform or None, settings=settings, progress=heard).image


def here(name: str, platform: str = "") -> images.Image:
    """One that is in the store, and for that `platform`; nothing is fetched.  Raises SpecError, NotFound and ImageError."""
    found = stored(name)
    if platform and not _fits(found, manifests.platform(platform)):
        raise ImageError(f"`{name}`", f"it is for {found.platform}, not {platform}", action="use")
    return found


def _fits(found: images.Image, wanted: manifests.Platform) -> bool:
    return found.platform.split("/")[:2] == [wanted.os, wanted.architecture]


def _is_digest(name: str) -> bool:
    digits = name.removeprefix("sha256:")
    return len(digits) == 64 and not digits.strip("0123456789abcdef")


def stored(name: str) -> images.Image:
    """One that is in the store, by what people call it: a short or a whole reference, a digest, an id or its beginning.

    Raises SpecError for what is none of them, and NotFound.
    """
    if _is_digest(name):
        return images.find(name)
    digits = name.removeprefix("sha256:")
    try:
        return images.find(whole(name))
    except NotFound as error:
        if len(digits) >= images.LEAST_ID and not digits.strip("0123456789abcdef"):
            try:
                return images.find(digits)
            except NotFound as other:
                if other.hint[:1].isdigit():  # several begin so
                    raise
        similar = tuple(references.parse(each).familiar() for each in error.similar)
        hint = f"`dolium pull {name}` fetches it"
        if references.parse(name).transport != "registry":
            hint = "`dolium run` reads it from there, and so does `dolium explain --pull missing`"
        elif similar:
            hint = f"did you mean {' or '.join(f'`{each}`' for each in similar)}? {hint}"
        else:
            hint += f", `dolium images` lists those that are here; a directory is ./{name}"
        raise NotFound("image", name, similar=similar, hint=hint) from None


def whole(name: str) -> str:
    """The whole reference that is meant by a short one.  Raises SpecError."""
    return str(references.parse(name, short=registries.known().short))
