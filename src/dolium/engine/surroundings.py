"""Look at what this system is, for the doctor: kernel calls that are answered, what is mounted over what, what it itself runs in,
which programs are there.  Changes nothing."""

import os
import resource
import sys
from _thread import allocate_lock, start_new_thread

from dolium.core import PROGRAMS
from dolium.plan.findings import CALLS, FILE_SYSTEMS, NOT_UPPER, Findings, Place
from dolium.plan.mends import INSTALLERS
from dolium.runtime import host, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.facts import Facts

ENOSYS, EPERM, EACCES = 38, 1, 13
CLONE_NEWNET = 0x40000000
UNSHARE, FSOPEN = 272, 430
SYSCTLS = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "vm.memfd_noexec",
    *(f"user.max_{kind}_namespaces" for kind in ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup")),
)
FIRST_PIDS = "pid:[4026531836]"
"""The PID namespace of the host itself, PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h."""
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
EMPTY = (
    "/proc/sys/fs/binfmt_misc",
    "/sys/fs/",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/config",
    "/sys/kernel/security",
    "/sys/firmware/efi/efivars",
)
"""What is mounted there covers nothing: directories that the kernel keeps for it."""


def look(found: Findings) -> None:
    """Fill in everything that can be seen without starting anything."""
    facts, mounts = found.facts, host.mounts()
    found.sysctls = {name: text for name in SYSCTLS if (text := _line(f"/proc/sys/{name.replace('.', '/')}"))}
    found.filtered = "\nSeccomp:\t2" in host.read("/proc/self/status")
    found.calls = _calls(facts)
    found.lacking = _lacking(facts)
    found.outer = _outer()
    found.hidden = tuple(
        each.point for each in mounts if each.point.startswith(("/proc/", "/sys/")) and not each.point.startswith(EMPTY)
    )
    found.helpers = tuple(name for name in ("dolium-init", "dolium-keep") if not os.path.exists(f"{PROGRAMS}/{name}"))
    found.top = os.path.dirname(os.path.dirname(os.path.dirname(PROGRAMS)))
    found.files = resource.getrlimit(resource.RLIMIT_NOFILE)
    found.state, found.data = _place(places.state_path()), _place(places.data_path())
    found.room = _room()
    found.systemd = os.path.isdir("/run/systemd/system")
    found.session = os.path.exists(f"{os.environ.get('XDG_RUNTIME_DIR', '')}/systemd/private")
    found.cgroup2 = next((each.point for each in mounts if each.kind == "cgroup2"), "")
    found.cgroup1 = {
        name: (each.point, "rw" in each.options and "rw" in each.super_options)
        for each in mounts
        if each.kind == "cgroup"
        for name in host.CONTROLLERS
        if name in each.super_options
    }
    found.bound = _bound()
    found.installers = tuple(each for each in INSTALLERS if _is_there(each))
    found.program = _beside("dolium")
    found.oci = _oci()
    found.closed = _closed()
    found.subids = _has_subids(facts.uid)
    found.tools = tuple(each for each in ("newuidmap", "pasta") if _is_there(each))


def _line(path: str) -> str:
    return host.read(path).strip()


def _calls(facts: "Facts") -> "dict[str, int]":
    """The errno of each system call that a start takes, made with arguments that no kernel accepts."""
    from dolium.core import sys as kernel

    found = {}
    for name, (number, given) in CALLS.items():
        try:
            kernel.call(number, *given)
            found[name] = 0
        except OSError as error:
            found[name] = error.errno or 0
    return found


def _lacking(facts: "Facts") -> "tuple[str, ...]":
    """What this kernel has not got.  Asking for a file system has its module loaded, where that is allowed."""
    from dolium.core import sys as kernel

    found = [f"{each} namespaces" for each in NAMESPACES if not os.path.exists(f"/proc/self/ns/{each}")]
    for each in FILE_SYSTEMS:
        try:
            os.close(kernel.call(FSOPEN, each.encode(), 1))
        except OSError:
            pass
    known = {line.split()[-1] for line in host.read("/proc/filesystems").splitlines() if line.split()}
    found += [f"the file system {each}" for each in FILE_SYSTEMS if each not in known]
    if "errno" not in host.read("/proc/sys/kernel/seccomp/actions_avail").split():
        found.append("system call filters")
    return tuple(found)


