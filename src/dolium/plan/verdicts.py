"""What a host lets Dolium do, job by job, and what keeps it from the rest: verdicts on what engine/doctor.py has found.

Pure: findings in, checks out.
"""

from dolium.plan import image_verdicts, mends
from dolium.plan.capabilities import DEFAULT, NUMBERS
from dolium.plan.checks import LIMITS, Check
from dolium.plan.facts import Facts
from dolium.plan.findings import GUARDED, NOT_UPPER, Findings, Place
from dolium.plan.quantities import show_size

ENOUGH, IDMAPPED = (5, 10), (5, 19)
CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 21, 24
EPERM, ENOSYS = 1, 38
LEAST_FILES, LEAST_ROOM = 64, 64 << 20
ASKED = ("--memory 64m", "--cpus 0.5", "--cpuset-cpus 0", "--pids-limit 100")
BRIDGE_ELSE = "--network none or host need none of it"


def checks(found: Findings) -> "list[Check]":
    """Every check, those on which others rest first."""
    facts = found.facts
    return [
        _kernel(facts),
        _machine(facts),
        _calls(found),
        _features(found),
        _helpers(found),
        _memfd(found),
        _files(found),
        _namespaces(found),
        *([_user_namespaces(found), _apparmor(found)] if facts.rootless else []),
        _hidden(found),
        _outer(found),
        _state(found),
        _store(found),
        _room(found),
        _users(facts),
        *(_limit(found, controller) for controller in LIMITS),
        _capabilities(facts),
        _resources(facts),
        _bridge(found),
        _way_out(found),
        *image_verdicts.checks(found),
        _oci(found),
        _python(found),
        _leftovers(found),
        *(_trial(found, job) for job in found.trials),
    ]


def _kernel(facts: Facts) -> Check:
    shown = f"Linux {facts.kernel[0]}.{facts.kernel[1]}"
    return Check("kernel", "containers", facts.kernel >= ENOUGH, shown, "everything: Linux 5.10 is the oldest that can")


def _machine(facts: Facts) -> Check:
    return Check(
        "machine",
        "containers",
        facts.machine == "x86_64",
        facts.machine,
        "everything: the default system call filter knows x86_64 only",
    )


def _calls(found: Findings) -> Check:
    """Asked of the kernel, and of the filters that are around us."""
    missing = [name for name, errno in found.calls.items() if errno == ENOSYS]
    asked = [name for name in found.calls if not (found.facts.rootless and name in GUARDED)]
    refused = [name for name in asked if found.filtered and found.calls[name] == EPERM]
    what = [
        *([f"this kernel has no {', '.join(missing)}" + (", or a filter hides it" if found.filtered else "")] if missing else []),
        *([f"a seccomp filter around dolium refuses {', '.join(refused)}"] if refused else []),
    ]
    return Check(
        "calls",
        "containers",
        not what,
        "; ".join(what) or f"all {len(found.calls)} system calls that a start takes are answered",
        "everything",
        mends.OUTER.get(found.outer, "") if what else "",
    )


def _features(found: Findings) -> Check:
    overlay = found.lacking == ("the file system overlay",)
    return Check(
        "features",
        "containers",
        not found.lacking,
        f"this kernel lacks {', '.join(found.lacking)}"
        if found.lacking
        else "namespaces, file systems and system call filters are there",
        "everything",
        _by_root(found, "modprobe overlay") if overlay else "",
    )


def _helpers(found: Findings) -> Check:
    missing = ", ".join(found.helpers)
    return Check(
        "helpers",
        "containers",
        not missing,
        f"{missing}: not built" if missing else "dolium-init and dolium-keep are built",
        "everything",
        f"make -C {mends.quoted(found.top)}",
    )


def _memfd(found: Findings) -> Check:
    """Only worth knowing: without sealed memfds the helpers run from a copy for each start (core/spawn.py)."""
    name = "vm.memfd_noexec"
    value = found.sysctls.get(name, "0")
    mend = _by_root(found, f"sysctl -w {name}=1", inner=True)
    return Check("memfd", "", value != "2", f"{name} = {value}", "nothing, but each start copies the helpers anew", mend)


