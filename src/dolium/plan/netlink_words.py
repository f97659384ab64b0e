"""What a batch of rtnetlink(7) says, in the kernel's names.  Pure; the other way round from plan/rtnetlink.py."""

from dolium.plan import rtnetlink as rt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KINDS = {rt.NEWLINK: "RTM_NEWLINK", rt.DELLINK: "RTM_DELLINK", rt.GETLINK: "RTM_GETLINK", rt.NEWADDR: "RTM_NEWADDR",
         rt.GETADDR: "RTM_GETADDR", rt.NEWROUTE: "RTM_NEWROUTE", rt.GETROUTE: "RTM_GETROUTE"}  # fmt: skip
HEADS = {rt.NEWLINK: rt.LINK, rt.DELLINK: rt.LINK, rt.GETLINK: rt.LINK, rt.NEWADDR: rt.ADDRESS, rt.GETADDR: rt.ADDRESS,
         rt.NEWROUTE: rt.ROUTE, rt.GETROUTE: rt.ROUTE}  # fmt: skip


def read(data: bytes) -> "list[dict[str, Any]]":
    """Each message as a dict: `kind`, and what it says of name, mtu, master, type, peer, address, prefix, gateway, up."""
    return [{"kind": kind, **_said(kind, body)} for kind, _, body in rt.messages(data)]


def _said(kind: int, body: bytes) -> "dict[str, Any]":
    head = HEADS[kind]
    fields, found = head.unpack_from(body), rt.attributes(body[head.size :])
    if head is rt.LINK:
        return _link(found) | ({"up": True} if fields[4] & rt.IFF_UP else {})
    if head is rt.ADDRESS:
        return {"address": _dotted(found[rt.IFA_LOCAL]), "prefix": fields[1]} if rt.IFA_LOCAL in found else {}
    return {"gateway": _dotted(found[rt.RTA_GATEWAY])} if rt.RTA_GATEWAY in found else {}


def _link(found: "dict[int, bytes]") -> "dict[str, Any]":
    said: dict[str, Any] = {}
    if rt.IFLA_IFNAME in found:
        said["name"] = found[rt.IFLA_IFNAME].rstrip(b"\0").decode()
    if rt.IFLA_MTU in found:
        said["mtu"] = int.from_bytes(found[rt.IFLA_MTU], "little")
    if rt.IFLA_MASTER in found:
        said["master"] = int.from_bytes(found[rt.IFLA_MASTER], "little")
    if rt.IFLA_ADDRESS in found:
        said["hardware"] = found[rt.IFLA_ADDRESS].hex(":")
    if rt.IFLA_AF_SPEC in found:
        said["without_ipv6"] = True
    if rt.IFLA_LINKINFO in found:
        about = rt.attributes(found[rt.IFLA_LINKINFO])
        said["type"] = about[rt.IFLA_INFO_KIND].rstrip(b"\0").decode()
        if rt.IFLA_INFO_DATA in about:
            peer = rt.attributes(about[rt.IFLA_INFO_DATA])[rt.VETH_INFO_PEER]
            said["peer"] = _link(rt.attributes(peer[rt.LINK.size :]))
    return said


def _dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def lines(data: bytes, there: str) -> "list[str]":
    """One line for each message; `there` is the network namespace that a peer is made in."""
    return [_line(each, there) for each in read(data)]


def _line(said: "dict[str, Any]", there: str) -> str:
    words = [KINDS[said["kind"]], *_words(said)]
    if "peer" in said:
        words.append("{" + " ".join(["VETH_INFO_PEER", *_words(said["peer"]), f"IFLA_NET_NS_FD={there}"]) + "}")
    return " ".join(words)


def _words(said: "dict[str, Any]") -> "list[str]":
    names = {"name": "IFLA_IFNAME", "type": "IFLA_INFO_KIND", "hardware": "IFLA_ADDRESS", "mtu": "IFLA_MTU",
             "master": "IFLA_MASTER", "address": "IFA_LOCAL", "gateway": "RTA_GATEWAY"}  # fmt: skip
    words = [f"{key}={said[name]}" for name, key in names.items() if name in said]
    words += [f"ifa_prefixlen={said['prefix']}"] if "prefix" in said else []
    words += ["IFLA_INET6_ADDR_GEN_MODE=NONE"] if "without_ipv6" in said else []
    return words + (["IFF_UP"] if "up" in said else [])
