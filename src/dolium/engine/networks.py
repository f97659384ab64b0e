"""The network of containers: the bridge `dolium0`, made once and checked at every start, and each container's place on it.

What must be known about the bridge is written on the bridge itself, as its alias, so it goes when the bridge goes, and is the
right one in every network namespace that dolium runs in:

    dolium 10.66.0.1/16 forwarding=0 rules=17:2:filter

the bridge's own address; net.ipv4.ip_forward as it was, if we have changed it; and the state of all firewall rules when
they were last found to let containers through.  While `rules` is missing the bridge is not ready.
"""

import os
from fcntl import LOCK_EX, flock

from dolium.errors import DoliumError, Exists, Unsupported, UsageError
from dolium.plan import egress, rtnetlink
from dolium.runtime import netlink, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.facts import Facts

BRIDGE = "dolium0"
PREFIX = 16
POOLS = (*((10, second) for second in range(66, 256)), *((172, second) for second in range(16, 32)), (192, 168),
         *((10, second) for second in range(66)))  # fmt: skip
"""Where containers' addresses may come from: the first of them that this host does not use itself, RFC 1918."""
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
RESOLVERS = "/etc/resolv.conf"
ALONE = "this host has no route out: containers reach each other and the host, and nothing beyond"
ROOT_ONLY = "only root may lay cables between networks"
USUAL_MTU = 1500


class Attachment:
    """A container's place in a network.

    path     of the network namespace that it shares, or empty
    cable    for the plan (plan/network.py): address, prefix, gateway, bridge, its index, mtu; None without one
    notes    what the caller should be told
    policy   whom it may talk to (plan/egress.py); empty: anybody
    """

    __slots__ = ("path", "cable", "notes", "policy")

    def __init__(self, path: str = "", cable: "dict[str, object] | None" = None, notes: "tuple[str, ...]" = (),
                 policy: str = "") -> None:  # fmt: skip
        self.path = path
        self.cable = cable
        self.notes = notes
        self.policy = policy


def usual(facts: "Facts") -> str:
    """The network of a container that did not ask for one."""
    return "none" if facts.rootless else "bridge"


def attach(network: str, number: int, facts: "Facts", *, make: bool = True) -> "Attachment | None":
    """A place in `network` for the container with that lease; None for `none` and `host`, which are no networks of ours.

    `make`: have the bridge ready; else only say what it would be.  Raises UsageError, Unsupported, OSError and DoliumError.
    """
    if network in ("none", "host"):
        return None
    if network.startswith("ns:"):
        return shared(network[3:], network, facts)
    if network.startswith(egress.WORD):
        return _limited(network, number, facts, make)
    if network != "bridge":
        raise UsageError(f"network: there is no `{network}`", hint="none, host, bridge, allow=HOST:PORT, container:NAME or ns:FILE")
    if facts.rootless:
        raise Unsupported("--network bridge", ROOT_ONLY, hint="run dolium as root, or use --network none or host")
    found, out = bridge(), netlink.way_out()
    if found is None or not _is_ready(found, out):
        found = _prepare(out) if make else found or Bridge(0, _free_pool(), USUAL_MTU)
    notes = [found.said] if found.said else []
    if not out:
        notes.append(ALONE)
    cable = {"bridge": BRIDGE, "index": found.index, "gateway": found.gateway, "prefix": PREFIX, "mtu": found.mtu,
             "address": found.address(number)}  # fmt: skip
    return Attachment(cable=cable, notes=tuple(notes))


def _limited(network: str, number: int, facts: "Facts", make: bool) -> Attachment:
    """A place on the bridge from which nobody but those named can be reached."""
    rules = egress.rules(network, "network")
    if facts.rootless:
        raise Unsupported("--network allow=", "it takes a place on the bridge, and only root may lay cables between networks",
                          hint="run dolium as root, or use --network none, from which nobody is reached")  # fmt: skip
    found = attach("bridge", number, facts, make=make)
    assert found
    six = [egress.shown(each) for each in rules if len(each.address) == 16]
    if six:
        found.notes += (f"the bridge has no IPv6: {', '.join(six)} cannot be reached",)
    found.policy = network
    return found


def shared(path: str, asked: str, facts: "Facts") -> Attachment:
    """A place in somebody's network namespace.  Raises Unsupported for who may not enter it, UsageError for no such file."""
    if facts.rootless:
        raise Unsupported(f"--network {asked}", "only root may enter a network namespace", hint="run dolium as root")
    try:
        os.stat(path)
    except OSError as error:
        raise UsageError(f"--network {asked}: {error.strerror}", hint="a file such as `ip netns add` makes in /run/netns") from None
    return Attachment(path=path)


class Bridge:
    """The bridge as it is: `index`, its address as (first, second) number of a /16, `forwarding` as it was or empty,
    `rules` it was last checked with, `said` what there is to say about making it."""

    __slots__ = ("index", "pool", "mtu", "forwarding", "rules", "said")

    def __init__(self, index: int, pool: "tuple[int, int]", mtu: int) -> None:
        self.index = index
        self.pool = pool
        self.mtu = mtu
        self.forwarding = ""
        self.rules = ""
        self.said = ""

    @property
    def gateway(self) -> str:
        """The bridge's own address, and the host's as containers know it."""
        return f"{self.pool[0]}.{self.pool[1]}.0.1"

    @property
    def subnet(self) -> str:
        """All addresses of the bridge."""
        return f"{self.pool[0]}.{self.pool[1]}.0.0/{PREFIX}"

    def address(self, number: int) -> str:
        """Of the container with that lease, which no other living one has."""
        return f"{self.pool[0]}.{self.pool[1]}.{number + 2 >> 8}.{number + 2 & 255}"

    def alias(self) -> str:
        """What is written on it."""
        words = [f"dolium {self.gateway}/{PREFIX}"]
        words += [f"forwarding={self.forwarding}"] if self.forwarding else []
        words += [f"rules={self.rules}"] if self.rules else []
        return " ".join(words)


