"""Step 4, users: root inside is nobody outside.

In `dolium explain`: `uid_map 0 -> 524288`, `meet: the ids are mapped`, `setresuid 0`.
"""

import os
import socket
import sys

from kernel import show
from step01_limits import Group
from step02_mounts import own_mounts, write
from step03_processes import born, ended

FIRST = 524288  # dolium takes a range that no other container has


def container(inside, group=None):
    """Steps 1 to 4 together: `inside` is done by root of the new users.  Its exit code."""
    root = os.geteuid() == 0
    own_mounts()
    outside_end, inside_end = socket.socketpair()

    def first():
        outside_end.close()
        if not inside_end.recv(1):  # meet: the ids are mapped, or outside has failed
            return 1
        inside_end.close()
        if root:
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        return inside()

    child = born(first, group or Group(), root)
    if root:  # who is not root has mapped himself in step 2
        write(f"/proc/{child}/uid_map", f"0 {FIRST} 65536")
        write(f"/proc/{child}/gid_map", f"0 {FIRST} 65536")
    outside_end.send(b".")
    return ended(child)


if __name__ == "__main__":
    show("before", "/proc/self/uid_map")

    def inside():
        show("after", "/proc/self/uid_map")
        print(f"after   I am uid {os.getuid()} inside; outside I am {outside()}", flush=True)

    def outside():
        with open("/proc/self/uid_map") as file:
            return file.read().split()[1]

    sys.exit(container(inside))
