"""`dolium images`, `rmi`, `tag`, `history`, `load`, and `dolium image`, which has them and more by docker's second names."""

import os
from time import time

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import images, removal, sources
from dolium.errors import DoliumError, NotFound, SpecError, UsageError
from dolium.plan.quantities import quoted, show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILTERS = ("dangling", "reference", "label", "before", "since")
TIMES = ("before", "since")
"""Those whose value is another image; it is told by when each was made, as its config says."""
NONE = "<none>"
FIELDS = ("Repository", "Tag", "ID", "Digest", "CreatedAt", "CreatedSince", "Size", "Platform", "Containers")
EVENT_FIELDS = ("ID", "CreatedAt", "CreatedSince", "Size", "CreatedBy", "Comment")
"""What a template can name, of an image and of a step of its history."""


def _filter(text: str, flag: str) -> "list[tuple[str, str]]":
    name, sign, value = text.partition("=")
    if not sign or name not in FILTERS or (name == "dangling" and value not in ("true", "false")):
        raise SpecError(flag, f"no filter `{text}`",
                        hint="dangling=true, reference=PATTERN, label=NAME[=VALUE], before=IMAGE, since=IMAGE")
    return [(name, value)]


def _format(fields: "tuple[str, ...]") -> "Callable[[str, str], str]":
    def read(text: str, flag: str) -> str:
        from dolium.cli import template

        return template.check(text, flag, fields)

    return read


def _text(text: str, flag: str) -> str:
    return text


def _platform(text: str, flag: str) -> str:
    from dolium.engine import manifests

    manifests.platform(text)
    return text


WHOLE = Flag("no-trunc", "", "", yes, "nothing cut short")
FORMAT = Flag("format", "", "TEMPLATE", _format(FIELDS), "json: an object a line; table; {{.Repository}}")
IMAGES = (
    Flag("all", "a", "", yes, "as it is: there are none between"),
    Flag("quiet", "q", "", yes, "only the ids"),
    Flag("digests", "", "", yes, "with the digest of each manifest"),
    WHOLE,
    Flag("filter", "f", "NAME=VALUE", _filter, "only such: " + ", ".join(FILTERS)),
    FORMAT,
)
RMI = (Flag("force", "f", "", yes, "names of one that a container needs, too; no error if there is none"),)
HISTORY = (Flag("quiet", "q", "", yes, "only the ids"), WHOLE,
           Flag("format", "", "TEMPLATE", _format(EVENT_FIELDS), "json: an object a line; table; {{.CreatedBy}}"))  # fmt: skip
LOAD = (
    Flag("input", "i", "FILE", _text, "the archive, or the directory of a layout; else standard input"),
    Flag("platform", "", "OS/MACHINE", _platform, "of one that is for several"),
    Flag("quiet", "q", "", yes, "as it is: nothing but names is said"),
)
INSPECT = (Flag("format", "f", "TEMPLATE", _format(()), "such as {{.Config.Cmd}}; json: on one line"),)
PRUNE = (
    Flag("all", "a", "", yes, "also those with a name, if no container was made from them"),
    Flag("force", "f", "", yes, "as it is: nothing is asked"),
)


# ---- which there are


def main(argv: "list[str]") -> int:
    """Raises DoliumError."""
    found = words.parse("images", argv, IMAGES, most=1, what="NAME", about="List images.")
    if found is None:
        return 0
    rows = []
    filters = [(kind, sources.stored(value).created if kind in TIMES else value) for kind, value in found.get("filter", [])]
    for image in images.every():
        if _matches(image, filters):
            rows += [(image, name) for name in (image.names or [""]) if not found.names or _is_called(name, found.names[0])]
    whole, shape = found.get("no-trunc", False), found.get("format", "table")
    if found.get("quiet"):
        ids = dict.fromkeys(image.id if whole else image.short_id for image, _ in rows)
        render.write(1, "".join(f"{each}\n" for each in ids))
    elif "{{" in shape:
        from dolium.cli import template

        render.write(1, template.table(shape, [_fields(image, name, whole) for image, name in rows]))
    elif shape == "json":
        import json

        render.write(1, "".join(json.dumps(_fields(image, name, True)) + "\n" for image, name in rows))
    else:
        columns = ["Repository", "Tag", *(["Digest"] if found.get("digests") else []), "ID", "CreatedSince", "Size"]
        titles = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
        cells = [[fields[each] for each in columns] for fields in (_fields(*row, whole) for row in rows)]
        render.write(1, _table([titles.get(each, each.upper()) for each in columns], cells))
    return 0


