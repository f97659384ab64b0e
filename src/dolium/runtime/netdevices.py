"""Move a network device of this host into a container's network namespace (linux.netDevices).

It is moved back only where `create` fails after it: with its namespace a virtual device ends, and a physical one the kernel gives
back to the host (network_namespaces(7))."""

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


class Moved:
    """A device that is the container's by now, and what it was before."""

    __slots__ = ("_name", "_index", "_is_up", "_addresses", "_network", "_fresh")

    def __init__(self, name: str, device: netlink.Link, network: int, fresh: int) -> None:
        self._name, self._index, self._is_up = name, device.index, device.is_up
        self._addresses = _addresses(device.index)
        self._network, self._fresh = network, fresh

    def settle(self) -> None:
        """In its new place: its addresses, and up.  Raises OSError."""
        messages = [rtnetlink.add_address_of(self._fresh, *each) for each in self._addresses]
        messages.append(rtnetlink.set_up_index(self._fresh))
        elsewhere.act(lambda: sys.enter_network(self._network), lambda: netlink.talk(*messages))

    def back(self) -> None:
        """Under its name to where it came from, with its addresses; routes by way of it are gone.  Raises OSError."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            move = rtnetlink.move_link(self._fresh, home, self._name, self._index)
            elsewhere.act(lambda: sys.enter_network(self._network), lambda: netlink.talk(move))
        finally:
            os.close(home)
        messages = [rtnetlink.add_address_of(self._index, *each) for each in self._addresses]
        if self._is_up:
            messages.append(rtnetlink.set_up_index(self._index))
        if messages:
            netlink.talk(*messages)

    def close(self) -> None:
        """Let go of its namespace, which ends with the container then."""
        os.close(self._network)


def move(step: "Step", pid: int) -> Moved:
    """The device `step.path` becomes `step.path2` where the process `pid` is, with its permanent global addresses, and goes up.

    Raises DoliumError and OSError; then nothing has changed."""
    device = netlink.link(step.path)
    if device is None:
        raise DoliumError(f"{step.why}: this host has no network device `{step.path}`")
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _refuse_own(network, step.why)
        there: dict[str, int] = {}
        elsewhere.act(lambda: sys.enter_network(network), lambda: there.update(netlink.indices()))
        if step.path2 in there:
            raise DoliumError(f"{step.why}: the container's network has a device `{step.path2}` already")
        fresh = max(there.values()) + 1 if device.index in there.values() else device.index
        moved = Moved(step.path, device, network, fresh)
        netlink.talk(rtnetlink.move_link(device.index, network, step.path2, fresh))
        try:
            moved.settle()
        except BaseException:
            moved.back()
            raise
    except BaseException:
        os.close(network)
        raise
    return moved


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
