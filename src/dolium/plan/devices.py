"""Steps that make /dev: a small tmpfs of its own, with the nodes every program expects and none that leads to a disk."""

from dolium.core.wire import OUTSIDE, Step, part, strings
from dolium.plan import slots
from dolium.plan.attributes import NOEXEC, NOSUID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

S_IFCHR, S_IFBLK = 0o020000, 0o060000
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
"""runtime-spec, Default Devices; null(4), full(4), random(4), tty(4)"""
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"), ("core", "/proc/kcore"))  # fmt: skip


def tree(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Root makes the nodes beside the container, whose user namespace may not; who is not root binds the host's."""
    owner = facts.id_base
    asked = spec["linux"].get("devices", ())
    steps = [Step("new_mount", OUTSIDE, "linux.devices", path="tmpfs", data=strings("mode=755", "size=65536k", f"uid={owner}", f"gid={owner}"),
                  n1=NOSUID | NOEXEC, out=slots.DEV, what=f"tmpfs for /dev, {len(NODES) + len(asked)} nodes",
                  note="no disk, no kernel memory device")]  # fmt: skip
    for index, (name, target) in enumerate(LINKS):
        steps.append(part(Step("symlink", OUTSIDE, f"linux.devices.links[{index}]", fd=slots.DEV, path=name, path2=target, n3=owner,
                                 what=f"link /dev/{name}", note=target)))  # fmt: skip
    for name in ("pts", "shm", "mqueue"):
        steps.append(part(Step("mkdir", OUTSIDE, "linux.devices", fd=slots.DEV, path=name, n1=0o755, n2=owner,
                                 what=f"mkdir /dev/{name}", note="for a mount")))  # fmt: skip
    for name, major, minor in () if facts.rootless else NODES:
        steps.append(part(_node("linux.devices", name, S_IFCHR | 0o666, major, minor, owner)))
    for index, device in enumerate(asked):
        if not facts.rootless:
            kind = S_IFBLK if device["type"] == "b" else S_IFCHR
            steps.append(_node(f"linux.devices[{index}]", device["path"].removeprefix("/dev/"), kind | device["fileMode"],
                               device["major"], device["minor"], owner))  # fmt: skip
    return steps


def bound(spec: "dict[str, Any]", facts: "Facts") -> "list[tuple[str, str, str]]":
    """(why, the host's node, path in the container) of the nodes that are bind mounts."""
    if not facts.rootless:
        return []
    nodes = [("linux.devices", f"/dev/{name}", f"/dev/{name}") for name, _, _ in NODES]
    for index, device in enumerate(spec["linux"].get("devices", ())):
        nodes.append((f"linux.devices[{index}]", device["source"], device["path"]))
    return nodes


def attach() -> "list[Step]":
    """Inside: /dev gets its place; a rootfs whose /dev is a symlink is refused (CVE-2026-41579)."""
    from dolium.plan.mounts import place

    return [place("linux.devices", slots.DEV, "/dev", "mount the tmpfs on /dev", "its own few devices", kernel_path=True)]


def pipes(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """So that /dev/stdout can be opened again by the container's user, whom the pipe's own mode would keep out."""
    user = spec["process"]["user"]
    if facts.rootless or (not facts.id_base and not user["uid"]):
        return []
    return [Step("own_pipes", OUTSIDE, "process.user", n1=facts.id_base + user["uid"], n2=facts.id_base + user["gid"],
                 what="fchown stdin, stdout, stderr", note="only where they are anonymous pipes")]  # fmt: skip


def _node(why: str, name: str, mode: int, major: int, minor: int, owner: int) -> Step:
    device = (major & 0xFFF) << 8 | minor & 0xFF | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32
    return Step("mknod", OUTSIDE, why, fd=slots.DEV, path=name, n1=mode, n2=device, n3=owner, what=f"mknod /dev/{name}",
                note=f"{'block' if mode & S_IFBLK == S_IFBLK else 'character'} device {major}:{minor}")  # fmt: skip
