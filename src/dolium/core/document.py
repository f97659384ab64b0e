"""JSON, read and written with the C half of the standard module alone: to import the whole takes longer than a verb may."""

import os

from dolium.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DEEPEST = 200
"""Levels of objects in objects; the specification needs six."""
LARGEST = 16 << 20
"""Bytes of a document; a config.json has some ten thousand."""


class _Rules:
    """How to read: what _json.make_scanner looks at."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(text: str) -> "NoReturn":
        """NaN and Infinity are no JSON."""
        raise ValueError(f"{text} is no value in JSON")


def text(path: str, why: str = "") -> str:
    """The text of a file of moderate size.  Raises SpecError."""
    why = why or os.path.basename(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpecError(why, f"`{path}`: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise SpecError(why, f"`{path}` is not a file")
        if status.st_size > LARGEST:
            raise SpecError(why, f"`{path}` has {status.st_size} bytes, more than {LARGEST}")
        data = b""
        while (chunk := os.read(fd, 1 << 20)) and len(data) <= LARGEST:
            data += chunk
    finally:
        os.close(fd)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SpecError(why, f"`{path}` is not text in UTF-8") from None


def read(text: str, name: str) -> "Any":
    """What a document says.  Raises SpecError, which calls it `name`."""
    try:
        from _json import make_scanner
    except ImportError:  # another Python than CPython
        from json import loads

        try:
            return loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(name, f"is not JSON: {error}") from None
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise SpecError(name, "is nested too deep")
    try:
        value, end = make_scanner(_Rules)(text, start)  # type: ignore[arg-type]
    except StopIteration as error:
        at = f"nothing that makes sense at character {error.value}" if error.value < len(text) else "it ends too early"
        raise SpecError(name, f"is not JSON: {at}") from None
    except SystemError:  # the C half knows its own exception only where the other half has been loaded
        from json import loads

        try:
            return loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(name, f"is not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(name, f"is not JSON: {error}") from None
    if text[end:].strip(" \t\r\n"):
        raise SpecError(name, f"is not JSON: something follows its end at character {end}")
    return value


def _depth(text: str) -> int:
    """How deep it goes at most: brackets in strings are counted too."""
    deepest = level = 0
    for each in text:
        if each in "[{":
            level += 1
            deepest = max(deepest, level)
        elif each in "]}":
            level -= 1
    return deepest


def write(value: "Any", indent: int = 0) -> str:
    """The document that says it; with `indent`, for people."""
    if indent:
        from json import dumps

        return dumps(value, indent=indent)
    return _written(value)


def _written(value: "Any") -> str:
    """Without even that C half, which takes longer to load than this takes for all that Dolium ever writes."""
    if isinstance(value, str):
        if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
            return f'"{value}"'
        from _json import encode_basestring_ascii

        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_written(_key(key))}:{_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_written, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) or (isinstance(value, float) and value - value == 0):  # no NaN, no infinity
        return repr(value)
    raise TypeError(f"{value!r} is nothing that JSON has")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{key!r} cannot be a key in JSON")
    return key
