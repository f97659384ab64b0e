"""Messages of rtnetlink(7), written and read: links, addresses, routes.  Pure; pyroute2 is the oracle in tests.

A message is a header (netlink(7)), the struct of its family and attributes, each padded to four bytes.  A batch is one message
behind the other, and the kernel carries them out in that order.
"""

from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Attribute = tuple[int, "bytes | list[Attribute]"]

HEADER = Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
LINK = Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
ADDRESS = Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE = Struct("=BBBBBBBBI")
"""struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags."""
ATTRIBUTE = Struct("=HH")

ERROR, DONE = 2, 3
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26
REQUEST, ACK, DUMP, EXCL, CREATE = 1, 4, 0x300, 0x200, 0x400
NESTED = 0x8000
MASK = 0x3FFF

IFF_UP = 1
INET, INET6 = 2, 10
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_OPERSTATE = 1, 3, 4, 10, 16
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_NET_NS_FD = 18, 20, 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
VETH_INFO_PEER = 1
IFLA_NEW_IFINDEX = 49
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 3, 0, 1


def number(value: int) -> bytes:
    """A u32 attribute's content."""
    return value.to_bytes(4, "little")


def name(text: str) -> bytes:
    """A string attribute's content."""
    return text.encode() + b"\0"


def message(kind: int, flags: int, head: bytes, attributes: "list[Attribute]", sequence: int = 0) -> bytes:
    """One message; `head` is the packed struct of its family."""
    body = head + packed(attributes)
    return HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, sequence, 0) + body


def packed(attributes: "list[Attribute]") -> bytes:
    """Attributes one behind the other; a list is a nested one."""
    found = bytearray()
    for kind, value in attributes:
        content = packed(value) if isinstance(value, list) else value
        found += ATTRIBUTE.pack(ATTRIBUTE.size + len(content), kind) + content + bytes(-len(content) % 4)
    return bytes(found)


def batch(*messages: bytes) -> bytes:
    """The messages numbered from 1 on, each to be acknowledged."""
    found = bytearray()
    for sequence, each in enumerate(messages, 1):
        size, kind, flags, _, port = HEADER.unpack_from(each)
        found += HEADER.pack(size, kind, flags | ACK, sequence, port) + each[HEADER.size :]
    return bytes(found)


def _link(up: "bool | None" = None, index: int = 0, family: int = 0) -> bytes:
    return LINK.pack(family, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)


def make_bridge(device: str, hardware: bytes, mtu: int) -> bytes:
    """A bridge, down.  `hardware`: its address, of its own, or it would change with every container."""
    return message(NEWLINK, CREATE | EXCL, _link(), [
        (IFLA_IFNAME, name(device)), (IFLA_ADDRESS, hardware), (IFLA_MTU, number(mtu)),
        (IFLA_LINKINFO, [(IFLA_INFO_KIND, name("bridge"))])])  # fmt: skip


def make_veth(device: str, peer: str, hardware: bytes, mtu: int) -> "tuple[bytes, int]":
    """A pair, both down: `device` here, `peer` with that hardware address in another namespace; and where in the message the
    descriptor of that namespace belongs."""
    there = packed([(IFLA_NET_NS_FD, number(0))])
    rest: list[Attribute] = [(IFLA_IFNAME, name(peer)), (IFLA_ADDRESS, hardware), (IFLA_MTU, number(mtu))]
    whole = message(NEWLINK, CREATE | EXCL, _link(), [
        (IFLA_IFNAME, name(device)), (IFLA_MTU, number(mtu)),
        (IFLA_LINKINFO, [(IFLA_INFO_KIND, name("veth")),
                         (IFLA_INFO_DATA, [(VETH_INFO_PEER, _link() + packed(rest) + there)])])])  # fmt: skip
    return whole, len(whole) - 4


def without_ipv6(device: str) -> bytes:
    """No link-local address: none is asked for on the wire then, and nothing waits for its turn."""
    return message(NEWLINK, 0, _link(), [
        (IFLA_IFNAME, name(device)), (IFLA_AF_SPEC, [(INET6, [(IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_NONE]))])])])  # fmt: skip


