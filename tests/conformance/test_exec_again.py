"""`exec` of what differs in its words only from one before needs no Python (init/exec_again.c), and is all that the first one was."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import PYTHON, Bundle, call, config, wait_for, without_python
from containers import TOP

FIRST = 'for n in /proc/self/ns/*; do readlink $n; done; cat /proc/self/cgroup /proc/self/limits; grep -vE "^(PPid|SigQ|Pid|Tgid|NSp|NSt|NSs|.*ctxt|Vm|Rss|Cpus|Hugetlb)" /proc/self/status; pwd; umask; env'
"""Whatever a process can say of itself."""


@pytest.fixture
def alone(folder: str) -> str:
    return without_python(folder)


def document(bundle: Bundle, *argv: str, **fields: object) -> str:
    own = {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": [*argv], "env": ["PATH=/bin:/usr/bin"], **fields}
    Path(bundle.directory, "process.json").write_text(json.dumps(own, separators=(",", ":")))  # as Go writes it
    return f"{bundle.directory}/process.json"


@pytest.fixture
def again(bundle: Bundle, alone: str) -> Callable[..., tuple[int, str]]:
    """Execute the process that is written down; the exit code, and what it prints.  `python` is the whole of dolium-oci."""

    def execute(*flags: str, python: bool = False, before: tuple[str, ...] = (), path: str = "") -> tuple[int, str]:
        words = ["exec", "--process", path or f"{bundle.directory}/process.json", "--detach", f"--pid-file={bundle.directory}/pid", *flags, bundle.id]
        pid = Path(bundle.directory, "pid")
        pid.unlink(missing_ok=True)
        with open(f"{bundle.directory}/said", "w+") as said:
            ended = subprocess.run([*before, bundle.runtime if python else alone, "--root", bundle.root, *words], check=False,
                                   cwd="/", env=bundle.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)  # fmt: skip
            if ended.returncode == 0:
                assert os.waitstatus_to_exitcode(os.waitpid(int(pid.read_text()), 0)[1]) == 0, "it is ours to wait for"
            assert sorted(Path(bundle.directory).glob("pid*")) == ([pid] if ended.returncode == 0 else [])
            said.seek(0)
            return ended.returncode, said.read()

    return execute


@pytest.mark.parametrize("fields", [
    {},
    {"user": {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o77}, "cwd": "/tmp", "noNewPrivileges": True,
     "capabilities": {each: ["CAP_KILL"] for each in ("bounding", "effective", "permitted", "inheritable", "ambient")},
     "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]},
], ids=["plain", "all that there is"])  # fmt: skip
def test_the_second_time_is_as_the_first_without_python(bundle: Bundle, again: Callable[..., tuple[int, str]], fields: dict[str, object]) -> None:
    bundle.running(config(process__args=["sleep", "1000"], linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 50}},
                          linux__seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}))  # fmt: skip
    document(bundle, "sh", "-c", FIRST, **fields)
    assert again() == (PYTHON, "")
    first = again(python=True)
    assert first[0] == 0 and "Seccomp:\t2" in first[1], first
    for _ in "second", "third":
        assert again() == first
    assert [each for each in os.listdir(f"{bundle.root}/{bundle.id}") if each.startswith("exec")] == ["exec.0"]


def test_of_user_namespaces(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    maps = [{"containerID": 0, "hostID": 200000, "size": 65536}]
    spec = config(process__args=["sleep", "1000"], linux__uidMappings=maps, linux__gidMappings=maps)
    spec["linux"]["namespaces"].append({"type": "user"})
    bundle.running(spec)
    document(bundle, "sh", "-c", "cat /proc/self/uid_map; id", user={"uid": 3, "gid": 4})
    first = again(python=True)
    assert first[0] == 0 and "200000" in first[1] and "uid=3" in first[1] and again() == first


def test_home_is_looked_up_each_time(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    """In the container's passwd, as it is then."""
    bundle.running()
    document(bundle, "sh", "-c", "echo $HOME", user={"uid": 42, "gid": 0})
    passwd = Path(bundle.rootfs, "etc/passwd")
    known = passwd.read_text()
    passwd.unlink()  # a link to everybody's
    longest = "/" + "h" * 248
    assert again(python=True) == (0, "/\n")
    for line, home in (("x:x:42:0::/home/x:/bin/sh", "/home/x"), ("x:x:42:0::/no/shell", "/no/shell"), ("x:x:42:0::::::", "/"), ("x:x:42:0:", "/"),
                       ("y:x:421:0::/y:", "/"), ("y:x:4:0::/y:", "/"), ("x:x:42:0::/first:\nx:x:42:0::/second:", "/first"),
                       (f"x:x:42:0::{longest}:", longest), (f"x:x:42:0::{longest}h:", "/"), (":" * 5000, "/"), ("", "/")):  # fmt: skip
        for text in (line, f"{known}{line}", f"{line}\n{known}"):
            passwd.write_text(text)
            assert again() == (0, f"{home}\n"), text
        assert bundle.verb("exec", "--user", "42", bundle.id, "sh", "-c", "echo $HOME").out == f"{home}\n", "Python says the same"
    passwd.unlink()
    assert again() == (0, "/\n")
    passwd.symlink_to("passwd")
    assert again()[0] == PYTHON, "which says what is wrong with it"


