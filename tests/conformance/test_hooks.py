"""Hooks: order, place, what they are told, and what becomes of the container where they fail."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from bundles import Bundle, config, script

ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hook(text: str, **fields: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", text], **fields}


def test_hooks_run_in_their_order_and_place(bundle: Bundle) -> None:
    out = f"{bundle.directory}/order"
    hooks = {name: [hook(f"echo {name} $(readlink /proc/self/ns/mnt) >> {out}")] for name in ALL if name != "startContainer"}
    hooks["startContainer"] = [hook("echo startContainer $(readlink /proc/self/ns/mnt) >> /order")]
    spec = script("echo program $(readlink /proc/self/ns/mnt) >> /order; sleep 0.3", hooks=hooks)
    assert bundle.create(spec).code == 0
    before = [line.split()[0] for line in bundle.read("order").splitlines()]
    assert before == ["prestart", "createRuntime", "createContainer"]
    pid = bundle.state()["pid"]
    inside, host = os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt")
    places = dict(line.split() for line in bundle.read("order").splitlines())
    assert places == {"prestart": host, "createRuntime": host, "createContainer": inside}
    started = bundle.start()
    assert started.code == 0, started
    bundle.wait()
    bundle.verb("delete", bundle.id)
    assert [line.split()[0] for line in bundle.read("order").splitlines()][3:] == ["poststart", "poststop"]
    with open(f"{bundle.rootfs}/order") as file:
        assert [line.split() for line in file] == [["startContainer", inside], ["program", inside]]


@pytest.mark.parametrize("name", ALL)
def test_a_hook_is_told_the_state(bundle: Bundle, name: str) -> None:
    out = "/told" if name == "startContainer" else f"{bundle.directory}/told"
    bundle.create(script("sleep 0.2", hooks={name: [hook(f"cat > {out}")]}, annotations={"a": "b"}))
    pid = bundle.state()["pid"]
    bundle.start()
    bundle.wait()
    bundle.verb("delete", bundle.id)
    with open(f"{bundle.rootfs}/told" if name == "startContainer" else out) as file:
        told = json.load(file)
    assert told["id"] == bundle.id and told["bundle"] == bundle.directory and told["annotations"] == {"a": "b"} and told["ociVersion"]
    assert told.get("pid", pid) == pid and ("pid" in told or name == "poststop")
    assert told["status"] == {"poststop": "stopped", "poststart": "running", "prestart": "created", "startContainer": "created"}.get(name, "creating")


FAULTS = {"fails": (hook("echo its words >&2; exit 3"), "ended with exit code 3: its words"),
          "hangs": (hook("exec sleep 1000", timeout=1), "took longer than its 1 s")}  # fmt: skip


class Failing:
    """A container whose first hook of a kind fails, or hangs, and whose program, second hook of that kind and last poststop hook
    leave traces."""

    def __init__(self, bundle: Bundle, name: str, fault: str) -> None:
        self.bundle, (first, self.said) = bundle, FAULTS[fault]
        inside = name == "startContainer"
        self.seen = {"second": f"{bundle.rootfs if inside else bundle.directory}/second", "ran": f"{bundle.rootfs}/ran",
                     "poststop": f"{bundle.directory}/poststop"}  # fmt: skip
        hooks = {name: [first, hook(f"touch {'/second' if inside else self.seen['second']}")]}
        hooks["poststop"] = [*hooks.get("poststop", ()), hook(f"touch {self.seen['poststop']}")]
        self.spec = script("touch /ran; exec sleep 1000", hooks=hooks)
        self.line = f"hooks.{name}[0]: `/bin/sh` {self.said}"

    def traces(self) -> set[str]:
        return {name for name, path in self.seen.items() if os.path.exists(path)}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_at_create_that_fails(bundle: Bundle, name: str, fault: str) -> None:
    """An error, nothing runs, nothing is left, and what is to come after the end comes."""
    failing = Failing(bundle, name, fault)
    assert bundle.refused(failing.spec) == failing.line
    assert bundle.status() == "gone" and failing.traces() == {"poststop"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_start_container_hook_that_fails(bundle: Bundle, fault: str) -> None:
    """The program never runs; the container has ended."""
    failing = Failing(bundle, "startContainer", fault)
    assert bundle.create(failing.spec).code == 0
    ended = bundle.start()
    assert ended.code == 1 and ended.err.startswith(f"error: {failing.line}"), ended
    bundle.wait()
    assert failing.traces() == set()
    assert bundle.verb("delete", bundle.id).code == 0 and failing.traces() == {"poststop"}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_poststart_hook_that_fails_stops_the_container(bundle: Bundle, fault: str) -> None:
    """runtime-spec 1.3"""
    failing = Failing(bundle, "poststart", fault)
    assert bundle.create(failing.spec).code == 0
    ended = bundle.start()
    assert ended.code == 1 and ended.err.startswith(f"error: {failing.line}"), ended
    assert bundle.status() == "stopped" and "second" not in failing.traces()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_poststop_hook_that_fails_is_only_told(bundle: Bundle, fault: str) -> None:
    """Those after it are run all the same."""
    failing = Failing(bundle, "poststop", fault)
    assert bundle.create(failing.spec).code == bundle.start().code == bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()
    ended = bundle.verb("delete", bundle.id)
    assert ended.code == 0 and ended.err.startswith(f"warning: {failing.line}"), ended
    assert bundle.status() == "gone" and {"second", "poststop"} <= failing.traces()


def test_hooks_of_a_container_whose_state_does_not_name_them(bundle: Bundle) -> None:
    """As an earlier version has written it."""
    out = f"{bundle.directory}/order"
    names = ("startContainer", "poststart", "poststop")
    hooks = {name: [hook(f"echo {name} >> {'/order' if name == 'startContainer' else out}")] for name in names}
    assert bundle.create(script("cat /order; sleep 0.3", hooks=hooks)).code == 0
    path = f"{bundle.root}/{bundle.id}/state.json"
    with open(path) as file:
        state = json.load(file)
    assert sorted(state.pop("hooks")) == sorted(names)
    with open(path, "w") as file:
        json.dump(state, file)
    assert bundle.start().code == 0
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0
    assert bundle.read("out") == "startContainer\n" and bundle.read("order") == "poststart\npoststop\n"


def test_a_hook_that_is_not_there(bundle: Bundle) -> None:
    assert "No such file" in bundle.refused(config(hooks={"createRuntime": [{"path": "/nonexistent"}]}))
    assert "No such file" in bundle.refused(config(hooks={"createContainer": [{"path": "/nonexistent"}]}))


def test_the_environment_of_a_hook_is_what_the_config_says(bundle: Bundle) -> None:
    """CVE-2024-0132, CVE-2025-23266: the image's LD_PRELOAD reached a hook; the directory was the rootfs."""
    out = f"{bundle.directory}/env"
    hooks = {name: [{"path": "/usr/bin/env", "args": ["env"], "env": ["ONE=1"]}, hook(f"pwd >> {out}; cat /proc/$$/environ >> {out}",
                                                                                 env=["ONE=1"])] for name in ("createRuntime", "createContainer")}
    assert bundle.create(config(hooks=hooks, process__env=["PATH=/bin", "LD_PRELOAD=./evil.so"])).code == 0
    text = bundle.read("env")
    assert "LD_PRELOAD" not in text and text.count("ONE=1") == 2
    assert text.splitlines()[0] == bundle.directory and bundle.rootfs not in text


def test_hooks_see_the_network_namespace_to_be(bundle: Bundle) -> None:
    """As docker's own hook does, which moves a device into it."""
    out = f"{bundle.directory}/ns"
    bundle.create(config(hooks={"prestart": [hook(f"pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net > {out}")]}))
    assert bundle.read("ns").strip() == os.readlink(f"/proc/{bundle.state()['pid']}/ns/net") != os.readlink("/proc/self/ns/net")


def test_hooks_of_the_host_run_in_the_bundle(bundle: Bundle) -> None:
    names = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    bundle.write(config(hooks={name: [hook(f"pwd > {bundle.directory}/{name}")] for name in names}))
    assert bundle.verb("run", "-b", bundle.directory, bundle.id).code == 0
    assert {bundle.read(name) for name in names} == {f"{bundle.directory}\n"}


def test_run_tells_of_poststop_hooks_that_fail(bundle: Bundle) -> None:
    bundle.write(config(hooks={"poststop": [hook("exit 4")]}))
    ended = bundle.verb("run", "-b", bundle.directory, bundle.id)
    assert ended.code == 0 and ended.err == "warning: hooks.poststop[0]: `/bin/sh` ended with exit code 4\n", ended
