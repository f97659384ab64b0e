"""Plans that have been made, for containers that differ from an earlier one in name and command only.

The planner is pure, so what it said once holds: a program that starts many containers pays for each kind of them once
(docs/decisions/0009-a-plan-is-made-once.md).
"""

from marshal import dumps

from dolium.core import wire
from dolium.plan import build, limits, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts

MOST = 64
"""Plans kept; about 20 KiB each."""
ROOM = 8 << 20
"""Bytes left for a command that comes later: the kernel takes 6 MiB of words at most, execve(2).  They are a hole in a memfd."""
_kept: "dict[tuple[bytes, int, int], Planned]" = {}


class Planned:
    """A plan, encoded, without the command, and with the name of the container it was first made for."""

    __slots__ = ("name", "host", "groups", "encoded", "command", "held")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts") -> None:
        steps = build.plan(spec, facts)
        self.name: str = name(spec)
        self.host: list[Step] = [step for step in steps if step.actor == wire.HOST]
        self.groups: dict[str, str] = limits.groups(spec, facts)
        self.command: int = next(index for index, step in enumerate(wire.acting(steps)) if step.op in ("exec", "idle"))
        wire.acting(steps)[self.command].data = b""
        self.encoded: wire.Message = wire.encode(steps, {})
        self.held: tuple[Facts, Any] = (facts, spec["linux"].get("seccomp"))  # their addresses are part of the key

    def controllers(self, spec: "dict[str, Any]") -> "dict[str, str]":
        """The container's cgroup directories by controller, as limits.groups has them."""
        return {controller: self.renamed(path, spec) for controller, path in self.groups.items()}

    def renamed(self, text: str, spec: "dict[str, Any]") -> str:
        """What stands here of the first container, said of the one that `spec` describes."""
        return text.replace(self.name, name(spec))

    def message(self, spec: "dict[str, Any]", slots: "dict[int, int]") -> bytes:
        """The plan of the container that `spec` describes, as dolium-init reads it.  Raises SpecError."""
        names = (self.name.encode(), name(spec).encode())
        return wire.revise(self.encoded, slots, names, self.command, program.run(spec)[0], ROOM if program.is_held(spec) else 0)

    def late(self, spec: "dict[str, Any]") -> "tuple[tuple[int, bytes], tuple[int, bytes]]":
        """What is written into the plan of a held container when its command is known.  Raises SpecError."""
        steps = [program.await_command(spec)[-1], *program.run(spec)]
        return wire.late(self.encoded, self.command - 1, steps)


class Given:
    """Steps that are not the whole plan of a container; what Planned is for those that are."""

    __slots__ = ("host", "steps", "groups")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", steps: "list[Step]") -> None:
        self.steps: list[Step] = steps
        self.host: list[Step] = [step for step in steps if step.actor == wire.HOST]
        made = {step.path for step in self.host if step.op == "make_group"}
        self.groups: dict[str, str] = {controller: path for controller, path in limits.groups(spec, facts).items() if path in made}

    def controllers(self, _: "dict[str, Any]") -> "dict[str, str]":
        """The cgroup directories that these steps make, by controller."""
        return self.groups

    def renamed(self, text: str, _: "dict[str, Any]") -> str:
        """The text: these steps are for this container only."""
        return text

    def message(self, _: "dict[str, Any]", slots: "dict[int, int]") -> bytes:
        """The steps as dolium-init reads them."""
        return wire.encode(self.steps, slots).data


def find(spec: "dict[str, Any]", facts: "Facts") -> Planned:
    """The plan for a container like this; made now if it is the first.  Raises what build.plan does."""
    key = _key(spec, facts)
    found = _kept.get(key)
    if found is None:
        found = Planned(spec, facts)
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[key] = found
    return found


def name(spec: "dict[str, Any]") -> str:
    """The container's id, as its cgroups are named."""
    path: str = spec["linux"]["cgroupsPath"]
    return path.rpartition("/")[2]


def _key(spec: "dict[str, Any]", facts: "Facts") -> "tuple[bytes, int, int]":
    """All that the planner looks at, but the command and the name.  The facts are collected once for each user id of this
    process, and copies of them share the controllers; the profile is large, and the same object each time if it is ours."""
    process = {**spec["process"], "args": None, "env": None}
    linux = {**spec["linux"], "seccomp": None}
    asked = sorted(spec["dolium"]["asked"])
    rest = {**spec, "process": process, "linux": linux, "dolium": {**spec["dolium"], "asked": asked}}
    text = dumps(rest, 2)  # version 2 depends on values only, later ones also on who shares them
    own = name(spec).encode()
    return text.replace(own, bytes(len(own))), id(facts.controllers), id(spec["linux"].get("seccomp"))
