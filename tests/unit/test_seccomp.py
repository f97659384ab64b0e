"""Filters, evaluated here by a small interpreter of cBPF, and once by the kernel."""

import ctypes
import errno
import json
import os
import struct
import sys

import pytest

from dolium.errors import SpecError, Unsupported
from dolium.plan import seccomp, seccomp_default
from dolium.plan.syscalls import I386_IPC, I386_SOCKETCALL, numbers

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
X32 = 0x40000000
KILL_PROCESS, KILL_THREAD, TRAP, LOG, ALLOW = 0x80000000, 0, 0x30000, 0x7FFC0000, 0x7FFF0000
U64 = (1 << 64) - 1


def ERRNO(number):
    return 0x50000 | number


def TRACE(number):
    return 0x7FF00000 | number


EPERM, ENOSYS = ERRNO(errno.EPERM), ERRNO(errno.ENOSYS)
NR = numbers("x86_64")
NR32 = numbers("i386")


# -- an interpreter of what the kernel takes in a seccomp filter: seccomp_check_filter() in kernel/seccomp.c ----------

def decode(filter):
    assert len(filter) % 8 == 0
    program = list(struct.iter_unpack("<HBBI", filter))
    assert 0 < len(program) <= 4096
    return program


def run(program, number, arch=X86_64, args=()):
    """What the filter answers, and after how many instructions."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0xDEAD, *(tuple(args) + (0,) * 6)[:6])
    words = struct.unpack("<16I", data)
    at = steps = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        steps += 1
        if code == 0x20:
            accumulator = words[k // 4]
        elif code == 0x15:
            at += yes if accumulator == k else no
        elif code == 0x25:
            at += yes if accumulator > k else no
        elif code == 0x35:
            at += yes if accumulator >= k else no
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            at += k
        elif code == 0x06:
            return k, steps
        else:
            raise AssertionError(f"instruction {at - 1}: {code:#x}")


def answer(profile, name, *args, arch=X86_64):
    number = name if isinstance(name, int) else (NR if arch == X86_64 else NR32)[name]
    return run(decode(seccomp.compile(profile)), number, arch, args)[0]


def make(default="SCMP_ACT_ERRNO", *syscalls, **more):
    return {"defaultAction": default, "syscalls": list(syscalls), **more}


def rule(names, action="SCMP_ACT_ALLOW", *args, **more):
    return {"names": names.split(), "action": action, "args": [
        dict(zip(("index", "op", "value", "valueTwo"), (i, "SCMP_CMP_" + op, *values), strict=False))
        for i, op, *values in args], **more}


# -- actions ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("action", "more", "value"), [
    ("SCMP_ACT_KILL", {}, KILL_THREAD),
    ("SCMP_ACT_KILL_THREAD", {}, KILL_THREAD),
    ("SCMP_ACT_KILL_PROCESS", {}, KILL_PROCESS),
    ("SCMP_ACT_TRAP", {}, TRAP),
    ("SCMP_ACT_ERRNO", {}, EPERM),
    ("SCMP_ACT_ERRNO", {"errnoRet": 38}, ENOSYS),
    ("SCMP_ACT_ERRNO", {"errnoRet": 0}, ERRNO(0)),
    ("SCMP_ACT_ERRNO", {"errnoRet": None}, EPERM),
    ("SCMP_ACT_TRACE", {}, TRACE(1)),
    ("SCMP_ACT_TRACE", {"errnoRet": 0xFFFF}, TRACE(0xFFFF)),
    ("SCMP_ACT_LOG", {}, LOG),
])
def test_actions(action, more, value):
    profile = make("SCMP_ACT_ALLOW", rule("mkdir", action, **more))
    assert answer(profile, "mkdir") == value
    assert answer(profile, "rmdir") == ALLOW
    default = make(action, rule("mkdir"), defaultErrnoRet=more.get("errnoRet"))
    assert answer(default, "mkdir") == ALLOW
    assert answer(default, "mkdir" if value == ALLOW else "read") == value


# -- conditions -------------------------------------------------------------------------------------------------------

AROUND = sorted({base + off & U64 for base in (0, 5, 1 << 32, (5 << 32) + 7, (1 << 63), U64) for off in (-1, 0, 1, 2)})
HOLDS = {
    "EQ": lambda a, v: a == v, "NE": lambda a, v: a != v, "LT": lambda a, v: a < v, "LE": lambda a, v: a <= v,
    "GT": lambda a, v: a > v, "GE": lambda a, v: a >= v,
}


@pytest.mark.parametrize("op", HOLDS)
@pytest.mark.parametrize("value", [0, 5, 0xFFFFFFFF, 1 << 32, (5 << 32) + 7, 1 << 63, U64])
def test_operators_compare_64_bits(op, value):
    program = decode(seccomp.compile(make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ALLOW", (5, op, value)))))
    for argument in AROUND:
        got, _ = run(program, NR["mkdir"], args=(9, 9, 9, 9, 9, argument))
        assert got == (ALLOW if HOLDS[op](argument, value) else EPERM), (argument, op, value)


@pytest.mark.parametrize("mask", [0xF, 0xFFFFFFFF, 0xF << 32, U64, (1 << 63) | 1])
@pytest.mark.parametrize("value", [0, 5, (5 << 32) + 5, U64])
def test_masked_equal_masks_both_sides(mask, value):
    profile = make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ALLOW", (1, "MASKED_EQ", mask, value)))
    program = decode(seccomp.compile(profile))
    for argument in (*AROUND, value, value | ~mask & U64):
        got, _ = run(program, NR["mkdir"], args=(0, argument))
        assert got == (ALLOW if argument & mask == value & mask else EPERM)


def test_an_empty_mask_is_no_condition():
    assert answer(make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ALLOW", (1, "MASKED_EQ", 0, 3))), "mkdir") == ALLOW


def test_conditions_on_different_arguments_all_have_to_hold():
    profile = make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ALLOW", (2, "EQ", 3), (0, "EQ", 1), (1, "GT", 2)))
    assert answer(profile, "mkdir", 1, 3, 3) == ALLOW
    for args in ((0, 3, 3), (1, 2, 3), (1, 3, 4)):
        assert answer(profile, "mkdir", *args) == EPERM


def test_conditions_on_one_argument_are_alternatives():
    """As runc has it: otherwise `== 1` and `== 2` together could never hold."""
    profile = make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ALLOW", (0, "EQ", 1), (0, "EQ", 2), (1, "EQ", 7)))
    assert [answer(profile, "mkdir", *args) for args in ((1, 0), (2, 0), (3, 7), (3, 0))] == [ALLOW] * 3 + [EPERM]


def test_rules_on_one_call_are_alternatives():
    profile = make("SCMP_ACT_ERRNO", *(rule("mkdir", "SCMP_ACT_ALLOW", (0, "EQ", n)) for n in (3, 8, 1 << 40)))
    assert [answer(profile, "mkdir", n) for n in (3, 8, 1 << 40, 4)] == [ALLOW, ALLOW, ALLOW, EPERM]


# -- precedence -------------------------------------------------------------------------------------------------------

CONDITIONAL = rule("mkdir", "SCMP_ACT_KILL_PROCESS", (0, "EQ", 1))
PLAIN = rule("mkdir", "SCMP_ACT_LOG")


@pytest.mark.parametrize("rules", [(CONDITIONAL, PLAIN), (PLAIN, CONDITIONAL)])
def test_a_rule_without_conditions_wins(rules):
    assert answer(make("SCMP_ACT_ERRNO", *rules), "mkdir", 1) == LOG


def test_of_two_without_conditions_the_first_stands():
    profile = make("SCMP_ACT_ERRNO", rule("mkdir"), rule("mkdir", "SCMP_ACT_ERRNO", errnoRet=5))
    assert answer(profile, "mkdir") == ALLOW


def test_a_rule_that_repeats_the_default_is_ignored():
    profile = make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ERRNO"), rule("mkdir"), defaultErrnoRet=1)
    assert answer(profile, "mkdir") == ALLOW
    other_errno = make("SCMP_ACT_ERRNO", rule("mkdir", "SCMP_ACT_ERRNO"), rule("mkdir"), defaultErrnoRet=2)
    assert answer(other_errno, "mkdir") == EPERM


def test_the_narrower_of_overlapping_rules_is_tried_first():
    rules = [rule("mkdir", "SCMP_ACT_ERRNO", (0, "GT", 10), errnoRet=10),
             rule("mkdir", "SCMP_ACT_ERRNO", (0, "GT", 20), errnoRet=20),
             rule("mkdir", "SCMP_ACT_ERRNO", (0, "EQ", 30), errnoRet=30)]
    for order in (rules, rules[::-1]):
        profile = make("SCMP_ACT_ALLOW", *order)
        assert [answer(profile, "mkdir", n) for n in (10, 11, 21, 30)] == [ALLOW, ERRNO(10), ERRNO(20), ERRNO(30)]


def test_a_contradiction_is_refused_unless_a_plain_rule_settles_it():
    two = [rule("mkdir", "SCMP_ACT_LOG", (0, "EQ", 1)), rule("mkdir", "SCMP_ACT_TRAP", (0, "EQ", 1))]
    with pytest.raises(SpecError) as error:
        seccomp.compile(make("SCMP_ACT_ERRNO", *two))
    assert error.value.path == "linux.seccomp.syscalls[1]"
    assert answer(make("SCMP_ACT_ERRNO", *two, rule("mkdir")), "mkdir", 1) == ALLOW


# -- numbers and architectures ----------------------------------------------------------------------------------------

def test_unknown_names_are_ignored():
    assert answer(make("SCMP_ACT_ERRNO", rule("no_such_call mkdir chown32")), "mkdir") == ALLOW


def test_newer_calls_than_the_profile_names_do_not_exist():
    profile = make("SCMP_ACT_ERRNO", rule("read openat2 mkdir"), rule("getrandom", "SCMP_ACT_ERRNO"))
    assert answer(profile, "openat2") == ALLOW
    assert answer(profile, NR["openat2"] - 1) == EPERM
    for number in (NR["openat2"] + 1, NR["mseal"], 471, 500, X32 - 1, 0xFFFFFFFF):
        assert answer(profile, number) == ENOSYS
    named_only = make("SCMP_ACT_ERRNO", rule("read"), rule("openat2", "SCMP_ACT_ERRNO"))
    assert answer(named_only, "openat2") == EPERM
    assert answer(named_only, NR["openat2"] + 1) == ENOSYS


@pytest.mark.parametrize(("default", "value"), [
    ("SCMP_ACT_ALLOW", ALLOW), ("SCMP_ACT_LOG", LOG), ("SCMP_ACT_TRACE", TRACE(1)),
    ("SCMP_ACT_ERRNO", ENOSYS), ("SCMP_ACT_KILL", ENOSYS), ("SCMP_ACT_KILL_PROCESS", ENOSYS), ("SCMP_ACT_TRAP", ENOSYS),
])
def test_which_defaults_extend_to_newer_calls(default, value):
    """Those that let a call through, as in runc: whoever denies never heard of these calls."""
    action = "SCMP_ACT_ERRNO" if default == "SCMP_ACT_ALLOW" else "SCMP_ACT_ALLOW"
    assert answer(make(default, rule("mkdir", action)), 460) == value


def test_a_profile_that_names_nothing_has_its_default_only():
    for number in (0, 300, 600):
        assert answer(make("SCMP_ACT_ERRNO"), number) == EPERM
        assert answer({"defaultAction": "SCMP_ACT_ALLOW"}, number) == ALLOW


@pytest.mark.parametrize("default", ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"])
@pytest.mark.parametrize("listed", [[], ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]])
def test_x32_does_not_exist(default, listed):
    profile = make(default, rule("read", "SCMP_ACT_LOG"), architectures=listed)
    for number in (X32, X32 | NR["read"], X32 | 520, 0x7FFFFFFF, 0xFFFFFFFF):
        assert answer(profile, number) == ENOSYS


def test_foreign_architectures_kill_the_process():
    profile = make("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_ERRNO"))
    for arch in (I386, AARCH64, 0, 0xFFFFFFFF):
        assert answer(profile, 39, arch=arch) == KILL_PROCESS
    both = {**profile, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"]}
    assert answer(both, "read", arch=I386) == ALLOW
    assert answer(both, "mkdir") == EPERM  # the native one is always part of it
    assert answer(both, 39, arch=AARCH64) == KILL_PROCESS  # listed, but not of this machine


def test_i386_has_a_tree_of_its_own():
    profile = make("SCMP_ACT_ERRNO", rule("read waitpid chown32"), rule("mkdir", "SCMP_ACT_LOG", (0, "EQ", 1)),
                   architectures=["SCMP_ARCH_X86"])
    for name in ("read", "waitpid", "chown32"):
        assert answer(profile, name, arch=I386) == ALLOW
    assert answer(profile, NR["read"], arch=I386) == EPERM  # restart_syscall there
    assert answer(profile, "mkdir", 1, arch=I386) == LOG
    assert answer(profile, NR32["chown32"] + 1, arch=I386) == ENOSYS
    assert answer(profile, X32 | 1, arch=I386) == ENOSYS


def test_i386_arguments_have_32_bits():
    """int $0x80 can be used with anything in the upper halves; the kernel drops them."""
    profile = make("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_ERRNO", (0, "EQ", 5)), architectures=["SCMP_ARCH_X86"])
    assert answer(profile, "mkdir", (7 << 32) + 5, arch=I386) == EPERM
    assert answer(profile, "mkdir", (7 << 32) + 5) == ALLOW


def test_i386_calls_cannot_be_reached_around_their_rule():
    profile = make("SCMP_ACT_ALLOW", rule("socket", "SCMP_ACT_ERRNO", (0, "EQ", 40)), rule("shmat", "SCMP_ACT_ERRNO"),
                   architectures=["SCMP_ARCH_X86"])
    assert answer(profile, "socket", 40, arch=I386) == EPERM
    assert answer(profile, "socket", 1, arch=I386) == ALLOW
    assert answer(profile, "socketcall", 1, arch=I386) == EPERM  # its arguments are in memory: denied as a whole
    assert answer(profile, "socketcall", 2, arch=I386) == ALLOW
    assert answer(profile, "shmat", arch=I386) == EPERM
    inside = make("SCMP_ACT_ALLOW", rule("accept send semop", "SCMP_ACT_LOG"), architectures=["SCMP_ARCH_X86"])
    assert [answer(inside, "socketcall", n, arch=I386) for n in (4, 5, 9, 10)] == [ALLOW, LOG, LOG, ALLOW]
    assert [answer(inside, "ipc", n, arch=I386) for n in (1, 2)] == [LOG, ALLOW]
    for version in (0, 1 << 16):  # ipc(2) keeps a version in the upper half
        assert answer(profile, "ipc", version | 21, arch=I386) == EPERM
        assert answer(profile, "ipc", version | 22, arch=I386) == ALLOW


def test_only_machines_with_a_table():
    with pytest.raises(Unsupported) as error:
        seccomp.compile(make(), "aarch64")
    assert "aarch64" in str(error.value)


# -- size and shape ---------------------------------------------------------------------------------------------------

def test_every_number_of_a_scattered_profile():
    """Neighbours that all differ: no ranges to merge, and jumps over more than 255 instructions."""
    rules = [rule(name, "SCMP_ACT_ERRNO", errnoRet=2 + number) for name, number in NR.items() if number % 3]
    program = decode(seccomp.compile(make("SCMP_ACT_ALLOW", *rules)))
    assert len(program) > 600
    for number in range(500):
        expected = ERRNO(2 + number) if number % 3 and number in NR.values() else ALLOW
        got, steps = run(program, number)
        assert got == expected
        assert steps < 25


def test_far_jumps_out_of_long_conditions():
    rules = [rule("mkdir", "SCMP_ACT_ERRNO", (0, "EQ", n << 20), (1, "LE", n << 40), errnoRet=n % 7)
             for n in range(300)]
    rules.append(rule("rmdir", "SCMP_ACT_LOG", *((n, "MASKED_EQ", U64, 1 << 50) for n in range(6))))
    profile = make("SCMP_ACT_ALLOW", *rules, architectures=["SCMP_ARCH_X86"])
    program = decode(seccomp.compile(profile))
    assert len(program) > 3000
    for n in range(301):
        assert run(program, NR["mkdir"], args=(n << 20, 0))[0] == (ERRNO(n % 7) if n < 300 else ALLOW)
    assert run(program, NR["rmdir"], args=[1 << 50] * 6)[0] == LOG
    assert run(program, NR["read"]) == (ALLOW, run(program, NR["read"])[1])
    assert run(program, NR32["read"], I386)[0] == ALLOW
    assert run(program, 5, AARCH64)[0] == KILL_PROCESS


def test_too_long_for_the_kernel():
    rules = [rule("mkdir", "SCMP_ACT_ERRNO", (0, "EQ", n << 20)) for n in range(1100)]
    with pytest.raises(SpecError) as error:
        seccomp.compile(make("SCMP_ACT_ALLOW", *rules))
    assert error.value.path == "linux.seccomp.syscalls"


def test_the_second_time_is_a_look_up():
    profile = make("SCMP_ACT_ERRNO", rule("read write"))
    assert seccomp.compile(profile) is seccomp.compile(json.loads(json.dumps(profile)))
    changed = make("SCMP_ACT_ERRNO", rule("read writev"))
    assert seccomp.compile(changed) != seccomp.compile(profile)


def test_what_never_came_from_json_is_not_remembered():
    one = {**make("SCMP_ACT_ERRNO", rule("rmdir")), "x": object()}
    two = {**make("SCMP_ACT_LOG", rule("rmdir")), "x": object()}
    assert answer(one, "mkdir") == EPERM
    assert answer(two, "mkdir") == LOG


# -- malformed profiles -----------------------------------------------------------------------------------------------

GOOD = rule("read", "SCMP_ACT_ALLOW", (0, "EQ", 1))


@pytest.mark.parametrize(("profile", "path"), [
    ([], "linux.seccomp"),
    ({}, "linux.seccomp.defaultAction"),
    (make("SCMP_ACT_PANIC"), "linux.seccomp.defaultAction"),
    (make(["SCMP_ACT_LOG"]), "linux.seccomp.defaultAction"),
    (make("SCMP_ACT_NOTIFY"), "linux.seccomp.defaultAction"),
    (make(defaultErrnoRet=-1), "linux.seccomp.defaultErrnoRet"),
    (make(defaultErrnoRet=4096), "linux.seccomp.defaultErrnoRet"),
    (make(defaultErrnoRet=True), "linux.seccomp.defaultErrnoRet"),
    (make("SCMP_ACT_ALLOW", defaultErrnoRet=1), "linux.seccomp.defaultErrnoRet"),
    (make(architectures={}), "linux.seccomp.architectures"),
    (make(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_VAX"]), "linux.seccomp.architectures[1]"),
    (make(architectures=[7]), "linux.seccomp.architectures[0]"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "linux.seccomp.syscalls"),
    (make("SCMP_ACT_ERRNO", GOOD, "read"), "linux.seccomp.syscalls[1]"),
    (make("SCMP_ACT_ERRNO", {"action": "SCMP_ACT_ALLOW"}), "linux.seccomp.syscalls[0].names"),
    (make("SCMP_ACT_ERRNO", {"names": [], "action": "SCMP_ACT_ALLOW"}), "linux.seccomp.syscalls[0].names"),
    (make("SCMP_ACT_ERRNO", {"names": ["a", 1], "action": "SCMP_ACT_ALLOW"}), "linux.seccomp.syscalls[0].names[1]"),
    (make("SCMP_ACT_ERRNO", {"names": ["a"]}), "linux.seccomp.syscalls[0].action"),
    (make("SCMP_ACT_ERRNO", GOOD, GOOD, GOOD, rule("read", "ALLOW")), "linux.seccomp.syscalls[3].action"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_ALLOW", errnoRet=1)), "linux.seccomp.syscalls[0].errnoRet"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRACE", errnoRet=1 << 16)), "linux.seccomp.syscalls[0].errnoRet"),
    (make("SCMP_ACT_LOG", {**GOOD, "args": 1}), "linux.seccomp.syscalls[0].args"),
    (make("SCMP_ACT_LOG", {**GOOD, "args": [3]}), "linux.seccomp.syscalls[0].args[0]"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (0, "EQ", 1), (1, "XOR", 1))),
     "linux.seccomp.syscalls[0].args[1].op"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (6, "EQ", 1))), "linux.seccomp.syscalls[0].args[0].index"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (0, "EQ"))), "linux.seccomp.syscalls[0].args[0].value"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (0, "EQ", 1 << 64))),
     "linux.seccomp.syscalls[0].args[0].value"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (0, "EQ", -1))), "linux.seccomp.syscalls[0].args[0].value"),
    (make("SCMP_ACT_LOG", rule("read", "SCMP_ACT_TRAP", (0, "MASKED_EQ", 1, 1.5))),
     "linux.seccomp.syscalls[0].args[0].valueTwo"),
])
def test_malformed(profile, path):
    with pytest.raises(SpecError) as error:
        seccomp.compile(profile)
    assert error.value.path == path
    assert error.value.problem


def test_notify_asks():
    assert answer(make("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_NOTIFY")), "mkdir") == 0x7FC00000
    waiting = {"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}
    assert seccomp.flags({**waiting, "syscalls": [rule("mkdir", "SCMP_ACT_NOTIFY")]}) == 32
    assert seccomp.flags(waiting) == 0, "it means nothing without a listener, and the kernel refuses it"


def test_null_stands_for_absent():
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": None, "architectures": None,
               "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": None, "errnoRet": None}]}
    assert answer(profile, "read") == ALLOW


@pytest.mark.parametrize(("listed", "value"), [
    (None, 4), ([], 0), (["SECCOMP_FILTER_FLAG_LOG"], 2), (["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 4),
    (["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 6),
])
def test_flags(listed, value):
    assert seccomp.flags(make(flags=listed)) == value
    assert seccomp.flags({"defaultAction": "SCMP_ACT_ALLOW"}) == 4


@pytest.mark.parametrize("flag", ["SECCOMP_FILTER_FLAG_NEW_LISTENER", "LOG", 2, []])
def test_unsupported_flags(flag):
    with pytest.raises(SpecError) as error:
        seccomp.flags(make(flags=["SECCOMP_FILTER_FLAG_LOG", flag]))
    assert error.value.path == "linux.seccomp.flags[1]"


# -- the tables -------------------------------------------------------------------------------------------------------

def test_tables():
    assert (NR["read"], NR["clone3"], NR["uretprobe"], NR["cachestat"], NR["mseal"], NR["file_setattr"]) == \
        (0, 435, 335, 451, 462, 469)
    assert (NR32["restart_syscall"], NR32["socketcall"], NR32["ipc"], NR32["semget"], NR32["futex_time64"],
            NR32["file_setattr"]) == (0, 102, 117, 393, 422, 469)
    for table in (NR, NR32):
        assert len(set(table.values())) == len(table)
        assert "-" not in table
    assert I386_SOCKETCALL["sendmmsg"] == 20
    assert set(I386_SOCKETCALL) | set(I386_IPC) >= {"socket", "accept", "recv", "shmctl"}


@pytest.mark.parametrize(("header", "machine"), [("unistd_64.h", "x86_64"), ("unistd_32.h", "i386")])
def test_tables_agree_with_the_kernel_headers(header, machine):
    path = f"/usr/include/x86_64-linux-gnu/asm/{header}"
    if not os.path.exists(path):
        pytest.skip(f"{path} is not here (linux-libc-dev)")
    with open(path) as file:
        words = [line.split() for line in file if line.startswith("#define __NR_")]
    theirs = {word[1][5:]: int(word[2]) for word in words if len(word) == 3 and word[2].isdigit()}
    ours = numbers(machine)
    assert len(theirs) > 300
    assert {name: ours.get(name) for name in theirs} == theirs
    assert {ours[name] for name in set(ours) - set(theirs)}.isdisjoint(theirs.values())


# -- the default profile ----------------------------------------------------------------------------------------------

DOCKER = frozenset("CAP_" + name for name in (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE").split())
DEFAULT = seccomp_default.default_profile(DOCKER)


def words(groups):
    return {name for _, names in groups for name in names.split()}


def test_every_call_has_a_decision():
    allowed, denied = words(seccomp_default.ALLOWED), words(seccomp_default.DENIED)
    by_capability = words(seccomp_default.BY_CAPABILITY.items())
    by_rule = {name for name, _ in seccomp_default.RULES}
    in_socketcall_only = {"send", "recv"}
    assert allowed | denied | by_capability | by_rule == set(NR) | set(NR32) | in_socketcall_only
    assert sum(map(len, (allowed, denied, by_capability, by_rule))) == len(allowed | denied | by_capability | by_rule)


def test_default_allows_ordinary_programs():
    for name in "read write openat execve mmap futex epoll_wait ptrace landlock_add_rule statmount chroot".split():
        assert answer(DEFAULT, name) == ALLOW
        assert answer(DEFAULT, name, arch=I386) == ALLOW
    for family in (*range(38), 39, *range(41, 47)):
        assert answer(DEFAULT, "socket", family) == ALLOW
        assert answer(DEFAULT, "socket", family | 0xABC << 32) == ALLOW
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert answer(DEFAULT, "personality", persona) == ALLOW
    assert answer(DEFAULT, "clone", 0x3D0F00) == ALLOW  # pthread_create's


def test_default_denies_the_rest():
    for name in ("io_uring_setup keyctl add_key request_key userfaultfd bpf perf_event_open mount unshare setns reboot "
                 "kexec_load init_module iopl settimeofday open_by_handle_at syslog pivot_root swapon").split():
        assert answer(DEFAULT, name) == EPERM
    for family in (38, 40):
        assert answer(DEFAULT, "socket", family) == EPERM
        assert answer(DEFAULT, "socket", family | 1 << 32) == EPERM  # the kernel takes an int
        assert answer(DEFAULT, "socket", family, arch=I386) == EPERM
    for persona in (0x0040000, 0x0400000, 0x20009, 3):
        assert answer(DEFAULT, "personality", persona) == EPERM
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(DEFAULT, "clone", flag | 17) == EPERM
        assert answer(DEFAULT, "clone", flag | 17, arch=I386) == EPERM


def test_default_knows_what_it_does_not_know():
    assert answer(DEFAULT, "clone3") == ENOSYS
    assert answer(DEFAULT, "removexattrat") == ALLOW
    for number in (467, 468, 469, 480, 1000):
        assert answer(DEFAULT, number) == ENOSYS
        assert answer(DEFAULT, number, arch=I386) == ENOSYS


def test_default_with_each_capability():
    for capability, names in seccomp_default.BY_CAPABILITY.items():
        profile = seccomp_default.default_profile(frozenset({capability}))
        for name in names.split():
            if name in NR:
                assert answer(profile, name) == ALLOW
                assert answer(seccomp_default.default_profile(frozenset()), name) != ALLOW or name == "clone"
    admin = seccomp_default.default_profile(frozenset({"CAP_SYS_ADMIN"}))
    assert answer(admin, "clone", 0x10000000) == ALLOW
    assert answer(admin, "clone3") == ALLOW
    assert answer(admin, "io_uring_setup") == EPERM


def test_default_is_the_callers_to_change():
    mine = seccomp_default.default_profile(DOCKER)
    for entry in mine["syscalls"]:
        entry["names"].clear()
        for arg in entry.get("args", ()):
            arg.clear()
    assert seccomp_default.default_profile(DOCKER) == DEFAULT


def test_default_is_short():
    program = decode(seccomp.compile(DEFAULT))
    assert len(program) < 300
    steps = [run(program, number)[1] for number in NR.values()]
    assert sum(steps) / len(steps) < 12
    assert len(decode(seccomp.compile({**DEFAULT, "architectures": []}))) < 120


# -- imports, and the kernel ------------------------------------------------------------------------------------------

def test_imports_nothing_that_costs():
    import subprocess
    source = os.path.abspath(os.path.join(os.path.dirname(seccomp.__file__), "..", ".."))
    script = (f"import sys; sys.path.insert(0, {source!r}); import dolium.plan; before = set(sys.modules);"
              "from dolium.plan import seccomp, seccomp_default;"
              "seccomp.compile(seccomp_default.default_profile(frozenset()));"
              "print(*sorted(set(sys.modules) - before))")
    got = subprocess.run([sys.executable, "-IS", "-c", script], capture_output=True, text=True, check=True)
    assert set(got.stdout.split()) <= {"dolium.plan." + name for name in ("seccomp", "seccomp_default", "syscalls")}


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="for Linux on x86_64")
def test_the_kernel_loads_and_obeys_it():
    filter = seccomp.compile(DEFAULT)
    flags = seccomp.flags(DEFAULT)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    program = Program(len(filter) // 8, filter)

    def call(number, *args):
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
        return ctypes.get_errno() if result == -1 else 0

    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            got = [libc.prctl(38, 1, 0, 0, 0),  # PR_SET_NO_NEW_PRIVS
                   call(NR["seccomp"], 1, flags, ctypes.addressof(program)),
                   call(NR["getpid"]), call(NR["socket"], 1, 1, 0), call(NR["personality"], 0xFFFFFFFF),
                   call(NR["socket"], 40, 1, 0), call(NR["socket"], 38 | 1 << 32, 5, 0), call(NR["keyctl"], 0),
                   call(NR["unshare"], 0x10000000), call(NR["personality"], 0x0040000),
                   call(NR["clone3"], 0, 0), call(NR["file_getattr"]), call(5000), call(X32 | NR["getpid"])]
            os.write(sink, json.dumps(got).encode())
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        got = json.loads(file.read())
    assert os.waitpid(child, 0)[1] == 0
    assert got == [0, 0, 0, 0, 0] + [errno.EPERM] * 5 + [errno.ENOSYS] * 4
