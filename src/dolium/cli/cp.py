"""`dolium cp`: files into a container and out of it."""

import os
import sys

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import store
from dolium.errors import DoliumError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = (
    Flag("archive", "a", "", yes, "owners as they were: for root"),
    Flag("follow-link", "L", "", yes, "of a symbolic link, what it leads to"),
    Flag("quiet", "q", "", yes, "do not say what was left out"),
)


def main(argv: "list[str]") -> int:
    """Raises UsageError, NotFound, StateError, ImageError, OSError and DoliumError."""
    found = words.parse("cp", argv, TABLE, least=2, most=2, what="SOURCE TARGET",
                        about="Copy a file or a directory, one of which is CONTAINER:PATH. `-` is a tar archive on standard\n"
                              "input or output. A directory that ends with `/.` means what is in it.")  # fmt: skip
    if found is None:
        return 0
    source, target = found.names
    (from_, path), (to, where) = _split(source), _split(target)
    if bool(from_) == bool(to):
        problem = "from one container into another is not offered" if from_ else "neither is in a container"
        raise UsageError(f"`dolium cp`: {problem}", hint="one of the two is CONTAINER:PATH; one of this host may begin with `./`")
    if found.get("archive") and os.geteuid():
        raise UsageError("-a gives files to others, which only root can do", hint="leave it out")
    if found.get("archive") and "-" in (source, target):
        raise UsageError("-a and `-`: an archive has its owners anyway", hint="leave `-a` out")
    if target == "-" and os.isatty(1):
        raise UsageError("an archive is not written to a terminal", hint=f"dolium cp {source} - | tar -t")
    from dolium.sandbox import copying
    from dolium.sandbox.inside import Inside

    try:
        inside = Inside(store.find(from_ or to))
        try:
            if source == "-":
                fd = inside.open(where, copying.DIRECTORY)
                try:
                    copying.from_archive(sys.stdin.buffer, fd, inside)
                finally:
                    os.close(fd)
                return 0
            opened: Callable[[str, int], int] = inside.open if from_ else copying.on_host
            one = copying.Source(opened, path, found.get("follow-link", False), inside.id_base if from_ else 0)
            try:
                if target == "-":
                    copying.to_archive(one, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
                else:
                    other = copying.Target(copying.on_host if from_ else inside.open, where, one)
                    try:
                        copying.copy(one, other, inside=None if from_ else inside, owners=found.get("archive", False))
                    finally:
                        other.close()
            finally:
                one.close()
        finally:
            inside.close()
    except OSError as error:
        if isinstance(error, DoliumError):
            raise
        raise DoliumError(f"cannot copy `{source}` to `{target}`: {error.strerror}") from None
    if not found.get("quiet"):
        for each in one.left_out:
            render.say(f"left out: {render.printable(each)}")
    return 0


def _split(text: str) -> "tuple[str, str]":
    """Container and path; no container for a path of this host, which may have a `:` after a `/`."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name or name.startswith(".") or not name:
        return "", text
    return name, "/" + path.lstrip("/") if path else "/"
