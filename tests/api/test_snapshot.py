"""`Sandbox.snapshot`: the files of a box for other boxes; shared by nobody who writes, and gone when nobody needs them."""

import asyncio
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP, wait_for
from machine import Machine

import dolium
from dolium import aio
from dolium.engine import snapshots
from dolium.runtime import places

LIST = "cd /; find . -xdev ! -path './proc*' ! -path './dev*' ! -path './sys*' | sort; cat etc/note work/deep/file"
CHANGE = """set -e; echo first > /etc/note; mkdir -p /work/deep; echo data > /work/deep/file; chmod 2750 /work/deep; ln -s deep /work/link
ln /work/deep/file /work/hard; chmod 4755 /work/deep/file; mkfifo /work/fifo; rm -rf /home; touch -d @1000000000 /work/old"""


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    where = f"{places.data_path()}/snapshots"
    assert not os.path.isdir(where) or os.listdir(where) == []


@pytest.fixture(params=["@host", "a directory", "a tarball"])
def image(request: pytest.FixtureRequest) -> str:
    if request.param[0] == "@":
        return str(request.param)
    if os.geteuid():
        return str(request.getfixturevalue("own_alpine"))
    alpine: str = request.getfixturevalue("alpine")
    if request.param == "a directory":
        return alpine
    path = f"{request.getfixturevalue('folder')}/rootfs.tar"
    subprocess.run(["tar", "-C", alpine, "-cf", path, "."], check=True)
    return path


def test_others_see_the_files_and_their_own_changes_alone(image: str) -> None:
    with dolium.Sandbox(image=image) as box:
        box.run(["sh", "-c", CHANGE], check=True)
        with box.snapshot() as snap:
            assert snap.depth == 1 and "Snapshot" in repr(snap)
            box.write("/etc/note", "later")
            how = {"image": snap, "text": True, "check": True}
            seen = dolium.run(["sh", "-c", LIST], **how).stdout
            assert "./work/deep/file" in seen and "./home\n" not in seen and seen.endswith("first\ndata\n")
            stat = "stat -c '%a %u %g %h %Y %F' /work/deep /work/deep/file /work/hard /work/old /work/fifo; readlink /work/link"
            assert dolium.run(["sh", "-c", stat], **how).stdout.replace(" regular empty file", " regular file") == \
                box.run(["sh", "-c", stat], text=True).stdout.replace(" regular empty file", " regular file")  # fmt: skip
            dolium.run(["sh", "-c", "rm -r /work; echo other > /etc/note"], **how)
            with dolium.Sandbox(image=snap) as one, dolium.Sandbox(image=snap) as other:
                one.write("/etc/note", "one")
                assert (one.read("/etc/note"), other.read("/etc/note"), box.read("/etc/note")) == (b"one", b"first\n", b"later")
            with dolium.Pool(image=snap, size=2) as pool:
                assert pool.run(["cat", "/etc/note"], text=True).stdout == "first\n"
                with pool.take() as taken:
                    assert taken.read("/work/deep/file") == b"data\n"
            assert dolium.run(["sh", "-c", LIST], **how).stdout == seen


def test_names_of_the_container_are_its_own() -> None:
    with dolium.Sandbox() as box, box.snapshot() as snap:
        names = dolium.run(["sh", "-c", "hostname; cat /etc/hostname"], image=snap, text=True).stdout.split()
        assert names[0] == names[1] != box.id


def test_snapshots_of_snapshots(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "DEEPEST", 3)
    kept: list[dolium.Snapshot] = []
    try:
        before: Any = image
        for number in range(5):
            with dolium.Sandbox(image=before) as box:
                box.run(["sh", "-c", f"echo {number} > /n{number}; rm -f /n{number - 2}; echo {number} >> /all"], check=True)
                kept.append(box.snapshot())
                before = kept[-1]
        assert [each.depth for each in kept] == [1, 2, 3, 1, 2]  # the fourth would be too deep
        for number, snap in enumerate(kept):
            seen = dolium.run(["sh", "-c", "cd /; ls -d n?; tr -d '\\n' < all"], image=snap, text=True).stdout
            assert seen == "".join(f"n{each}\n" for each in (number - 1, number) if each >= 0) + "01234"[: number + 1]
        for each in kept[:-1]:
            each.close()
        assert dolium.run(["cat", "/all"], image=kept[-1], text=True).stdout == "0\n1\n2\n3\n4\n"  # it needs those below no less
    finally:
        for each in kept:
            each.close()


