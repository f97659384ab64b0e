"""What `make run` shows: a program in a world of its own, its limits holding, and nothing left afterwards.

    python3 -IS demo/main.py ROOTFS        a directory, a tarball, @host or @venv

Every line is a claim, checked here: mostly from outside, in /proc and /sys/fs/cgroup, not in Dolium's own words.  The exit
code is 1 if one of them does not hold.  What this user may not do is said, and is no failure.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

sys.dont_write_bytecode = True  # run through sudo, this must leave no file of root's in the clone
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{TOP}/src")

import dolium  # noqa: E402
from dolium.engine import rootfs as roots  # noqa: E402
from dolium.runtime import host, lease, places  # noqa: E402

DOLIUM = f"{TOP}/bin/dolium"
FILE = "/made-inside"
LOOK = f"""
echo hostname=$(cat /proc/sys/kernel/hostname)
echo first=$(cat /proc/1/comm)
echo devices=$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | tr '\\n' ' ')
echo routes=$(tail -n +2 /proc/net/route | wc -l)
echo id=$(id -u)
echo hello >{FILE} && echo written=$(cat {FILE})
if command -v ps >/dev/null; then ps -o pid,user,comm; else
for each in /proc/[0-9]*; do read name <$each/comm && echo "${{each#/proc/}} $name"; done; fi
echo ---
read wait
"""


class Shown:
    """The claims so far."""

    def __init__(self) -> None:
        self.failed = 0
        self.skipped = 0

    def claim(self, name: str, holds: bool, text: str) -> None:
        self.failed += not holds
        print(f"  {'ok' if holds else 'FAILED':<7}{name:<12}{text}", flush=True)

    def skip(self, name: str, text: str) -> None:
        self.skipped += 1
        print(f"  {'-':<7}{name:<12}not shown: {text}", flush=True)

    def more(self, text: str) -> None:
        for line in text.splitlines():
            print(f"         | {line}", flush=True)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "(nothing)"


def start(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([DOLIUM, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def container(*words: str) -> "Iterator[subprocess.Popen[str]]":
    """A container for as long as the block lasts, however it ends: closing its standard input ends it, SIGKILL too."""
    process = start("run", "--rm", "--network", "none", *words)
    try:
        yield process
    finally:
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def first_process(process: "subprocess.Popen[str]") -> int:
    """The container's PID 1 by its number on the host: the grandchild of the command, or 0."""
    keep = read(f"/proc/{process.pid}/task/{process.pid}/children").split()
    child = read(f"/proc/{keep[0]}/task/{keep[0]}/children").split() if keep else []
    return int(child[0]) if child else 0


def show_world(shown: Shown, rootfs: str, top: str) -> bool:
    """Names, processes, users, network and files.  False if no container can be started at all."""
    with container("-i", "--hostname", "jar", rootfs, "sh", "-c", LOOK) as process:
        assert process.stdout and process.stderr
        lines = []
        for line in process.stdout:
            if line == "---\n":
                break
            lines.append(line.rstrip("\n"))
        else:
            print(process.stderr.read(), end="", flush=True)
            return False
        inside = dict(line.partition("=")[::2] for line in lines if "=" in line)
        listing = [line for line in lines if "=" not in line]
        pid = first_process(process)
        fields = (line.partition(":") for line in read(f"/proc/{pid}/status").splitlines())
        status = {name: value.split() for name, _, value in fields}
        here, there = os.uname().nodename, inside["hostname"]
        shown.claim("host name", there == "jar" != here, f"`{there}` inside, `{here}` outside")
        count, everyone = len([line for line in listing if "PID" not in line]), sum(each.isdigit() for each in os.listdir("/proc"))
        numbers = status.get("NSpid", [])
        shown.claim("processes", inside["first"] == "sh" and numbers[-1:] == ["1"] and len(numbers) > 1,
                    f"`{inside['first']}` is PID 1 inside, PID {pid} outside; it sees {count}, the host {everyone}:")  # fmt: skip
        shown.more("\n".join(listing))
        show_users(shown, inside["id"], status.get("Uid", ["?"])[0])
        shown.claim("network", inside["devices"].split() == ["lo"] and inside["routes"] == "0",
                    f"devices: {inside['devices']}; routes: {inside['routes']}")  # fmt: skip
        shown.claim("files", inside.get("written") == "hello" and not os.path.exists(top + FILE),
                    f"it wrote {FILE}; {rootfs if top else 'the host'} has no such file")  # fmt: skip
    return True


