"""Step 9, rights: root inside keeps 14 of the kernel's 41 powers, and no setuid program gives others back.

In `dolium explain`: `keep 14 of 41 capabilities`, `hold 14 capabilities`, `no_new_privs`.
"""

import struct
import sys

from kernel import PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, call, show
from step04_users import container
from step05_names import own_names
from step06_files import own_files
from step07_kernel_files import cover, kernel_files
from step08_pivot import change_root

KEPT = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}  # capabilities(7): chown, dac_override ... setfcap, as Docker has it
VERSION_3 = 0x20080522


def give_up_power():
    """First the bound, for that takes a capability; then those held; then the promise to gain none."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    for number in range(last + 1):
        if number not in KEPT:
            call("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)
    held = sum(1 << number for number in KEPT)
    low, high = held & 0xFFFFFFFF, held >> 32
    effective_permitted_inherited = struct.pack("6I", low, low, 0, high, high, 0)
    call("capset", struct.pack("Ii", VERSION_3, 0), effective_permitted_inherited)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    def inside():
        own_names("jar")
        own_files()
        kernel_files()
        cover()
        change_root()
        show("before", "/proc/self/status", "CapEff", "CapBnd", "NoNewPrivs")
        give_up_power()
        show("after", "/proc/self/status", "CapEff", "CapBnd", "NoNewPrivs")

    sys.exit(container(inside))
