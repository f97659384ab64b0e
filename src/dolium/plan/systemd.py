"""The cgroup driver `systemd`: linux.cgroupsPath names a unit, SLICE:PREFIX:NAME, as runc and crun have it, not a path.  Pure."""

from dolium.errors import SpecError

LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
"""systemd.unit(5); `:` cannot be in one here, it divides the three."""
LONGEST = 255


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
    if not name.endswith(".slice"):
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
