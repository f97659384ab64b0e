"""From what a person or a program asks for to an OCI config, with Dolium's own part under the key `dolium`."""

import os

from dolium.engine import etc
from dolium.engine.users import ROOT
from dolium.errors import SpecError, Unsupported
from dolium.plan import capabilities
from dolium.plan.limits import PERIOD
from dolium.plan.program import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.networks import Attachment
    from dolium.engine.rootfs import Rootfs
    from dolium.engine.users import User
    from dolium.plan.facts import Facts

PIDS = 2048
"""Processes a container may have unless told otherwise."""

LEAST_STORE = 65536
"""Bytes that a container may write at least: its own /etc/hosts must fit, however small the memory limit."""

MASKED = ("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
          "/sys/firmware")  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What moby masks and protects, as of 29."""

OPEN_PORTS = {"net.ipv4.ip_unprivileged_port_start": "0"}
"""On the bridge any user may serve on port 80, as with docker: there are no other users' ports below 1024 to protect.
Who shares this network with users of its own could not, else."""

SAFE = ["nosuid", "noexec", "nodev"]
MOUNTS = (
    ("/proc", "proc", SAFE),
    ("/dev", "tmpfs", ["nosuid", "noexec"]),
    ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", [*SAFE, "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", SAFE),
    ("/sys", "sysfs", [*SAFE, "ro"]),
    ("/sys/fs/cgroup", "cgroup", [*SAFE, "ro"]),
)


class Options:
    """What is asked for; None or empty means: not asked.  Sizes are bytes, `cpus` CPUs, ids the container's.

    `tty`: the program has a terminal, of `size` (rows, columns).  `store` is a directory with `upper` and `work` in it, for
    what is to be kept; `watch` what dolium-keep is to do (plan.program.keep).  An empty `network` is none, unless the caller
    has decided what is usual (networks.usual).  `held`: it is made in advance, and waits for its command.  `places`
    are directories that are made where they are not there, `of_image` what an image has said (plan/askers.py).
    """

    __slots__ = ("add_hosts", "argv", "cap_add", "cap_drop", "cpu_shares", "cpu_weight", "cpus", "cpuset_cpus", "cwd",
                 "devices", "disk", "dns", "dns_options", "dns_search", "env", "held", "hostname", "init", "mask", "memory",
                 "memory_swap", "network", "no_new_privileges", "of_image", "oom_score_adj", "pids", "places", "read_only",
                 "seccomp", "size", "store", "sysctl", "time_namespace", "tmpfs", "tty", "ulimits", "unmask", "user", "userns",
                 "volumes", "watch", "why_denied")  # fmt: skip

    def __init__(self) -> None:
        self.add_hosts: list[tuple[str, str]] = []
        self.argv: list[str] = []
        self.cap_add: list[str] = []
        self.cap_drop: list[str] = []
        self.cpu_shares: int | None = None
        self.cpu_weight: int | None = None
        self.cpus: float | None = None
        self.cpuset_cpus: str | None = None
        self.cwd: str | None = None
        self.devices: list[tuple[str, str, str]] = []
        self.disk: int | None = None
        self.dns: list[str] = []
        self.dns_options: list[str] = []
        self.dns_search: list[str] = []
        self.env: dict[str, str] = {}
        self.held: bool = False
        self.hostname: str | None = None
        self.init: bool = False
        self.mask: list[str] = []
        self.memory: int | None = None
        self.memory_swap: int | None = None
        self.network: str = ""
        self.no_new_privileges: bool = True
        self.of_image: dict[str, list[str]] = {}
        self.oom_score_adj: int | None = None
        self.pids: int | None = None
        self.places: list[str] = []
        self.read_only: bool = False
        self.seccomp: dict[str, Any] | str | None = None
        self.size: tuple[int, int] | None = None
        self.store: str = ""
        self.sysctl: dict[str, str] = {}
        self.time_namespace: bool = False
        self.tmpfs: list[tuple[str, tuple[str, ...]]] = []
        self.tty: bool = False
        self.ulimits: list[tuple[str, int, int]] = []
        self.unmask: list[str] = []
        self.user: User = ROOT
        self.userns: str = "auto"
        self.volumes: list[tuple[str, str, bool]] = []
        self.watch: dict[str, Any] = {}
        self.why_denied: bool = False

    def copy(self) -> "Options":
        """The same, for something else that runs there or like it; what dolium-keep is to do is not the same."""
        found = Options()
        for name in self.__slots__:
            setattr(found, name, getattr(self, name))
        found.watch = {}
        return found


def specification(
    identity: str, options: Options, rootfs: "Rootfs", facts: "Facts", attachment: "Attachment | None" = None
) -> "dict[str, Any]":
    """The OCI config (runtime-spec 1.3) of a container named `identity`, which is given that place in a network.

    Raises SpecError for what contradicts itself and Unsupported for what this host cannot do.
    """
    asked: set[str] = set()
    bound, resolving = etc.files(options.hostname or identity, options, attachment)
    notes = [*attachment.notes, *([resolving] if resolving else [])] if attachment else []
    spec = _of_every_process(identity, options, rootfs, facts, attachment, asked)
    spec |= {
        "hostname": options.hostname or identity,
        "root": {"path": rootfs.path, "readonly": options.read_only},
        "mounts": _mounts(options, rootfs, facts, asked),
    }
    sysctl = {**(OPEN_PORTS if attachment and attachment.cable and not attachment.policy else {}), **options.sysctl}
    spec["linux"] |= {"devices": _devices(options, facts, asked), "sysctl": sysctl, **_paths(options, facts)}
    _allow_devices(spec, options, asked)
    if facts.id_base:
        for key in ("uidMappings", "gidMappings"):
            spec["linux"][key] = [{"containerID": 0, "hostID": facts.id_base, "size": 65536}]
    for key, given in (("hostname", options.hostname), ("root.readonly", options.read_only), ("init", options.init),
                       ("network", options.network), ("why_denied", options.why_denied)):  # fmt: skip
        if given:
            asked.add(key)
    asked.update(f"linux.sysctl.{key}" for key in options.sysctl)
    if options.of_image:
        from dolium.plan import askers

        asked = asked - askers.keys_of_image(options.of_image) | askers.keys_of_yours(options.of_image)
    room = options.disk or (max(options.memory // 2, LEAST_STORE) if options.memory else 0)
    spec["dolium"] = {
        "root": {"kind": rootfs.kind if not options.store or rootfs.kind != "tmpfs" else "filled", "size": room,
                 "store": options.store, "layers": rootfs.layers, "links": rootfs.short,
                 "above_path": rootfs.above_path, "above": rootfs.above},
        "directories": rootfs.directories,
        "places": options.places,
        "links": rootfs.links,
        "files": rootfs.files,
        "bound": bound,
        "network": _cable(options, attachment),
        "notes": notes,
        "init": options.init,
        "held": options.held,
        "watch": options.watch,
        "why_denied": options.why_denied,
        "asked": asked,
        "image": options.of_image,
    }  # fmt: skip
    return spec


def _cable(options: Options, attachment: "Attachment | None") -> "dict[str, Any] | None":
    """For the plan (plan/network.py)."""
    if not attachment or not attachment.cable or not attachment.policy:
        return attachment.cable if attachment else None
    return {**attachment.cable, "policy": {"rules": attachment.policy, "servers": etc.servers(options)}}


def another(identity: str, options: Options, rootfs: "Rootfs", facts: "Facts") -> "dict[str, Any]":
    """What of that config concerns one more process in the container: `options` are the container's, but for what that process
    has of its own.

    Raises SpecError and Unsupported.
    """
    asked: set[str] = set()
    spec = _of_every_process(identity, options, rootfs, facts, None, asked)
    spec["dolium"] = {"watch": options.watch, "asked": asked}
    return spec


def _of_every_process(
    identity: str, options: Options, rootfs: "Rootfs", facts: "Facts", attachment: "Attachment | None", asked: "set[str]"
) -> "dict[str, Any]":
    """Who a process in the container is, what it may do and use, and which namespaces it is in."""
    process = _process(identity, options, rootfs, facts, asked)
    linux: dict[str, Any] = {
        "namespaces": _namespaces(options, facts, attachment),
        "resources": _resources(options, asked) | ({"devices": []} if _is_filtered(options, facts) else {}),
        "cgroupsPath": f"/dolium/{identity}",
    }
    profile = options.seccomp
    if profile is None:
        profile = _default_profile(frozenset(process["capabilities"]["bounding"]))
    if profile != "unconfined":
        linux["seccomp"] = profile
    for key, given in (("process.args", options.argv), ("linux.seccomp", options.seccomp)):
        if given:
            asked.add(key)
    return {"ociVersion": "1.3.0", "process": process, "linux": linux}


_profiles: "dict[frozenset[str], dict[str, Any]]" = {}


def _default_profile(held: "frozenset[str]") -> "dict[str, Any]":
    """The default profile for these capabilities, the same object each time, so that it is compiled once."""
    if held not in _profiles:
        from dolium.plan.seccomp_default import default_profile

        _profiles[held] = default_profile(held)
    return _profiles[held]


def _namespaces(options: Options, facts: "Facts", attachment: "Attachment | None") -> "list[dict[str, str]]":
    types = ["mount", "pid", "uts", "ipc", "cgroup"]
    shared = attachment.path if attachment else ""
    if options.network.startswith("allow="):
        from dolium.plan import egress

        shared = egress.PLACE
    if options.network != "host" and not shared:
        types.append("network")
    if facts.id_base:
        types.append("user")
    if options.time_namespace:
        types.append("time")
    return [{"type": each} for each in types] + ([{"type": "network", "path": shared}] if shared else [])


def _process(identity: str, options: Options, rootfs: "Rootfs", facts: "Facts", asked: "set[str]") -> "dict[str, Any]":
    user = options.user
    env = {"PATH": ":".join([*rootfs.path_first, DEFAULT_PATH]), "HOSTNAME": options.hostname or identity, "HOME": user.home}
    if options.tty:
        env["TERM"] = "xterm"  # as docker has it, whatever the caller's is: the one that every image knows
        asked.add("process.terminal")
    env.update(options.env)
    held = _capabilities(options, facts)
    if options.cap_add or options.cap_drop:
        asked |= {"process.capabilities.bounding", "process.capabilities.effective"}
    if options.cwd:
        asked.add("process.cwd")
    if user is not ROOT:
        asked.add("process.user")
    process: dict[str, Any] = {
        "args": options.argv,
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": options.cwd or "/",
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups), "umask": 0o022},
        "capabilities": {"bounding": held, "permitted": held, "effective": held if user.uid == 0 else [],
                         "inheritable": [], "ambient": []},
        "noNewPrivileges": options.no_new_privileges,
        "rlimits": [{"type": kind, "soft": soft, "hard": hard} for kind, soft, hard in options.ulimits],
    }  # fmt: skip
    if options.tty:
        process["terminal"] = True
        if options.size:
            process["consoleSize"] = {"height": options.size[0], "width": options.size[1]}
    asked.update(f"process.rlimits[{index}]" for index in range(len(options.ulimits)))
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
        asked.add("process.oomScoreAdj")
    return process


def _capabilities(options: Options, facts: "Facts") -> "list[str]":
    """Docker's default set, plus what is added, minus what is dropped; `ALL` in either."""
    held = set(capabilities.DEFAULT)
    if "ALL" in options.cap_drop:
        held = set()
    for name in options.cap_add:
        held |= {*capabilities.NUMBERS} if name == "ALL" else {name}
    if options.network.startswith("allow="):
        from dolium.plan import egress

        held.discard("CAP_NET_RAW")
        void = [name for name in options.cap_add if name in egress.VOID]
        if void:
            raise Unsupported(f"--cap-add {void[0].removeprefix('CAP_')}",
                              "with `--network allow=` nobody in the container may rule its network",
                              hint="leave it out, or use another network")  # fmt: skip
    held -= set(options.cap_drop)
    if not facts.own_users and "devices" not in facts.controllers and "CAP_MKNOD" in held:
        # With the host's own users a device node is a door to the disk, unless a device filter closes it.
        if {"CAP_MKNOD", "ALL"} & set(options.cap_add):
            raise Unsupported("--cap-add MKNOD", "with the host's users it would open every disk to the container, for want of a "
                              f"device filter: {facts.no_devices[0]}",
                              hint="add --cap-drop MKNOD and name devices with --device, or use --userns auto")  # fmt: skip
        held.discard("CAP_MKNOD")
    return sorted(held)


