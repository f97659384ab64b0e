"""The words for a step that the kernel refused: what it was to do, and (operation, errno, facts) -> one hint.  Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.core.wire import Step
    from dolium.plan.facts import Facts

EPERM, ENOENT, EACCES, ENOEXEC, EBUSY, EXDEV, ENODEV, ENOTDIR, EINVAL, EFBIG, EEXIST = 1, 2, 13, 8, 16, 18, 19, 20, 22, 27, 17
EAGAIN, EMFILE, ENOSPC, ELOOP, ENOSYS, EOPNOTSUPP, EDQUOT, ERANGE = 11, 24, 28, 40, 38, 95, 122, 34

USERNS = ("this host lets only root make user namespaces, or an outer container forbids it: `dolium doctor userns`, "
          "`apparmor-userns` and `calls` have the line that mends it")  # fmt: skip
OUTER = ("an outer container or its seccomp profile forbids it; start that one with more privilege, for Docker: "
         "--privileged, or --cap-add SYS_ADMIN and seccomp=unconfined, systempaths=unconfined in --security-opt; "
         "see `dolium doctor outer`")  # fmt: skip
BEYOND = ("a group is entered only from within the one that is delegated to you with it: call from within that group, or by "
          "`systemd-run --user --scope -p Delegate=yes`")  # fmt: skip

VERBS = {"set_limit": "set", "rlimit": "set", "write": "set", "undumpable": "set", "die_with": "set", "no_new_privs": "set",
         "new_mount": "mount", "map_ids": "write", "seccomp": "load", "read_only": "make", "reset": "do the",
         "write_file": "write", "symlink": "link", "netlink": "set up", "device_filter": "attach the"}  # fmt: skip


def deed(step: "Step", item: str = "") -> str:
    """What the step was to do, as it follows "cannot"; `item` is the one of its list that failed."""
    verb = VERBS.get(step.op, "")
    if item:
        return f"{verb or step.op} {item}" + (" read-only" if step.op == "read_only" else "")
    if step.op == "move_mount" and not step.what.endswith((f" {step.path}", f"/{step.path}")):
        return f"{step.what} on {step.path}"
    return f"{verb} {step.what}" if verb else step.what


def hint(step: "Step", errno: int, facts: "Facts") -> str:
    """The hint, or nothing where the error says it all."""
    op, path = step.op, step.path
    if errno == ENOSYS:
        return "this kernel is older than Linux 5.10, or a seccomp filter around dolium hides the call: `dolium doctor calls`"
    if op in ("ptmx", "ctty") and (told := _terminal(op, errno)):
        return told
    if errno == ENOSPC and op in ("unshare", "clone"):
        return "the limit of namespaces is reached: `dolium doctor namespaces` (user.max_*_namespaces)"
    if errno == ENOSPC:
        return "the file system, or the container's own tmpfs, is full: `dolium doctor room`"
    if errno == EMFILE:
        return "the limit of open files is too low: `ulimit -n 64`, and one more for each mount"
    if op == "clone" and errno == EAGAIN:
        return "the limit of processes is reached: `ulimit -u`, or pids.max of the cgroup that dolium is in"
    if op == "clone" and errno == EACCES and step.fd >= 0:  # cgroups(7), "Cgroup delegation: delegation containment"
        return BEYOND
    if op in ("unshare", "clone") and errno in (EPERM, EACCES):
        return USERNS if facts.rootless and facts.uid else OUTER
    if op in ("hostname", "keyring") and errno == EPERM:  # in a namespace of one's own only a filter forbids it
        return OUTER
    if op == "map_ids" and errno == EPERM:
        return USERNS if facts.rootless else "dolium runs in a user namespace that has not got these ids: --userns host"
    if op == "new_mount" and errno == EPERM and path in ("proc", "sysfs"):
        return (f"part of {path} is hidden by an outer container, so a user namespace may not mount a fresh one: "
                "see `dolium doctor hidden-proc`; for Docker: --privileged, or systempaths=unconfined in --security-opt")
    if op == "new_mount" and errno == ENODEV:
        return f"this kernel has no file system `{path}`"
    if op == "open_tree":
        return _source(path, errno)
    if op == "set_attr" and step.fd2 >= 0 and errno in (EINVAL, EPERM):
        return "its file system, or one mounted below it, cannot have its ids mapped: --userns host"
    if op == "move_mount":
        if path in ("/proc", "/sys", "/dev") and errno in (ENOTDIR, ELOOP):
            return f"the rootfs has no directory at {path} but something else, such as a symbolic link, that could lead anywhere"
        if errno in (ENOTDIR, EINVAL):
            return "a file can only be mounted on a file, a directory on a directory"
    if op in ("exec", "probe"):
        return _program(step, errno)
    if op == "chdir" and errno == ELOOP:
        return "a working directory is a path of the container, not a link of /proc to something open"
    if op == "chdir" and errno == ENOENT:
        return f"the container has no directory {path}; make it, mount it with -v, or choose another with --workdir"
    if op == "enter_net" and errno == EINVAL:
        return "that file is no network namespace; `ip netns add NAME` makes one, /run/netns/NAME"
    if op == "join" and errno == EINVAL and step.why.startswith("linux.namespaces["):
        return f"{step.why}.path: that file is no {step.what.split()[2]} namespace"
    if op == "open" and step.why.startswith("linux.namespaces["):
        return f"{step.why}.path"
    if op == "netlink":
        return _network(errno)
    if op == "mknod" and errno == EEXIST:
        return "something else is there already, of the image or of another of these devices"
    if op == "keyring" and errno == EDQUOT:
        return "this user has too many kernel keyrings: see /proc/key-users and kernel.keys.maxkeys"
    if op == "seccomp" and errno == EBUSY:
        return "an outer container or tracer asks about system calls already, and only one may: leave --why-denied out"
    if op == "device_filter" and errno in (EPERM, EACCES):
        return "it takes CAP_BPF and CAP_NET_ADMIN of the host, which an outer container may lack; --userns auto needs no filter"
    if op == "device_filter" and errno == EINVAL:
        return "this kernel has none (CONFIG_CGROUP_BPF); with --userns auto only a --device with less than `rw` takes one"
    if op == "set_limit":
        return _limit(path, errno)
    if op == "make_group" and errno in (EACCES, EPERM):
        return "the cgroup file system is not writable here, as in an outer container: `dolium doctor cgroup-memory`"
    if op == "caps" and errno == EPERM:
        return "dolium itself has not got one of these capabilities; let the container have its own users (--userns auto)"
    if op == "write":
        return _setting(path, errno)
    if op == "reap" and errno == EAGAIN:
        return "the limit of processes leaves none beside PID 1: --pids-limit 2 at least, or without --init"
    if op == "rlimit" and errno == EPERM:
        return "above the hard limit of dolium itself; raising it takes CAP_SYS_RESOURCE on the host: `dolium doctor sys-resource`"
    if op == "read_file" and errno == EFBIG:
        return f"{path} is too large to be what it should be"
    return ""


def _source(path: str, errno: int) -> str:
    if errno == ENOENT:
        return "it does not exist on this host"
    if errno in (EACCES, EPERM):
        return "you may not read it; run dolium as its owner or as root"
    if errno == EINVAL:
        return "something is mounted below it that this user namespace may not uncover"
    return ""


def _network(errno: int) -> str:
    if errno == EOPNOTSUPP:
        return "this kernel has no veth devices (CONFIG_VETH); --network none or host do without"
    if errno == ENODEV:
        return "the bridge has gone while the container started; start it once more"
    if errno in (EPERM, EACCES):
        return "laying a cable takes CAP_NET_ADMIN, which an outer container may not have; --network none or host do without"
    return ""


def _terminal(op: str, errno: int) -> str:
    if op == "ctty":
        return "another process in the container has taken the terminal first; once more" if errno == EPERM else ""
    if errno == ENOSPC:
        return "as many terminals are open as may be: see /proc/sys/kernel/pty/max"
    if errno in (ENOENT, ENODEV, ENOTDIR, ELOOP, EXDEV):
        return "the container has no terminals of its own at /dev/pts, or something in it has mounted other files there"
    return ""


def _program(step: "Step", errno: int) -> str:
    name = step.what.removeprefix("exec ")
    if errno == ENOENT and name.startswith("-"):
        return "it stands where the program is named; Dolium's own flags come before the image or rootfs"
    if errno == ENOENT and "/" in name and step.op == "probe":
        return "it is not in the container"
    if errno == ENOENT and "/" in name:
        return ("it is not in the container, or the interpreter or loader that it names is not; a script whose lines end in CR LF, "
                "as on Windows, names one that ends in CR")
    if errno == ENOENT:
        return "it is in no directory of the container's PATH"
    if errno == EACCES:
        return "it is there, but not executable by this user, or a directory, or on a volume that is mounted noexec"
    if errno == ENOEXEC:
        return "it is neither a program of this machine's kind nor a script that begins with #!"
    return ""


def _setting(path: str, errno: int) -> str:
    """A file below /proc: a sysctl, or oom_score_adj of the first process."""
    if path.endswith("/oom_score_adj"):
        return "lower than dolium's own takes CAP_SYS_RESOURCE on the host" if errno in (EACCES, EPERM) else ""
    if errno == ENOENT:
        return "this kernel has no such setting, or not in a namespace of its own"
    if errno in (EACCES, EPERM):
        return "this setting cannot be changed from within a namespace"
    if errno in (EINVAL, ERANGE):
        return "the kernel does not take this value for it"
    return ""


def _limit(path: str, errno: int) -> str:
    name = path.rpartition("/")[2]
    if errno == ENOENT:
        return f"this kernel has no {name}; its controller or option is not built in"
    if errno == EPERM and name.startswith("devices."):
        return "dolium itself may not use all of these devices; an outer container forbids it"
    if errno == ENODEV and name.startswith(("blkio.", "io.")):
        return "these are the numbers of no whole disk of this host: `lsblk` has those"
    if errno == EINVAL and name == "memory.limit_in_bytes":
        return "memory and swap together may be less, which memory.swap says"
    if errno == EBUSY and name.startswith("memory."):
        return "the limit is below what the group uses already"
    if name in ("cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us") and errno == EINVAL:
        return "a period is of 1000 to 1000000 microseconds, a quota of 1000 at least"
    if name.startswith("cpuset.") and errno in (EINVAL, EACCES, ENOSPC, ERANGE):
        return "these CPUs are not all on this host, or not given to its container group"
    return ""
