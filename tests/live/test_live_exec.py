"""`dolium exec`: the other process has the container's files, limits and rights, and ends as it must."""

import functools
import os
import signal

import leaks
import pytest
from containers import SLOW, Begin, Dolium, Ended, Started, children, fields, program, read_line, wait_for

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts", "user", "time")


def rootfs(request: pytest.FixtureRequest, who: Dolium) -> str:
    return str(request.getfixturevalue("alpine" if who.uid == 0 else "own_alpine"))


def output(who: Dolium, *words: str, **how: object) -> str:
    ended = who("exec", *words, **how)
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


def refused(who: Dolium, *words: str, code: int = 125) -> str:
    ended = who("exec", *words)
    assert ended.code == code and ended.stdout == "" and ended.stderr.startswith("error: "), ended
    assert "Traceback" not in ended.stderr, ended
    return ended.stderr


KINDS = {"directory": (), "at-host": (), "sealed": ("--read-only", "--tmpfs", "/tmp", "--network", "host", "--time-namespace"),
         "shared": ("--userns", "host")}  # fmt: skip


@pytest.fixture(params=[*KINDS])
def container(request: pytest.FixtureRequest, user: Dolium, begin: Begin) -> str:
    """One of each kind, for each user that can have it."""
    kind = request.param
    if kind == "shared" and user.uid:
        pytest.skip("a plain user's container always has users of its own")
    return begin(user, *KINDS[kind], "@host" if kind == "at-host" else rootfs(request, user))


def test_it_is_where_the_container_is(user: Dolium, container: str) -> None:
    """The same namespaces and root, the same rights, and a number in its process tree."""
    look = "; ".join(f"readlink /proc/self/ns/{each}; readlink /proc/1/ns/{each}" for each in NAMESPACES)
    pairs = output(user, container, "sh", "-c", look).split()
    assert len(pairs) == 2 * len(NAMESPACES) and pairs[::2] == pairs[1::2]
    assert os.readlink("/proc/self/ns/pid") not in pairs and os.readlink("/proc/self/ns/mnt") not in pairs
    both = [fields(output(user, container, "cat", f"/proc/{each}/status")) for each in ("self", "1")]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Uid", "Gid",
                 "Groups", "Umask", "SigIgn", "SigCgt"):  # fmt: skip
        assert both[0][name] == both[1][name] or name == "SigCgt", name
    assert both[0]["NoNewPrivs"] == "1" and both[0]["Seccomp"] == "2"
    assert int(both[0]["Pid"]) > 1 and len(both[0]["NSpid"].split()) == 1
    limits, attributes = (output(user, container, "sh", "-c", f"cat /proc/self/{each}; echo =; cat /proc/1/{each}").split("=\n")
                          for each in ("limits", "oom_score_adj"))  # fmt: skip
    assert limits[0] == limits[1] and attributes[0] == attributes[1]


def test_nothing_but_the_three_is_open(user: Dolium, container: str) -> None:
    leaky = [os.open("/", os.O_RDONLY) for _ in range(5)]
    try:
        seen = output(user, container, "sh", "-c", "ls /proc/$$/fd; true", pass_fds=leaky)
    finally:
        for fd in leaky:
            os.close(fd)
    assert seen.split() == ["0", "1", "2"]


def test_a_session_of_its_own(user: Dolium, container: str) -> None:
    pid, group, session = output(user, container, "sh", "-c", "cut -d' ' -f 1,5,6 /proc/$$/stat").split()
    assert pid == group == session


def test_exit_codes(user: Dolium, container: str) -> None:
    assert user("exec", container, "sh", "-c", "exit 7").code == 7
    assert user("exec", container, "sh", "-c", "kill -9 $$").code == 137
    assert "no-such" in refused(user, container, "no-such", code=127)
    assert "/no/such" in refused(user, container, "/no/such", code=127)
    assert "not executable" in refused(user, container, "/etc/passwd", code=126)
    assert "no directory /nowhere" in refused(user, "-w", "/nowhere", container, "true")


