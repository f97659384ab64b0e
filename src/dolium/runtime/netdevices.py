"""Move a network device of this host into a container's network namespace (linux.netDevices).

It is never moved back: with the namespace a virtual device ends, and the kernel gives a physical one back to the host
(network_namespaces(7))."""

import os

from dolium.core import sys
from dolium.errors import DoliumError
from dolium.plan import rtnetlink
from dolium.runtime import elsewhere, netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.core.wire import Step

PERMANENT, KEPT = 0x80, 0x302
"""IFA_F_PERMANENT; of an address's flags those that somebody chose: NODAD, MANAGETEMPADDR, NOPREFIXROUTE."""


def move(step: "Step", pid: int) -> None:
    """The device `step.path` becomes `step.path2` where the process `pid` is, with its permanent global addresses, and goes up.

    Raises DoliumError and OSError; until it has been moved nothing has changed."""
    device = netlink.link(step.path)
    if device is None:
        raise DoliumError(f"{step.why}: this host has no network device `{step.path}`")
    index = device.index
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _refuse_own(network, step.why)
        addresses = _addresses(index)
        there: dict[str, int] = {}
        elsewhere.act(lambda: sys.enter_network(network), lambda: there.update(netlink.indices()))
        if step.path2 in there:
            raise DoliumError(f"{step.why}: the container's network has a device `{step.path2}` already")
        fresh = max(there.values()) + 1 if index in there.values() else index
        netlink.talk(rtnetlink.move_link(index, network, step.path2, fresh))
        messages = [rtnetlink.add_address_of(fresh, *each) for each in addresses]
        messages.append(rtnetlink.set_up_index(fresh))
        elsewhere.act(lambda: sys.enter_network(network), lambda: netlink.talk(*messages))
    finally:
        os.close(network)


def _refuse_own(network: int, why: str) -> None:
    if os.fstat(network).st_ino == os.stat("/proc/self/ns/net").st_ino:
        raise DoliumError(f"{why}: the container shares this host's network, the device is there already")


def _addresses(index: int) -> "list[tuple[int, int, int, list[rtnetlink.Attribute]]]":
    """(family, prefix, scope, attributes) of each address of a device that is to be kept."""
    found = []
    for kind, content in netlink.talk(rtnetlink.ask_all_addresses(family=0)):
        if kind != rtnetlink.NEWADDR:
            continue
        family, prefix, flags, scope, device = rtnetlink.ADDRESS.unpack_from(content)
        known = rtnetlink.attributes(content[rtnetlink.ADDRESS.size :])
        flags = int.from_bytes(known.get(rtnetlink.IFA_FLAGS, flags.to_bytes(4, "little")), "little")
        if device != index or scope != rtnetlink.RT_SCOPE_UNIVERSE or not flags & PERMANENT:
            continue
        kept: list[rtnetlink.Attribute] = [
            (number, known[number])
            for number in (rtnetlink.IFA_LOCAL, rtnetlink.IFA_ADDRESS, rtnetlink.IFA_BROADCAST)
            if number in known
        ]
        found.append((family, prefix, scope, [*kept, (rtnetlink.IFA_FLAGS, rtnetlink.number(flags & KEPT))]))
    return found
