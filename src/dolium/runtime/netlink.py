"""Talk with the kernel about this host's network, netlink(7): one socket for each conversation, as cheap as opening a file."""

import os
from _socket import AF_NETLINK, SOCK_RAW, socket

from dolium.plan import rtnetlink

ROUTE, NETFILTER = 0, 12
NFT_GETGEN, NFTA_GEN_ID = 10 << 8 | 16, 1
ENODEV, ENOENT = 19, 2
ROOM = 1 << 16


def talk(*messages: bytes, protocol: int = ROUTE) -> "list[tuple[int, bytes]]":
    """Send a batch; (type, content) of everything that is answered, but acknowledgements.

    Raises OSError for the first message that is refused; the kernel has tried those behind it, too.
    """
    found: list[tuple[int, bytes]] = []
    refused = 0
    speaker = socket(AF_NETLINK, SOCK_RAW, protocol)
    try:
        speaker.bind((0, 0))
        speaker.send(rtnetlink.batch(*messages))
        last = 0
        while last < len(messages):
            for kind, sequence, content in rtnetlink.messages(speaker.recv(ROOM)):
                if kind == rtnetlink.ERROR:
                    code = -int.from_bytes(content[:4], "little", signed=True)
                    refused = refused or code
                    last = max(last, sequence)
                elif kind == rtnetlink.DONE:  # of a dump, which is a message of its own
                    last = max(last, sequence)
                else:
                    found.append((kind, content))
    finally:
        speaker.close()
    if refused:
        raise OSError(refused, os.strerror(refused))
    return found


class Link:
    """A network device: `index`, `alias` (what is written on it), `mtu`, whether it `is_up`, and whether it `is_bridge`."""

    __slots__ = ("index", "alias", "mtu", "is_up", "is_bridge")

    def __init__(self, content: bytes) -> None:
        _, _, index, flags, _ = rtnetlink.LINK.unpack_from(content)
        self.index: int = index
        self.is_up = bool(flags & rtnetlink.IFF_UP)
        known = rtnetlink.attributes(content[rtnetlink.LINK.size :])
        self.alias = known.get(rtnetlink.IFLA_IFALIAS, b"").rstrip(b"\0").decode("utf-8", "replace")
        self.mtu = int.from_bytes(known.get(rtnetlink.IFLA_MTU, b""), "little")
        kind = rtnetlink.attributes(known.get(rtnetlink.IFLA_LINKINFO, b"")).get(rtnetlink.IFLA_INFO_KIND, b"")
        self.is_bridge = kind.rstrip(b"\0") == b"bridge"


def link(name: str) -> "Link | None":
    """The device of that name, if there is one.  Raises OSError."""
    try:
        answers = talk(rtnetlink.ask_link(name))
    except OSError as error:
        if error.errno == ENODEV:
            return None
        raise
    return next(Link(content) for kind, content in answers if kind == rtnetlink.NEWLINK)


def indices() -> "dict[str, int]":
    """The index of each device, by name.  Raises OSError."""
    found = {}
    for kind, content in talk(rtnetlink.ask_all_links()):
        if kind == rtnetlink.NEWLINK:
            known = rtnetlink.attributes(content[rtnetlink.LINK.size :])
            found[known[rtnetlink.IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "replace")] = rtnetlink.LINK.unpack_from(content)[2]
    return found


def way_out() -> int:
    """The index of the device that leads to addresses far away; 0 where there is no route to them.  Raises nothing."""
    try:
        answers = talk(rtnetlink.ask_route(bytes((192, 0, 2, 1))), rtnetlink.ask_route(bytes((203, 0, 113, 1))))
    except OSError:  # one of the two, both set aside for documents (RFC 5737), may be somebody's own after all
        return 0
    for kind, content in answers:
        if kind == rtnetlink.NEWROUTE:
            known = rtnetlink.attributes(content[rtnetlink.ROUTE.size :])
            return int.from_bytes(known.get(rtnetlink.RTA_OIF, b""), "little")
    return 0


def subnets() -> "list[tuple[int, int]]":
    """(first, last) address of everything that this host reaches other than by its default routes.  Raises OSError."""
    found = []
    for kind, content in talk(rtnetlink.ask_all_addresses()):
        if kind == rtnetlink.NEWADDR:
            prefix = content[1]
            known = rtnetlink.attributes(content[rtnetlink.ADDRESS.size :])
            found.append(span(known.get(rtnetlink.IFA_LOCAL) or known.get(rtnetlink.IFA_ADDRESS, bytes(4)), prefix))
    for kind, content in talk(rtnetlink.ask_all_routes()):
        known = rtnetlink.attributes(content[rtnetlink.ROUTE.size :])
        if kind == rtnetlink.NEWROUTE and content[1] and rtnetlink.RTA_DST in known:
            found.append(span(known[rtnetlink.RTA_DST], content[1]))
    return found


def span(address: bytes, prefix: int) -> "tuple[int, int]":
    """The first and the last address of the subnet that this one is in."""
    size = 1 << 32 - prefix
    first = int.from_bytes(address, "big") & ~(size - 1)
    return first, first + size - 1


def generation() -> int:
    """The number of the firewall's rules, which every change of them changes; 0 where the kernel has no nftables."""
    try:
        answers = talk(rtnetlink.message(NFT_GETGEN, 0, bytes(4), []), protocol=NETFILTER)
    except OSError:
        return 0
    return int.from_bytes(rtnetlink.attributes(answers[0][1][4:]).get(NFTA_GEN_ID, b""), "big") if answers else 0
