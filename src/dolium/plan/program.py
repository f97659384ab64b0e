"""The last steps: what the container runs, and who watches it."""

from dolium.core.wire import INSIDE, OUTSIDE, Step, strings
from dolium.plan import slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def directory(spec: "dict[str, Any]") -> "list[Step]":
    """chdir(2), while still root: the directory may be open to few."""
    cwd = spec["process"]["cwd"]
    if cwd == "/":
        return []
    return [Step("chdir", INSIDE, "process.cwd", fd=slots.ROOT, path=cwd, what=f"chdir {cwd}", note="checked to lie below /")]


def finish(spec: "dict[str, Any]") -> "list[Step]":
    """The file mode mask, and the death signal: after every change of ids, which would clear it."""
    umask = spec["process"]["user"].get("umask", 0o022)
    steps = [
        Step("umask", INSIDE, "process.user.umask", n1=umask, what=f"umask {umask:03o}", note="not the caller's"),
        Step("die_with", INSIDE, "process", what="PR_SET_PDEATHSIG", note="it cannot outlive dolium-keep"),
    ]
    if spec["dolium"]["init"]:
        steps.append(Step("reap", INSIDE, "init", what="stay as PID 1, fork the rest",
                          note="reaps orphans, forwards signals"))  # fmt: skip
    return steps


def run(spec: "dict[str, Any]") -> "list[Step]":
    """execve(2) of the first of the candidates that is there, as a shell searches PATH."""
    process = spec["process"]
    argv, env = process["args"], process["env"]
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


def keep(spec: "dict[str, Any]", directories: "list[str]") -> "list[Step]":
    """Outside: dolium-init becomes dolium-keep, which waits, reports and kills."""
    counts = "limit" in spec["linux"]["resources"].get("memory", {})
    return [Step("keep", OUTSIDE, "process", fd=slots.KEEP, fd2=slots.OOM, out=slots.MOUNTS if counts else -1,
                 n1=slots.LEASE, data=strings(*directories), what="become dolium-keep",
                 note="waits; ends it when you die")]  # fmt: skip
