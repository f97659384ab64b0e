"""dolium-verbs (init/verbs.c): the usual `start`, `state`, `kill` and `delete` without Python, and all else left to Python as it was.

Every other test of this directory calls dolium-oci as it is installed, and so by way of dolium-verbs."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import PYTHON, PYTHON_ALONE, RUNTIME, Bundle, call, config, script, wait_for, without_python
from containers import TOP

from dolium.core import document
from dolium.runtime import state


@pytest.fixture
def alone(folder: str) -> str:
    return without_python(folder)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Writes the state of a container of which there is no more than that; its root."""

    def write(identity: str = "c", **changes: Any) -> str:
        fields = {"id": identity, "bundle": "/b", "annotations": {}, "status": "started", "pid": None,
                  "created": "2026-01-02T03:04:05Z", "owner": 0, "maker": list(state.identify(os.getpid())), "groups": {},
                  "rootfs": "/b/rootfs", "hooks": [], "versions": {}, **changes}  # fmt: skip
        (tmp_path / identity).mkdir()
        (tmp_path / identity / "state.json").write_text(document.write({"format": 1, **fields}))
        return str(tmp_path)

    yield write


def tree(top: str) -> dict[str, bytes]:
    return {str(each): each.read_bytes() if each.is_file() else b"" for each in sorted(Path(top).rglob("*"))}


@pytest.mark.parametrize("options", [(), ("--log", "/dev/null", "--log-format", "json", "--systemd-cgroup"), ("--debug", "--log-format=text")],
                         ids=["podman", "containerd", "people"])
def test_the_usual_calls_need_no_python(bundle: Bundle, alone: str, options: tuple[str, ...]) -> None:
    assert bundle.create(script("echo on; trap 'exit 0' USR1; while :; do sleep 0.01; done")).code == 0
    words = [*options, f"--root={bundle.root}"]
    created = call(alone, *words, "state", bundle.id)
    assert json.loads(created[1])["status"] == "created" and created == call(PYTHON_ALONE, *words, "state", bundle.id)
    assert call(alone, *words, "start", bundle.id) == (0, "", "")
    running = call(alone, *words, "state", bundle.id)
    assert json.loads(running[1])["status"] == "running" and running == call(PYTHON_ALONE, *words, "state", bundle.id)
    wait_for(lambda: bundle.read("out") == "on\n")
    assert call(alone, *words, "kill", bundle.id, "SIGUSR1") == (0, "", "")
    bundle.wait()
    stopped = call(alone, *words, "state", bundle.id)
    assert stopped == call(PYTHON_ALONE, *words, "state", bundle.id)
    for _ in "once", "again":
        assert call(alone, *words, "delete", "--force", bundle.id) == (0, "", "")
    assert os.listdir(bundle.root) == []


def test_what_it_keeps_is_what_python_keeps(bundle: Bundle, alone: str) -> None:
    """The state that `start` leaves, to the letter."""
    left = []
    for program in (alone, PYTHON_ALONE):
        assert bundle.create(config(process__args=["sleep", "1000"])).code == 0
        before = Path(bundle.root, bundle.id, "state.json").read_text()
        assert call(program, "--root", bundle.root, "start", bundle.id) == (0, "", "")
        after = Path(bundle.root, bundle.id, "state.json").read_text()
        left.append((sorted(os.listdir(f"{bundle.root}/{bundle.id}")), after == before.replace('"created",', '"started",', 1)))
        bundle.close()
    assert left[0] == left[1] and left[0][1]


def test_why_a_program_could_not_be_started_is_said_by_python(bundle: Bundle) -> None:
    """Between `create` and `start` it has gone."""
    said = []
    for program in (RUNTIME, PYTHON_ALONE):
        bundle.write(config(process__args=["/bin/gone"]))
        shutil.copy(f"{bundle.rootfs}/bin/busybox", f"{bundle.rootfs}/bin/gone")
        assert bundle.create().code == 0
        os.unlink(f"{bundle.rootfs}/bin/gone")
        said.append(call(program, "--root", bundle.root, "start", bundle.id))
        assert bundle.status() == "stopped" and not os.path.exists(f"{bundle.root}/{bundle.id}/answer")
        bundle.close()
    assert said[0] == said[1] and said[0][0] == 1 and "/bin/gone" in said[0][2], said


