"""What a system call filter refuses: the filter that asks about it instead, the answer that stays the same, and in words
which flag would allow it, and at what price.  Pure.

A filter that asks (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)) stops a program at each call that it would have refused, until
who holds its listener says what to return.  Ours always says what the filter itself would have said, so it is a report and no
policy: nothing is allowed by it, and where nobody listens any more the kernel says ENOSYS.
"""

from _struct import Struct

from dolium.errors import Unsupported
from dolium.plan.seccomp_default import BY_CAPABILITY, DENIED
from dolium.plan.syscalls import numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RETURN, ACTION, ERRNO, ASK, ALLOW, LOG = 0x06, 0xFFFF0000, 0x00050000, 0x7FC00000, 0x7FFF0000, 0x7FFC0000
LOAD, AND, JUMP, IF_EQUAL, IF_GREATER, IF_AT_LEAST = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35
INSTRUCTION = Struct("<HBBI")
"""struct sock_filter"""
CALL = Struct("<16I")
"""struct seccomp_data, in the words that a filter loads: number, architecture, the instruction's address, six arguments"""
MACHINES = {0xC000003E: "x86_64", 0x40000003: "i386"}
X32 = 0x40000000
SENDMSG, CLOSE = 46, 3
NAMES = {1: "EPERM", 38: "ENOSYS"}

PRICES = {
    "CAP_SYS_ADMIN": "mounts, namespaces and most of what root can do in the container",
    "CAP_BPF": "programs of its own in the kernel",
    "CAP_PERFMON": "measuring what others on the machine do",
    "CAP_SYSLOG": "the kernel's log",
    "CAP_SYS_PTRACE": "reading and changing every process in the container",
    "CAP_SYS_TIME": "setting the clock, which is the host's",
    "CAP_SYS_NICE": "more than its share of CPU and memory nodes",
    "CAP_SYS_TTY_CONFIG": "taking terminals away from others",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "code of its own in the kernel, which is the whole host",
    "CAP_SYS_RAWIO": "the ports of the hardware",
    "CAP_SYS_PACCT": "process accounting",
    "CAP_SYS_BOOT": "restarting",
    "CAP_DAC_READ_SEARCH": "reading every file, past all permissions",
}
"""What else each capability gives that opens a call in the default profile."""
UNCONFINED = "--security-opt seccomp=unconfined"


def asking(program: bytes) -> bytes:
    """The same filter, which asks where it would have refused.

    Raises Unsupported for one that could refuse what it takes to hand over its listener: nobody could answer.
    """
    for name, number in (("sendmsg", SENDMSG), ("close", CLOSE)):
        if not _can_say(program, _unknown(number)) <= {ALLOW, LOG}:
            raise Unsupported("--why-denied", f"this seccomp profile may refuse {name}(2), which takes the report out",
                              hint=f"allow {name} in the profile without conditions")  # fmt: skip
    found = bytearray(program)
    for at, (code, _, _, k) in enumerate(INSTRUCTION.iter_unpack(program)):
        if code == RETURN and k & ACTION == ERRNO:
            INSTRUCTION.pack_into(found, at * INSTRUCTION.size, code, 0, 0, ASK)
    return bytes(found)


def asked_about(program: bytes, names: "Sequence[str]") -> "list[str]":
    """Which of these calls a filter may ask about."""
    table = numbers("x86_64")
    return [name for name in names if ASK in _can_say(program, _unknown(table[name]))]


def errno(program: bytes, call: bytes) -> int:
    """What the filter itself says to this call (struct seccomp_data), as an errno; EPERM for one that it would not refuse."""
    (verdict,) = _can_say(program, CALL.unpack(call))
    return verdict & 0xFFFF if verdict & ACTION == ERRNO else 1


def allowed(program: bytes) -> "set[str]":
    """The system calls of this machine's own kind that a filter allows, if not always then with some arguments."""
    return {name for name, number in numbers("x86_64").items() if _can_say(program, _unknown(number)) & {ALLOW, LOG}}


