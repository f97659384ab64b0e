"""What the doctor has to know of a host: collected by engine/doctor.py and engine/surroundings.py, invented by tests."""

from dolium.plan.facts import Facts

CALLS: "dict[str, tuple[int, tuple[int | bytes, ...]]]" = {
    "unshare": (272, (0,)),
    "setns": (308, (-1, 0)),
    "seccomp": (317, (255, 0, 0)),
    "memfd_create": (319, (b"", -1)),
    "pidfd_send_signal": (424, (-1, 0, 0, 0)),
    "open_tree": (428, (-1, b"", -1)),
    "move_mount": (429, (-1, b"", -1, b"", -1)),
    "fsopen": (430, (0, -1)),
    "fsconfig": (431, (-1, 255, 0, 0, 0)),
    "fsmount": (432, (-1, -1, 0)),
    "pidfd_open": (434, (0, 0)),
    "clone3": (435, (0, 0)),
    "close_range": (436, (-1, 0, 0)),
    "openat2": (437, (-1, b"", 0, 0)),
    "mount_setattr": (442, (-1, b"", -1, 0, 0)),
}
"""The system calls without which nothing starts, and arguments with which none of them does anything: it answers EINVAL or EBADF
where it is there, and it is a filter that answers EPERM, but for those that ask for CAP_SYS_ADMIN first."""
GUARDED = frozenset(("move_mount", "fsopen", "fsmount", "open_tree", "mount_setattr"))
FILE_SYSTEMS = ("overlay", "proc", "sysfs", "tmpfs", "devpts", "mqueue")
NOT_UPPER = frozenset(
    ("overlay", "nfs", "nfs4", "9p", "vfat", "exfat", "ntfs3", "fuse", "fuseblk", "ecryptfs", "cifs", "smb3", "afs")
)
"""File systems that cannot hold the upper directory of an overlay (overlayfs.rst: d_type, xattrs, RENAME_WHITEOUT)."""


class Place:
    """One of Dolium's own directories.

    owner, mode  as stat(2) has them; -1 where it is not there yet
    kind         of the file system that it is on, or will be; `writable` for this user, `free` bytes
    """

    __slots__ = ("path", "owner", "mode", "kind", "writable", "free")

    def __init__(
        self, path: str, *, owner: int = -1, mode: int = 0o700, kind: str = "ext4", writable: bool = True, free: int = 1 << 40
    ) -> None:
        self.path = path
        self.owner = owner
        self.mode = mode
        self.kind = kind
        self.writable = writable
        self.free = free


class Findings:
    """What was found; plain data, so that tests can invent it.

    facts       of this host, for this caller (runtime/host.py)
    trials      job -> (error, hint) of a container that was really started, both empty where it ran
    sysctls     name -> value, of those that exist
    calls       system call -> the errno that it gave; `filtered`: a seccomp filter is around dolium
    lacking     what this kernel has not got, in words
    outer       what this system itself runs in: `Docker`, `WSL 2`, ... or empty
    hidden      what is mounted over parts of /proc and /sys
    helpers     those of our own programs that are not built; `top` is where they are built
    files       soft and hard limit of open files
    state, data Dolium's directories; `room`: a place for the data of who cannot mount one
    bound       controller -> `v1`, `v2` or `off`, as the kernel has it
    cgroup1     controller -> (mount point, whether it can be written), of those mounted; cgroup2: where that is mounted
    systemd     whether it runs here; session: whether this user has one of it
    installers  package managers that are here; tools: of newuidmap and pasta those that are
    subids      whether /etc/subuid gives the caller ids
    program     the path of `dolium`; oci: (the path of `dolium-oci` or empty, what is wrong with it or which engines are here)
    closed      directories on the way to Python and to Dolium that only their owner may pass
    network     why no bridge can be laid: (what was found, mend), both empty where it can; None where it was not looked at
    firewalls   programs that have rules here
    way_out     whether a route leads out of this host
    registries  (path, what is wrong with the settings of registries or empty, whether they can be read)
    logins      (path, what is wrong with what is written of logins or empty); keeps_logins: Dolium writes that file
    leftovers   how many dead containers have left something
    """

    __slots__ = (
        "facts",
        "trials",
        "sysctls",
        "calls",
        "filtered",
        "lacking",
        "outer",
        "hidden",
        "helpers",
        "top",
        "files",
        "state",
        "data",
        "room",
        "bound",
        "cgroup1",
        "cgroup2",
        "systemd",
        "session",
        "installers",
        "tools",
        "subids",
        "program",
        "oci",
        "closed",
        "network",
        "firewalls",
        "way_out",
        "registries",
        "logins",
        "keeps_logins",
        "leftovers",
    )

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.trials: dict[str, tuple[str, str]] = {}
        self.sysctls: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.filtered = False
        self.lacking: tuple[str, ...] = ()
        self.outer = ""
        self.hidden: tuple[str, ...] = ()
        self.helpers: tuple[str, ...] = ()
        self.top = ""
        self.files = (1024, 1024)
        self.state, self.data = Place("/run/dolium"), Place("/var/lib/dolium")
        self.room = ""
        self.bound: dict[str, str] = {}
        self.cgroup1: dict[str, tuple[str, bool]] = {}
        self.cgroup2 = ""
        self.systemd = self.session = False
        self.installers: tuple[str, ...] = ()
        self.tools: tuple[str, ...] = ()
        self.subids = False
        self.program = ""
        self.oci = ("", "")
        self.closed: tuple[str, ...] = ()
        self.network: tuple[str, str] | None = None
        self.firewalls: tuple[str, ...] = ()
        self.way_out = True
        self.registries = ("", "", True)
        self.logins = ("", "")
        self.keeps_logins = False
        self.leftovers = 0

    def ran(self, job: str) -> bool:
        """Whether a container of that kind really ran: then what else looks wrong is no obstacle."""
        return self.trials.get(job, ("not tried", ""))[0] == ""
