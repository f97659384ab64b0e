"""What a test suite could change on its host: printed, or compared with what was printed before (named as argument).

Exit code 1, and the differences, where something differs; what goes away within a few seconds does not count.
"""

import os
import sys
import time
from fcntl import LOCK_EX, LOCK_NB, flock

SETTINGS = (
    "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet", "kernel/hostname",
    "kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns", "user/max_user_namespaces",
    "vm/memfd_noexec", "vm/overcommit_memory",
)  # fmt: skip
GRACE = 10.0
HELPERS = ("dolium-init", "dolium-keep")


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def settings() -> set[str]:
    return {f"setting {name} = {read('/proc/sys/' + name).strip()}" for name in SETTINGS}


def mounts() -> set[str]:
    found = set()
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        found.add(f"mount {before.split()[4]} of {after.split()[0]}")
    return found


def groups() -> set[str]:
    """Containers' cgroups: the directories below one named `dolium` (that one stays, empty).  Those of other users, and
    those of containers that somebody else watches over meanwhile, are theirs."""
    found, uid = set(), os.geteuid()
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            for directory, _, _ in os.walk(before.split()[4]):
                members = [int(each) for each in read(f"{directory}/cgroup.procs").split()]
                theirs = (uid and owner(directory) != uid) or any(is_watched(pid) for pid in members)
                if "/dolium/" in directory and not theirs:
                    found.add(f"cgroup {directory}")
    return found


def leases() -> set[str]:
    """The leases of dead containers: those of living ones are locked."""
    found = set()
    uid = os.geteuid()
    for top in ("/run/dolium", f"/tmp/dolium-{uid}", "/tmp/dolium-65534"):
        try:
            names = os.listdir(f"{top}/leases")
        except OSError:
            continue
        for name in names:
            try:
                fd = os.open(f"{top}/leases/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                found.add(f"lease {top}/leases/{name}")
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
    return found


def helper(pid: int) -> bool:
    """By its first word: the name that the kernel has is that of a memfd."""
    return read(f"/proc/{pid}/cmdline").partition("\0")[0] in HELPERS


def parent(pid: int) -> int:
    rest = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(rest[1]) if rest else 0


def is_watched(pid: int) -> bool:
    """Whether it is in a container whose dolium-keep somebody waits for; ours have nobody any more, and are left to init."""
    while pid > 1:
        if helper(pid):
            return parent(pid) > 1
        pid = parent(pid)
    return False


def processes() -> set[str]:
    found = (int(each) for each in os.listdir("/proc") if each.isdigit())
    return {f"process {pid} of dolium's helpers" for pid in found if helper(pid) and parent(pid) == 1}


def links() -> set[str]:
    return {f"network device {name}" for name in os.listdir("/sys/class/net")}


def state() -> set[str]:
    return settings() | mounts() | groups() | leases() | processes() | links()


def main() -> int:
    if len(sys.argv) == 1:
        print("\n".join(sorted(state())))
        return 0
    before = set(read(sys.argv[1]).splitlines())
    kept = {each for each in before if each.startswith(("setting", "mount", "network"))}
    deadline = time.monotonic() + GRACE
    while True:
        now = state()
        appeared, gone = now - before, kept - now
        if not appeared and not gone:
            print("The host is as it was: settings, mounts, network devices, cgroups, leases, processes.")
            return 0
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    print("The host is not as it was before the tests:")
    for each in sorted(appeared):
        print(f"  new: {each}")
    for each in sorted(gone):
        print(f"  gone: {each}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
