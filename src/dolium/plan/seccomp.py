"""Turns a profile, the `linux.seccomp` object of config.json, into a seccomp filter for the kernel.

    profile ──read──► rules ──decide, per architecture──► number → verdict ──write──► struct sock_filter[]

A *verdict* is what the kernel is to do with a call: a plain int is a filter's return value (SECCOMP_RET_*), a tuple is
a list of (conditions, return value) to be tried in order before the default.

The filter is a binary tree over ranges of system call numbers: about ten instructions for a call, however many the
profile names.  (A list of comparisons, one per call, costs a container's start 2 ms: since 5.11 the kernel runs every
new filter once per number to learn which are always allowed, see seccomp_cache_prepare() in kernel/seccomp.c.)

What the meaning of a profile was never written down is as runc with libseccomp has it, because that is what profiles
were tried against; tests/property/test_seccomp_oracle.py holds us to it, and names the few places where libseccomp
loses a rule and we do not.  Two answers are our own: a call of an architecture that the profile does not list kills the
process (libseccomp: the thread, which leaves a half-dead program), and x32 does not exist (ENOSYS, as on a kernel built
without it).

Sources: seccomp(2), seccomp_rule_add(3), <linux/filter.h>, runtime-spec 1.3 config-linux.md "Seccomp".
"""

from marshal import dumps

from dolium.plan.syscalls import I386_IPC, I386_SOCKETCALL, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    Condition = tuple[int, str, int, int]  # argument index, operator, mask, value
    Conditions = tuple[Condition, ...]     # all of them have to hold
    Verdict = int | tuple[tuple[Conditions, int], ...]

KILL_PROCESS, ERRNO, NOTIFY, TRACE, ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FF00000, 0x7FFF0000
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,  # the thread; the older name of the next one
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": NOTIFY,  # who holds the listener decides, seccomp_unotify(2)
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": ALLOW,
}
# Where rules of different actions overlap, libseccomp tries the operators in this order, then the narrower value first.
OPERATORS = {
    "SCMP_CMP_EQ": 0, "SCMP_CMP_NE": 0, "SCMP_CMP_MASKED_EQ": 0,
    "SCMP_CMP_LT": 1, "SCMP_CMP_LE": 1,
    "SCMP_CMP_GT": 2, "SCMP_CMP_GE": 2,
}
ARCHITECTURES = frozenset(
    "SCMP_ARCH_" + name for name in (
        "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X "
        "PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB").split())
