"""Step 6, files: a tree that will be the root: new and empty, with the host's programs in it, read-only.

In `dolium explain`: `make / private`, `an empty tmpfs as rootfs`, `make 7 directories`, `make 2 links`, `bind /usr`.
"""

import os
import sys

from kernel import ATTR_NOSUID, ATTR_RDONLY, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, bind, mount, propagation, read_only, show
from step04_users import container
from step05_names import own_names

ROOT = "/mnt"  # hidden below our tmpfs in our own list of mounts; the host's /mnt is as it was


def own_files(root=ROOT):
    """A root file system on `root`."""
    propagation(MS_PRIVATE | MS_REC)
    mount("tmpfs", root, MS_NOSUID | MS_NODEV, "mode=755,size=32m")
    for path in ("etc", "root", "tmp", "usr", "proc", "dev", "sys"):
        os.mkdir(f"{root}/{path}")
    bind("/usr", f"{root}/usr")
    read_only(f"{root}/usr", ATTR_RDONLY | ATTR_NOSUID)
    for path in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink(f"/{path}"):  # Debian has them in /usr
            os.symlink(f"usr/{path}", f"{root}/{path}")
    for path, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("hosts", "127.0.0.1 localhost\n")):
        with open(f"{root}/etc/{path}", "w") as file:
            file.write(text)


def mounts(below=""):
    """What is mounted, as the kernel lists it for this process."""
    with open("/proc/self/mountinfo") as file:
        return [line.split()[4] for line in file if line.split()[4].startswith(below)]


if __name__ == "__main__":
    def inside():
        own_names("jar")
        print("before ", mounts(ROOT), flush=True)
        own_files()
        print("after  ", mounts(ROOT), flush=True)
        print("after  ", sorted(os.listdir(ROOT)), flush=True)
        try:
            open(f"{ROOT}/usr/mine", "w").close()
        except OSError as error:
            print(f"after   {error}", flush=True)
        show("after", "/proc/self/root")

    sys.exit(container(inside))