def show_users(shown: Shown, inside: str, outside: str) -> None:
    text = f"uid {inside} inside is uid {outside} outside"
    if outside == "0":  # the command has said why on stderr
        shown.skip("users", f"{text}: ids cannot be mapped here, `dolium run` says why")
    else:
        shown.claim("users", inside == "0", text)


def show_memory(shown: Shown, rootfs: str, limited: bool) -> None:
    ended = start("run", "--rm", "--network", "none", "-m", "32m", rootfs, "tail", "/dev/zero")
    _, words = ended.communicate()
    if not limited:  # refused, not ignored
        refuse(shown, "memory", "--memory", ended.returncode, words)
        return
    killed = [line for line in words.splitlines() if line.startswith("dolium: killed: memory limit of 32 MiB")]
    shown.claim("memory", ended.returncode == 137 and bool(killed), f"`-m 32m ... tail /dev/zero` ends with {ended.returncode}:")
    shown.more("\n".join(killed) or words)


def refuse(shown: Shown, name: str, flag: str, code: int, words: str) -> None:
    """A limit that this user cannot have is an error that says so, never one that is silently left out."""
    shown.claim(name, code == 125 and flag in first_line(words), f"no {flag} without root here, and that is an error:")
    shown.more(words)


def show_cpu(shown: Shown, rootfs: str, limited: bool) -> None:
    """What the container's group has used and how often it had to wait, while it runs; and that the time limit ends it."""
    if not limited:
        ended = start("run", "--rm", "--network", "none", "--cpus", "0.2", rootfs, "true")
        refuse(shown, "CPU", "--cpus", ended.wait(), ended.communicate()[1])
    throttled, used, wall = 0, 0.0, 0.0
    began = time.monotonic()
    limit = ["--cpus", "0.2"] if limited else []
    with container(*limit, "--timeout", "0.7", rootfs, "sh", "-c", "while :; do :; done") as process:
        pid = 0
        while process.poll() is None:
            pid = pid or first_process(process)
            if pid and "dolium" not in read(f"/proc/{pid}/comm"):
                throttled = max(throttled, throttle_count(pid))
                fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
                if len(fields) > 12:
                    used, wall = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic() - began
            time.sleep(0.02)
        assert process.stderr
        words = process.stderr.read()
    if limited:  # 20 ms in each 100 ms, and at most one period's worth more at either end
        holds = wall > 0 and used <= 0.2 * wall + 0.06 and throttled > 0
        shown.claim("CPU", holds, f"--cpus 0.2: a busy loop got {used:.2f} s in {wall:.2f} s, made to wait {throttled} times")
    shown.claim("time", process.returncode == 124, f"--timeout 0.7 ended a busy loop: {first_line(words)}")


def throttle_count(pid: int) -> int:
    """nr_throttled of the cgroup that limits this process's CPU time, v2 or v1."""
    paths = {}
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()
        if kind == "cgroup" and "cpu" in options.split(","):
            name = "cpu"
        elif kind == "cgroup2":
            name = ""
        else:
            continue
        for entry in read(f"{before.split()[4]}{paths.get(name, '/')}/cpu.stat").splitlines():
            if entry.startswith("nr_throttled") and int(entry.split()[1]):
                return int(entry.split()[1])
    return 0