def _matches(image: images.Image, filters: "list[tuple[str, str]]") -> bool:
    """All kinds must hold, and of one kind any."""

    def holds(name: str, value: str) -> bool:
        if name in TIMES:
            first, second = map(_moment, (image.created, value) if name == "before" else (value, image.created))
            return first is not None and second is not None and first < second
        if name == "dangling":
            return (not image.names) == (value == "true")
        if name == "reference":
            return any(_is_called(each, value) for each in image.names)
        key, sign, wanted = value.partition("=")
        labels = image.config().labels
        return key in labels and (not sign or labels[key] == wanted)

    return all(any(holds(name, value) for kind, value in filters if kind == name) for name in {name for name, _ in filters})


def _is_called(name: str, pattern: str) -> bool:
    """Whether a reference fits: `alpine`, `alpine:3*`, `*/alpine`, with or without the host."""
    from fnmatch import fnmatchcase

    from dolium.engine import references

    if not name:
        return False
    found = references.parse(name)
    forms = [found.name, str(found), found.familiar(), found.familiar().partition("@")[0].rpartition(":")[0]]
    return any(fnmatchcase(each, pattern) for each in forms)


def _fields(image: images.Image, name: str, whole: bool = False) -> "dict[str, Any]":
    """As docker calls them."""
    from dolium.engine import references

    repository, tag = NONE, NONE
    if name:
        found = references.parse(name)
        shown = found.familiar()
        repository = shown.partition("@")[0]
        repository = repository[: -len(found.tag) - 1] if found.tag and repository.endswith(f":{found.tag}") else repository
        tag = found.tag or NONE
    return {"Repository": repository, "Tag": tag, "ID": image.id if whole else image.short_id, "Digest": image.digest,
            "CreatedAt": image.created, "CreatedSince": _since(image.created), "Size": _size(image.size),
            "Platform": image.platform, "Containers": str(len(removal.users(image)))}  # fmt: skip


def _size(count: int) -> str:
    return show_size(count)


def _since(created: str) -> str:
    """How long ago a date of RFC 3339 was; `N/A` where there is none that can be read."""
    from dolium.cli.ps import ago

    then = _moment(created)
    return f"{ago(max(0.0, time() - then))} ago" if then is not None else "N/A"


def _moment(created: str) -> "float | None":
    from datetime import datetime

    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None