def bridge() -> "Bridge | None":
    """The bridge, if it is there and whoever made it got as far as to write on it.  Raises OSError and Exists."""
    found = netlink.link(BRIDGE)
    if found is None:
        return None
    if not found.is_bridge:
        raise Exists("network device", BRIDGE, hint=f"it is no bridge, so not Dolium's: ip link set {BRIDGE} name SOMETHING")
    words = found.alias.split()
    if words[:1] != ["dolium"]:
        return None
    first, second = words[1].split(".")[:2]
    known = Bridge(found.index, (int(first), int(second)), found.mtu)
    for word in words[2:]:
        key, _, value = word.partition("=")
        if key == "forwarding":
            known.forwarding = value
        elif key == "rules":
            known.rules = value
    return known


def _is_ready(found: Bridge, out: int) -> bool:
    """Whether nothing has changed since everything was found to be in place."""
    return found.rules == rules_now(out) and read(FORWARDING) == "1"


def rules_now(out: int) -> str:
    """What the rules depend on, in a few characters: the generation of nftables, the index of the device that leads out, and
    the tables of iptables-legacy."""
    return f"{netlink.generation()}:{out}:{','.join(read('/proc/net/ip_tables_names').split())}"


def read(path: str) -> str:
    """The text of a small file, stripped; empty where there is none."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


class Lock:
    """Whoever changes the bridge or the rules holds it."""

    __slots__ = ("fd",)

    def __enter__(self) -> "Lock":
        self.fd = os.open(places.state(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flock(self.fd, LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _prepare(out: int) -> Bridge:
    """Have the bridge, forwarding and the rules in place.  A kill at any point leaves what the next start completes."""
    from dolium.engine import firewall

    with Lock():
        found = bridge()
        if found is not None and _is_ready(found, out):
            return found
        firewall.need_nft()
        if found is None:
            found = _make(out)
        now = read(FORWARDING)
        if now != "1":
            found.forwarding = found.forwarding or now
            found.rules = ""
            found.said = "net.ipv4.ip_forward was 0 and is 1 now: containers need it to reach beyond this host"
            _write_alias(found)  # what it was is known before it is changed
            _forward()
        found.rules = firewall.ensure(found, out, _name(out) if out and found.forwarding == "0" else "")
        _write_alias(found)
        return found


def _make(out: int) -> Bridge:
    if netlink.link(BRIDGE):  # somebody was killed before it had a name to go by
        netlink.talk(rtnetlink.remove_link(BRIDGE))
    pool = _free_pool()
    mtu = min(USUAL_MTU, _mtu(out)) if out else USUAL_MTU
    try:
        netlink.talk(rtnetlink.make_bridge(BRIDGE, b"\x02\xd0" + os.urandom(4), mtu))
    except OSError as error:  # without CAP_NET_ADMIN, or a kernel without bridges
        raise Unsupported("--network bridge", f"the kernel does not make a bridge: {error.strerror}",
                          hint="`dolium doctor bridge` says more; or use --network none or host") from None  # fmt: skip
    try:
        netlink.talk(rtnetlink.without_ipv6(BRIDGE))
    except OSError:  # a kernel without IPv6
        pass
    made = netlink.link(BRIDGE)
    assert made
    found = Bridge(made.index, pool, mtu)
    netlink.talk(rtnetlink.add_address(found.index, bytes((*pool, 0, 1)), PREFIX), rtnetlink.set_up(BRIDGE))
    _write_alias(found)
    return found


def _write_alias(found: Bridge) -> None:
    netlink.talk(rtnetlink.say_alias(BRIDGE, found.alias()))


def _forward() -> None:
    try:
        with open(FORWARDING, "w") as file:
            file.write("1")
    except OSError as error:
        raise Unsupported("--network bridge", f"net.ipv4.ip_forward cannot be set: {error.strerror}",
                          hint="`dolium doctor bridge` has the line that mends it; or use --network none") from None  # fmt: skip


def put_back(found: Bridge) -> None:
    """Forwarding as it was before Dolium changed it.  Raises OSError."""
    with open(FORWARDING, "w") as file:
        file.write(found.forwarding)


def _name(index: int) -> str:
    from _socket import if_indextoname

    return if_indextoname(index)


def _mtu(index: int) -> int:
    found = netlink.link(_name(index))
    return found.mtu if found else USUAL_MTU


def _free_pool() -> "tuple[int, int]":
    """The first pool that meets none of the host's subnets, nor its name servers."""
    used = netlink.subnets()
    for line in read(RESOLVERS).splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and words[1].replace(".", "").isdigit():
            used.append(netlink.span(bytes(int(each) & 255 for each in words[1].split(".")), 32))
    for pool in POOLS:
        first, last = netlink.span(bytes((*pool, 0, 0)), PREFIX)
        if not any(first <= other_last and other_first <= last for other_first, other_last in used):
            return pool
    raise DoliumError("this host's own subnets leave no room for containers' addresses",
                      hint="a route such as 10.0.0.0/8 takes them all: ip route; or use --network none or host")  # fmt: skip