def _files(found: Findings) -> Check:
    soft, hard = found.files
    most = hard if 0 <= hard < mends.ENOUGH else mends.ENOUGH
    return Check(
        "open-files",
        "containers",
        soft < 0 or soft >= LEAST_FILES,
        f"at most {soft if soft >= 0 else 'any number of'} open files",
        "everything: a start takes about 40 descriptors",
        f"ulimit -n {most}" if most >= LEAST_FILES else "",
    )


def _namespaces(found: Findings) -> Check:
    """user_namespaces(7), "/proc/sys/user/": each container has one of each kind, and dolium-init a mount namespace besides."""
    small = [
        name
        for name, value in found.sysctls.items()
        if name.startswith("user.max_") and (name != "user.max_user_namespaces" or not found.facts.rootless) and int(value) < 2
    ]
    return Check(
        "namespaces",
        "containers",
        not small,
        ", ".join(f"{name} = {found.sysctls[name]}" for name in small) or "there may be enough namespaces of each kind",
        "everything",
        _by_root(found, mends.namespaces(small), inner=True),
    )


def _user_namespaces(found: Findings) -> Check:
    """user_namespaces(7); the second setting is Debian's."""
    for name, closed, open_ in (("user.max_user_namespaces", "0", "15000"), ("kernel.unprivileged_userns_clone", "0", "1")):
        if found.sysctls.get(name) == closed:
            return Check(
                "userns",
                "containers",
                False,
                f"{name} = {closed}",
                "containers of plain users, who need one to mount",
                _by_root(found, f"sysctl -w {name}={open_}", inner=True),
            )
    most = found.sysctls.get("user.max_user_namespaces", "unlimited")
    one = "your user inside is one alone, root; dolium does not use newuidmap yet"
    return Check(
        "userns",
        "containers",
        True,
        f"user.max_user_namespaces = {most}; {one}" + (", nor your /etc/subuid" if found.subids else ""),
    )


def _apparmor(found: Findings) -> Check:
    """Ubuntu since 23.10: who has no profile may make a user namespace, but gets no rights in it."""
    name = "kernel.apparmor_restrict_unprivileged_userns"
    value = found.sysctls.get(name, "0")
    return Check(
        "apparmor-userns",
        "containers",
        value == "0" or found.ran("containers"),
        f"{name} = {value}",
        "containers of plain users; the profile lets this one program make user namespaces, and confines it no further",
        mends.apparmor(found.program),
    )


def _hidden(found: Findings) -> Check:
    """mount_too_revealing() in the kernel's fs/namespace.c: who could see less than all of /proc may not mount a fresh one."""
    points = " ".join(mends.quoted(each) for each in found.hidden)
    return Check(
        "hidden-proc",
        "containers",
        not found.hidden or found.ran("containers"),
        f"mounted over parts of /proc and /sys: {points}" if points else "nothing is mounted over parts of /proc and /sys",
        "a fresh /proc in a user namespace, so everything; the mend shows this system what an outer container hides from it",
        _by_root(found, f"umount -l {points}"),
    )


def _outer(found: Findings) -> Check:
    """Only an obstacle where nothing runs; else it says what is taken away."""
    if not found.outer:
        return Check("outer", "", True, "in no other container")
    taken = [
        *(["CAP_SYS_ADMIN"] if found.facts.uid == 0 and not found.facts.is_root else []),
        *(["system calls (by a seccomp filter)"] if found.filtered else []),
        *(["parts of /proc and /sys"] if found.hidden else []),
        *(["cgroups"] if found.facts.uid == 0 and not found.facts.controllers else []),
        *(["an ordinary file system for what is kept"] if found.data.kind == "overlay" else []),
    ]
    said = f"this system runs in {found.outer}, which takes away " + (", ".join(taken) or "nothing that Dolium needs")
    job = "" if found.ran("containers") else "containers"
    return Check(
        "outer",
        job,
        not taken and not job,
        said,
        "what needs it; the mend is for outside, where the outer container is started",
        mends.OUTER.get(found.outer, ""),
    )


def _state(found: Findings) -> Check:
    """CVE-2021-41091: nobody else may look into these directories, or put something there."""
    uid = found.facts.uid
    for place in (found.state, found.data):
        path = mends.quoted(place.path)
        if place.owner >= 0 and (place.owner != uid or place.mode & 0o077):
            said = f"{place.path} belongs to uid {place.owner} and has mode {place.mode:o}"
            mend = (
                f"chmod 700 {path}"
                if place.owner == uid
                else f"chown {uid} {path} && chmod 700 {path}"
                if uid == 0
                else _elsewhere(found, place)
            )
            return Check("state-directory", "containers", False, said, "everything: such a directory must be yours alone", mend)
        if place is found.state and not place.writable:
            return Check(
                "state-directory", "containers", False, f"{place.path} cannot be written", "everything", _elsewhere(found, place)
            )
    return Check("state-directory", "containers", True, f"{found.state.path}, on {found.state.kind}")


