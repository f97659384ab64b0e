"""Every step of every plan has a lesson, a page of its own and its raw calls; what they name exists."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import invent
import pytest

from dolium.core import wire
from dolium.engine import config
from dolium.plan import build, calls, explain, joining, lessons, one_step, slots

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(each.stem for each in GOLDEN.glob("*.json"))
MANUAL = set("""
bridge(8) capabilities(7) capget(2) cgroup_namespaces(7) cgroups(7) chdir(2) chown(2) chroot(2) clone(2) cpuset(7) credentials(7)
eventfd(2) execve(2) execveat(2) fork(2) fsconfig(2) fsmount(2) fsopen(2) getcwd(2) getrlimit(2) hier(7) hosts(5) ip-address(8)
ip-route(8) ipc_namespaces(7) keyctl(2) mkdir(2) mknod(2) mount_namespaces(7) mount_setattr(2) move_mount(2) mq_overview(7)
namespaces(7) netdevice(7) netlink(7) network_namespaces(7) null(4) open_tree(2) openat2(2) passwd(5) pid_namespaces(7)
pidfd_open(2) pipe(7) pivot_root(2) prctl(2) proc(5) ptrace(2) pts(4) random(4) resolv.conf(5) rtnetlink(7) sched_setaffinity(2)
seccomp(2) seccomp_unotify(2) session-keyring(7) setgroups(2) sethostname(2) setns(2) setresgid(2) setresuid(2) setsid(2)
shm_overview(7) signal(7) symlink(2) symlink(7) sysctl(8) sysfs(5) tmpfs(5) tty(4) umask(2) umount2(2) unix(7) unshare(2)
nft(8) resolv.conf(5) user_namespaces(7) uts_namespaces(7) veth(4) wait(2) bpf(2) chown(2) cmsg(3) console(4) credentials(7) dup(2)
ioctl_tty(2) pts(4) pty(7) stdin(3) newuidmap(1) subuid(5) systemd.scope(5) systemd.resource-control(5)
""".split())  # fmt: skip
"""Pages that exist: man-pages 6.16, which has those on fsopen(2) and its like, keyutils, iproute2, procps."""
HOST = ("make_net", "nft", "resolver", "make_group", "set_limit", "watch_oom", "hook", "record", "make_users", "notify", "move_device",
        "map_users", "own_group", "home", "start_unit", "enter_group", "filter_devices", "attach")


@cache
def plan(name: str) -> tuple[list[wire.Step], dict[str, object]]:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    if "config" in case:
        spec = invent.bundle(case["config"])
        return build.plan(spec, invent.facts(**case["facts"])), spec
    host, options = invent.facts(**case["facts"]), invent.options(**case["options"])
    if case.get("joining"):
        spec = config.another(invent.NAME, options, invent.rootfs(case["image"]), host)
        return joining.plan(spec, host), spec
    spec = invent.spec(host, options, case["image"])
    return build.plan(spec, host), spec


@pytest.mark.parametrize("name", CASES)
def test_every_step_has_a_lesson_and_calls(name: str) -> None:
    for step in plan(name)[0]:
        assert step.op in calls.KNOWN, f"plan/calls.py has no `{step.op}`"
        try:
            lessons.of(step)
        except KeyError:
            pytest.fail(f"plan/lessons has no `{step.op}`: write one, in the chapter that it belongs to", pytrace=False)
        assert all(calls.of(step))


@pytest.mark.parametrize("name", CASES)
def test_every_step_has_a_page(name: str) -> None:
    steps, spec = plan(name)
    for number in range(1, explain.numbered(steps)[-1][0] + 1):
        page = one_step.text(steps, number, spec)
        assert max(map(explain.columns, page.splitlines())) <= 80, page
        labels = {line.split(" ")[0] for line in page.splitlines()}
        assert {"what", "why", "here", "without", "call", "asked", "acts", "man", "see"} <= labels, page
        assert not [line for line in page.splitlines() if line != line.rstrip()]
    verbose = explain.text(steps, spec, "x", "", parts=True, more=one_step.short)
    assert max(map(explain.columns, verbose.splitlines())) <= 80


@pytest.mark.parametrize("lesson", lessons.every().values(), ids=lambda lesson: lesson.key)
def test_a_lesson_says_all_there_is_to_say(lesson: lessons.Lesson) -> None:
    for field in ("what", "why", "here", "without"):
        text = getattr(lesson, field)
        assert len(text) > 15 and text[-1] in ".`?" and text.isprintable(), (lesson.key, field, text)
    assert lesson.man and set(lesson.man) <= MANUAL
    assert lesson.see and all(each.startswith("/") or "." in each for each in lesson.see)
    assert lesson.key.split()[0] in {*wire.OPERATIONS, *HOST}


def test_every_operation_has_a_lesson() -> None:
    assert {*wire.OPERATIONS, *HOST} <= {*lessons.every()} | {key.split()[0] for key in lessons.every()}
    assert {*wire.OPERATIONS, *HOST} <= calls.KNOWN


def test_every_lesson_is_of_some_step() -> None:
    """Those that no plan here uses are for what only an OCI config asks, or stand behind the others."""
    used = {lessons.of(step).key for name in CASES for step in plan(name)[0]}
    behind = {"set_limit", "set_limit cpu.cfs_period_us", "open_ns", "sync", "new_mount", "write", "netlink", "read_file", "offer",
              "attach"}
    assert {*lessons.every()} - used <= behind


def test_words_are_wrapped_within_their_width() -> None:
    for text in ("a" * 200, "a " * 100, "一" * 60, "", "x|" * 60, "a" * 72, "ab" * 36 + " c"):
        lines = explain.wrapped(text, 71, "  ")
        assert max(map(explain.columns, lines)) <= 71
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_name_for_every_slot() -> None:
    firsts = {"tasks": slots.FIRST_TASKS, "file": slots.FIRST_FILE, "bind": slots.FIRST_MOUNT}
    for word, first in firsts.items():
        assert [calls.name(first), calls.name(first + 2)] == [f"{word}1", f"{word}3"]
    assert [calls.name(each) for each in (slots.CGROUP, slots.ROOT, slots.NETWORK)] == ["cgroup", "root", "network"]
    assert len({calls.name(each) for each in range(250)}) == 250
