"""What was written about containers, and what has happened to it meanwhile: a reboot, a full disk, another version, strangers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from containers import Ended, wait_for
from machine import Machine

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("nothing_left")]
WRITES = ("run", "-d", "--name", "x", "@host", "sh", "-c", "echo kept >>/tmp/f; sleep 1000")


def done(ended: Ended) -> str:
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


def error(ended: Ended, words: str, code: int) -> None:
    assert ended.code == code and ended.stderr.startswith("error: ") and words in ended.stderr, ended
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) <= 4, ended


def test_a_reboot(machine: Machine) -> None:
    """What ran has ended, with what it wrote; what had ended, has; what was to be removed, is; nothing but that is left."""
    done(machine(*WRITES))
    done(machine("run", "-d", "--rm", "--name", "gone", "@host", "sleep", "1000"))
    assert machine("run", "--name", "three", "@host", "sh", "-c", "exit 3").code == 3
    done(machine("run", "-d", "--name", "again", "@host", "sh", "-c", "test -e /tmp/f && exec sleep 1000; touch /tmp/f; exit 4"))
    done(machine("wait", "again"))
    done(machine("start", "again"))
    before = machine.rows()
    assert {*before} == {"x", "gone", "three", "again"}
    machine.reboot()
    rows = machine.rows()
    assert {name: (row["State"], row["ExitCode"]) for name, row in rows.items()} == {
        "x": ("exited", 255), "three": ("exited", 3), "again": ("exited", 255)}  # fmt: skip
    assert rows["three"]["FinishedAt"] == before["three"]["FinishedAt"] and rows["x"]["StartedAt"] == before["x"]["StartedAt"]
    assert machine("inspect", "-f", "{{.Dolium.Ended.Reason}}", "x").stdout == "the host went down\n"
    assert "the host went down, exit code 255" in machine("inspect", "--pretty", "x").stdout
    assert done(machine("wait", "x")) == "255\n" and machine("stop", "x").stdout == "x\n"
    done(machine("start", "x"))
    assert done(machine("exec", "x", "cat", "/tmp/f")) == "kept\nkept\n"
    machine.reboot()
    assert machine.rows()["x"]["ExitCode"] == 255
    assert sorted(done(machine("prune")).split()) == sorted(row["ID"] for row in rows.values()) and not machine.files()


@pytest.mark.parametrize("words", [("start", "x"), ("start", "-a", "x"), ("rm", "x"), ("rename", "x", "y"), ("prune",), ("wait", "x"),
                                   ("exec", "x", "true"), ("kill", "x"), ("logs", "x"), ("inspect", "x"), ("stop", "x")], ids=" ".join)  # fmt: skip
def test_the_first_command_after_a_reboot(machine: Machine, words: tuple[str, ...]) -> None:
    done(machine("run", "-d", "--name", "x", "@host", "sh", "-c", "test -e /tmp/f && exit 0; touch /tmp/f; exec sleep 1000"))
    while machine("exec", "x", "test", "-e", "/tmp/f").code:
        pass
    machine.reboot()
    ended = machine(*words)
    if words[0] in ("exec", "kill"):
        error(ended, "container `x` is exited, not running", 125 if words[0] == "exec" else 1)
    else:
        assert ended.code == 0, ended
    assert machine.is_true()


def test_what_is_written_in_run_has_gone(machine: Machine) -> None:
    """Not by a reboot: the container lives, and nobody knows of it any more.  It is not called one that never ran."""
    done(machine("run", "--name", "x", "@host", "true"))
    done(machine("start", "x"))
    done(machine("wait", "x"))
    os.unlink(f"{machine.root}/var/lib/dolium/containers/{machine.rows()['x']['ID']}/ended.json")
    assert machine.rows()["x"]["State"] == "exited"
    assert "is gone" in machine("inspect", "-f", "{{.Dolium.Ended.Reason}}", "x").stdout


# ---- a full disk

@pytest.fixture
def little(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """One whose /var/lib/dolium has 256 KiB."""
    found = Machine("256k")
    yield found
    found.close()


def fill(machine: Machine, directory: str) -> None:
    machine.sh(f"dd if=/dev/zero of={directory}/fill bs=4k 2>/dev/null; true")


FULL = {
    ("run", "--name", "y", "@host", "true"): 125, ("run", "-d", "--name", "y", "@host", "true"): 125,
    ("run", "--rm", "--name", "y", "@host", "true"): 125, ("start", "stopped"): None, ("start", "-a", "stopped"): None,
    ("stop", "x"): 0, ("kill", "x"): 0, ("rm", "stopped"): 0, ("rm", "-f", "x"): 0, ("exec", "x", "true"): 0,
    ("rename", "stopped", "y"): 125, ("prune",): 0, ("wait", "stopped"): 0, ("ps", "-a"): 0, ("inspect", "x"): 0, ("logs", "x"): 0,
}  # fmt: skip


@pytest.mark.parametrize("words", FULL, ids=" ".join)
def test_a_full_disk(little: Machine, words: tuple[str, ...]) -> None:
    """It works without writing, or says what is full and changes nothing."""
    done(little("run", "-d", "--name", "x", "@host", "sleep", "1000"))
    done(little("run", "--name", "stopped", "@host", "true"))
    before = little.rows()
    fill(little, "/var/lib/dolium")
    ended = little(*words)
    assert "Traceback" not in ended.stderr, ended
    wait_for(little.is_true)  # what was started ends at once
    if FULL[words] == 0:
        assert ended.code == 0, ended
    else:
        assert ended.code in (0, 1, 125), ended
        if ended.code:
            assert "No space left on device" in ended.stderr and "/var/lib/dolium" in ended.stderr, ended
        else:
            assert FULL[words] is None
    rows = little.rows()
    if words[0] == "run" or words[0] == "rename":
        assert {*rows} == {*before}, "nothing of it is left"
        assert {each for each in little.files() if "/names/" in each} == {"/var/lib/dolium/names/x", "/var/lib/dolium/names/stopped"}
    if words in (("stop", "x"), ("kill", "x")):
        assert rows["x"]["State"] == "exited" and rows["x"]["ExitCode"] == 137
    little.sh("rm /var/lib/dolium/fill")
    assert little.is_true()
    done(little("rm", "-f", *little.rows()))
    assert not little.files() or little("ps").code == 0 and not little.files()


@pytest.mark.parametrize("words", [("start", "stopped"), ("exec", "x", "true"), ("stop", "x"), ("rm", "-f", "x"), ("prune",)], ids=" ".join)
def test_a_full_run(machine: Machine, words: tuple[str, ...]) -> None:
    machine.sh("mkdir -p -m 700 /run/dolium && mount -t tmpfs -o size=64k,mode=700 run /run/dolium")
    done(machine("run", "-d", "--name", "x", "@host", "sleep", "1000"))
    done(machine("run", "--name", "stopped", "@host", "true"))
    fill(machine, "/run/dolium")
    ended = machine(*words)
    assert machine.is_true() and "Traceback" not in ended.stderr, ended
    if words[0] == "start":
        error(ended, "No space left on device", 125 if ended.code == 125 else 1)
        assert "/run/dolium" in ended.stderr and machine.rows()["stopped"]["State"] == "exited"
    else:
        assert ended.code == 0, ended
    machine.sh("rm /run/dolium/fill")
    assert machine.is_true()


# ---- strangers' writing

@pytest.fixture
def two(machine: Machine) -> tuple[Machine, str, str]:
    """Of two containers that have ended, `good` and `bad`: the machine, the directory of the bad one, its id."""
    for name in ("good", "bad"):
        done(machine("run", "--name", name, "@host", "true"))
    identity = machine.rows()["bad"]["ID"]
    return machine, f"{machine.root}/var/lib/dolium/containers/{identity}", identity


def put(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def changed(path: str, **fields: object) -> None:
    with open(path) as file:
        found = json.load(file)
    put(path, json.dumps(found | fields).encode())


def replaced(path: str, by: Callable[[str], object]) -> None:
    os.unlink(path)
    by(path)


DAMAGE: dict[str, Callable[[str], object]] = {
    "empty": lambda path: put(path, b""),
    "truncated": lambda path: os.truncate(path, 40),
    "not JSON": lambda path: put(path, b"\xff\xfe\x00"),
    "a list": lambda path: put(path, b"[]"),
    "deep": lambda path: put(path, b"[" * 100000),
    "no fields": lambda path: put(path, b'{"format": 1}'),
    "a later version": lambda path: changed(path, format=2),
    "a name that leads away": lambda path: changed(path, name="../../../../etc/passwd"),
    "no argv": lambda path: changed(path, options={}),
    "unknown options": lambda path: changed(path, options={"argv": ["true"], "__class__": "x", "later": 1}),
    "types": lambda path: changed(path, labels=[1], remove="yes"),
    "a symlink": lambda path: replaced(path, lambda path: os.symlink("/etc/passwd", path)),
    "a pipe": lambda path: replaced(path, os.mkfifo),
    "a directory": lambda path: replaced(path, os.mkdir),
}  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_config_that_cannot_be_read(two: tuple[Machine, str, str], how: str) -> None:
    """It is listed as dead, hinders no other, is removed only by who names it, and can do nothing else."""
    machine, directory, identity = two
    DAMAGE[how](f"{directory}/config.json")
    rows = machine.rows()
    assert (rows["good"]["State"], rows["bad"]["State"], rows["bad"]["ID"]) == ("exited", "dead", identity)
    assert "Dead" in machine("ps", "-a").stdout
    for words, code in ((("start", "bad"), 1), (("start", "-a", "bad"), 125), (("exec", "bad", "true"), 125), (("kill", "bad"), 1),
                        (("rename", "bad", "x"), 125)):  # fmt: skip
        error(machine(*words), "", code)
    found = json.loads(done(machine("inspect", identity)))[0]["State"]
    assert found["Dead"] and found["Status"] == "dead" and "config.json" in found["Error"]
    assert machine("inspect", "--pretty", "bad").code == 0
    ended = machine("prune")
    assert ended.code == 0 and identity not in ended.stdout and "bad stays" in ended.stderr, ended
    assert {*machine.rows()} == {"bad"}
    done(machine("rm", identity[:6]))
    assert not machine.files() and os.path.exists("/etc/passwd")


def test_an_empty_config_of_one_that_kept_nothing(machine: Machine) -> None:
    """The trace of one with --rm on a disk that lost power."""
    os.makedirs(f"{machine.root}/var/lib/dolium/containers/0123456789ab", 0o700)
    for each in ("/var/lib/dolium", "/var/lib/dolium/containers"):
        os.chmod(machine.root + each, 0o700)
    put(f"{machine.root}/var/lib/dolium/containers/0123456789ab/config.json", b"")
    assert machine.rows() == {} and not machine.files()


@pytest.mark.parametrize("how", ["empty", "truncated", "not JSON", "a symlink", "a later version"])
def test_an_end_that_cannot_be_read(two: tuple[Machine, str, str], how: str) -> None:
    machine, directory, _ = two
    DAMAGE[how](f"{directory}/ended.json")
    assert machine.rows()["bad"]["State"] == "exited"
    done(machine("start", "bad"))
    assert done(machine("wait", "bad")) == "0\n" and machine.rows()["bad"]["ExitCode"] == 0
    done(machine("rm", "bad", "good"))


@pytest.mark.parametrize("how", ["empty", "truncated", "a symlink", "a pipe", "a later version"])
def test_a_record_of_a_run_that_cannot_be_read(machine: Machine, how: str) -> None:
    """It may run, so nothing is done to it; the others are listed all the same, and the file is named."""
    done(machine("run", "--name", "good", "@host", "true"))
    identity = done(machine("run", "-d", "--name", "bad", "@host", "sleep", "1000")).strip()
    path = f"/run/dolium/running/{identity}.json"
    shutil.copy(machine.root + path, f"{machine.root}/run/saved")
    DAMAGE[how](machine.root + path)
    ended = machine("ps", "-a")
    assert ended.code == 1 and "good" in ended.stdout and path in ended.stderr, ended
    for words in (("start", "bad"), ("rm", "bad"), ("rm", "-f", "bad"), ("stop", "bad"), ("inspect", "bad")):
        error(machine(*words), path, 1)
    assert machine.lives(identity)
    os.unlink(machine.root + path)
    shutil.copy(f"{machine.root}/run/saved", machine.root + path)
    done(machine("rm", "-f", "bad"))


def test_things_in_its_directories_that_are_none_of_its(machine: Machine) -> None:
    done(machine("run", "--name", "x", "@host", "true"))
    data, state = f"{machine.root}/var/lib/dolium", f"{machine.root}/run/dolium"
    os.mkdir(f"{data}/containers/lost+found")
    put(f"{data}/containers/file", b"")
    put(f"{data}/names/plain", b"")
    os.mkdir(f"{data}/names/directory")
    os.symlink("/etc/passwd", f"{data}/names/away")
    os.symlink("/etc", f"{data}/containers/0123456789ab")
    put(f"{state}/leases/abc", b"\xff")
    os.mkdir(f"{state}/leases/77")
    os.symlink("/etc/passwd", f"{state}/leases/78")
    put(f"{state}/leases/79", b"nobody\n/etc/dolium-test\n\xff\n")
    put(f"{state}/running/stray", b"")
    assert {*machine.rows()} == {"x"}
    for name in ("plain", "directory"):
        error(machine("run", "--name", name, "@host", "true"), f"container `{name}` exists already", 125)
    for word in ("plain", "directory", "away", "lost+found", "file", "0123456789ab"):
        error(machine("inspect", word), "no container", 1)
    done(machine("start", "-a", "x"))
    assert os.path.exists(f"{data}/containers/lost+found") and os.path.exists("/etc/passwd") and os.listdir("/etc")
    shutil.rmtree(state + "/leases/77")


@pytest.mark.parametrize("directory", ["/run/dolium", "/run/dolium/leases", "/run/dolium/running", "/var/lib/dolium",
                                       "/var/lib/dolium/containers", "/var/lib/dolium/names"])  # fmt: skip
@pytest.mark.parametrize("how", ["mode", "owner", "a symlink"])
def test_directories_that_are_not_its_alone(machine: Machine, directory: str, how: str) -> None:
    done(machine("run", "--name", "x", "@host", "true"))
    path = machine.root + directory
    if how == "mode":
        os.chmod(path, 0o755)
    elif how == "owner":
        os.chown(path, 1000, 0)
    elif directory == "/var/lib/dolium":  # a mount point here
        pytest.skip("it cannot be moved away")
    else:
        os.rename(path, f"{path}.moved")
        os.symlink(f"{directory}.moved", path)
    for words in (("run", "@host", "true"), ("run", "--rm", "@host", "true"), ("start", "x"), ("ps",)):
        ended = machine(*words)
        if words == ("ps",) and directory.endswith("leases"):  # where nothing runs, there are none to look at
            continue
        error(ended, f"`{directory}` is not a directory of yours alone", 125 if words[0] != "start" else ended.code)
    if how == "mode":
        os.chmod(path, 0o700)
    elif how == "owner":
        os.chown(path, 0, 0)
    else:
        os.unlink(path)
        os.rename(f"{path}.moved", path)
    done(machine("rm", "x"))
