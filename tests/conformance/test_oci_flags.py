"""Flags that few engines give, each with what it does; each test is named after its rule."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from select import POLLIN, poll

import pytest
from bundles import Bundle, config, script, wait_for
from test_console import listening, taken


def is_pidfd_of(fd: int, pid: int) -> bool:
    with open(f"/proc/self/fdinfo/{fd}") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["Pid"]) == pid


def test_pidfd_socket(bundle: Bundle) -> None:
    """As runc 1.2 has it: a pidfd of the first process, and its end is seen through it."""
    with listening(f"{bundle.directory}/pidfd") as server:
        assert bundle.create(config(), "--pidfd-socket", f"{bundle.directory}/pidfd").code == 0
        fd = taken(server)
    assert is_pidfd_of(fd, bundle.state()["pid"])
    bundle.start()
    waiting = poll()
    waiting.register(fd, POLLIN)
    assert waiting.poll(20_000)
    os.close(fd)


@pytest.mark.parametrize("detach", [("--detach",), ()])
def test_pidfd_socket_of_exec(bundle: Bundle, detach: tuple[str, ...]) -> None:
    bundle.running()
    with listening(f"{bundle.directory}/pidfd") as server:
        ended = bundle.verb("exec", "--pidfd-socket", f"{bundle.directory}/pidfd", "--pid-file", f"{bundle.directory}/pid", *detach, bundle.id, "true")
        assert ended.code == 0, ended
        fd = taken(server)
    assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[pidfd]"
    assert not detach or is_pidfd_of(fd, int(bundle.read("pid")))
    os.close(fd)


def test_pidfd_socket_of_run(bundle: Bundle) -> None:
    bundle.write(script("exit 3"))
    with listening(f"{bundle.directory}/pidfd") as server:
        assert bundle.verb("run", "--pidfd-socket", f"{bundle.directory}/pidfd", "-b", bundle.directory, bundle.id).code == 3
        os.close(taken(server))


def test_a_pidfd_socket_on_which_nobody_listens(bundle: Bundle) -> None:
    assert "--pidfd-socket: `" in bundle.refused(config(), "--pidfd-socket", f"{bundle.directory}/none")
    bundle.running()
    ended = bundle.verb("exec", "--pidfd-socket", f"{bundle.directory}/none", bundle.id, "touch", "/ran")
    assert ended.code == 255 and "--pidfd-socket" in ended.err and not os.path.exists(f"{bundle.rootfs}/ran")


def test_no_subreaper_changes_nothing(bundle: Bundle) -> None:
    """Nobody of ours is ever a subreaper: an orphan of the container is its first process's, and ends with it."""
    bundle.write(script("(sleep 1000 &) ; exit 4"))
    assert bundle.verb("run", "--no-subreaper", "-b", bundle.directory, bundle.id).code == 4
    bundle.running()
    assert bundle.verb("exec", "--no-subreaper", bundle.id, "true").code == 0


@pytest.mark.parametrize("detach", [("--detach",), ()])
def test_ignore_paused(bundle: Bundle, detach: tuple[str, ...]) -> None:
    """exec in a paused container is refused; with the flag it waits until the container goes on."""
    bundle.running()
    bundle.verb("pause", bundle.id)
    assert "is paused, not running" in bundle.verb("exec", bundle.id, "true").err
    command = [bundle.runtime, "--root", bundle.root, "exec", "--ignore-paused", *detach, bundle.id, "sh", "-c", "echo ran >/ran; exit 5"]
    with subprocess.Popen(command, env=bundle.environment) as process:
        time.sleep(0.3)
        assert process.poll() is None and not os.path.exists(f"{bundle.rootfs}/ran") and bundle.status() == "paused"
        assert bundle.verb("resume", bundle.id).code == 0
        assert process.wait(20) == (0 if detach else 5)
    wait_for(lambda: os.path.exists(f"{bundle.rootfs}/ran"))
    wait_for(lambda: len(json.loads(bundle.verb("ps", "--format", "json", bundle.id).out)) == 1)


