"""Steps that decide who the process is and what it may do: capabilities, ids, no_new_privs."""

from dolium.core.wire import INSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan.capabilities import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts


def bits(names: "list[str]", path: str) -> int:
    """The capabilities as a bit set, capabilities(7).  Raises SpecError for a name that no kernel knows."""
    total = 0
    for index, name in enumerate(names):
        if name not in NUMBERS:
            raise SpecError(f"{path}[{index}]", f"no such capability: {name}")
        total |= 1 << NUMBERS[name]
    return total


def bounds(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The bounding set: what not even a setuid program can get back."""
    wanted = spec["process"]["capabilities"]["bounding"]
    keep = bits(wanted, "process.capabilities.bounding")
    missing = keep & ~facts.capabilities
    if missing and not facts.own_users:  # a new user namespace begins with all of them
        names = ", ".join(name for name, number in NUMBERS.items() if missing >> number & 1)
        raise Unsupported(f"--cap-add {names}", "dolium itself has not got it and cannot give it",
                          hint="start dolium with it, or let the container have its own users (--userns auto)")  # fmt: skip
    return [Step("bounds", INSIDE, "process.capabilities.bounding", n1=keep,
                 what=f"keep {len(wanted)} of {len(NUMBERS)} capabilities", note="no raw disk, no modules, no clock")]  # fmt: skip


def user(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """setgroups(2), setresgid(2), setresuid(2)."""
    who = spec["process"]["user"]
    if facts.rootless and (who["uid"] or who["gid"] or who.get("additionalGids")):
        raise Unsupported(f"--user {who['uid']}:{who['gid']}", "a plain user's container has one user only, its root (you)",
                          hint="leave --user out, or run dolium as root")  # fmt: skip
    groups = who.get("additionalGids", [])
    for key, ids in ("uidMappings", (who["uid"],)), ("gidMappings", (who["gid"], *groups)):
        last = max((each["containerID"] + each["size"] for each in spec["linux"].get(key, ())), default=1 << 32) - 1
        if facts.own_users and not facts.rootless and max(ids) > last:
            raise Unsupported(f"--user {who['uid']}:{who['gid']}", f"the container has only the ids from 0 to {last}",
                              hint="choose another, or let it share the host's users: --userns host")  # fmt: skip
    data = b"".join(each.to_bytes(4, "little") for each in groups)
    return [Step("become", INSIDE, "process.user", n1=int(facts.rootless), n2=who["gid"], n3=who["uid"], data=data,
                 what=f"setresuid {who['uid']}, setresgid {who['gid']}",
                 note=f"and {len(groups)} more groups" if groups else "and no other group")]  # fmt: skip


def capabilities(spec: "dict[str, Any]") -> "list[Step]":
    """The sets of the process itself; who is not root has none, as with Docker."""
    sets = spec["process"]["capabilities"]
    values = {name: bits(sets.get(name, []), f"process.capabilities.{name}") for name in ("effective", "inheritable", "ambient")}
    return [Step("caps", INSIDE, "process.capabilities.effective", n1=values["effective"], n2=values["inheritable"],
                 n3=values["ambient"], what=f"hold {len(sets.get('effective', []))} capabilities",
                 note="inherits none, passes none on")]  # fmt: skip


def no_new_privileges(spec: "dict[str, Any]") -> "list[Step]":
    """prctl(PR_SET_NO_NEW_PRIVS)"""
    if not spec["process"].get("noNewPrivileges"):
        return []
    return [Step("no_new_privs", INSIDE, "process.noNewPrivileges", what="no_new_privs", note="setuid programs give nothing")]
