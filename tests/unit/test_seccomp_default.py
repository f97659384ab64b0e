"""The default profile, evaluated and once loaded into the kernel, and the tables of calls that it speaks of."""

import ctypes
import errno
import json
import os
import sys

import pytest
from bpf import ALLOW, ENOSYS, EPERM, I386, NR, NR32, X32, answer, decode, run

from dolium.plan import seccomp, seccomp_default
from dolium.plan.capabilities import DEFAULT
from dolium.plan.syscalls import I386_IPC, I386_SOCKETCALL, numbers

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

PROFILE = seccomp_default.default_profile(frozenset(DEFAULT))


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
        assert answer(PROFILE, name) == ALLOW
        assert answer(PROFILE, name, arch=I386) == ALLOW
    for family in (*range(38), 39, *range(41, 47)):
        assert answer(PROFILE, "socket", family) == ALLOW
        assert answer(PROFILE, "socket", family | 0xABC << 32) == ALLOW
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert answer(PROFILE, "personality", persona) == ALLOW
    assert answer(PROFILE, "clone", 0x3D0F00) == ALLOW  # pthread_create's


def test_default_denies_the_rest():
    for name in ("io_uring_setup keyctl add_key request_key userfaultfd bpf perf_event_open mount unshare setns reboot "
                 "kexec_load init_module iopl settimeofday open_by_handle_at syslog pivot_root swapon").split():
        assert answer(PROFILE, name) == EPERM
    for family in (38, 40):
        assert answer(PROFILE, "socket", family) == EPERM
        assert answer(PROFILE, "socket", family | 1 << 32) == EPERM  # the kernel takes an int
        assert answer(PROFILE, "socket", family, arch=I386) == EPERM
    for persona in (0x0040000, 0x0400000, 0x20009, 3):
        assert answer(PROFILE, "personality", persona) == EPERM
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(PROFILE, "clone", flag | 17) == EPERM
        assert answer(PROFILE, "clone", flag | 17, arch=I386) == EPERM


def test_default_knows_what_it_does_not_know():
    assert answer(PROFILE, "clone3") == ENOSYS
    assert answer(PROFILE, "removexattrat") == ALLOW
    for number in (467, 468, 469, 480, 1000):
        assert answer(PROFILE, number) == ENOSYS
        assert answer(PROFILE, number, arch=I386) == ENOSYS


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
    mine = seccomp_default.default_profile(frozenset(DEFAULT))
    for entry in mine["syscalls"]:
        entry["names"].clear()
        for arg in entry.get("args", ()):
            arg.clear()
    assert seccomp_default.default_profile(frozenset(DEFAULT)) == PROFILE


def test_default_is_short():
    program = decode(seccomp.compile(PROFILE))
    assert len(program) < 300
    steps = [run(program, number)[1] for number in NR.values()]
    assert sum(steps) / len(steps) < 12
    assert len(decode(seccomp.compile({**PROFILE, "architectures": []}))) < 120


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
    filter = seccomp.compile(PROFILE)
    flags = seccomp.flags(PROFILE)
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
