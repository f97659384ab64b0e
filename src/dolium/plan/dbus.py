"""Messages of D-Bus, as far as systemd is spoken to by them: values to bytes and back.  Pure.

A value is written as its type says, aligned to its own size: numbers as they are, a string with its length and a NUL, an array
with the bytes of its elements, a variant with its signature.  In Python a variant is (signature, value), a struct a tuple, an
array of bytes `bytes`, any other array a list.  Source: D-Bus Specification 0.43, "Marshaling" and "Message Format".
"""

from _struct import error as StructError  # type: ignore[attr-defined]
from _struct import pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

NUMBERS = {"y": ("B", 1), "n": ("h", 2), "q": ("H", 2), "b": ("I", 4), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8), "t": ("Q", 8),
           "d": ("d", 8)}  # fmt: skip
"""Type -> its letter in Python's struct, its size."""
ALIGNMENT = {**{kind: size for kind, (_, size) in NUMBERS.items()}, "s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "{": 8, "v": 1}
LONGEST, DEEPEST = 1 << 26, 32
"""Bytes of an array; arrays, structs and variants in each other."""
CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE = range(1, 9)
"""Fields of a header."""
KINDS = {PATH: "o", INTERFACE: "s", MEMBER: "s", ERROR_NAME: "s", REPLY_SERIAL: "u", DESTINATION: "s", SENDER: "s", SIGNATURE: "g"}
HEADER = "yyyyuua(yv)"
FIXED = 16
"""Bytes of a header up to and with the length of its fields: they tell how long the message is."""


def types(signature: str) -> "Iterator[str]":
    """The complete types that a signature consists of.  Raises ValueError."""
    at = 0
    while at < len(signature):
        end = _end(signature, at, 0)
        yield signature[at:end]
        at = end


def _end(signature: str, at: int, depth: int) -> int:
    """Where the type that begins there ends."""
    letter = signature[at : at + 1]
    if depth > DEEPEST or letter not in ALIGNMENT:
        raise ValueError(f"`{signature[:80]}` is no signature")
    if letter == "a":
        return _end(signature, at + 1, depth + 1)
    if letter not in "({":
        return at + 1
    inner = _end(signature, at + 1, depth + 1)
    while signature[inner : inner + 1] != (")" if letter == "(" else "}"):
        inner = _end(signature, inner, depth + 1)
    return inner + 1


def encode(signature: str, values: "Sequence[Any]") -> bytes:
    """The values, one for each complete type of the signature.  Raises ValueError for what does not fit."""
    into = bytearray()
    try:
        for kind, value in zip(types(signature), values, strict=True):
            _put(into, kind, value)
    except (StructError, TypeError, AttributeError) as problem:
        raise ValueError(f"not of type `{signature}`: {problem}") from None
    return bytes(into)


def _pad(into: bytearray, alignment: int) -> None:
    into += bytes(-len(into) % alignment)


def _put(into: bytearray, kind: str, value: "Any") -> None:
    first = kind[0]
    _pad(into, ALIGNMENT[first])
    if first in NUMBERS:
        into += pack(f"<{NUMBERS[first][0]}", value)
    elif first in "so":
        text = value.encode()
        if b"\0" in text:
            raise ValueError("a string with a NUL")
        into += pack("<I", len(text)) + text + b"\0"
    elif first == "g":
        into += pack("B", len(value)) + value.encode("ascii") + b"\0"
    elif first == "v":
        (inner,) = types(value[0])
        _put(into, "g", inner)
        _put(into, inner, value[1])
    elif first == "a":
        place = len(into)
        into += bytes(4)
        _pad(into, ALIGNMENT[kind[1]])
        begun = len(into)
        for each in value:
            _put(into, kind[1:], each)
        into[place : place + 4] = pack("<I", len(into) - begun)
    else:
        for inner, each in zip(types(kind[1:-1]), value, strict=True):
            _put(into, inner, each)


class Reader:
    """Takes values out of bytes; `order` is `<`, or `>` for those of a host that has the highest byte first."""

    __slots__ = ("data", "at", "order")

    def __init__(self, data: bytes, order: str = "<") -> None:
        self.data = data
        self.at = 0
        self.order = order

    def values(self, signature: str) -> "list[Any]":
        """One for each complete type.  Raises ValueError."""
        try:
            return [self._take(kind, 0) for kind in types(signature)]
        except StructError:
            raise ValueError("the message ends too early") from None

    def _pad(self, alignment: int) -> None:
        self.at += -self.at % alignment

    def _number(self, kind: str) -> "Any":
        letter, size = NUMBERS[kind]
        self._pad(size)
        (found,) = unpack_from(self.order + letter, self.data, self.at)
        self.at += size
        return found

    def _text(self, length: int) -> str:
        end = self.at + length
        if self.data[end : end + 1] != b"\0":
            raise ValueError("a string without its end")
        found = self.data[self.at : end].decode()  # UnicodeDecodeError is a ValueError
        self.at = end + 1
        return found

    def _take(self, kind: str, depth: int) -> "Any":
        if depth > DEEPEST:
            raise ValueError("values in values without end")
        first = kind[0]
        if first in NUMBERS:
            found = self._number(first)
            return bool(found) if first == "b" else found
        if first in "so":
            return self._text(self._number("u"))
        if first == "g":
            return self._text(self._number("y"))
        if first == "v":
            signature = self._text(self._number("y"))
            inner = [*types(signature)]
            if len(inner) != 1:
                raise ValueError("a variant of more than one value")
            return signature, self._take(signature, depth + 1)
        if first == "a":
            return self._array(kind[1:], depth)
        self._pad(8)
        return tuple(self._take(inner, depth + 1) for inner in types(kind[1:-1]))

    def _array(self, kind: str, depth: int) -> "list[Any] | bytes":
        length = self._number("u")
        self._pad(ALIGNMENT[kind[0]])
        end = self.at + length
        if length > LONGEST or end > len(self.data):
            raise ValueError("an array that is longer than the message")
        if kind == "y":
            self.at = end
            return self.data[end - length : end]
        found = []
        while self.at < end:
            found.append(self._take(kind, depth + 1))
        if self.at != end:
            raise ValueError("an array that ends within a value")
        return found


class Message:
    """One message: its `kind`, `serial`, the `fields` of its header by their number, and the `values` of its body."""

    __slots__ = ("kind", "serial", "fields", "values")

    def __init__(self, kind: int, serial: int, fields: "dict[int, Any]", values: "list[Any]") -> None:
        self.kind = kind
        self.serial = serial
        self.fields = fields
        self.values = values


def call(serial: int, destination: str, path: str, interface: str, member: str, signature: str = "",
         values: "Sequence[Any]" = ()) -> bytes:  # fmt: skip
    """A message that calls a method.  Raises ValueError."""
    body = encode(signature, values)
    fields = {PATH: path, INTERFACE: interface, MEMBER: member, DESTINATION: destination}
    if signature:
        fields[SIGNATURE] = signature
    return message(CALL, serial, fields, body)


def message(kind: int, serial: int, fields: "dict[int, Any]", body: bytes) -> bytes:
    """A message of any kind; which types `body` has must be said in the fields."""
    listed = [(number, (KINDS[number], value)) for number, value in fields.items()]
    head = encode(HEADER, (ord("l"), kind, 0, 1, len(body), serial, listed))
    return head + bytes(-len(head) % 8) + body


def length(head: bytes) -> int:
    """Of the whole message that begins with these FIXED bytes.  Raises ValueError for what is none, or longer than LONGEST."""
    order = {ord("l"): "<", ord("B"): ">"}.get(head[0])
    if not order or len(head) < FIXED or head[3] != 1:
        raise ValueError("no message of D-Bus")
    body, _, fields = unpack_from(f"{order}III", head, 4)
    whole: int = FIXED + fields + (-fields % 8) + body
    if whole > LONGEST:
        raise ValueError(f"a message of {whole} bytes")
    return whole


def parse(data: bytes) -> Message:
    """A whole message.  Raises ValueError."""
    length(data)
    order = "<" if data[0] == ord("l") else ">"
    reader = Reader(data, order)
    _, kind, _, _, _, serial, listed = reader.values(HEADER)
    fields = {number: value for number, (_, value) in listed}
    signature = fields.get(SIGNATURE, "")
    if not isinstance(signature, str):
        raise ValueError("a signature that is no text")
    reader.at += -reader.at % 8
    return Message(kind, serial, fields, Reader(data[reader.at :], order).values(signature))
