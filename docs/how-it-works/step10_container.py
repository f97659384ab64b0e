"""Step 10, the container: a filter for system calls, a clean environment, and the program.

In `dolium explain`: `seccomp`, `exec sh`, `become dolium-keep`.

    python3 step10_container.py [PROGRAM [ARGUMENT...]]
"""

import ctypes
import os
import struct
import sys

from kernel import PR_SET_SECCOMP, call, show
from step01_limits import limits
from step04_users import container
from step05_names import own_names
from step06_files import own_files
from step07_kernel_files import cover, kernel_files
from step08_pivot import change_root
from step09_rights import give_up_power

X86_64, I386_OR_X32, KILL, ERRNO, ALLOW, EPERM = 0xC000003E, 0x40000000, 0x80000000, 0x50000, 0x7FFF0000, 1
REFUSED = {"ptrace": 101, "mount": 165, "umount2": 166, "reboot": 169, "init_module": 175, "keyctl": 250, "unshare": 272,
           "perf_event_open": 298, "setns": 308, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "clone3": 435,
           "open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442}  # fmt: skip


def filter_calls():
    """A program of BPF that the kernel runs before each system call.  Ours names what is refused; dolium's, of 255
    instructions, names what is allowed, which also holds for system calls that are not invented yet."""
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, X86_64), (give, 0, 0, KILL),  # the machine's other call tables have other numbers
             (load, 0, 0, 0), (at_least, 0, 1, I386_OR_X32), (give, 0, 0, KILL)]  # fmt: skip
    for number in REFUSED.values():
        steps += [(equal, 0, 1, number), (give, 0, 0, ERRNO | EPERM)]
    steps += [(give, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in steps))
    call("prctl", PR_SET_SECCOMP, 2, struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code)), 0, 0)


def run(argv):
    """The program takes our place; nothing of the caller's goes with it but stdin, stdout and stderr."""
    os.closerange(3, 1 << 16)
    os.execvpe(argv[0], argv, {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/root", "HOSTNAME": "jar"})


def main(argv):
    """The recipe."""
    def inside():
        own_names("jar")
        own_files()
        kernel_files()
        cover()
        change_root()
        give_up_power()
        show("before", "/proc/self/status", "Seccomp:")
        filter_calls()
        show("after", "/proc/self/status", "Seccomp:")
        run(argv)

    with limits() as group:
        return container(inside, group)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["sh"]))
