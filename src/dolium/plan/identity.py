"""Steps that decide who the process is and what it may do: capabilities, ids, no_new_privs."""

from dolium.core.wire import INSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan.capabilities import NUMBERS
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts


PR_SET_KEEPCAPS = 8


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
    if is_bundle(spec):
        keep = _known(wanted, facts)
        return [Step("bounds", INSIDE, "process.capabilities.bounding", n1=keep, note="of those that it could get back",
                     what=f"keep {keep.bit_count()} of {len(NUMBERS)} capabilities")]  # fmt: skip
    keep = bits(wanted, "process.capabilities.bounding")
    missing = keep & ~facts.capabilities
    if missing and not facts.own_users:  # a new user namespace begins with all of them
        names = ", ".join(name for name, number in NUMBERS.items() if missing >> number & 1)
        raise Unsupported(f"--cap-add {names}", "dolium itself has not got it and cannot give it",
                          hint="start dolium with it, or let the container have its own users (--userns auto)")  # fmt: skip
    return [Step("bounds", INSIDE, "process.capabilities.bounding", n1=keep,
                 what=f"keep {len(wanted)} of {len(NUMBERS)} capabilities", note="no raw disk, no modules, no clock")]  # fmt: skip


def _known(names: "list[str]", facts: "Facts") -> int:
    """As runc and crun have it: a capability that this kernel has not, or that the caller cannot give, is left out."""
    held = sum(1 << NUMBERS[name] for name in {*names} if name in NUMBERS)
    return held if facts.own_users else held & facts.capabilities


def left_out(spec: "dict[str, Any]", facts: "Facts") -> "list[str]":
    """The capabilities of an engine's config that are left out, in order: the specification wants a warning for each."""
    names = {name for held in spec["process"]["capabilities"].values() for name in held}
    return sorted(name for name in names if not _known([name], facts))


def user(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """setgroups(2), setresgid(2), setresuid(2)."""
    who = spec["process"]["user"]
    if facts.one_id and (who["uid"] or who["gid"] or who.get("additionalGids")):
        raise Unsupported(f"--user {who['uid']}:{who['gid']}", "a plain user's container has one user only, its root (you)",
                          hint="--user 0 is this one, whatever the image says; else run dolium as root")  # fmt: skip
    groups = [*dict.fromkeys(who.get("additionalGids", ()))]  # Docker names one twice
    for key, ids in ("uidMappings", (who["uid"],)), ("gidMappings", (who["gid"], *groups)):
        if is_bundle(spec):
            _must_be_mapped(spec, key, ids)
            continue
        last = max((each["containerID"] + each["size"] for each in spec["linux"].get(key, ())), default=1 << 32) - 1
        if facts.own_users and not facts.rootless and max(ids) > last:
            raise Unsupported(f"--user {who['uid']}:{who['gid']}", f"the container has only the ids from 0 to {last}",
                              hint="choose another, or let it share the host's users: --userns host")  # fmt: skip
    data = b"".join(each.to_bytes(4, "little") for each in groups)
    steps = []
    if is_bundle(spec) and who["uid"] and not facts.one_id:
        from dolium.plan.onecall import call

        steps.append(call("process.user", "prctl", (PR_SET_KEEPCAPS, 1), what="PR_SET_KEEPCAPS", note="until they are set, next"))
    return [*steps, Step("become", INSIDE, "process.user", n1=int(facts.one_id), n2=who["gid"], n3=who["uid"], data=data,
                 what=f"setresuid {who['uid']}, setresgid {who['gid']}",
                 note=f"and {len(groups)} more groups" if groups else "and no other group")]  # fmt: skip


def _must_be_mapped(spec: "dict[str, Any]", key: str, ids: "tuple[int, ...]") -> None:
    mappings = spec["linux"][key]
    for number in ids:
        if mappings and not any(each["containerID"] <= number < each["containerID"] + each["size"] for each in mappings):
            raise SpecError("process.user", f"{number} is not among the ids of linux.{key}")


def capabilities(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The sets of the process itself; who is not root has none, as with Docker."""
    sets = spec["process"]["capabilities"]
    if is_bundle(spec):
        held = {name: _known(sets[name], facts) for name in sets}
        if held["effective"] & ~held["permitted"]:  # capset(2) would refuse it, as runc and crun say
            raise SpecError("process.capabilities.effective", "has one that is not among the permitted")
        ambient = held["ambient"] & held["permitted"] & held["inheritable"]
        return [
            Step(
                "caps",
                INSIDE,
                "process.capabilities.effective",
                n1=held["effective"],
                n2=held["inheritable"],
                n3=ambient,
                data=held["permitted"].to_bytes(8, "little"),
                note=f"{held['permitted'].bit_count()} permitted",
                what=f"hold {held['effective'].bit_count()} capabilities",
            )
        ]
    values = {name: bits(sets.get(name, []), f"process.capabilities.{name}") for name in ("effective", "inheritable", "ambient")}
    return [Step("caps", INSIDE, "process.capabilities.effective", n1=values["effective"], n2=values["inheritable"],
                 n3=values["ambient"], what=f"hold {len(sets.get('effective', []))} capabilities",
                 note="inherits none, passes none on")]  # fmt: skip


def no_new_privileges(spec: "dict[str, Any]") -> "list[Step]":
    """prctl(PR_SET_NO_NEW_PRIVS)"""
    if not spec["process"].get("noNewPrivileges"):
        return []
    return [Step("no_new_privs", INSIDE, "process.noNewPrivileges", what="no_new_privs", note="setuid programs give nothing")]
