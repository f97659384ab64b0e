"""Messages of DNS, RFC 1035: as much of them as a resolver needs that knows names and IPv4 addresses and nothing else.  Pure.

Nothing that comes from one side is passed on to the other: a question is read and asked anew, an answer is read and told anew.
Whatever is malformed is None, never an error: these bytes come from those who are not trusted.
"""

from _struct import Struct

HEADER = Struct(">HHHHHH")
"""id, flags, numbers of questions, answers, authorities, additional records."""
RECORD = Struct(">HHIH")
"""type, class, seconds to live, length; behind a record's name."""
A, CNAME, OPT, AAAA, INTERNET = 1, 5, 41, 28, 1
RESPONSE, TRUNCATED, WANT_RECURSION, HAVE_RECURSION, OPERATION = 0x8000, 0x0200, 0x0100, 0x0080, 0x7800
NO_ERROR, FORM_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 2, 3, 4
LONGEST = 255
ROOM = 1232
"""Bytes that a server may answer with in one datagram: what every way lets through whole (the DNS flag day of 2020)."""
MOST = 14
"""Addresses told: with the longest name they make less than 512 bytes, what everybody takes."""
RECORDS = 256
CHAIN = 16
"""Names that one name may lead through."""
WEEK = 7 * 86400


class Question:
    """`id`, the `name` in lower case without a dot at its end, its `type`, and the bytes of it, to be given back as they were.
    `refusal`: with which code it is to be answered instead, where it is not one to be looked up."""

    __slots__ = ("id", "name", "type", "text", "flags", "refusal")

    def __init__(self, number: int, name: str, kind: int, text: bytes, flags: int, refusal: int = NO_ERROR) -> None:
        self.id = number
        self.name = name
        self.type = kind
        self.text = text
        self.flags = flags
        self.refusal = refusal


def question(data: bytes) -> "Question | None":
    """The question in what a program sent; None for what deserves no answer."""
    if not HEADER.size <= len(data) <= 4096:
        return None
    number, flags, questions, answers, authorities, _ = HEADER.unpack_from(data)
    if flags & RESPONSE:
        return None
    if flags & OPERATION:
        return Question(number, "", 0, b"", flags, NOT_IMPLEMENTED)
    found = _name(data, HEADER.size, packed=False) if (questions, answers, authorities) == (1, 0, 0) else None
    if found is None or len(data) < found[1] + 4:
        return Question(number, "", 0, b"", flags, FORM_ERROR)
    name, end = found
    kind, group = int.from_bytes(data[end : end + 2], "big"), int.from_bytes(data[end + 2 : end + 4], "big")
    return Question(number, name, kind, data[HEADER.size : end + 4], flags, NO_ERROR if group == INTERNET else NO_SUCH_NAME)


def reply(asked: Question, code: int, addresses: "list[bytes]", seconds: int) -> bytes:
    """What to answer: these addresses, all of the very name that was asked for."""
    told = addresses[:MOST]
    flags = RESPONSE | HAVE_RECURSION | asked.flags & WANT_RECURSION | code
    found = HEADER.pack(asked.id, flags, 1 if asked.text else 0, len(told), 0, 0) + asked.text
    for each in told:
        found += b"\xc0\x0c" + RECORD.pack(A, INTERNET, seconds, 4) + each
    return found


def query(number: int, name: str) -> bytes:
    """A question for a server: the IPv4 addresses of that name."""
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return (HEADER.pack(number, WANT_RECURSION, 1, 0, 0, 1) + labels + b"\0" + A.to_bytes(2, "big") + INTERNET.to_bytes(2, "big")
            + b"\0" + RECORD.pack(OPT, ROOM, 0, 0))  # fmt: skip


class Answer:
    """A server's: `code`, the `addresses` in the end of the chain, the `seconds` that all of it holds, whether it was `cut`."""

    __slots__ = ("code", "addresses", "seconds", "cut")

    def __init__(self, code: int, addresses: "list[bytes]", seconds: int, cut: bool) -> None:
        self.code = code
        self.addresses = addresses
        self.seconds = seconds
        self.cut = cut


def answer(data: bytes, number: int, name: str) -> "Answer | None":
    """A server's answer to that very question; None for what is none."""
    if len(data) < HEADER.size:
        return None
    given, flags, questions, answers, _, _ = HEADER.unpack_from(data)
    found = _name(data, HEADER.size)
    if given != number or not flags & RESPONSE or flags & OPERATION or questions != 1 or found is None or answers > RECORDS:
        return None
    if found[0] != name or data[found[1] : found[1] + 4] != b"\0\1\0\1":
        return None
    cut, at = bool(flags & TRUNCATED), found[1] + 4
    aliases: dict[str, tuple[str, int]] = {}
    addresses: dict[str, list[tuple[bytes, int]]] = {}
    for _ in range(answers):
        owner = _name(data, at)
        if owner is None or len(data) < owner[1] + RECORD.size:
            if cut:
                break
            return None
        kind, group, seconds, size = RECORD.unpack_from(data, owner[1])
        start = owner[1] + RECORD.size
        at = start + size
        if at > len(data):
            if cut:
                break
            return None
        seconds = min(seconds, WEEK) if seconds < 1 << 31 else 0  # RFC 2181, 8
        if group == INTERNET and kind == A:
            if size != 4:
                return None
            addresses.setdefault(owner[0], []).append((data[start:at], seconds))
        elif group == INTERNET and kind == CNAME:
            target = _name(data, start)
            if target is None or target[1] != at:
                return None
            aliases[owner[0]] = target[0], seconds
    least = WEEK
    for _ in range(CHAIN):
        if name in addresses or name not in aliases:
            break
        name, seconds = aliases[name]
        least = min(least, seconds)
    told = addresses.get(name, [])
    least = min([least, *(seconds for _, seconds in told)])
    return Answer(flags & 15, list(dict.fromkeys(each for each, _ in told)), least, cut)


def _name(data: bytes, at: int, packed: bool = True) -> "tuple[str, int] | None":
    """The name at that place, in lower case, and where it ends; None for what is none.  With `packed` it may go on at an earlier
    place, each time at an earlier one: so it comes to an end."""
    labels: list[str] = []
    end, total, limit = -1, 1, at
    while at < len(data):
        size = data[at]
        if size & 0xC0 == 0xC0:
            if not packed or at + 2 > len(data):
                return None
            target = int.from_bytes(data[at : at + 2], "big") & 0x3FFF
            end = at + 2 if end < 0 else end
            if target >= limit or target < HEADER.size:
                return None
            at = limit = target
            continue
        if size > 63:
            return None
        at += 1
        if not size:
            return ".".join(labels), at if end < 0 else end
        label = data[at : at + size]
        total += size + 1
        if len(label) != size or total > LONGEST or not _is_plain(label):
            return None
        labels.append(label.decode().lower())
        at += size
    return None


def _is_plain(label: bytes) -> bool:
    """Letters, digits, `-` and `_`: a dot or a NUL inside of a label would make it look like another name."""
    return label.replace(b"-", b"a").replace(b"_", b"a").isalnum()
