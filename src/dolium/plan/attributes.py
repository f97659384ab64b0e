"""The options of a mount: which are attributes of the mount itself, which the file system's own, mount_setattr(2)."""

RDONLY, NOSUID, NODEV, NOEXEC = 0x01, 0x02, 0x04, 0x08
NOATIME, STRICTATIME, NODIRATIME, NOSYMFOLLOW = 0x10, 0x20, 0x80, 0x200000

SET = {"ro": RDONLY, "nosuid": NOSUID, "nodev": NODEV, "noexec": NOEXEC, "noatime": NOATIME, "strictatime": STRICTATIME,
       "nodiratime": NODIRATIME, "nosymfollow": NOSYMFOLLOW}  # fmt: skip
CLEAR = {"rw": RDONLY, "suid": NOSUID, "dev": NODEV, "exec": NOEXEC, "diratime": NODIRATIME, "symfollow": NOSYMFOLLOW}
IGNORED = {"defaults", "relatime", "bind", "rbind", "private", "rprivate"}
"""What a new mount in a private tree is anyway."""


def split(options: "list[str]") -> "tuple[int, list[str]]":
    """The attributes as a bit set, and what is left for the file system; of two that contradict the later one counts."""
    bits, rest = 0, []
    for option in options:
        if option in SET:
            bits |= SET[option]
        elif option in CLEAR:
            bits &= ~CLEAR[option]
        elif option not in IGNORED:
            rest.append(option)
    return bits, rest


ATIME = 0x70
"""The bits among which noatime and strictatime choose; relatime is none of them, mount_setattr(2)."""
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
PROPAGATION = {"private": MS_PRIVATE, "slave": MS_SLAVE, "shared": MS_SHARED, "unbindable": MS_UNBINDABLE}
TIMES = {"noatime": NOATIME, "strictatime": STRICTATIME, "relatime": 0, "atime": 0, "norelatime": 0, "nostrictatime": 0}
OF_SUPERBLOCK = ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand")
"""Flags of the file system itself, which fsconfig(2) takes by these names."""
NOTHING = ("defaults", "bind", "rbind", "remount", "silent", "loud", "iversion", "noiversion")
"""What says nothing more, or what only mount(8) and the log of old kernels ever heard."""


class Options:
    """The options of one mount, as an engine gives them.

    `set` and `clear` are attributes of the mount, `set_below` and `clear_below` the same with all mounts below it;
    `propagation` is (type, with all below) of each that was asked for, in order; `idmap` and `copy_up` whether; `data`
    is the file system's own."""

    __slots__ = ("set", "clear", "set_below", "clear_below", "propagation", "idmap", "copy_up", "data")

    def __init__(self, options: "list[str]") -> None:
        self.set = self.clear = self.set_below = self.clear_below = 0
        self.propagation: list[tuple[int, bool]] = []
        self.idmap = ""
        self.copy_up = False
        self.data: list[str] = []
        for option in options:
            below = option[:1] == "r" and option not in ("ro", "rw", "relatime", "remount", "rbind", "ridmap")
            if option in NOTHING:
                continue
            if option in ("idmap", "ridmap"):
                self.idmap = option
            elif option == "tmpcopyup":
                self.copy_up = True
            elif option.removeprefix("r") in PROPAGATION and option not in ("elatime",):
                self.propagation.append((PROPAGATION[option.removeprefix("r")], option[0] == "r"))
            elif option in SET or option in CLEAR or option in TIMES:
                self._change(option, False)
            elif below and (option[1:] in SET or option[1:] in CLEAR or option[1:] in TIMES):
                self._change(option[1:], True)
            else:
                self.data.append(option)

    def _change(self, option: str, below: bool) -> None:
        if option in TIMES:
            chosen, cleared = TIMES[option], ATIME
        else:
            chosen, cleared = SET.get(option, 0), CLEAR.get(option, SET.get(option, 0))
        if below:
            self.set_below = self.set_below & ~cleared | chosen
            self.clear_below |= cleared
        else:
            self.set = self.set & ~cleared | chosen
            self.clear |= cleared

    def attributes(self, below: bool = False) -> int:
        """What to set, and in the upper half what to clear first, as the step `set_attr` takes it."""
        bits, clear = (self.set_below, self.clear_below) if below else (self.set, self.clear)
        return bits | (clear & (ATIME | ~bits)) << 32 if bits or clear else 0
