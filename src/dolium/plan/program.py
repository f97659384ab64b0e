"""The last steps: what the container runs, and who watches it."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, strings
from dolium.plan import slots, terminal
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

EPERM, EACCES = 1, 13
ROOM = 256
"""Bytes in the plan for `HOME=...`."""
LARGEST = 1 << 16
"""Bytes of an /etc/passwd that is looked into."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def directory(spec: "dict[str, Any]") -> "list[Step]":
    """chdir(2), while still root: the directory may be open to few.  What refuses root is tried again (`directory_again`)."""
    cwd = spec["process"]["cwd"]
    if cwd == "/" or is_held(spec):
        return []
    return [Step("chdir", INSIDE, "process.cwd", fd=slots.ROOT, path=cwd, accept=(EACCES, EPERM) if directory_again(spec) else (),
                 what=f"chdir {cwd}", note="checked to lie below /")]  # fmt: skip


def directory_again(spec: "dict[str, Any]") -> "list[Step]":
    """chdir(2) as the user it will be, where root was refused: on a file system that trusts only its owner, and where root of a
    user namespace has no power over the directory, since one of its ids is not mapped.  As runc and crun have it."""
    cwd, who = spec["process"]["cwd"], spec["process"]["user"]
    if cwd == "/" or is_held(spec) or not (who["uid"] or who["gid"] or who.get("additionalGids")):
        return []
    return [Step("chdir", INSIDE, "process.cwd", fd=slots.ROOT, path=cwd, n1=1, what=f"chdir {cwd}",
                 note="as the user, where root may not")]  # fmt: skip


def finish(spec: "dict[str, Any]") -> "list[Step]":
    """The file mode mask, and the death signal: after every change of ids, which would clear it."""
    steps = [umask(spec)]
    if not is_bundle(spec) or spec["dolium"]["keep"]:
        steps.append(die_with())
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
    name, candidates = argv[0], _candidates(process)
    user, home = process["user"], b""
    if wants_home(spec):
        env, home = [each for each in env if each != "HOME="], b"HOME=/".ljust(ROOM, b"\0")
    data = strings(*candidates, *argv, why="process.args") + strings(*env, why="process.env") + home
    return [Step("exec", INSIDE, "process.args", data=data, n1=len(candidates), n2=len(argv), n3=len(env) + bool(home),
                 what=f"exec {name}", note=f"uid {user['uid']} in {process['cwd']}, {len(env)} variables")]  # fmt: skip


def wants_home(spec: "dict[str, Any]") -> bool:
    """Whether HOME is to be found out: an engine's config has none, and it is no hook, which gets what the config gives it."""
    named = any(each.startswith("HOME=") and each != "HOME=" for each in spec["process"]["env"])
    return is_bundle(spec) and not named and not spec["dolium"].get("hook")


def home(spec: "dict[str, Any]") -> "list[Step]":
    """Inside reads the container's passwd, which may be a mount; Python looks the user up and completes the last step."""
    if not wants_home(spec):
        return []
    why = "process.env"
    return [
        Step("read_file", INSIDE, why, fd=slots.ROOT, path="/etc/passwd", data=bytes(LARGEST), accept=(2, 20, 27),
             what="read /etc/passwd", note="where the user is at home"),
        Step("sync", BOTH, why, n1=1, what="meet: it is read", note="outside waits for inside"),
        Step("ask", OUTSIDE, why, what="meet Python", note="which looks the user up"),
        Step("home", HOST, why, n1=spec["process"]["user"]["uid"], what="HOME, of that user", note="/ for one who has none"),
        Step("sync", BOTH, why, what="meet: HOME is known", note="inside waits for outside"),
    ]  # fmt: skip


def _candidates(process: "dict[str, Any]") -> "list[str]":
    name = process["args"][0]
    if "/" in name or not name:  # the directory itself is no program of that name
        return [name]
    path = next((each[5:] for each in process["env"] if each.startswith("PATH=")), DEFAULT_PATH)
    return [f"{part or '.'}/{name}" for part in path.split(":")]


def await_start(spec: "dict[str, Any]") -> "list[Step]":
    """Inside, as the user it will be: `create` says whether there is a program, as runc and crun have it; then it waits for
    `start`, and hooks of that run before it goes on."""
    if not is_bundle(spec):
        return []
    name = spec["process"]["args"][0]
    found = strings(*_candidates(spec["process"]), why="process.args")
    return [
        Step("probe", INSIDE, "process.args", data=found, what=f"exec {name}", note="there is something to run"),
        Step("sync", BOTH, "process", n1=1, what="meet: created", note="outside waits for inside"),
        Step("wait_start", INSIDE, "process", fd=slots.START, n1=spec["dolium"]["preserve"], what="wait for `start`",
             note="with nothing left to give up"),
        *hooks(spec, "startContainer", "in the container"),
    ]  # fmt: skip