def _table(titles: "list[str]", rows: "list[list[str]]") -> str:
    table = [titles, *([render.printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    return "".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in table)


# ---- names, and what comes and goes


def tag(argv: "list[str]") -> int:
    """Raises NotFound, SpecError, UsageError and DoliumError."""
    found = words.parse("tag", argv, (), least=2, what="IMAGE NAME[:TAG]", about="Give an image one more name, or several.")
    if found is None:
        return 0
    from dolium.engine import references

    with images.hold():
        image = sources.stored(found.names[0])
        for each in found.names[1:]:
            name = references.parse(sources.whole(each))
            if name.transport != "registry" or name.digest:
                raise UsageError(f"{quoted(each)} cannot be given to an image", hint="NAME[:TAG], such as app:1.0")
            images.record(str(name), image.digest)
    return 0


def rmi(argv: "list[str]") -> int:
    """1 where one of them stays.  Raises UsageError."""
    found = words.parse("rmi", argv, RMI, least=1, what="IMAGE",
                        about="Take a name away from an image, and remove it with its last one.")  # fmt: skip
    if found is None:
        return 0
    return _gone(found.names, found.get("force", False))


def _gone(names: "list[str]", force: bool) -> int:
    code = 0
    for name in names:
        try:
            for line in removal.remove(name, force):
                render.write(1, f"{line}\n")
        except DoliumError as problem:
            if not (force and isinstance(problem, NotFound)):
                render.write(2, render.error(problem))
                code = 1
    _sweep()
    return code


def _sweep() -> None:
    freed = removal.sweep()
    if freed is None:
        render.say("what they were made of is still there, for an image is being pulled or read; `dolium prune` removes it later")
    elif freed:
        render.say(f"{show_size(freed)} of layers freed")


def prune(argv: "list[str]") -> int:
    """Raises UsageError and DoliumError."""
    found = words.parse("image prune", argv, PRUNE, most=0,
                        about="Remove images that have no name, and whatever no image and no container needs.")  # fmt: skip
    if found is None:
        return 0
    for line in removal.prune(found.get("all", False)):
        render.write(1, f"{line}\n")
    _sweep()
    return 0


def load(argv: "list[str]") -> int:
    """Raises ImageError, UsageError, Unsupported, OSError and DoliumError."""
    found = words.parse("load", argv, LOAD, most=0,
                        about="Take images out of an archive: docker-archive or oci-archive, which may be compressed.")  # fmt: skip
    if found is None:
        return 0
    from dolium.engine import importing, loading

    path = found.get("input", "-")
    if path == "-" and os.isatty(0):
        raise UsageError("an archive cannot be typed", hint="dolium load -i FILE, or `... | dolium load`")
    fd, name = importing.open_source(path, "load")
    try:
        for image, names in loading.every(fd, name, found.get("platform", "")):
            from dolium.engine import references

            for each in names:
                render.write(1, f"Loaded image: {references.parse(each).familiar()}\n")
            if not names:
                render.write(1, f"Loaded image ID: {image.id}\n")
    finally:
        os.close(fd)
    return 0


# ---- what one is


def history(argv: "list[str]") -> int:
    """Raises NotFound, ImageError and DoliumError."""
    found = words.parse("history", argv, HISTORY, least=1, most=1, what="IMAGE",
                        about="Show how an image was made, the last step first.")  # fmt: skip
    if found is None:
        return 0
    image = sources.stored(found.names[0])
    sizes, rows = [each.size for each in image.manifest().layers], []
    at, whole = 0, found.get("no-trunc", False)
    for event in image.config().history:
        size = 0
        if not event.get("empty_layer"):
            size, at = sizes[at] if at < len(sizes) else 0, at + 1
        created = str(event.get("created") or "")
        rows.append({"ID": "<missing>", "CreatedAt": created, "CreatedSince": _since(created), "Size": _size(size),
                     "CreatedBy": str(event.get("created_by") or ""), "Comment": str(event.get("comment") or "")})  # fmt: skip
    rows.reverse()
    if rows:
        rows[0]["ID"] = image.id if whole else image.short_id
    shape = found.get("format", "table")
    if found.get("quiet"):
        render.write(1, "".join(f"{row['ID']}\n" for row in rows))
    elif "{{" in shape:
        from dolium.cli import template

        render.write(1, template.table(shape, rows))
    elif shape == "json":
        import json

        render.write(1, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        most = 1 << 16 if whole else 45
        for row in rows:
            row["CreatedBy"] = render.printable(row["CreatedBy"], most)
        cells = [[row[each] for each in ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")] for row in rows]
        render.write(1, _table(["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], cells))
    return 0


def inspect(argv: "list[str]") -> int:
    """1 where one of them is not there; what is known of the others is printed first.  Raises UsageError and SpecError."""
    found = words.parse("image inspect", argv, INSPECT, least=1, what="IMAGE",
                        about="Show all that is known of images, as a JSON array.")  # fmt: skip
    if found is None:
        return 0
    import json

    from dolium.cli import template

    documents, problems = [], ""
    for name in found.names:
        try:
            documents.append(document(sources.stored(name)))
        except DoliumError as problem:
            problems += render.error(problem)
    shape = found.get("format", "")
    if shape and shape != "json":
        render.write(1, "".join(template.fill(shape, each) + "\n" for each in documents))
    else:
        render.write(1, json.dumps(documents, indent=None if shape else 4) + "\n")
    render.write(2, problems)
    return 1 if problems else 0


def document(image: images.Image) -> "dict[str, Any]":
    """As docker inspect has it.  Raises ImageError."""
    from dolium.engine import layers, making, references

    config = image.config()
    names = [references.parse(each) for each in image.names]
    stack, unpacked = layers.expected(image, "")
    return {
        "Id": image.id, "RepoTags": [each.familiar() for each in names if each.tag and not each.digest],
        "RepoDigests": sorted({f"{references.parse(each.name).familiar().rpartition(':')[0]}@{image.digest}" for each in names}),
        "Created": image.created, "Author": config.author, "Architecture": config.platform.architecture,
        "Variant": config.platform.variant, "Os": config.platform.os, "Size": image.size, "Config": making.run_of(image),
        "RootFS": {"Type": "layers", "Layers": [*config.diff_ids]},
        "Dolium": {"Manifest": image.digest, "MediaType": image.manifest().media_type, "Unpacked": unpacked,
                   "Trees": [f"{stack.path}/{each}" for each in stack.layers], "Containers": removal.users(image)},
    }  # fmt: skip


def verify(argv: "list[str]") -> int:
    """1 where something is wrong.  Raises NotFound, UsageError and DoliumError."""
    found = words.parse("image verify", argv, (), what="IMAGE",
                        about="Compute all digests anew, and compare what was unpacked with the layers: of all images, or of\n"
                              "these.")  # fmt: skip
    if found is None:
        return 0
    from dolium.engine import layers

    code = 0
    for image in [sources.stored(each) for each in found.names] or images.every():
        name = image.names[0] if image.names else image.short_id
        problems = [*layers.verify(image)]
        for each in problems:
            render.write(2, f"error: {name}: {each}\n")
        if not problems:
            render.write(1, f"{name}: as it was published\n")
        code = code or int(bool(problems))
    return code


def exists(argv: "list[str]") -> int:
    """For scripts: 0, or 1.  Raises UsageError and DoliumError."""
    found = words.parse("image exists", argv, (), least=1, most=1, what="IMAGE",
                        about="Say by the exit code whether an image is there.")  # fmt: skip
    if found is None:
        return 0
    try:
        sources.stored(found.names[0])
    except NotFound:
        return 1
    return 0


# ---- dolium image


OWN = {"exists": (exists, "0 if it is in the store, else 1; nothing is said"),
       "inspect": (inspect, "all that is known of images, as JSON"),
       "verify": (verify, "compute their digests anew, and compare their files"),
       "prune": (prune, "remove those without a name")}  # fmt: skip
"""What only `dolium image` has: function, and what its help says."""
SECOND = {"ls": "images", "list": "images", "rm": "rmi", "remove": "rmi", "history": "history", "import": "import", "load": "load",
          "pull": "pull", "push": "push", "save": "save", "tag": "tag"}  # fmt: skip
"""The others, and which commands they are."""


def image(argv: "list[str]") -> int:
    """`dolium image COMMAND`.  Raises UsageError, and what the command does."""
    found = words.parse("image", argv, (), least=1, leading=True, what="COMMAND [WORD...]", about=_about())
    if found is None:
        return 0
    word, rest = found.names[0], found.names[1:]
    if word in OWN:
        return OWN[word][0](rest)
    if word in SECOND:
        from dolium.cli.main import COMMANDS

        module, function, _ = COMMANDS[SECOND[word]]
        code: int = getattr(__import__(f"dolium.cli.{module}", fromlist=(function,)), function)(rest)
        return code
    from dolium.engine.nearest import did_you_mean

    hint = did_you_mean(word, [*OWN, *SECOND]) or f"there are {', '.join(sorted([*OWN, *SECOND]))}"
    raise UsageError(f"`dolium image` has no {quoted(word)}", hint=hint)


def _about() -> str:
    names: dict[str, list[str]] = {}
    for second, name in SECOND.items():
        names.setdefault(name, []).append(second)
    rows = [f"  {name:<11} {text}" for name, (_, text) in OWN.items()]
    rows += [f"  {', '.join(seconds):<11} as dolium {name}" for name, seconds in names.items()]
    return "\n".join(["Look after images: four commands, and the others by their second names.", "", *rows])