def show_processes_limit(shown: Shown, rootfs: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; echo all"
    ended = start("run", "--rm", "--network", "none", "--pids-limit", "8", rootfs, "sh", "-c", script)
    out, words = ended.communicate()
    if ended.returncode == 125:  # before Linux 5.14, without root
        shown.skip("fork bomb", first_line(words))
        return
    shown.claim("fork bomb", "all" not in out and ended.returncode != 0, f"--pids-limit 8: {first_line(words)}")


def show_library(shown: Shown, rootfs: str, limited: bool) -> None:
    limit = {"memory": "64M"} if limited else {}
    result = dolium.run(["sh", "-c", "echo $((6 * 7))"], image=rootfs, text=True, timeout=10, **limit)  # type: ignore[arg-type]
    shown.claim("from Python", result.stdout == "42\n" and result.ended_by == "exit",
                "dolium.run([\"sh\", \"-c\", \"echo $((6 * 7))\"])")  # fmt: skip
    shown.more(repr(result))


def groups() -> set[str]:
    """Containers' cgroups in which nobody lives, and leases that nobody holds, of this user."""
    found = set()
    for parent in parents():
        if os.path.isdir(parent):
            for each in os.scandir(parent):
                if each.is_dir() and not read(f"{each.path}/cgroup.procs"):
                    found.add(each.path)
    return found


def parents() -> list[str]:
    return sorted({each.parent for each in host.facts().controllers.values()})


def lease_tops() -> list[str]:
    """Where leases may be, by user, before there are any (runtime/lease.py)."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return ["/run/dolium", f"/tmp/dolium-{os.geteuid()}", *([f"{runtime}/dolium"] if runtime else [])]


def leases() -> set[str]:
    from fcntl import LOCK_EX, LOCK_NB, flock

    found = set()
    for each in os.scandir(lease.directory()):
        try:
            fd = os.open(each.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            flock(fd, LOCK_EX | LOCK_NB)
            found.add(each.path)
        except BlockingIOError:
            pass  # of a container that lives, somebody else's
        finally:
            os.close(fd)
    return found


def show_nothing_left(shown: Shown, before: set[str]) -> None:
    deadline = time.monotonic() + 5
    while (left := (groups() | leases()) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    shown.claim("afterwards", not left, "no cgroup and no lease of these containers is left" if not left else "left:")
    shown.more("\n".join(sorted(left)))


def show_changes(were: set[str]) -> None:
    """What stays on the host, so that nobody has to find it by chance."""
    now = [*parents(), os.path.dirname(lease.directory()), places.data()]
    made = [each for each in now if os.path.isdir(each) and each not in were]
    print("Made on this host:" if made else "On this host, from before:")
    for each in made or now:
        print(f"  {each}")
    print("Directories named dolium are all that stays, and in them an unpacked tarball; `make clean` takes them away.")


def main() -> int:
    rootfs = sys.argv[1]
    who = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}, without root"
    name = os.uname()
    facts = host.facts()
    were = {each for each in (*parents(), *lease_tops(), places.data_path()) if os.path.isdir(each)}
    try:
        use = roots.provide(rootfs, print)
    except dolium.DoliumError as problem:
        print(f"error: {problem}")
        return 1
    top = roots.unpacked(use.digest) if use else rootfs if rootfs.startswith("/") else ""
    release = read(f"{top}/etc/alpine-release").strip() if top else ""
    what = rootfs + (f" (Alpine {release})" if release else "")
    print(f"Dolium {dolium.__version__} as {who}, Linux {name.release}, Python {'.'.join(map(str, sys.version_info[:3]))}")
    print(f"The containers' root file system is {what}.\n", flush=True)
    before = groups() | leases()
    shown = Shown()
    if not show_world(shown, rootfs, top):
        print("No container could be started, so nothing is shown.")
        return 1
    show_memory(shown, rootfs, "memory" in facts.controllers)
    show_cpu(shown, rootfs, "cpu" in facts.controllers)
    show_processes_limit(shown, rootfs)
    show_library(shown, rootfs, "memory" in facts.controllers)
    show_nothing_left(shown, before)
    print()
    show_changes(were)
    print(f"Next: bin/dolium explain {rootfs} sh    all the steps of a start, before it happens")
    if shown.failed:
        print(f"{shown.failed} of the claims above do not hold.")
    return 1 if shown.failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `make run | head` is no error
    sys.exit(main())
