"""Step 7, the kernel's own files: /proc of its own processes, a few devices, /sys read-only, and what is secret hidden.

In `dolium explain`: `proc for /proc`, `mount the tmpfs on /dev`, `sysfs for /sys`, `mask 12 paths`, `make 5 paths read-only`.
"""

import os
import sys

from kernel import MS_NOEXEC, MS_NOSUID, MS_RDONLY, SAFE, bind, mount, read_only
from step04_users import container
from step05_names import own_names
from step06_files import ROOT, own_files

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
MASKED = ("proc/kcore", "proc/keys", "proc/timer_list", "proc/interrupts", "sys/firmware")
READ_ONLY = ("proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus")


def kernel_files(root=ROOT):
    """Before the pivot: who has users of its own may mount proc and sysfs only while the host's are still to be seen."""
    mount("proc", f"{root}/proc", SAFE)
    mount("sysfs", f"{root}/sys", SAFE | MS_RDONLY)
    mount("tmpfs", f"{root}/dev", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k")
    for name in DEVICES:
        open(f"{root}/dev/{name}", "w").close()
        bind(f"/dev/{name}", f"{root}/dev/{name}")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")


def cover(root=ROOT):
    """What stands in /proc and /sys and is not the container's."""
    for path in MASKED:
        if os.path.isdir(f"{root}/{path}"):
            mount("tmpfs", f"{root}/{path}", MS_RDONLY, "size=4k")
        elif os.path.exists(f"{root}/{path}"):
            bind("/dev/null", f"{root}/{path}")
    for path in READ_ONLY:
        if os.path.exists(f"{root}/{path}"):
            bind(f"{root}/{path}", f"{root}/{path}")
            read_only(f"{root}/{path}")


def processes(proc):
    """How many processes a /proc shows."""
    return sum(name.isdigit() for name in os.listdir(proc))


if __name__ == "__main__":
    def inside():
        own_names("jar")
        own_files()
        print(f"before  /proc has {processes('/proc')} processes", flush=True)
        kernel_files()
        cover()
        print(f"after   {ROOT}/proc has {processes(f'{ROOT}/proc')} process", flush=True)
        print(f"after   {ROOT}/dev has {sorted(os.listdir(f'{ROOT}/dev'))}", flush=True)
        for path in ("proc/timer_list", "proc/sys/kernel/hostname"):
            try:
                with open(f"{ROOT}/{path}", "r+") as file:
                    print(f"after   {ROOT}/{path} is {file.read()!r}", flush=True)
            except OSError as error:
                print(f"after   {error}", flush=True)

    sys.exit(container(inside))
