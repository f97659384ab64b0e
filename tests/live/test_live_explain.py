"""`dolium explain --run` and `--until N`: the steps of the plan are really carried out, up to any of them, and undone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import leaks
import pytest
from bundles import config
from containers import DOLIUM, SLOW, Dolium, Ended, wait_for

from dolium.plan import until

LINE = re.compile(r" *(\d+) [*.] ([HOI=])  (.{34}) ")
TIMED = re.compile(r" *(\d+) [*.] ([HOI=])  .* (\(?[\d.]+\)?|-)$")
LOOK = """\
echo "host $(hostname)"; for each in pid net mnt user; do echo "$each $(readlink /proc/self/ns/$each)"; done
echo "uid $(id -u)"; echo "number $$"; [ -d HERE ] && echo "files host"
while read name value _; do case $name in NoNewPrivs:|Seccomp:) echo "${name%:} $value";; esac; done < /proc/self/status
exit 7
"""
WORDS = ("--rm", "--network", "none", "--hostname", "box")


def steps(dolium: Dolium, *words: str) -> dict[int, str]:
    """Number -> what, of the plan."""
    ended = dolium("explain", *words)
    assert ended.code == 0, ended
    return {int(found[1]): found[3].strip() for line in ended.stdout.splitlines() if (found := LINE.match(line))}


def last(plan: dict[int, str]) -> int:
    return next(number for number, what in plan.items() if what.startswith("exec ")) - 1


def number(plan: dict[int, str], beginning: str) -> int:
    return next(number for number, what in plan.items() if what.startswith(beginning))


def looked(ended: Ended) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in ended.stdout.splitlines())


def test_run_shows_how_long_each_step_took(dolium: Dolium) -> None:
    plan = steps(dolium, *WORDS, "@host", "sh", "-c", "echo out; echo err >&2; exit 3")
    ended = dolium("explain", "--run", *WORDS, "@host", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (ended.code, ended.stdout) == (3, "out\n")
    before, _, table = ended.stderr.partition("\nPlan for `sh` in @host: ")
    assert before == "err\n" and table.startswith(f"{len(plan)} steps, done.\n")
    times = {int(found[1]): found[3] for line in table.splitlines() if (found := TIMED.match(line))}
    assert [*times] == [*plan]
    unmeasured = [each for each, shown in times.items() if shown == "-"]
    assert unmeasured == [len(plan) - 1, len(plan)]
    assert all(shown[0] == "(" for each, shown in times.items() if plan[each].startswith("meet:"))
    measured = [float(shown.strip("()")) for shown in times.values() if shown != "-"]
    assert sum(each > 0 for each in measured) > len(measured) - 5
    assert re.search(r"^total    [\d.]+ ms: host [\d.]+, outside [\d.]+, inside [\d.]+,", table, re.M)
    assert len(re.findall(r": [\d.]+ ms, \d+ % of it$", table, re.M)) == 3
    assert max(map(len, table.splitlines())) <= 80


def test_the_times_are_those_of_the_steps(root: Dolium, folder: str) -> None:
    """A hundred devices take longer than none: the figure of that step says so."""
    def of_binds(*words: str) -> float:
        ended = root("explain", "--run", "--verbose", *WORDS, *words, "@host", "true")
        lines = [line for line in ended.stderr.splitlines() if "open_tree /" in line and not line.endswith("% of it")]
        assert ended.code == 0 and lines, ended
        return sum(float(line.split()[-1]) for line in lines)

    many = [word for index in range(100) for word in ("-v", f"{folder}:/data{index}")]
    assert of_binds(*many) > 2 * of_binds()


def test_a_shell_after_every_step(root: Dolium, folder: str) -> None:
    plan = steps(root, *WORDS, "@host", "sh")
    found: dict[int, dict[str, str]] = {}
    for each in range(1, last(plan) + 1):
        ended = root("explain", "--until", str(each), "--shell", *WORDS, "@host", "sh", input=LOOK.replace("HERE", folder).encode())
        assert ended.code == 7, (each, plan[each], ended)
        assert f"{each} of {len(plan)} steps, then a shell; next would be: {each + 1} {plan[each + 1].split()[0]}" in ended.stderr
        assert "This is not a container yet" in ended.stderr
        found[each] = looked(ended)
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "net", "mnt", "user")}
    born, own = number(plan, "clone3"), number(plan, "unshare cgroup")
    for each, seen in found.items():
        assert (seen["mnt"] != ours["mnt"]) == (each >= number(plan, "unshare mnt")), plan[each]
        assert (seen["pid"] != ours["pid"]) == (each >= born), plan[each]
        assert (seen["net"] != ours["net"]) == (each >= own), plan[each]
        assert (seen["host"] == "box") == (each >= number(plan, "sethostname")), plan[each]
        assert (seen["uid"] == "65534") == (born <= each < number(plan, "setresuid 0")), plan[each]
        assert ("files" not in seen) == (each >= number(plan, "pivot_root")), plan[each]
        assert (seen["NoNewPrivs"] == "1") == (each >= number(plan, "no_new_privs")), plan[each]


def test_the_shell_is_the_containers_after_the_pivot(root: Dolium, alpine: str) -> None:
    """Kept containers, too, though nothing of this one is: before it dash, or whatever the host has, after it busybox."""
    before = root("ps", "-aq").stdout
    words = ("--network", "none", alpine, "sh")
    plan = steps(root, *words)
    pivot = number(plan, "pivot_root")
    for each, own in ((pivot - 1, False), (pivot, True), (last(plan), True)):
        ended = root("explain", "--until", str(each), "--shell", *words, input=b"test -e /etc/alpine-release && echo alpine\n")
        assert ("alpine" in ended.stdout) == own, (each, ended)
    assert root("ps", "-aq").stdout == before


def test_a_plain_user_stops_anywhere_too(plain: Dolium) -> None:
    plan = steps(plain, *WORDS, "@host", "sh")
    for each in sorted({*range(1, last(plan), 4), number(plan, "pivot_root"), last(plan)}):
        ended = plain("explain", "--until", str(each), "--shell", *WORDS, "@host", "sh", input=LOOK.encode())
        assert ended.code == 7, (each, plan[each], ended)
        assert (looked(ended)["host"] == "box") == (each >= number(plan, "sethostname"))


@pytest.mark.parametrize("extra", [(), ("--init",), ("--security-opt", "no-new-privileges=false"), ("--memory", "64m")])
def test_steps_alone_are_done_and_undone(root: Dolium, extra: tuple[str, ...]) -> None:
    words = (*WORDS, *extra, "@host", "sh")
    plan = steps(root, *words)
    for each in sorted({1, 3, *range(4, last(plan), 5), last(plan)}):
        ended = root("explain", "--until", str(each), *words)
        assert (ended.code, ended.stderr) == (0, ""), ended
        assert ended.stdout.startswith(f"{each} of {len(plan)} steps for @host, done, and undone again. Next would be: ")
        assert [int(found[1]) for line in ended.stdout.splitlines() if (found := TIMED.match(line))] == [*range(1, each + 1)]


def test_a_step_that_fails_is_named(root: Dolium) -> None:
    words = (*WORDS, "--sysctl", "kernel.shmmax=x", "@host", "sh")
    plan = steps(root, *words)
    sysctl = number(plan, "kernel.shmmax")
    for shell in ((), ("--shell",)):
        fine = root("explain", "--until", str(sysctl - 1), *shell, *words, input=b"")
        assert fine.code == 0, fine
        ended = root("explain", "--until", str(sysctl), *shell, *words, input=b"echo no\n")
        assert ended.code == 125 and "error: cannot set kernel.shmmax = x: write(2)" in ended.stderr, ended
        assert f"at step {sysctl} of " in ended.stderr and "no\n" not in ended.stdout


def test_numbers_that_are_no_place_to_stop(dolium: Dolium) -> None:
    plan = steps(dolium, *WORDS, "@host", "sh")
    end = last(plan)
    for each, says in ((end + 1, f"--until {end + 1}: step {end + 1} is the program itself"), (len(plan), "is the program itself"),
                       (len(plan) + 1, f"the plan has {len(plan)} steps"), (999, f"--until 999: the plan has {len(plan)} steps"),
                       (0, "--until: expected a whole number"), ("abc", "--until: expected a whole number")):  # fmt: skip
        ended = dolium("explain", "--until", str(each), *WORDS, "@host", "sh")
        assert ended.code == 125 and says in ended.stderr and ended.stdout == "", ended
    ended = dolium("explain", "--step", "999", *WORDS, "@host", "sh")
    assert ended.code == 125 and ended.stderr.startswith(f"error: --step 999: the plan has {len(plan)} steps")
    assert until.SHELLS[0] == "/bin/sh"


def test_a_step_by_what_it_is_called(dolium: Dolium) -> None:
    """One is told of, several are listed as in the plan, and of a slip the nearest is named."""
    number = next(number for number, what in steps(dolium, *WORDS, "@host", "sh").items() if what == "pivot_root")
    one = dolium("explain", "--step", "pivot_root", *WORDS, "@host", "sh")
    assert one.code == 0 and one.stdout == dolium("explain", "--step", str(number), *WORDS, "@host", "sh").stdout
    several = dolium("explain", "--step", "/dev", *WORDS, "@host", "sh").stdout.splitlines()
    assert several[0].endswith(" steps for `/dev`; --step N tells all about one:")
    plan = steps(dolium, *WORDS, "@host", "sh")
    told = {int(found[1]): found[3].strip() for line in several[1:] if (found := LINE.match(line))}
    assert 1 < len(told) == len(several) - 1 < len(plan) and told.items() <= plan.items()
    for word, hint in (("pivto_root", "did you mean `pivot_root`?"), ("xyzzy", "numbers them")):
        ended = dolium("explain", "--step", word, *WORDS, "@host", "sh")
        assert ended.code == 125 and f"--step `{word}`: no step" in ended.stderr and hint in ended.stderr, ended


def test_kill_9_leaves_nothing(root: Dolium) -> None:
    """The shell dies with dolium, what was made for it with the next command."""
    words = ("--network", "none", "--memory", "64m", "@host", "sh")
    stop = last(steps(root, *words))
    others = {*leaks.family()}
    for each in (6, stop):
        with root.start("explain", "--until", str(each), "--shell", *words, stdin=subprocess.PIPE) as process:
            assert process.stdin and process.stdout
            process.stdin.write(b"echo here; exec sleep 60\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"here\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
        wait_for(lambda: leaks.reap() or {*leaks.family()} <= others)  # they hold its lease, and die of themselves
        assert root("run", "@host", "true").code == 0


def test_signals_reach_the_shell(root: Dolium) -> None:
    with root.start("explain", "--until", "12", "--shell", *WORDS, "@host", "sh", stdin=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"trap 'echo got it; exit 9' USR1; echo here; while :; do sleep 0.05; done\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"got it\n"
        assert process.wait() == 9


def test_it_prompts_on_a_terminal(root: Dolium) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(DOLIUM, [DOLIUM, "explain", "--until", "20", "--shell", *WORDS, "@host", "sh"], {**root.environment, "TERM": "vt100"})
    seen, deadline = b"", time.monotonic() + 20 * SLOW
    try:
        while b"after step 20 #" not in seen:
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], seen
            seen += os.read(terminal, 4096)
        assert b"This is not a container yet" in seen
        os.write(terminal, b"echo $TERM; exit 4\n")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
        assert b"vt100" in os.read(terminal, 4096)
    finally:
        os.close(terminal)


def test_a_plan_is_kept_and_compared(dolium: Dolium, folder: str) -> None:
    words = ("--network", "none", "--rm", "@host", "sh")
    ended = dolium("explain", "--save", f"{folder}/a.plan", *words)
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    assert os.listdir(folder) == ["a.plan"]
    same = dolium("explain", "--diff", f"{folder}/a.plan", *words)
    assert (same.code, same.stderr) == (0, ""), same
    assert re.fullmatch(r"No step of \d+ differs from `.*` in what it means\.", " ".join(same.stdout.split()))
    other = dolium("explain", "--diff", f"{folder}/a.plan", "--read-only", *words)
    assert other.code == 0 and other.stdout.endswith(" steps differs; it tightens the container.\n"), other
    weaker = dolium("explain", "--diff", f"{folder}/a.plan", "--cap-add", "SYS_ADMIN", *words)
    assert "weaker   adds SYS_ADMIN: mount, setns, most of root" in weaker.stdout and "they weaken the container." in weaker.stdout


def test_against_the_defaults(dolium: Dolium) -> None:
    ended = dolium("explain", "--diff", "@host", "sh")
    assert (ended.code, ended.stderr) == (0, "") and " differs from the defaults in what it means" in ended.stdout
    ended = dolium("explain", "--diff", "--security-opt", "no-new-privileges=false", "@host", "sh")
    assert "Against the defaults:" in ended.stdout and "setuid programs give rights again" in ended.stdout


def test_files_that_cannot_be_compared(dolium: Dolium, folder: str) -> None:
    with open(f"{folder}/text", "w") as file:
        file.write("hello\n")
    with open(f"{folder}/old.plan", "w") as file:
        file.write('{"kind": "dolium plan", "format": 99}\n')
    for name, says in (("text", "` is no saved plan"), ("old.plan", "` is a plan in format 99, and this dolium reads format 1"),
                       ("none.plan", "`: No such file or directory"), ("dir.plan", "`: Is a directory")):  # fmt: skip
        os.makedirs(f"{folder}/dir.plan", exist_ok=True)
        ended = dolium("explain", "--diff", f"{folder}/{name}", "@host", "sh")
        assert ended.code == 125 and f"{name}{says}" in ended.stderr.splitlines()[0] and "hint: " in ended.stderr, ended
    ended = dolium("explain", "--save", f"{folder}/none/a.plan", "@host", "sh")
    assert ended.code == 125 and f"--save: cannot write `{folder}/none/a.plan`: No such file" in ended.stderr


def test_a_container_that_is_there(root: Dolium) -> None:
    root.forgets = False
    words = ("--network", "none", "--name", "explained", "--memory", "64m", "--read-only", "--hostname", "box", "@host", "sleep", "60")
    assert root("run", "-d", *words).code == 0
    try:
        ended = root("explain", "--id", "explained")
        assert (ended.code, ended.stderr) == (0, "")
        assert ended.stdout.startswith("Plan for `sleep` in @host: ") and "explained is running." in ended.stdout.splitlines()[0]
        pid = root("inspect", "--format", "{{.State.Pid}}", "explained").stdout.strip()
        with open(f"/proc/{pid}/uid_map") as file:
            assert f" uid_map 0 -> {file.read().split()[1]} " in ended.stdout
        assert re.search(r"\* I  make the rootfs read-only", ended.stdout) and "* H  memory." in ended.stdout
        step = number({int(found[1]): found[3].strip() for line in ended.stdout.splitlines() if (found := LINE.match(line))}, "pivot_root")
        assert root("explain", "--id", "explained", "--step", str(step)).stdout.startswith(f"{step}  pivot_root")
        assert "root can be written" not in root("explain", "--id", "explained", "--diff").stdout
        tighter = root("explain", "--id", "explained", "--diff").stdout
        assert "nothing can be written in its root" in tighter and "memory is bounded" in tighter
        assert root("kill", "explained").code == 0 and root("wait", "explained").code == 0
        assert "explained is exited." in root("explain", "--id", "explained").stdout.splitlines()[0]
    finally:
        root("rm", "-f", "explained")
    missing = root("explain", "--id", "explained")
    assert missing.code == 125 and "no container `explained`" in missing.stderr


def test_a_container_of_an_engine(root: Dolium, folder: str, alpine: str) -> None:
    """By its id, or the beginning of it: what the engine asked for, with what it has changed since."""
    oci, identity = f"{os.path.dirname(DOLIUM)}/dolium-oci", f"0123456789ab{os.urandom(26).hex()}"
    spec = config(process__args=["sleep", "1000"], root={"path": alpine, "readonly": True}, linux__resources={"memory": {"limit": 64 << 20}})
    with open(f"{folder}/config.json", "w") as file:
        json.dump(spec, file)
    subprocess.run([oci, "run", "--detach", "--bundle", folder, identity], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        ended = root("explain", "--id", identity[:12])
        assert ended.code == 0 and re.match(r"Plan for `sleep` in 0123456789ab: \d+ steps, it is running\.\n", ended.stdout), ended
        assert "67108864" in ended.stdout
        subprocess.run([oci, "update", "--memory", "80m", identity], check=True)
        assert "83886080" in root("explain", "--id", identity).stdout
        assert root("explain", "--id", identity, "--diff").stderr.startswith("error: `--id` with `--diff`: an engine's container has no defaults")
        assert "started in two parts" in root("explain", "--id", identity, "--sh").stderr
    finally:
        subprocess.run([oci, "delete", "--force", identity], check=True)
    assert root("explain", "--id", identity).stderr.startswith("error: no container")


def test_a_bundle_of_an_engine(root: Dolium, folder: str) -> None:
    """What engines ask for, too, and what they ask for more or less than yesterday."""
    made = {}
    for name in ("one", "other"):
        os.makedirs(f"{folder}/{name}/rootfs")
        subprocess.run([f"{os.path.dirname(DOLIUM)}/dolium-oci", "spec"], cwd=f"{folder}/{name}", check=True)
        with open(f"{folder}/{name}/config.json") as file:
            made[name] = json.load(file)
    made["other"]["process"]["noNewPrivileges"] = False
    made["other"]["root"]["readonly"] = True
    with open(f"{folder}/other/config.json", "w") as file:
        json.dump(made["other"], file)
    ended = root("explain", "--bundle", f"{folder}/one")
    head = ended.stdout.partition("\n")[0]
    assert head.startswith("Plan for `sh` in .../one: ") and head.endswith(" steps, none of them has been run."), "a long path is cut, not what it is about"
    assert ended.code == 0 and "--run" not in ended.stdout, ended
    pivot = number(steps(root, "--bundle", f"{folder}/one"), "pivot_root")
    assert "asked    you, by root.path" in root("explain", "--bundle", f"{folder}/one", "--step", str(pivot)).stdout
    ended = root("explain", "--bundle", f"{folder}/other", "--diff", f"{folder}/one/config.json")
    assert ended.code == 0 and "weaker   setuid programs give rights again" in ended.stdout, ended
    same = root("explain", "--bundle", f"{folder}/one", "--diff", f"{folder}/one/config.json")
    assert " differs from " in " ".join(same.stdout.split())
    by_hand = root("explain", "--bundle", f"{folder}/one", "--sh")
    assert by_hand.code == 125 and "started in two parts" in by_hand.stderr
    missing = root("explain", "--bundle", f"{folder}/none")
    assert missing.code == 125 and "there is no directory" in missing.stderr
    os.unlink(f"{folder}/other/config.json")
    without = root("explain", "--bundle", f"{folder}/other")
    assert without.code == 125 and "no config.json in" in without.stderr and "`dolium-oci spec` writes it" in without.stderr, without
