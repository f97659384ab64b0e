"""`dolium run --why-denied`: what seccomp refuses is told, the answer is the same as without, and the flag that is named opens it."""

from __future__ import annotations

import json
import os
import re
import shlex

import pytest
from containers import SYSTEM_PYTHON, Dolium, end, read_line

from dolium.core import wire
from dolium.engine import config, containers
from dolium.plan import filter, slots
from dolium.runtime import denials, launch, lease

CALL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for word in sys.argv[1:]:
    number, *given = (int(each) for each in word.split(","))
    print(number, libc.syscall(number, *given), ctypes.get_errno())
"""
KEYCTL, BPF, PIVOT_ROOT, MOUNT, UNSHARE, SETNS = 250, 321, 155, 165, 272, 308
HEAD = "dolium: seccomp has refused "


def calls(*words: str) -> list[str]:
    """A program that makes system calls: NUMBER[,ARGUMENT...] each."""
    return [SYSTEM_PYTHON, "-IS", "-c", CALL, *words]


def told(text: str) -> dict[str, tuple[str, str]]:
    """The report: call -> (what was answered to whom, which flag opens it)."""
    lines = [line.removeprefix("dolium:   ") for line in text.splitlines() if line.startswith("dolium:   ")]
    assert len(lines) % 2 == 0, text
    return {line.partition(": ")[0]: (line.partition(": ")[2], way.strip()) for line, way in zip(lines[::2], lines[1::2], strict=True)}


def test_each_call_once_with_the_program(dolium: Dolium) -> None:
    line = "unshare -m true; unshare -m true; mount -t tmpfs x /tmp; " + shlex.join(calls(f"{KEYCTL},0", "1000", "1000"))
    ended = dolium("run", "--why-denied", "@host", "sh", "-c", line)
    assert f"{HEAD}5 system calls" in ended.stderr or f"{HEAD}4 system calls" in ended.stderr, ended
    found = told(ended.stderr)
    found.pop("clone3", None)  # of a C library that tries it
    assert {*found} == {"unshare", "mount", "keyctl", "call 1000"}, ended
    assert found["unshare"][0].startswith("EPERM to unshare (/") and found["unshare"][0].endswith("unshare), 2 times")
    assert found["mount"][0].startswith("EPERM to mount (/")
    assert re.fullmatch(r"EPERM to python3\S* \(/usr/bin/python3\S*\)", found["keyctl"][0]), found
    assert found["call 1000"][0].startswith("ENOSYS to python3") and found["call 1000"][0].endswith(", 2 times")
    assert "--cap-add SYS_ADMIN" in found["mount"][1] and "seccomp=unconfined" in found["keyctl"][1]


def test_a_plain_user(plain: Dolium) -> None:
    found = told(plain("run", "--why-denied", "@host", "unshare", "-m", "true").stderr)
    assert found["unshare"][0].startswith("EPERM to unshare (/"), found


ASKED = [f"{KEYCTL},0", f"{BPF},0", f"{PIVOT_ROOT},0,0", f"{MOUNT},0,0,0,0,0", f"{UNSHARE},268435456", f"{SETNS},-1,0", "56,268435456",
         "1000", "1073741863", "41,40,1,0", "41,2,1,0", "135,8", "135,2", "39"]  # fmt: skip


@pytest.mark.parametrize("words", [[], ["--cap-add", "SYS_ADMIN"], ["--security-opt", "no-new-privileges=false"], ["--init"]])
def test_the_answer_is_the_same(dolium: Dolium, words: list[str]) -> None:
    """Calls refused always, for their arguments, and not at all; by number, on x32, and where there is none."""
    without = dolium("run", *words, "@host", *calls(*ASKED))
    asked = dolium("run", "--why-denied", *words, "@host", *calls(*ASKED))
    assert without.code == asked.code == 0

    def answers(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("39 ", "56 0", "56 1"))]  # a pid

    assert answers(asked.stdout) == answers(without.stdout) != []
    assert HEAD in asked.stderr and HEAD not in without.stderr


@pytest.mark.parametrize(("program", "call", "errno"), [
    (["unshare", "--mount", "true"], "unshare", 0), (["mount", "-t", "tmpfs", "none", "/tmp"], "mount", 0),
    (calls(f"{KEYCTL},0,-3,0"), "keyctl", 0), (calls(f"{BPF},0"), "bpf", 0), (calls("1000"), "call 1000", 38)])  # fmt: skip
def test_the_flag_that_is_named_opens_it(dolium: Dolium, program: list[str], call: str, errno: int) -> None:
    way = told(dolium("run", "--why-denied", "@host", *program).stderr)[call][1]
    flags = re.search(r"--(cap-add|security-opt) [\w=]+", way)
    assert flags, way
    words = shlex.split(flags.group())
    watched = ["--why-denied"] if "unconfined" not in flags.group() else []
    ended = dolium("run", *watched, *words, "@host", *program)
    if ended.code == 125:
        pytest.skip(f"not all capabilities to give here: {ended.stderr}")
    assert call not in told(ended.stderr), ended
    if program[0] in ("unshare", "mount"):
        assert ended.code == 0, ended
    elif call == "keyctl":
        assert not ended.stdout.endswith(" 1\n"), ended
    elif call == "call 1000":
        assert ended.stdout == "1000 -1 38\n"


def test_a_program_that_makes_numbers_up(dolium: Dolium) -> None:
    """The account of them is bounded; the answer is the same."""
    ended = dolium("run", "--why-denied", "@host", *calls(*(str(number) for number in range(1000, 1200))))
    assert ended.stdout.splitlines() == [f"{number} -1 38" for number in range(1000, 1200)]
    assert ended.stderr.startswith(f"{HEAD}64 system calls") and ended.stderr.endswith("dolium:   and others, 136 times\n"), ended.stderr[-200:]


def test_nothing_refused(dolium: Dolium) -> None:
    ended = dolium("run", "--why-denied", "@host", "true")
    assert (ended.code, ended.stderr) == (0, f"{HEAD}nothing; what failed was refused by something else: capabilities, modes, mounts\n")


def test_the_programs_own_exit_code_and_output(dolium: Dolium) -> None:
    ended = dolium("run", "--why-denied", "@host", "sh", "-c", "echo out; unshare -m true; exit 7")
    assert (ended.code, ended.stdout) == (7, "out\n") and HEAD in ended.stderr
    ended = dolium("run", "--why-denied", "@host", "no-such-program")
    assert ended.code == 127 and "no-such-program" in ended.stderr


def test_a_profile_of_ones_own(dolium: Dolium, folder: str) -> None:
    path = f"{folder}/profile.json"
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getcwd", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}
    with open(path, "w") as file:
        json.dump(profile, file)
    os.chmod(path, 0o644)
    ended = dolium("run", "--why-denied", "--security-opt", f"seccomp={path}", "@host", "mkdir", "/tmp/x")
    found = told(ended.stderr)
    assert any(each in found for each in ("mkdir", "mkdirat")), ended
    assert all(each[0].startswith("errno 99 to mkdir (/") and each[1].startswith("allow it in the profile") for each in found.values())
    profile["syscalls"] = [{"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO"}]
    with open(path, "w") as file:
        json.dump(profile, file)
    assert "may refuse sendmsg(2)" in dolium.refused("--why-denied", "--security-opt", f"seccomp={path}", "@host", "true")


def test_a_program_may_not_be_run_by_it(dolium: Dolium, folder: str) -> None:
    """execve(2) itself: the container does not start, and nobody waits for ever."""
    with open(f"{folder}/p.json", "w") as file:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_ERRNO"}]}, file)
    os.chmod(f"{folder}/p.json", 0o644)
    assert "execve(2)" in dolium.refused("--why-denied", "--security-opt", f"seccomp={folder}/p.json", "@host", "true", code=126)


def test_questions_that_make_no_sense(dolium: Dolium) -> None:
    assert "nobody does" in dolium.refused("--why-denied", "-d", "@host", "true")
    assert "nothing is refused" in dolium.refused("--why-denied", "--security-opt", "seccomp=unconfined", "@host", "true")


def test_signals_still_reach_the_program(dolium: Dolium) -> None:
    with dolium.start("run", "--why-denied", "@host", "sh", "-c", "trap 'unshare -m true; exit 3' TERM; echo ready; while :; do sleep 0.05; done") as run:
        assert read_line(run) == "ready"
        run.terminate()
        assert run.wait(20) == 3
        assert HEAD in end(run).stderr


def test_when_nobody_listens_any_more_all_is_refused(folder: str) -> None:
    """Also what the filter itself would have given another errno: the kernel says ENOSYS."""
    options, out, taken = config.Options(), f"{folder}/out", lease.take()
    options.why_denied = True
    options.argv = [SYSTEM_PYTHON, "-IS", "-c", f"{CALL}\nsys.stdout.flush()\nsys.stdin.readline()\nprint(libc.syscall({KEYCTL}, 0), ctypes.get_errno())",
                    f"{KEYCTL},0"]  # fmt: skip
    prepared = containers.prepare("@host", options, None, taken.id_base)
    watcher = denials.Watcher()
    watcher.watch(filter.compiled(prepared.spec["linux"]["seccomp"], prepared.facts)[0])
    (theirs, ours), file = os.pipe(), os.open(out, os.O_RDWR | os.O_CREAT)
    running = launch.start(prepared.spec, prepared.facts, taken, (theirs, file, file), {slots.DENIALS: watcher.door})
    while not os.path.getsize(out):
        os.sched_yield()
    assert [each.name for each in watcher.end()][-1:] == ["keyctl"]
    os.write(ours, b"go\n")
    assert running.finish().exit_code == 0
    with open(out) as text:
        assert text.read() == f"{KEYCTL} -1 1\n-1 38\n"
    for each in (theirs, ours, file):
        os.close(each)


def test_it_cannot_be_loaded_without_who_listens() -> None:
    """No descriptor in the slot: the container does not start."""
    options, taken = config.Options(), lease.take()
    options.why_denied, options.argv = True, ["true"]
    prepared = containers.prepare("@host", options, None, taken.id_base)
    null = os.open("/dev/null", os.O_RDWR)
    running = launch.start(prepared.spec, prepared.facts, taken, (null, null, null))
    with pytest.raises(OSError, match=r"seccomp.*sendmsg\(2\)"):
        running.finish()
    os.close(null)
    assert "sendmsg" in wire.OPERATIONS["seccomp"]