def set_up(device: str, master: int = 0) -> bytes:
    """Up, and a port of the bridge with that index, if one is given."""
    found: list[Attribute] = [(IFLA_IFNAME, name(device))]
    if master:
        found.append((IFLA_MASTER, number(master)))
    return message(NEWLINK, 0, _link(up=True), found)


def say_alias(device: str, text: str) -> bytes:
    """Write down something about a device, with the device: IFLA_IFALIAS, at most 255 bytes."""
    return message(NEWLINK, 0, _link(), [(IFLA_IFNAME, name(device)), (IFLA_IFALIAS, text.encode())])


def remove_link(device: str) -> bytes:
    """The device goes."""
    return message(DELLINK, 0, _link(), [(IFLA_IFNAME, name(device))])


def ask_link(device: str) -> bytes:
    """What there is to say of a device."""
    return message(GETLINK, 0, _link(), [(IFLA_IFNAME, name(device))])


def add_address(index: int, address: bytes, prefix: int) -> bytes:
    """An IPv4 address for the device of that index, which stands 20 bytes behind the message's beginning."""
    size = 32 - prefix
    last = (int.from_bytes(address, "big") | (1 << size) - 1).to_bytes(4, "big")
    return message(NEWADDR, CREATE | EXCL, ADDRESS.pack(INET, prefix, 0, 0, index),
                   [(IFA_LOCAL, address), (IFA_ADDRESS, address), (IFA_BROADCAST, last)])  # fmt: skip


INDEX_OF_ADDRESS = HEADER.size + 4
"""Where in that message the index is."""


def add_default_route(gateway: bytes) -> bytes:
    """Everything that is not near goes by way of `gateway`; by which device, follows from the gateway's address."""
    head = ROUTE.pack(INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
    return message(NEWROUTE, CREATE | EXCL, head, [(RTA_GATEWAY, gateway)])


def ask_route(address: bytes) -> bytes:
    """Which way a packet to that address would go."""
    return message(GETROUTE, 0, ROUTE.pack(INET, 32, 0, 0, 0, 0, 0, 0, 0), [(RTA_DST, address)])


def ask_all_addresses(family: int = INET) -> bytes:
    """Every IPv4 address of every device; of family 0 every address."""
    return message(GETADDR, DUMP, ADDRESS.pack(family, 0, 0, 0, 0), [])


def ask_all_links() -> bytes:
    """Every device."""
    return message(GETLINK, DUMP, _link(), [])


def move_link(index: int, network: int, device: str, fresh: int) -> bytes:
    """The device of that index goes into the namespace of that descriptor, where it has another name, and the index `fresh`."""
    found: list[Attribute] = [(IFLA_NET_NS_FD, number(network)), (IFLA_IFNAME, name(device))]
    if fresh != index:
        found.append((IFLA_NEW_IFINDEX, number(fresh)))
    return message(NEWLINK, 0, _link(index=index), found)


def set_up_index(index: int) -> bytes:
    """The device of that index goes up."""
    return message(NEWLINK, 0, _link(up=True, index=index), [])


def add_address_of(index: int, family: int, prefix: int, scope: int, about: "list[Attribute]") -> bytes:
    """An address as another message had it."""
    return message(NEWADDR, CREATE | EXCL, ADDRESS.pack(family, prefix, 0, scope, index), about)


def ask_all_routes() -> bytes:
    """Every IPv4 route of every table."""
    return message(GETROUTE, DUMP, ROUTE.pack(INET, 0, 0, 0, 0, 0, 0, 0, 0), [])


def messages(data: bytes) -> "Iterator[tuple[int, int, bytes]]":
    """(type, sequence, what follows the header) of each message in what was received."""
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, _, sequence, _ = HEADER.unpack_from(data, at)
        if size < HEADER.size:
            return
        yield kind, sequence, data[at + HEADER.size : at + size]
        at += size + -size % 4


def attributes(data: bytes) -> "dict[int, bytes]":
    """The attributes in `data`, by number; of one that is there twice the last."""
    found, at = {}, 0
    while at + ATTRIBUTE.size <= len(data):
        size, kind = ATTRIBUTE.unpack_from(data, at)
        if size < ATTRIBUTE.size:
            break
        found[kind & MASK] = data[at + ATTRIBUTE.size : at + size]
        at += size + -size % 4
    return found
