"""An image of one layer out of a tar archive of files, which may be compressed."""

import os

from dolium.engine import compression, images, instructions, making, manifests, tar
from dolium.errors import ImageError
from dolium.plan.quantities import quoted

CHUNK = 1 << 18
WORDS = {"import": " - NAME", "load": ""}
"""What else the two commands that read an archive want on their line."""


def load(fd: int, name: str, reference: str, *, message: str = "", changes: "tuple[str, ...]" = (),
         platform: "manifests.Platform | None" = None) -> "images.Image":  # fmt: skip
    """The archive that can be read from `fd`, called `name` in errors, under a whole reference or nothing.  Nothing of it is
    there if this raises: ImageError for what is no archive, or damaged; SpecError, Unsupported, OSError and DoliumError."""
    run: dict[str, object] = {}
    for line in changes:
        instructions.apply(run, line)
    with images.hold(), making.Layer() as layer:
        stream = compression.Stream(fd, name)
        try:
            while piece := stream.some(CHUNK):
                layer.write(piece)
        finally:
            stream.close()
        _check(layer.finish(), name)
        layer.commit()
        history = making.event("", comment=message or f"imported from {os.path.basename(name.strip('`'))}")
        config = making.config(platform or manifests.this_platform(), run, [layer.diff_id], [history])
        return making.image(reference, config, [layer.descriptor])


def _check(fd: int, name: str) -> None:
    """That it can be read to its end; closes `fd`.  Raises ImageError."""
    try:
        stream = compression.Stream(fd, name)
        try:
            found = 0
            for entry in tar.Reader(stream):
                found += 1
                if b".." in entry.name.split(b"/"):
                    raise ImageError(name, "`..` would lead out of the rootfs", entry=entry.shown())
            if not found:
                raise ImageError(name, "the archive is empty")
        finally:
            stream.close()
    finally:
        os.close(fd)


def open_source(path: str, action: str = "import") -> "tuple[int, str]":
    """A descriptor of the archive at that path, `-` for standard input, and how to call it in errors.  Raises ImageError."""
    if path == "-":
        return os.dup(0), "standard input"
    if "://" in path:
        hint = f"curl -L {path} | dolium {action}{WORDS[action]}"
        raise ImageError(quoted(path), "addresses are not fetched", action=action, hint=hint)
    if action == "import" and os.path.isdir(path):
        here = path if "/" in path else f"./{path}"
        hint = f"tar -C {path} -c . | dolium import - NAME; dolium run {here} takes it as it is"
        raise ImageError(quoted(path), "it is a directory, and no archive", action=action, hint=hint)
    try:
        return os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC), quoted(os.path.basename(path.rstrip("/")))
    except OSError as error:
        raise ImageError(quoted(path), error.strerror or str(error), action=action) from None
