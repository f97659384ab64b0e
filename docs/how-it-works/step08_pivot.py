"""Step 8, the root: the new tree becomes /, and the host's files go out of reach.

In `dolium explain`: `pivot_root`, `umount2 the old /`.
"""

import os
import sys

from kernel import MNT_DETACH, call, pivot_root
from step04_users import container
from step05_names import own_names
from step06_files import ROOT, mounts, own_files
from step07_kernel_files import cover, kernel_files


def change_root(root=ROOT):
    """Both at once need no directory for the old root: it lies on top of the new one, and is taken off."""
    os.chdir(root)
    pivot_root(".", ".")
    call("umount2", ".", MNT_DETACH)
    os.chdir("/")


if __name__ == "__main__":
    def inside():
        own_names("jar")
        own_files()
        kernel_files()
        cover()
        print(f"before  {len(mounts())} mounts; /home is {os.path.exists('/home')}", flush=True)
        change_root()
        print(f"after   {len(mounts())} mounts; /home is {os.path.exists('/home')}", flush=True)
        print(f"after   / has {sorted(os.listdir('/'))}", flush=True)

    sys.exit(container(inside))
