"""Who `--user` means: names and ids, looked up in the container's own passwd and group, never in the host's."""

from dolium.errors import DoliumError, NotFound, SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[str], str]

MOST = (1 << 32) - 2
CAP = 1 << 20
"""Bytes of passwd and group that are read at most (CVE-2026-47262)."""


class User:
    """Ids as the container sees them, and the home directory."""

    __slots__ = ("uid", "gid", "groups", "home")

    def __init__(self, uid: int = 0, gid: int = 0, groups: "tuple[int, ...]" = (), home: str = "/root") -> None:
        self.uid: int = uid
        self.gid: int = gid
        self.groups: tuple[int, ...] = groups
        self.home: str = home


ROOT = User()


def find(text: "str | None", read: "Read") -> User:
    """`NAME`, `UID`, or either with `:GROUP`.  Digits are always an id, whatever passwd calls so (CVE-2016-3697), and
    nothing else is (CVE-2026-30892).  `read` returns the text of `/etc/passwd` or `/etc/group`, empty where there is none.

    Raises SpecError and NotFound.
    """
    if text is None or text in ("root", "0", "0:0", "root:root"):
        return ROOT
    name, colon, group = text.partition(":")
    if not name or (colon and not group) or ":" in group or any(each.isspace() or not each.isprintable() for each in text):
        raise SpecError("--user", f"`{text}` is neither NAME nor UID, nor one with :GROUP")
    uid = _number(name, text)
    entry = _entry(read("/etc/passwd"), name, uid)
    if entry is None and uid is None:
        raise NotFound("user", name, hint="the container's /etc/passwd has no such name; a number needs no entry")
    if entry and not (_is_id(entry[2]) and _is_id(entry[3])):  # -1 would mean "stay root" to setresuid(2)
        raise DoliumError(f"the container's /etc/passwd has a malformed line for `{name}`")
    found = User(int(entry[2]), int(entry[3]), (), entry[5] or "/") if entry else User(uid or 0, 0, (), "/")
    groups = read("/etc/group") if group or entry else ""
    if group:
        found.gid = _group(group, groups, text)
    elif entry:
        found.groups = _memberships(groups, entry[0], found.gid)
    return found


def _number(text: str, whole: str) -> "int | None":
    if not (text.isascii() and text.isdigit()):
        return None
    if int(text) > MOST:
        raise SpecError("--user", f"`{whole}`: ids go up to {MOST}")
    return int(text)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= MOST


def _entry(passwd: str, name: str, uid: "int | None") -> "list[str] | None":
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) >= 7 and (fields[0] == name if uid is None else fields[2] == str(uid)):
            return fields
    return None


def _group(name: str, group: str, whole: str) -> int:
    number = _number(name, whole)
    if number is not None:
        return number
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) >= 3 and fields[0] == name and _is_id(fields[2]):
            return int(fields[2])
    raise NotFound("group", name, hint="the container's /etc/group has no such name; a number needs no entry")


def _memberships(group: str, name: str, primary: int) -> "tuple[int, ...]":
    found = []
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and name in fields[3].split(",") and _is_id(fields[2]) and int(fields[2]) != primary:
            found.append(int(fields[2]))
    return tuple(found)
