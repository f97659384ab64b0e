"""Our filters against libseccomp's: the same answer to every system call.

The oracle is libseccomp used as runc uses it: rules that repeat the default are skipped, conditions that share an
argument become rules of their own, and calls newer than the profile get ENOSYS in front of the filter.
"""

import ctypes
import ctypes.util
import json
import os

import pytest
from bpf import ENOSYS, I386, KILL_PROCESS, X32, X86_64, decode, rule, run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dolium.plan import seccomp, seccomp_default
from dolium.plan.capabilities import DEFAULT
from dolium.plan.syscalls import numbers

for _name in ("libseccomp.so.2", ctypes.util.find_library("seccomp")):
    try:
        LIB = ctypes.CDLL(_name) if _name else None
    except OSError:
        LIB = None
    if LIB:
        break
else:
    pytest.skip("libseccomp.so.2 is not installed: no oracle", allow_module_level=True)
if os.uname().machine != "x86_64":
    pytest.skip("the tables are for x86_64", allow_module_level=True)

LIB.seccomp_init.restype = ctypes.c_void_p
LIB.seccomp_init.argtypes = [ctypes.c_uint32]
LIB.seccomp_release.argtypes = [ctypes.c_void_p]
LIB.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
LIB.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
LIB.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
LIB.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
LIB.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]

OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}
ACTIONS = {"KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000, "ERRNO": 0x50000,
           "TRACE": 0x7FF00000, "LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000}
LETS_THROUGH = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
BAD_ARCH, OPTIMIZE = 2, 8  # SCMP_FLTATR_ACT_BADARCH, SCMP_FLTATR_CTL_OPTIMIZE


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Refused(Exception):
    """libseccomp would not have a rule."""


def known(name):
    return LIB.seccomp_syscall_resolve_name(name.encode()) != -1


def value(action, number):
    plain = ACTIONS[action.removeprefix("SCMP_ACT_")]
    return plain | (1 if number is None else number) if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else plain


def oracle(profile):
    """libseccomp's filter for the profile, as a function from a call to an answer."""
    default = value(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = LIB.seccomp_init(default)
    assert context
    try:
        assert LIB.seccomp_attr_set(context, BAD_ARCH, KILL_PROCESS) == 0
        if len(profile["syscalls"]) > 32:
            LIB.seccomp_attr_set(context, OPTIMIZE, 2)
        both = "SCMP_ARCH_X86" in profile.get("architectures", [])
        if both:
            assert LIB.seccomp_arch_add(context, I386) == 0
        named = {name for entry in profile["syscalls"] for name in entry["names"]}
        highest = {arch: max((number for name, number in numbers(machine).items() if name in named), default=-1)
                   for arch, machine in ((X86_64, "x86_64"), (I386, "i386"))}
        for entry in profile["syscalls"]:
            action = value(entry["action"], entry.get("errnoRet"))
            conditions = [Compare(arg["index"], OPERATORS[arg["op"].removeprefix("SCMP_CMP_")], arg["value"],
                                  arg.get("valueTwo", 0)) for arg in entry.get("args", [])]
            apart = len({each.arg for each in conditions}) < len(conditions)
            for name in entry["names"]:
                number = LIB.seccomp_syscall_resolve_name(name.encode())
                if action == default or number == -1:
                    continue
                for group in [[each] for each in conditions] if apart else [conditions]:
                    array = (Compare * max(1, len(group)))(*group)
                    if LIB.seccomp_rule_add_array(context, action, number, len(group), array) < 0:
                        raise Refused(name)
        reader = os.memfd_create("filter")
        assert LIB.seccomp_export_bpf(context, reader) == 0
        with open(reader, "rb") as file:
            file.seek(0)
            program = decode(file.read())
    finally:
        LIB.seccomp_release(context)

    def answer(number, arch, args):
        if arch == X86_64 and number >= X32:
            return ENOSYS  # ours
        if arch == X86_64 or both and arch == I386:
            if profile["defaultAction"] not in LETS_THROUGH and number > highest[arch] >= 0:
                return ENOSYS  # (runc overlooks `read`, 0, and what i386 has in socketcall: of no consequence)
        return run(program, number, arch, args)[0]

    return answer


# These i386 has in socketcall or ipc only, and there libseccomp 2.5.4 forgets a rule on them; test_seccomp.py has them.
LOST = {"accept", "send", "recv", "semop", "semtimedop"}
NAMES = sorted(name for name in {**numbers("x86_64"), **numbers("i386")} if known(name) and name not in LOST)
FEW = "read mkdir socket accept4 shmat semget clone openat2 waitpid socketcall ipc getrandom kill".split()
VALUES = st.sampled_from([0, 1, 2, 5, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (5 << 32) + 5, 1 << 63, (1 << 64) - 1]) | \
    st.integers(0, (1 << 64) - 1) | st.integers(0, 40)
ARGS = st.tuples(st.integers(0, 5) | st.integers(0, 1), st.sampled_from(list(OPERATORS)), VALUES, VALUES)
ACTION = st.sampled_from(sorted(set(ACTIONS) - {"KILL"}))
ARCHES = st.sampled_from([[], ["SCMP_ARCH_X86_64"], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]])


def entry(names, action, args, number):
    more = {"errnoRet": number} if action in ("ERRNO", "TRACE") else {}
    return rule(" ".join(names), "SCMP_ACT_" + action, *args, **more)


def entries(actions, names=None):
    names = st.sampled_from(FEW) | st.sampled_from(NAMES) if names is None else names
    return st.lists(st.builds(entry, st.lists(names, min_size=1, max_size=5, unique=True), actions,
                              st.lists(ARGS, max_size=3), st.integers(0, 50)), max_size=8)


def interesting(profile, data):
    """Calls near what the profile names, and arguments near what it compares with."""
    values = {0, 1, 1 << 32}
    for entry in profile["syscalls"]:
        for arg in entry.get("args", []):
            for base in (arg["value"], arg.get("valueTwo", 0)):
                for other in (base - 1, base, base + 1, base ^ 1 << 32, base & 0xFFFFFFFF, base ^ 1 << 63):
                    values.add(other & (1 << 64) - 1)
    arguments = [(0,) * 6, *([each] * 6 for each in values)]
    arguments += data.draw(st.lists(st.tuples(*[st.sampled_from(sorted(values))] * 6), max_size=20))
    for arch, machine in ((X86_64, "x86_64"), (I386, "i386"), (0xC00000B7, "i386")):
        table = numbers(machine)
        named = {table[name] for entry in profile["syscalls"] for name in entry["names"] if name in table}
        if arch == I386:
            named |= {table["socketcall"], table["ipc"]}
        for number in range(480):
            yield number, arch, (0,) * 6
        for number in (1000, X32 - 1, X32, X32 + 1, 0xFFFFFFFF):
            yield number, arch, (0,) * 6
        for number in named:
            for args in arguments:
                if arch == I386 and number == table["ipc"] and args[0] & 0xFFFFFFFF > 0xFFFF:
                    continue  # the version in ipc's first argument, which libseccomp does not look behind
                yield number, arch, args


# -- what a profile means, written down as plainly as possible --------------------------------------------------------

HOLDS = {
    "SCMP_CMP_EQ": lambda arg, value, _: arg == value, "SCMP_CMP_NE": lambda arg, value, _: arg != value,
    "SCMP_CMP_LT": lambda arg, value, _: arg < value, "SCMP_CMP_LE": lambda arg, value, _: arg <= value,
    "SCMP_CMP_GT": lambda arg, value, _: arg > value, "SCMP_CMP_GE": lambda arg, value, _: arg >= value,
    "SCMP_CMP_MASKED_EQ": lambda arg, mask, value: arg & mask == value & mask,
}


def meaning(profile):
    """Of a profile with one action besides the default, on x86_64."""
    default = value(profile["defaultAction"], profile.get("defaultErrnoRet"))
    table = numbers("x86_64")
    named = {name for entry in profile["syscalls"] for name in entry["names"]}
    highest = max((number for name, number in table.items() if name in named), default=-1)

    def answer(number, args):
        if number >= X32:
            return ENOSYS
        if profile["defaultAction"] not in LETS_THROUGH and number > highest >= 0:
            return ENOSYS
        for entry in profile["syscalls"]:
            conditions = entry.get("args", [])
            held = [HOLDS[arg["op"]](args[arg["index"]], arg["value"], arg.get("valueTwo", 0)) for arg in conditions]
            alternatives = len({arg["index"] for arg in conditions}) < len(conditions)
            if number in [table.get(name) for name in entry["names"]] and (any if alternatives else all)(held):
                if value(entry["action"], entry.get("errnoRet")) != default:
                    return value(entry["action"], entry.get("errnoRet"))
        return default

    return answer


SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@SETTINGS
@given(st.data(), ACTION, ACTION, st.integers(1, 40), st.integers(1, 40))
def test_one_action_besides_the_default_means_what_it_says(data, default, action, first, second):
    """Any conditions in any number, against their plain meaning.

    libseccomp is no oracle here: its tree of comparisons loses some alternatives on one argument (2.5.4: of `!= 1`,
    `< 0` and `< 2**32`, all with one action, it does not find the last for 1).
    """
    profile = {"defaultAction": "SCMP_ACT_" + default, "syscalls": data.draw(entries(st.just(action)))}
    if default in ("ERRNO", "TRACE"):
        profile["defaultErrnoRet"] = first
    for each in profile["syscalls"]:
        if "errnoRet" in each:
            each["errnoRet"] = second
    expected = meaning(profile)
    program = decode(seccomp.compile(profile))
    for number, arch, args in interesting(profile, data):
        if arch == X86_64:
            assert run(program, number, arch, args)[0] == expected(number, args), (number, args)


# -- and what libseccomp makes of it ----------------------------------------------------------------------------------

def check(profile, data):
    expected = oracle(profile)
    program = decode(seccomp.compile(profile))
    for number, arch, args in interesting(profile, data):
        got, _ = run(program, number, arch, args)
        assert got == expected(number, arch, args), (number, hex(arch), [hex(each) for each in args])


@st.composite
def plausible(draw, actions):
    """Rules as people write them: on one call either one set of conditions or a list of values for one argument."""
    rules = []
    names = draw(st.lists(st.sampled_from(FEW) | st.sampled_from(NAMES), max_size=12, unique=True))
    for name in names:
        action, number, kind = draw(actions), draw(st.integers(0, 50)), draw(st.sampled_from("plain one list".split()))
        if kind == "list":
            index = draw(st.integers(0, 5))
            for each in draw(st.lists(VALUES, min_size=1, max_size=6, unique=True)):
                rules.append(entry([name], action, [(index, "EQ", each, 0)], number))
        else:
            args = draw(st.lists(ARGS, min_size=1, max_size=3, unique_by=lambda arg: arg[0])) if kind == "one" else []
            rules.append(entry([name], action, args, number))
            if draw(st.booleans()):
                rules.insert(draw(st.integers(0, len(rules))), entry([name], draw(actions), [], number))
    return rules


@SETTINGS
@given(st.data(), ACTION, ARCHES)
def test_as_libseccomp(data, default, arches):
    rules = data.draw(plausible(ACTION))
    profile = {"defaultAction": "SCMP_ACT_" + default, "architectures": arches, "syscalls": rules}
    try:
        oracle(profile)
    except Refused:  # two actions for the same conditions, where i386 has two ways to one call
        assume(False)
    check(profile, data)


@SETTINGS
@given(st.data(), st.sets(st.sampled_from([0, 5, 20, 21, 1 << 31, (1 << 32) - 1]), min_size=1),
       st.sampled_from([("EQ",), ("GT", "GE"), ("LT", "LE")]))
def test_overlapping_rules_of_different_actions_as_libseccomp(data, values, operators):
    """The narrower one is tried first.

    Within 32 bits, that is.  Beyond, libseccomp 2.5.4 answers by the order in which the rules came (`> 5`, `> 21`,
    `> 20`: for 2**32 the last), or loses rules (of `< 0` and `< 2**32` it finds neither for 1).
    """
    rules = [entry(["mkdir"], "ERRNO", [(1, data.draw(st.sampled_from(operators)), each, 0)], n)
             for n, each in enumerate(data.draw(st.permutations(sorted(values))))]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    expected = oracle(profile)
    program = decode(seccomp.compile(profile))
    for value in {each + off & 0xFFFFFFFF for each in values for off in (-1, 0, 1)}:
        args = (0, value, 0, 0, 0, 0)
        assert run(program, 83, X86_64, args)[0] == expected(83, X86_64, args), value


class Draw:
    """For `interesting`, where hypothesis has nothing to choose."""

    def draw(self, strategy):
        return []


CAPABILITIES = [frozenset(), frozenset(DEFAULT), frozenset({"CAP_SYS_ADMIN"}), frozenset(seccomp_default.BY_CAPABILITY)]


@pytest.mark.parametrize("capabilities", CAPABILITIES, ids=["none", "docker", "admin", "all"])
def test_our_default_profile(capabilities):
    profile = seccomp_default.default_profile(capabilities)
    for each in profile["syscalls"]:  # an old libseccomp knows fewer names; those it knows are enough to compare
        each["names"] = [name for name in each["names"] if known(name)] or ["read"]
    check(profile, Draw())


@pytest.mark.parametrize("capabilities", CAPABILITIES, ids=["none", "docker", "admin", "all"])
def test_podmans_default_profile(capabilities):
    """Somebody else's large profile, compiled by both."""
    path = os.environ.get("DOLIUM_TEST_CONTAINERS_SECCOMP", "/usr/share/containers/seccomp.json")
    if not os.path.exists(path):
        pytest.skip(f"{path} is not here (containers-common)")
    with open(path) as file:
        theirs = json.load(file)

    def applies(each):
        includes, excludes = each.get("includes") or {}, each.get("excludes") or {}
        return set(includes.get("caps", ())) <= capabilities and not set(excludes.get("caps", ())) & capabilities \
            and "amd64" in includes.get("arches", ["amd64"])

    rules = [{"names": [name for name in each["names"] if known(name)] or ["read"], "action": each["action"],
              "args": each.get("args") or [], "errnoRet": each.get("errnoRet")}
             for each in theirs["syscalls"] if applies(each)]
    check({"defaultAction": theirs["defaultAction"], "defaultErrnoRet": theirs["defaultErrnoRet"],
           "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": rules}, Draw())