def _elsewhere(found: Findings, place: Place) -> str:
    if found.facts.uid == 0:
        return mends.store(place.path, 0, "")
    variable = "XDG_RUNTIME_DIR" if place is found.state else "XDG_DATA_HOME"
    return f"export {variable}=$(mktemp -d)"


def _store(found: Findings) -> Check:
    place = found.data
    bad = place.kind in NOT_UPPER or not place.writable
    why = (
        f"{place.path} is on {place.kind}, which cannot hold what containers write"
        if place.kind in NOT_UPPER
        else f"{place.path} cannot be written"
    )
    gone = "; the mend keeps them in memory, until this system ends" if found.facts.uid == 0 else ""
    return Check(
        "store",
        "kept",
        not bad or found.ran("kept"),
        why if bad else f"{place.path}, on {place.kind}",
        f"containers without --rm{gone}",
        mends.store(place.path, found.facts.uid, found.room),
    )


def _room(found: Findings) -> Check:
    small = [each for each in (found.state, found.data) if each.free < LEAST_ROOM]
    said = ", ".join(f"{show_size(each.free)} left for {each.path}" for each in small or (found.data,))
    return Check("room", "", not small, said, "containers that write, and pulls; `dolium prune` forgets all that do not run, "
                 "`dolium image prune --all` the images that none needs")


def _users(facts: Facts) -> Check:
    """Only worth knowing: the container still starts, and says it."""
    ok = facts.rootless or facts.kernel >= IDMAPPED
    return Check(
        "own-users",
        "",
        ok,
        "containers have users of their own" if ok else "Linux before 5.19",
        "root in a container is root on the host, less capabilities; --userns required is an error",
    )


def _limit(found: Findings, controller: str) -> Check:
    facts = found.facts
    hierarchy = facts.controllers.get(controller)
    if hierarchy:
        return Check(f"cgroup-{controller}", controller, True, f"cgroup v{hierarchy.version}, {hierarchy.parent}")
    if controller == "pids" and facts.rootless and facts.counts_processes:
        said = "none is needed: RLIMIT_NPROC is counted in the user namespace of each container"
        return Check("cgroup-pids", "pids", True, said)
    why, mend = _why_no_devices(found) if controller == "devices" else _why_no_limit(found, controller)
    return Check(f"cgroup-{controller}", controller, False, why, LIMITS[controller], mend)


def _why_no_devices(found: Findings) -> "tuple[str, str]":
    facts, (why, mend) = found.facts, found.facts.no_devices
    if facts.uid:
        return why, _by_root(found, "dolium run --device /dev/null:/dev/hole:r @host sh")
    if facts.rootless:
        return f"{why}; and you are {facts.lesser}", "" if facts.is_root else mends.OUTER.get(found.outer, "")
    return why, mend or mends.OUTER.get(found.outer, "")


def _why_no_limit(found: Findings, controller: str) -> "tuple[str, str]":
    facts, where = found.facts, found.bound.get(controller, "")
    if where == "off":
        return f"the {controller} controller is switched off on the kernel's command line: see /proc/cmdline", ""
    if where == "v1" and facts.uid:
        return "this host has it on cgroup v1, which only root may use", _by_root(found, f"dolium run {' '.join(ASKED)} @host sh")
    if facts.rootless and not facts.uid:
        return f"{facts.no_controllers[0]}; and you are {facts.lesser}", mends.OUTER.get(found.outer, "")
    if where == "v1":
        point, writable = found.cgroup1.get(controller, ("", False))
        if not point:
            return f"the {controller} controller is on cgroup v1, and that is not mounted", mends.mount_controller(controller)
        if not writable:
            return f"{point} is mounted read-only", mends.writable(point)
    if where == "v2" and not found.cgroup2:
        return "cgroup v2 is not mounted", _by_root(found, mends.mount_unified())
    if where == "v2" and facts.uid:
        said = facts.no_controllers[0] if "unified" not in facts.controllers else "your own cgroup has not got it"
        if found.systemd and found.session:
            return said, mends.delegation() if "unified" in facts.controllers else mends.session()
        return said, mends.own_group(found.cgroup2, facts.uid, facts.gid)
    return facts.no_controllers if not facts.rootless else (facts.no_controllers[0], "")


