"""`dolium export` and `dolium diff`: the files of a container."""

import os

from dolium.cli import render, words
from dolium.cli.flags import Flag
from dolium.engine import store
from dolium.errors import UsageError


def path(text: str, flag: str) -> str:
    """The value of a flag that names a file."""
    if not text:
        raise UsageError(f"{flag}: a file is needed")
    return text


def must_not_be_terminal(found: "words.Words", command: str) -> None:
    """An archive on a terminal is of use to nobody.  Raises UsageError."""
    if found.get("output", "-") == "-" and os.isatty(1):
        raise UsageError("an archive is not written to a terminal", hint=f"dolium {command} -o FILE, or `| tar -t`")


EXPORT = (Flag("output", "o", "FILE", path, "write it there; `-` or nothing: to standard output"),)


def export(argv: "list[str]") -> int:
    """Raises UsageError, NotFound, Unsupported, OSError and DoliumError."""
    found = words.parse("export", argv, EXPORT, least=1, most=1,
                        about="All files of a container as one tar archive, but for what is mounted in it.")  # fmt: skip
    if found is None:
        return 0
    must_not_be_terminal(found, f"export {found.names[0]}")
    from dolium.engine import contents
    from dolium.engine.archive import Writer
    from dolium.engine.output import Output

    container = store.find(found.names[0])
    with Output(found.get("output", "")) as out:
        stack = contents.whole(container)
        try:
            writer = Writer(out.write)
            for entry, content in stack.everything():
                writer.add(entry, content.without_holes(entry) if content else ())
            writer.close()
        finally:
            stack.close()
    return 0


def diff(argv: "list[str]") -> int:
    """Raises UsageError, NotFound, StateError, OSError and DoliumError."""
    found = words.parse("diff", argv, (), least=1, most=1,
                        about="What a container has added (A), changed (C) and removed (D) of its image's files.")  # fmt: skip
    if found is None:
        return 0
    from dolium.engine import contents

    lines = []
    for change in contents.changes(store.find(found.names[0])):
        lines.append(f"{change.kind} {render.printable('/' + os.fsdecode(change.entry.name))}\n")
    lines.sort(key=lambda line: line[2:])
    render.write(1, "".join(lines))
    return 0