def _resources(options: Options, asked: "set[str]") -> "dict[str, Any]":
    pids = PIDS if options.pids is None else options.pids
    found: dict[str, Any] = {"pids": {"limit": pids}}
    if options.pids is not None:
        asked.add("pids.limit")
    if options.memory is not None:
        found["memory"] = {"limit": options.memory, "swap": options.memory}
        asked.add("memory.limit")
    if options.memory_swap is not None:
        if options.memory is None:
            raise SpecError("--memory-swap", "means memory and swap together, so it needs --memory")
        if -1 < options.memory_swap < options.memory:
            raise SpecError("--memory-swap", "is memory and swap together, so it cannot be less than --memory")
        found["memory"]["swap"] = options.memory_swap
        asked.add("memory.swap")
    cpu: dict[str, Any] = {}
    if options.cpus is not None:
        cpu |= {"quota": round(options.cpus * PERIOD), "period": PERIOD}
        asked.add("cpu.quota")
    if options.cpu_weight is not None and options.cpu_shares is not None:
        raise SpecError("--cpu-weight", "and --cpu-shares are two words for one thing; give one of them")
    if options.cpu_weight is not None:
        cpu["weight"] = options.cpu_weight
        asked.add("cpu.shares")
    if options.cpu_shares is not None:
        cpu["shares"] = options.cpu_shares
        asked.add("cpu.shares")
    if options.cpuset_cpus is not None:
        cpu["cpus"] = options.cpuset_cpus
        asked.add("cpu.cpus")
    if cpu:
        found["cpu"] = cpu
    return found


