"""The plan of joining: everything that happens when one more process is started in a container that runs, in order."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, strings
from dolium.plan import devices, filter, identity, limits, namespaces, process, program, slots, terminal
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

O_CREAT, O_PATH, O_DIRECTORY = 0o100, 0o10000000, 0o200000
AT_BIRTH = ("mmap", "madvise", "close_range", "clone", "exit_group", "setsid")
IN_BETWEEN = ("prctl", "setgroups", "setresgid", "setresuid", "capset", "umask", "dup2")
"""System calls that are made between the load of a filter, without and with privileges, and the one who decides for it."""
TO_A_DIRECTORY = ("openat2", "fchdir", "getcwd")
"""More of them, where root was refused the working directory."""


def plan(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Every step of both actors.  The order is the design; each line says why it sits there.

    `spec` is the config that the container was started with, but for `process`; `facts` are of this host, with the ids and
    the groups that the container has.  dolium-init is given a pidfd of its first process.

    Nothing of this can be seen in the container before `born`: until then the process is in the host's PID namespace, and
    then it is the program but for its name (CVE-2016-9962).  Pure.  Raises SpecError and Unsupported.
    """
    steps: list[Step] = []

    def chapter(name: str, *groups: "list[Step]") -> None:
        for group in groups:
            for step in group:
                step.chapter = name
                steps.append(step)

    chapter(
        "LIMITS",
        limits.doors(spec, facts),
    )  # fmt: skip
    chapter(
        "NAMESPACES",
        devices.pipes(spec, facts),              # by the host's root, to whom they belong
        [_hidden(OUTSIDE)],                      # so the child is born so
        _child(spec, facts),
        [namespaces.forget()],
        _attach(spec),
        process.affinity(spec, "initial"),
        namespaces.label(spec, facts),
        namespaces.score(spec),                  # by the host's /proc
        limits.enter(spec, facts),               # limited before it has anything of the container's
        [_join(spec, facts)],
        namespaces.become_root(facts),
        namespaces.keyring() if spec["dolium"].get("keyring", True) else [],
        [_root()],
        program.home(spec),
        terminal.make(spec),                     # as the container's root, in the devpts that it has now
        terminal.hand_over(spec),
    )  # fmt: skip
    moment = filter.moment(spec)
    again = program.directory_again(spec)
    between = AT_BIRTH if moment == filter.CREATED else AT_BIRTH + IN_BETWEEN + (TO_A_DIRECTORY if again else ())
    chapter(
        "SECURITY",                              # as in plan/build.py
        process.attributes(spec),
        process.affinity(spec, "final"),
        program.directory(spec),
        limits.rlimits(spec, facts),
        filter.load(spec, facts) if moment == filter.PRIVILEGED else [],
        identity.bounds(spec, facts),
        identity.user(spec, facts),
        again,
        identity.capabilities(spec, facts),
        identity.no_new_privileges(spec),
        [program.umask(spec)],
        terminal.take(spec),
        [_hidden(INSIDE)],                       # a change of ids may have undone it, prctl(2)
        filter.load(spec, facts) if moment == filter.CREATED else [],
        [_born(spec)],                           # nothing is left to give up
        filter.hand_over(spec, facts, between, born=True),  # with the process that it is about
        [program.die_with()] if is_watched(spec) else [],
        terminal.control(spec),                  # a session of its own begins with `born`
        process.preserve(spec),
        filter.load(spec, facts) if moment == filter.LAST else [],
    )  # fmt: skip
    chapter("EXEC", program.run(spec), [_keep(spec)] if is_watched(spec) else [program.leave()])
    return steps


def reading(facts: "Facts", path: str, cap: int) -> "list[Step]":
    """Read a file of at most `cap` bytes as the container's root would see it, without any process in the container."""
    return [
        *_visit(facts, "process.user"),
        Step("read_file", OUTSIDE, "process.user", fd=slots.ROOT, path=path, data=bytes(cap), accept=(2, 20), what=f"read {path}"),
    ]


