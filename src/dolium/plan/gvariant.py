"""Values in GVariant's text format, which annotations of engines have them in: numbers, words, truth, lists.  Pure.

Source: GLib, "GVariant Text Format".
"""

from dolium.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NUMBERS = {"byte": ("y", 0, 255), "int16": ("n", -(1 << 15), (1 << 15) - 1), "uint16": ("q", 0, (1 << 16) - 1),
           "int32": ("i", -(1 << 31), (1 << 31) - 1), "uint32": ("u", 0, (1 << 32) - 1), "int64": ("x", -(1 << 63), (1 << 63) - 1),
           "uint64": ("t", 0, (1 << 64) - 1)}  # fmt: skip
"""Word before a number -> its type in D-Bus, the least and the most that it can be."""
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def read(text: str, why: str) -> "tuple[str, Any]":
    """The type of the value, as D-Bus has it, and the value.  Raises SpecError, naming `why`."""
    found, rest = _value(text.strip(), text, why)
    if rest:
        raise _wrong(text, why)
    return found


def _wrong(text: str, why: str) -> SpecError:
    return SpecError(why, f"`{text[:60]}` is no value such as 'text', true, 5, uint64 5 or ['a', 'b']")


def _value(at: str, text: str, why: str) -> "tuple[tuple[str, Any], str]":
    """The value that `at` begins with, and what comes after it."""
    if at[:1] == "@" and at[1:3] == "as" and at[3:].lstrip()[:1] == "[":
        found, rest = _list(at[3:].lstrip()[1:], text, why)
        return ("as", found[1] if found[1] else []), rest
    if at[:1] == "[":
        return _list(at[1:], text, why)
    if at[:1] in ("'", '"'):
        word, rest = _quoted(at, text, why)
        return ("s", word), rest
    end = next((place for place, letter in enumerate(at) if letter in ",]"), len(at))
    words, rest = at[:end].split(), at[end:]
    if words == ["true"] or words == ["false"]:
        return ("b", words == ["true"]), rest
    if len(words) == 1:
        words.insert(0, "int32" if "." not in words[0] else "double")
    if len(words) == 2 and words[0] == "double":
        try:
            return ("d", float(words[1])), rest
        except ValueError:
            raise _wrong(text, why) from None
    if len(words) != 2 or words[0] not in NUMBERS:
        raise _wrong(text, why)
    kind, least, most = NUMBERS[words[0]]
    try:
        number = int(words[1], 0)
    except ValueError:
        raise _wrong(text, why) from None
    if not least <= number <= most:
        raise SpecError(why, f"{number} is no {words[0]}")
    return (kind, number), rest


def _list(at: str, text: str, why: str) -> "tuple[tuple[str, Any], str]":
    """After its `[`.  An empty one is of strings: there is no other that a unit would want."""
    kinds, found = set(), []
    at = at.lstrip()
    while at[:1] != "]":
        (kind, value), at = _value(at, text, why)
        kinds.add(kind)
        found.append(value)
        at = at.lstrip()
        if at[:1] == ",":
            at = at[1:].lstrip()
        elif at[:1] != "]":
            raise _wrong(text, why)
    if len(kinds) > 1 or any(kind[0] == "a" for kind in kinds):
        raise _wrong(text, why)
    return (f"a{kinds.pop() if kinds else 's'}", found), at[1:].lstrip()


def _quoted(at: str, text: str, why: str) -> "tuple[str, str]":
    quote, found, place = at[0], "", 1
    while place < len(at) and at[place] != quote:
        if at[place] == "\\":
            place += 1
            found += ESCAPES.get(at[place : place + 1], at[place : place + 1])
        else:
            found += at[place]
        place += 1
    if place >= len(at):
        raise _wrong(text, why)
    return found, at[place + 1 :].lstrip()
