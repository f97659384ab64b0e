"""Everything that Dolium has ever made on this host, and how each of it goes: `dolium system reset`.

Listing changes nothing.  What belongs together goes in this order: containers, what they used, then the places where it was
written down what there is, so that a kill in the middle leaves the rest to be found.
"""

import os
from time import monotonic, sleep

from dolium.engine import erase, firewall, life, networks, snapshots
from dolium.errors import DoliumError, NotFound
from dolium.plan import rtnetlink
from dolium.runtime import cgroup, host, lease, netlink, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dolium.engine.store import Container


PATIENCE = 10.0


class Remains:
    """One thing to remove: `what` it is, in words; whether it `runs`; `remove` does it, and raises OSError and DoliumError."""

    __slots__ = ("what", "runs", "remove")

    def __init__(self, what: str, remove: "Callable[[], object]", runs: bool = False) -> None:
        self.what = what
        self.remove = remove
        self.runs = runs


def find() -> "Iterator[Remains]":
    """All there is of this user's; to be removed in this order.  Raises OSError and DoliumError."""
    known: set[str] = set()
    state = places.state_path()
    if os.path.isdir(f"{places.data_path()}/containers"):
        for container in life.every():
            known.add(container.id)
            try:
                running = life.state(container)["status"] == "running"
            except NotFound:  # it has removed itself meanwhile
                continue
            yield Remains(f"container {container.id} ({container.name})", _container(container), running)
    if os.path.isdir(f"{state}/leases"):
        yield from _leases(f"{state}/leases", known)
    for path in snapshots.every():
        used = snapshots.is_used(path)
        yield Remains(f"snapshot {os.path.basename(path)}{', a program uses it' if used else ''}", _erase(path), used)
    if os.geteuid() == 0:
        yield from _network()
    yield from _groups()
    for path in (state, places.data_path()):
        if os.path.isdir(path):
            yield Remains(f"directory {path}", _erase(path))


def _erase(path: str) -> "Callable[[], object]":
    return lambda: erase.tree(path)


def _container(container: "Container") -> "Callable[[], object]":
    return lambda: life.remove(container, force=True)


def _leases(where: str, known: "set[str]") -> "Iterator[Remains]":
    """Containers that nobody remembers: those of the library, alive, and the traces of dead ones."""
    for number in sorted(os.listdir(where)):
        if not number.isdigit():
            continue
        lines = networks.read(f"{where}/{number}").splitlines()
        name = lines[0] if lines else ""
        if name in known:
            continue
        alive = bool(name) and lease.held(int(number), name)
        yield Remains(f"lease {number}" + (f", of container {name}, which nobody remembers" if alive else ""),
                      _end(int(number), lines) if alive else lease.mend, alive)  # fmt: skip


def _end(number: int, lines: "list[str]") -> "Callable[[], object]":
    """Kill it; whoever watches over it then removes the rest."""
    def act() -> None:
        deadline = monotonic() + PATIENCE
        while lease.held(number, lines[0]):
            for group in lines[1:]:
                cgroup.kill(group)
            if monotonic() > deadline:
                raise DoliumError(f"container {lines[0]} does not end", hint="without cgroups only its owner can end it")
            sleep(0.01)
    return act


def _network() -> "Iterator[Remains]":
    for line in firewall.doors():
        yield Remains(f"firewall rule: {' '.join(line)}", _call(line))
    if firewall.has_table():
        yield Remains(f"nft table ip {firewall.TABLE}", firewall.remove_table)
    found = networks.bridge()
    if found and found.forwarding == "0" and networks.read(networks.FORWARDING) == "1":
        yield Remains("net.ipv4.ip_forward = 1, which was 0", lambda: networks.put_back(found))
    if found or netlink.link(networks.BRIDGE):
        yield Remains(f"network device {networks.BRIDGE}", _unplug)


def _unplug() -> None:
    netlink.talk(rtnetlink.remove_link(networks.BRIDGE))


def _call(line: "list[str]") -> "Callable[[], object]":
    return lambda: firewall.call(*line)


def _groups() -> "Iterator[Remains]":
    """Our directories in each hierarchy of cgroups, and what is empty below them.  What is not belongs to somebody who runs
    with a state directory of his own, such as a dolium in a container."""
    for parent in sorted({each.parent for each in host.facts().controllers.values()}):
        if os.path.isdir(parent):
            yield Remains(f"cgroup {parent}", _prune(parent))


def _prune(parent: str) -> "Callable[[], object]":
    def act() -> None:
        for directory, _, _ in os.walk(parent, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        if os.path.isdir(parent):
            raise DoliumError(f"`{parent}` is not empty: containers live in it that this host's leases do not know")
    return act