def _mounts(options: Options, rootfs: "Rootfs", facts: "Facts", asked: "set[str]") -> "list[dict[str, Any]]":
    mounts: list[dict[str, Any]] = list(rootfs.mounts)
    replaced = {path for path, _ in options.tmpfs} | {path for _, path, _ in options.volumes}
    for path, kind, chosen in MOUNTS:
        if path in replaced:
            continue
        if path == "/sys" and options.network == "host" and facts.own_users:
            # sysfs shows a network namespace, so only its owner may mount it: bind the host's instead
            mounts.append({"destination": path, "type": "bind", "source": path, "options": ["rbind", *SAFE, "ro"]})
        else:
            mounts.append({"destination": path, "type": kind, "source": kind, "options": chosen})
    for path, extra in options.tmpfs:
        _check_destination(path, "--tmpfs", options)
        asked.add(f"mounts[{len(mounts)}]")
        mounts.append({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": [*SAFE, *extra]})
    for source, path, read_only in options.volumes:
        _check_destination(path, "--volume", options)
        asked.add(f"mounts[{len(mounts)}]")
        mounts.append({"destination": path, "type": "bind", "source": os.path.abspath(source),
                       "options": ["rbind", "nodev", "ro" if read_only else "rw"]})  # fmt: skip
    return mounts


def _check_destination(path: str, flag: str, options: Options) -> None:
    """No mount over /proc: what Dolium and the program read and write there must be the kernel's (CVE-2019-16884).  None
    where a terminal is to be, either."""
    clean = os.path.normpath("/" + path.lstrip("/"))  # normpath leaves `//` at the beginning, as POSIX has it
    if clean in ("/", "/dev", "/proc", "/sys") or clean.startswith("/proc/"):
        raise SpecError(flag, f"nothing can be mounted on `{path}` in a container")
    if options.tty and (clean in ("/dev/console", "/dev/pts") or clean.startswith("/dev/pts/")):
        raise SpecError(flag, f"nothing can be mounted on `{path}` in a container with a terminal", hint="leave out `-t`")


def _is_less(access: str) -> bool:
    """Whether it takes a filter.  That a container makes no such node needs none: with users of its own it makes none at all."""
    return not {"r", "w"} <= set(access)


def _is_filtered(options: Options, facts: "Facts") -> bool:
    """Whether the container gets a device filter: where it might make nodes, which only the host's users can, and where a
    device is not to be used in full.  Raises Unsupported where the latter cannot be had."""
    for source, path, access in options.devices:
        if _is_less(access) and "devices" not in facts.controllers:
            why, mend = facts.no_devices
            raise Unsupported(f"--device {source}:{path}:{access}", f"less than `rw` takes a device filter: {why}",
                              hint=f"{mend}; or give it `rw`" if mend else "give it `rw`")  # fmt: skip
    return any(_is_less(access) for _, _, access in options.devices) or (not facts.own_users and "devices" in facts.controllers)


def _allow_devices(spec: "dict[str, Any]", options: Options, asked: "set[str]") -> None:
    """The rules for the devices that were asked for; the usual ones are the planner's."""
    rules = spec["linux"]["resources"].get("devices")
    if rules is None:
        return
    for device, (_, _, access) in zip(spec["linux"]["devices"], options.devices, strict=True):
        which = {"type": device["type"], "major": device["major"], "minor": device["minor"]}
        if less := "".join(each for each in "rw" if each not in access):  # it may be one of the usual ones
            rules.append({"allow": False, **which, "access": less})
        rules.append({"allow": True, **which, "access": access})
    if options.devices:
        asked.add("linux.resources.devices")


def _devices(options: Options, facts: "Facts", asked: "set[str]") -> "list[dict[str, Any]]":
    found = []
    for index, (source, path, _) in enumerate(options.devices):
        if not path.startswith("/dev/"):
            raise SpecError("--device", f"`{path}` is not below /dev")
        try:
            status = os.stat(source)
        except OSError as error:
            raise SpecError("--device", f"`{source}`: {error.strerror}") from None
        kind = {0o020000: "c", 0o060000: "b"}.get(status.st_mode & 0o170000)
        if kind is None:
            raise SpecError("--device", f"`{source}` is not a device")
        found.append({"path": path, "type": kind, "major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev),
                      "fileMode": status.st_mode & 0o777, "uid": 0, "gid": 0, "source": source})  # fmt: skip
        asked.add(f"linux.devices[{index}]")
    return found


def _paths(options: Options, facts: "Facts") -> "dict[str, list[str]]":
    if "ALL" in options.unmask:
        masked: list[str] = []
        read_only: list[str] = []
    else:
        masked = [each for each in (*MASKED, *facts.throttles) if each not in options.unmask]
        read_only = [each for each in READ_ONLY if each not in options.unmask]
    return {"maskedPaths": masked + options.mask, "readonlyPaths": read_only}
