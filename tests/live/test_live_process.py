"""What the program inherits, and what not: environment, capabilities, descriptors, signals, masks, session."""

import ctypes
import os
import resource
import signal

import pytest
from containers import SLOW, Dolium, fields

DOCKERS = 0xA80425FB
"""The effective set in a container of `docker run`, as /proc/self/status shows it."""
RT_SIGACTION = {"x86_64": 13, "aarch64": 134}


def status(dolium: Dolium, *words: str, **how: object) -> dict[str, str]:
    return fields(dolium.output(*words, "cat", "/proc/self/status", **how))


@pytest.fixture(params=["alpine", "@host"])
def rootfs(request: pytest.FixtureRequest) -> str:
    return request.param if request.param == "@host" else str(request.getfixturevalue("alpine"))


def test_environment_is_exact(dolium: Dolium, rootfs: str) -> None:
    secret = {"SECRET": "x", "LD_PRELOAD": "", "PYTHONPATH": "/nowhere", "DOLIUM_THING": "1"}
    got = dolium.output("-h", "pot", "-e", "A=1", "-e", "B=two words", "-e", "SECRET2", rootfs, "cat", "/proc/self/environ", env=secret)
    assert sorted(got.split("\0")[:-1]) == sorted([
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=pot", "HOME=/root", "A=1", "B=two words"])  # fmt: skip


def test_a_variable_without_a_value_is_yours(dolium: Dolium, alpine: str) -> None:
    got = dolium.output("-e", "MINE", "-e", "PATH=/bin:/usr/bin", alpine, "env", env={"MINE": "ours"}).splitlines()
    assert "MINE=ours" in got and "PATH=/bin:/usr/bin" in got


def test_an_environment_file(dolium: Dolium, alpine: str, folder: str) -> None:
    with open(f"{folder}/env", "w") as file:
        file.write("# a comment\nA=1\n\nB=x=y z\nC=old\nTAKEN\nNOT_THERE\n")
    words = ["--env-file", f"{folder}/env", "-e", "C=new", alpine, "env"]
    got = dolium.output(*words, env={"TAKEN": "yes"}).splitlines()
    assert {"A=1", "B=x=y z", "C=new", "TAKEN=yes"} <= {*got} and not any(each.startswith("NOT_THERE") for each in got)


def test_capabilities_are_dockers(dolium: Dolium, rootfs: str) -> None:
    seen = status(dolium, rootfs)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(seen[name], 16) == DOCKERS, name
    assert int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0


def test_a_user_has_no_capability(root: Dolium, alpine: str) -> None:
    seen = status(root, "-u", "1000", alpine)
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == int(seen["CapInh"], 16) == int(seen["CapAmb"], 16) == 0
    assert seen["Uid"].split() == seen["Uid"].split()[:1] * 4 == ["1000"] * 4


def test_no_new_privileges_and_a_filter(dolium: Dolium, rootfs: str) -> None:
    seen = status(dolium, rootfs)
    assert (seen["NoNewPrivs"], seen["Seccomp"], seen["Seccomp_filters"]) == ("1", "2", "1")


def test_no_descriptor_of_a_thousand_is_inherited(dolium: Dolium, rootfs: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1100 + len(os.listdir("/proc/self/fd"))
    if hard < wanted:
        pytest.skip(f"this host allows only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    opened = []
    try:
        for _ in range(1000):
            opened.append(os.open("/etc", os.O_RDONLY))
            os.set_inheritable(opened[-1], True)
        first = dolium.output(rootfs, "ls", "/proc/self/fd", close_fds=False).split()
        assert first == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    finally:
        for each in opened:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _hostile() -> None:
    """In the child before exec: every signal ignored and blocked, an odd umask, one CPU."""
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_IGN)
    action = (ctypes.c_ulong * 4)(1, 0, 0, 0)  # SIG_IGN for the two that the C library keeps to itself
    for number in (32, 33):
        ctypes.CDLL(None).syscall(RT_SIGACTION[os.uname().machine], number, action, None, 8)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    os.umask(0o777)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.mark.parametrize("init", [[], ["--init"]], ids=["", "init"])
def test_a_hostile_parent_changes_nothing(dolium: Dolium, alpine: str, init: list[str]) -> None:
    cpus = status(dolium, alpine)["Cpus_allowed_list"]
    seen = status(dolium, *init, alpine, preexec_fn=_hostile)
    assert {name: int(seen[name], 16) for name in ("SigIgn", "SigBlk", "SigPnd", "SigCgt")} == dict.fromkeys(
        ("SigIgn", "SigBlk", "SigPnd", "SigCgt"), 0)  # fmt: skip
    assert seen["Umask"] == "0022" and seen["Cpus_allowed_list"] == cpus
    assert dolium.output(alpine, "sh", "-c", "touch /tmp/f /f 2>/dev/null; ls -l /f | cut -c 1-10", preexec_fn=_hostile) in (
        "-rw-r--r--\n", "")  # fmt: skip
    listing = dolium.output("@host", "sh", "-c", "ls -ld / /etc /tmp /root /etc/passwd | cut -c 1-10", preexec_fn=_hostile).split()
    assert listing == ["drwxr-xr-x", "drwxr-xr-x", "-rw-r--r--", "drwx------", "drwxrwxrwt"]


def test_an_ended_pipe_ends_the_program(dolium: Dolium, alpine: str) -> None:
    """Python ignores SIGPIPE; a program that inherited that would go on writing for ever."""
    assert dolium.output(alpine, "sh", "-c", "yes | head -n 1; echo ${PIPESTATUS:-done}", timeout=20) == "y\ndone\n"
    for init, code in (["--init"], 128 + signal.SIGPIPE), ([], 1):  # a PID 1 is not killed so, it sees EPIPE
        with dolium.start("run", *init, alpine, "yes") as process:
            assert process.stdout
            process.stdout.read(10)
            process.stdout.close()
            assert process.wait(20 * SLOW) == code


def test_a_session_of_its_own(dolium: Dolium, alpine: str) -> None:
    with_init = dolium.output("--init", alpine, "sh", "-c", "cut -d ' ' -f 5,6,7 /proc/self/stat").split()
    without = dolium.output(alpine, "cut", "-d", " ", "-f", "5,6,7", "/proc/self/stat").split()
    assert without == ["1", "1", "0"] and with_init[2] == "0" and with_init[0] == with_init[1] == "2"


def test_the_callers_keys_are_not_there(root: Dolium, alpine: str) -> None:
    words = ["--security-opt", "unmask=/proc/keys", "--userns", "host", alpine, "sh", "-c", "test -r /proc/keys && cat /proc/keys"]
    ended = root("run", *words)
    assert ended.code == 0, ended
    assert not [line for line in ended.stdout.splitlines() if "_ses" in line and "dolium" in line]


def test_oom_score_and_nice_are_given(root: Dolium, alpine: str) -> None:
    assert root.output("--oom-score-adj", "500", alpine, "cat", "/proc/self/oom_score_adj") == "500\n"
