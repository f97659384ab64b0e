"""The last steps: what the container runs, and who watches it."""

from dolium.core.wire import INSIDE, OUTSIDE, Step, strings
from dolium.plan import slots, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def directory(spec: "dict[str, Any]") -> "list[Step]":
    """chdir(2), while still root: the directory may be open to few."""
    cwd = spec["process"]["cwd"]
    if cwd == "/":
        return []
    return [Step("chdir", INSIDE, "process.cwd", fd=slots.ROOT, path=cwd, what=f"chdir {cwd}", note="checked to lie below /")]


def finish(spec: "dict[str, Any]") -> "list[Step]":
    """The file mode mask, and the death signal: after every change of ids, which would clear it."""
    steps = [umask(spec), die_with()]
    if spec["dolium"]["init"]:
        steps.append(Step("reap", INSIDE, "init", what="stay as PID 1, fork the rest",
                          note="reaps orphans, forwards signals"))  # fmt: skip
    return steps


def umask(spec: "dict[str, Any]") -> Step:
    """umask(2)"""
    mask = spec["process"]["user"].get("umask", 0o022)
    return Step("umask", INSIDE, "process.user.umask", n1=mask, what=f"umask {mask:03o}", note="not the caller's")


def die_with() -> Step:
    """prctl(PR_SET_PDEATHSIG)"""
    return Step("die_with", INSIDE, "process", what="PR_SET_PDEATHSIG", note="it cannot outlive dolium-keep")


def run(spec: "dict[str, Any]") -> "list[Step]":
    """execve(2) of the first of the candidates that is there, as a shell searches PATH; without a command, PID 1 only waits
    for those that join later."""
    process = spec["process"]
    argv, env = process["args"], process["env"]
    if not argv:
        return [Step("idle", INSIDE, "process.args", what="stay as PID 1", note="reaps orphans; programs join later")]
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        path = next((each[5:] for each in env if each.startswith("PATH=")), DEFAULT_PATH)
        candidates = [f"{part or '.'}/{name}" for part in path.split(":")]
    user = process["user"]
    data = strings(*candidates, *argv, why="process.args") + strings(*env, why="process.env")
    return [Step("exec", INSIDE, "process.args", data=data, n1=len(candidates), n2=len(argv), n3=len(env),
                 what=f"exec {name}", note=f"uid {user['uid']} in {process['cwd']}, {len(env)} variables")]  # fmt: skip


def keep(spec: "dict[str, Any]", facts: "Facts", directories: "list[str]") -> "list[Step]":
    """Outside: dolium-init becomes dolium-keep (init/keep.c), which waits, reports and kills.

    `dolium.watch` is what it is to do besides: nothing for a container that only its owner knows; else `name` for a record
    of its end, `life` in seconds, and, for one that outlives its owner, `detached`, the words of the `end` command, and
    whether it has a `log`.
    """
    watch = spec["dolium"]["watch"]
    words = [f"lease={{{slots.LEASE}}}"]
    if "limit" in spec["linux"]["resources"].get("memory", {}):
        words.append(f"mounts={{{slots.MOUNTS}}}")
        if facts.controllers["memory"].version == 1:
            words.append(f"oom={{{slots.OOM}}}")
    if watch:
        words.append("announce")
    if "name" in watch:
        words += [f"record={{{slots.RECORD}}}", f"name={watch['name']}"]
    if watch.get("life"):
        words.append(f"life={watch['life'] * 1000:.0f}")
    words += terminal.words(spec)
    if watch.get("detached"):
        pipes = [] if terminal.is_wanted(spec) else [f"out={{{slots.OUT}}}", f"err={{{slots.ERR}}}"]
        words += ["detached", *pipes, f"log={{{slots.LOG}}}"]
        words += [f"end={each}" for each in watch["end"]]
    words += [f"group={each}" for each in directories]
    note = "waits; stays when you leave" if watch.get("detached") else "waits; ends it when you die"
    return [Step("keep", OUTSIDE, "process", fd=slots.KEEP, data=strings(*words), what="become dolium-keep", note=note)]
