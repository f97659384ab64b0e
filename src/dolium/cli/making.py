"""`dolium commit`, `import` and `save`: images out of containers and archives, and archives out of images."""

import os

from dolium.cli import render, words
from dolium.cli.files import must_not_be_terminal, path
from dolium.cli.flags import Flag, yes
from dolium.engine import images, store
from dolium.errors import SpecError, UsageError
from dolium.plan.quantities import quoted, show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.saving import Saved

FORMATS = ("docker-archive", "oci-archive", "oci-dir")


def _text(text: str, flag: str) -> str:
    return text


def _line(text: str, flag: str) -> "list[str]":
    from dolium.engine import instructions

    instructions.apply({}, text, flag)
    return [text]


def _platform(text: str, flag: str) -> str:
    from dolium.engine import manifests

    return str(manifests.platform(text))


def _format(text: str, flag: str) -> str:
    if text not in FORMATS:
        raise SpecError(flag, f"no format {quoted(text)}", hint=f"there are {', '.join(FORMATS)}")
    return text


CHANGE = Flag("change", "c", "LINE", _line, "as in a Dockerfile: 'CMD [\"sh\"]', 'ENV A=1'; may be given more than once")
MESSAGE = Flag("message", "m", "TEXT", _text, "for its history")
QUIET = Flag("quiet", "q", "", yes, "say nothing but the digest")

COMMIT = (
    Flag("author", "a", "TEXT", _text, "who made it"),
    CHANGE,
    MESSAGE,
    Flag("pause", "p", "", yes, "stop its processes meanwhile: usual; --pause=false does not"),
    QUIET,
)
IMPORT = (CHANGE, MESSAGE, Flag("platform", "", "OS/MACHINE", _platform, "for which machines: linux/arm64"))
SAVE = (
    Flag("format", "", "|".join(FORMATS), _format, "docker-archive is usual; every tool reads one of them"),
    Flag("output", "o", "FILE", path, "write it there; `-` or nothing: to standard output"),
    Flag("quiet", "q", "", yes, "as it is: nothing is said"),
)


def _reference(names: "list[str]", at: int) -> str:
    """The whole name at that place of the words, which may not be there."""
    if len(names) <= at:
        return ""
    from dolium.engine import references

    found = references.parse(names[at])
    if found.transport != "registry" or found.digest:
        raise UsageError(f"{quoted(names[at])} cannot be the name of a new image", hint="NAME[:TAG], such as app:1.0")
    return str(found)


def commit(argv: "list[str]") -> int:
    """Raises NotFound, StateError, Unsupported, OSError and DoliumError."""
    found = words.parse("commit", argv, COMMIT, least=1, most=2, what="CONTAINER [NAME[:TAG]]",
                        about="Make an image of a container: its own image's layers, and one of what it has changed.")  # fmt: skip
    if found is None:
        return 0
    from dolium.engine import commits

    wish = commits.Wish(_reference(found.names, 1), message=found.get("message", ""), author=found.get("author", ""),
                        changes=tuple(found.get("change", ())), pause=found.get("pause", True))  # fmt: skip
    image = commits.commit(store.find(found.names[0]), wish)
    if not found.get("quiet"):
        count = len(image.manifest().layers)
        render.say(f"{count} layer{'s' if count > 1 else ''}, {show_size(image.size)} in all")
    render.write(1, f"{image.id}\n")
    return 0


def import_(argv: "list[str]") -> int:
    """Raises ImageError, SpecError, Unsupported, OSError and DoliumError."""
    found = words.parse("import", argv, IMPORT, least=1, most=2, what="FILE|- [NAME[:TAG]]",
                        about="Make an image of one layer out of a tar archive of files, which may be compressed.")  # fmt: skip
    if found is None:
        return 0
    from dolium.engine import importing, manifests

    name = _reference(found.names, 1)
    if found.names[0] == "-" and os.isatty(0):
        raise UsageError("an archive cannot be typed", hint="dolium import FILE, or `... | dolium import -`")
    wanted = found.get("platform")
    fd, shown = importing.open_source(found.names[0])
    try:
        image = importing.load(fd, shown, name, message=found.get("message", ""), changes=tuple(found.get("change", ())),
                               platform=manifests.platform(wanted) if wanted else None)  # fmt: skip
    finally:
        os.close(fd)
    render.write(1, f"{image.id}\n")
    return 0


def save(argv: "list[str]") -> int:
    """Raises NotFound, ImageError, UsageError, OSError and DoliumError."""
    found = words.parse("save", argv, SAVE, least=1, what="IMAGE",
                        about="Write images into an archive that docker, podman, skopeo and dolium load.")  # fmt: skip
    if found is None:
        return 0
    form = found.get("format", FORMATS[0])
    if form == "oci-dir" and found.get("output", "-") == "-":
        raise UsageError("--format oci-dir needs a directory to write", hint="dolium save --format oci-dir -o DIRECTORY IMAGE")
    must_not_be_terminal(found, f"save {found.names[0]}")
    from dolium.engine import saving
    from dolium.engine.output import Output

    with images.hold():
        chosen = _chosen(found.names)
        if form == "oci-dir":
            saving.directory(chosen, found.get("output"))
        else:
            with Output(found.get("output", "")) as out:
                saving.archive(chosen, out.write, docker=form == FORMATS[0])
    return 0


def _chosen(typed: "list[str]") -> "list[Saved]":
    """Each image once, with the names under which it was asked for; of one that was asked for by its id none."""
    from dolium.engine import references, saving

    by_digest: dict[str, Saved] = {}
    for word in typed:
        try:
            name = str(references.parse(word))
        except SpecError:
            name = ""
        image = images.find(name if name and _is_there(name) else word)
        saved = by_digest.setdefault(image.digest, saving.Saved(image, []))
        if name in image.names and name not in saved.names:
            saved.names.append(name)
    return [*by_digest.values()]


def _is_there(name: str) -> bool:
    return any(name in image.names for image in images.every())
