"""What a host lets Dolium do, job by job, and what keeps it from the rest: verdicts on what engine/doctor.py has found.

Pure: findings in, checks out.  The ids are stable; hints of errors and programs name them.
"""

from dolium.plan.facts import Facts

ENOUGH, IDMAPPED = (5, 10), (5, 19)
CAP_SYS_RESOURCE = 24
BRIDGE_ELSE = "--network none or host need none of it"


class Findings:
    """What was found; plain data, so that tests can invent it.

    facts       of this host, for this caller (runtime/host.py)
    trials      job -> (error, hint) of a container that was really started, both empty where it ran
    sysctls     name -> value, of those that exist
    outer       what this system itself runs in: `Docker`, `WSL`, ... or empty
    network     why no bridge can be laid: (what was found, mend), both empty where it can; None where it was not looked at
    way_out     whether a route leads out of this host
    leftovers   how many dead containers have left something
    """

    __slots__ = ("facts", "trials", "sysctls", "outer", "network", "way_out", "leftovers")

    def __init__(self, facts: Facts, *, trials: "dict[str, tuple[str, str]] | None" = None,
                 sysctls: "dict[str, str] | None" = None, outer: str = "", network: "tuple[str, str] | None" = None,
                 way_out: bool = True, leftovers: int = 0) -> None:  # fmt: skip
        self.facts = facts
        self.trials = trials or {}
        self.sysctls = sysctls or {}
        self.outer = outer
        self.network = network
        self.way_out = way_out
        self.leftovers = leftovers


class Check:
    """One thing that was looked at.

    id      stable, kebab-case
    job     which of JOBS cannot be done without it; empty: none, it is only worth knowing
    ok      whether all is well
    found   what was found, in one line
    breaks  what does not work where it is not ok
    mend    one line for a shell that mends it; empty where none does
    """

    __slots__ = ("id", "job", "ok", "found", "breaks", "mend")

    def __init__(self, identity: str, job: str, ok: bool, found: str, breaks: str = "", mend: str = "") -> None:
        self.id = identity
        self.job = job
        self.ok = ok
        self.found = found
        self.breaks = breaks
        self.mend = mend

    def fields(self) -> "dict[str, object]":
        """All of them, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


JOBS = {
    "containers": "run containers as {who}",
    "kept": "... and keep what they write",
    "memory": "... with a memory limit",
    "cpu": "... with a CPU limit",
    "cpuset": "... on chosen CPUs",
    "pids": "... with a limit on processes",
    "devices": "... with rules on devices",
    "bridge": "... on a network with a way out",
}
"""Job -> how it is called in `dolium doctor`.  All others need `containers`."""
LIMITS = {"memory": "--memory, --memory-swap", "cpu": "--cpus, --cpu-weight, --cpu-shares", "cpuset": "--cpuset-cpus",
          "pids": "--pids-limit", "devices": "--device with less than rw, and nodes of devices with --userns host"}  # fmt: skip


def checks(found: Findings) -> "list[Check]":
    """Every check, those on which others rest first."""
    facts = found.facts
    limits = [_limit(found, controller, flags) for controller, flags in LIMITS.items()]
    return [
        _kernel(facts),
        Check("machine", "containers", facts.machine == "x86_64", facts.machine,
              "everything: the default system call filter knows x86_64 only"),
        _memfd(found),
        *([_user_namespaces(found), _apparmor(found)] if facts.rootless else []),
        _users(facts),
        *limits,
        _capabilities(facts),
        _outer(found),
        _bridge(found),
        _way_out(found),
        Check("leftovers", "", not found.leftovers, f"{found.leftovers} dead containers have left something",
              "nothing; the next start removes it", f"{_sudo(facts)}dolium run --rm @host true"),
        *(_trial(found, job) for job in found.trials),
    ]  # fmt: skip


def works(job: str, made: "list[Check]") -> bool:
    """Whether a job can be done."""
    return all(each.ok for each in made if each.job in (job, "containers"))


def _kernel(facts: Facts) -> Check:
    shown = f"Linux {facts.kernel[0]}.{facts.kernel[1]}"
    return Check("kernel", "containers", facts.kernel >= ENOUGH, shown, "everything: Linux 5.10 is the oldest that can")


def _memfd(found: Findings) -> Check:
    """Only worth knowing: without sealed memfds the helpers run from a copy for each start (core/spawn.py)."""
    name = "vm.memfd_noexec"
    value = found.sysctls.get(name, "0")
    return Check("memfd", "", value != "2", f"{name} = {value}", "nothing, but each start copies the helpers anew",
                 f"{_sudo(found.facts)}sysctl -w {name}=1")  # fmt: skip


def _user_namespaces(found: Findings) -> Check:
    """user_namespaces(7); the second setting is Debian's."""
    for name, closed, open_ in (("user.max_user_namespaces", "0", "15000"), ("kernel.unprivileged_userns_clone", "0", "1")):
        if found.sysctls.get(name) == closed:
            return Check("userns", "containers", False, f"{name} = {closed}", "containers of plain users, who need one to mount",
                         f"sudo sysctl -w {name}={open_}")  # fmt: skip
    most = found.sysctls.get("user.max_user_namespaces", "unlimited")
    return Check("userns", "containers", True, f"user.max_user_namespaces = {most}")


