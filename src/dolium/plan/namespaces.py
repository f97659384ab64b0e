"""Steps that make the container's namespaces: what it can see."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, encoded
from dolium.errors import Unsupported
from dolium.plan import limits, slots
from dolium.plan.onecall import call
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

FLAGS = {"time": 0x80, "mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
         "pid": 0x20000000, "network": 0x40000000}  # fmt: skip
"""namespaces(7); the keys are those of linux.namespaces[].type"""
SHORT = {"mount": "mnt", "network": "net"}
MS_SLAVE, MS_PRIVATE = 1 << 19, 1 << 18
EDQUOT = 122
PR_SET_DUMPABLE = 4


def wanted(spec: "dict[str, Any]") -> "set[str]":
    """The types of namespace that the container gets of its own."""
    return {each["type"] for each in spec["linux"]["namespaces"] if "path" not in each}


def joined(spec: "dict[str, Any]") -> "set[str]":
    """The types of namespace that are another's, which the container shares."""
    return {each["type"] for each in spec["linux"]["namespaces"] if "path" in each}


def is_moved(spec: "dict[str, Any]") -> bool:
    """Whether it is systemd that puts the container's first process into its group (plan/systemd.py)."""
    return "unit" in spec["dolium"]


def prepare(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """dolium-init takes a private copy of the mounts, in which image layers can be attached; who is not root becomes root
    of a user namespace first, for only such may mount."""
    steps = []
    if facts.makes_users:
        steps.append(Step("unshare", OUTSIDE, "linux.namespaces", n1=FLAGS["user"] | FLAGS["mount"],
                          what="unshare user mnt", note="who is not root may mount only so"))  # fmt: skip
    if is_bundle(spec) and facts.makes_users:
        steps += _map_own(spec, facts)
    elif facts.makes_users:
        steps.append(Step("map_ids", OUTSIDE, "linux.uidMappings", path=f"0 {facts.uid} 1\n", path2=f"0 {facts.gid} 1\n",
                          n1=0, n2=1, what=f"uid_map 0 -> {facts.uid}", note="root inside, you outside"))  # fmt: skip
    else:
        steps.append(Step("unshare", OUTSIDE, "linux.namespaces", n1=FLAGS["mount"], what="unshare mnt",
                          note="a private copy to mount things in"))  # fmt: skip
    kind = spec["linux"].get("rootfsPropagation") or "rslave"
    if kind == "rslave" or "shared" not in kind:
        steps.append(Step("set_attr", OUTSIDE, "linux.rootfsPropagation", path="/", n2=MS_SLAVE, n3=1, what="make / a slave",
                          note="what we mount stays in our copy"))  # fmt: skip
    return steps


def _map_own(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The ids of an engine's config, in the namespace that outside is in: its own id it maps itself, of more newuidmap(1) and
    newgidmap(1) see to it that they are this user's to give.  Then it is root there, by which id of the host ever."""
    uids, gids = _map(spec["linux"]["uidMappings"]), _map(spec["linux"]["gidMappings"])
    why, what = "linux.uidMappings", f"uid_map {uids.splitlines()[0]}"
    if facts.one_id:
        return [Step("map_ids", OUTSIDE, why, path=uids, path2=gids, n1=0, n2=1, what=what, note="yourself, and nobody else")]
    return [
        Step("ask", OUTSIDE, why, what="meet Python", note="whose newuidmap may do more than you"),
        Step("map_users", HOST, why, path=uids, path2=gids, what=what, note="newuidmap(1), newgidmap(1)"),
        Step("become", OUTSIDE, why, what="setresuid 0", note="root of that user namespace"),
        call(why, "prctl", (PR_SET_DUMPABLE, 1), actor=OUTSIDE, what="PR_SET_DUMPABLE 1", note="its child's /proc is read"),
    ]


def join(spec: "dict[str, Any]") -> "list[Step]":
    """Outside opens the namespaces of others that an engine names, and enters those that the child is born in: first all that
    take the caller's rights, the user namespace last, for with it those are gone.  The others are inside's to enter."""
    if not is_bundle(spec):
        return []
    opened, entered = [], []
    for index, each in enumerate(spec["linux"]["namespaces"]):
        if "path" not in each:
            continue
        kind, path = each["type"], each["path"]
        slot = slots.USERS if kind == "user" else slots.FIRST_JOINED + index
        why = f"linux.namespaces[{index}]"
        opened.append(Step("open", OUTSIDE, why, path=path, out=slot, what=f"open {path}", note=f"a {kind} namespace of another's"))
        if kind not in ("mount", "cgroup"):
            entered.append((kind == "user", Step("join", OUTSIDE, why, fd=slot, n1=FLAGS[kind],
                            what=f"join the {kind} namespace {path}", note="setns(2) refuses one of another kind")))  # fmt: skip
    entered.sort(key=lambda each: each[0])
    return opened + [step for _, step in entered]


def join_mounts(spec: "dict[str, Any]") -> "list[Step]":
    """Inside enters the mount namespace that an engine names."""
    return _join_inside(spec, "mount", "what follows is mounted in it")


def _join_inside(spec: "dict[str, Any]", kind: str, note: str) -> "list[Step]":
    return [Step("join", INSIDE, f"linux.namespaces[{index}]", fd=slots.FIRST_JOINED + index, n1=FLAGS[kind],
                 what=f"join the {kind} namespace {each['path']}", note=note)
            for index, each in enumerate(spec["linux"]["namespaces"])
            if is_bundle(spec) and each["type"] == kind and "path" in each]  # fmt: skip


def clone(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The child, in those namespaces that must exist first.  The others it makes itself, so that the kernel builds the
    network namespace while dolium-init prepares the rootfs."""
    types = wanted(spec) & {"mount", "pid", "time", "user"}
    before = _set_clocks(spec)
    if before:
        types.discard("time")
    if facts.makes_users:
        types.discard("user")  # who is not root has made it already
    born = limits.is_born_inside(spec, facts) and not is_moved(spec)
    note = "born in its cgroup, never unlimited" if born else "the first process of the container"
    steps = [*before, Step("clone", OUTSIDE, "linux.namespaces", n1=flags(types), fd=slots.CGROUP if born else -1,
                  what=f"clone3 {names(types)}", note=note)]  # fmt: skip
    if "user" in types:
        uids, gids = spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]
        first = uids[0]
        steps.append(Step("map_ids", OUTSIDE, "linux.uidMappings", path=_map(uids), path2=_map(gids), n1=1,
                          what=f"uid_map {first['containerID']} -> {first['hostID']}",
                          note=f"root inside is uid {first['hostID']} outside"))  # fmt: skip
        steps.append(Step("open_ns", OUTSIDE, "linux.uidMappings", path="ns/user", out=slots.USERS,
                          what="open /proc/PID/ns/user", note="to map the ids of mounts through"))  # fmt: skip
    if "limit" in spec["linux"]["resources"].get("memory", {}) and not is_bundle(spec):
        steps.append(Step("open_ns", OUTSIDE, "linux.resources.memory.limit", path="ns/mnt", out=slots.MOUNTS,
                          what="open /proc/PID/ns/mnt", note="held to count its files in tmpfs"))  # fmt: skip
    return steps


def _set_clocks(spec: "dict[str, Any]") -> "list[Step]":
    """Clocks are set before the first process is in the namespace, so outside makes it, and the child is born in it
    (time_namespaces(7))."""
    offsets = spec["linux"].get("timeOffsets")
    if not offsets or "time" not in wanted(spec):
        return []
    steps = [Step("unshare", OUTSIDE, "linux.timeOffsets", n1=FLAGS["time"], what="unshare time", note="the child's, not our own")]
    for clock, offset in offsets.items():
        value = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
        steps.append(Step("write", OUTSIDE, f"linux.timeOffsets.{clock}", path="/proc/self/timens_offsets", data=value.encode(),
                          what=f"timens_offsets: {value}", note="before anybody is in it"))  # fmt: skip
    return steps


def settle(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The child's first steps: forget the caller, become root of the namespace, enter the limits, make the rest."""
    steps = [
        forget(),
        Step("sync", BOTH, "linux.uidMappings", what="meet: the ids are mapped", note="inside waits for outside"),
        *score(spec),
        *label(spec, facts),
        *become_root(facts),
        Step("undumpable", INSIDE, "process", what="PR_SET_DUMPABLE 0", note="none may trace this helper"),
        *([] if is_moved(spec) else limits.enter(spec, facts)),
        # from within it nobody can be put into a group beyond its root (cgroups(7), "nsdelegate")
        *_join_inside(spec, "cgroup", "its own group is entered before"),
    ]
    types = wanted(spec) & {"cgroup", "ipc", "network", "uts"}
    if types:
        steps.append(Step("unshare", INSIDE, "linux.namespaces", n1=flags(types), what=f"unshare {names(types)}",
                          note="no view of the host's"))  # fmt: skip
    if spec["dolium"].get("keyring", True):
        steps += keyring()
    if spec.get("domainname"):
        name = encoded(spec["domainname"], "domainname")
        steps.append(call("domainname", "setdomainname", (name, len(name)), what=f"setdomainname {spec['domainname']}",
                          note="the NIS name, domainname(1)"))  # fmt: skip
    if spec.get("hostname"):
        steps.append(Step("hostname", INSIDE, "hostname", path=spec["hostname"], what=f"sethostname {spec['hostname']}",
                          note="the host keeps its own name"))  # fmt: skip
    return steps


def forget() -> Step:
    """Signals, umask, session and CPUs as if nobody had started it."""
    return Step("reset", INSIDE, "process", what="reset of signals, umask, session", note="nothing of the caller's is kept")


def score(spec: "dict[str, Any]") -> "list[Step]":
    """Who dies first for want of memory; while the process's own files in /proc can be written."""
    wanted = spec["process"].get("oomScoreAdj")
    if wanted is None:
        return []
    return [Step("write", INSIDE, "process.oomScoreAdj", path="/proc/self/oom_score_adj", data=b"%d" % wanted,
                 what=f"oom_score_adj = {wanted}", note="who dies first for want of memory")]  # fmt: skip


def label(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The security module's label for the program, which exec takes up; while the process's own files in /proc are the host's
    (CVE-2023-28642, CVE-2025-52881).  Raises Unsupported where no module would look at it."""
    process, steps = spec["process"], []
    for key, module, text in (("apparmorProfile", "apparmor", "exec {}"), ("selinuxLabel", "selinux", "{}")):
        wanted = process.get(key)
        if not wanted or wanted == "unconfined" and module not in facts.labels:
            continue
        if module not in facts.labels:
            raise Unsupported(f"process.{key}", f"this kernel runs without {'AppArmor' if module == 'apparmor' else 'SELinux'}")
        path = "/proc/self/attr/apparmor/exec" if module == "apparmor" else "/proc/self/attr/exec"
        steps.append(Step("write", INSIDE, f"process.{key}", path=path, data=encoded(text.format(wanted), f"process.{key}"),
                          what=f"{module} label {wanted}", note="taken up at exec"))  # fmt: skip
    return steps


def become_root(facts: "Facts") -> "list[Step]":
    """Root of the container's own users, who until then is nobody among them."""
    if not facts.own_users:
        return []
    return [Step("become", INSIDE, "linux.uidMappings", n1=int(facts.one_id), what="setresuid 0",
                 note="root of its own user namespace")]  # fmt: skip


def keyring() -> "list[Step]":
    """keyctl(KEYCTL_JOIN_SESSION_KEYRING)"""
    return [Step("keyring", INSIDE, "process", accept=(38,), what="join a new session keyring",
                 note="the caller's keys stay the caller's")]  # fmt: skip


def flags(types: "set[str]") -> int:
    """The namespaces of these types as clone(2) has them."""
    return sum(FLAGS[each] for each in types)


def names(types: "set[str]") -> str:
    """The same as /proc/PID/ns calls them, for people."""
    return " ".join(SHORT.get(each, each) for each in sorted(types))


def _map(mappings: "list[dict[str, int]]") -> str:
    return "".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mappings)
