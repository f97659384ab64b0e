"""Rules of runtime-spec, runtime.md, and of the command lines that engines give; each test is named after its rule."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from bundles import Bundle, config, script, wait_for

from dolium.errors import DoliumError, NotFound
from dolium.runtime import state


def test_create_start_delete(bundle: Bundle) -> None:
    assert bundle.output(script("echo hello; id -u")) == "hello\n0\n"
    assert bundle.status() == "gone"


def test_create_must_not_run_the_program(bundle: Bundle) -> None:
    assert bundle.create(script("echo ran; sleep 1000")).code == 0
    time.sleep(0.1)
    assert bundle.read("out") == "" and bundle.status() == "created"
    assert bundle.start().code == 0
    wait_for(lambda: bundle.read("out") == "ran\n")
    assert bundle.status() == "running"


def test_create_must_fail_for_an_id_that_is_taken(bundle: Bundle) -> None:
    assert bundle.create(config()).code == 0
    again = bundle.verb("create", "--bundle", bundle.directory, bundle.id)
    assert again.code == 1 and "exists" in again.err and bundle.status() == "created"


@pytest.mark.parametrize("identity", ["../x", "a/b", "", ".hidden", "x y", "é", "a" * 300, ".."])
def test_an_id_is_no_path(bundle: Bundle, identity: str) -> None:
    bundle.write(config())
    ended = bundle.verb("create", "--bundle", bundle.directory, identity)
    assert ended.code == 1 and ended.err.startswith("error: "), ended
    assert not os.path.exists(bundle.root) or not os.listdir(bundle.root)


def test_start_only_from_created(bundle: Bundle) -> None:
    bundle.running()
    again = bundle.start()
    assert again.code == 1 and "is running, not created" in again.err
    assert bundle.verb("start", "nobody").code == 1


def test_kill_only_created_or_running(bundle: Bundle) -> None:
    bundle.create(config())
    bundle.start()
    bundle.wait()
    ended = bundle.verb("kill", bundle.id, "KILL")
    assert ended.code == 1 and "container not running" in ended.err, "the words that containerd looks for"
    assert bundle.verb("kill", "nobody", "KILL").err == "error: container does not exist: `nobody`\n"


@pytest.mark.parametrize("word", ["USR1", "SIGUSR1", "10", "sigusr1"])
def test_kill_sends_the_signal(bundle: Bundle, word: str) -> None:
    bundle.running(script("trap 'echo got; exit' USR1; echo ready; while :; do sleep 0.05; done"))
    wait_for(lambda: "ready" in bundle.read("out"))
    ended = bundle.verb("kill", bundle.id, word)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    bundle.wait()
    assert bundle.read("out") == "ready\ngot\n"


def test_kill_of_a_created_one(bundle: Bundle) -> None:
    bundle.create(config())
    assert bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()


def test_kill_all(bundle: Bundle) -> None:
    bundle.running(script("sleep 1000 & sleep 1000 & wait"))
    def processes() -> list[int]:
        found: list[int] = json.loads(bundle.verb("ps", "--format", "json", bundle.id).out)
        return found

    wait_for(lambda: len(processes()) == 3)
    assert bundle.verb("kill", "--all", bundle.id, "9").code == 0
    bundle.wait()
    wait_for(lambda: not processes())
    assert bundle.verb("kill", "-a", bundle.id, "KILL").code == 0, "as runc answers containerd when all are gone"


def test_delete_only_stopped(bundle: Bundle) -> None:
    bundle.running()
    ended = bundle.verb("delete", bundle.id)
    assert ended.code == 1 and "is running, not stopped" in ended.err and bundle.status() == "running"


def test_delete_of_a_created_one_ends_it(bundle: Bundle) -> None:
    """As runc and crun have it."""
    bundle.create(config())
    assert bundle.verb("delete", bundle.id).code == 0 and bundle.status() == "gone"


def test_delete_force_of_a_gone_one_is_no_error(bundle: Bundle) -> None:
    bundle.running()
    for _ in range(2):
        ended = bundle.verb("delete", "--force", bundle.id)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert bundle.verb("delete", bundle.id).code == 1


def test_delete_removes_what_create_made(bundle: Bundle) -> None:
    bundle.running()
    with open(f"/proc/{bundle.state()['pid']}/cgroup") as file:
        groups = {line.split(":", 2)[2] for line in file.read().splitlines()}
    assert groups == {f"/dolium/{bundle.id}"}
    bundle.verb("delete", "-f", bundle.id)
    left = [where for where, names, _ in os.walk("/sys/fs/cgroup") if bundle.id in names]
    assert not left and os.listdir(bundle.root) == []


def test_state(bundle: Bundle) -> None:
    bundle.create(config(annotations={"a.b": "c"}))
    found = bundle.state()
    assert found["ociVersion"] and found["id"] == bundle.id and found["bundle"] == bundle.directory and found["annotations"] == {"a.b": "c"}
    assert found["status"] == "created" and os.path.exists(f"/proc/{found['pid']}")
    bundle.start()
    bundle.wait()
    assert bundle.state()["pid"] == 0
    ended = bundle.verb("state", "nobody")
    assert (ended.code, ended.out) == (1, "")


def test_a_changed_config_has_no_effect_after_create(bundle: Bundle) -> None:
    bundle.create(script("echo first"))
    bundle.write(script("echo second"))
    bundle.start()
    bundle.wait()
    assert bundle.read("out") == "first\n"
    os.unlink(f"{bundle.directory}/config.json")
    assert bundle.verb("delete", bundle.id).code == 0


def test_create_says_that_there_is_no_program(bundle: Bundle) -> None:
    """podman and docker make 127 of `no such file or directory`, 126 of `permission denied`."""
    assert "no such file or directory" in bundle.refused(config(process__args=["/nope"]))
    assert "no such file or directory (ENOENT) (it is in no directory of the container's PATH)" in bundle.refused(config(process__args=["nope"]))
    assert "permission denied" in bundle.refused(config(process__args=["/etc/passwd"]))
    assert "permission denied" in bundle.refused(config(process__args=["/etc"]))


def test_start_says_that_exec_failed(bundle: Bundle) -> None:
    with open(f"{bundle.rootfs}/broken", "w") as file:
        file.write("no program\n")
    os.chmod(f"{bundle.rootfs}/broken", 0o755)
    assert bundle.create(config(process__args=["/broken"])).code == 0
    ended = bundle.start()
    assert ended.code == 1 and "exec /broken" in ended.err and "ENOEXEC" in ended.err, ended
    bundle.wait()


def test_run_returns_the_exit_code(bundle: Bundle) -> None:
    bundle.write(script("echo out; echo err >&2; exit 7"))
    ended = bundle.verb("run", "--bundle", bundle.directory, bundle.id)
    assert (ended.code, ended.out, ended.err) == (7, "out\n", "err\n")
    assert bundle.status() == "gone"
    bundle.write(script("sleep 100 & kill -9 $!; wait $!"))
    assert bundle.verb("run", bundle.id, "-b", bundle.directory + "/").code == 137, "a flag after the id, as Slurm writes it"
    bundle.write(config(process__args=["/nope"]))
    ended = bundle.verb("run", "-b", bundle.directory, bundle.id)
    assert ended.code == 1 and bundle.status() == "gone"


def test_run_reads_and_forwards_signals(bundle: Bundle) -> None:
    bundle.write(script("trap 'echo term; exit 3' TERM; read line; echo got $line; while :; do sleep 0.05; done"))
    process = subprocess.Popen([bundle.runtime, "--root", bundle.root, "run", "-b", bundle.directory, bundle.id], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bundle.environment)
    assert process.stdin and process.stdout
    process.stdin.write("line\n")
    process.stdin.flush()
    assert process.stdout.readline() == "got line\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 3 and process.stdout.read() == "term\n"
    process.stdin.close()
    process.stdout.close()


def test_run_detached(bundle: Bundle) -> None:
    bundle.write(config(process__args=["sleep", "1000"]))
    with open("/dev/null", "r+") as null:
        ended = subprocess.run([bundle.runtime, "--root", bundle.root, "run", "--detach", "-b", bundle.directory, bundle.id], stdin=null,
                               stdout=null, stderr=null, env=bundle.environment, check=False)
    assert ended.returncode == 0 and bundle.status() == "running"


def test_pid_file(bundle: Bundle) -> None:
    bundle.create(config(), "--pid-file", f"{bundle.directory}/pid")
    assert int(bundle.read("pid")) == bundle.state()["pid"]


def test_the_first_process_falls_to_the_callers_subreaper(bundle: Bundle) -> None:
    """conmon and containerd's shim wait for it: this process is a subreaper, see leaks.adopt_orphans."""
    bundle.create(script("exit 9"))
    pid = bundle.state()["pid"]
    with open(f"/proc/{pid}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == os.getpid()
    bundle.start()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    bundle.wait()


@pytest.mark.parametrize("flags", [(), ("--log-format", "json"), ("--log-format=json",)])
def test_errors_go_to_the_log(bundle: Bundle, flags: tuple[str, ...]) -> None:
    bundle.write(config(process__args=["/nope"]))
    ended = bundle.verb("create", "--bundle", bundle.directory, bundle.id, options=("--log", f"{bundle.directory}/log", *flags))
    line = bundle.read("log")
    assert ended.code == 1 and line.count("\n") == 1 and "no such file or directory" in line
    if flags:
        entry = json.loads(line)
        assert entry["level"] == "error" and ended.err == f"error: {entry['msg']}\n" and entry["time"].endswith("Z")


def test_an_empty_environment_will_do(bundle: Bundle) -> None:
    """podman calls `kill` and `pause` without even a PATH."""
    bundle.running()
    ended = bundle.verb("kill", bundle.id, "9", env={"XDG_RUNTIME_DIR": ""})
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_closed_standard_descriptors_will_do(bundle: Bundle) -> None:
    bundle.write(script("ls -l /proc/self/fd | wc -l; echo done > /seen"))
    ended = subprocess.run(["/bin/sh", "-c", f'exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id} <&- >&- 2>&-'],
                           env=bundle.environment, check=False)
    assert ended.returncode == 0 and os.path.exists(f"{bundle.rootfs}/seen")


def test_preserve_fds(bundle: Bundle) -> None:
    """fd 3 is the program's, 4 is the caller's alone."""
    bundle.write(script("ls /proc/self/fd; cat <&3"))
    reading, writing = os.pipe()
    os.write(writing, b"through\n")
    os.close(writing)
    with open(f"{bundle.directory}/out", "w") as out:
        command = f'exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" --preserve-fds 1 {bundle.id} 3<&{reading} 4</etc/passwd'
        ended = subprocess.run(["/bin/bash", "-c", command], stdout=out, env=bundle.environment, pass_fds=(reading,), check=False)
    os.close(reading)
    assert ended.returncode == 0
    lines = bundle.read("out").split()
    assert lines == ["0", "1", "2", "3", "4", "through"], "4 is the directory that ls reads"


def test_listen_fds(bundle: Bundle) -> None:
    spec = script("echo $LISTEN_FDS $LISTEN_PID; cat <&3")
    bundle.write(spec)
    command = f'exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id} 3</etc/hostname'
    ended = subprocess.run(["/bin/bash", "-c", command], env={**bundle.environment, "LISTEN_FDS": "1"}, capture_output=True, text=True, check=False)
    assert ended.stdout.startswith("1 1\n") and len(ended.stdout) > 5, ended


def test_pause_and_resume(bundle: Bundle) -> None:
    bundle.running(script("while :; do echo x; sleep 0.01; done"))
    for verb, status in (("pause", "paused"), ("resume", "running")):
        ended = bundle.verb(verb, bundle.id)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
        assert bundle.status() == status
    bundle.verb("pause", bundle.id)
    size = len(bundle.read("out"))
    time.sleep(0.1)
    assert len(bundle.read("out")) == size
    assert bundle.verb("delete", "--force", bundle.id).code == 0, "a frozen one, too"


def test_without_pivot(bundle: Bundle) -> None:
    """--no-pivot: all that is to be seen is the rootfs, from within and for `exec`."""
    text = "ls -a /; cd ..; cd ../..; ls -a .; awk '$5 == \"/\"' /proc/self/mountinfo | wc -l"
    seen = bundle.output(script(text), "--no-pivot").splitlines()
    names = sorted([".", "..", *os.listdir(bundle.rootfs)])
    assert seen == [*names, *names, "1"]
    bundle.running(None, "--no-pivot")
    assert bundle.verb("exec", bundle.id, "ls", "-a", "/").out.splitlines() == names


def test_a_cgroup_manager_that_there_is_not(bundle: Bundle) -> None:
    said = bundle.verb("create", "-b", bundle.directory, bundle.id, options=("--cgroup-manager", "cgroup")).err
    assert said == "error: --cgroup-manager: expected cgroupfs, systemd or disabled, got `cgroup`\n"


@pytest.mark.parametrize("words", [("create",), ("nonsense",), ("kill", "x", "NOSIGNAL"), ("create", "--nonsense", "x"), ("state",),
                                   ("state", "a", "b"), ("list", "--format", "xml"), ("create", "--preserve-fds", "x", "y")])
def test_wrong_words(bundle: Bundle, words: tuple[str, ...]) -> None:
    ended = bundle.verb(*words)
    assert ended.code == 1 and ended.out == "" and ended.err.startswith("error: ") and ended.err.count("\n") == 1, ended


SYSTEMD = [("--systemd-cgroup",), ("--cgroup-manager", "systemd"), ("--cgroup-manager=systemd",)]


@pytest.mark.skipif(os.path.exists("/run/systemd/system"), reason="systemd runs here: test_systemd.py")
@pytest.mark.parametrize("options", SYSTEMD)
def test_where_there_is_no_systemd(bundle: Bundle, options: tuple[str, ...]) -> None:
    """The answer names what was asked for, and nothing is made; other verbs take the flag, as engines give it to all."""
    for text, words in (("machine.slice:libpod:abc", "--systemd-cgroup, libpod-abc.scope in machine.slice: "),
                        (None, f"dolium-{bundle.id}.scope in system.slice"), ("/a/b", "linux.cgroupsPath: expected SLICE:PREFIX:NAME")):
        bundle.write(config(linux__cgroupsPath=text))
        for verb in ("create", "run"):
            ended = bundle.verb(verb, "-b", bundle.directory, bundle.id, options=options)
            assert ended.code == 1 and words in ended.err, ended
            if text != "/a/b":
                assert "systemd is not running on this host (choose the cgroupfs driver" in ended.err
    assert "does not exist" in bundle.verb("state", bundle.id, options=options).err
    assert bundle.verb("delete", "--force", bundle.id, options=options).code == 0
    bundle.running()
    for verb in (("state", bundle.id), ("exec", bundle.id, "true"), ("kill", bundle.id, "KILL")):
        assert bundle.verb(*verb, options=options).code == 0


@pytest.mark.parametrize("delay", [0, 0.01, 0.03, 0.06, 0.1, 0.15])
def test_create_that_is_killed_is_cleaned_by_delete_force(bundle: Bundle, delay: float) -> None:
    bundle.write(config(process__args=["sleep", "1000"]))
    process = subprocess.Popen([bundle.runtime, "--root", bundle.root, "create", "-b", bundle.directory, bundle.id],
                               stdin=subprocess.DEVNULL, env=bundle.environment)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    assert bundle.status() == "gone" and not [where for where, names, _ in os.walk("/sys/fs/cgroup") if bundle.id in names]


def test_what_a_power_failure_leaves_is_cleaned_by_delete_force(bundle: Bundle) -> None:
    """State is not synced to a disk: where --root lies on one, a file that was new may be empty afterwards."""
    bundle.write(config())
    os.makedirs(f"{bundle.root}/{bundle.id}", 0o700)
    with open(f"{bundle.root}/{bundle.id}/state.json", "w"):
        pass
    assert bundle.verb("delete", bundle.id).code == 1
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    assert bundle.status() == "gone" and not os.path.exists(f"{bundle.root}/{bundle.id}")


def test_delete_of_one_that_has_processes_left(bundle: Bundle) -> None:
    """The first process has ended, with a process in the container's groups that is none of its namespace's."""
    bundle.running()
    with open(f"{bundle.root}/{bundle.id}/state.json") as file:
        group = next(iter(json.load(file)["groups"].values()))
    with subprocess.Popen(["sleep", "1000"]) as left:
        with open(f"{group}/cgroup.procs", "w") as file:
            file.write(str(left.pid))
        assert bundle.verb("kill", bundle.id, "KILL").code == 0
        wait_for(lambda: bundle.status() == "stopped")
        assert bundle.verb("delete", bundle.id).code == 0
        assert left.wait() == -9 and not os.path.exists(group)


def test_racing_starts_start_it_once(bundle: Bundle) -> None:
    bundle.create(script("echo once; sleep 1000"))
    command = [bundle.runtime, "--root", bundle.root, "start", bundle.id]
    racers = [subprocess.Popen(command, env=bundle.environment, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert sorted(each.wait() for each in racers) == [0, 1, 1, 1]
    wait_for(lambda: bundle.read("out") == "once\n")


def test_racing_deletes(bundle: Bundle) -> None:
    bundle.running()
    command = [bundle.runtime, "--root", bundle.root, "delete", "--force", bundle.id]
    racers = [subprocess.Popen(command, env=bundle.environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ends = [(each.communicate(timeout=60)[1], each.returncode) for each in racers]
    assert [code for _, code in ends] == [0] * 4, ends
    assert bundle.status() == "gone"


def test_one_that_goes_while_it_is_looked_at_is_not_found(bundle: Bundle) -> None:
    """Between the look at its state and the lock, as racing deletes do it."""
    bundle.running()
    container = state.find(bundle.root, bundle.id)
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    with pytest.raises(NotFound):
        container.lock()


def test_state_carries_its_format(bundle: Bundle) -> None:
    bundle.create(config())
    path = f"{bundle.root}/{bundle.id}/state.json"
    with open(path) as file:
        found = json.load(file)
    assert found["format"] == state.FORMAT
    with open(path, "w") as file:
        json.dump({**found, "format": 99}, file)
    with pytest.raises(DoliumError, match="not written by this version"):
        state.find(bundle.root, bundle.id)
    with open(path, "w") as file:
        json.dump(found, file)
    assert os.stat(bundle.root).st_mode & 0o077 == 0 and os.stat(os.path.dirname(path)).st_mode & 0o077 == 0


def test_a_pid_that_was_given_away_is_not_the_containers(bundle: Bundle) -> None:
    bundle.create(config())
    path = f"{bundle.root}/{bundle.id}/state.json"
    with open(path) as file:
        found = json.load(file)
    own = [os.getpid(), found["pid"][1], found["pid"][2]]
    pid, found["pid"] = found["pid"], own
    with open(path, "w") as file:
        json.dump(found, file)
    assert bundle.status() == "stopped"
    with open(path, "w") as file:
        json.dump({**found, "pid": pid}, file)
    assert bundle.status() == "created"


def test_a_container_without_groups(bundle: Bundle) -> None:
    """`podman run --cgroups=disabled`: only `create` is told."""
    bundle.write(config(process__args=["sleep", "1000"]))
    words = [bundle.runtime, "--root", bundle.root, "--cgroup-manager", "disabled", "create", "--bundle", bundle.directory, bundle.id]
    subprocess.run(words, env=bundle.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    assert bundle.start().code == 0 and bundle.status() == "running"
    paused = bundle.verb("pause", bundle.id)
    assert paused.code == 1 and "no group that could be frozen" in paused.err
    assert bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0