def devices() -> str:
    """Why a bridge and a cable cannot be made on this kernel; tried in a network namespace that is gone at once."""
    from dolium.core import sys as kernel
    from dolium.plan import rtnetlink
    from dolium.runtime import netlink

    done, said = allocate_lock(), []
    done.acquire()

    def attempt() -> None:
        what = "a network namespace"
        try:
            kernel.call(UNSHARE, CLONE_NEWNET)  # of this thread alone
            what = "a bridge"
            netlink.talk(rtnetlink.make_bridge("doctor0", b"\x02\xd0doct", 1500))
            what = "a cable (veth)"
            cable, at = rtnetlink.make_veth("doctor1", "doctor2", b"\x02\xd0docu", 1500)
            own = os.open(f"/proc/self/task/{_thread()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                netlink.talk(cable[:at] + rtnetlink.number(own) + cable[at + 4 :])
            finally:
                os.close(own)
        except OSError as error:
            said.append(f"the kernel does not make {what}: {error.strerror}")
        finally:
            done.release()

    start_new_thread(attempt, ())
    with done:
        return said[0] if said else ""


def _thread() -> int:
    from _thread import get_native_id

    return get_native_id()


def _outer() -> str:
    """What this system itself runs in, by the marks that it leaves (systemd's "Container Interface" names the last two)."""
    for path, name in (
        ("/run/.containerenv", "Podman"),
        ("/var/run/secrets/kubernetes.io", "Kubernetes"),
        ("/.dockerenv", "Docker"),
    ):
        if os.path.exists(path):
            return name
    words = dict(each.partition("=")[::2] for each in host.read("/proc/1/environ").split("\0"))
    if "KUBERNETES_SERVICE_HOST" in {**words, **os.environ}:  # a pod without a service account
        return "Kubernetes"
    kind = words.get("container", "") or _line("/run/systemd/container") or _line("/run/host/container-manager")
    names = {"docker": "Docker", "podman": "Podman", "lxc": "LXC", "oci": "a container"}  # some images say `oci` of themselves
    if kind:
        return names.get(kind, kind)
    release = _line("/proc/sys/kernel/osrelease")
    if "icrosoft" in release or "WSL" in release:
        return "WSL 1" if release.endswith("-Microsoft") else "WSL 2"
    return "" if os.readlink("/proc/self/ns/pid") == FIRST_PIDS else "a container"


def _place(path: str) -> Place:
    """That directory, or the nearest above it that is there."""
    found = Place(path)
    try:
        status = os.lstat(path)
        found.owner, found.mode = status.st_uid, status.st_mode & 0o7777
    except OSError:
        pass
    where = path
    while not os.path.isdir(where):
        where = os.path.dirname(where) or "/"
    found.kind, found.writable = host.kind(where), os.access(where, os.W_OK)
    room = os.statvfs(where)
    found.free = room.f_bavail * room.f_frsize
    return found


def _room() -> str:
    """A directory on a file system that can hold an overlay's upper directory, for who cannot mount one."""
    uid = os.geteuid()
    for each in ("/var/tmp", "/tmp", "/dev/shm"):
        if os.access(each, os.W_OK) and host.kind(each) not in NOT_UPPER:
            return f"{each}/dolium-data-{uid}"
    return ""


def _bound() -> "dict[str, str]":
    """Controller -> where the kernel has it: `v1`, `v2`, or `off` (/proc/cgroups); those that it has not got are not there."""
    found = {}
    for line in host.read("/proc/cgroups").splitlines():
        name, hierarchy, _, enabled = line.split()[:4]
        if name in host.CONTROLLERS:
            found[name] = "off" if enabled == "0" else "v1" if hierarchy != "0" else "v2"
    return found


def _is_there(program: str) -> bool:
    paths = (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/bin", "/bin")
    return any(each and os.access(f"{each}/{program}", os.X_OK) for each in paths)


def _beside(program: str) -> str:
    """The path of a program of ours: beside the one that runs, or where the sources have it."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(PROGRAMS)))
    started = os.path.dirname(os.path.realpath(sys.argv[0] if sys.argv and sys.argv[0] else "/"))
    for each in (started, f"{top}/bin"):
        if os.access(f"{each}/{program}", os.X_OK) and os.path.isfile(f"{each}/{program}"):
            return f"{each}/{program}"
    return ""


ENGINES = ("podman", "docker", "containerd")


def _oci() -> "tuple[str, str]":
    """The path of dolium-oci, and which engines are here to call it; no path where it does not even tell its version."""
    import subprocess

    path = _beside("dolium-oci")
    if not path:
        return "", ""
    try:  # as Podman calls it: with no environment at all
        ended = subprocess.run([path, "--version"], env={}, capture_output=True, text=True, errors="replace", timeout=10)
    except (OSError, subprocess.SubprocessError) as problem:
        return "", f"{path}: {problem}"
    if ended.returncode:
        return "", f"{path}: {(ended.stderr.splitlines() or ['it fails'])[0]}"
    here = [each for each in ENGINES if _is_there(each)]
    return path, ", ".join(here) + " can call it" if here else "no engine is here to call it"


def _closed() -> "tuple[str, ...]":
    """The directories on the way to Python and to Dolium that only their owner may pass."""
    found = []
    for path in (os.path.realpath(sys.executable or "/"), PROGRAMS):
        while path != "/":
            path = os.path.dirname(path)
            if not os.stat(path).st_mode & 0o001 and path not in found:
                found.append(path)
    return tuple(sorted(found))


def _has_subids(uid: int) -> bool:
    """Whether /etc/subuid gives this user ids, subuid(5)."""
    import pwd

    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    return any(line.split(":")[0] in names for line in host.read("/etc/subuid").splitlines())
