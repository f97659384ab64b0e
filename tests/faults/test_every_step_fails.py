"""Every step of a plan fails in turn, by a fault in the helper or in Python: the error names it, and nothing is left."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from errno import EAGAIN, EMFILE, ENOENT, ENOSPC, ENOSYS, EPERM, EROFS
from pathlib import Path
from typing import Any

import leaks
import pytest
from containers import Dolium
from testbuild import FAULT

from dolium.core import spawn, wire
from dolium.engine import config, containers, firewall, processes, store
from dolium.errors import DoliumError, StepError, Unsupported
from dolium.plan import build, hints
from dolium.runtime import cgroup, host, joining, launch

NULL = "/dev/null"


def limited() -> bool:
    """Whether this host and user can limit memory and CPU."""
    return {"memory", "cpu"} <= {*host.facts().controllers}


def request(folder: str, **fields: Any) -> config.Options:
    options = config.Options()
    options.argv = ["/usr/bin/true"]
    options.volumes = [(folder, "/data", True)]
    options.tmpfs = [("/scratch", ("size=1048576",))]
    options.ulimits = [("RLIMIT_CORE", 0, 0)]
    options.cwd = "/data"
    options.hostname = "box"
    if limited():
        options.memory, options.cpus = 64 << 20, 0.5
    for name, value in fields.items():
        setattr(options, name, value)
    return options


def attempt(image: str, options: config.Options, user: str | None = None) -> int | DoliumError:
    """The exit code, or the error of a container that was refused."""
    null = os.open(NULL, os.O_RDWR | os.O_CLOEXEC)
    try:
        running, _ = containers.start(image, options, user, (null, null, null))
        return running.finish().exit_code
    except DoliumError as error:
        return error
    finally:
        os.close(null)


def expected(step: wire.Step, errno: int, steps: list[wire.Step]) -> tuple[str, int, int, int]:
    """The deed, the number of the step, the errno and the exit code that the error is to have."""
    numbered = steps[: steps.index(step) + 1]
    code = (127 if errno == ENOENT else 126) if step.op == "exec" else 125
    return hints.deed(step, [*wire.items(step), ""][0]), sum(not each.is_part for each in numbered), errno, code


def check(outcome: int | DoliumError, step: wire.Step, errno: int, steps: list[wire.Step]) -> str:
    """What is wrong with the outcome of that fault; empty if it is as it must be."""
    if errno in step.accept:
        return "" if outcome == 0 else f"{step.what}: {errno} counts as done, but: {outcome!r}"
    if not isinstance(outcome, StepError):
        return f"{step.what}: {outcome!r}"
    found = (outcome.step, outcome.index, outcome.errno, outcome.exit_code)
    wanted = expected(step, errno, steps)
    if found != wanted or outcome.why != f"`{step.why}`":
        return f"{step.what}: {found}, {outcome.why}, expected {wanted}, `{step.why}`"
    return ""


PLANS = ("at-host", "directory", "user", "init", "bridge", "filter", "terminal")
CLONE_NEWNET = 0x40000000


@contextmanager
def network_of_its_own() -> Iterator[None]:
    """This thread in a new network namespace; setns(2), which Python has since 3.12 only."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)


@pytest.fixture
def plan(request: pytest.FixtureRequest, folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, config.Options, str | None]]:
    """An image, options and a user for one of PLANS."""
    kind = request.param
    if kind == "user" and os.geteuid():
        pytest.skip("a plain user's container has one user only")
    image = request.getfixturevalue("alpine" if os.geteuid() == 0 else "own_alpine") if kind == "directory" else "@host"
    fields: dict[str, Any] = {"argv": ["/bin/true"]} if kind == "directory" else {"init": kind == "init", "tty": kind == "terminal"}
    if kind == "user":
        fields |= {"no_new_privileges": False, "sysctl": {"net.core.somaxconn": "64"}, "oom_score_adj": 500}
        fields |= {"devices": [(NULL, "/dev/hole", "rwm")], "read_only": True, "network": "none"}
    if kind == "bridge":
        if os.geteuid() or not firewall.find("nft"):
            pytest.skip("the bridge takes root and nft")
        fields["network"] = "bridge"
    if kind == "filter":
        controllers = host.facts().controllers
        if "devices" not in controllers or "unified" not in controllers:
            pytest.skip("a device filter takes root, and as a program cgroup v2")
        monkeypatch.setitem(controllers, "devices", controllers["unified"])
        fields["devices"] = [("/dev/zero", "/dev/zero", "r")]
    with network_of_its_own() if kind == "bridge" else nullcontext():
        yield image, globals()["request"](folder, **fields), "1000:1000" if kind == "user" else None


