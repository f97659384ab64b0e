"""What a profile may say: what is malformed, what stands for what is absent, flags."""

import pytest
from bpf import ALLOW, answer, make, rule

from dolium.errors import SpecError
from dolium.plan import seccomp

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