def test_streams(user: Dolium, container: str) -> None:
    ended = user("exec", container, "sh", "-c", "echo out; echo err >&2; cat", input=b"unseen")
    assert (ended.code, ended.out, ended.err) == (0, b"out\n", b"err\n")
    big = os.urandom(1 << 20)
    assert user("exec", "-i", container, "cat", input=big).out == big
    if user.uid == os.geteuid():  # or the pipe is not the user's own
        assert output(user, container, "sh", "-c", "echo again > /dev/stdout") == "again\n"


def test_its_environment_is_the_containers_and_more(root: Dolium, begin: Begin, alpine: str, folder: str) -> None:
    with open(f"{folder}/env", "w") as file:
        file.write("B=file\nC=file\n")
    name = begin(root, "-e", "A=run", "-e", "B=run", "-h", "pot", "-w", "/tmp", alpine)
    words = ["-e", "C=exec", "--env-file", f"{folder}/env", "-e", "MINE", name, "sh", "-c", "cat /proc/$$/environ; pwd"]
    environment, _, where = output(root, *words, env={"MINE": "yes", "NOT": "no"}).rpartition("\0")
    assert {"A=run", "B=file", "C=exec", "MINE=yes", "HOME=/root", "HOSTNAME=pot"} < {*environment.split("\0")}
    assert "NOT" not in environment and where == "/tmp\n"
    assert output(root, "-w", "/etc", "-e", "HOME=/x", name, "sh", "-c", "echo $PWD $HOME") == "/etc /x\n"


def test_users_are_the_containers(root: Dolium, begin: Begin, alpine: str) -> None:
    """Looked up in the passwd that the container has now, not in the image's."""
    name = begin(root, alpine)
    output(root, name, "sh", "-c", "echo pot:x:700:701::/srv:/bin/sh >> /etc/passwd; echo more:x:702:pot >> /etc/group")
    assert output(root, "-u", "pot", name, "sh", "-c", "id -u; id -g; id -G; echo $HOME").split() == ["700", "701", "701", "702", "/srv"]
    assert output(root, "-u", "5:6", name, "sh", "-c", "id -u; id -g; id -G").split() == ["5", "6", "6"]
    status = fields(output(root, "-u", "nobody", name, "cat", "/proc/self/status"))
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert "no user `nobody2`" in refused(root, "-u", "nobody2", name, "id")
    assert output(root, "-u", "0", name, "id", "-u") == "0\n"


def test_the_containers_own_user_unless_told_otherwise(root: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, "-u", "guest", alpine)
    assert output(root, name, "id", "-un") == "guest\n"
    assert output(root, "-u", "root", name, "id", "-u") == "0\n"


def test_a_plain_users_container_has_one_user(plain: Dolium, begin: Begin) -> None:
    name = begin(plain, "@host")
    assert "one user only" in refused(plain, "-u", "5", name, "id")


def test_what_may_gain_privileges_and_what_is_not_filtered(root: Dolium, begin: Begin, alpine: str) -> None:
    """The order of the plan's steps is another then."""
    name = begin(root, "--security-opt", "no-new-privileges=false", "-u", "guest", "--ulimit", "nofile=9:9", alpine)
    status = fields(output(root, name, "cat", "/proc/self/status"))
    assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("0", "2", "1")
    assert output(root, name, "sh", "-c", "ulimit -n") == "9\n"
    free = begin(root, "--security-opt", "seccomp=unconfined", "--cap-drop", "ALL", "--cap-add", "CHOWN", alpine)
    status = fields(output(root, free, "cat", "/proc/self/status"))
    assert (status["Seccomp"], int(status["CapBnd"], 16), int(status["CapEff"], 16)) == ("0", 1, 1)


def test_limits_hold_for_it(root: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, "-m", "32m", alpine)
    groups = {line.split(":")[1]: line.split(":")[2] for line in output(root, name, "cat", "/proc/self/cgroup").splitlines()}
    assert {*groups.values()} == {"/"}  # seen from its own cgroup namespace
    assert root("exec", name, "tail", "-c", "200m", "/dev/zero").code == 137
    ended = root("exec", begin(root, "--pids-limit", "4", alpine), "sh", "-c", "for each in 1 2 3 4 5 6; do sleep 1 & done; wait")
    assert "fork" in ended.stderr, ended