FLAGS = {
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # the filter is loaded by a process of one thread
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
# Per machine, the architectures it runs, the native one first: (name in a profile, AUDIT_ARCH_*, table, bits of an
# argument, first number that is not its own).  One more machine is one more line here and a table in `syscalls`.
_NO_END = 1 << 32
_MACHINES = {
    "x86_64": (
        ("SCMP_ARCH_X86_64", 0xC000003E, "x86_64", 64, 0x40000000),  # from __X32_SYSCALL_BIT on: x32
        ("SCMP_ARCH_X86", 0x40000003, "i386", 32, _NO_END),
    ),
}
_EPERM, _ENOSYS = 1, 38
_MAX_ERRNO = 4095
_MOST = 4096  # BPF_MAXINSNS

# cBPF operations; an instruction is kept as one 64-bit number, which is its layout in memory: code, jt, jf, k.
_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

_compiled: "dict[tuple[str, bytes], bytes]" = {}


def compile(profile: "dict[str, Any]", machine: str = "x86_64") -> bytes:
    """The filter for `profile`: an array of struct sock_filter, 8 bytes each, at most 4096 of them.

    `profile` is `linux.seccomp` as config.json has it; `machine` is uname(2)'s, of the kernel that will load it.  The
    same profile again costs a look-up.  Raises SpecError where the profile is malformed, Unsupported where there is no
    table for the machine.
    """
    if machine not in _MACHINES:
        from dolium.errors import Unsupported
        raise Unsupported(f"seccomp on {machine}", "its system call numbers are not known here",
                          hint="`dolium doctor machine` says more")  # fmt: skip
    try:
        key = machine, dumps(profile, 2)  # version 2: the later ones depend on reference counts
    except ValueError:  # something in it never came from JSON
        return _compile(profile, machine)
    done = _compiled.get(key)
    if done is None:
        done = _compile(profile, machine)
        if len(_compiled) >= 64:
            _compiled.clear()
        _compiled[key] = done
    return done


def flags(profile: "dict[str, Any]") -> int:
    """The flags of seccomp(2) that `profile` asks for: SECCOMP_FILTER_FLAG_*.

    Without any `flags` it is SPEC_ALLOW, as runc has it: the mitigation that a filter otherwise switches on (SSBD) is
    off by default since Linux 5.16 and slows everything down before that.  WAIT_KILLABLE_RECV means nothing without a
    listener, and the kernel refuses it then: it is left out, as libseccomp has it.
    """
    listed = profile.get("flags")
    if listed is None:
        return FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    total = 0
    for at, flag in enumerate(_array(listed, "flags")):
        if not isinstance(flag, str) or flag not in FLAGS:
            _refuse(f"flags[{at}]", f"{flag!r} is not supported")
        total |= FLAGS[flag]
    rules = _array(profile.get("syscalls"), "syscalls")
    if not any(isinstance(each, dict) and each.get("action") == "SCMP_ACT_NOTIFY" for each in rules):
        total &= ~FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    return total


def _compile(profile: "dict[str, Any]", machine: str) -> bytes:
    default, rules, listed = _read(profile)
    # As runc has it: a call newer than any that the profile names was not refused by anybody, its author did not know
    # it.  ENOSYS lets programs fall back on an older call, where EPERM makes them give up.
    unknown = default if default in (ALLOW, ACTIONS["SCMP_ACT_LOG"]) or default & 0x7FFF0000 == TRACE \
        else ERRNO | _ENOSYS

    code: "list[int]" = []
    other = _Tree(code, default, 64).leaf(KILL_PROCESS)
    for name, audit, table, bits, end in reversed(_MACHINES[machine]):
        native = name == _MACHINES[machine][0][0]
        if native or name in listed:
            verdicts, highest = _decide(rules, default, numbers(table), bits)
            starts, leaves = _ranges(verdicts, highest, default, unknown, end)
            first = _Tree(code, default, bits).write(starts, leaves)
            code.append(_LOAD | _NUMBER << 32)
            other = _branch(code, _IF_EQUAL, audit, first + 1, other)
    code.append(_LOAD | _ARCH << 32)
    if len(code) > _MOST:
        _refuse("syscalls", f"the filter takes {len(code)} instructions, the kernel loads {_MOST} at most")
    return b"".join([word.to_bytes(8, "little") for word in reversed(code)])


# -- read: the profile's words into numbers, or a SpecError that says where ------------------------------------------

class Rules:
    """The profile's rules that differ from its default."""

    def __init__(self) -> None:
        self.plain: "dict[str, int]" = {}  # name → return value; the first such rule stands, whatever others there are
        self.conditional: "list[tuple[int, str, list[Conditions], int]]" = []  # place, name, any of these → value
        self.refused: "list[str]" = []     # rules that repeat the default: all that counts is that they are named


def _read(profile: "dict[str, Any]") -> "tuple[int, Rules, list[str]]":
    if not isinstance(profile, dict):
        _refuse("", "must be an object")
    default = _action(profile, "defaultAction", "defaultErrnoRet", "")
    listed = _array(profile.get("architectures"), "architectures")
    for at, name in enumerate(listed):
        if not isinstance(name, str) or name not in ARCHITECTURES:
            _refuse(f"architectures[{at}]", f"{name!r} is not an architecture")
    rules = Rules()
    for at, entry in enumerate(_array(profile.get("syscalls"), "syscalls")):
        if not isinstance(entry, dict):
            _refuse(f"syscalls[{at}]", "must be an object")
        names = entry.get("names")
        if not isinstance(names, list) or not names:
            _refuse(f"syscalls[{at}].names", "must be an array of at least one name")
        if set(map(type, names)) != {str}:
            _refuse(f"syscalls[{at}].names[{[type(name) is str for name in names].index(False)}]", "must be a string")
        action = _action(entry, "action", "errnoRet", f"syscalls[{at}].")
        args = entry.get("args")
        ways: "list[Conditions]" = _conditions(args, f"syscalls[{at}].args") if args else [()]
        if action == default:
            rules.refused += names
        elif () in ways:
            for name in names:
                rules.plain.setdefault(name, action)
        else:
            rules.conditional += [(at, name, ways, action) for name in names]
    return default, rules, listed


def _action(entry: "dict[str, Any]", key: str, errno_key: str, where: str) -> int:
    word = entry.get(key)
    if word == "SCMP_ACT_NOTIFY" and not where:
        _refuse(key, "SCMP_ACT_NOTIFY cannot be it: whoever is to listen could not be given the listener")
    if not isinstance(word, str) or word not in ACTIONS:
        _refuse(where + key, "is required" if word is None else f"{word!r} is not an action")
    action = ACTIONS[word]
    errno = entry.get(errno_key)
    if action != ERRNO and action != TRACE:
        if errno is not None:  # runtime-spec: "MUST print an error and fail"; runc does not look
            _refuse(where + errno_key, f"{word} has no errno")
        return action
    if errno is None:
        return action | _EPERM
    # The kernel has 16 bits for either, and cuts what an ERRNO returns at MAX_ERRNO.
    most = _MAX_ERRNO if action == ERRNO else 0xFFFF
    if type(errno) is not int or not 0 <= errno <= most:
        _refuse(where + errno_key, f"must be a number from 0 to {most}")
    return action | errno


def _conditions(args: "Any", where: str) -> "list[Conditions]":
    """The ways in which a rule's arguments can match: each is a tuple of conditions that all have to hold."""
    found: "list[Condition]" = []
    for at, arg in enumerate(_array(args, where)):
        if not isinstance(arg, dict):
            _refuse(f"{where}[{at}]", "must be an object")
        op = arg.get("op")
        if not isinstance(op, str) or op not in OPERATORS:
            _refuse(f"{where}[{at}].op", "is required" if op is None else f"{op!r} is not an operator")
        index = _unsigned(arg.get("index"), 5, f"{where}[{at}].index")
        value = _unsigned(arg.get("value"), _U64, f"{where}[{at}].value")
        second = _unsigned(arg.get("valueTwo", 0), _U64, f"{where}[{at}].valueTwo")
        found.append((index, op, value, second & value) if op == "SCMP_CMP_MASKED_EQ" else (index, op, _U64, value))
    # Two conditions on one argument are two rules: so runc takes them, and every profile since (youki #3489).
    if len({each[0] for each in found}) < len(found):
        return [(each,) if each[2] else () for each in found]
    return [tuple(sorted(each for each in found if each[2]))]


_U64 = 0xFFFFFFFFFFFFFFFF


def _unsigned(value: "Any", most: int, where: str) -> int:
    if type(value) is not int or not 0 <= value <= most:
        _refuse(where, "is required" if value is None else f"must be a number from 0 to {most}")
    return value


def _array(value: "Any", where: str) -> "list[Any]":
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(where, "must be an array")
    return value


def _refuse(where: str, problem: str) -> "NoReturn":
    from dolium.errors import SpecError
    raise SpecError(f"linux.seccomp.{where}".rstrip("."), problem)


# -- decide: what happens to each number of one architecture ---------------------------------------------------------

def _decide(rules: "Rules", default: int, table: "dict[str, int]", bits: int) -> "tuple[dict[int, Verdict], int]":
    """The verdict for each number that some rule speaks of, and the highest number that the profile names."""
    verdicts: "dict[int, Verdict]" = {table[name]: action for name, action in rules.plain.items() if name in table}
    chosen: "dict[int, dict[Conditions, int]]" = {}

    def try_also(number: int, way: "Conditions", action: int, at: int) -> None:
        if not way:
            verdicts.setdefault(number, action)
        elif chosen.setdefault(number, {}).setdefault(way, action) != action and number not in verdicts:
            _refuse(f"syscalls[{at}]", f"contradicts an earlier rule with the same conditions (of {bits}-bit programs)")

    for at, name, ways, action in rules.conditional:
        if name in table:
            for way in ways:
                try_also(table[name], _narrow(way, bits), action, at)
    highest = max((*verdicts, *chosen, *(table[name] for name in rules.refused if name in table)), default=-1)
    if bits == 32:
        for door, inside, mask in (("socketcall", I386_SOCKETCALL, 0xFFFFFFFF), ("ipc", I386_IPC, 0xFFFF)):
            if table[door] in verdicts:
                continue
            plain: "list[tuple[int, str, list[Conditions], int]]" = [(-1, n, [()], a) for n, a in rules.plain.items()]
            for at, name, ways, action in plain + rules.conditional:
                if name in inside:
                    for way in ways:
                        rest = (each for each in _narrow(way, bits) if each[0])
                        try_also(table[door], ((0, "SCMP_CMP_MASKED_EQ", mask, inside[name]), *rest), action, at)
    for number, tried in chosen.items():
        if number not in verdicts:
            verdicts[number] = _ordered(tried)
    return verdicts, highest


def _narrow(way: "Conditions", bits: int) -> "Conditions":
    """The conditions for arguments of this width.

    The kernel's entry for 32-bit programs cuts their arguments, so what stands above must not decide.
    """
    if bits == 64:
        return way
    low = 0xFFFFFFFF
    return tuple((index, op, mask & low, value & low) for index, op, mask, value in way if mask & low)


def _ordered(tried: "dict[Conditions, int]") -> "Verdict":
    """The rules in the order of trying: the profile's own while all say the same, else the narrower first."""
    if len(set(tried.values())) == 1:
        return tuple(tried.items())

    def narrowness(item: "tuple[Conditions, int]") -> "list[tuple[int, int, int]]":
        return [(-index, OPERATORS[op], value if OPERATORS[op] == 1 else -value) for index, op, _, value in item[0]]

    return tuple(sorted(tried.items(), key=narrowness))


def _ranges(verdicts: "dict[int, Verdict]", highest: int, default: int, unknown: int,
            end: int) -> "tuple[list[int], list[Verdict]]":
    """All numbers as ranges of one verdict each: where each range starts, and its verdict."""
    if highest < 0:  # the profile names nothing that this architecture has
        unknown = default
    line: "list[Verdict]" = [default] * (highest + 1)
    line += [unknown] * max(1, max(verdicts, default=-1) + 2 - len(line))
    for number, verdict in verdicts.items():
        line[number] = verdict
    starts = [0, *[at for at, verdict in enumerate(line[1:], 1) if verdict != line[at - 1]]]
    leaves = [line[at] for at in starts]
    if end < _NO_END and leaves[-1] != ERRNO | _ENOSYS:
        starts.append(end)
        leaves.append(ERRNO | _ENOSYS)
    return starts, leaves


# -- write: instructions, the last one first -------------------------------------------------------------------------
#
# cBPF jumps forward only, so whoever writes from the end knows every target already.  A *label* is an index in `code`,
# which is reversed when all is written; the instruction written last is the one that is run next.

def _near(code: "list[int]", label: int) -> int:
    """A label with the same effect as one that is too far away for a conditional jump, whose offsets have 8 bits."""
    there = code[label]
    code.append(there if there & 0xFFFF == _RETURN else _JUMP | (len(code) - label - 1) << 32)
    return len(code) - 1


def _branch(code: "list[int]", op: int, value: int, yes: int, no: int) -> int:
    here = len(code)
    if here - yes > 250 or here - no > 250:
        yes, no = (_near(code, label) if here - label > 250 else label for label in (yes, no))
        here = len(code)
    code.append(op | here - yes - 1 << 16 | here - no - 1 << 24 | value << 32)
    return here


class _Tree:
    """Writes the decision tree of one architecture."""

    def __init__(self, code: "list[int]", default: int, bits: int) -> None:
        self.code = code
        self.default = default
        self.bits = bits
        self.written: "dict[Verdict, int]" = {}

    def write(self, starts: "list[int]", leaves: "list[Verdict]") -> int:
        """The label of the tree's root, which expects the number to be loaded."""
        code, leaf = self.code, self.leaf

        def write(low: int, high: int) -> int:
            width = high - low
            if width == 1:
                return leaf(leaves[low])
            middle = (low + high) // 2
            start = starts[middle]
            if width == 3 and start + 1 == starts[middle + 1] and leaves[low] == leaves[middle + 1]:
                return _branch(code, _IF_EQUAL, start, leaf(leaves[middle]), leaf(leaves[low]))
            return _branch(code, _IF_AT_LEAST, start, write(middle, high), write(low, middle))

        root = write(0, len(starts))
        if root != len(code) - 1:  # one verdict for every number, and it stands further down
            code.append(_JUMP | (len(code) - root - 1) << 32)
        return len(code) - 1

    def leaf(self, verdict: "Verdict") -> int:
        """The label of what carries out `verdict`."""
        code, written = self.code, self.written
        label = written.get(verdict, -1000)
        if label < 0 or isinstance(verdict, int) and len(code) - label > 240:  # a second `return` is as good as a jump
            if isinstance(verdict, int):
                code.append(_RETURN | verdict << 32)
                label = len(code) - 1
            else:
                label = self.leaf(self.default)
                for conditions, action in reversed(verdict):
                    label = self.rule(conditions, action, label)
            written[verdict] = label
        return label

    def rule(self, conditions: "Conditions", action: int, otherwise: int) -> int:
        label = self.leaf(action)
        for index, op, mask, value in reversed(conditions):
            word = _ARGUMENTS + 8 * index
            if op in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):  # the contrary, with the exits exchanged
                label = self.compare(op, word, mask, value, otherwise, label)
            else:
                label = self.compare(op, word, mask, value, label, otherwise)
        return label

    def compare(self, op: str, word: int, mask: int, value: int, yes: int, no: int) -> int:
        """One comparison of 64 bits out of comparisons of 32: the upper word decides unless it is equal."""
        code = self.code
        low = high = _IF_EQUAL
        if op in ("SCMP_CMP_GT", "SCMP_CMP_LE"):
            low = high = _IF_GREATER
        elif op in ("SCMP_CMP_GE", "SCMP_CMP_LT"):
            low, high = _IF_AT_LEAST, _IF_GREATER
        label = yes
        if mask & 0xFFFFFFFF:
            label = self.compare_word(low, word, mask & 0xFFFFFFFF, value & 0xFFFFFFFF, yes, no)
        if self.bits == 64 and mask >> 32:
            if high == _IF_GREATER:
                equal = _branch(code, _IF_EQUAL, value >> 32, label, no)
                label = _branch(code, _IF_GREATER, value >> 32, yes, equal)
                code.append(_LOAD | word + 4 << 32)
                label = len(code) - 1
            else:
                label = self.compare_word(_IF_EQUAL, word + 4, mask >> 32, value >> 32, label, no)
        return label

    def compare_word(self, op: int, word: int, mask: int, value: int, yes: int, no: int) -> int:
        _branch(self.code, op, value, yes, no)
        if mask != 0xFFFFFFFF:
            self.code.append(_AND | mask << 32)
        self.code.append(_LOAD | word << 32)
        return len(self.code) - 1
