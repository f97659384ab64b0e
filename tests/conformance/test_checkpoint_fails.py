"""`checkpoint` and `restore` that fail or are killed: what they say, and that nothing is left or lost."""

from __future__ import annotations

import os
import shutil
import time

import checkpoints
import pytest
from bundles import config, script
from checkpoints import COUNT, Taken, foreground

MISSING = checkpoints.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.mark.parametrize("why", ["process.noNewPrivileges", "linux.seccomp"])
def test_what_is_to_hold_it_holds_it_or_it_does_not_go_on(one: Taken, why: str) -> None:
    """criu before 3.19 forgets no_new_privs: restored so, a program could become more than it was."""
    one.run(script(COUNT, process__noNewPrivileges=False))
    one.counts(1)
    one.taken()
    last = one.last()
    spec = script(COUNT, process__noNewPrivileges=why == "process.noNewPrivileges")
    if why == "linux.seccomp":
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
    one.bundle.write(spec)
    ended = one.restore("--detach")
    assert ended.code == 1 and f"it has come back without {why} (criu before 3.19 forgets no_new_privs; or it was checkpointed without)" in ended.err, ended
    assert one.bundle.status() == "gone" and one.last() == last


def test_only_what_runs(one: Taken) -> None:
    assert one.bundle.create(config(process__args=["sleep", "1000"])).code == 0
    ended = one.checkpoint()
    assert ended.code == 1 and "created" in ended.err, ended
    assert one.bundle.status() == "created" and not os.path.exists(one.images)
    one.bundle.start()
    ended = one.bundle.verb("restore", "--image-path", one.bundle.directory, "--bundle", one.bundle.directory, one.bundle.id)
    assert ended.code == 1 and "exists" in ended.err, ended
    assert one.bundle.status() == "running"
    one.bundle.verb("kill", one.bundle.id, "KILL")
    one.bundle.wait()
    assert "stopped" in one.checkpoint().err


def test_a_failed_checkpoint_leaves_it_running(one: Taken) -> None:
    """The line is criu's own, and says where the others are."""
    with open(f"{one.bundle.directory}/outside", "w") as outside:
        pid = one.run(script(f"exec 7<&3; {COUNT}"), "--preserve-fds", "1", pass_fds=[3], preexec_fn=lambda: os.dup2(outside.fileno(), 3))
    ended = one.checkpoint()
    assert ended.code == 1 and ended.err.count("\n") == 1, ended
    assert ended.err.startswith("error: cannot checkpoint the container: criu: ") and f"{one.work}/dump.log" in ended.err, ended
    assert "mount=" in ended.err, "the reason, not its consequence"
    assert one.bundle.state()["pid"] == pid and one.bundle.status() == "running"
    one.counts(one.last())


@pytest.mark.parametrize("spoil", ["images", "none", "directory", "external.json", "descriptors.json"])
def test_a_failed_restore_leaves_nothing(one: Taken, spoil: str) -> None:
    one.run()
    one.taken()
    if spoil == "images":
        with open(f"{one.images}/core-1.img", "wb") as file:
            file.write(b"nothing")
    elif spoil == "none":
        for name in os.listdir(one.images):
            os.unlink(f"{one.images}/{name}")
    elif spoil == "directory":
        shutil.rmtree(one.images)
    else:
        with open(f"{one.images}/{spoil}", "w") as file:
            file.write('{"/data": 5}')
    ended = one.restore("--detach")
    assert ended.code == 1 and ended.err.startswith("error: ") and ended.err.count("\n") == 1, ended
    assert not spoil.endswith("json") or f"{spoil}` is not as `checkpoint` writes it" in ended.err
    assert one.bundle.status() == "gone"


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_delete_force_mends_what_a_kill_has_left(one: Taken, verb: str, delay: float) -> None:
    one.run()
    if verb == "restore":
        one.taken()
    words = ["--image-path", one.images, *(["--bundle", one.bundle.directory] if verb == "restore" else [])]
    process = foreground(one, verb, *words)
    time.sleep(delay)
    process.kill()
    process.wait()
    assert one.bundle.verb("delete", "--force", one.bundle.id).code == 0
    assert one.bundle.status() == "gone"
