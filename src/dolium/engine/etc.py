"""/etc/hosts, /etc/hostname and /etc/resolv.conf, which no image can know."""

from dolium.errors import SpecError
from dolium.plan.quantities import quoted, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.config import Options
    from dolium.engine.networks import Attachment

RESOLVERS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The host's; where the first names only the host's own loopback (systemd-resolved), the second has what is behind it."""
GATEWAY = "host-gateway"
"""Docker's word for the host's address as a container sees it."""


def files(hostname: str, options: "Options", attachment: "Attachment | None") -> "tuple[list[tuple[str, str]], str]":
    """(path, text) of each, and what the caller should be told of them, or nothing.  Raises SpecError."""
    cable = attachment.cable if attachment else None
    own = cable["address"] if cable else "127.0.1.1"
    hosts = f"127.0.0.1 localhost\n::1 localhost\n{own} {hostname}\n"
    for name, address in options.add_hosts:
        if address == GATEWAY:
            if not cable and options.network != "host":
                raise SpecError("--add-host", f"`{GATEWAY}` is the host's address on the bridge", hint="use --network bridge")
            address = str(cable["gateway"]) if cable else "127.0.0.1"
        hosts += f"{address} {name}\n"
    resolver, note = _resolver(options, attachment)
    return [("/etc/hosts", hosts), ("/etc/hostname", hostname + "\n"), ("/etc/resolv.conf", resolver)], note


def _resolver(options: "Options", attachment: "Attachment | None") -> "tuple[str, str]":
    own = bool(options.dns or options.dns_search or options.dns_options)
    note, lines = "", []
    if options.network == "host" and not own:
        return _read(RESOLVERS[0]), ""
    if attachment and attachment.policy:
        from dolium.plan import egress  # only where there are rules

        lines = [each for each in _of_the_host(loopback=True) if not each.startswith("nameserver")]
        lines.insert(0, f"nameserver {egress.RESOLVER}")
        if not servers(options):
            note = "this host names no name server, so names lead nowhere: `--dns ADDRESS` names one"
    elif attachment or options.network == "host":
        lines = _of_the_host(loopback=options.network == "host")
        if not any(each.startswith("nameserver") for each in lines) and not options.dns:
            note = "this host names no name server that containers can reach: `--dns ADDRESS` names one"
    named = [] if attachment and attachment.policy else options.dns
    for key, given in (("nameserver", named), ("search", options.dns_search), ("options", options.dns_options)):
        if given:
            lines = [each for each in lines if each.split()[0] not in (key, "domain" if key == "search" else key)]
            lines += [f"{key} {each}" for each in given] if key == "nameserver" else [f"{key} {' '.join(given)}"]
    if not lines:
        return "# no network\n" if not attachment else "# no name server\n", note
    return "".join(f"{each}\n" for each in lines), note


def servers(options: "Options") -> "list[str]":
    """The name servers that a container's own resolver asks, from this host: those that were asked for, else the host's, also at
    its loopback."""
    lines = [] if options.dns else map(str.split, _of_the_host(loopback=True))
    found = options.dns or [words[1] for words in lines if words[0] == "nameserver" and words[1:]]
    return [each for each in found if "%" not in each]  # of a link, which a number has no place for


def _of_the_host(loopback: bool) -> "list[str]":
    """The host's lines, without name servers that only the host itself can reach."""
    kept: list[str] = []
    for path in RESOLVERS:
        kept = []
        for line in _read(path).splitlines():
            words = line.split()
            if not words or words[0][0] in "#;":
                continue
            if words[0] != "nameserver" or loopback or (len(words) > 1 and not _is_near(words[1])):
                kept.append(" ".join(words))
        if any(each.startswith("nameserver") for each in kept):
            break
    return kept


def _is_near(address: str) -> bool:
    """Whether it leads nowhere from a container: loopback, or IPv6, which the bridge does not have."""
    return address.startswith("127.") or address == "0.0.0.0" or ":" in address


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(65536)
    except OSError:
        return ""


def address(text: str, flag: str) -> str:
    """An IPv4 or IPv6 address.  Raises SpecError."""
    from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            return inet_ntop(family, inet_pton(family, text))
        except (OSError, ValueError):
            pass
    raise SpecError(flag, f"{quoted(text)} is not an address", hint="such as 192.0.2.1 or 2001:db8::1")


def host(text: str, flag: str) -> "tuple[str, str]":
    """NAME:ADDRESS for /etc/hosts, as (name, address); `host-gateway` is an address.  Raises SpecError."""
    sign = ":" if "=" not in text else "="  # Docker reads both
    name, _, given = text.partition(sign)
    word(name, flag)
    if not given:
        raise SpecError(flag, f"no address after the name in {quoted(text)}", hint="write NAME:ADDRESS")
    return name, given if given == "host-gateway" else address(given.removeprefix("[").removesuffix("]"), flag)