def test_regex(bundle: Bundle) -> None:
    """As crun has it: all containers in whose id the expression is found."""
    bundle.write(config(process__args=["sleep", "1000"]))
    names = [f"{bundle.id}-{letter}" for letter in "abx"]
    with open("/dev/null", "r+") as null:
        for name in names:
            subprocess.run([bundle.runtime, "--root", bundle.root, "run", "-d", "-b", bundle.directory, name], stdin=null, stdout=null, stderr=null,
                           env=bundle.environment, check=True)
    assert bundle.verb("kill", "--regex", "[ab]$", "KILL").code == 0
    found = wait_for(lambda: [each["status"] for each in json.loads(bundle.verb("list", "--format", "json").out)] == ["stopped", "stopped", "running"])
    assert found
    assert "is running, not stopped" in bundle.verb("delete", "--regex", "[abx]$").err
    assert bundle.verb("list", "-q").out == names[2] + "\n"
    assert bundle.verb("delete", "--force", "--regex", bundle.id).code == 0 and bundle.verb("list", "-q").out == ""
    assert bundle.verb("delete", "--regex", "nobody").code == 0
    assert "--regex" in bundle.verb("kill", "--regex", "(").err


def test_config_is_another_file(bundle: Bundle) -> None:
    """As crun has it; what is relative in it starts from the bundle all the same."""
    with open(f"{bundle.directory}/other.json", "w") as file:
        json.dump(script("echo other"), file)
    assert bundle.output("nonsense", "--config", f"{bundle.directory}/other.json") == "other\n"
    assert "none.json" in bundle.refused(config(), "--config", f"{bundle.directory}/none.json")


@pytest.mark.parametrize("words", [("-f", "json"), ("--format", "json"), ("--format=json",), ("-f=json",), ("-format=json",)], ids=" ".join)
def test_f_of_list_and_ps_is_the_format(bundle: Bundle, words: tuple[str, ...]) -> None:
    """As runc's short flags have it; of delete it is --force, of create and run (crun) another config."""
    pid = bundle.running()
    assert json.loads(bundle.verb("list", *words).out)[0]["id"] == bundle.id
    assert json.loads(bundle.verb("ps", *words, bundle.id).out) == json.loads(bundle.verb("ps", bundle.id, *words).out) == [pid]
    assert bundle.verb("delete", "-f", bundle.id).code == 0
    with open(f"{bundle.directory}/other.json", "w") as file:
        json.dump(script("echo other"), file)
    assert bundle.verb("run", "-b", bundle.directory, "-f", f"{bundle.directory}/other.json", bundle.id).out == "other\n"


def test_help(bundle: Bundle) -> None:
    """In the ways that runc has it."""
    for words in (("--help",), ("-h",), ("help",)):
        ended = bundle.verb(*words)
        assert ended.code == 0 and "checkpoint" in ended.out, words
    for words in (("run", "--help"), ("run", "-h"), ("help", "run"), ("--help", "run")):
        ended = bundle.verb(*words)
        assert ended.code == 0 and ended.out.startswith("Usage: dolium-oci run "), words


