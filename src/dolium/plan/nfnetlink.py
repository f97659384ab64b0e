"""Messages to nftables: addresses that go into a set and leave it when their time is over.  Pure; nft(8) is the oracle in tests.

linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.  Numbers inside are big-endian.
"""

from _struct import Struct

from dolium.plan import rtnetlink

HEAD = Struct(">BBH")
"""struct nfgenmsg: family, version, resource."""
NFTABLES = 10
BEGIN, END = 0x10, 0x11
NEWSETELEM, DELSETELEM = NFTABLES << 8 | 12, NFTABLES << 8 | 14
INET = 1
TABLE, SET, ELEMENTS = 1, 2, 3
ELEMENT, KEY, TIMEOUT, VALUE = 1, 1, 4, 1


def remember(table: str, sets: "list[str]", addresses: "list[bytes]", seconds: int) -> bytes:
    """A transaction that has each of these addresses in each of these sets for so many seconds from now on.  The kernel says once
    that it is done, or what is wrong with it.

    What is in a set already keeps its old time when it is added once more; so each is added, taken out and added again.
    """
    plain: list[rtnetlink.Attribute] = [(ELEMENT, [(KEY, [(VALUE, each)])]) for each in addresses]
    timed: list[rtnetlink.Attribute] = [
        (ELEMENT, [(KEY, [(VALUE, each)]), (TIMEOUT, (seconds * 1000).to_bytes(8, "big"))]) for each in addresses
    ]
    changes: list[tuple[int, int, list[rtnetlink.Attribute]]] = []
    for name in sets:
        place: list[rtnetlink.Attribute] = [(TABLE, rtnetlink.name(table)), (SET, rtnetlink.name(name))]
        add = (NEWSETELEM, rtnetlink.CREATE, [*place, (ELEMENTS, timed)])
        changes += [add, (DELSETELEM, 0, [*place, (ELEMENTS, plain)]), add]
    found = _message(BEGIN, 0, 0, NFTABLES, [], 0)
    for number, (kind, flags, attributes) in enumerate(changes, 1):
        flags |= rtnetlink.ACK if number == len(changes) else 0
        found += _message(kind, flags, INET, 0, attributes, number)
    return found + _message(END, 0, 0, NFTABLES, [], len(changes) + 1)


def _message(kind: int, flags: int, family: int, resource: int, attributes: "list[rtnetlink.Attribute]", number: int) -> bytes:
    return rtnetlink.message(kind, flags, HEAD.pack(family, 0, resource), _nested(attributes), number)


def _nested(attributes: "list[rtnetlink.Attribute]") -> "list[rtnetlink.Attribute]":
    """The same with the mark of those that hold others, which nftables wants."""
    return [(kind | rtnetlink.NESTED, _nested(value)) if isinstance(value, list) else (kind, value) for kind, value in attributes]
