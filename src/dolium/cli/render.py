"""Errors as people read them: the fact, the place in the plan, the hint."""

import os

from dolium.errors import DoliumError, StepError

EPIPE = 32


def error(problem: DoliumError) -> str:
    """Complete in its first line, for those who relay one line only."""
    lines = [f"error: {problem}"]
    if isinstance(problem, StepError) and problem.index:
        lines.append("  " + problem.place)
    if problem.hint:
        lines += ["", f"hint: {problem.hint}"]
    return "\n".join(lines) + "\n"


def printable(text: str, most: int = 1 << 16) -> str:
    """On one line and without what would move a terminal's cursor, cut to so many characters."""
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def say(line: str) -> None:
    """One of our own lines on the program's stderr."""
    write(2, f"dolium: {line}\n")


def write(fd: int, text: str) -> None:
    """To a descriptor, whole; a reader that has gone is no error of ours.  Raises DoliumError where data is lost."""
    write_bytes(fd, text.encode("utf-8", "surrogateescape"))


def write_bytes(fd: int, data: bytes) -> None:
    """The same of bytes."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as problem:
        if fd == 1 and problem.errno != EPIPE:
            raise DoliumError(f"cannot write to standard output: {problem.strerror}") from None