class Systemd:
    """Listens as systemd does for a unit of Type=notify."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(20)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def is_silent(self) -> bool:
        waiting = poll()
        waiting.register(self.socket, POLLIN)
        return not waiting.poll(0)


def speak(bundle: Bundle, *words: str) -> None:
    """From the host, by the file that the container sees: what a program in it would say."""
    path = f"{bundle.root}/{bundle.id}/notify/notify.sock"
    wait_for(lambda: os.path.exists(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.connect(path)
        for word in words:
            speaker.send(word.encode())


@pytest.mark.parametrize("abstract", [False, True])
def test_notify_socket(bundle: Bundle, abstract: bool) -> None:
    """sd_notify(3): `start` waits until the program is ready, and says which process it is; no other word passes."""
    systemd = Systemd(f"\0{bundle.id}" if abstract else f"{bundle.directory}/systemd")
    env = {**bundle.environment, "NOTIFY_SOCKET": f"@{bundle.id}" if abstract else f"{bundle.directory}/systemd"}
    assert bundle.create(script("echo $NOTIFY_SOCKET; exec sleep 1000"), env=env).code == 0
    with subprocess.Popen([bundle.runtime, "--root", bundle.root, "start", bundle.id], env=env) as start:
        wait_for(lambda: bundle.read("out") == "/run/notify/notify.sock\n")
        assert bundle.status() == "running" and start.poll() is None, "it waits; other verbs do not"
        there = wait_for(lambda: bundle.verb("exec", bundle.id, "sh", "-c", 'test -S "$NOTIFY_SOCKET" && stat -c %a "$NOTIFY_SOCKET"').out)
        assert there == "666\n"
        speak(bundle, "MAINPID=1\nFDSTORE=1", "STATUS=on the way", "READY=1\nSTATUS=up\nX=y")
        assert start.wait(20) == 0
    assert systemd.heard() == ["STATUS=on the way"]
    assert systemd.heard() == ["READY=1", "STATUS=up", f"MAINPID={bundle.state()['pid']}"]
    systemd.socket.close()
    assert bundle.verb("delete", "--force", bundle.id).code == 0 and os.listdir(bundle.root) == []


def test_start_does_not_wait_for_one_that_has_ended(bundle: Bundle) -> None:
    systemd = Systemd(f"{bundle.directory}/systemd")
    env = {**bundle.environment, "NOTIFY_SOCKET": f"{bundle.directory}/systemd"}
    assert bundle.create(config(), env=env).code == 0
    assert bundle.verb("start", bundle.id, env=env).code == 0
    assert systemd.is_silent()
    systemd.socket.close()


def test_run_in_the_foreground_passes_on_all_the_time(bundle: Bundle) -> None:
    systemd = Systemd(f"{bundle.directory}/systemd")
    bundle.write(config(process__args=["sleep", "1000"]))
    env = {**bundle.environment, "NOTIFY_SOCKET": f"{bundle.directory}/systemd"}
    with subprocess.Popen([bundle.runtime, "--root", bundle.root, "run", "-b", bundle.directory, bundle.id], env=env) as run:
        speak(bundle, "READY=1")
        assert systemd.heard() == ["READY=1", f"MAINPID={bundle.state()['pid']}"]
        speak(bundle, "WATCHDOG=1")
        assert systemd.heard() == ["WATCHDOG=1"]
        bundle.verb("kill", bundle.id, "KILL")
        assert run.wait(20) == 137
    systemd.socket.close()


def test_a_notify_socket_that_is_no_address(bundle: Bundle) -> None:
    bundle.write(config())
    ended = bundle.verb("create", "-b", bundle.directory, bundle.id, env={**bundle.environment, "NOTIFY_SOCKET": "relative"})
    assert ended.code == 1 and "NOTIFY_SOCKET: expected an absolute path" in ended.err


@pytest.mark.parametrize(("verb", "kind"), [("create", "json"), ("run", "text"), ("run -d", "json")])
def test_capabilities_that_are_left_out_are_in_the_log(bundle: Bundle, verb: str, kind: str) -> None:
    """runtime-spec: "Any value which cannot be mapped to a relevant kernel interface ... MUST be logged as a warning"."""
    spec = config(process__capabilities={each: ["CAP_CHOWN", "CAP_NONSENSE"] for each in ("bounding", "effective", "permitted")})
    bundle.write(spec)
    log = f"{bundle.directory}/log"
    argv = [bundle.runtime, "--root", bundle.root, "--log", log, "--log-format", kind, *verb.split(), "-b", bundle.directory, bundle.id]
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=bundle.environment, check=True)
    line = bundle.read("log")
    assert line.count("\n") == 1 and "CAP_NONSENSE" in line and "CAP_CHOWN" not in line
    assert json.loads(line)["level"] == "warning" if kind == "json" else " level=warning " in line
