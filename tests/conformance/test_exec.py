"""`exec` as engines call it."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from bundles import Bundle, config, script, wait_for


def process(bundle: Bundle, *argv: str, **fields: object) -> str:
    path = f"{bundle.directory}/process.json"
    own = {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": [*argv], "env": ["PATH=/bin:/usr/bin"], **fields}
    with open(path, "w") as file:
        json.dump(own, file)
    return path


def test_exec(bundle: Bundle) -> None:
    bundle.running()
    ended = bundle.verb("exec", bundle.id, "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (ended.code, ended.out, ended.err) == (5, "out\n", "err\n")
    assert bundle.verb("exec", bundle.id, "--", "echo", "-n", "x").out == "x"


def test_exec_is_in_all_that_is_the_containers(bundle: Bundle) -> None:
    pid = bundle.running()
    own = bundle.verb("exec", bundle.id, "sh", "-c", "for n in /proc/self/ns/*; do readlink $n; done; cat /proc/self/cgroup; cat /proc/self/status").out
    first = [os.readlink(f"/proc/{pid}/ns/{each}") for each in sorted(os.listdir(f"/proc/{pid}/ns"))]
    assert own.splitlines()[: len(first)] == first
    status = dict(line.split(":\t", 1) for line in own.splitlines() if ":\t" in line)
    with open(f"/proc/{pid}/status") as file:
        theirs = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid"):
        assert status[key] == theirs[key], key


def test_exec_with_a_process_file(bundle: Bundle) -> None:
    bundle.running()
    path = process(bundle, "sh", "-c", "pwd; id -u; id -G; echo $X; umask; grep Cap /proc/self/status", cwd="/tmp", env=["PATH=/bin:/usr/bin", "X=y"],
                   user={"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o77})
    lines = bundle.verb("exec", "--process", path, bundle.id).out.splitlines()
    assert lines[:5] == ["/tmp", "5", "6 7", "y", "0077"]
    assert {line.split()[1] for line in lines[5:]} == {"0" * 16}


@pytest.mark.parametrize("flag", ["--process", "-p"])
def test_exec_detached_returns_when_it_runs(bundle: Bundle, flag: str) -> None:
    """As conmon calls it: the pid file is there, and the process is ours to wait for."""
    bundle.running()
    path = process(bundle, "sh", "-c", "exit 7")
    ended = bundle.verb("exec", "--pid-file", f"{bundle.directory}/pid", flag, path, "--detach", bundle.id)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert os.waitstatus_to_exitcode(os.waitpid(int(bundle.read("pid")), 0)[1]) == 7


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_exec_of_nothing(bundle: Bundle, detach: tuple[str, ...]) -> None:
    bundle.running()
    ended = bundle.verb("exec", *detach, bundle.id, "/nonexistent")
    assert ended.code == 255 and "no such file or directory" in ended.err and ended.err.count("\n") == 1
    assert "permission denied" in bundle.verb("exec", *detach, bundle.id, "/etc/passwd").err


HOMES = [(0, [], "/root"), (0, ["HOME="], "/root"), (0, ["HOME=/x"], "/x"), (405, [], "/dev/null"), (77, [], "/made/up"), (4242, [], "/")]


@pytest.mark.parametrize(("uid", "env", "home"), HOMES)
def test_home_is_that_of_the_user(bundle: Bundle, uid: int, env: list[str], home: str) -> None:
    """As runc and crun have it, on which docker and containerd rely: by the container's own passwd, if no HOME is given."""
    with open(f"{bundle.rootfs}/etc/passwd") as file:
        text = file.read()
    os.unlink(f"{bundle.rootfs}/etc/passwd")
    with open(f"{bundle.rootfs}/etc/passwd", "w") as file:
        file.write(f"broken\n{text}x:x:77:77::/made/up:/bin/sh\n")
    spec = script("echo $HOME", process__user={"uid": uid, "gid": 0}, process__env=["PATH=/bin:/usr/bin", *env])
    assert bundle.output(spec) == f"{home}\n"
    bundle.write(spec)
    assert bundle.verb("run", "-b", bundle.directory, bundle.id).out == f"{home}\n"
    bundle.running(config(process__args=["sleep", "1000"]))
    path = process(bundle, "sh", "-c", "echo $HOME", env=["PATH=/bin:/usr/bin", *env], user={"uid": uid, "gid": 0})
    assert bundle.verb("exec", "--process", path, bundle.id).out == f"{home}\n"
    assert bundle.verb("exec", "--user", f"{uid}:0", *(each for word in env for each in ("--env", word)), bundle.id, "sh", "-c", "echo $HOME").out == f"{home}\n"


@pytest.mark.parametrize("what", ["none", "a link", "a long one", "a mount", "a masked one"])
def test_a_passwd_of_another_kind(bundle: Bundle, what: str) -> None:
    path = f"{bundle.rootfs}/etc/passwd"
    if what != "a masked one":
        os.unlink(path)
    spec = script("echo $HOME")
    if what == "a masked one":
        spec["linux"]["maskedPaths"] = ["/etc/passwd"]  # as a kubelet may ask for it
    elif what == "a link":
        os.symlink("/../../../../../etc/passwd", path)  # leads to itself, in the container
    elif what == "a long one":
        with open(path, "w") as file:
            file.write("x:x:0:0::/long:/bin/sh\n" * 5000)
    elif what == "a mount":
        with open(f"{bundle.directory}/passwd", "w") as file:
            file.write("x:x:0:0::/mounted:/bin/sh\n")
        spec["mounts"].append({"destination": "/etc/passwd", "source": "passwd", "options": ["bind"]})
    if what == "a link":
        assert "read /etc/passwd" in bundle.refused(spec)
    else:
        assert bundle.output(spec) == ("/mounted\n" if what == "a mount" else "/\n")