def test_the_plain_users_limit_on_processes(plain: Dolium, begin: Begin, own_alpine: str) -> None:
    name = begin(plain, "--pids-limit", "5", own_alpine)
    ended = plain("exec", name, "sh", "-c", "for each in 1 2 3 4 5 6 7; do sleep 1 & done; wait")
    assert "fork" in ended.stderr, ended


def processes(who: Dolium, name: str) -> str:
    return output(who, name, "sh", "-c", "for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $each; echo; done")


def started(who: Dolium, *words: str) -> Started:
    process = who.start("exec", *words)
    assert read_line(process) == "ready"
    return process


def test_signals_are_passed_on(user: Dolium, container: str) -> None:
    with started(user, container, "sh", "-c", "trap 'echo got; exit 3' USR1; echo ready; while :; do sleep 0.01; done") as process:
        process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate(timeout=10 * SLOW)
        assert (process.returncode, out) == (3, b"got\n")
    with started(user, container, "sh", "-c", "echo ready; exec sleep 999") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10 * SLOW) == 143


def is_buried(pid: int) -> bool:
    """An orphan is for us to bury; the end of the container's PID namespace would wait for that."""
    leaks.reap()
    return not os.path.exists(f"/proc/{pid}")


def test_it_dies_with_who_asked_for_it(user: Dolium, container: str) -> None:
    """SIGKILL of dolium, and of dolium-keep."""
    for victim in ("dolium", "dolium-keep"):
        with started(user, container, "sh", "-c", "echo ready; exec sleep 998") as process:
            keep = wait_for(lambda: next((each for each in children(process.pid) if program(each) == "dolium-keep"), 0))
            (other,) = children(keep)
            os.kill(process.pid if victim == "dolium" else keep, signal.SIGKILL)
            code = process.wait(10 * SLOW)
        assert code == (-9 if victim == "dolium" else 125)
        wait_for(functools.partial(is_buried, other))


def test_it_dies_with_the_container(user: Dolium, container: str) -> None:
    with started(user, container, "sh", "-c", "echo ready; exec sleep 997") as process:
        assert user("kill", container).code == 0
        assert process.wait(10 * SLOW) == 137
    assert f"no container `{container}`" in refused(user, container, "true")


def test_detached(user: Dolium, container: str) -> None:
    ended = user("exec", "-d", container, "sleep", "996")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    assert "sleep 996" in processes(user, container)
    assert "no-such" in refused(user, "-d", container, "no-such", code=127)


def test_what_does_not_run(root: Dolium, alpine: str) -> None:
    keeping = Dolium(forgets=False)
    name = keeping("run", "-d", "--name", f"exec-{os.getpid()}", alpine, "true")
    assert name.code == 0, name
    try:
        keeping("wait", name.stdout.strip())
        said = refused(root, f"exec-{os.getpid()}", "true")
        assert "is exited, not running" in said and "hint: dolium start" in said
        assert f"did you mean `exec-{os.getpid()}`?" in refused(root, f"exce-{os.getpid()}", "true")
    finally:
        keeping("rm", "-f", name.stdout.strip())


def test_words(root: Dolium) -> None:
    assert "needs a container and a program" in refused(root, "box")
    assert "--privileged" in refused(root, "--privileged", "box", "sh")
    ended: Ended = root("exec", "--help")
    assert ended.code == 0 and "CONTAINER PROGRAM [ARGUMENT...]" in ended.stdout


def test_memory_that_runs_out_is_said(root: Dolium, begin: Begin, alpine: str) -> None:
    """Of the whole container, which ends; a program that is killed alone is another matter."""
    name = begin(Dolium(forgets=False), "-m", "32m", alpine)
    ended = root("exec", name, "sh", "-c", "kill -9 $$")
    assert (ended.code, ended.stderr) == (137, "")
    ended = root("exec", name, "tail", "/dev/zero")
    said = "dolium: killed: the container's memory limit of 32 MiB was reached, and all in it has ended\n"
    assert (ended.code, ended.stderr) == (137, said)
    assert root("ps", "-q", "--filter", f"id={name}").stdout == ""
