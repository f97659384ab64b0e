"""`dolium pull` and `dolium push`: images from registries and to them."""

from dolium.cli import progress, render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import images, pull, push, references, registries
from dolium.errors import UsageError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.references import Reference


def _platform(text: str, flag: str) -> str:
    from dolium.engine import manifests

    manifests.platform(text)
    return text


REGISTRY = (
    Flag("tls-verify", "", "", yes, "`=false`: whatever its certificate is, or none"),
    Flag("plain-http", "", "", yes, "it speaks no TLS"),
)
SHOWN = (
    Flag("quiet", "q", "", yes, "print the digest, and nothing else"),
    Flag("json", "", "", yes, "events instead of lines, one JSON document each"),
)
PULL = (Flag("platform", "", "OS/ARCH", _platform, "for another machine: linux/arm64"), *SHOWN, *REGISTRY)
PUSH = (*SHOWN, *REGISTRY)


def main(argv: "list[str]") -> int:
    """`dolium pull`.  Raises DoliumError."""
    found = words.parse("pull", argv, PULL, least=1, what="IMAGE",
                        about="Fetch images from registries, and unpack them.")  # fmt: skip
    if found is None:
        return 0
    settings = _settings(found)
    wanted = [_reference(each, settings, "pull") for each in found.names]
    for each in wanted:
        shown = progress.chosen(found.get("quiet", False), found.get("json", False))
        try:
            pulled = pull.pull(each, platform=found.get("platform"), settings=settings, progress=shown)
        finally:
            shown.close()
        image = pulled.image
        if isinstance(shown, progress.Events):
            shown.event("image", name=str(each), digest=image.digest, id=image.id, platform=image.platform, fresh=pulled.fresh)
            continue
        if not found.get("quiet"):
            render.say(f"{each.familiar(settings.short)} is {'new' if pulled.fresh else 'up to date'}")
        render.write(1, f"{image.digest}\n")
    return 0


def push_main(argv: "list[str]") -> int:
    """`dolium push`.  Raises DoliumError."""
    found = words.parse("push", argv, PUSH, least=1, most=2, what="IMAGE [AS]",
                        about="Send an image to a registry: to the one that its name says, or under another name.")  # fmt: skip
    if found is None:
        return 0
    settings = _settings(found)
    target = _reference(found.names[-1], settings, "push")
    image = _find(found.names[0], settings)
    shown = progress.chosen(found.get("quiet", False), found.get("json", False), "sending", "sent", "there already")
    try:
        digest = push.push(image, target, settings=settings, progress=shown)
    finally:
        shown.close()
    if isinstance(shown, progress.Events):
        shown.event("image", name=str(target), digest=digest, id=image.id, platform=image.platform)
    else:
        render.write(1, f"{digest}\n")
    return 0


def _settings(found: words.Words) -> registries.Registries:
    return registries.load(found.get("tls-verify"), found.get("plain-http"))


def _reference(text: str, settings: registries.Registries, command: str) -> "Reference":
    found = references.parse(text, short=settings.short)
    if found.transport != "registry":
        other = "load" if command == "pull" else "save"
        raise UsageError(f"{quoted(text)} is in no registry", hint=f"`dolium {other}` is for files")
    return found


def _find(text: str, settings: registries.Registries) -> images.Image:
    """By name, else as it is: an id or a digest.  Raises NotFound."""
    from dolium.errors import NotFound, SpecError

    try:
        return images.find(str(references.parse(text, short=settings.short)))
    except (NotFound, SpecError):
        return images.find(text)
