"""Messages of rtnetlink: pyroute2 writes the same, and reads out of ours what we meant."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dolium.plan import rtnetlink as rt

MAC = bytes((2, 0xD0, 10, 66, 1, 2))


def read(kind: type, data: bytes) -> Any:
    found = kind(data)
    found.decode()
    return found


def test_a_bridge() -> None:
    link = read(ifinfmsg, rt.make_bridge("dolium0", MAC, 1400))
    assert link["header"]["type"] == rt.NEWLINK and link["header"]["flags"] == rt.REQUEST | rt.CREATE | rt.EXCL
    assert (link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_MTU"), link.get_attr("IFLA_ADDRESS")) == ("dolium0", 1400, "02:d0:0a:42:01:02")
    assert link.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_KIND") == "bridge"


def test_a_pair_and_the_place_of_the_namespace() -> None:
    data, place = rt.make_veth("dol0123456789ab", "eth0", MAC, 1500)
    patched = data[:place] + (77).to_bytes(4, "little") + data[place + 4 :]
    link = read(ifinfmsg, patched)
    info = link.get_attr("IFLA_LINKINFO")
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert link.get_attr("IFLA_IFNAME") == "dol0123456789ab" and info.get_attr("IFLA_INFO_KIND") == "veth"
    assert (peer.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_NET_NS_FD"), peer.get_attr("IFLA_MTU")) == ("eth0", 77, 1500)
    assert peer.get_attr("IFLA_ADDRESS") == "02:d0:0a:42:01:02"


@pytest.mark.parametrize(("master", "attributes"), [(0, {"IFLA_IFNAME"}), (7, {"IFLA_IFNAME", "IFLA_MASTER"})])
def test_up(master: int, attributes: set[str]) -> None:
    link = read(ifinfmsg, rt.set_up("eth0", master))
    assert link["flags"] == link["change"] == rt.IFF_UP and {name for name, _ in link["attrs"]} == attributes
    assert link.get_attr("IFLA_MASTER") == (master or None)


def test_what_is_asked_and_said() -> None:
    assert read(ifinfmsg, rt.say_alias("dolium0", "dolium 10.66.0.1/16")).get_attr("IFLA_IFALIAS") == "dolium 10.66.0.1/16"
    assert read(ifinfmsg, rt.remove_link("dolium0"))["header"]["type"] == rt.DELLINK
    assert read(ifinfmsg, rt.ask_link("eth0")).get_attr("IFLA_IFNAME") == "eth0"
    assert read(rtmsg, rt.ask_route(bytes((192, 0, 2, 1)))).get_attr("RTA_DST") == "192.0.2.1"


def test_without_ipv6() -> None:
    link = read(ifinfmsg, rt.without_ipv6("eth0"))
    assert link.get_attr("IFLA_AF_SPEC").get_attr("AF_INET6").get_attr("IFLA_INET6_ADDR_GEN_MODE") == rt.ADDR_GEN_NONE


def test_an_address_as_pyroute2_writes_it() -> None:
    data = rt.add_address(9, bytes((10, 66, 1, 2)), 16)
    assert int.from_bytes(data[rt.INDEX_OF_ADDRESS : rt.INDEX_OF_ADDRESS + 4], "little") == 9
    theirs = ifaddrmsg()
    theirs["header"]["type"], theirs["header"]["flags"] = rt.NEWADDR, rt.REQUEST | rt.CREATE | rt.EXCL
    theirs["family"], theirs["prefixlen"], theirs["index"] = 2, 16, 9
    theirs["attrs"] = [("IFA_LOCAL", "10.66.1.2"), ("IFA_ADDRESS", "10.66.1.2"), ("IFA_BROADCAST", "10.66.255.255")]
    theirs.encode()
    assert bytes(theirs.data) == data


def test_a_default_route_as_pyroute2_writes_it() -> None:
    theirs = rtmsg()
    theirs["header"]["type"], theirs["header"]["flags"] = rt.NEWROUTE, rt.REQUEST | rt.CREATE | rt.EXCL
    theirs["family"], theirs["table"], theirs["proto"], theirs["type"] = 2, 254, 3, 1
    theirs["attrs"] = [("RTA_GATEWAY", "10.66.0.1")]
    theirs.encode()
    assert bytes(theirs.data) == rt.add_default_route(bytes((10, 66, 0, 1)))


def test_a_batch_is_numbered_and_acknowledged() -> None:
    data = rt.batch(rt.set_up("eth0"), rt.ask_link("eth0"), rt.add_default_route(bytes(4)))
    assert [(kind, sequence) for kind, sequence, _ in rt.messages(data)] == [(rt.NEWLINK, 1), (rt.GETLINK, 2), (rt.NEWROUTE, 3)]
    at = 0
    while at < len(data):
        size, _, flags, _, _ = rt.HEADER.unpack_from(data, at)
        assert size % 4 == 0 and flags & rt.ACK and flags & rt.REQUEST
        at += size
    assert at == len(data)


def test_what_is_written_is_read() -> None:
    packed = rt.packed([(1, b"abc"), (2 | rt.NESTED, [(3, rt.number(5))]), (4, b"")])
    known = rt.attributes(packed)
    assert known[1] == b"abc" and known[4] == b"" and rt.attributes(known[2]) == {3: rt.number(5)}


@pytest.mark.parametrize("data", [b"", b"\0" * 3, b"\0" * 64, b"\xff" * 64, b"\x04\0\x01\0", b"\x02\0\x01\0" * 9])
def test_rubbish_ends(data: bytes) -> None:
    list(rt.messages(data))
    rt.attributes(data)
