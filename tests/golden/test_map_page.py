"""docs/reference/map.md: which flag of `dolium run` becomes which key of config.json, which steps, and which files of the kernel
show it.  Each row is found by planning the same container with the flag and without it; `make golden` writes the page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import invent
from containers import TOP

from dolium.cli import docker, flags, request
from dolium.core.wire import Step
from dolium.engine.users import User
from dolium.plan import build, explain, lessons

PAGE = Path(TOP, "docs/reference/map.md")
VALUES = {
    "memory": "64m", "memory-swap": "128m", "cpus": "0.5", "cpu-weight": "50", "cpu-shares": "512", "cpuset-cpus": "0-1",
    "pids-limit": "100", "ulimit": "nofile=1024", "oom-score-adj": "500", "timeout": "5", "hostname": "web", "network": "bridge host allow=pypi.org:443",
    "add-host": "db:192.0.2.5", "dns": "192.0.2.53", "dns-search": "example.org", "dns-option": "ndots:2",
    "sysctl": "net.core.somaxconn=512", "env": "NAME=value", "env-file": "/dev/null", "user": "1000", "userns": "host",
    "cap-add": "NET_ADMIN", "cap-drop": "NET_RAW", "security-opt": "no-new-privileges=false seccomp=unconfined mask=/proc/uptime unmask=ALL",
    "workdir": "/srv", "entrypoint": "env", "pull": "always", "platform": "linux/arm64",
    "volume": "/srv:/data", "tmpfs": "/scratch:size=64m", "device": "/dev/full:/dev/other /dev/zero:/dev/mine:r", "name": "web", "stop-signal": "INT",
    "stop-timeout": "3", "label": "a=b",
}  # fmt: skip
"""What each flag that wants a value is given; of several a row for each."""
ALONG = {"memory-swap": ("--memory", "64m"), "add-host": ("--network", "bridge"), "dns": ("--network", "bridge"),
         "dns-search": ("--network", "bridge"), "dns-option": ("--network", "bridge")}  # fmt: skip
"""What a flag has no effect without; it is given on both sides."""
OTHERWISE = {
    "timeout": "dolium-keep counts the time, and kills the container's groups", "interactive": "0 of the program is yours, else /dev/null",
    "detach": "dolium-keep becomes a session of its own, and writes the log", "name": "kept beside the container",
    "rm": "the container is removed when it has ended", "stop-signal": "kept for `dolium stop`", "stop-timeout": "kept for `dolium stop`",
    "label": "kept beside the container", "debug": "of an error", "help": "nothing is run", "env-file": "as `--env`, for each of its lines",
    "pull": "the image is fetched, or not, before there is a plan", "platform": "which image of several that is",
}  # fmt: skip
"""What changes no step: who does it."""


def planned(words: list[str]) -> tuple[dict[str, Any], list[Step]]:
    read = flags.parse([*words, "/srv/alpine", "sh"])
    options = request.options(read)
    if read.user:
        options.user = User(1000, 0, (), "/")
    host = invent.facts(throttles=()) if options.userns == "host" else invent.facts(id_base=invent.RANGE)
    spec = invent.spec(host, options)
    bound = dict(spec["dolium"]["bound"])  # invent has put in what no host's own file changes
    bound["/etc/resolv.conf"] = bound.get("/etc/resolv.conf", "") + " ".join([*options.dns, *options.dns_search, *options.dns_options])
    spec["dolium"]["bound"] = [*bound.items()]
    return spec, build.plan(spec, host)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a config, down to what is no object."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, inner in enumerate(value):
            yield f"{path}[{index}]", inner
    else:
        yield path, value


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old, new = dict(leaves(before)), dict(leaves(after))
    keys = [*(key for key in new if key not in old or old[key] != new[key]), *(key for key in old if key not in new)]
    found: dict[str, None] = {}
    for key in keys:
        if not key.startswith(("dolium.asked", "dolium.root.size")):
            key = key.partition("[")[0] + ("[]" if "[" in key else "")
            found[key.replace("dolium.network.", "dolium.network ").split(" ")[0]] = None
    return list(found)


def signs(step: Step) -> tuple[Any, ...]:
    return (step.op, step.actor, step.path, step.path2, step.n1, step.n2, step.n3, step.data, step.what)


def row(flag: flags.Flag, value: str) -> tuple[str, list[str], list[str], list[str], list[str]]:
    """(the flag, config keys, steps that come with it, steps that go, files)"""
    words = [f"--{flag.name}", *([value] if value else [])]
    along = list(ALONG.get(flag.name, ()))
    before, usual = planned(along)
    after, steps = planned([*along, *words])
    come, see = whole(steps, usual)
    gone, shown = whole(usual, steps)
    kinds = {(step.op, step.chapter, step.why) for step in steps}
    lost = [what for what, step in gone.items() if (step.op, step.chapter, step.why) not in kinds]
    return " ".join(words), changed(before, after), list(come), lost, see if come else shown


def whole(steps: list[Step], others: list[Step]) -> tuple[dict[str, Step], list[str]]:
    """The numbered steps of which something is not among the others, by their words; and the files that show them."""
    known = {signs(step) for step in others}
    numbered = explain.numbered(steps)
    mine = {number for number, step in numbered if signs(step) not in known}
    found = {step.what.replace(invent.NAME, "ID"): step for number, step in numbered if number in mine and not step.is_part}
    return found, [*dict.fromkeys(each.rstrip(",") for step in found.values() for each in lessons.of(step).see)]


def rows(flag: flags.Flag) -> list[tuple[str, list[str], list[str], list[str], list[str]]]:
    assert not flag.value or flag.name in VALUES, f"--{flag.name} wants a value in VALUES"
    return [row(flag, value) for value in (VALUES[flag.name].split(" ") if flag.value else [""])]


def document() -> str:
    lines = [HEAD]
    for title, group in flags.GROUPS:
        table: list[str] = []
        for flag in group:
            for typed, keys, come, lost, see in rows(flag):
                without = f"without {code(few(lost))}" if lost else ""
                steps = ", ".join(each for each in (code(few(come)), without) if each) or f"none: {OTHERWISE[flag.name]}"
                table.append(f"| `{typed}` | {code(keys)} | {steps} | {code(see[:4])} |")
        lines += [f"## {title}\n", "| flag | config.json | steps | shown in |", "|---|---|---|---|", *table, ""]
    lines += [ABSENT, *(f"| `--{name}` | {instead} |" for name, instead in sorted(docker.FLAGS.items()))]
    return "\n".join(lines) + "\n"


def few(steps: list[str]) -> list[str]:
    return steps if len(steps) <= 7 else [*steps[:6], f"and {len(steps) - 6} more"]


def code(words: list[str]) -> str:
    return ", ".join(each if each.startswith("and ") else f"`{each.replace('|', chr(92) + '|')}`" for each in words)


HEAD = """\
# Map: flag, config.json, step, kernel

What a flag of `dolium run` becomes. The flags are Docker's where Docker has them; the keys are those of the OCI runtime specification, and
below `dolium` our own; the steps are lines of `dolium explain` on a host with cgroup v2 (root, network none, a directory as rootfs), those that
are there with the flag and not without it; the files show its effect, `PID` being the container's first process. `dolium explain
--diff FLAGS...` prints such a row for any flags, `dolium explain --step WORD` all about a step.

`make golden` makes this page from the table of flags, the planner and the lessons.
"""
ABSENT = """## Docker's flags that are not there

| flag | instead |
|---|---|"""


def test_the_map() -> None:
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        PAGE.write_text(document())
    assert PAGE.read_text() == document(), "make golden"


def test_every_flag_that_changes_no_step_says_who_does_it() -> None:
    idle = {flag.name for _, group in flags.GROUPS for flag in group for each in rows(flag) if not each[2] and not each[3]}
    assert idle == {*OTHERWISE}
