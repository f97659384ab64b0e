"""What the planner has to know of the host: collected by runtime/host.py, invented by tests."""


class Hierarchy:
    """One mounted cgroup hierarchy: `version` 1 or 2, `parent` the directory that containers' groups are made in."""

    __slots__ = ("version", "parent")

    def __init__(self, version: int, parent: str) -> None:
        self.version: int = version
        self.parent: str = parent


class Facts:
    """Facts of the host and of the caller; all of them plain data.

    uid, gid         the caller's ids
    rootless         the caller is not root of the host, or lacks CAP_SYS_ADMIN: a user namespace of one id comes first
    exempt           the kernel counts no processes of the caller's: root of the first user namespace, setrlimit(2)
    is_root          the caller is root of the user namespace that it is in, with CAP_SYS_ADMIN there
    makes_users      before anything is mounted dolium-init makes the container's user namespace, as who is not root must
    one_id           that has one id only, and setgroups(2) is denied in it
    kernel           (major, minor)
    machine          as uname(2) says, such as `x86_64`
    id_base          the first host id of the container's range, 0 without a user namespace of its own
    capabilities     the bounding set of the caller, as a bit set
    controllers      controller name -> Hierarchy where this caller can use it; `unified` is cgroup2 itself
    no_controllers   why there are not more: (what was found, how to mend it)
    no_devices       the same of the device filter: `devices` of cgroup v1, or BPF programs on cgroup v2
    hierarchies      the same for every controller there is, `parent` where it is mounted: for paths that an engine chooses
    labels           which security modules label processes: `apparmor`, `selinux`
    cgroup2_mounted  cgroup v2 is mounted at /sys/fs/cgroup itself (not hybrid, not v1)
    memory_nodes     /sys/devices/system/node/online, such as `0`
    filters          system call filters that the build has compiled, by plan.filter.key
    throttles        /sys/devices/system/cpu/cpu*/thermal_throttle that exist
    """

    __slots__ = ("uid", "gid", "rootless", "kernel", "machine", "id_base", "capabilities", "controllers",
                 "no_controllers", "no_devices", "cgroup2_mounted", "memory_nodes", "throttles", "filters", "has_users",
                 "hierarchies", "labels", "exempt", "is_root", "makes_users", "one_id")  # fmt: skip

    def __init__(self, *, uid: int = 0, gid: int = 0, kernel: "tuple[int, int]" = (6, 18), machine: str = "x86_64",
                 id_base: int = 0, capabilities: int = (1 << 41) - 1, controllers: "dict[str, Hierarchy] | None" = None,
                 no_controllers: "tuple[str, str]" = ("", ""), no_devices: "tuple[str, str]" = ("", ""),
                 cgroup2_mounted: bool = True,
                 memory_nodes: str = "0", throttles: "tuple[str, ...]" = (),
                 rootless: bool = False, exempt: bool = False,
                 filters: "dict[bytes, bytes] | None" = None, hierarchies: "dict[str, Hierarchy] | None" = None,
                 labels: "tuple[str, ...]" = ()) -> None:
        self.uid: int = uid
        self.gid: int = gid
        self.rootless: bool = rootless
        self.exempt: bool = exempt
        self.filters: dict[bytes, bytes] = filters or {}
        self.kernel: tuple[int, int] = kernel
        self.machine: str = machine
        self.id_base: int = id_base
        self.capabilities: int = capabilities
        self.controllers: dict[str, Hierarchy] = controllers or {}
        self.no_controllers: tuple[str, str] = no_controllers
        self.no_devices: tuple[str, str] = no_devices
        self.cgroup2_mounted: bool = cgroup2_mounted
        self.memory_nodes: str = memory_nodes
        self.throttles: tuple[str, ...] = throttles
        self.hierarchies: dict[str, Hierarchy] = hierarchies or {}
        self.labels: tuple[str, ...] = labels
        self.is_root: bool = not rootless
        self.makes_users: bool = rootless
        self.one_id: bool = rootless
        self.has_users: bool = False

    def with_ids(self, id_base: int) -> "Facts":
        """The same host, for a container whose ids begin at `id_base` on it."""
        copy = Facts.__new__(Facts)
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.id_base = id_base
        return copy

    @property
    def lesser(self) -> str:
        """What keeps a caller whose uid is 0 from being root of the host, where something does."""
        return "root of a user namespace only" if self.is_root else "root without CAP_SYS_ADMIN"

    @property
    def own_users(self) -> bool:
        """Whether the container has a user namespace of its own."""
        return self.makes_users or self.id_base > 0 or self.has_users

    @property
    def counts_processes(self) -> bool:
        """Whether RLIMIT_NPROC limits the processes of a container: in its user namespace (since Linux 5.14), of this caller."""
        return self.own_users and self.kernel >= (5, 14) and not self.exempt
