"""What criu is told of a container, and what of one is not its own but comes from the host, and so from the config again when it
is restored.  Pure."""

from dolium.errors import SpecError, Unsupported, UsageError
from dolium.plan import criu_messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SWITCHES = {"ext-unix-sk": "ext_unix_sk", "tcp-established": "tcp_established", "tcp-close": "tcp_close", "shell-job": "shell_job",
            "file-locks": "file_locks", "auto-dedup": "auto_dedup", "leave-running": "leave_running",
            "link-remap": "link_remap", "tcp-skip-in-flight": "tcp_skip_in_flight"}  # fmt: skip
"""Flags that are an option of criu's, and nothing else."""
REFUSED = {
    "lazy-pages": "memory is restored with the container, not after it",
    "status-fd": "is for --lazy-pages, which there is not",
    "lsm-profile": "labels of AppArmor and SELinux are restored as they were",
    "lsm-mount-context": "labels of AppArmor and SELinux are restored as they were",
}
"""Those that could not be seen to work, and why one can do without them."""
EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}
"""Namespaces that criu leaves alone where they are another's, and is given when it restores: its names."""
JOINED = {"ipc": "ipc", "uts": "uts", "time": "time"}
"""Those that it joins."""
CLONE_NEWNET = 0x40000000
LOG_LEVEL = 4
GROUP, DEVICE = "", "/dev"
LENT = ("file[", "tty[")
"""How names of files begin that are not the container's, and that criu is to be told of."""


def options(flags: "dict[str, Any]") -> "dict[str, Any]":
    """What the flags of `checkpoint` and `restore` have in common.  Raises UsageError and Unsupported."""
    for name, why in REFUSED.items():
        if name in flags:
            raise Unsupported(f"--{name}", why)
    found: dict[str, Any] = {option: True for name, option in SWITCHES.items() if name in flags}
    mode = flags.get("manage-cgroups-mode") or "soft"
    found |= {"manage_cgroups": True, "manage_cgroups_mode": _chosen(mode, criu_messages.CGROUP_MODES, "--manage-cgroups-mode")}
    if "network-lock" in flags:
        found["network_lock"] = _chosen(flags["network-lock"], criu_messages.NETWORK_LOCKS, "--network-lock")
    for each in flags.get("empty-ns", ()):
        if each != "network":
            raise UsageError(f"--empty-ns: expected network, got `{each[:40]}`")
    # What is in a network namespace is an engine's or a hook's to make again, as with runc.
    return {**found, "empty_ns": CLONE_NEWNET, "orphan_pts_master": True, "notify_scripts": True, "log_level": LOG_LEVEL}


def _chosen(text: str, table: "dict[str, int]", flag: str) -> int:
    if text not in table:
        raise UsageError(f"{flag}: expected {', '.join(table)}, got `{text[:40]}`")
    return table[text]


def page_server(text: str) -> "tuple[str, int]":
    """--page-server ADDRESS:PORT.  Raises UsageError."""
    address, _, port = text.rpartition(":")
    if not address or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--page-server: expected ADDRESS:PORT, got `{text[:80]}`")
    return address.strip("[]"), int(port)


def config_file(annotations: "dict[str, str]") -> str:
    """Settings that overrule ours, from where runc has them, for its containers and ours are the same to who writes them."""
    return annotations.get("org.criu.config", "/etc/criu/runc.conf")


def check_namespaces(spec: "dict[str, Any]") -> None:
    """Raises Unsupported for namespaces that criu cannot give back."""
    own = {each["type"] for each in spec["linux"]["namespaces"] if "path" not in each}
    if "mount" not in own:
        raise Unsupported("checkpoint", "the container has no mount namespace of its own")
    for index, each in enumerate(spec["linux"]["namespaces"]):
        if each["type"] == "user":  # nodes of /dev are made for them by the host's root, which criu is not by then
            why = "criu cannot make the devices of a container with users of its own again"
            raise Unsupported(f"linux.namespaces[{index}]", why)
        if "path" in each and each["type"] not in {**EXTERNAL, **JOINED}:
            raise Unsupported(f"linux.namespaces[{index}].path", f"criu cannot restore into another's {each['type']} namespace")


def shared(spec: "dict[str, Any]") -> "list[tuple[str, str]]":
    """(type, path) of namespaces that are another's."""
    return [(each["type"], each["path"]) for each in spec["linux"]["namespaces"] if "path" in each]


class Mount:
    """A line of /proc/PID/mountinfo, proc(5); `shown` is the directory of the file system that is there."""

    __slots__ = ("number", "parent", "device", "shown", "place", "kind")

    def __init__(self, line: str) -> None:
        words, _, after = line.partition(" - ")
        number, parent, self.device, shown, place, *_ = words.split()
        self.number, self.parent, self.shown, self.place = int(number), int(parent), _plain(shown), _plain(place)
        self.kind = after.split()[0]


def _plain(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text


def external(mountinfo: str, binds: "dict[int, str]", others: "set[int]", group_binds: bool) -> "dict[str, tuple[str, str]]":
    """Mounts whose files are the host's: where they are -> (destination of the config's mount that brought them, what is below
    that), or (GROUP, the name of its hierarchy), or (DEVICE, its path below /dev).

    `binds` are the destinations of the config's bind mounts by the number of the mount that is there, `others` the numbers of its
    other mounts; `group_binds` whether it has cgroups bound, for want of a namespace of them."""
    mounts = {each.number: each for each in (Mount(line) for line in mountinfo.splitlines())}
    found = {}
    for each in mounts.values():
        above: Mount | None = each
        while above and above.number not in binds and above.number not in others:
            above = mounts.get(above.parent)
        if above and above.number in binds:
            found[each.place] = binds[above.number], each.place[len(above.place) :]
        elif each.kind in ("cgroup", "cgroup2"):  # of a namespace of cgroups criu knows what their roots are
            if group_binds and each.shown != "/":
                found[each.place] = GROUP, each.place.rpartition("/")[2]
        elif each.place != "/" and _is_unreachable(each, mounts):
            found[each.place] = DEVICE, each.shown
    return found


def _is_unreachable(mount: Mount, mounts: "dict[int, Mount]") -> bool:
    """Whether no mount of the container shows more of that file system: then it was bound from elsewhere."""
    if mount.shown == "/":
        return False
    above = [each.shown.rstrip("/") + "/" for each in mounts.values() if each.device == mount.device and each is not mount]
    return not any(mount.shown.startswith(each) for each in above)


def sources(kept: "dict[str, list[str]]", given: "dict[str, str]", groups: "dict[str, str]") -> "list[str]":
    """The same when it is restored: criu's words for each, with what there is now: `given` are the sources of the config's bind
    mounts by their destinations, `groups` the directories of the container's cgroups by the names of their hierarchies.

    Raises SpecError."""
    found = []
    for place, (destination, rest) in kept.items():
        if destination == GROUP:
            source = groups.get(rest) or next(iter(groups.values()), "")
        elif destination == DEVICE:
            source = f"/dev{rest}"
        else:
            source = given.get(destination, "") and given[destination] + rest
        if not source:
            raise SpecError("mounts", f"the checkpoint has a bind mount on `{destination or place}`, the config has none")
        found.append(f"mnt[{place}]:{source}")
    return found
