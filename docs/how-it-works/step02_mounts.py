"""Step 2, mounts: a private copy of the list of mounts, so that the host never sees ours.

In `dolium explain`: `unshare mnt`, `make / a slave`; for who is not root `unshare user mnt`, `uid_map 0 -> UID`.
"""

import os

from kernel import CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_SLAVE, call, mount, propagation, show


def own_mounts():
    """Leave the host's mount namespace.  Who is not root may do so in a user namespace only, whose one user he is."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        call("unshare", CLONE_NEWNS)
    else:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"0 {uid} 1")
        write("/proc/self/gid_map", f"0 {gid} 1")
    propagation(MS_SLAVE | MS_REC)


def write(path, text):
    """All at once, as the kernel wants it."""
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    host = f"/proc/{os.getppid()}"
    show("before", "/proc/self/ns/mnt")
    own_mounts()
    show("after", "/proc/self/ns/mnt")
    mount("tmpfs", "/mnt")
    for name, process in (("ours", "/proc/self"), ("host's", host)):
        with open(f"{process}/mountinfo") as file:
            print(f"after   {name} mounts on /mnt:", sum(line.split()[4] == "/mnt" for line in file))
