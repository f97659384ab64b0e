"""Look at this host, start `true` in containers of its own, and say what Dolium can do here and what keeps it from more.

Nothing of the host is changed but what every start makes (the parents of cgroups, Dolium's own directories).
"""

import os
import tempfile
from contextlib import suppress
from time import time

from dolium.engine import config, containers, credentials, erase, registries, surroundings
from dolium.errors import DoliumError
from dolium.plan import mends, verdicts
from dolium.plan.findings import Findings
from dolium.runtime import host, lease, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.checks import Check
    from dolium.plan.facts import Facts

MEMORY = 64 << 20
PREFIX, STALE = "doctor-", 60
LIMITED: "dict[str, dict[str, object]]" = {
    "memory": {"memory": MEMORY}, "cpu": {"cpus": 0.5}, "cpuset": {"cpuset_cpus": "0"}, "pids": {"pids": 100},
    "devices": {"devices": [("/dev/null", "/dev/hole", "r")]}}  # fmt: skip


def examine() -> "list[Check]":
    """All checks, for whoever calls.  Raises Unsupported where not even /proc is there."""
    found = Findings(host.facts())
    surroundings.look(found)
    try:
        found.leftovers = lease.dead()
    except (OSError, DoliumError):  # of which there is a check
        pass
    found.registries, found.logins = registries.trouble(), credentials.trouble()
    found.keeps_logins = found.logins[0] == credentials.own()
    found.trials = _trials(found.facts)
    if not found.facts.rootless:
        from dolium.engine import firewall
        from dolium.runtime import netlink

        found.way_out = bool(netlink.way_out())
        found.network = _network(found)
        if firewall.find("nft"):
            found.firewalls = firewall.others()
    return verdicts.checks(found)


def _network(found: Findings) -> "tuple[str, str]":
    """Why no bridge can be had, and the line that mends it."""
    from dolium.engine import firewall, networks

    if not firewall.find("nft"):
        return "there is no nft(8)", mends.install(found.installers, "nftables")
    if problem := surroundings.devices():
        return problem, ""
    if networks.read(networks.FORWARDING) != "1" and not os.access(networks.FORWARDING, os.W_OK):
        point = next((each.point for each in reversed(host.mounts()) if networks.FORWARDING.startswith(f"{each.point}/")), "/proc")
        return f"net.ipv4.ip_forward is 0 and cannot be set: {point} is read-only", mends.writable(point)
    return firewall.trouble()


def _trials(facts: "Facts") -> "dict[str, tuple[str, str]]":
    """A container of each kind; those after one that did not run would only say the same."""
    found = {"containers": _try(config.Options())}
    if found["containers"][0]:
        return found
    for controller, asked in LIMITED.items():
        if controller in facts.controllers or (controller == "pids" and facts.rootless and facts.counts_processes):
            limited = config.Options()
            for name, value in asked.items():
                setattr(limited, name, value)
            found[controller] = _try(limited)
    found["kept"] = _try_kept()
    return found


def _try_kept() -> "tuple[str, str]":
    try:
        _sweep(places.data())
        path = tempfile.mkdtemp(prefix=PREFIX, dir=places.data())
    except (OSError, DoliumError) as problem:
        return str(problem), getattr(problem, "hint", "")
    try:
        for each in ("upper", "work"):
            os.mkdir(f"{path}/{each}", 0o755)
            os.chmod(f"{path}/{each}", 0o755)
        kept = config.Options()
        kept.store = path
        return _try(kept)
    finally:
        erase.tree(path)


def _sweep(where: str) -> None:
    """What a doctor that was killed has left; none takes so long."""
    for name in os.listdir(where):
        if name.startswith(PREFIX) and time() - os.lstat(f"{where}/{name}").st_mtime > STALE:
            with suppress(OSError):  # another doctor may be at it
                erase.tree(f"{where}/{name}")


def _try(options: config.Options) -> "tuple[str, str]":
    """Start `true` so; the error and its hint, or nothing."""
    options.argv = ["true"]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        running, _ = containers.start("@host", options, None, (null, null, null))
        ended = running.finish()
    except DoliumError as problem:
        return str(problem), problem.hint
    except OSError as problem:
        return f"{problem.filename or ''}: {problem.strerror}".removeprefix(": "), ""
    finally:
        os.close(null)
    return ("", "") if ended.exit_code == 0 else (f"`true` ended with exit code {ended.exit_code}", "")