def is_held(spec: "dict[str, Any]") -> bool:
    """Whether it is made in advance, and told later what it runs."""
    return bool(spec["dolium"].get("held"))


def await_command(spec: "dict[str, Any]") -> "list[Step]":
    """Of a container that is made in advance: outside is done with it, inside waits.  Its owner writes the steps that follow
    when they are known (core.wire.late)."""
    if not is_held(spec):
        return []
    cwd = spec["process"]["cwd"]
    return [
        Step("sync", BOTH, "process", n1=1, what="meet: it is ready", note="outside waits for inside"),
        Step("wait_command", INSIDE, "process", fd=slots.START, what="wait for a command", note="with nothing left to give up"),
        Step("chdir", INSIDE, "process.cwd", path=cwd, what=f"chdir {cwd}", note="checked to lie below /"),
    ]


def hooks(spec: "dict[str, Any]", name: str, note: str) -> "list[Step]":
    """The hooks of one kind, in their order."""
    return [
        Step(
            "hook", HOST, f"hooks.{name}[{index}]", path=each["path"], path2=name, n1=index, what=f"hook {each['path']}", note=note
        )
        for index, each in enumerate(spec.get("hooks", {}).get(name, ()))
    ]


def created(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """All namespaces are there: Python writes the pid down, so that a container whose maker dies is found, and runs the hooks."""
    if not is_bundle(spec):
        return []
    from dolium.plan import resources

    devices: list[Step] = []
    if spec["linux"].get("netDevices"):
        from dolium.plan import netdevices

        devices = netdevices.move(spec, facts)

    return [
        Step("sync", BOTH, "hooks", n1=1, what="meet: its namespaces are made", note="outside waits for inside"),
        Step("ask", OUTSIDE, "hooks", what="meet Python", note="which goes on with what follows"),
        Step("record", HOST, "process", what="write down its pid", note="found, should its maker die"),
        *resources.late(spec, facts),
        *devices,
        *hooks(spec, "prestart", "on the host"), *hooks(spec, "createRuntime", "on the host"),
    ]  # fmt: skip


def before_pivot(spec: "dict[str, Any]") -> "list[Step]":
    """The mounts are there, and the host's files still too: hooks in the container's namespaces, with the host's programs."""
    run = hooks(spec, "createContainer", "in its namespaces")
    if not run:
        return []
    return [
        Step("sync", BOTH, "hooks.createContainer", n1=1, what="meet: its mounts are made", note="outside waits for inside"),
        Step("ask", OUTSIDE, "hooks.createContainer", what="meet Python", note="which runs the hooks"),
        *run,
        Step("sync", BOTH, "hooks.createContainer", what="meet: the hooks are done", note="inside waits for outside"),
    ]


def leave() -> Step:
    """Outside waits until the program runs, and ends: the container's first process is its caller's to wait for."""
    return Step("leave", OUTSIDE, "process", what="leave it alone", note="as soon as the program runs")


def keep(spec: "dict[str, Any]", facts: "Facts", directories: "list[str]") -> "list[Step]":
    """Outside: dolium-init becomes dolium-keep (init/keep.c), which waits, reports and kills.

    `dolium.watch` is what it is to do besides: nothing for a container that only its owner knows; else `name` for a record
    of its end, `life` in seconds, and, for one that outlives its owner, `detached`, the words of the `end` command, and
    whether it has a `log`.
    """
    if is_bundle(spec):
        if not spec["dolium"]["keep"]:
            return [Step("leave", OUTSIDE, "process", n1=1, what="leave it alone", note="it waits for `start`")]
        return [Step("ask", OUTSIDE, "process", what="meet Python", note="which starts it"),
                Step("keep", OUTSIDE, "process", fd=slots.KEEP, data=strings("announce"), what="become dolium-keep",
                     note="waits; ends it when you die")]  # fmt: skip
    watch = spec["dolium"]["watch"]
    words = [f"lease={{{slots.LEASE}}}"]
    if "limit" in spec["linux"]["resources"].get("memory", {}):
        words.append(f"mounts={{{slots.MOUNTS}}}")
        if facts.controllers["memory"].version == 1:
            words.append(f"oom={{{slots.OOM}}}")
    if spec["dolium"]["root"]["kind"] != "tmpfs" and (not spec["process"]["args"] or is_held(spec)):
        words.append(f"store={{{slots.STORE}}}")  # of who may want a snapshot of it
    if watch or is_held(spec):
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
    return [Step("keep", OUTSIDE, "process", fd=slots.KEEP, n1=int(is_held(spec)), data=strings(*words), what="become dolium-keep",
                 note=note)]  # fmt: skip