WORDS = {
    "another program": ["cat", "/etc/alpine-release"],
    "one by its path": ["/bin/echo", "x"],
    "one by its path from here": ["./busybox", "echo", "x"],
    "one that is not there": ["nothing"],
    "one that is none": ["/etc/passwd"],
    "no name": ["", "x"],
    "empty words": ["printf", "<%s>", "", "", "x", ""],
    "what JSON escapes": ["printf", "%s|", '"', "\\", "/", "\n\t\r\b\f", "\x01\x1f\x7f", "[{]}", '","', "\\u0041"],
    "what Go escapes": ["sh", "-c", "echo a && echo '<b>' >&2"],
    "not in ASCII": ["echo", "\u00fc\u2192\U0001f600"],
    "many": ["echo", *map(str, range(3000))],
    "a long one": ["echo", "x" * 40000],
    "one that is longer than the rest": ["sh", "-c", "echo " + "y" * 60000],
}  # fmt: skip


@pytest.mark.parametrize("first", [["true"], ["/bin/true"], ["sh", "-c", "exit 0", "with", "some", "words"]], ids=["searched", "path", "words"])
def test_with_other_words(bundle: Bundle, again: Callable[..., tuple[int, str]], first: list[str]) -> None:
    """They are as Python reads them, and looked for where it looks."""
    bundle.running()
    for name, words in WORDS.items():
        for kept in Path(bundle.root, bundle.id).glob("exec.*"):
            kept.unlink()
        path = Path(document(bundle, *words))
        if name == "what Go escapes":
            path.write_text(path.read_text().replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003E"))
        elif name == "not in ASCII":
            path.write_text(json.dumps(json.loads(path.read_text()), separators=(",", ":"), ensure_ascii=False))
        text, expected = path.read_text(), again(python=True)
        for kept in Path(bundle.root, bundle.id).glob("exec.*"):
            kept.unlink()
        document(bundle, *first)
        assert again(python=True)[0] == 0
        path.write_text(text)
        is_path = "/" in words[0]
        assert again() == ((PYTHON, "") if expected[0] or name == "not in ASCII" or is_path != ("/" in first[0]) else expected), name


@pytest.mark.parametrize("word", ["\\u0000", "\\u00fc", "\\u2028", "\\ud83d\\ude00", "\\x", "\\u00", "\\u00g0", "\\u004", "\x01", "\u00fc", "\x80", '","', '"],"args":["x'])
def test_words_that_are_escaped_in_other_ways_are_left_to_python(bundle: Bundle, again: Callable[..., tuple[int, str]], word: str) -> None:
    bundle.running()
    path = Path(document(bundle, "true"))
    assert again(python=True) == again() == (0, "")
    path.write_text(path.read_text().replace('"true"', f'"true","{word}"'))
    assert again() == ((0, "") if word == '","' else (PYTHON, ""))


def waited_for(bundle: Bundle, program: str, *words: str, **how: Any) -> tuple[int, str, str]:
    ended = subprocess.run([program, "--root", bundle.root, "exec", bundle.id, *words], capture_output=True, text=True, env=bundle.environment, check=False, **how)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_program_that_is_waited_for(bundle: Bundle, alone: str) -> None:
    """As people call it: as the container's own process is."""
    bundle.running(config(process__args=["sleep", "1000"], process__user={"uid": 5, "gid": 6, "umask": 0o27}, process__cwd="/tmp"))
    assert waited_for(bundle, alone, "true")[0] == PYTHON
    first = waited_for(bundle, bundle.runtime, "sh", "-c", FIRST)
    assert first[0] == 0 and "Uid:\t5" in first[1] and "HOME=" in first[1]
    assert waited_for(bundle, alone, "sh", "-c", FIRST) == first
    assert waited_for(bundle, alone, "sh", "-c", "cat; echo err >&2; exit 7", input="in\n") == (7, "in\n", "err\n")
    assert waited_for(bundle, alone, "--", "echo", "-n", "\u00fc") == (0, "\u00fc", "")
    assert waited_for(bundle, alone, "sh", "-c", "kill -9 $$") == (137, "", "")
    for words in (["nothing"], ["/etc/passwd"], ["--"], [""], [], ["--", "/bin/true", "a path, and that one was looked for"]):
        assert waited_for(bundle, alone, *words)[0] == PYTHON, words
    for flags in (("--cwd", "/"), ("--env", "A=B"), ("--user", "7"), ("--detach",), ("--tty",), ("--pid-file", f"{bundle.directory}/pid")):
        assert call(alone, "--root", bundle.root, "exec", *flags, bundle.id, "true")[0] == PYTHON, flags
    assert os.listdir(bundle.directory).count("pid") == 0


def test_one_at_a_terminal(bundle: Bundle, alone: str) -> None:
    """It does not matter to a program that has none of its own."""
    bundle.running()
    said = {}
    for program in (bundle.runtime, alone):
        line = f"{program} --root {bundle.root} exec {bundle.id} sh -c 'tty; test -t 0 || echo no'"
        done = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True, env=bundle.environment, check=False)
        said[program] = (done.returncode, done.stdout)
    assert said[bundle.runtime] == said[alone] and said[alone][0] == 0, said


