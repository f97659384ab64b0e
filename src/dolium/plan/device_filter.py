"""Which devices a container may make, read and write: OCI rules, as cgroup v1 takes them and as a program for cgroup v2.

    linux.resources.devices ──read──► rules ──┬─ entries ──► devices.deny, devices.allow   (cgroup v1, written by the host)
                                              └─ compile ──► BPF_PROG_TYPE_CGROUP_DEVICE   (cgroup v2, attached by dolium-init)

Of a request (make, read, write, or read and write at once) each part is decided by the last rule that names the device and
that part; the first rule is that nothing is allowed.  Two lots of rules are added.  Any node may be made: one that cannot be
opened does no harm (runc, too, has that last).  And what every program expects can be used, by rules that come right after
the last one of the config that refuses everything, so that others can still narrow them.

Sources: runtime-spec 1.3 config-linux.md "Allowed Device list", Documentation/admin-guide/cgroup-v1/devices.rst,
security/device_cgroup.c, instruction-set.rst of BPF.
"""

from _struct import Struct

from dolium.core.wire import HOST, OUTSIDE, Step, one
from dolium.errors import SpecError, Unsupported
from dolium.plan import slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MKNOD, READ, WRITE = 1, 2, 4
"""BPF_DEVCG_ACC_*"""
ALL = MKNOD | READ | WRITE
LETTERS = (("r", READ), ("w", WRITE), ("m", MKNOD))
KINDS = {"b": 1, "c": 2}
"""BPF_DEVCG_DEV_*"""
ANY = -1

USUAL = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, ANY))
"""null, zero, full, random, urandom, tty, ptmx and the terminals behind it"""


class Rule:
    """One rule: `kind` is `b` or `c`, `major` and `minor` a number or ANY, `access` bits of ALL."""

    __slots__ = ("allow", "kind", "major", "minor", "access")

    def __init__(self, allow: bool, kind: str, major: int, minor: int, access: int) -> None:
        self.allow = allow
        self.kind = kind
        self.major = major
        self.minor = minor
        self.access = access

    @property
    def is_narrow(self) -> bool:
        """Whether it says nothing of some devices of its kind, or of some uses of them."""
        return self.access != ALL or (self.major, self.minor) != (ANY, ANY)


def entries(rules: "list[dict[str, Any]]", directory: str) -> "list[Step]":
    """cgroup v1: what the host writes into the container's group.  Raises SpecError and Unsupported."""
    lines = lists(read(rules))
    steps = [Step("set_limit", HOST, "linux.resources.devices", path=f"{directory}/{file}", data=text.encode(),
                  what=f"{file} = {text}", note=_words(text)) for file, text in lines]  # fmt: skip
    return one(steps, f"then {len(steps) - 1} exceptions from it")


def attach(rules: "list[dict[str, Any]]") -> "list[Step]":
    """cgroup v2: dolium-init loads the program and attaches it.  Raises SpecError."""
    program = compile(read(rules))
    return [Step("device_filter", OUTSIDE, "linux.resources.devices", fd=slots.CGROUP, data=program,
                 what=f"device filter, {len(program) // 8} instructions", note="all other devices: EPERM")]  # fmt: skip


def _words(text: str) -> str:
    """An entry of v1 for people."""
    if text == "a":
        return "all devices"
    kind, number, access = text.split()
    which = {"b": "block", "c": "character"}[kind]
    return f"{which} devices, {access}" if number == "*:*" else f"{which} {number}, {access}"


# -- read ------------------------------------------------------------------------------------------------------------


def read(rules: "list[dict[str, Any]]") -> "list[Rule]":
    """The rules of a config, and the usual ones.  Raises SpecError."""
    found: list[Rule] = []
    begun = 0
    for index, each in enumerate(rules):
        some = _read(each, f"linux.resources.devices[{index}]")
        found += some
        if len(some) == 2 and not any(rule.allow or rule.is_narrow for rule in some):
            begun = len(found)
    usual = [Rule(True, "c", major, minor, ALL) for major, minor in USUAL]
    making = [Rule(True, kind, ANY, ANY, MKNOD) for kind in KINDS]
    return [*found[:begun], *usual, *found[begun:], *making]


def _read(rule: "dict[str, Any]", path: str) -> "list[Rule]":
    """One rule; one of all types becomes two."""
    if not isinstance(rule, dict):
        raise SpecError(path, "is not an object")
    allow, kind = rule.get("allow", False), rule.get("type") or "a"
    if not isinstance(allow, bool):
        raise SpecError(f"{path}.allow", "is neither true nor false")
    if kind not in ("a", "b", "c"):
        raise SpecError(f"{path}.type", f"expected a, b or c, got {kind!r}")
    major, minor = _number(rule, "major", path), _number(rule, "minor", path)
    access = _access(rule.get("access") or "rwm", path)
    return [Rule(allow, each, major, minor, access) for each in ("b", "c") if kind in ("a", each)]


def _number(rule: "dict[str, Any]", name: str, path: str) -> int:
    value = rule.get(name)
    if value is None:
        return ANY
    if isinstance(value, bool) or not isinstance(value, int) or not ANY <= value < 1 << 32:
        raise SpecError(f"{path}.{name}", f"expected a number from 0 to {(1 << 32) - 1}, or -1 for all, got {value!r}")
    return value