UNUSUAL: "dict[str, tuple[list[str], dict[str, Any]]]" = {
    "a verb of Python's": (["pause", "c"], {}),
    "exec": (["exec", "c", "true"], {}),
    "no verb": ([], {}),
    "help": (["--help"], {}),
    "no id": (["state"], {}),
    "a word too many": (["state", "c", "d"], {}),
    "an id that is a path": (["state", "../c"], {}),
    "an id that is hidden": (["delete", "--force", ".c"], {}),
    "nobody": (["delete", "d"], {}),
    "a flag": (["delete", "--regex", "c"], {}),
    "a flag with a value": (["delete", "--force=false", "c"], {}),
    "a flag of another verb": (["state", "--force", "c"], {}),
    "all": (["kill", "--all", "c", "9"], {}),
    "a signal of no name": (["kill", "c", "NONE"], {}),
    "a signal of no number": (["kill", "c", "65"], {}),
    "a signal to what has ended": (["kill", "c", "9"], {}),
    "a log of another format": (["--log-format", "xml", "state", "c"], {}),
    "a value that is missing": (["state", "c", "--root"], {}),
    "rootless": (["--rootless", "true", "state", "c"], {}),
    "a start of what has started": (["start", "c"], {}),
    "a start of what has ended": (["start", "c"], {"status": "created"}),
    "a signal to what is being made": (["kill", "c", "0"], {"status": "creating", "pid": state.identify(os.getpid())}),
    "hooks after the end": (["delete", "c"], {"hooks": ["poststart", "poststop"]}),
    "a unit of systemd's": (["delete", "c"], {"unit": "c.scope"}),
    "one that is being made": (["state", "c"], {"status": "creating"}),
    "one that was being made": (["delete", "c"], {"status": "creating"}),
    "an escape in what is shown": (["delete", "c"], {"groups": {"unified": "/\u00e9"}}),
    "a process in its group": (["delete", "c"], {"groups": {"unified": "/proc"}}),
    "another version": (["state", "c"], {"format": 2}),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_left_to_python(alone: str, made: Callable[..., str], name: str) -> None:
    """With all its words, and with all that is there as it was."""
    words, changes = UNUSUAL[name]
    top = made(**changes)
    before = tree(top)
    seen = tempfile.mktemp(dir=os.path.dirname(alone))
    assert call(alone, "--root", top, *words, SEEN=seen) == (PYTHON, "", "")
    assert Path(seen).read_text() == "".join(f"{each}\n" for each in ("--root", top, *words))
    assert tree(top) == before


def test_notify_socket_and_the_root_of_others_are_left_to_python(bundle: Bundle, alone: str) -> None:
    assert bundle.create(config()).code == 0
    assert call(alone, "--root", bundle.root, "start", bundle.id, NOTIFY_SOCKET="/run/systemd/notify")[0] == PYTHON
    assert bundle.status() == "created"
    other = subprocess.run([alone, "state", "c"], user=65534, check=False)
    assert other.returncode == PYTHON
    below = subprocess.run(["unshare", "--user", "--map-root-user", alone, "state", "c"], user=65534, check=False)
    assert below.returncode == PYTHON, "root of a user namespace has no /run of its own"


def test_one_that_another_verb_holds_is_left_to_python(bundle: Bundle, alone: str) -> None:
    assert bundle.create(config()).code == 0
    container = state.find(bundle.root, bundle.id)
    container.lock()
    try:
        for words in (["start"], ["delete", "--force"]):
            assert call(alone, "--root", bundle.root, *words, bundle.id)[0] == PYTHON, words
        assert call(alone, "--root", bundle.root, "state", bundle.id)[0] == 0, "who only looks waits for nobody"
    finally:
        container.unlock()


def test_a_pid_is_not_enough(alone: str, made: Callable[..., str]) -> None:
    """The number of a process that lives, but started at another time, or before the machine did."""
    pid, started, boot = state.identify(os.getpid())
    for identity, found in (("later", [pid, started + 1, boot]), ("before", [pid, started, "0" * len(boot)])):
        top = made(identity, pid=found)
        assert call(alone, "--root", top, "kill", identity, "9")[0] == PYTHON
        assert json.loads(call(alone, "--root", top, "state", identity)[1])["status"] == "stopped"
    top = made("now", pid=[pid, started, boot])
    assert json.loads(call(alone, "--root", top, "state", "now")[1])["pid"] == pid
    assert call(alone, "--root", top, "delete", "--force", "now")[0] == PYTHON


def test_a_paused_one(bundle: Bundle, alone: str) -> None:
    bundle.running()
    words = ["--root", bundle.root]
    assert bundle.verb("pause", bundle.id).code == 0
    paused = call(alone, *words, "state", bundle.id)
    assert json.loads(paused[1])["status"] == "paused" and paused == call(PYTHON_ALONE, *words, "state", bundle.id)
    assert call(alone, *words, "kill", bundle.id, "KILL")[0] == PYTHON, "it must be let go first"
    assert bundle.status() == "paused"


def test_one_that_is_paused_before_it_is_started(bundle: Bundle, alone: str) -> None:
    """`start` would wait for its answer, and every other verb for `start`."""
    bundle.create(config(process__args=["sleep", "1000"]))
    words = ["--root", bundle.root]
    assert bundle.verb("pause", bundle.id).code == 0
    paused = call(alone, *words, "state", bundle.id)
    assert json.loads(paused[1])["status"] == "paused" and paused == call(PYTHON_ALONE, *words, "state", bundle.id)
    assert call(alone, *words, "start", bundle.id)[0] == PYTHON
    assert "is paused, not created" in bundle.start().err
    assert bundle.verb("resume", bundle.id).code == 0 and bundle.status() == "created"
    assert bundle.start().code == 0 and bundle.status() == "running"


def test_without_python_behind_it(folder: str) -> None:
    shutil.copytree(f"{TOP}/.build/oci/bin", f"{folder}/bin")
    code, out, err = call(f"{folder}/bin/dolium-oci", "features")
    assert (code, out, err) == (1, "", "error: the Python program of dolium-oci cannot be run: install Dolium again\n")


def test_closed_descriptors(alone: str, made: Callable[..., str]) -> None:
    """What it opens must not become somebody's standard output."""
    top = made()
    done = subprocess.run(["sh", "-c", 'exec "$0" --root "$1" delete c <&- >&- 2>&-', alone, top], check=False)
    assert done.returncode == 0 and os.listdir(top) == []


TEXTS = ["", "plain", "a/b.c", 'quoted " and \\', "\u00fcber", "\ud83d\ude00", "tab\t", "[{", "}]", ":,", "null", '"state":"x"']


@pytest.mark.parametrize("seed", range(8))
def test_it_shows_what_python_shows(alone: str, made: Callable[..., str], seed: int) -> None:
    chance = random.Random(seed)
    mine = state.identify(os.getpid())
    for index in range(12):
        text = [chance.choice(TEXTS) for _ in range(6)]
        top = made(f"c{index}", bundle=f"/{text[0]}", annotations={text[1]: text[2], text[3]: text[4]}, rootfs=text[5],
                   pid=chance.choice([None, mine, [*mine[:2], "x"], [1, 5, mine[2]]]), owner=chance.choice([0, 1000]),
                   status=chance.choice(["created", "started"]), hooks=chance.choice([[], ["prestart"]]),
                   groups=chance.choice([{}, {"freezer": "/nowhere"}, {"unified": "/nowhere"}]),
                   versions=chance.choice([{}, {"freezer": 1}, {"freezer": 2}]))  # fmt: skip
        shown = call(alone, "--root", top, "state", f"c{index}")
        assert shown == call(PYTHON_ALONE, "--root", top, "state", f"c{index}"), Path(top, f"c{index}/state.json").read_text()


@pytest.fixture(scope="module")
def sanitized() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="dolium-test-") as directory:
        yield without_python(directory, sanitized=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_state_that_makes_no_sense(sanitized: str, made: Callable[..., str], seed: int) -> None:
    """Cut off, with bytes changed or said twice: it is left to Python, or read as it is; nothing else."""
    chance = random.Random(seed)
    top = made(pid=list(state.identify(os.getpid())), annotations={"a": "b"}, groups={"unified": "/nowhere"}, versions={"unified": 2})
    path = Path(top, "c/state.json")
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                del data[at:]
            case 1:
                data[at] = chance.choice(b'\0"\\{}[],:09a\xff')
            case 2:
                data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(40)]
            case 3:
                del data[at : at + chance.randrange(1, 40)]
        path.write_bytes(data)
        for words in (["state"], ["kill", "CONT"], ["start"]):
            code, _, err = call(sanitized, "--root", top, words[0], "c", *words[1:])
            assert code in (0, PYTHON) and not err, (data, words, code, err)
    for size in (65534, 65535, 65536, 70000):
        path.write_bytes(whole[:-1] + b',"x":"' + b"a" * (size - len(whole) - 7) + b'"}')
        assert call(sanitized, "--root", top, "state", "c")[0] == (0 if size < 65535 else PYTHON)
    assert call(sanitized, "--root", "/" + "a/" * 4000, "state", "c")[0] == PYTHON
    assert call(sanitized, "--root", top, "kill", "c", "9" * 5000)[0] == PYTHON