def _capabilities(facts: Facts) -> Check:
    """What the usual container would have, and this caller cannot give."""
    if facts.rootless and facts.uid:
        return Check("capabilities", "", True, "a plain user's containers have those of their own user namespace")
    missing = [name[4:] for name in sorted({*DEFAULT, "CAP_SYS_ADMIN"}) if not facts.capabilities >> NUMBERS[name] & 1]
    return Check(
        "capabilities",
        "",
        not missing,
        f"dolium has not got {', '.join(missing)}" if missing else "dolium has all that containers usually get",
        "programs that need them" + (", and all that root can do beyond a plain user" if "SYS_ADMIN" in missing else ""),
    )


def _resources(facts: Facts) -> Check:
    held = bool(facts.capabilities >> CAP_SYS_RESOURCE & 1)
    ok = held or facts.uid != 0
    return Check(
        "sys-resource",
        "",
        ok,
        "CAP_SYS_RESOURCE is " + ("held" if held else "not of a plain user" if ok else "missing"),
        "--ulimit above dolium's own hard limits and --oom-score-adj below its own are errors; only what starts dolium can give it",
    )


def _bridge(found: Findings) -> Check:
    if found.facts.rootless:
        who = found.facts.lesser if found.facts.uid == 0 else "not root, and dolium does not use pasta yet"
        return Check(
            "bridge",
            "bridge",
            False,
            f"you are {who}",
            f"--network bridge; {BRIDGE_ELSE}",
            "" if found.facts.is_root else _by_root(found, "dolium run --network bridge @host sh"),
        )
    if found.network is None:
        return Check("bridge", "bridge", True, "not looked at")
    why, mend = found.network
    others = f"nothing is in the way; {', '.join(found.firewalls)} is here too" if found.firewalls else "nothing is in the way"
    return Check("bridge", "bridge", not why, why or others, f"--network bridge, the default; {BRIDGE_ELSE}", mend)


def _way_out(found: Findings) -> Check:
    return Check(
        "way-out",
        "",
        found.way_out,
        "there is a default route" if found.way_out else "no route leads out of this host",
        "containers on the bridge reach each other and this host, and nothing beyond",
    )


def _oci(found: Findings) -> Check:
    path, said = found.oci
    return Check(
        "oci",
        "oci",
        bool(path),
        f"{path}{'; ' if said else ''}{said}" if path else said or "not yet: there is no dolium-oci beside dolium",
        "podman --runtime, docker --runtime, containerd: engines that call a runtime",
    )


def _python(found: Findings) -> Check:
    """A plain user's own clone, or a Python in root's home: fine for its owner."""
    paths = " ".join(mends.quoted(each) for each in found.closed)
    return Check(
        "python",
        "",
        not found.closed,
        f"only their owner can pass {paths}" if paths else "Python and Dolium can be read by everybody",
        "dolium for other users of this host; the mend lets them pass through, not list; `make install` is the other way",
        f"chmod o+x {paths}",
    )


def _leftovers(found: Findings) -> Check:
    return Check(
        "leftovers",
        "",
        not found.leftovers,
        f"{found.leftovers or 'no'} dead containers have left something",
        "nothing; the next start removes it",
        "dolium run --rm --network none @host true",
    )


def _trial(found: Findings, job: str) -> Check:
    error, hint = found.trials[job]
    said = (f"{error}; {hint}" if hint else error) or "`true` was started so, and ended well"
    return Check(f"trial-{job}", job, not error, said, _TRIED.get(job, ""))


_TRIED = {"containers": "everything", "kept": "containers without --rm", **LIMITS}


def _by_root(found: Findings, line: str, *, inner: bool = False) -> str:
    """The line, for who can carry it out with the rights of this system's root (`inner`: root of a user namespace can too);
    where root itself lacks them, the outer container's line, if there is one."""
    facts = found.facts
    if not facts.uid and (not facts.rootless or (inner and facts.is_root)):
        return line
    if facts.uid and facts.capabilities >> CAP_SYS_ADMIN & 1:
        return f"sudo {line}"
    return mends.OUTER.get(found.outer, "")
