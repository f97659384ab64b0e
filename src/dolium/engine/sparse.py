"""Where the data of a sparse file goes, in the four forms that GNU tar has had for saying it (its manual, "Storing Sparse Files"):
the old one, in the header and in blocks after it, and PAX 0.0, 0.1 and 1.0.

A map is a list of (offset, bytes); what lies between is a hole.  One that goes back, overlaps, or does not add up is refused.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Map = list[tuple[int, int]]
    Number = Callable[[bytes], int]
    Refuse = Callable[[str], NoReturn]

BLOCK = 512
MOST_PIECES = 1 << 20
OLD_MAP, OLD_MORE, OLD_SIZE = 386, 482, 483
"""Where in the header the first four pieces are, whether there are more, and the size of the file with its holes."""
PAIR = 24
NEXT_MORE = 504
"""Where a block of further pieces, 21 of them, says whether another follows."""


def old(block: bytes, more: "Callable[[], bytes]", number: "Number", refuse: "Refuse") -> "tuple[Map, int]":
    """The map and the size out of an old header; `more` gives the next block, `number` reads a field."""
    pieces = _pairs(block[OLD_MAP:OLD_MORE], number)
    size, goes_on = number(block[OLD_SIZE : OLD_SIZE + 12]), block[OLD_MORE] not in b"\0000"
    while goes_on:
        block = more()
        pieces += _pairs(block[:NEXT_MORE], number)
        goes_on = block[NEXT_MORE] not in b"\0000"
        if len(pieces) > MOST_PIECES:
            refuse(f"a sparse file of more than {MOST_PIECES} pieces")
    return pieces, size


def _pairs(data: bytes, number: "Number") -> "Map":
    return [(number(data[at : at + 12]), number(data[at + 12 : at + PAIR]))
            for at in range(0, len(data) - PAIR + 1, PAIR) if data[at : at + PAIR].strip(b"\0 ")]  # fmt: skip


def listed(text: bytes, refuse: "Refuse") -> "Map":
    """PAX 0.1: `OFFSET,BYTES,OFFSET,BYTES`; 0.0 has been made such by the reader."""
    numbers = text.split(b",") if text else []
    if len(numbers) % 2 or not all(each.isdigit() and len(each) <= 20 for each in numbers):
        refuse("the map of a sparse file is malformed")
    whole = [*map(int, numbers)]
    return [*zip(whole[::2], whole[1::2], strict=True)]


def leading(more: "Callable[[], bytes]", refuse: "Refuse") -> "Map":
    """PAX 1.0: before the data, in blocks, a number a line: how many pieces, then offset and bytes of each."""
    data, wanted = b"", 1
    numbers: list[int] = []
    while len(numbers) < wanted:
        line, end, rest = data.partition(b"\n")
        if not end:
            if len(data) > BLOCK:
                refuse("the map of a sparse file is malformed")
            data += more()
            continue
        if not line.isdigit() or len(line) > 20:
            refuse("the map of a sparse file is malformed")
        numbers.append(int(line))
        data = rest
        if len(numbers) == 1:
            if numbers[0] > MOST_PIECES:
                refuse(f"a sparse file of {numbers[0]} pieces, and {MOST_PIECES} are the most")
            wanted = 1 + 2 * numbers[0]
    return [*zip(numbers[1::2], numbers[2::2], strict=True)]


def check(pieces: "Map", size: int, stored: int, refuse: "Refuse") -> None:
    """A map against the size of the file and the bytes that the archive has of it."""
    at = 0
    for offset, length in pieces:
        if offset < at or length < 0 or offset + length > size:
            refuse(f"the map of a sparse file goes to {offset}+{length}, after {at}, and the file has {size} bytes")
        at = offset + length
    if sum(length for _, length in pieces) != stored:
        refuse(f"the map of a sparse file is of {sum(length for _, length in pieces)} bytes, and {stored} are there")
