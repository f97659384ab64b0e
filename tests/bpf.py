"""Seccomp filters, compiled and evaluated by a small interpreter of cBPF: seccomp_check_filter() in kernel/seccomp.c."""

import errno
import struct

from dolium.plan import seccomp
from dolium.plan.syscalls import numbers

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
