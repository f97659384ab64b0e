"""`dolium explain --sh`: what it prints is run, and makes what `dolium run` with the same words makes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from containers import NOBODY, SLOW, Dolium
from networks import Site

LOOK = """\
id -u; id -G; hostname; echo $$; umask; pwd; ulimit -n; tr '\\0' '\\n' < /proc/self/environ | grep -v -e PWD -e SHLVL -e _= | sort
grep -E '^(CapBnd|CapEff|CapInh|NoNewPrivs)' /proc/self/status; cut -d: -f2- /proc/self/cgroup | sort; ls -a / /dev /proc/self/ns
awk '{print $5}' /proc/self/mountinfo | sort | uniq; cat /etc/hosts; cat /sys/class/net/lo/flags; set -- /proc/[0-9]*; echo $#
echo a > /proc/sys/kernel/hostname; touch /dev/null/x; cat /proc/timer_list; exit 3
"""
WORDS = ("--rm", "--network", "none", "--hostname", "box", "--ulimit", "nofile=50:60", "-e", "GREETING=it's $HOME", "--tmpfs",
         "/scratch:size=1m")  # fmt: skip


def by_hand(script: str, argv: tuple[str, ...] = (), **how: object) -> subprocess.CompletedProcess[str]:
    """Run it; what hangs is killed with all that it has started, which has no other session."""
    command = [*argv, "timeout", "-k", "1", str(int(20 * SLOW)), "bash", "-c", script]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **how)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def tools() -> None:
    for each in ("bash", "unshare", "setpriv", "nsenter", "ip", "hostname"):
        if not shutil.which(each, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            pytest.skip(f"no {each} here")


def same(text: str) -> list[str]:
    """What two containers have in common: not their ids, nor places below which only one of them has taken a file."""
    return [re.sub(r"[0-9a-f]{12}", "ID", line) for line in text.splitlines()]


@pytest.mark.parametrize("users", ["host", "auto"])
@pytest.mark.usefixtures("tools")
def test_the_same_by_hand(root: Dolium, users: str) -> None:
    words = (*WORDS, "--userns", users, "--memory", "64m", "@host", "sh", "-c", LOOK)
    script = root("explain", "--sh", *words)
    assert (script.code, script.stderr) == (0, "")
    ours, theirs = root("run", *words), by_hand(script.stdout)
    assert theirs.returncode == ours.code == 3, theirs
    assert same(theirs.stdout) == same(ours.stdout)
    assert len(ours.stdout.splitlines()) > 60
    assert same(theirs.stderr) == same("".join(line for line in ours.stderr.splitlines(keepends=True)))


@pytest.mark.usefixtures("tools")
def test_an_image_by_hand(root: Dolium, alpine: str) -> None:
    words = ("--rm", "--network", "none", "--userns", "host", alpine, "sh", "-c", "cat /etc/alpine-release; touch /x; ls / | wc -l")
    theirs = by_hand(root("explain", "--sh", *words).stdout)
    assert theirs.returncode == 0 and theirs.stdout == root("run", *words).stdout
    assert "no setpriv in the container: it keeps rights that it should not have" in theirs.stderr
    assert not os.path.exists(f"{alpine}/x")


@pytest.mark.usefixtures("tools")
def test_a_limit_by_hand(root: Dolium) -> None:
    words = ("--rm", "--network", "none", "--userns", "host", "--pids-limit", "5", "@host", "sh", "-c",
             "for each in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait")  # fmt: skip
    theirs = by_hand(root("explain", "--sh", *words).stdout)
    assert "fork" in theirs.stderr.lower() and theirs.returncode, theirs


@pytest.mark.usefixtures("tools")
def test_a_plain_user_by_hand(plain: Dolium) -> None:
    words = ("--rm", "@host", "sh", "-c", "id -u; hostname; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; ls /dev; cat /proc/self/uid_map")
    script = plain("explain", "--sh", "--hostname", "box", *words)
    assert script.code == 0
    who = {} if plain.uid == os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    theirs = by_hand(script.stdout, cwd="/", env=plain.environment, **who)
    assert (theirs.returncode, theirs.stdout) == (0, plain("run", "--hostname", "box", *words).stdout), theirs


@pytest.mark.usefixtures("tools")
def test_the_bridge_by_hand(site: Site) -> None:
    words = ("--rm", "--network", "bridge", "@host", "sh", "-c", "cat /sys/class/net/eth0/operstate; ls /sys/class/net | tr '\\n' ' '")
    script = site("explain", "--sh", *words)
    assert script.code == 0, script
    theirs = by_hand(script.stdout, tuple(site.enter))
    assert (theirs.returncode, theirs.stdout) == (0, "up\neth0 lo "), theirs


@pytest.mark.usefixtures("tools")
def test_a_step_that_fails_leaves_nothing(root: Dolium) -> None:
    words = ("--rm", "--network", "none", "--userns", "host", "--sysctl", "kernel.shmmax=x", "@host", "true")
    theirs = by_hand(root("explain", "--sh", *words).stdout)
    assert theirs.returncode not in (0, 124, 137), theirs
