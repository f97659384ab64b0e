"""A step as the system calls that it makes, with their arguments, as C would have them.  Pure.

Descriptors have the names of their slots (plan/slots.py).  What C decides from the record alone is decided here once more;
tests/live/test_explain_calls.py holds the words against what strace(1) sees.
"""

from dolium.core.wire import PAIRS, items
from dolium.plan import netlink_words, slots
from dolium.plan.capabilities import NUMBERS
from dolium.plan.namespaces import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.core.wire import Step

OPEN = ((0o1, "O_WRONLY"), (0o10000000, "O_PATH"), (0o200000, "O_DIRECTORY"), (0o400000, "O_NOFOLLOW"))
ATTRIBUTES = ((0x01, "MOUNT_ATTR_RDONLY"), (0x02, "MOUNT_ATTR_NOSUID"), (0x04, "MOUNT_ATTR_NODEV"), (0x08, "MOUNT_ATTR_NOEXEC"),
              (0x10, "MOUNT_ATTR_NOATIME"), (0x20, "MOUNT_ATTR_STRICTATIME"), (0x80, "MOUNT_ATTR_NODIRATIME"),
              (0x200000, "MOUNT_ATTR_NOSYMFOLLOW"))  # fmt: skip
PROPAGATION = {0: "", 1 << 17: "MS_UNBINDABLE", 1 << 18: "MS_PRIVATE", 1 << 19: "MS_SLAVE", 1 << 20: "MS_SHARED"}
CLONE = tuple((bit, "CLONE_NEW" + {"mount": "NS", "network": "NET"}.get(name, name.upper())) for name, bit in FLAGS.items())
IN_ROOT = "resolve=RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS"
FILTER_FLAGS = ((1, "SECCOMP_FILTER_FLAG_TSYNC"), (2, "SECCOMP_FILTER_FLAG_LOG"), (4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
                (8, "SECCOMP_FILTER_FLAG_NEW_LISTENER"), (32, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"))  # fmt: skip
ERRNOS = {1: "EPERM", 2: "ENOENT", 13: "EACCES", 20: "ENOTDIR", 38: "ENOSYS", 75: "EOVERFLOW", 97: "EAFNOSUPPORT"}
"""Those that some step takes for done."""


_SLOTS = {value: name.lower() for name, value in vars(slots).items() if name.isupper() and isinstance(value, int)}
_FIRST = sorted(((slots.FIRST_MOUNT, "bind"), (slots.FIRST_FILE, "file"), (slots.FIRST_TASKS, "tasks")), reverse=True)


def name(slot: int) -> str:
    """What people read for a slot: `root`, `bind2`."""
    for first, word in _FIRST:
        if slot == first or slot not in _SLOTS and slot > first:
            return f"{word}{slot - first + 1}"
    return _SLOTS.get(slot, f"slot{slot}")


def of(step: "Step") -> "list[str]":
    """The calls, one a string, in their order; a string that begins with `#` is a remark."""
    lines = _CALLS[step.op](step) if step.op in _CALLS else [f"# {step.op}"]
    if step.accept:
        names = " or ".join(ERRNOS.get(each, f"errno {each}") for each in step.accept)
        lines.append(f"# {names} counts as done")
    if step.other is not None:
        lines += [f"# on {ERRNOS.get(step.on, f'errno {step.on}')} instead:", *of(step.other)]
    return lines


def _bits(value: int, names: "tuple[tuple[int, str], ...]") -> str:
    found = [name for bit, name in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    return "|".join(found + ([hex(rest)] if rest else [])) or "0"


def _fd(slot: int) -> str:
    return name(slot) if slot >= 0 else "AT_FDCWD"


def quoted(text: str) -> str:
    """As C writes a string."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in plain) + '"'


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _openat2(slot: int, path: str, flags: int) -> str:
    shown = _bits(flags, OPEN).replace("0", "O_RDONLY") if not flags else _bits(flags, OPEN)
    return f"openat2({_fd(slot)}, {quoted(path)}, {{flags={shown}|O_CLOEXEC{', ' + IN_ROOT if slot >= 0 else ''}}})"


def _parent(slot: int, path: str) -> str:
    return f"parent = {_openat2(slot, path.rpartition('/')[0] or '.', 0o10200000)}"


def _fill(step: "Step", call: str) -> str:
    return f"{name(step.out)} = {call}" if step.out >= 0 else call


def _open(step: "Step") -> "list[str]":
    return [_fill(step, _openat2(step.fd, step.path, step.n1))]


def _open_tree(step: "Step") -> "list[str]":
    how = ("" if step.n1 else "|AT_RECURSIVE") + ("" if step.path else "|AT_EMPTY_PATH")
    return [_fill(step, f"open_tree({_fd(step.fd)}, {quoted(step.path)}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC{how})")]


def _set_attr(step: "Step") -> "list[str]":
    how = "|".join(([] if step.path else ["AT_EMPTY_PATH"]) + (["AT_RECURSIVE"] if step.n3 else [])) or "0"
    fields = []
    bits = _bits(step.n1 & 0xFFFFFFFF, ATTRIBUTES) if step.n1 & 0xFFFFFFFF else ""
    if step.fd2 >= 0:
        bits = (bits + "|" if bits else "") + "MOUNT_ATTR_IDMAP"
    if bits:
        fields.append(f"attr_set={bits}")
    if step.n1 >> 32:
        fields.append(f"attr_clr={_bits(step.n1 >> 32, (*ATTRIBUTES, (0x70, 'MOUNT_ATTR__ATIME')))}")
    if step.n2:
        fields.append(f"propagation={PROPAGATION.get(step.n2, hex(step.n2))}")
    if step.fd2 >= 0:
        fields.append(f"userns_fd={_fd(step.fd2)}")
    return [f"mount_setattr({_fd(step.fd)}, {quoted(step.path)}, {how}, {{{', '.join(fields)}}})"]


def _new_mount(step: "Step") -> "list[str]":
    lines = [f"fs = fsopen({quoted(step.path)}, FSOPEN_CLOEXEC)"]
    for option in _text(step.data).split("\0")[:-1]:
        key, equals, value = option.partition("=")
        for slot in range(250):
            value = value.replace(f"{{{slot}}}", f"<{name(slot)}>") if "{" in value else value
        kind, shown = ("STRING", quoted(value)) if equals else ("FLAG", "NULL")
        lines.append(f"fsconfig(fs, FSCONFIG_SET_{kind}, {quoted(key)}, {shown}, 0)")
    lines.append(f'fsconfig(fs, FSCONFIG_SET_STRING, "source", {quoted(step.path2 or step.path)}, 0)')
    if step.n2:
        lines += ["prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)", f"setfsgid({step.n2})", f"setfsuid({step.n2})"]
    lines.append("fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0)")
    if step.n2:
        lines += ["setfsuid(0)", "setfsgid(0)", "prctl(PR_SET_SECUREBITS, 0)"]
    return [*lines, _fill(step, f"fsmount(fs, FSMOUNT_CLOEXEC, {_bits(step.n1, ATTRIBUTES)})")]


_MOVE = "MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH"


def _move_mount(step: "Step") -> "list[str]":
    lines = [f"place = {_openat2(step.fd2, step.path, 0o10000000 | step.n2)}"]
    if step.n1:
        made = {1: "mkdirat", 2: "openat(O_CREAT|O_EXCL|O_NOFOLLOW)", 3: "mkdirat, or for a file openat(O_CREAT|O_EXCL),"}[step.n1]
        lines.append(f"# on ENOENT {made} makes it, and it is opened once more")
    return [*lines, f'move_mount({_fd(step.fd)}, "", place, "", {_MOVE})']


def _listed(step: "Step", each: "Callable[[str, str], list[str]]") -> "list[str]":
    """The calls for the first item of a list, and a remark on the others."""
    parts = _text(step.data).split("\0")[:-1]
    second = parts[1] if step.op in PAIRS else ""
    others = items(step)[1:]
    return [*each(parts[0], second), *([f"# the same for {', '.join(others)}"] if others else [])]


def _owned(step: "Step", leaf: str) -> "list[str]":
    return [f"fchownat(parent, {quoted(leaf)}, {step.n2}, {step.n2}, AT_SYMLINK_NOFOLLOW)"] if step.n2 >= 0 else []


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]


def _mkdir(step: "Step") -> "list[str]":
    return _listed(step, lambda path, mode: [
        _parent(step.fd, path), f"mkdirat(parent, {quoted(_leaf(path))}, 0{mode})", *_owned(step, _leaf(path))])  # fmt: skip


def _symlink(step: "Step") -> "list[str]":
    return _listed(step, lambda path, target: [
        _parent(step.fd, path), f"symlinkat({quoted(target)}, parent, {quoted(_leaf(path))})",
        *_owned(step, _leaf(path))])  # fmt: skip


def _mknod(step: "Step") -> "list[str]":
    kind = "S_IFBLK" if step.n1 & 0o170000 == 0o060000 else "S_IFCHR"

    def each(path: str, number: str) -> "list[str]":
        device = int(number)
        made = f"makedev({(device >> 8 & 0xFFF) | (device >> 32 & ~0xFFF)}, {device & 0xFF | (device >> 12 & ~0xFF)})"
        return [_parent(step.fd, path), f"mknodat(parent, {quoted(_leaf(path))}, {kind}|0{step.n1 & 0o7777:o}, {made})",
                f"fchmodat(parent, {quoted(_leaf(path))}, 0{step.n1 & 0o7777:o})", *_owned(step, _leaf(path))]  # fmt: skip

    return _listed(step, each)


def _write_file(step: "Step") -> "list[str]":
    return _listed(step, lambda path, text: [
        _parent(step.fd, path), f"unlinkat(parent, {quoted(_leaf(path))}, 0)",
        f"file = openat(parent, {quoted(_leaf(path))}, O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0{step.n1:o})",
        f"write(file, {quoted(text)}, {len(text.encode('utf-8', 'surrogateescape'))})", *_owned(step, _leaf(path))])  # fmt: skip


def _read_file(step: "Step") -> "list[str]":
    flags = f"{{flags=O_RDONLY|O_NONBLOCK|O_NOCTTY|O_CLOEXEC, {IN_ROOT}}}"
    return [f"file = openat2({_fd(step.fd)}, {quoted(step.path)}, {flags})", "fstat(file)  # a regular file, not too long",
            f"read(file, ..., {len(step.data)})"]  # fmt: skip


def _write(step: "Step") -> "list[str]":
    return [f"file = {_openat2(step.fd, step.path, 0o400001)}", f"write(file, {quoted(_text(step.data))}, {len(step.data)})"]


def _write_fd(step: "Step") -> "list[str]":
    return [f"write({_fd(step.fd)}, {quoted(_text(step.data))}, {len(step.data)})"]


def _clone(step: "Step") -> "list[str]":
    flags = (_bits(step.n1, CLONE) + "|" if step.n1 else "") + "CLONE_PIDFD" + ("|CLONE_INTO_CGROUP" if step.fd >= 0 else "")
    group = f", cgroup={_fd(step.fd)}" if step.fd >= 0 else ""
    return ["peer = socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC, 0)  # both ends",
            f"child = clone3({{flags={flags}, exit_signal=SIGCHLD{group}}})"]  # fmt: skip


def _map_ids(step: "Step") -> "list[str]":
    where = "/proc/CHILD" if step.n1 else "/proc/self"
    deny = [f'write(open("{where}/setgroups", O_WRONLY), "deny", 4)'] if step.n2 else []
    return [*deny, *(f'write(open("{where}/{name}", O_WRONLY), {quoted(text)}, {len(text)})'
                     for name, text in (("uid_map", step.path), ("gid_map", step.path2)))]  # fmt: skip


def _sync(step: "Step") -> "list[str]":
    given = ", ".join(name(each) for each in step.data)
    rights = f", SCM_RIGHTS [{given}]" if given else ""
    first, second = ("inside", "outside") if step.n1 else ("outside", "inside")
    return [f"sendmsg(peer, 1 byte{rights}, MSG_NOSIGNAL)  # {first}", f"recvmsg(peer, MSG_CMSG_CLOEXEC)  # {second}"]


def _become(step: "Step") -> "list[str]":
    groups = [int.from_bytes(step.data[at : at + 4], "little") for at in range(0, len(step.data), 4)]
    first = ["# setgroups is denied in the user namespace of a plain user"] if step.n1 else [f"setgroups({len(groups)}, {groups})"]
    return [*first, f"setresgid({step.n2}, {step.n2}, {step.n2})", f"setresuid({step.n3}, {step.n3}, {step.n3})"]


def _rlimit(step: "Step") -> "list[str]":
    soft, hard = ("RLIM_INFINITY" if each == -1 else str(each % (1 << 64)) for each in (step.n2, step.n3))
    return [f"prlimit(0, {step.path}, {{rlim_cur={soft}, rlim_max={hard}}}, NULL)"]


def capabilities(bits: int) -> "list[str]":
    """The names in a bit set."""
    return [name for name, number in NUMBERS.items() if bits >> number & 1]


def _bounds(step: "Step") -> "list[str]":
    kept = capabilities(step.n1)
    gone = [name for name in NUMBERS if name not in kept]
    first = [f"prctl(PR_CAPBSET_DROP, {gone[0]})"] if gone else []
    return [*first, *([f"# the same for {', '.join(gone[1:])}"] if gone[1:] else []),
            f"# kept: {', '.join(each[4:] for each in kept) or 'none'}"]  # fmt: skip


def _caps(step: "Step") -> "list[str]":
    def shown(bits: int) -> str:
        return "|".join(capabilities(bits)) or "0"

    held = shown(step.n1)
    lines = [f"capset({{_LINUX_CAPABILITY_VERSION_3}}, {{effective={held}, permitted={held}, inheritable={shown(step.n2)}}})"]
    return lines + [f"prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {each})" for each in capabilities(step.n3)]


def _mask(step: "Step") -> "list[str]":
    null = f'{_fd(step.fd2)}, "{step.path}"' if step.path else f'{_fd(step.fd2)}, ""'
    return _listed(step, lambda path, _: [
        f"place = {_openat2(step.fd, path, 0o10000000)}",
        f"cover = open_tree({null}, OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC)",
        f'# for a directory open_tree({_fd(step.n1)}, "", ...|AT_EMPTY_PATH)',
        f'move_mount(cover, "", place, "", {_MOVE})', "# what is not there is passed over"])  # fmt: skip


def _read_only(step: "Step") -> "list[str]":
    return _listed(step, lambda path, _: [
        f"place = {_openat2(step.fd, path, 0o10000000)}",
        'copy = open_tree(place, "", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_RECURSIVE|AT_EMPTY_PATH)',
        'mount_setattr(copy, "", AT_EMPTY_PATH|AT_RECURSIVE, {attr_set=MOUNT_ATTR_RDONLY})',
        f'move_mount(copy, "", place, "", {_MOVE})', "# what is not there is passed over"])  # fmt: skip


def _chdir(step: "Step") -> "list[str]":
    lines = [f"place = {_openat2(step.fd, step.path, 0o10200000)}", "fchdir(place)", "getcwd(...)  # must begin with `/`"]
    return ["# only where root was refused:", *(f"#   {line}" for line in lines)] if step.n1 else lines


def _exec(step: "Step") -> "list[str]":
    parts = _text(step.data).split("\0")[:-1]
    candidates, argv, env = parts[: step.n1], parts[step.n1 : step.n1 + step.n2], parts[step.n1 + step.n2 :]
    line = f"execve({quoted(candidates[0])}, [{', '.join(map(quoted, argv))}], [{', '.join(map(quoted, env))}])"
    return [line, *([f"# or the first of these that is there: {', '.join(candidates[1:])}"] if candidates[1:] else [])]


def _keep(step: "Step") -> "list[str]":
    words = _text(step.data).split("\0")[:-1]
    for slot in range(250):
        words = [each.replace(f"{{{slot}}}", f"<{name(slot)}>") if "{" in each else each for each in words]
    argv = ", ".join(['"dolium-keep"', "<owner>", "<child>", *map(quoted, words)])
    return ["recv(peer)  # nothing comes: exec has closed the child's end",
            f'execveat({_fd(step.fd)}, "", [{argv}], [], AT_EMPTY_PATH)']  # fmt: skip


def _netlink(step: "Step") -> "list[str]":
    there = [f"setns({_fd(step.fd)}, CLONE_NEWNET)  # and back again after the next"] if step.fd >= 0 else []
    index = [f'ioctl(link, SIOCGIFINDEX, {quoted(step.path)})'] if step.path else []
    sent = [f"sendto(link, {line})" for line in netlink_words.lines(step.data, name(step.fd2) if step.fd2 >= 0 else "")]
    again = [f"# asked again each millisecond, {step.n3} times at most, until it is up"] if step.n3 else []
    return [*there, "link = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)", *index, *sent,
            "recvfrom(link)  # the kernel's answer to each", *again]  # fmt: skip


def _born(_: "Step") -> "list[str]":
    return ["mmap(..., MAP_PRIVATE|MAP_FIXED, plan)  # inside: what it writes from now on is its own", "close_range(3, ~0)",
            "clone(CLONE_PARENT)  # then it ends; the new one goes on", "waitid(P_PIDFD, child)  # outside",
            "child = pidfd_open(...)  # outside", "setsid()  # the new one"]  # fmt: skip


def _reset(_: "Step") -> "list[str]":
    return ["rt_sigaction(N, SIG_DFL)  # N from 1 to 64", "sigprocmask(SIG_SETMASK, [])", "setsid()", "sched_setaffinity(0, all)",
            "umask(0)"]  # fmt: skip


def _own_pipes(step: "Step") -> "list[str]":
    return ["fstatfs(0)  # only if it is an anonymous pipe", f"fchown(0, {step.n1}, {step.n2})", "# the same for 1 and 2"]


def _seccomp(step: "Step") -> "list[str]":
    call = f"seccomp(SECCOMP_SET_MODE_FILTER, {_bits(step.n1, FILTER_FLAGS)}, {{len={len(step.data) // 8}}})"
    return [call] if step.fd < 0 else [f"listener = {call}", f"sendmsg({_fd(step.fd)}, 1 byte, SCM_RIGHTS [listener])"]


def _ptmx(step: "Step") -> "list[str]":
    own = "resolve=RESOLVE_BENEATH|RESOLVE_NO_XDEV|RESOLVE_NO_SYMLINKS"
    return [f"there = {_openat2(step.fd, step.path, 0o10200000)}", "fstatfs(there)  # must be a devpts",
            _fill(step, f'openat2(there, "ptmx", {{flags=O_RDWR|O_NOCTTY|O_CLOEXEC, {own}}})'),
            f"ioctl({name(step.out)}, TIOCSPTLCK, 0)",
            f"ioctl({name(step.out)}, TIOCSWINSZ, {{{step.n1}, {step.n2}}})"]  # fmt: skip


def _pts(step: "Step") -> "list[str]":
    return [_fill(step, f"ioctl({_fd(step.fd)}, TIOCGPTPEER, O_RDWR|O_NOCTTY|O_CLOEXEC)"),
            f"fchown({name(step.out)}, {step.n1}, -1)"]  # fmt: skip


def _watch_oom(step: "Step") -> "list[str]":
    return ["oom = eventfd(0, EFD_CLOEXEC|EFD_NONBLOCK)", f'control = open("{step.path}/memory.oom_control", O_RDONLY)',
            f'write(open("{step.path}/cgroup.event_control", O_WRONLY), "<oom> <control>")']  # fmt: skip


def _reap(_: "Step") -> "list[str]":
    return ["child = fork()", "setsid()  # the child, which goes on", "wait(...)  # PID 1, again and again",
            "kill(child, SIGNAL)  # PID 1, for each signal that it gets"]  # fmt: skip


def _call(step: "Step") -> "list[str]":
    given = [int.from_bytes(step.data[at : at + 8], "little", signed=True) for at in range(0, 48, 8)]
    last = max((number for number, value in enumerate(given) if value), default=-1) + 1
    shown = []
    for value in given[: max(last, 1)]:
        if value == -(1 << 63):
            shown.append("0x" + step.data[48:].hex())
        else:
            shown.append(name(value + (1 << 63) - 1) if value < 250 - (1 << 63) else str(value))
    return [f"{step.path}({', '.join(shown)})"]


def _probe(step: "Step") -> "list[str]":
    paths = _text(step.data).split("\0")[:-1]
    return [f"access({quoted(paths[0])}, X_OK)", *([f"# then {', '.join(paths[1:])}"] if paths[1:] else [])]


_CALLS: "dict[str, Callable[[Step], list[str]]]" = {
    "make_group": lambda step: [f"mkdir({quoted(step.path)}, 0755)"],
    "set_limit": lambda step: [f"write(open({quoted(step.path)}, O_WRONLY), {quoted(_text(step.data))}, {len(step.data)})"],
    "make_net": lambda step: ["unshare(CLONE_NEWNET)  # a thread of its own",
                              f'{name(step.out)} = open("/proc/thread-self/ns/net", O_RDONLY|O_CLOEXEC)',
                              'ioctl(any, SIOCSIFFLAGS, {"lo", IFF_UP})'],
    "nft": lambda step: ["setns(network, CLONE_NEWNET)  # a thread of its own", 'execve("nft", {"nft", "-f", "-"})',
                         *(f"# {line}" for line in _text(step.data).splitlines())],
    "resolver": lambda step: ['bind(socket(AF_INET, SOCK_DGRAM), "127.0.0.11:53")',
                              'bind(socket(AF_INET, SOCK_STREAM), "127.0.0.11:53")',
                              "netlink = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)"],
    "watch_oom": _watch_oom, "open": _open, "open_tree": _open_tree, "set_attr": _set_attr, "new_mount": _new_mount,
    "move_mount": _move_mount, "mkdir": _mkdir, "symlink": _symlink, "mknod": _mknod, "write_file": _write_file,
    "read_file": _read_file, "write": _write, "write_fd": _write_fd, "clone": _clone, "map_ids": _map_ids, "sync": _sync,
    "unshare": lambda step: [f"unshare({_bits(step.n1, CLONE)})"],
    "open_ns": lambda step: [_fill(step, f'open("/proc/CHILD/{step.path}", O_RDONLY|O_CLOEXEC)')],
    "reset": _reset, "become": _become,
    "undumpable": lambda step: ["prctl(PR_SET_DUMPABLE, 0)"],
    "keyring": lambda step: ["keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)"],
    "hostname": lambda step: [f"sethostname({quoted(step.path)}, {len(step.path)})"],
    "loopback": lambda step: ["any = socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0)", 'ioctl(any, SIOCSIFFLAGS, {"lo", IFF_UP})'],
    "mask": _mask, "read_only": _read_only,
    "pivot_root": lambda step: [f"fchdir({_fd(step.fd)})", 'pivot_root(".", ".")'],
    "drop_old": lambda step: ['umount2(".", MNT_DETACH)', 'chdir("/")'],
    "own_pipes": _own_pipes, "rlimit": _rlimit, "bounds": _bounds, "caps": _caps,
    "device_filter": lambda step: [
        f"filter = bpf(BPF_PROG_LOAD, {{prog_type=BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={len(step.data) // 8}}})",
        f"bpf(BPF_PROG_ATTACH, {{target_fd={_fd(step.fd)}, attach_bpf_fd=filter, attach_type=BPF_CGROUP_DEVICE, "
        "attach_flags=BPF_F_ALLOW_MULTI})"],
    "no_new_privs": lambda step: ["prctl(PR_SET_NO_NEW_PRIVS, 1)"],
    "seccomp": _seccomp,
    "chdir": _chdir,
    "umask": lambda step: [f"umask(0{step.n1:03o})"],
    "die_with": lambda step: ["prctl(PR_SET_PDEATHSIG, SIGKILL)", "recv(peer, MSG_DONTWAIT|MSG_PEEK)  # is it alive still?"],
    "reap": _reap, "exec": _exec, "keep": _keep,
    "enter_net": lambda step: [f"setns({_fd(step.fd)}, CLONE_NEWNET)"],
    "netlink": _netlink,
    "join": lambda step: [f"setns({_fd(step.fd)}, {_bits(step.n1, CLONE)})"],
    "born": _born,
    "ask": lambda _: ['send(owner, "H", 1, MSG_NOSIGNAL)', "recv(owner, ..., 1)"],
    "call": _call,
    "probe": _probe,
    "wait_start": lambda step: [f"close_range({3 + step.n1}, ~0)  # but the two ends",
                                f"start = accept4({_fd(step.fd)}, NULL, NULL, SOCK_CLOEXEC)", "recv(start, ..., 1)"],
    "wait_command": lambda step: [f"close_range(3, ~0)  # but {_fd(step.fd)}", f"recvmsg({_fd(step.fd)}, SCM_RIGHTS ...)",
                                  "dup2(..., 0)  # the same for 1 and 2"],
    "leave": lambda step: ["close(child)"] if step.n1 else ["recv(peer)  # its end: exec has happened"],
    "copy_up": lambda step: [f"from = {_openat2(step.fd2, step.path, 0o200000)}",
                             f'to = openat({_fd(step.fd)}, ".", O_DIRECTORY|O_CLOEXEC)', "# each of readdir(from)"],
    "hook": lambda step: [f"execve({quoted(step.path)}, ...)"],
    "record": lambda _: ["# write-fsync-rename of state.json"],
    "notify": lambda step: [f"sendmsg(<{step.path}>, SCM_RIGHTS listener)"],
    "move_device": lambda step: [f"sendto(<rtnetlink>, RTM_NEWLINK {step.path} IFLA_NET_NS_FD IFLA_IFNAME={step.path2})",
                                 "sendto(<rtnetlink of the container's network>, RTM_NEWADDR ..., RTM_NEWLINK up)"],
    "home": lambda _: ["pwrite(<plan>, HOME=...)"],
    "map_users": lambda step: [f"execve(\"newuidmap\", OUTSIDE {' '.join(step.path.split())})",
                               f"execve(\"newgidmap\", OUTSIDE {' '.join(step.path2.split())})"],
    "own_group": lambda step: [f"chown({quoted(step.path)}, {step.n1}, -1)", "# and its cgroup.procs, cgroup.threads, ..."],
    "start_unit": lambda step: [f"sendto(<systemd>, StartTransientUnit {quoted(step.path)} ...)", "recv(<systemd>, JobRemoved)"],
    "attach": lambda step: [f"sendto(<systemd>, AttachProcessesToUnit {quoted(step.path)} ...)"],
    "enter_group": lambda step: [f"write(open({quoted(step.path + '/cgroup.procs')}, O_WRONLY), CHILD)"],
    "filter_devices": lambda step: [f"group = open({quoted(step.path)}, O_PATH|O_DIRECTORY)  # by a dolium-init of its own",
                                    "bpf(BPF_PROG_LOAD, ...)", "bpf(BPF_PROG_ATTACH, {target_fd=group, ...})"],
    "make_users": lambda step: [f"{name(step.out)} = open(\"/proc/CHILD/ns/user\", O_RDONLY)"],
    "idle": lambda _: ["waitpid(-1, NULL, WNOHANG)  # and sigwaitinfo({SIGCHLD}), again and again"],
    "ptmx": _ptmx, "pts": _pts,
    "stdio": lambda step: [f"dup2({_fd(step.fd)}, 0)", "# the same for 1 and 2"],
    "ctty": lambda _: ["ioctl(0, TIOCSCTTY, 0)"],
    "offer": lambda step: [f"sendmsg(<owner>, SCM_RIGHTS {_fd(step.fd)})"],
}  # fmt: skip

KNOWN = frozenset(_CALLS)
