"""The words of the smaller commands: a few flags, in any place, and names."""

from dolium.cli.flags import Flag
from dolium.errors import UsageError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Words:
    """What one command line says: `values` by flag (only those given; a list for one that may be repeated), then `names`."""

    __slots__ = ("values", "names")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.names: list[str] = []

    def get(self, name: str, default: "Any" = None) -> "Any":
        """The value of a flag, or the default."""
        return self.values.get(name, default)


def parse(
    command: str, argv: "list[str]", table: "tuple[Flag, ...]", *, least: int = 0, most: int = 1 << 16, what: str = "CONTAINER",
    about: str = "", leading: bool = False,
) -> "Words | None":  # fmt: skip
    """Read the words after `dolium COMMAND`; None where help was asked for, and has been printed.

    `least` and `most` bound how many names there are, `what` they are called in help; `leading`: flags stand before the
    first name only, what follows belongs to somebody else, and `what` is all of it.  Raises UsageError and SpecError.
    """
    usage = _usage(command, least, most, what, leading)
    known = {f"--{each.name}": each for each in table} | {f"-{each.short}": each for each in table if each.short}
    found, at, flags_end = Words(), 0, False
    while at < len(argv):
        word = argv[at]
        at += 1
        if flags_end or len(word) < 2 or word[0] != "-":
            found.names.append(word)
            flags_end = flags_end or leading
            continue
        if word == "--":
            flags_end = True
            continue
        if word == "--help":
            from dolium.cli import render

            render.write(1, _help(usage, table, about))
            return None
        for flag, typed, text in _flags_in(word, known, command):
            if text is None:
                if at == len(argv):
                    raise UsageError(f"{typed}: a value is missing", hint=f"write `{typed} {flag.value}`")
                text, at = argv[at], at + 1
            value = flag.read(text, typed)
            if isinstance(value, (list, dict)) and flag.name in found.values:
                value = found.values[flag.name] | value if isinstance(value, dict) else found.values[flag.name] + value
            found.values[flag.name] = value
    if len(found.names) < least:
        raise UsageError(f"`dolium {command}` needs {_one(what) if least == 1 else f'{least} words'}", hint=usage)
    if len(found.names) > most:
        raise UsageError(
            f"`dolium {command}`: one word too many: {quoted(found.names[most])}", hint=usage
        )
    return found


def _flags_in(word: str, known: "dict[str, Flag]", command: str) -> "list[tuple[Flag, str, str | None]]":
    """The flags in one word, each as typed, with its value; None: the next word is."""

    def flag(typed: str) -> Flag:
        if typed not in known:
            from dolium.cli import docker
            from dolium.engine.nearest import did_you_mean

            if instead := docker.MISSING.get(command, {}).get(typed):
                shown = quoted(typed) + (f" (in {quoted(word)})" if word[:2] not in (typed, "--") else "")
                raise UsageError(f"`dolium {command}` has no {shown}", hint=instead)
            hint = did_you_mean(typed.strip("-"), [each[2:] for each in known if each[:2] == "--"], "--")
            raise UsageError(
                f"`dolium {command}` has no {quoted(typed)}", hint=hint or f"`dolium {command} --help` lists what it has"
            )
        return known[typed]

    if word.startswith("--"):
        typed, equals, text = word.partition("=")
        return [(flag(typed), typed, text if equals else None if flag(typed).value else "true")]
    found: list[tuple[Flag, str, str | None]] = []
    rest = word[1:]
    while rest:
        typed, rest = "-" + rest[0], rest[1:]
        if flag(typed).value:
            found.append((flag(typed), typed, rest.removeprefix("=") or None))
            break
        found.append((flag(typed), typed, "true"))
    return found


def _one(what: str) -> str:
    """A name by what it is called; what is in small letters is the word itself."""
    return f"`{what}`" if what.islower() else f"{'an' if what[0] in 'AEIOU' else 'a'} {what}"


def _usage(command: str, least: int, most: int, what: str, leading: bool) -> str:
    shown = f" {what}" if least or leading else f" [{what}]" if most else ""
    return f"dolium {command} [FLAG...]{shown}{'...' if most > max(least, 1) and not leading else ''}"


def _help(usage: str, table: "tuple[Flag, ...]", about: str) -> str:
    page = [f"Usage: {usage}", "", about, ""]
    for flag in table:
        names = f"-{flag.short}, --{flag.name}" if flag.short else f"    --{flag.name}"
        page.append(f"  {names} {flag.value}".ljust(30) + " " + flag.text)
    return "\n".join([*page, "      --help".ljust(30) + " this page", ""])
