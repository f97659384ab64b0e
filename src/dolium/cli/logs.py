"""`dolium logs`: what a detached container has printed."""

import os
from time import sleep

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import life, store
from dolium.errors import NotFound, SpecError
from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container


GONE = b"\0"
"""What a line begins with of which a part is gone."""


def _count(text: str, flag: str) -> int:
    if text == "all":
        return -1
    if not text.isascii() or not text.isdigit():
        raise SpecError(flag, f"expected a number of lines or `all`, got `{text}`")
    return int(text)


def _moment(text: str, flag: str) -> bytes:
    """As the log's lines begin, so that texts compare as times do: in UTC, RFC 3339; a time, or how long ago."""
    from datetime import UTC, datetime
    from time import time

    try:
        if text.replace(".", "", 1).isdigit():
            seconds = float(text)  # since 1970, as docker reads a bare number
        elif "-" in text[1:]:
            seconds = datetime.fromisoformat(text).timestamp()
        else:
            seconds = time() - quantities.seconds(text, flag)
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()
    except (SpecError, ValueError, OverflowError, OSError):
        raise SpecError(flag, f"no time: {quantities.quoted(text)}", hint="such as 10m, or 2026-01-31T12:00:00Z") from None


TABLE = (
    Flag("follow", "f", "", yes, "go on until it ends"),
    Flag("tail", "n", "NUMBER", _count, "only the last lines; all"),
    Flag("since", "", "TIME", _moment, "only lines from then on: 10m ago, or a date"),
    Flag("until", "", "TIME", _moment, "only lines before that"),
    Flag("timestamps", "t", "", yes, "when each line came"),
)


def main(argv: "list[str]") -> int:
    """stdout to stdout, stderr to stderr.  Raises DoliumError."""
    found = words.parse(
        "logs", argv, TABLE, least=1, most=1, about="Show what a detached container has printed."
    )
    if found is None:
        return 0
    container = store.find(found.names[0])
    try:
        fd = os.open(f"{container.path}/log", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFound(
            "log of container", container.name, hint="only what runs detached has one (dolium run -d, dolium start)"
        ) from None
    try:
        _show(fd, container, found)
    finally:
        os.close(fd)
    return 0


def _show(fd: int, container: "Container", asked: words.Words) -> None:
    stamped, most, rest = asked.get("timestamps", False), asked.get("tail", -1), b""
    since, until = asked.get("since", b""), asked.get("until", b"~")
    lines: list[bytes] = []
    if _skip(fd) and most < 0:
        render.say("the beginning is gone: a log keeps its last 64 MiB")
    while chunk := os.read(fd, 1 << 20):
        *fresh, rest = (rest + chunk).split(b"\n")
        lines += (line for line in fresh if since <= line < until and line[:1] != GONE)
        if most < 0:
            _print(lines, stamped)
            lines = []
        elif len(lines) > 2 * most + 1000:
            lines = lines[-most:] if most else []
    _print(lines[-most:] if most else [], stamped)
    while asked.get("follow", False):
        alive = _runs(container)
        while chunk := os.read(fd, 1 << 20):
            *fresh, rest = (rest + chunk).split(b"\n")
            _print([line for line in fresh if since <= line < until and line[:1] != GONE], stamped)
        if not alive:
            return
        sleep(0.05)


def _skip(fd: int) -> bool:
    """To the last of what dolium-keep has given back to the disk, where the file system can do that; whether that is anything.
    The line that begins there has lost its beginning."""
    try:
        start = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:  # there is nothing in it yet, or its file system does not tell
        return False
    os.lseek(fd, max(0, start - 1), os.SEEK_SET)
    return start > 0


def _runs(container: "Container") -> bool:
    try:
        return bool(life.state_once_begun(container)["status"] == "running")
    except NotFound:
        return False


def _print(lines: "list[bytes]", stamped: bool) -> None:
    """A line of the log is `TIME stdout|stderr F|P TEXT`; P: the line goes on in the next."""
    for line in lines:
        when, stream, kind, text = [*line.split(b" ", 3), b"", b"", b""][:4]
        whole = (when + b" " if stamped else b"") + text + (b"\n" if kind == b"F" else b"")
        render.write_bytes(2 if stream == b"stderr" else 1, whole)