@pytest.mark.parametrize("number", [1, 2, 3, 10, 12, 15, 18, 28])
def test_its_signals_are_the_programs(bundle: Bundle, alone: str, number: int) -> None:
    bundle.running()
    assert waited_for(bundle, bundle.runtime, "true")[0] == 0
    with subprocess.Popen([alone, "--root", bundle.root, "exec", bundle.id, "sh", "-c", f"trap 'exit 42' {number}; echo on; while :; do sleep 0.01; done"],
                          stdout=subprocess.PIPE, text=True) as running:  # fmt: skip
        assert running.stdout and running.stdout.readline() == "on\n"
        running.send_signal(number)
        assert running.wait(20) == 42


def test_it_does_not_outlive_who_waits_for_it(bundle: Bundle, alone: str) -> None:
    bundle.running()
    assert waited_for(bundle, bundle.runtime, "true")[0] == 0
    with subprocess.Popen([alone, "--root", bundle.root, "exec", bundle.id, "sh", "-c", "echo on; exec sleep 1001"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout and running.stdout.readline() == "on\n"
        assert "sleep 1001" in bundle.verb("ps", bundle.id).out
        running.kill()
    wait_for(lambda: "sleep 1001" not in bundle.verb("ps", bundle.id).out)


@pytest.mark.parametrize("what", ["a variable", "another user", "no words", "a space in it", "a space before it", "words said twice", "none", "a pipe", "a flag", "a limit of files", "fewer rights", "another dolium-init",
                                  "paused", "ended"])  # fmt: skip
def test_what_is_not_quite_the_same_is_left_to_python(bundle: Bundle, again: Callable[..., tuple[int, str]], alone: str, what: str) -> None:
    bundle.running()
    path = document(bundle, "true")
    assert again(python=True) == again() == (0, "")
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    match what:
        case "a variable":
            document(bundle, "true", env=["PATH=/bin:/usr/bin", "X="])
        case "another user":
            document(bundle, "true", user={"uid": 0, "gid": 1})
        case "no words":
            document(bundle)
        case "a space in it":
            Path(path).write_text(Path(path).read_text().replace("[", "[ "))
        case "a space before it":
            Path(path).write_text(" " + Path(path).read_text())
        case "words said twice":
            Path(path).write_text(Path(path).read_text().replace("{", '{"args":["true"],', 1))
        case "none":
            os.unlink(path)
        case "a pipe":
            os.unlink(path)
            os.mkfifo(path)
        case "a flag":
            flags = ("--ignore-paused",)
        case "a limit of files":
            before = ("prlimit", "--fsize=100000000")
        case "fewer rights":
            before = ("setpriv", "--bounding-set", "-sys_boot")
        case "another dolium-init":
            own = Path(os.path.dirname(alone), "../lib/dolium/dolium")
            own.unlink()
            shutil.copytree(f"{TOP}/src/dolium/programs", own / "programs")
        case "paused":
            assert bundle.verb("pause", bundle.id).code == 0
        case "ended":
            assert bundle.verb("kill", bundle.id, "KILL").code == 0
            bundle.wait()
    assert again(*flags, before=before) == (PYTHON, "")


def test_a_program_that_has_gone_is_told_by_python(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    bundle.running()
    shutil.copy(f"{bundle.rootfs}/bin/busybox", f"{bundle.rootfs}/bin/busybox.gone")
    document(bundle, "/bin/busybox.gone", "true")
    assert again(python=True) == again() == (0, "")
    os.unlink(f"{bundle.rootfs}/bin/busybox.gone")
    assert again() == (PYTHON, "")
    code, said = again(python=True)
    assert code == 255 and said.startswith("error: ") and "/bin/busybox.gone" in said and "no such file or directory" in said


def test_a_pid_file_that_cannot_be_written_is_told_by_python(bundle: Bundle, alone: str) -> None:
    """And before anything runs."""
    bundle.running()
    words = ["--root", bundle.root, "exec", "--detach", "--process", document(bundle, "touch", "/ran"), bundle.id]
    for _ in "first", "second":
        assert bundle.verb(*words[2:]).code == 0
        wait_for(lambda: os.path.exists(f"{bundle.rootfs}/ran"))
        os.unlink(f"{bundle.rootfs}/ran")
    for pid_file in ("/nowhere/pid", "/tmp/" + "x" * 5000, ""):
        assert call(alone, *words[:3], "--pid-file", pid_file, *words[3:])[0] == PYTHON
    assert not os.path.exists(f"{bundle.rootfs}/ran")


def test_no_more_than_four_are_kept_and_all_go(bundle: Bundle, again: Callable[..., tuple[int, str]], alone: str) -> None:
    for program in (bundle.runtime, alone):
        bundle.running()
        for number in range(6):
            document(bundle, "echo", str(number), env=["PATH=/bin", f"X={number}"])
            assert again(python=True) == again() == (0, f"{number}\n")
        assert sorted(each for each in os.listdir(f"{bundle.root}/{bundle.id}") if each.startswith("exec")) == [f"exec.{each}" for each in range(4)]
        Path(bundle.root, bundle.id, "exec.new").write_text("what a kill left")
        assert bundle.verb("kill", bundle.id, "KILL").code == 0
        bundle.wait()
        assert call(program, "--root", bundle.root, "delete", bundle.id) == (0, "", "")
        assert os.listdir(bundle.root) == []


def test_the_one_of_no_use_for_longest_goes_first(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    """A probe stays, however many others come only once."""
    bundle.running()
    for number in range(12):
        document(bundle, "true", env=["PATH=/bin", f"X={number}"])
        assert again(python=True)[0] == 0
        document(bundle, "true", env=["PATH=/bin", "X=0"])
        assert again() == (0, "")


def test_what_is_kept_takes_little_memory(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    """It lies on a tmpfs: the room for a passwd is a hole."""
    bundle.running()
    document(bundle, "true")
    assert again(python=True)[0] == 0
    kept = os.stat(f"{bundle.root}/{bundle.id}/exec.0")
    assert kept.st_size > 65536 > 32768 > kept.st_blocks * 512


def test_one_whose_container_another_verb_holds_is_not_kept(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    bundle.running()
    document(bundle, "true")
    assert again(python=True, before=("flock", f"{bundle.root}/{bundle.id}")) == (0, "")
    assert not os.path.exists(f"{bundle.root}/{bundle.id}/exec.0")


def test_a_file_that_is_damaged_is_not_taken(bundle: Bundle, again: Callable[..., tuple[int, str]]) -> None:
    """Whatever its head says; the plan in it is ours, as all of this directory."""
    bundle.running()
    document(bundle, "true", env=["PATH=/bin", "HOME=/"])
    assert again(python=True) == (0, "")
    path = Path(bundle.root, bundle.id, "exec.0")
    whole = path.read_bytes()
    for place in range(0, 88, 4):
        for value in (0x00, 0x7F, 0xFF):
            changed = whole[:place] + bytes([value]) * 4 + whole[place + 4 :]
            path.write_bytes(changed)
            harmless = changed == whole or place == 76 or (place, value) == (84, 0)  # HOME, which this one has; a slot of no use to it
            assert again()[0] == (0 if harmless else PYTHON), (place, value)
        path.write_bytes(whole[: place + 1])
        assert again()[0] == PYTHON


@pytest.mark.parametrize("seed", range(2))
def test_documents_that_make_no_sense(bundle: Bundle, folder: str, seed: int) -> None:
    """With bytes changed, gone or said twice: left to Python, or executed as they are; built so that a wrong step in memory ends it."""
    program = without_python(folder, sanitized=True)
    bundle.running()
    path = Path(document(bundle, "echo", 'a "b" \\ c', "d"))
    words = ["--root", bundle.root, "exec", "--detach", "--process", str(path), bundle.id]
    assert bundle.verb(*words[2:]).code == 0
    chance, whole, ran = random.Random(seed), path.read_bytes(), 0
    for _ in range(150):
        data = bytearray(whole)
        at = chance.randrange(data.index(b"[") - 10, data.index(b"]") + 10)
        match chance.randrange(4):
            case 0:
                del data[at:]
            case 1:
                data[at] = chance.choice(b'\0"\\{}[],:09au\xff')
            case 2:
                data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(40)]
            case 3:
                del data[at : at + chance.randrange(1, 10)]
        path.write_bytes(data)
        code, _, said = call(program, *words)
        assert code in (0, PYTHON) and "Sanitizer" not in said, (data, code, said)
        ran += code == 0
    assert ran > 5
    for size in (65534, 65535, 65536, 70000):
        path.write_bytes(whole.replace(b'"d"', b'"%s"' % (b"d" * (size - len(whole) + 1))))
        assert call(program, *words)[0] == (0 if size < 65535 else PYTHON)
    for number in (1, 2, 1000, 10000):
        path.write_bytes(whole.replace(b'"d"', b",".join([b'""'] * number)))
        assert call(program, *words)[0] == 0