def test_it_is_refused_while_a_process_lives() -> None:
    with dolium.Sandbox() as box:
        process = box.popen(["sleep", "600"])
        with pytest.raises(dolium.StateError, match="running 1 process"):
            box.snapshot()
        process.kill()
        process.wait()
        box.run(["sh", "-c", "sleep 600 & echo started"])
        with pytest.raises(dolium.StateError):
            box.snapshot()
        box.run(["sh", "-c", "pkill sleep || kill $(pidof sleep)"])
        box.snapshot().close()
    with pytest.raises(dolium.StateError):
        box.snapshot()


def test_nothing_is_started_meanwhile() -> None:
    with dolium.Sandbox() as box:
        box.run(["sh", "-c", "for i in $(seq 400); do echo $i > /tmp/f$i; done"], check=True)
        refused, made = [], []
        thread = threading.Thread(target=lambda: made.append(box.snapshot()))
        thread.start()
        while thread.is_alive():
            try:
                box.run(["touch", "/tmp/late"])
            except dolium.StateError as error:
                refused.append(str(error))
        thread.join()
        assert not refused or "being copied" in refused[0]
        for snap in made:
            assert dolium.run(["sh", "-c", "ls /tmp | wc -l"], image=snap, text=True).stdout in ("400\n", "401\n")
            snap.close()


def test_it_stays_as_long_as_a_container_needs_it() -> None:
    with dolium.Sandbox() as box:
        box.write("/etc/note", "kept")
        snap = box.snapshot()
    with dolium.Sandbox(image=snap) as other:
        snap.close()
        snap.close()
        assert "closed" in repr(snap) and other.run(["cat", "/etc/note"], text=True).stdout == "kept"
        with pytest.raises(dolium.StateError, match="closed"):
            dolium.run(["true"], image=snap)
    dropped = dolium.Sandbox()
    dropped.snapshot()  # garbage at once
    dropped.close()
    with pytest.raises(dolium.UsageError):
        dolium.run(["true"], image=5)  # type: ignore[arg-type]


def test_a_forked_child_has_no_part_in_it() -> None:
    with dolium.Sandbox() as box, box.snapshot() as snap:
        child = os.fork()
        if not child:
            try:
                snap.close()
                dolium.run(["true"], image=snap)
            except dolium.DoliumError:
                os._exit(3)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert dolium.run(["true"], image=snap).exit_code == 0


@pytest.mark.needs_root
def test_owners_and_other_users() -> None:
    with dolium.Sandbox() as box:
        box.run(["sh", "-c", "touch /etc/theirs; chown 1234:56 /etc/theirs; echo secret > /root/key; chmod 600 /root/key"], check=True)
        with box.snapshot() as snap:
            assert dolium.run(["stat", "-c", "%u %g", "/etc/theirs"], image=snap, text=True).stdout == "1234 56\n"
            assert dolium.run(["cat", "/root/key"], image=snap, user="1234").exit_code == 1
            assert os.stat(f"{places.data_path()}/snapshots").st_mode & 0o777 == 0o700


def test_with_asyncio() -> None:
    async def main() -> None:
        async with aio.Sandbox() as box:
            await box.write("/etc/note", "x")
            with await box.snapshot() as snap:
                assert (await aio.run(["cat", "/etc/note"], image=snap, text=True)).stdout == "x"

    asyncio.run(main())


KILLED = """
import sys; sys.path.insert(0, SOURCE)
import dolium, time
box = dolium.Sandbox(); box.write("/etc/note", "x")
snap = box.snapshot()
other = dolium.Sandbox(image=snap)
assert dolium.run(["cat", "/etc/note"], image=snap).stdout == b"x"
print("go", flush=True); END
"""


