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
