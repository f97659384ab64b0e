"""Steps that make /dev: a small tmpfs of its own, with the nodes every program expects and none that leads to a disk."""

from dolium.core.wire import OUTSIDE, Step, part, strings
from dolium.plan import slots
from dolium.plan.attributes import NOEXEC, NOSUID
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dolium.plan.facts import Facts

S_IFIFO, S_IFCHR, S_IFBLK = 0o010000, 0o020000, 0o060000
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
"""runtime-spec, Default Devices; null(4), full(4), random(4), tty(4)"""
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"), ("core", "/proc/kcore"))  # fmt: skip


def tree(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Root makes the nodes beside the container, whose user namespace may not; who is not root binds the host's."""
    owner = facts.id_base
    asked = [(index, each) for index, each in enumerate(spec["linux"].get("devices", ()))]
    options, bits = ["mode=755", "size=65536k", f"uid={owner}", f"gid={owner}"], NOSUID | NOEXEC
    if is_bundle(spec):
        from dolium.plan import bundle

        options, bits = bundle.dev_options(spec, owner, facts)
        asked = [(index, each) for index, each in asked if bundle.in_dev(spec, each["path"])]
    steps = [
        Step("new_mount", OUTSIDE, "linux.devices", path="tmpfs", n1=bits, out=slots.DEV, data=strings(*options),
             what="tmpfs for /dev", note="no disk, no kernel memory device"),
        part(Step("symlink", OUTSIDE, "linux.devices", fd=slots.DEV, data=_LINKS, n2=owner, what="links in /dev",
                  note="fd, stdin, stdout, stderr, ptmx")),
        part(Step("mkdir", OUTSIDE, "linux.devices", fd=slots.DEV, data=_DIRECTORIES, n2=owner, what="directories in /dev",
                  note="for mounts: pts, shm, mqueue")),
    ]  # fmt: skip
    if not facts.rootless:
        taken = [each for _, each in asked]
        steps.append(part(Step("mknod", OUTSIDE, "linux.devices", fd=slots.DEV, data=_nodes(taken) if taken else _NODES,
                               n1=S_IFCHR | 0o666, n2=owner, what="nodes in /dev",
                               note=", ".join(name for name, _, _ in NODES))))  # fmt: skip
        steps += [_node(index, device, owner) for index, device in asked]
    return steps


def bound(spec: "dict[str, Any]", facts: "Facts") -> "list[tuple[str, str, str]]":
    """(why, the host's node, path in the container) of the nodes that are bind mounts."""
    if not facts.rootless or is_bundle(spec):
        return []
    asked = {device["path"] for device in spec["linux"].get("devices", ())}
    nodes = [("linux.devices", f"/dev/{name}", f"/dev/{name}") for name, _, _ in NODES if f"/dev/{name}" not in asked]
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
    if facts.rootless or spec["process"].get("terminal") or (not facts.id_base and not user["uid"]):
        return []
    return [Step("own_pipes", OUTSIDE, "process.user", n1=facts.id_base + user["uid"], n2=facts.id_base + user["gid"],
                 what="fchown stdin, stdout, stderr", note="only where they are anonymous pipes")]  # fmt: skip


def _node(index: int, device: "dict[str, Any]", owner: int) -> Step:
    kind = {"b": S_IFBLK, "p": S_IFIFO}.get(device["type"], S_IFCHR)
    major, minor = device.get("major", 0), device.get("minor", 0)
    return Step(
        "mknod",
        OUTSIDE,
        f"linux.devices[{index}]",
        fd=slots.DEV,
        n1=kind | device["fileMode"] & 0o7777,
        n2=owner + device.get("uid", 0),
        n3=0 if device.get("gid", 0) == device.get("uid", 0) else owner + device.get("gid", 0) + 1,
        what=f"mknod {device['path']}",
        data=strings(device["path"].removeprefix("/dev/"), str(number(major, minor))),
        note=f"{'block' if kind == S_IFBLK else 'character'} device {major}:{minor}",
    )


def _nodes(asked: "Iterable[dict[str, Any]]") -> bytes:
    """Those whose places nothing takes that was asked for."""
    taken = {device["path"] for device in asked}
    return strings(*(each for name, major, minor in NODES if f"/dev/{name}" not in taken
                     for each in (name, str(number(major, minor)))))  # fmt: skip


def number(major: int, minor: int) -> int:
    """The kernel's dev_t, as makedev(3) makes it."""
    return (major & 0xFFF) << 8 | minor & 0xFF | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32


_LINKS = strings(*(each for pair in LINKS for each in pair))
_DIRECTORIES = strings("pts", "755", "shm", "755", "mqueue", "755")
_NODES = _nodes(())
