"""`exec` of what has been executed before needs no Python (init/exec_again.c), and is all that the first one was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

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
    Path(bundle.directory, "process.json").write_text(json.dumps(own))
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
            document(bundle, "sh", "-c", "echo $HOME ", user={"uid": 42, "gid": 0})  # another document: Python's answer
            assert again(python=True) == (0, f"{home}\n"), text
            document(bundle, "sh", "-c", "echo $HOME", user={"uid": 42, "gid": 0})
            for number in "123":  # and not kept
                Path(bundle.root, bundle.id, f"exec.{number}").unlink(missing_ok=True)
    passwd.unlink()
    assert again() == (0, "/\n")
    passwd.symlink_to("passwd")
    assert again()[0] == PYTHON, "which says what is wrong with it"


@pytest.mark.parametrize("what", ["another document", "a space in it", "none", "a pipe", "a flag", "a limit of files", "fewer rights", "another dolium-init",
                                  "paused", "ended"])  # fmt: skip
def test_what_is_not_quite_the_same_is_left_to_python(bundle: Bundle, again: Callable[..., tuple[int, str]], alone: str, what: str) -> None:
    bundle.running()
    path = document(bundle, "true")
    assert again(python=True) == again() == (0, "")
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    match what:
        case "another document":
            document(bundle, "true", env=["PATH=/bin:/usr/bin", "X="])
        case "a space in it":
            Path(path).write_text(Path(path).read_text() + " ")
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
            document(bundle, "echo", str(number))
            assert again(python=True) == again() == (0, f"{number}\n")
        assert sorted(each for each in os.listdir(f"{bundle.root}/{bundle.id}") if each.startswith("exec")) == [f"exec.{each}" for each in range(4)]
        Path(bundle.root, bundle.id, "exec.new").write_text("what a kill left")
        assert bundle.verb("kill", bundle.id, "KILL").code == 0
        bundle.wait()
        assert call(program, "--root", bundle.root, "delete", bundle.id) == (0, "", "")
        assert os.listdir(bundle.root) == []


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
            assert again()[0] == (0 if changed == whole or place in (76, 84) else PYTHON), "of HOME, which this one has; unused"
        path.write_bytes(whole[: place + 1])
        assert again()[0] == PYTHON
