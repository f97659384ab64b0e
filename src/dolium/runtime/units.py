"""The unit of a container whose group systemd makes: begun around its first process, changed, stopped (decisions/0036)."""

import os

from dolium.errors import DoliumError, Unsupported
from dolium.plan import systemd, unit_properties
from dolium.runtime import cgroup
from dolium.runtime.bus import Bus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.unit_properties import Property

BOOTED = "/run/systemd/system"
"""There where systemd is the init, sd_booted(3); it belongs to who is root for it."""
INSTEAD = "choose the cgroupfs driver: cgroup_manager=cgroupfs, native.cgroupdriver=cgroupfs"


def is_users(uid: int) -> bool:
    """Whether the caller's own systemd is asked: by who is not root, also as root of a user namespace inside which that of the
    host belongs to nobody."""
    return uid != 0 or os.stat(BOOTED).st_uid != 0


def settle(spec: "dict[str, Any]", path: str, identity: str) -> None:
    """Write into the spec which unit `path` (linux.cgroupsPath as it is given) asks for, and where its group will be.

    Raises SpecError, Unsupported, DoliumError."""
    if not os.path.isdir(BOOTED):
        wanted = systemd.unit(path, user=os.geteuid() != 0, identity=identity)
        raise Unsupported(f"--systemd-cgroup, {wanted.name} in {wanted.slice}", "systemd is not running on this host", hint=INSTEAD)
    user = is_users(os.geteuid())
    wanted = systemd.unit(path, user=user, identity=identity)
    bus = _reach(wanted.name, user)
    try:
        base, version = bus.property("ControlGroup"), bus.property("Version")
    finally:
        bus.close()
    systemd.settle(spec, wanted, identity, base=base.rstrip("/"), version=_number(version), user=user)


def _number(version: str) -> int:
    """`252.38-1~deb12u1`, `v255`"""
    digits = ""
    for letter in version.lstrip("v"):
        if not letter.isdecimal():
            break
        digits += letter
    return int(digits or "0")


def _reach(name: str, user: bool) -> Bus:
    try:
        return Bus(user)
    except DoliumError as problem:
        how = "log in, or: loginctl enable-linger, and set XDG_RUNTIME_DIR" if user else INSTEAD
        raise Unsupported(f"--systemd-cgroup, {name}", str(problem), hint=how) from None


class _Talk:
    """With it: the systemd of a unit.  An error then begins with what it has not done."""

    __slots__ = ("_unit", "_deed", "_bus")

    def __init__(self, unit: "dict[str, Any]", deed: str) -> None:
        self._unit = unit
        self._deed = deed

    def __enter__(self) -> Bus:
        self._bus = _reach(self._unit["name"], self._unit["user"])
        return self._bus

    def __exit__(self, kind: object, problem: "BaseException | None", trace: object) -> None:
        self._bus.close()
        if isinstance(problem, DoliumError):
            problem.message = f"systemd has not {self._deed}: {problem}"


def start(unit: "dict[str, Any]", pid: int, properties: "list[Property]", group: str) -> None:
    """Have systemd make the unit with that process in it; `group` is where that is expected to be, below a mount of cgroups.
    A unit of this name that has failed before is forgotten first.  Raises DoliumError."""
    name, found = unit["name"], None
    told = [(each, (kind, value)) for each, kind, value in [*properties, ("PIDs", "au", [pid])]]
    try:
        with _Talk(unit, f"made `{name}`") as bus:
            bus.subscribe()
            for accept in (("UnitExists",), ()):
                found = bus.manage("StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "fail", told, []), accept)
                if found:
                    break
                bus.manage("ResetFailedUnit", "s", (name,), ("NoSuchUnit",))
            assert found
            result = bus.job(found[0])
            if result != "done":
                raise DoliumError(f"its job has ended with `{result}`", hint=f"systemctl status {name}")
            if group not in where(pid):
                raise DoliumError(f"its processes are not in `{group}`, but in {' '.join(sorted(where(pid)))}")
    except DoliumError:
        if found:  # else one of this name may be another's
            try:
                stop(unit)
            except DoliumError:  # what is the matter is known already
                pass
        raise


def where(pid: int) -> "set[str]":
    """In which groups a process is, of all hierarchies, proc_pid_cgroup(5).  Raises OSError."""
    return {line.split(":", 2)[2] for line in cgroup.read(f"/proc/{pid}/cgroup").splitlines()}


def enter(pid: int, group: str) -> None:
    """Move a process into a group of cgroup v1, unless it is there.  Raises OSError."""
    if str(pid) not in cgroup.read(f"{group}/cgroup.procs").split():
        cgroup.write(f"{group}/cgroup.procs", b"%d" % pid)


def attach(unit: "dict[str, Any]", pid: int, inner: str = "") -> None:
    """Have systemd move a process into the unit, or into a group below it.  Raises DoliumError."""
    with _Talk(unit, f"moved the process into `{unit['name']}`") as bus:
        bus.manage("AttachProcessesToUnit", "ssau", (unit["name"], f"/{inner.strip('/')}", [pid]))


def change(unit: "dict[str, Any]", properties: "list[Property]") -> None:
    """Other properties for one that is there, until it ends.  Raises DoliumError."""
    if not properties:
        return
    words = ", ".join(unit_properties.show(each) for each in properties)
    with _Talk(unit, f"changed `{unit['name']}` ({words})") as bus:
        told = [(each, (kind, value)) for each, kind, value in properties]
        bus.manage("SetUnitProperties", "sba(sv)", (unit["name"], True, told))


def stop(unit: "dict[str, Any]") -> None:
    """Stop the unit and have it forgotten; nothing where there is none.  Raises DoliumError."""
    with _Talk(unit, f"stopped `{unit['name']}`") as bus:
        bus.subscribe()
        found = bus.manage("StopUnit", "ss", (unit["name"], "replace"), ("NoSuchUnit",))
        if found:
            bus.job(found[0])
        bus.manage("ResetFailedUnit", "s", (unit["name"],), ("NoSuchUnit",))
