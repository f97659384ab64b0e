"""Filters of any profile: what they answer, and how large they are."""

import json

import pytest
from bpf import (
    AARCH64,
    ALLOW,
    ENOSYS,
    EPERM,
    ERRNO,
    I386,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    NR,
    NR32,
    TRACE,
    TRAP,
    U64,
    X32,
    answer,
    decode,
    make,
    rule,
    run,
)

from dolium.errors import SpecError, Unsupported
from dolium.plan import seccomp

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