def opening(facts: "Facts", path: str, flags: int, mode: int) -> "list[Step]":
    """Open a file as the container's root, and offer the descriptor to the owner.  With a `mode` (of what is made) the
    directories above it are made, where they are missing, and with O_DIRECTORY the last one, too."""
    steps = _visit(facts, "files")
    if facts.own_users:
        steps.append(Step("become", OUTSIDE, "files", n1=int(facts.one_id), what="setresuid 0", note="root of the container"))
    above = path if flags & O_DIRECTORY else path.rpartition("/")[0]
    if mode and above:
        steps.append(Step("mkdir", OUTSIDE, "files", fd=slots.ROOT, data=strings(above, "755", why="path"), n2=-1,
                          what=f"mkdir {above}"))  # fmt: skip
    steps.append(Step("open", OUTSIDE, "files", fd=slots.ROOT, path=path, n1=flags, n2=mode if flags & O_CREAT else 0,
                      out=slots.FILE, what=f"open {path}"))  # fmt: skip
    return [*steps, Step("offer", OUTSIDE, "files", fd=slots.FILE, what="hand it to the owner")]


def _visit(facts: "Facts", why: str) -> "list[Step]":
    types = {"mount", "user"} if facts.own_users else {"mount"}
    return [
        Step("join", OUTSIDE, why, fd=slots.CONTAINER, n1=namespaces.flags(types),
             what=f"join its namespaces {namespaces.names(types)}"),
        Step("open", OUTSIDE, why, path="/", n1=O_PATH | O_DIRECTORY, out=slots.ROOT, what="open its /"),
    ]  # fmt: skip


def _hidden(actor: int) -> Step:
    return Step("undumpable", actor, "process", what="PR_SET_DUMPABLE 0", note="none may trace this helper")


def _child(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    born = limits.is_born_inside(spec, facts) and not _attach(spec)
    return [Step("clone", OUTSIDE, "process", fd=slots.CGROUP if born else -1, what="clone3",
                 note="in its cgroup, unseen by those in it" if born else "unseen by those in the container")]  # fmt: skip


def _attach(spec: "dict[str, Any]") -> "list[Step]":
    """A plain user may not move a process out of the groups of a login into those of the user's own systemd, which can."""
    unit, why = spec["dolium"].get("unit"), "linux.cgroupsPath"
    if not unit or not unit["user"]:
        return []
    return [
        Step("ask", OUTSIDE, why, what="meet Python", note="which asks systemd"),
        Step("attach", HOST, why, path=unit["name"], path2=spec["dolium"].get("inner", ""),
             what=f"systemd: move it into {unit['name']}", note="from wherever you have called"),
        Step("sync", BOTH, why, what="meet: it is in its group", note="inside waits for outside"),
    ]  # fmt: skip


def _join(spec: "dict[str, Any]", facts: "Facts") -> Step:
    """All at once, so that the rights in all of them come from the one user namespace."""
    types = namespaces.wanted(spec) | namespaces.joined(spec) | ({"user"} if facts.own_users else set())
    return Step("join", INSIDE, "linux.namespaces", fd=slots.CONTAINER, n1=namespaces.flags(types),
                what=f"join {len(types)} namespaces at once", note=namespaces.names(types))  # fmt: skip


def _root() -> Step:
    return Step("open", INSIDE, "root.path", path="/", n1=O_PATH | O_DIRECTORY, out=slots.ROOT, what="open /",
                note="the container's by now")  # fmt: skip


def is_watched(spec: "dict[str, Any]") -> bool:
    """Whether dolium-keep waits for the process; one that an engine starts detached is left to it."""
    return not (is_bundle(spec) and spec["dolium"]["watch"].get("detached"))


def _born(spec: "dict[str, Any]") -> Step:
    return Step(
        "born",
        BOTH,
        "process",
        n2=spec["dolium"].get("preserve", 0),
        what="clone again, then end",
        note="with only what the program has",
    )


def _keep(spec: "dict[str, Any]") -> Step:
    """dolium-keep waits for this process; the container has one of its own."""
    detached = spec["dolium"]["watch"].get("detached")
    words = ["announce", "detached"] if detached else ["announce"]
    words += terminal.words(spec)
    return Step("keep", OUTSIDE, "process", fd=slots.KEEP, data=strings(*words), what="become dolium-keep",
                note="waits; stays when you leave" if detached else "waits; ends it when you die")  # fmt: skip