@pytest.mark.parametrize("end", ["time.sleep(600)", "sys.exit(0)"])
@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_after_the_end_of_the_program(request: pytest.FixtureRequest, who: str, end: str) -> None:
    user: Callable[..., Any] = request.getfixturevalue(who)
    code = KILLED.replace("SOURCE", repr(f"{TOP}/src")).replace("END", end)
    with user.start(argv=[SYSTEM_PYTHON, "-c", code]) as process:  # type: ignore[attr-defined]
        assert process.stdout.readline() == b"go\n", process.stderr.read()
        if "sleep" in end:
            process.kill()
        process.wait(20 * SLOW)
    again = ("import sys, os; sys.path.insert(0, SOURCE); import dolium; from dolium.runtime import places; dolium.run(['true'])\n"
             "print(os.listdir(places.data_path() + '/snapshots'))").replace("SOURCE", repr(f"{TOP}/src"))  # fmt: skip
    wait_for(lambda: user(argv=[SYSTEM_PYTHON, "-c", again]).stdout == "[]\n")


HELD = """
import sys, time; sys.path.insert(0, SOURCE)
import dolium
with dolium.Sandbox() as box:
    box.run(["sh", "-c", "head -c 1000000 /dev/urandom > /x"], check=True)
    snap = box.snapshot()
print("go", flush=True); time.sleep(600)
"""


def test_what_a_killed_one_has_left_goes_with_prune_and_what_is_used_stays(machine: Machine) -> None:
    code = HELD.replace("SOURCE", repr(f"{TOP}/src"))
    one, other = (machine.start(argv=[*machine.enter, SYSTEM_PYTHON, "-c", code]) for _ in range(2))
    assert one.stdout and other.stdout and (one.stdout.readline(), other.stdout.readline()) == (b"go\n", b"go\n")
    where = f"/proc/{machine.holder.pid}/root/var/lib/dolium/snapshots"
    assert len(os.listdir(where)) == 2
    listed = machine("system", "reset", "--dry-run").stdout
    assert listed.count("would remove snapshot ") == 2 and listed.count("a program uses it (it runs)") == 2
    refused = machine("system", "reset")
    assert refused.code == 125 and "--force" in refused.stderr and len(os.listdir(where)) == 2
    one.kill()
    one.communicate()
    assert sorted(line.count("(it runs)") for line in machine("system", "reset", "--dry-run").stdout.splitlines() if "snapshot" in line) == [0, 1]
    pruned = machine("prune")
    said = re.fullmatch(r"dolium: (\d+)(\.\d)? KiB of snapshots freed, whose programs were killed\n", pruned.stderr)
    assert (pruned.code, pruned.stdout) == (0, "") and said and 976 <= int(said[1]) < 1024, pruned
    assert len(os.listdir(where)) == 1
    again = machine("prune")
    assert (again.code, again.stderr) == (0, "") and len(os.listdir(where)) == 1
    other.kill()
    other.communicate()
    assert machine("prune").code == 0 and os.listdir(where) == []
    assert "snapshot" not in machine("system", "reset", "--dry-run").stdout


def test_for_a_plain_user(plain: Callable[..., Any], own_alpine: str) -> None:
    code = """
import sys; sys.path.insert(0, SOURCE)
import dolium
for image in ("@host", ALPINE):
    with dolium.Sandbox(image=image) as box:
        box.run(["sh", "-c", "mkdir /w; echo x > /w/closed; ln -s closed /w/link; rm -rf /home"], check=True)
        with box.snapshot() as snap:
            print(dolium.run(["sh", "-c", "cat /w/link; ls -d /home || true"], image=snap, text=True, check=True).stdout)
            with dolium.Sandbox(image=snap) as other:
                other.write("/w/more", "y")
                with other.snapshot() as second:
                    print(dolium.run(["sh", "-c", "cat /w/link /w/more"], image=second, text=True, check=True).stdout)
        box.run(["chmod", "000", "/w/closed"], check=True)
        try: box.snapshot()
        except (dolium.DoliumError, OSError) as error: print("refused:", error)
"""
    ended = plain(argv=[SYSTEM_PYTHON, "-c", code.replace("SOURCE", repr(f"{TOP}/src")).replace("ALPINE", repr(own_alpine))])
    said = "refused: cannot unpack the snapshot: `w/closed`: Permission denied"
    assert ended.code == 0 and [each for each in ended.stdout.splitlines() if each] == ["x", "x", "y", said] * 2, ended
