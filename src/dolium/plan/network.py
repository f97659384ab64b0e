"""Steps that decide whom the container can reach."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, part
from dolium.plan import slots
from dolium.plan.attributes import NODEV, NOEXEC, NOSUID, RDONLY
from dolium.plan.namespaces import joined, wanted
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

EAFNOSUPPORT = 97
DEVICE = "eth0"
"""What a container calls its end of the cable, as with docker and podman."""
PATIENCE = 50
"""Milliseconds until a new device of an old kernel carries packets; it takes one or two."""


def device(identity: str) -> str:
    """The host's end of a container's cable: fifteen characters, all that a name may have."""
    return f"dol{identity}"


def hardware(address: str) -> bytes:
    """Of a container with that address: always the same, so that what neighbours remember stays true."""
    return b"\x02\xd0" + _four(address)


def guard(spec: "dict[str, Any]") -> "list[Step]":
    """The host makes a network with an egress policy, and everything that keeps it, before anybody is in it."""
    cable, policy = _cable(spec), _policy(spec)
    if not cable or not policy:
        return []
    from dolium.plan import egress

    rules = egress.rules(policy["rules"], "network")
    shown = [egress.shown(each) for each in rules]
    count = f"{len(rules)} rule{'s' if len(rules) > 1 else ''}"
    asks = f"asks {', '.join(policy['servers']) or 'nobody'} for those names"
    return [
        Step("make_net", HOST, "network", what="a network namespace, lo up", out=slots.NETWORK,
             note="no right of the container reaches it"),
        Step("nft", HOST, "network", path=",".join(shown), data=egress.ruleset(rules, cable["gateway"], cable["prefix"]).encode(),
             what=f"nft: {count}, else refused", note=", ".join(shown)),
        Step("resolver", HOST, "network", path=",".join(shown), path2=" ".join(policy["servers"]),
             what=f"resolver at {egress.RESOLVER}", note=asks if any(each.name for each in rules) else "knows no name"),
    ]  # fmt: skip


def enter(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Outside goes into the network that is to be shared, and mounts its /sys; a child with users of its own could do
    neither."""
    if "network" not in joined(spec) or is_bundle(spec):
        return []
    which = "enter that network" if _policy(spec) else "enter the network it shares"
    steps = [*_lay(spec), Step("enter_net", OUTSIDE, "network", fd=slots.NETWORK, what=which,
                               note="with your rights, before it is born")]  # fmt: skip
    if facts.own_users:
        steps.append(Step("new_mount", OUTSIDE, "network", path="sysfs", n1=RDONLY | NOSUID | NODEV | NOEXEC, out=slots.SYS,
                          what="sysfs for /sys", note="with the devices of that network"))  # fmt: skip
    return steps


def come_back(spec: "dict[str, Any]") -> "list[Step]":
    """And leaves it again, or dolium-keep would keep it alive."""
    if "network" not in joined(spec) or is_bundle(spec):
        return []
    return [part(Step("enter_net", OUTSIDE, "network", fd=slots.HOST_NETWORK, what="come back", note="the child stays there"))]


def loopback(spec: "dict[str, Any]") -> "list[Step]":
    """In a network namespace of its own; with another's there is nothing to do."""
    if "network" not in wanted(spec):
        return []
    note = "it reaches itself" if _cable(spec) else "it reaches itself and nobody else"
    return [Step("loopback", INSIDE, "network", what="set lo up", note=note)]


def announce(spec: "dict[str, Any]") -> "list[Step]":
    """Inside says that it has made its network namespace."""
    if not _cable(spec) or _policy(spec):
        return []
    return [Step("sync", BOTH, "network", n1=1, what="meet: its network is made", note="outside waits for inside")]


def connect(spec: "dict[str, Any]") -> "list[Step]":
    """Outside lays a cable from the bridge into the container, which waits until it carries packets."""
    if not _cable(spec) or _policy(spec):
        return []
    return [
        Step("open_ns", OUTSIDE, "network", path="ns/net", out=slots.NETWORK, what="open /proc/PID/ns/net",
             note="where the cable ends"),
        *_lay(spec),
        Step("sync", BOTH, "network", what="meet: the network is ready", note="inside waits for outside"),
    ]  # fmt: skip


def _lay(spec: "dict[str, Any]") -> "list[Step]":
    """The cable into the network that is in its slot."""
    cable = _cable(spec)
    if not cable:
        return []
    from dolium.plan import rtnetlink

    ours, address = device(spec["linux"]["cgroupsPath"].rpartition("/")[2]), cable["address"]
    veth, place = rtnetlink.make_veth(ours, DEVICE, hardware(address), cable["mtu"])
    host = rtnetlink.batch(veth, rtnetlink.without_ipv6(ours), rtnetlink.set_up(ours, cable["index"]))
    before = (rtnetlink.without_ipv6(DEVICE), rtnetlink.set_up(DEVICE))
    own = rtnetlink.batch(*before, rtnetlink.add_address(0, _four(address), cable["prefix"]),
                          rtnetlink.add_default_route(_four(cable["gateway"])))  # fmt: skip
    ready = rtnetlink.batch(rtnetlink.ask_link(ours), rtnetlink.ask_link(cable["bridge"]))
    return [
        Step("netlink", OUTSIDE, "network", data=host, fd2=slots.NETWORK, n1=place, accept=(EAFNOSUPPORT,),
             what=f"veth {ours}", note=f"plugged into {cable['bridge']}"),
        Step("netlink", OUTSIDE, "network", data=own, fd=slots.NETWORK, path=DEVICE, accept=(EAFNOSUPPORT,),
             n2=sum(map(len, before)) + rtnetlink.INDEX_OF_ADDRESS, what=f"{DEVICE} {address}/{cable['prefix']}",
             note=f"default route by {cable['gateway']}"),
        part(Step("netlink", OUTSIDE, "network", data=ready, n3=PATIENCE, what="a way for the first packet",
                  note="waits until the bridge forwards")),
    ]  # fmt: skip


def _cable(spec: "dict[str, Any]") -> "dict[str, Any] | None":
    found: dict[str, Any] | None = spec["dolium"]["network"]
    return found


def _policy(spec: "dict[str, Any]") -> "dict[str, Any] | None":
    """Whom it may talk to: `rules` as egress.rules reads them, `servers` that are asked for names; None: anybody."""
    return (_cable(spec) or {}).get("policy")


def _four(address: str) -> bytes:
    return bytes(map(int, address.split(".")))