def _apparmor(found: Findings) -> Check:
    """Ubuntu since 23.10: who has no profile may make a user namespace, but gets no rights in it."""
    name = "kernel.apparmor_restrict_unprivileged_userns"
    value = found.sysctls.get(name, "0")
    return Check("apparmor-userns", "containers", value == "0", f"{name} = {value}", "containers of plain users",
                 f"sudo sysctl -w {name}=0")  # fmt: skip


def _users(facts: Facts) -> Check:
    """Only worth knowing: the container still starts, and says it."""
    ok = facts.rootless or facts.kernel >= IDMAPPED
    return Check("own-users", "", ok, "containers have users of their own" if ok else "Linux before 5.19",
                 "root in a container is root on the host, less capabilities; --userns required is an error")  # fmt: skip


def _limit(found: Findings, controller: str, flags: str) -> Check:
    facts = found.facts
    hierarchy = facts.controllers.get(controller)
    if hierarchy:
        return Check(f"cgroup-{controller}", controller, True, f"cgroup v{hierarchy.version}, {hierarchy.parent}")
    why, mend = facts.no_devices if controller == "devices" else facts.no_controllers
    return Check(f"cgroup-{controller}", controller, False, why, f"{flags} (asking for it is an error)", mend)


def _capabilities(facts: Facts) -> Check:
    held = bool(facts.capabilities >> CAP_SYS_RESOURCE & 1)
    ok = held or facts.rootless
    return Check("sys-resource", "", ok, "CAP_SYS_RESOURCE is " + ("held" if held else "not of a plain user" if ok else "missing"),
                 "--ulimit above dolium's own hard limits and --oom-score-adj below its own are errors",
                 "" if ok else "give it to whatever starts dolium")  # fmt: skip


def _outer(found: Findings) -> Check:
    return Check("outer", "", not found.outer, f"this system runs in {found.outer}" if found.outer else "in no other container",
                 "what the outer container forbids: limits, mounts of /proc, bridges")  # fmt: skip


def _bridge(found: Findings) -> Check:
    if found.facts.rootless:
        return Check("bridge", "bridge", False, "you are not root", "--network bridge", "sudo dolium run ...")
    if found.network is None:
        return Check("bridge", "bridge", True, "not looked at")
    why, mend = found.network
    return Check("bridge", "bridge", not why, why or "nothing is in the way", f"--network bridge, the default; {BRIDGE_ELSE}", mend)


def _way_out(found: Findings) -> Check:
    return Check("way-out", "", found.way_out, "there is a default route" if found.way_out else "no route leads out of this host",
                 "containers on the bridge reach each other and this host, and nothing beyond")  # fmt: skip


def _trial(found: Findings, job: str) -> Check:
    error, hint = found.trials[job]
    return Check(f"trial-{job}", job, not error, error or "`true` was started so, and ended well", _TRIED.get(job, ""), hint)


_TRIED = {"containers": "everything", "kept": "containers without --rm", "memory": "--memory"}


def _sudo(facts: Facts) -> str:
    return "" if facts.uid == 0 else "sudo "