CPUS = ["grep", "Cpus_allowed_list", "/proc/self/status"]


def test_exec_cpu_affinity(bundle: Bundle) -> None:
    """process.execCPUAffinity: of those that exec starts, not of the first process; the container's unless they have their own."""
    first = bundle.running(config(process__args=["sleep", "1000"], process__execCPUAffinity={"initial": "0", "final": "1"}))
    with open(f"/proc/{first}/status") as file:
        assert [line.split()[1] for line in file if line.startswith("Cpus_allowed_list")] != ["1"]
    assert bundle.verb("exec", bundle.id, *CPUS).out.split()[1] == "1"
    assert bundle.verb("exec", "--process", process(bundle, *CPUS), bundle.id).out.split()[1] == "1"
    assert bundle.verb("exec", "--process", process(bundle, *CPUS, execCPUAffinity={"final": "0"}), bundle.id).out.split()[1] == "0"
    assert bundle.verb("exec", "--process", process(bundle, *CPUS, execCPUAffinity={"initial": "0"}), bundle.id).out.split()[1] == "0"
    ended = bundle.verb("exec", "--process", process(bundle, *CPUS, execCPUAffinity={"final": "x"}), bundle.id)
    assert "process.execCPUAffinity.final" in ended.err


def test_exec_flags(bundle: Bundle) -> None:
    bundle.running()
    ended = bundle.verb("exec", "--cwd", "/tmp", "--env", "A=1", "-e", "B=2", "--user", "9:8", "-g", "3", "--additional-gids=4", bundle.id, "sh",
                        "-c", "pwd; echo $A$B; id -u; id -G")
    assert ended.out.splitlines() == ["/tmp", "12", "9", "8 3 4"], ended
    ended = bundle.verb("exec", "--cap", "CAP_SYS_PTRACE", "--no-new-privs", bundle.id, "grep", "CapEff", "/proc/self/status")
    assert int(ended.out.split()[1], 16) >> 19 & 1


@pytest.mark.parametrize("user", ["x", "-1", "1:x", "4294967295", "1 ", "", "+1", "0x1", "1:"])
def test_a_user_is_a_number(bundle: Bundle, user: str) -> None:
    """CVE-2026-30892: `-u 1` was read as root."""
    bundle.running()
    ended = bundle.verb("exec", "--user", user, bundle.id, "id", "-u")
    assert (ended.code, ended.out) == (255, "") or user == "", ended


def test_exec_needs_a_container_that_runs(bundle: Bundle) -> None:
    bundle.create(config())
    bundle.start()
    bundle.wait()
    ended = bundle.verb("exec", bundle.id, "true")
    assert ended.code == 255 and "is stopped, not running" in ended.err


def test_exec_preserve_fds(bundle: Bundle) -> None:
    bundle.running()
    command = f'exec "{bundle.runtime}" --root "{bundle.root}" exec --preserve-fds 1 {bundle.id} sh -c "ls /proc/self/fd; cat <&3" 3</etc/hostname 4</etc/passwd'
    ended = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, env=bundle.environment, check=False)
    with open("/etc/hostname") as file:
        assert ended.stdout.split() == ["0", "1", "2", "3", "4", file.read().strip()], ended


def test_exec_of_a_malformed_process(bundle: Bundle) -> None:
    bundle.running()
    for text, words in (("{", "process: is not JSON"), ('{"cwd":"/"}', "process.args: is required"), ('{"args":["x"]}', "process.cwd: is required")):
        with open(f"{bundle.directory}/p", "w") as file:
            file.write(text)
        ended = bundle.verb("exec", "-p", f"{bundle.directory}/p", bundle.id)
        assert ended.code == 255 and words in ended.err, ended
    assert bundle.verb("exec", "-p", "/nonexistent", bundle.id).code == 255
    assert bundle.verb("exec", bundle.id).code == 255


def test_exec_in_a_created_container(bundle: Bundle) -> None:
    """Between create and start, as the startContainer hooks are."""
    bundle.create(config(process__args=["sleep", "100"]))
    assert bundle.verb("exec", bundle.id, "echo", "there").out == "there\n"


def test_exec_dies_with_its_caller_and_not_detached_ones(bundle: Bundle) -> None:
    bundle.running()
    process_ = subprocess.Popen([bundle.runtime, "--root", bundle.root, "exec", bundle.id, "sleep", "1000"], env=bundle.environment)
    wait_for(lambda: len(json.loads(bundle.verb("ps", "--format", "json", bundle.id).out)) == 2)
    process_.kill()
    process_.wait()
    wait_for(lambda: len(json.loads(bundle.verb("ps", "--format", "json", bundle.id).out)) == 1)


def test_exec_reads_its_input(bundle: Bundle) -> None:
    bundle.running()
    assert bundle.verb("exec", bundle.id, "cat", input="through\n").out == "through\n"


def test_the_first_process_of_a_script_is_pid_one(bundle: Bundle) -> None:
    assert bundle.output(script("echo $$")) == "1\n"


def test_capabilities_of_one_who_is_not_root(bundle: Bundle) -> None:
    """What is ambient survives exec; what is only permitted does not."""
    sets = {each: ["CAP_NET_BIND_SERVICE", "CAP_KILL"] for each in ("bounding", "permitted", "inheritable", "effective")}
    spec = script("grep Cap /proc/self/status", process__user={"uid": 5, "gid": 5}, process__capabilities={**sets, "ambient": ["CAP_KILL"]})
    found = {line.split()[0]: int(line.split()[1], 16) for line in bundle.output(spec).splitlines()}
    assert found == {"CapInh:": 0x420, "CapPrm:": 0x20, "CapEff:": 0x20, "CapBnd:": 0x420, "CapAmb:": 0x20}
