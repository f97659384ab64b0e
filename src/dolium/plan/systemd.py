"""The cgroup driver `systemd`: linux.cgroupsPath names a unit, SLICE:PREFIX:NAME, as runc and crun have it, not a path.  Pure."""

from dolium.core.wire import HOST, OUTSIDE, Step, one, strings
from dolium.errors import SpecError
from dolium.plan import limits, resources, unit_properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts
    from dolium.plan.unit_properties import Property

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
"""systemd.unit(5); `:` cannot be in one here, it divides the three."""
LONGEST = 255
NEWEST = 999
"""A version of systemd that can do everything: where none is asked."""


class Unit:
    """`name` of the unit, the `slice` that it is in, and the `path` of its group below a mount of cgroups."""

    __slots__ = ("name", "slice", "path")

    def __init__(self, name: str, slice: str) -> None:
        self.name = name
        self.slice = slice
        self.path = f"{directory(slice)}/{name}"


def unit(text: str, *, user: bool = False, identity: str = "") -> Unit:
    """What a config asks for; `user`: of the caller's own systemd.  Without any text it is a scope of the container's id.
    Raises SpecError."""
    parts = text.split(":") if text else ["", "dolium", identity]
    if len(parts) != 3:
        raise SpecError("linux.cgroupsPath", f"expected SLICE:PREFIX:NAME, as --systemd-cgroup has it, got `{text[:80]}`")
    slice, prefix, name = parts
    slice = slice or ("user.slice" if user else "system.slice")
    _check(slice, "slice")
    if not slice.endswith(".slice"):
        raise SpecError("linux.cgroupsPath", f"`{slice[:80]}` is no slice")
    if not name:
        raise SpecError("linux.cgroupsPath", f"names no unit: `{text[:80]}`")
    if name.endswith(".slice"):
        raise SpecError("linux.cgroupsPath", f"`{name[:80]}` is a slice, which holds no processes of its own")
    name = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    _check(name, "unit")
    return Unit(name, slice)


def _check(name: str, what: str) -> None:
    if len(name) > LONGEST or not {*name} <= LETTERS or name.startswith((".", "-")) and what == "slice" and name != "-.slice":
        raise SpecError("linux.cgroupsPath", f"`{name[:80]}` is no name of a {what}")


def directory(slice: str) -> str:
    """Where a slice lies: `a-b.slice` is in `a.slice`, systemd.slice(5).  Raises SpecError."""
    if slice == "-.slice":
        return ""
    parts = slice.removesuffix(".slice").split("-")
    if "" in parts:
        raise SpecError("linux.cgroupsPath", f"`{slice[:80]}` is no name of a slice")
    return "".join(f"/{'-'.join(parts[: number + 1])}.slice" for number in range(len(parts)))


def settle(spec: "dict[str, Any]", found: Unit, identity: str, *, base: str = "", version: int = NEWEST,
           user: bool = False) -> None:  # fmt: skip
    """Write into the spec what is asked for: the container's group, below `base`, the one of the systemd that makes it, and the
    unit, for that `version` of systemd; `user`: the caller's own."""
    spec["linux"]["cgroupsPath"] = base + found.path
    spec["dolium"]["unit"] = {"name": found.name, "slice": found.slice, "user": user, "version": version,
                              "description": f"dolium container {identity}"}  # fmt: skip


def properties(spec: "dict[str, Any]", facts: "Facts") -> "list[Property]":
    """What the unit is begun with.  Raises SpecError."""
    return unit_properties.scope(spec, facts.cgroup2_mounted, not facts.rootless)


def steps(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Around the first process, which waits meanwhile: systemd makes a group of no one, so it cannot be there before.  Then the
    groups that systemd does not make, and what it does not limit; all by the host, who alone may, once the container's users
    are other than its own."""
    unit, where = spec["dolium"]["unit"], limits.groups(spec, facts)
    told = [unit_properties.show(each) for each in properties(spec, facts)]
    why = "linux.cgroupsPath"
    v1 = sorted({path for name, path in where.items() if facts.hierarchies[name].version == 1})
    return [
        Step("ask", OUTSIDE, why, what="meet Python", note="its group is made with it inside"),
        Step("start_unit", HOST, why, path=unit["name"], path2=unit["slice"], data=strings(*told, why=why), n1=int(unit["user"]),
             what=f"systemd: {unit['name']}", note=f"a scope in {unit['slice']}"),
        *limits.cgroup(spec, facts),
        *one([Step("enter_group", HOST, why, path=path, what=f"move it into {path.removeprefix('/sys/fs/cgroup/')}",
                   note="where it is not yet") for path in v1], f"and {len(v1) - 1} more, where it is not yet"),
        *[Step("filter_devices", HOST, each.why, path=where["unified"], data=each.data, what=each.what, note=each.note)
          for each in resources.device_filter(spec, where, facts)],
    ]  # fmt: skip