def _unknown(number: int) -> "list[int | None]":
    return [number, 0xC000003E, *[None] * 14]


def _can_say(program: bytes, words: "Sequence[int | None]") -> "set[int]":
    """All that a filter can say to a call of which the words that are None are not known."""
    code = list(INSTRUCTION.iter_unpack(program))
    ways: list[tuple[int, int | None]] = [(0, 0)]
    seen, said = set(ways), set()
    while ways:
        at, held = ways.pop()
        op, yes, no, k = code[at]
        if op == RETURN:
            said.add(k)
            continue
        following: list[tuple[int, int | None]]
        if op == LOAD:
            following = [(at + 1, words[k // 4])]
        elif op == AND:
            following = [(at + 1, None if held is None else held & k)]
        elif op == JUMP:
            following = [(at + 1 + k, held)]
        elif held is None:
            following = [(at + 1 + yes, None), (at + 1 + no, None)]
        else:
            holds = {IF_EQUAL: held == k, IF_GREATER: held > k, IF_AT_LEAST: held >= k}[op]
            following = [(at + 1 + (yes if holds else no), held)]
        ways += [each for each in following if each not in seen]
        seen.update(following)
    return said


class Denial:
    """A system call that was refused: its number and architecture (AUDIT_ARCH_*), the errno it got, how often, and by
    programs of which names."""

    __slots__ = ("arch", "number", "errno", "count", "programs")

    def __init__(self, arch: int, number: int, errno: int) -> None:
        self.arch = arch
        self.number = number
        self.errno = errno
        self.count = 0
        self.programs: list[str] = []

    @property
    def name(self) -> str:
        """As the kernel's table has it, or nothing."""
        table = numbers(MACHINES[self.arch]) if self.arch in MACHINES else {}
        return next((name for name, number in table.items() if number == self.number), "")


def lines(found: "Sequence[Denial]", default: bool, others: int = 0) -> "list[str]":
    """The report; `default`: the filter is that of the default profile; `others`: how often calls beyond these were refused."""
    if not found:
        return ["seccomp has refused nothing; what failed was refused by something else: capabilities, modes, mounts"]
    count = f"{len(found)} system call{'s' if len(found) > 1 else ''}"
    page = [f"seccomp has refused {count} (what it allows is still up to the kernel):"]
    for each in found:
        often = "" if each.count == 1 else f", {each.count} times"
        page.append(f"  {_call(each)}: {NAMES.get(each.errno, f'errno {each.errno}')} to {', '.join(each.programs)}{often}")
        page.append(f"    {_way(each, default)}")
    return [*page, f"  and others, {others} times"] if others else page


def _call(denial: Denial) -> str:
    shown = denial.name
    if not shown and denial.arch == 0xC000003E and denial.number >= X32:
        return f"call {denial.number - X32} of x32"
    shown = shown or f"call {denial.number}"
    return f"{shown} (of a 32-bit program)" if MACHINES.get(denial.arch) == "i386" else shown


def flag(denial: Denial, default: bool) -> str:
    """The flag of `dolium run` with which seccomp would not refuse it: the narrowest there is."""
    capability = _capability(denial.name) if default else ""
    return f"--cap-add {capability[4:]}" if capability else UNCONFINED


def _capability(name: str) -> str:
    """The one that opens the fewest other calls."""
    found = [(len(names.split()), each) for each, names in BY_CAPABILITY.items() if name in names.split()]
    return min(found)[1] if found else ""


def _way(denial: Denial, default: bool) -> str:
    name, way = denial.name, flag(denial, default)
    if way == UNCONFINED:
        group = next((title for title, names in DENIED if name in names.split()), "") if default else ""
        price = f"{way} allows it, and with it every other call"
        if not default:
            return f"allow it in the profile; or {price}"
        if denial.errno == 38:
            return f"programs take it for an older kernel and do without; {price}"
        return f"{price}; refused as one of: {group}" if group else price
    price = f"{way} allows it, and with it {PRICES[_capability(name)]}"
    return f"C libraries do without and take clone; {price}" if name == "clone3" else price
