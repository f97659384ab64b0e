"""OCI containers of who is not root of the host: ids by newuidmap(1), groups only where they have been given to him."""

import os

from dolium.errors import DoliumError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts

PATHS = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")
SHOWN = 300


def place(spec: "dict[str, Any]", facts: "Facts", identity: str) -> None:
    """Where a container has its group whose config names none: in the caller's own, if he may divide that."""
    own, top = facts.controllers.get("unified"), facts.hierarchies.get("unified")
    if own and top:
        spec["linux"]["cgroupsPath"] = f"{own.parent.removeprefix(top.parent)}/{identity}"


def of_groups(spec: "dict[str, Any]", facts: "Facts") -> "Facts":
    """The facts with those cgroup hierarchies only in which this user can make the container's groups, or has made them.

    What a limit needs and is not among them is then an error of the planner's; without limits a container has no groups."""
    found = facts.with_ids(facts.id_base)
    path = spec["linux"]["cgroupsPath"]
    found.hierarchies = {
        name: hierarchy for name, hierarchy in facts.hierarchies.items() if _may_make(hierarchy.parent, hierarchy.parent + path)
    }
    return found


def _may_make(top: str, path: str) -> bool:
    while not os.path.isdir(path) and len(path) > len(top):
        path = os.path.dirname(path)
    return os.access(path, os.W_OK | os.X_OK, effective_ids=True)


def map_users(step: "Step", pid: int) -> None:
    """Map the ids of the user namespace that `pid` is in.  Raises Unsupported and DoliumError."""
    for name, lines in (("newuidmap", step.path), ("newgidmap", step.path2)):
        program = next((f"{each}/{name}" for each in PATHS if os.access(f"{each}/{name}", os.X_OK)), "")
        if not program:
            raise Unsupported(step.why, f"more than your own id takes {name}(1), which is not there", hint="apt install uidmap")
        _run([program, str(pid), *lines.split()], step.why)


def _run(argv: "list[str]", why: str) -> None:
    words = os.memfd_create("words", os.MFD_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, words, 1), (os.POSIX_SPAWN_DUP2, words, 2)]
        pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code:
            said = " ".join(os.pread(words, SHOWN, 0).decode("utf-8", "replace").split())
            raise DoliumError(f"{why}: {said or f'{argv[0]} ended with {code}'}",
                              hint="which ids are yours is in /etc/subuid and /etc/subgid")  # fmt: skip
    finally:
        os.close(words)
