"""linux.seccomp as the kernel carries it out: each action, operator and flag; each test is named after its rule.

chmod(1) calls chmod(2), whose second argument is the mode: what happens to it shows what the filter says."""

from __future__ import annotations

import json
import platform
from typing import Any

import pytest
from bundles import Bundle, config, script

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="chmod(2) is a call of x86_64")
NAMES = ["chmod"]


def ran(bundle: Bundle, text: str, *rules: dict[str, Any], **profile: Any) -> tuple[int, str]:
    """Exit code and words of a script under a filter that allows all else."""
    bundle.write(script(text, linux__seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": NAMES, **rule} for rule in rules], **profile}))
    ended = bundle.verb("run", "-b", bundle.directory, bundle.id)
    return ended.code, ended.out + ended.err


TRY = "touch /x; chmod 700 /x; echo $?"


@pytest.mark.parametrize(("rule", "words"), [
    ({"action": "SCMP_ACT_ERRNO"}, "Operation not permitted"), ({"action": "SCMP_ACT_ERRNO", "errnoRet": 2}, "No such file"),
    ({"action": "SCMP_ACT_KILL"}, "159"), ({"action": "SCMP_ACT_KILL_THREAD"}, "159"), ({"action": "SCMP_ACT_KILL_PROCESS"}, "159"),
    ({"action": "SCMP_ACT_TRAP"}, "159"), ({"action": "SCMP_ACT_TRACE"}, "Function not implemented"),
], ids=["ERRNO", "ERRNO 2", "KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP", "TRACE"])  # fmt: skip
def test_each_action_that_refuses(bundle: Bundle, rule: dict[str, Any], words: str) -> None:
    """TRACE without a tracer is ENOSYS, seccomp(2); 159 is 128 + SIGSYS."""
    code, said = ran(bundle, TRY, rule)
    assert words in said and code == 0, said


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"])
def test_each_action_that_allows(bundle: Bundle, action: str) -> None:
    code, said = ran(bundle, TRY, {"action": action})
    assert (code, said) == (0, "0\n")


MODE = 0o700


@pytest.mark.parametrize(("op", "arguments", "hit"), [
    ("SCMP_CMP_NE", {"value": 0o711}, {0o700, 0o722}), ("SCMP_CMP_LT", {"value": 0o711}, {0o700}), ("SCMP_CMP_LE", {"value": 0o711}, {0o700, 0o711}),
    ("SCMP_CMP_EQ", {"value": 0o711}, {0o711}), ("SCMP_CMP_GE", {"value": 0o711}, {0o711, 0o722}), ("SCMP_CMP_GT", {"value": 0o711}, {0o722}),
    ("SCMP_CMP_MASKED_EQ", {"value": 0o022, "valueTwo": 0o022}, {0o722}),
], ids=["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"])  # fmt: skip
def test_each_operator(bundle: Bundle, op: str, arguments: dict[str, int], hit: set[int]) -> None:
    rule = {"action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "op": op, **arguments}]}
    _, said = ran(bundle, "touch /x; for m in 700 711 722; do chmod $m /x 2>/dev/null || echo $m; done", rule)
    assert {int(each, 8) for each in said.split()} == hit


@pytest.mark.parametrize("flags", [["SECCOMP_FILTER_FLAG_LOG"], ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], ["SECCOMP_FILTER_FLAG_TSYNC"],
                                   ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], []], ids=["LOG", "SPEC_ALLOW", "TSYNC", "two", "none"])
def test_each_flag_is_taken(bundle: Bundle, flags: list[str]) -> None:
    _, said = ran(bundle, f"{TRY}; grep Speculation_Store /proc/self/status", {"action": "SCMP_ACT_ERRNO"}, flags=flags)
    assert "Operation not permitted" in said


def test_the_default_is_refusal_with_its_errno(bundle: Bundle) -> None:
    """defaultErrnoRet of defaultAction; what is named is allowed."""
    calls = ["read", "write", "open", "openat", "close", "execve", "brk", "mmap", "munmap", "mprotect", "exit", "exit_group", "arch_prctl", "set_tid_address", "rt_sigaction",
             "rt_sigprocmask", "rt_sigreturn", "getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "fcntl", "ioctl", "stat", "fstat", "lstat", "newfstatat", "getcwd",
             "uname", "fork", "vfork", "clone", "wait4", "dup2", "dup", "setgid", "setuid", "sysinfo", "writev", "readv", "access", "futex", "set_robust_list", "capset", "capget",
             "prctl", "fchdir", "chdir", "statx", "umask", "sendmsg", "recvmsg", "close_range", "fchmodat", "utimensat", "sendto", "recvfrom"]
    spec = script(": >/x; chmod 700 /x", linux__seccomp={"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95,
                                                           "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}]})
    bundle.write(spec)
    assert "Not supported" in (ended := bundle.verb("run", "-b", bundle.directory, bundle.id)).err, ended


@pytest.mark.parametrize(("profile", "words"), [
    ({"defaultAction": "SCMP_ACT_NO"}, "linux.seccomp.defaultAction"), ({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NO"]}, "linux.seccomp.architectures[0]"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NO"]}, "linux.seccomp.flags[0]"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]},
     "linux.seccomp.syscalls[0].args[0].index"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 0, "op": "NO"}]}]},
     "linux.seccomp.syscalls[0].args[0].op"),
    ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}, "linux.seccomp.syscalls[0].names"),
], ids=["action", "architecture", "flag", "index", "operator", "no names"])  # fmt: skip
def test_what_is_wrong_in_a_profile_is_named(bundle: Bundle, profile: dict[str, Any], words: str) -> None:
    assert words in bundle.refused(config(linux__seccomp=profile))


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "open"])
@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_TRAP"])
def test_a_filter_that_refuses_everything_ends_the_process(bundle: Bundle, action: str, locked: bool) -> None:
    """Also the call that ends it, which libc would try again for ever."""
    bundle.write(config(linux__seccomp={"defaultAction": action}, process__noNewPrivileges=locked))
    ended = bundle.verb("run", "-b", bundle.directory, bundle.id)
    assert ended.code == 1 and ended.err.startswith("error: ") and bundle.status() == "gone", ended
    if bundle.create().code == 0:  # what it is told last of all is not heard: then its end is its start's
        bundle.start()
        bundle.wait()


def test_exec_under_a_filter_that_refuses_everything_ends(bundle: Bundle) -> None:
    bundle.running()
    path = f"{bundle.root}/{bundle.id}/config.json"
    with open(path) as file:
        spec = json.load(file)
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO"}
    with open(path, "w") as file:
        json.dump(spec, file)
    for flags in ((), ("--detach",)):
        assert bundle.verb("exec", *flags, bundle.id, "true").code != 0 or flags