def _access(text: object, path: str) -> int:
    bits = dict(LETTERS)
    if not isinstance(text, str) or not {*text} <= {*bits}:
        raise SpecError(f"{path}.access", f"expected letters out of rwm, got {text!r}")
    return sum(bits[each] for each in {*text})


# -- cgroup v1 -------------------------------------------------------------------------------------------------------
#
# A group has one answer for all devices and a list of exceptions from it.  An exception cannot be narrowed again, so a
# rule that takes a part out of a wider one cannot be said there.


def lists(rules: "list[Rule]") -> "list[tuple[str, str]]":
    """(file, what to write into it) in order.  Raises Unsupported for what v1 cannot say."""
    states = {kind: _state([each for each in rules if each.kind == kind]) for kind in KINDS}
    allowed = all(allow for allow, _ in states.values())
    found = [("devices.allow" if allowed else "devices.deny", "a")]
    file = "devices.deny" if allowed else "devices.allow"
    for kind, (allow, exceptions) in states.items():
        if allow and not allowed:
            if exceptions:
                raise _inexpressible()
            exceptions = {(ANY, ANY): ALL}
        for numbers, access in sorted(exceptions.items()):
            if access:
                shown = ":".join("*" if each == ANY else str(each) for each in numbers)
                found.append((file, f"{kind} {shown} {''.join(letter for letter, bit in LETTERS if access & bit)}"))
    return found


def _state(rules: "list[Rule]") -> "tuple[bool, dict[tuple[int, int], int]]":
    """The answer for the devices of one kind, and the exceptions from it."""
    answer = False
    exceptions: dict[tuple[int, int], int] = {}
    for rule in rules:
        numbers = (rule.major, rule.minor)
        if not rule.is_narrow:
            answer, exceptions = rule.allow, {}
        elif rule.allow != answer:
            exceptions[numbers] = exceptions.get(numbers, 0) | rule.access
        else:
            for each, access in exceptions.items():
                common = _common(numbers, each)
                if common == each:
                    exceptions[each] = access & ~rule.access
                elif common and access & rule.access:
                    raise _inexpressible()
    # The kernel wants one exception that holds the whole of a request.
    every = {_common(one, other) for one in exceptions for other in exceptions} - {None}
    return answer, {each: _sum(exceptions, each) for each in every if each}


def _sum(exceptions: "dict[tuple[int, int], int]", numbers: "tuple[int, int]") -> int:
    found = 0
    for each, access in exceptions.items():
        if _common(each, numbers) == numbers:
            found |= access
    return found


def _common(one: "tuple[int, int]", other: "tuple[int, int]") -> "tuple[int, int] | None":
    """The devices that both name."""
    found = []
    for left, right in zip(one, other, strict=True):
        if left != right and ANY not in (left, right):
            return None
        found.append(right if left == ANY else left)
    return found[0], found[1]


def _inexpressible() -> Unsupported:
    return Unsupported("linux.resources.devices", "cgroup v1 cannot take a part out of what a wider rule says",
                       hint="write the rules so that none of them overlaps a wider one of the contrary")  # fmt: skip


# -- cgroup v2 -------------------------------------------------------------------------------------------------------

_INSTRUCTION = Struct("<BBhi")  # operation, registers (source << 4 | destination), offset, immediate
_LOAD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT = 0x61, 0xB4, 0xBC, 0x54, 0x74
_IF_EQUAL, _UNLESS_EQUAL, _EXIT = 0x16, 0x56, 0x95
_ANSWER, _CONTEXT, _KIND, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def compile(rules: "list[Rule]") -> bytes:
    """The program: an array of struct bpf_insn, 8 bytes each.

    The last rule is tried first.  What a rule allows is taken off what is still wanted, and when nothing is left, the
    answer is yes; a rule that refuses any of it, or the end, says no.
    """
    code = [
        _op(_LOAD, _KIND, _CONTEXT, 0),  # struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
        _op(_LOAD, _MAJOR, _CONTEXT, 4),
        _op(_LOAD, _MINOR, _CONTEXT, 8),
        _op(_MOVE_REGISTER, _WANTED, _KIND),
        _op(_SHIFT, _WANTED, value=16),
        _op(_AND, _KIND, value=0xFFFF),
    ]
    for rule in reversed(rules):
        body = [_op(_MOVE, _ANSWER, value=int(rule.allow)), _op(_EXIT)]
        if rule.access != ALL and rule.allow:
            body = [_op(_AND, _WANTED, value=~rule.access), _op(_UNLESS_EQUAL, _WANTED, offset=2), *body]
        elif rule.access != ALL:
            body = [_op(_MOVE_REGISTER, _ANSWER, _WANTED), _op(_AND, _ANSWER, value=rule.access),
                    _op(_IF_EQUAL, _ANSWER, offset=2), *body]  # fmt: skip
        tests = [(register, value) for register, value in ((_MINOR, rule.minor), (_MAJOR, rule.major)) if value != ANY]
        for register, value in (*tests, (_KIND, KINDS[rule.kind])):
            body.insert(0, _op(_UNLESS_EQUAL, register, offset=len(body), value=value))
        code += body
    return b"".join([*code, _op(_MOVE, _ANSWER), _op(_EXIT)])


def _op(operation: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return _INSTRUCTION.pack(operation, source << 4 | to, offset, value - (1 << 32) if value >= 1 << 31 else value)
