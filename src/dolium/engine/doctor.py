"""Look at this host, start `true` in containers of its own, and say what Dolium can do here and what keeps it from more.

Nothing of the host is changed but what every start makes (the parents of cgroups, Dolium's own directories).
"""

import os
import shutil
import tempfile

from dolium.engine import config, containers
from dolium.errors import DoliumError
from dolium.plan import checks
from dolium.runtime import host, lease, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.facts import Facts

SYSCTLS = ("kernel.apparmor_restrict_unprivileged_userns", "kernel.unprivileged_userns_clone", "user.max_user_namespaces",
           "vm.memfd_noexec")  # fmt: skip
MEMORY = 64 << 20


def examine() -> "list[checks.Check]":
    """All checks, for whoever calls.  Raises Unsupported where not even /proc is there."""
    facts = host.facts()
    found = checks.Findings(facts, sysctls=_sysctls(), outer=_outer(), leftovers=lease.dead())
    found.trials = _trials(facts)
    if not facts.rootless:
        from dolium.engine import firewall, netlink

        found.way_out = bool(netlink.way_out())
        found.network = firewall.trouble()
    return checks.checks(found)


def _sysctls() -> "dict[str, str]":
    found = {}
    for name in SYSCTLS:
        try:
            with open(f"/proc/sys/{name.replace('.', '/')}") as file:
                found[name] = file.read().strip()
        except OSError:  # this kernel has no such setting
            pass
    return found


def _outer() -> str:
    """What this system itself runs in, by the marks that it leaves."""
    marks = (("/run/.containerenv", "Podman"), ("/.dockerenv", "Docker"), ("/var/run/secrets/kubernetes.io", "Kubernetes"))
    for path, name in marks:
        if os.path.exists(path):
            return name
    release = os.uname().release.lower()
    return "WSL" if "microsoft" in release else ""


def _trials(facts: "Facts") -> "dict[str, tuple[str, str]]":
    """A container of each kind; those after one that did not run would only say the same."""
    found = {"containers": _try(config.Options())}
    if found["containers"][0]:
        return found
    if "memory" in facts.controllers:
        limited = config.Options()
        limited.memory = MEMORY
        found["memory"] = _try(limited)
    found["kept"] = _try_kept()
    return found


def _try_kept() -> "tuple[str, str]":
    try:
        path = tempfile.mkdtemp(prefix="doctor-", dir=places.data())
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
        shutil.rmtree(path, ignore_errors=True)


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
