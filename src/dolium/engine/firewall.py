"""The firewall's part in containers' networks: one table of our own, made by one transaction of nft(8), and a door in the
chains of others that would drop what containers send, because an accept of ours ends the way through our own chain only.

Our table `ip dolium`: what leaves the host has the host's address (masquerade); containers may begin conversations, nobody
begins one with them from outside.  Where Dolium itself has made this host forward packets, it still does not do so for
others: what arrives by the way out and is for no container is dropped as before, unless somebody else's rules (DNAT) sent it.
"""

import os
import subprocess

from dolium.engine import networks
from dolium.errors import DoliumError, Exists, Unsupported
from dolium.runtime import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.networks import Bridge

TABLE = "dolium"
PATHS = (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin")
FEATURE = "--network bridge"
DOOR = (["-i", networks.BRIDGE, "-j", "ACCEPT"],
        ["-o", networks.BRIDGE, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"])  # fmt: skip
"""What is put before the rules of iptables: containers' own conversations, both ways."""
CHAINS = ("DOCKER-USER", "FORWARD")
TRUST = ["--zone=trusted", f"--add-interface={networks.BRIDGE}"]
IPTABLES = ("iptables-nft", "iptables")
ATTEMPTS = 8


def ruleset(subnet: str, closed: str) -> str:
    """Our table, whatever there was before; `closed` is the device by which others' packets are not let through."""
    bridge = networks.BRIDGE
    others = f'    iifname "{closed}" oifname != "{bridge}" ct state new ct status & dnat == 0 drop\n' if closed else ""
    return (f"add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n"
            "  chain postrouting {\n    type nat hook postrouting priority 100; policy accept;\n"
            f'    ip saddr {subnet} oifname != "{bridge}" masquerade\n  }}\n'
            "  chain forward {\n    type filter hook forward priority 0; policy accept;\n"
            f'    iifname "{bridge}" accept\n    oifname "{bridge}" ct state established,related accept\n'
            f'    oifname "{bridge}" drop\n{others}  }}\n}}\n')  # fmt: skip


def find(program: str) -> str:
    """The path of a program of the administrator's, or nothing."""
    return next((f"{each}/{program}" for each in PATHS if each and os.access(f"{each}/{program}", os.X_OK)), "")


def need_nft() -> None:
    """Raises Unsupported where there is no nft."""
    if not find("nft"):
        hint = "apt install nftables (`dolium doctor bridge` has your system's word for it); or use --network none or host"
        raise Unsupported(FEATURE, "there is no nft(8) to set up address translation with", hint=hint)


def trouble() -> "tuple[str, str]":
    """Why no bridge can be had as things are, and the line that mends it; both empty where it can.  Changes nothing."""
    try:
        networks.attach("bridge", 0, host.facts(), make=False)
        closed = [each for each in Rules(_listed()).in_the_way() if not _can_open(each)]
        if closed:
            problem = _closed(closed[0]["family"], closed[0]["table"], closed[0]["name"])
            return str(problem), problem.hint
    except Exists as problem:
        return f"{problem}, and is no bridge", f"ip link set {networks.BRIDGE} name not-{networks.BRIDGE}"
    except DoliumError as problem:
        return f"{problem}; {problem.hint}", ""
    return "", ""


def others() -> "tuple[str, ...]":
    """Programs that have rules here besides us, by their chains."""
    try:
        chains = [name for each in Rules(_listed()).chains for name in (each["table"], each["name"])]
    except DoliumError:
        return ()
    marks = {"Docker": "DOCKER", "ufw": "ufw-", "firewalld": "firewalld", "libvirt": "LIBVIRT"}
    return tuple(name for name, mark in marks.items() if any(each.startswith(mark) for each in chains))


def call(program: str, *words: str, text: str = "") -> str:
    """What a program of the administrator's prints.  Raises DoliumError with what it says if it fails."""
    ended = subprocess.run([find(program) or program, *words], input=text, capture_output=True, text=True, errors="replace")
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).split())[:300]
        raise DoliumError(f"`{' '.join([program, *words])}` failed: {said}")
    return ended.stdout


def ensure(bridge: "Bridge", out: int, closed: str) -> str:
    """Have our table and every door in place; the state of the rules (networks.rules_now) in which that was found so.

    Raises Unsupported, with the line that mends it, where somebody's rules are in the way and not ours to change.
    """
    wanted = ruleset(bridge.subnet, closed)
    for _ in range(ATTEMPTS):  # others change rules, too
        state = networks.rules_now(out)
        rules = Rules(_listed())
        if not rules.has_own(bridge.subnet, closed):
            try:
                call("nft", "-f", "-", text=wanted)
            except DoliumError as problem:
                raise Unsupported(FEATURE, str(problem), hint="does this kernel have nf_tables with NAT (CONFIG_NFT_NAT, "
                                  "CONFIG_NFT_MASQ)?") from None  # fmt: skip
            continue
        if not (_open_chains(rules) or _open_old_iptables()) and networks.rules_now(out) == state:
            return state
    raise DoliumError("the firewall's rules do not come to rest", hint="is something changing them all the time? nft monitor")


def _listed() -> "list[dict[str, Any]]":
    import json

    found: list[dict[str, Any]] = json.loads(call("nft", "-j", "list", "ruleset"))["nftables"]
    return found


class Rules:
    """All rules of nftables that this network namespace has, as `nft -j list ruleset` lists them."""

    def __init__(self, listed: "list[dict[str, Any]]") -> None:
        self.chains = [each["chain"] for each in listed if "chain" in each]
        self.rules = [each["rule"] for each in listed if "rule" in each]

    def of(self, chain: "dict[str, Any]") -> "list[dict[str, Any]]":
        """The rules of a chain, in order."""
        return [each for each in self.rules
                if (each["family"], each["table"], each["chain"]) == (chain["family"], chain["table"], chain["name"])]  # fmt: skip

    def in_the_way(self) -> "list[dict[str, Any]]":
        """Others' chains that drop what is forwarded unless they know it, and do not know our bridge."""
        found = []
        for chain in self.chains:
            if chain.get("hook") != "forward" or chain["family"] not in ("ip", "inet") or chain["table"] == TABLE:
                continue
            rules = self.of(chain)
            if chain.get("policy") != "drop" and not any(_ends_badly(each) for each in rules):
                continue
            if not any(_knows_us(each) for each in self.rules if each["table"] == chain["table"] and _near(each, chain)):
                found.append(chain)
        return found

    def has(self, table: str, name: str) -> bool:
        """Whether there is that chain."""
        return any((each["table"], each["name"]) == (table, name) for each in self.chains)

    def has_own(self, subnet: str, closed: str) -> bool:
        """Whether our table is there, whole (it comes in one transaction), for this subnet."""
        own = [repr(each["expr"]) for each in self.rules if (each["family"], each["table"]) == ("ip", TABLE)]
        return (len(own) == (5 if closed else 4) and any(repr(subnet.partition("/")[0]) in each for each in own)
                and (not closed or any(repr(closed) in each for each in own)))  # fmt: skip


def _ends_badly(rule: "dict[str, Any]") -> bool:
    """Whether it drops or rejects whatever comes so far.  A target of iptables that nft has no word for is `xt`."""
    words = [key for each in rule["expr"] for key in each if key not in ("counter", "log", "comment", "limit")]
    if words == ["xt"]:
        return any(each["xt"].get("name") == "REJECT" for each in rule["expr"] if "xt" in each)
    return len(words) == 1 and words[0] in ("drop", "reject")


def _knows_us(rule: "dict[str, Any]") -> bool:
    return repr(networks.BRIDGE) in repr(rule["expr"])


def _near(rule: "dict[str, Any]", chain: "dict[str, Any]") -> bool:
    """Whether a rule about the bridge in this chain speaks for the other: the chain itself, Docker's for rules of the
    administrator, and those that firewalld divides into zones."""
    return rule["chain"] in (chain["name"], "DOCKER-USER") or chain["table"] == "firewalld"


def _open_chains(rules: Rules) -> bool:
    """Make a door in each chain that is in the way; whether anything was done.  Raises Unsupported."""
    blocking = rules.in_the_way()
    for chain in blocking:
        family, table, name = chain["family"], chain["table"], chain["name"]
        if table == "firewalld":
            _ask_firewalld()
        elif _can_open(chain):
            tool = next(each for each in IPTABLES if find(each))
            for rule in reversed(DOOR):
                call(tool, "-w", "-I", CHAINS[0] if rules.has(table, CHAINS[0]) else CHAINS[1], *rule)
        else:
            raise _closed(family, table, name)
    return bool(blocking)


def _can_open(chain: "dict[str, Any]") -> bool:
    """Whether a door can be made in a chain that is in the way without leave of the administrator."""
    if chain["table"] == "firewalld":
        return bool(find("firewall-cmd"))
    known = (chain["family"], chain["table"], chain["name"]) == ("ip", "filter", "FORWARD")
    return known and any(map(find, IPTABLES))


def _ask_firewalld() -> None:
    line = " ".join(["firewall-cmd", *TRUST])
    try:
        call("firewall-cmd", *TRUST)
    except (DoliumError, OSError) as problem:
        raise Unsupported(FEATURE, f"firewalld drops what containers send, and cannot be asked not to: {problem}",
                          hint=line) from None  # fmt: skip


def _closed(family: str, table: str, name: str) -> Unsupported:
    where = f"{family} {table} {name}"
    line = (f"nft insert rule {where} oifname {networks.BRIDGE} ct state established,related accept && "
            f"nft insert rule {where} iifname {networks.BRIDGE} accept")  # fmt: skip
    return Unsupported(FEATURE, f"the firewall's chain `{where}` drops what containers send", hint=line)


def _open_old_iptables() -> bool:
    """The same with the iptables that nftables knows nothing of; whether anything was done."""
    if "filter" not in networks.read("/proc/net/ip_tables_names").split():
        return False
    tool = next((each for each in ("iptables-legacy", "iptables") if find(each)), "")
    if not tool:
        raise Unsupported(FEATURE, "this host has rules of iptables-legacy, and no iptables-legacy to read them with",
                          hint="apt install iptables")  # fmt: skip
    lines = call(tool, "-w", "-S").splitlines()
    ends = ("-A FORWARD -j DROP", "-A FORWARD -j REJECT")
    if "-P FORWARD DROP" not in lines and not any(each.startswith(ends) for each in lines):
        return False
    if any(f" {networks.BRIDGE} " in f"{each} " and each.split()[1] in CHAINS for each in lines):
        return False
    for rule in reversed(DOOR):
        call(tool, "-w", "-I", CHAINS[0] if f"-N {CHAINS[0]}" in lines else CHAINS[1], *rule)
    return True


def doors() -> "list[list[str]]":
    """The command lines that take away what was put into others' rules; for each thing that is there one."""
    found: list[list[str]] = []
    for tool in ("iptables-nft", "iptables-legacy", "iptables"):
        if not find(tool) or (tool == "iptables" and found):
            continue
        if tool == "iptables-legacy" and "filter" not in networks.read("/proc/net/ip_tables_names").split():
            continue
        for chain in CHAINS:
            try:
                lines = call(tool, "-w", "-S", chain).splitlines()
            except DoliumError:  # no such chain
                continue
            for rule in DOOR:
                found += [[tool, "-w", "-D", chain, *rule]] * lines.count(f"-A {chain} {' '.join(rule)}")
    if find("firewall-cmd"):
        try:
            call("firewall-cmd", "--zone=trusted", f"--query-interface={networks.BRIDGE}")
            found.append(["firewall-cmd", "--zone=trusted", f"--remove-interface={networks.BRIDGE}"])
        except DoliumError:
            pass
    return found


def has_table() -> bool:
    """Whether our table is there."""
    return bool(find("nft")) and f"table ip {TABLE}" in call("nft", "list", "tables").splitlines()


def remove_table() -> None:
    """Take it away.  Raises DoliumError."""
    call("nft", "delete", "table", "ip", TABLE)