@pytest.mark.parametrize("plan", PLANS, indirect=True)
@pytest.mark.parametrize("errno", [EPERM, ENOSYS])
def test_every_step_of_the_helper(fault: Any, plan: tuple[str, config.Options, str | None], errno: int) -> None:
    leaks.adopt_orphans()
    image, options, user = plan
    before = leaks.world()
    assert attempt(image, options, user) == 0, "the plan must work before it may fail"
    assert leaks.left(before) == []
    count = len(fault.records)
    assert count > 40
    fault.errno, wrong = errno, []
    for index in range(0, count, 1 if errno == EPERM else 4):
        fault.index = index
        outcome = attempt(image, options, user)
        step = fault.records[index]
        if problem := check(outcome, step, errno, fault.steps):
            wrong.append(f"record {index}: {problem}")
        if remaining := leaks.left(before):
            wrong.append(f"record {index}, {step.what}: left behind {remaining}")
            before = leaks.world()
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("faulty_programs")
def test_every_step_of_one_more_process(dolium: Dolium, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a terminal, in a container that goes on as if nothing had been."""
    leaks.adopt_orphans()
    monkeypatch.setenv("HOME", dolium.environment["HOME"])  # where a plain user's containers are
    ended = dolium("run", "-d", "--network", "none", "-m", "64m", "@host", "sleep", "1000") if limited() else \
        dolium("run", "-d", "--network", "none", "@host", "sleep", "1000")  # fmt: skip
    assert ended.code == 0, ended
    container, encode, index = store.find(ended.stdout.strip()), wire.encode, -1
    records: list[wire.Step] = []

    def faulty(steps: Any, filled: Any) -> wire.Message:
        message = encode(steps, filled)
        records[:] = message.steps
        data = bytearray(message.data)
        if index >= 0:
            place = wire.HEADER.size + wire.RECORD.size * index + FAULT
            data[place : place + 2] = EPERM.to_bytes(2, "little")
        return wire.Message(bytes(data), message.steps)

    def enter() -> int | DoliumError:
        null = os.open(NULL, os.O_RDWR | os.O_CLOEXEC)
        try:
            asked = processes.Another(["true"], cwd="/usr", tty=True, size=(24, 80))
            return processes.start(container, asked, (null, null, null)).finish().exit_code
        except DoliumError as error:
            return error
        finally:
            os.close(null)

    monkeypatch.setattr(joining.wire, "encode", faulty)
    try:
        before, wrong = leaks.world(), []
        assert enter() == 0, "it must work before it may fail"
        assert {"ptmx", "pts", "sync", "stdio", "born", "ctty", "keep"} <= {step.op for step in records}
        for number in range(len(records)):
            index = number
            if problem := check(enter(), records[number], EPERM, records):
                wrong.append(f"record {number}: {problem}")
            if remaining := leaks.left(before):
                wrong.append(f"record {number}, {records[number].what}: left behind {remaining}")
                before = leaks.world()
        index = -1
        assert enter() == 0
        assert not wrong, "\n".join(wrong)
    finally:
        assert dolium("rm", "-f", container.id).code == 0


def test_a_step_that_fails_with_what_it_accepts_is_done(fault: Any, folder: str) -> None:
    """Each errno of `accept`, of each step that has one."""
    options = request(folder)
    assert attempt("@host", options) == 0
    tried = 0
    for index, step in enumerate(fault.records):
        for errno in step.accept:
            fault.index, fault.errno = index, errno
            assert attempt("@host", options) == 0, (step.what, errno)
            tried += 1
    assert tried


@pytest.mark.usefixtures("faulty_programs", "nothing_left")
@pytest.mark.parametrize("errno", [EPERM, EROFS, ENOENT])
def test_every_step_of_the_host(folder: str, monkeypatch: pytest.MonkeyPatch, errno: int) -> None:
    if not limited():
        pytest.skip("no cgroup controllers for this user on this host")
    options = request(folder, devices=[("/dev/zero", "/dev/zero", "r")] if "devices" in host.facts().controllers else [])
    prepared = containers.prepare("@host", options, None, 1 << 20)
    steps = [step for step in build.plan(prepared.spec, prepared.facts) if step.actor == wire.HOST]
    assert {step.op for step in steps} >= {"make_group", "set_limit"}
    act, target = launch._act, -1
    planned: list[wire.Step] = []

    def refuse(path: str, *_: Any) -> None:
        raise OSError(errno, os.strerror(errno), path)

    def acting(step: wire.Step, path: str, running: launch.Running) -> None:
        planned[:] = build.plan(running.spec, running.facts)
        if (step.op, path, step.data) != (planned[target].op, planned[target].path, planned[target].data):
            return act(step, path, running)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("make", "write", "watch_oom"):
                patch.setattr(cgroup, name, refuse)
            return act(step, path, running)

    cgroup.prepare(prepared.facts.controllers)  # the parents: not of one container
    monkeypatch.setattr(launch, "_act", acting)
    for index in range(len(steps)):
        target = index
        outcome = attempt("@host", options)
        assert not (problem := check(outcome, planned[index], errno, planned)), problem


@pytest.mark.usefixtures("faulty_programs", "nothing_left")
@pytest.mark.parametrize(("where", "name", "errno"), [
    (os, "posix_spawn", EAGAIN), (os, "memfd_create", EMFILE), (spawn, "socketpair", EMFILE), (spawn, "fcntl", EMFILE)])
def test_the_helper_cannot_be_started(folder: str, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, errno: int) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno, os.strerror(errno))

    monkeypatch.setattr(where, name, refuse)
    with pytest.raises(OSError) as caught:
        outcome = attempt("@host", request(folder))
        pytest.fail(f"it ran: {outcome!r}")
    assert caught.value.errno == errno


@pytest.mark.usefixtures("nothing_left")
def test_the_helpers_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.setattr(spawn, "PROGRAMS", str(tmp_path))
    monkeypatch.setattr(spawn, "_sealed", {})
    outcome = attempt("@host", request(folder))
    assert isinstance(outcome, Unsupported) and "has not been built" in str(outcome) and outcome.hint


@pytest.mark.usefixtures("faulty_programs", "nothing_left")
@pytest.mark.parametrize("number", [0, 1])
def test_reading_in_a_rootfs_fails(folder: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    encode = wire.encode

    def faulty(steps: Any, slots: Any) -> wire.Message:
        message = encode(steps, slots)
        data = bytearray(message.data)
        data[wire.HEADER.size + wire.RECORD.size * number + FAULT] = ENOSPC
        return wire.Message(bytes(data), message.steps)

    Path(folder, "etc").mkdir()
    Path(folder, "etc/passwd").write_text("me:x:5:5::/:/bin/sh\n")
    assert launch.read_in_root(folder, "/etc/passwd", 4096).startswith("me:")
    monkeypatch.setattr(wire, "encode", faulty)
    with pytest.raises(StepError) as caught:
        launch.read_in_root(folder, "/etc/passwd", 4096)
    assert caught.value.errno == ENOSPC and ("/etc/passwd" if number else folder) in caught.value.step
