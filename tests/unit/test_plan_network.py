"""The network's steps: who does what, in which order, and which addresses there are."""

from __future__ import annotations

import invent
import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from dolium.core.wire import BOTH, INSIDE, OUTSIDE, Step
from dolium.engine import networks
from dolium.plan import network, rtnetlink, slots
from dolium.runtime.lease import ID_RANGES

OWN = invent.facts(id_base=invent.RANGE)
SHARED = invent.facts()


def place(steps: list[Step], op: str, **fields: object) -> int:
    return next(i for i, step in enumerate(steps) if step.op == op and all(getattr(step, key) == value for key, value in fields.items()))


def test_none_and_host_have_no_steps_of_it() -> None:
    for name in ("", "none", "host"):
        steps = invent.plan(OWN, network=name)
        assert not [step for step in steps if step.op in ("netlink", "enter_net") or (step.op == "sync" and step.n1)]


def test_the_order_on_the_bridge() -> None:
    """Inside makes the namespace and says so; outside lays the cable while inside mounts; both meet before sysctls are set."""
    steps = invent.plan(OWN, network="bridge")
    made, mounts = place(steps, "sync", n1=1), place(steps, "sync", n1=0, why="mounts")
    host, own = place(steps, "netlink", fd=-1), place(steps, "netlink", fd=slots.NETWORK)
    ready = place(steps, "sync", n1=0, why="network")
    assert place(steps, "unshare", actor=INSIDE) < made < mounts < place(steps, "open_ns", path="ns/net") < host < own < ready
    assert ready < next(i for i, step in enumerate(steps) if step.why.startswith("linux.sysctl."))
    assert {step.actor for step in steps if step.op == "netlink"} == {OUTSIDE} and steps[made].actor == steps[ready].actor == BOTH
    assert steps[host].fd2 == slots.NETWORK


def test_the_batches_say_what_they_should() -> None:
    steps = invent.plan(OWN, network="bridge")
    host, own = (steps[place(steps, "netlink", fd=fd)] for fd in (-1, slots.NETWORK))
    pair = ifinfmsg(host.data)
    pair.decode()
    peer = pair.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert pair.get_attr("IFLA_IFNAME") == f"dol{invent.NAME}" and len(pair.get_attr("IFLA_IFNAME")) == 15
    assert (peer.get_attr("IFLA_IFNAME"), peer.get_attr("IFLA_ADDRESS")) == ("eth0", "02:d0:0a:42:01:02")
    assert peer.get_attr("IFLA_NET_NS_FD") == 0 and host.data[host.n1 - 4 : host.n1] == bytes((8, 0, rtnetlink.IFLA_NET_NS_FD, 0))
    at = own.n2 - rtnetlink.INDEX_OF_ADDRESS
    address = ifaddrmsg(own.data[at:])
    address.decode()
    assert address["index"] == 0 and address.get_attr("IFA_LOCAL") == "10.66.1.2" and address["prefixlen"] == 16
    assert own.path == network.DEVICE


def test_the_plan_of_another_container_is_renamed_whole() -> None:
    from dolium.runtime import plans

    spec = invent.spec(OWN, invent.options(network="bridge", hostname="box"))
    found = plans.Planned(spec, OWN)
    other = invent.spec(OWN, invent.options(network="bridge", hostname="box"))
    other["linux"]["cgroupsPath"] = "/dolium/fedcba987654"
    other["process"]["env"] = []
    data = found.message(other, {})
    assert b"dolfedcba987654\0" in data and invent.NAME.encode() not in data


@pytest.mark.parametrize(("facts", "sysfs"), [(OWN, OUTSIDE), (SHARED, INSIDE)])
def test_a_shared_network(facts: object, sysfs: int) -> None:
    steps = invent.plan(facts, network="container:other")  # type: ignore[arg-type]
    into, back = place(steps, "enter_net", fd=slots.NETWORK), place(steps, "enter_net", fd=slots.HOST_NETWORK)
    assert into < place(steps, "clone") < back
    assert steps[place(steps, "new_mount", path="sysfs")].actor == sysfs
    assert not [step for step in steps if step.op in ("loopback", "netlink")]
    unshared = steps[place(steps, "unshare", actor=INSIDE)]
    assert not unshared.n1 & 0x40000000, "CLONE_NEWNET"


def test_addresses_of_all_leases_are_in_the_pool() -> None:
    bridge = networks.Bridge(1, (10, 66), 1500)
    found = [bridge.address(number) for number in (0, 253, 254, ID_RANGES - 1)]
    assert found == ["10.66.0.2", "10.66.0.255", "10.66.1.0", "10.66.111.249"]
    assert (bridge.gateway, bridge.subnet) == ("10.66.0.1", "10.66.0.0/16")
    assert network.hardware("10.66.1.2") == bytes((2, 0xD0, 10, 66, 1, 2))


def test_pools_are_private_and_differ() -> None:
    assert len({*networks.POOLS}) == len(networks.POOLS)
    assert all(first == 10 or (first == 172 and 16 <= second < 32) or (first, second) == (192, 168) for first, second in networks.POOLS)
