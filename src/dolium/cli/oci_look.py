"""The verbs that look at containers or change what they may use: list, ps, events, pause, resume, update; and features, spec."""

import os

from dolium.cli.oci import Words, show
from dolium.core import document
from dolium.errors import DoliumError, StateError, UsageError
from dolium.runtime import members, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _format(found: Words) -> str:
    kind: str = found.flags.get("format", "table")
    if kind not in ("table", "json"):
        raise UsageError(f"--format: expected table or json, got `{kind}`")
    return kind


def list(found: Words, root: str) -> int:
    """`list`"""
    from dolium.cli.oci_life import described

    rows = [described(container) for container in state.every(root)]
    if "quiet" in found.flags:
        show("".join(f"{row['id']}\n" for row in rows))
    elif _format(found) == "json":
        show(document.write(rows) + "\n")
    else:
        names = ("id", "pid", "status", "bundle", "created", "owner")
        table = [[name.upper() for name in names]] + [[str(row[name]) for name in names] for row in rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(names))]
        show(
            "".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in table)
        )
    return 0


def ps(found: Words, root: str) -> int:
    """`ps`: as JSON their numbers, else what ps(1) says of them."""
    container = state.find(root, found.id)
    pids = members.processes(container)
    if _format(found) == "json":
        show(document.write(pids) + "\n")
        return 0
    if not pids:
        return 0
    import subprocess

    ended = subprocess.run(["ps", *(found.words[1:] or ["-ef"])], capture_output=True, text=True, check=False, errors="replace",
                           env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **os.environ})  # fmt: skip
    if ended.returncode:
        raise DoliumError(f"ps: {ended.stderr.strip()}")
    lines = ended.stdout.splitlines()
    if "PID" not in lines[0].split():
        raise UsageError("ps: no column is called PID, by which the container's processes are told", hint="such as: -o pid,comm")
    column = lines[0].split().index("PID")
    wanted = {str(pid) for pid in pids}
    show("\n".join([lines[0], *(line for line in lines[1:] if line.split()[column] in wanted)]) + "\n")
    return 0


def pause(found: Words, root: str) -> int:
    """`pause`"""
    return _freeze(found, root, True)


def resume(found: Words, root: str) -> int:
    """`resume`"""
    return _freeze(found, root, False)


def _freeze(found: Words, root: str, frozen: bool) -> int:
    container = state.find(root, found.id)
    container.lock()
    try:
        status = container.status()
        if status not in (("running", "created") if frozen else ("paused",)):
            raise StateError(found.id, status, "running" if frozen else "paused")
        members.freeze(container, frozen)
    finally:
        container.unlock()
    return 0


FLAGS = {
    "cpu-period": ("cpu", "period"),
    "cpu-quota": ("cpu", "quota"),
    "cpu-burst": ("cpu", "burst"),
    "cpu-share": ("cpu", "shares"),
    "cpu-shares": ("cpu", "shares"),
    "cpu-rt-period": ("cpu", "realtimePeriod"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime"),
    "cpuset-cpus": ("cpu", "cpus"),
    "cpuset-mems": ("cpu", "mems"),
    "cpu-idle": ("cpu", "idle"),
    "memory": ("memory", "limit"),
    "memory-reservation": ("memory", "reservation"),
    "memory-swap": ("memory", "swap"),
    "kernel-memory": ("memory", "kernel"),
    "kernel-memory-tcp": ("memory", "kernelTCP"),
    "pids-limit": ("pids", "limit"),
    "blkio-weight": ("blockIO", "weight"),
}
"""Flags of `update`: where each stands in linux.resources."""


def update(found: Words, root: str) -> int:
    """`update`: resources as a JSON object from a file or, `-`, from standard input; or by flags."""
    from dolium.plan import oci
    from dolium.plan.quantities import size
    from dolium.runtime import update as updating

    given: dict[str, Any] = {}
    if path := found.flags.get("resources"):
        said = _everything() if path == "-" else document.text(os.path.abspath(path), "--resources")
        given = document.read(said, "linux.resources")
    for flag, (group, key) in FLAGS.items():
        if flag not in found.flags:
            continue
        text = found.flags[flag]
        if key in ("cpus", "mems"):
            value: object = text
        elif text.removeprefix("-").isdecimal() and text.isascii():
            value = int(text)
        elif group == "memory":
            value = size(text, f"--{flag}")
        else:
            raise UsageError(f"--{flag}: expected a number, got `{text[:40]}`")
        given.setdefault(group, {})[key] = value
    for flag in ("l3-cache-schema", "mem-bw-schema"):
        if flag in found.flags:
            raise UsageError(f"--{flag}: Intel's resource director is not set by Dolium")
    updating.update(root, found.id, oci.check(given, oci.RESOURCES, "linux.resources"))
    return 0


def _everything() -> str:
    data = b""
    while (chunk := os.read(0, 1 << 16)) and len(data) < document.LARGEST:
        data += chunk
    return data.decode("utf-8", "surrogateescape")


def events(found: Words, root: str) -> int:
    """`events`: one line of JSON each time, as runc has them."""
    from dolium.plan.quantities import seconds
    from dolium.runtime.events import stream
    from dolium.runtime.statistics import statistics

    every = seconds(found.flags.get("interval", "5s"), "--interval")
    container = state.find(root, found.id)
    if "stats" in found.flags:
        if container.status() == "stopped":
            raise StateError(found.id, "stopped", "running")
        show(document.write({"type": "stats", "id": found.id, "data": statistics(container)}) + "\n")
        return 0
    for each in stream(container, every):
        if not show(document.write(each) + "\n"):  # nobody reads it any more
            break
    return 0


def features(found: Words, root: str) -> int:
    """`features` (runtime-spec, features.md)"""
    from dolium.plan.features import features as known

    show(document.write(known(), 2) + "\n")
    return 0


def spec(found: Words, root: str) -> int:
    """`spec`: a config.json to begin with, in the bundle's directory."""
    from dolium.runtime.template import template

    path = os.path.abspath(found.flags.get("bundle", ".")) + "/config.json"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise DoliumError(f"`{path}` exists; remove it first") from None
    with open(fd, "w") as file:
        file.write(document.write(template("rootless" in found.flags), 2) + "\n")
    return 0
