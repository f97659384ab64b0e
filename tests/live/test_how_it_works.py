"""The ten programs of docs/how-it-works do what they say, for root and for a plain user, and the last one holds."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP, Dolium

HERE = Path(TOP, "docs/how-it-works")
STEPS = sorted(each.name for each in HERE.glob("step*.py"))
PLANS = [Path(TOP, "tests/golden", f"{each}.plan").read_text() for each in ("root-v2", "at-host", "plain-user-at-host", "kept")]


def run(name: str, user: Dolium, *words: str) -> subprocess.CompletedProcess[str]:
    who = {} if user.uid == os.geteuid() else {"user": user.uid, "group": user.uid, "extra_groups": []}
    return subprocess.run([SYSTEM_PYTHON, "-B", str(HERE / name), *words], env=user.environment, cwd="/", stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60 * SLOW, **who)  # type: ignore[call-overload,no-any-return]  # fmt: skip


def said(name: str, user: Dolium) -> tuple[list[str], list[str]]:
    """What it says before and after."""
    done = run(name, user)
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = done.stdout.splitlines()
    return [each[8:] for each in lines if each.startswith("before ")], [each[8:] for each in lines if each.startswith("after ")]


def test_there_are_ten_and_a_page_that_names_each() -> None:
    page = (HERE / "README.md").read_text()
    assert [re.match(r"step(\d\d)_", each)[1] for each in STEPS] == [f"{n:02}" for n in range(1, 11)]  # type: ignore[index]
    assert re.findall(r"^## \d+\. .*\[(\w+\.py)\]", page, re.M) == STEPS
    assert max(len((HERE / each).read_text().splitlines()) for each in STEPS) <= 90


@pytest.mark.parametrize("name", STEPS)
def test_the_words_are_those_of_the_plan(name: str) -> None:
    head = (HERE / name).read_text().split('"""')[1]
    words = re.findall(r"`([^`]+)`", head.partition("In `dolium explain`:")[2])
    assert words
    for each in words:
        word = each.replace("UID", "1000").replace("ID", "0123456789ab")
        assert any(f" {word}" in plan for plan in PLANS), word


def test_limits(root: Dolium) -> None:
    before, after = said(STEPS[0], root)
    assert any("how-it-works-" in each for each in after) and not any("how-it-works-" in each for each in before)
    assert after[-1] == "ended by signal 9"


def test_a_plain_user_is_told_that_there_are_no_limits(plain: Dolium) -> None:
    done = run(STEPS[0], plain)
    assert done.returncode == 0
    assert "limit   none: [Errno 13] Permission denied" in done.stdout or "ended by signal 9" in done.stdout


def test_mounts(user: Dolium) -> None:
    before, after = said(STEPS[1], user)
    assert before[0] != after[0]
    assert int(after[1].split()[-1]) == int(after[2].split()[-1]) + 1


def test_processes(user: Dolium) -> None:
    before, after = said(STEPS[2], user)
    assert len(before[1].split("NSpid:")[1].split()) == 1
    assert after[0] == "I am process 1" and after[1].split("NSpid:")[1].split()[1:] == ["1"]


def test_users(user: Dolium) -> None:
    _, after = said(STEPS[3], user)
    assert after[0].split()[1:] == (["0", "524288", "65536"] if user.uid == 0 else ["0", str(user.uid), "1"])
    assert after[1] == f"I am uid 0 inside; outside I am {524288 if user.uid == 0 else user.uid}"


def test_names(user: Dolium) -> None:
    before, after = said(STEPS[4], user)
    assert before[1] != after[0]
    assert after[1] == "I am on 'jar', with lo"
    assert before[0] != after[1]


def test_files(user: Dolium) -> None:
    _, after = said(STEPS[5], user)
    assert "'/mnt/usr'" in after[0] and "'usr'" in after[1] and "Read-only file system" in after[2]


def test_files_of_the_kernel(user: Dolium) -> None:
    before, after = said(STEPS[6], user)
    assert int(before[0].split()[2]) > 1 and after[0] == "/mnt/proc has 1 process"
    assert len(after[1].split(",")) == 10
    assert after[2] == "/mnt/proc/timer_list is ''"
    assert "Permission denied" in after[3] or "Read-only" in after[3]


def test_the_root(user: Dolium) -> None:
    before, after = said(STEPS[7], user)
    assert int(after[0].split()[0]) < int(before[0].split()[0]) and after[0].endswith("/home is False")
    assert "home" not in after[1]


def test_rights_are_those_that_dolium_leaves(user: Dolium) -> None:
    _, after = said(STEPS[8], user)
    theirs = [each.partition("  ")[2].split() for each in after]
    shown = user.output("@host", "cat", "/proc/self/status").splitlines()
    assert theirs == [each.split() for each in shown if each.startswith(("CapEff", "CapBnd", "NoNewPrivs"))]


LOOK = """\
id -u; hostname; cat /proc/self/status | grep -E '^(Seccomp|NSpid):'; env | sort; ls /proc/self/fd
for each in /home /etc/shadow /sys/kernel/security; do [ -s $each ] && echo "there $each"; done
mount -t tmpfs none /tmp 2>/dev/null && echo mounted; unshare -U true 2>/dev/null && echo unshared
mknod /tmp/disk b 8 0 2>/dev/null && echo disk; echo x 2>/dev/null >/proc/sys/kernel/hostname && echo named
touch /usr/mine 2>/dev/null && echo written; echo inside >/tmp/file && cat /tmp/file; exit 7
"""


def test_the_container(user: Dolium) -> None:
    done = run(STEPS[9], user, "sh", "-c", LOOK)
    assert done.returncode == 7, done
    lines = [each for each in done.stdout.splitlines() if not each.startswith(("limit ", "before ", "after "))]
    pid = lines.pop(2)
    assert pid.startswith("NSpid:") and len(pid.split()) == 2
    assert lines == ["0", "jar", "Seccomp:\t2", "HOME=/root", "HOSTNAME=jar", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                     *(["PWD=/"] if "PWD=/" in lines else []), "0", "1", "2", "3", "inside"]  # fmt: skip


def test_the_container_cannot_have_more_than_its_limits(root: Dolium) -> None:
    done = run(STEPS[9], root, "sh", "-c", "head -c 100m /dev/zero | tail -c 90m | wc -c")
    assert "94371840" not in done.stdout and (done.returncode == 256 - 9 or done.stdout.endswith("\n0\n")), done
    bomb = run(STEPS[9], root, "sh", "-c", "for i in $(seq 100); do sleep 1 & done; wait")
    assert "fork" in bomb.stderr.lower() or "resource" in bomb.stderr.lower(), bomb


def test_a_program_that_is_not_there_leaves_nothing(root: Dolium) -> None:
    done = run(STEPS[9], root, "no-such-program")
    assert done.returncode == 1 and "No such file or directory" in done.stderr
    made = re.findall(r"^limit   (\S+)/\S+ = ", done.stdout, re.M)
    assert made and not [each for each in made if os.path.exists(each)]
