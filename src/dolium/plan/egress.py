"""Whom a container may talk to, and nobody else: rules such as `pypi.org:443`, and the rules of nftables they come to.  Pure.

A rule is HOST:PORT.  HOST is a name, `*.NAME` (every name below it, not NAME itself), an address or a subnet; PORT a number, a
range, or `*`.  What names mean is found out while the container runs: for each kind of PORT that names are allowed with there is
a set of addresses, which the resolver (runtime/resolver.py) fills, each for as long as its answer holds.
"""

from dolium.errors import SpecError
from dolium.plan.quantities import quoted

WORD = "allow="
"""How such a network is written: `allow=pypi.org:443,10.0.0.0/8:*`."""
FORM = "HOST:PORT, such as pypi.org:443, *.example.org:80-90, 10.0.0.0/8:* or [2001:db8::1]:443"
TABLE = "dolium"
RESOLVER = "127.0.0.11"
"""Where a container finds its resolver; docker's is there, too."""
PLACE = "made by the host's steps"
"""Instead of the path of a namespace: it has none."""
MOST = 256
"""Rules; the kernel looks at one after the other for the first packet of a conversation."""
ADDRESSES = 4096
"""In one set at a time."""
VOID = ("ALL", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_BPF")
"""Capabilities that could go around the rules, where the container shares the host's users, and would be worth nothing where it
does not: the network belongs to the host's root.  Packet sockets pass by nftables, packet(7)."""
EVERY_PORT = (0, 65535)
NEAR = (
    (0x00000000, 8), (0x0A000000, 8), (0x64400000, 10), (0x7F000000, 8), (0xA9FE0000, 16), (0xAC100000, 12), (0xC0000000, 24),
    (0xC0A80000, 16), (0xC6120000, 15), (0xE0000000, 3),
)  # fmt: skip
"""Subnets that no name of the world outside should lead to: this network, private, shared, loopback, link-local, protocols,
benchmarks, multicast and reserved (RFC 6890)."""


class Rule:
    """`name` in lower case, `below`: the names below it are meant; or, without a name, a subnet (`address` of 4 or 16 bytes,
    `prefix`).  `ports` are the first and the last one."""

    __slots__ = ("name", "below", "address", "prefix", "ports")

    def __init__(self, name: str, below: bool, address: bytes, prefix: int, ports: "tuple[int, int]") -> None:
        self.name = name
        self.below = below
        self.address = address
        self.prefix = prefix
        self.ports = ports

    def means(self, name: str) -> bool:
        """Whether that name, in lower case and without a dot at its end, is one of this rule."""
        return bool(self.name) and (name.endswith("." + self.name) if self.below else name == self.name)

    def holds(self, address: bytes) -> bool:
        """Whether that address is in this rule's subnet."""
        if len(address) != len(self.address):
            return False
        rest = len(address) * 8 - self.prefix
        return int.from_bytes(address, "big") >> rest == int.from_bytes(self.address, "big") >> rest


def rules(text: str, where: str) -> "list[Rule]":
    """Of `allow=RULE,RULE`.  Raises SpecError."""
    found = [rule(each.strip(), where) for each in text.removeprefix(WORD).split(",")]
    if len(found) > MOST:
        raise SpecError(where, f"{len(found)} rules are more than {MOST}", hint="a subnet, or `*.NAME`, may stand for several")
    return found


def rule(text: str, where: str) -> Rule:
    """Of HOST:PORT.  Raises SpecError."""
    if "://" in text or "/" in text.rpartition(":")[2]:
        raise SpecError(where, f"{quoted(text)} is an URL", hint=f"only host and port: {FORM}")
    bracket = text.startswith("[")
    host, sign, port = text.rpartition(":") if not bracket or "]:" in text else (text, "", "")
    if ":" in host and not bracket:
        raise SpecError(where, f"{quoted(text)} has too many colons", hint=f"an IPv6 address stands in brackets: {FORM}")
    if not sign or not host or not port:
        raise SpecError(where, f"the {'host' if sign and not host else 'port'} is missing in {quoted(text)}", hint=FORM)
    if host == "*":
        raise SpecError(where, f"{quoted(text)} names no host", hint="every address is 0.0.0.0/0; names have to be listed")
    ports = _ports(port, where)
    if bracket:
        return _subnet(host[1:].removesuffix("]"), ports, where)
    last = host.partition("/")[0].rstrip(".").rpartition(".")[2]
    if "/" in host or last.isdigit() or last.startswith("0x"):
        return _subnet(host, ports, where)
    return _named(host, ports, where)


def _ports(text: str, where: str) -> "tuple[int, int]":
    if text == "*":
        return EVERY_PORT
    first, dash, last = text.partition("-")
    last = last if dash else first
    for each in (first, last):
        if not (each.isascii() and each.isdigit() and len(each) <= 5 and 1 <= int(each) <= 65535):
            raise SpecError(where, f"{quoted(text)} is no port", hint="a number from 1 to 65535, a range such as 8000-8080, or `*`")
    if int(first) > int(last):
        raise SpecError(where, f"the range {quoted(text)} goes downwards", hint=f"write {last}-{first}")
    return int(first), int(last)


def _named(host: str, ports: "tuple[int, int]", where: str) -> Rule:
    below = host.startswith("*.")
    name = host.removeprefix("*.").removesuffix(".").lower()
    if not name.isascii():
        raise SpecError(where, f"{quoted(host)} is not written in ASCII", hint="write it as DNS has it, with `xn--`")
    if "*" in name:
        raise SpecError(where, f"`*` in {quoted(host)} stands for no whole name", hint="only in front: *.example.org")
    for label in name.split("."):
        plain = label.replace("-", "").replace("_", "")
        if not plain.isalnum() or label[0] == "-" or label[-1] == "-" or len(label) > 63 or len(name) > 253:
            raise SpecError(where, f"{quoted(host)} is no host name", hint=FORM)
    return Rule(name, below, b"", 0, ports)


def _subnet(text: str, ports: "tuple[int, int]", where: str) -> Rule:
    plain, slash, size = text.partition("/")
    address = _six(plain) if ":" in plain else _four(plain)
    most = len(address) * 8
    if not address:
        raise SpecError(where, f"{quoted(plain)} is no address", hint=FORM)
    if address[:12] == bytes(10) + b"\xff\xff" and most == 128:
        raise SpecError(where, f"{quoted(plain)} is an IPv4 address in disguise", hint=f"write {show(address[12:])}")
    if slash and not (size.isascii() and size.isdigit() and len(size) <= 3 and int(size) <= most):
        raise SpecError(where, f"{quoted(size)} is no length of a subnet", hint=f"from 0 to {most}")
    prefix = int(size) if slash else most
    first = int.from_bytes(address, "big") >> most - prefix << most - prefix
    if first != int.from_bytes(address, "big"):
        meant = f"{show(first.to_bytes(most // 8, 'big'))}/{prefix}"
        raise SpecError(where, f"{quoted(text)} is an address inside of a subnet",
                        hint=f"the subnet is {meant}; the address alone {plain}")  # fmt: skip
    return Rule("", False, address, prefix, ports)


def _four(text: str) -> bytes:
    """Strictly four decimal numbers, none of which begins with a zero: others read that as octal.  Empty for anything else."""
    parts = text.split(".")
    numbers = [int(each) for each in parts if each.isascii() and each.isdigit() and len(each) <= 3 and str(int(each)) == each]
    return bytes(numbers) if len(parts) == len(numbers) == 4 and max(numbers) < 256 else b""


def _six(text: str) -> bytes:
    """An IPv6 address, RFC 4291; empty for anything else."""
    head, gap, tail = text.partition("::")
    if "::" in tail or text.count(":") > 7:
        return b""
    found = []
    for part in (head, tail):
        groups = part.split(":") if part else []
        if groups and "." in groups[-1] and (part is tail or not gap):
            four = _four(groups.pop())
            if not four:
                return b""
            groups += [four[:2].hex(), four[2:].hex()]
        if not all(1 <= len(each) <= 4 and {*each} <= {*"0123456789abcdefABCDEF"} for each in groups):
            return b""
        found.append(b"".join(int(each, 16).to_bytes(2, "big") for each in groups))
    room = 16 - len(found[0]) - len(found[1])
    return b"" if room < 0 or bool(gap) != (room > 0) else found[0] + bytes(room) + found[1]


def show(address: bytes) -> str:
    """An address as it is written."""
    if len(address) == 4:
        return ".".join(map(str, address))
    groups = [f"{int.from_bytes(address[at : at + 2], 'big'):x}" for at in range(0, 16, 2)]
    for size in range(8, 1, -1):  # the longest run of zeros is left out, RFC 5952
        for at in range(9 - size):
            if groups[at : at + size] == ["0"] * size:
                return f"{':'.join(groups[:at])}::{':'.join(groups[at + size :])}"
    return ":".join(groups)


def shown(found: Rule) -> str:
    """A rule as it is written."""
    host = ("*." if found.below else "") + found.name
    if not found.name:
        whole = found.prefix == len(found.address) * 8
        host = show(found.address) + ("" if whole else f"/{found.prefix}")
        host = f"[{host}]" if len(found.address) == 16 else host
    first, last = found.ports
    port = "*" if found.ports == EVERY_PORT else f"{first}" if first == last else f"{first}-{last}"
    return f"{host}:{port}"


def kinds(found: "list[Rule]") -> "list[tuple[int, int]]":
    """The different ports that names are allowed with; the place of each is the number of its set."""
    return sorted({each.ports for each in found if each.name})


def set_of(number: int) -> str:
    """The name of that set."""
    return f"names{number}"


def near(address: bytes) -> bool:
    """Whether an IPv4 address is one that a name of the world outside should not lead to."""
    value = int.from_bytes(address, "big")
    return any(value >> 32 - size == first >> 32 - size for first, size in NEAR)


def ruleset(found: "list[Rule]", gateway: str, prefix: int) -> str:
    """The table for nft(8), in the container's own network namespace.

    What is refused is refused at once, so that programs need not wait: a connection as by a host that does not serve that port (an
    ICMP message is lost on who is inside of connect(2) still), anything else as "administratively prohibited".  Nobody begins
    a conversation with the container either: through a friend that calls it, it would talk to whom it liked.

    `gateway` and `prefix` are the bridge's subnet: this host and the other containers.  A wider subnet does not mean them, or
    `0.0.0.0/0:*`, which means the world, would open this host.
    """
    lines = [f"table inet {TABLE} {{"]
    for number, _ in enumerate(kinds(found)):
        lines.append(f"  set {set_of(number)} {{ type ipv4_addr; size {ADDRESSES}; flags timeout; }}")
    lines += ["  chain refuse {", "    meta l4proto tcp reject with tcp reset", "    reject with icmpx type admin-prohibited",
              "  }", "  chain input {", "    type filter hook input priority 0; policy drop;", '    iif "lo" accept',
              "    ct state established,related accept", "  }",
              "  chain forward {", "    type filter hook forward priority 0; policy drop;", "  }",
              "  chain output {", "    type filter hook output priority 0; policy drop;", '    oif "lo" accept',
              "    ct state established accept"]  # fmt: skip
    lines += [f"    ip daddr @{set_of(number)}{_to(ports)} accept" for number, ports in enumerate(kinds(found))]
    subnets = [each for each in found if not each.name]
    wide = [each for each in subnets if each.prefix < prefix and each.holds(_four(gateway))]
    lines += [_accept(each) for each in subnets if each not in wide]
    lines += [f"    ip daddr {gateway}/{prefix} jump refuse"] if wide else []
    lines += [_accept(each) for each in wide]
    return "\n".join([*lines, "    jump refuse", "  }", "}", ""])


def _accept(rule: Rule) -> str:
    family = "ip" if len(rule.address) == 4 else "ip6"
    return f"    {family} daddr {show(rule.address)}/{rule.prefix}{_to(rule.ports)} accept"


def _to(ports: "tuple[int, int]") -> str:
    """The port in a rule; every port is every protocol, too."""
    if ports == EVERY_PORT:
        return ""
    return f" meta l4proto {{ tcp, udp }} th dport {ports[0]}" + (f"-{ports[1]}" if ports[1] > ports[0] else "")
