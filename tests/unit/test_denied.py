"""The filter that asks: it asks where the other refuses and nowhere else, and the answer is the other's."""

from __future__ import annotations

import random
import struct

import pytest
from bpf import AARCH64, I386, NR, X86_64, decode, make, rule, run

from dolium.errors import Unsupported
from dolium.plan import denied, seccomp
from dolium.plan.capabilities import DEFAULT
from dolium.plan.seccomp_default import ALLOWED, BY_CAPABILITY, DENIED, default_profile
from dolium.plan.syscalls import numbers

PROFILE = seccomp.compile(default_profile(frozenset(DEFAULT)))


def call(number: int, arch: int = X86_64, args: tuple[int, ...] = (0,) * 6) -> bytes:
    return struct.pack("<IIQ6Q", number, arch, 0xDEAD, *args)


def test_it_asks_where_the_other_refuses() -> None:
    asking, chance = decode(denied.asking(PROFILE)), random.Random(7)
    plain = decode(PROFILE)
    refused = 0
    for arch in (X86_64, I386, AARCH64):
        for number in [*range(500), 1000, 0x40000027, 0xFFFFFFFF]:
            for args in [(0,) * 6, tuple(chance.choice([0, 1, 38, 40, 0x10000000, (1 << 64) - 1, chance.getrandbits(64)]) for _ in range(6))]:
                before, after = run(plain, number, arch, args)[0], run(asking, number, arch, args)[0]
                if before & 0xFFFF0000 == 0x50000:
                    assert after == 0x7FC00000
                    assert denied.errno(PROFILE, call(number, arch, args)) == before & 0xFFFF
                    refused += 1
                else:
                    assert after == before
    assert refused > 300


def test_a_call_that_would_not_be_refused_is_refused_all_the_same() -> None:
    """Nothing can be let through by asking."""
    assert denied.errno(PROFILE, call(NR["getpid"])) == 1


@pytest.mark.parametrize("name", ["sendmsg", "close"])
def test_a_profile_whose_listener_could_not_be_handed_over(name: str) -> None:
    for args in ((), ((2, "EQ", 64),)):
        profile = make("SCMP_ACT_ALLOW", rule(name, "SCMP_ACT_ERRNO", *args))
        with pytest.raises(Unsupported, match=f"may refuse {name}"):
            denied.asking(seccomp.compile(profile))
    denied.asking(seccomp.compile(make("SCMP_ACT_ALLOW", rule("mkdir", "SCMP_ACT_ERRNO"))))


def denial(name: str, errno: int = 1, arch: int = X86_64) -> denied.Denial:
    found = denied.Denial(arch, numbers("x86_64" if arch == X86_64 else "i386")[name], errno)
    found.count, found.programs = 1, ["x (/bin/x)"]
    return found


@pytest.mark.parametrize(("name", "flag"), [
    ("mount", "--cap-add SYS_ADMIN"), ("bpf", "--cap-add BPF"), ("perf_event_open", "--cap-add PERFMON"), ("syslog", "--cap-add SYSLOG"),
    ("open_by_handle_at", "--cap-add DAC_READ_SEARCH"), ("keyctl", denied.UNCONFINED), ("io_uring_setup", denied.UNCONFINED),
    ("personality", denied.UNCONFINED),
])  # fmt: skip
def test_the_flag_and_its_price(name: str, flag: str) -> None:
    found = denied.flag(denial(name), True)
    assert found == flag
    page = denied.lines([denial(name)], True)
    assert page[1] == f"  {name}: EPERM to x (/bin/x)" and flag in page[2] and " allows it, and with it " in page[2]


def test_the_flag_really_opens_it() -> None:
    """Every call that the default profile refuses without conditions: with the capability named, its filter allows it."""
    told = 0
    for number in range(470):
        verdict = run(decode(PROFILE), number)[0]
        found = denied.Denial(X86_64, number, verdict & 0xFFFF)
        if verdict & 0xFFFF0000 != 0x50000 or denied.flag(found, True) == denied.UNCONFINED:
            continue
        held = frozenset({*DEFAULT, "CAP_" + denied.flag(found, True).split()[1]})
        assert run(decode(seccomp.compile(default_profile(held))), number)[0] == 0x7FFF0000, found.name
        told += 1
    assert told > 25


def test_all_words_are_there() -> None:
    assert {*BY_CAPABILITY} <= {*denied.PRICES}
    assert not {name for _, names in ALLOWED for name in names.split()} & {name for _, names in DENIED for name in names.split()}
    assert denied.lines([], True) == ["seccomp has refused nothing; what failed was refused by something else: capabilities, modes, mounts"]
    assert "the kernel's keyrings" in denied.lines([denial("keyctl")], True)[2]
    assert "take clone" in denied.lines([denial("clone3", 38)], True)[2]
    assert denied.lines([denial("mount")], False)[2].startswith("    allow it in the profile; or --security-opt")
    assert "(of a 32-bit program)" in denied.lines([denial("mount", arch=I386)], True)[1]
    unknown = denied.Denial(X86_64, 1000, 38)
    x32 = denied.Denial(X86_64, 0x40000027, 38)
    unknown.programs, unknown.count = ["a", "b"], 5
    assert denied.lines([unknown], True)[1] == "  call 1000: ENOSYS to a, b, 5 times"
    assert "older kernel" in denied.lines([unknown], True)[2]
    assert denied.lines([x32], True)[1].startswith("  call 39 of x32: ENOSYS")
