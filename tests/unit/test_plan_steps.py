"""Parts of the planner by themselves: sysctls, mount options, who the process is, what it runs, which namespaces it gets."""

from __future__ import annotations

import os
from typing import Any

import invent
import pytest

from dolium.core.wire import INSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan import attributes, build, capabilities, facts, identity, namespaces

OWN = invent.facts(id_base=invent.RANGE)
SHARED = invent.facts()
PLAIN = invent.facts("none", rootless=True, uid=1000, gid=1001)


def only(steps: list[Step], op: str, why: str | None = None) -> Step:
    found = [step for step in steps if step.op == op and why in (None, step.why)]
    assert len(found) == 1, [step.what for step in found]
    return found[0]


# sysctl

@pytest.mark.parametrize(("name", "path"), [
    ("net.core.somaxconn", "sys/net/core/somaxconn"), ("net/ipv4/ip_forward", "sys/net/ipv4/ip_forward"),
    ("kernel.shmmax", "sys/kernel/shmmax"), ("fs.mqueue.msg_max", "sys/fs/mqueue/msg_max"),
    ("net.ipv4.conf.eth-0.forwarding", "sys/net/ipv4/conf/eth-0/forwarding")])  # fmt: skip
def test_sysctl(name: str, path: str) -> None:
    step = only(invent.plan(sysctl={name: "17"}), "write")
    assert (step.path, step.data, step.actor, step.why) == (path, b"17", INSIDE, f"linux.sysctl.{name}")


@pytest.mark.parametrize("name", [
    "kernel.core_pattern", "kernel.panic", "vm.swappiness", "fs.file-max", "kernel.msgmaxx", "kernel.hostname", "fs.mqueuex.y",
    "netx.core", "kernel/core_pattern", "net.../x", "net..core", ".net.core", "net.core.", "net.core+x", "net.core\n", "net.core x",
    "net/../kernel/core_pattern", "kernel.shm_rmid_forced/../core_pattern", "net.é", "", "net/core/../../kernel/core_pattern"])
def test_sysctls_that_are_refused(name: str) -> None:
    """Of the whole host, or no name at all (CVE-2022-0811: `+kernel.core_pattern`)."""
    with pytest.raises(SpecError) as caught:
        invent.plan(sysctl={name: "1"})
    assert caught.value.path == f"linux.sysctl.{name}"


def test_a_sysctl_of_a_namespace_that_is_shared() -> None:
    with pytest.raises(SpecError, match="network"):
        invent.plan(network="host", sysctl={"net.core.somaxconn": "1"})
    spec = invent.spec(OWN, invent.options(sysctl={"kernel.shmmax": "1"}))
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "ipc"]
    with pytest.raises(SpecError, match="ipc"):
        build.plan(spec, OWN)


@pytest.mark.parametrize("value", ["a\0b", "\ud800"])
def test_a_value_that_no_file_takes(value: str) -> None:
    with pytest.raises(SpecError) as caught:
        invent.plan(sysctl={"kernel.shmmax": value})
    assert caught.value.path == "linux.sysctl.kernel.shmmax"


# mount options

@pytest.mark.parametrize(("options", "bits", "rest"), [
    ([], 0, []), (["ro"], 1, []), (["nosuid", "nodev", "noexec"], 14, []), (["ro", "rw"], 0, []), (["rw", "ro"], 1, []),
    (["noexec", "exec"], 0, []), (["size=5m", "ro", "mode=755"], 1, ["size=5m", "mode=755"]), (["rbind", "private", "defaults"], 0, []),
    (["noatime", "nodiratime", "strictatime", "nosymfollow"], 0x2000B0, []), (["RO"], 0, ["RO"]), (["suid", "nosuid", "suid"], 0, []),
])  # fmt: skip
def test_split(options: list[str], bits: int, rest: list[str]) -> None:
    before = list(options)
    assert attributes.split(options) == (bits, rest)
    assert options == before


def test_attributes_clear_what_others_set() -> None:
    assert {*attributes.CLEAR.values()} <= {*attributes.SET.values()}
    assert not {*attributes.SET} & {*attributes.CLEAR} and not {*attributes.IGNORED} & {*attributes.SET, *attributes.CLEAR}


# who it is

def test_bits() -> None:
    assert identity.bits(["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_CHOWN"], "x") == 1 | 1 << 40
    with pytest.raises(SpecError) as caught:
        identity.bits(["CAP_CHOWN", "CHOWN"], "process.capabilities.bounding")
    assert caught.value.path == "process.capabilities.bounding[1]"


def test_the_names_are_the_kernels() -> None:
    """<linux/capability.h> of the machine that runs the tests, where it is there."""
    try:
        with open("/usr/include/linux/capability.h") as file:
            lines = [line.split() for line in file if line.startswith("#define CAP_")]
    except FileNotFoundError:
        pytest.skip("no kernel headers")
    known = {words[1]: int(words[2]) for words in lines if len(words) > 2 and words[2].isdigit()}
    assert len(known) > 37
    assert {name: capabilities.NUMBERS[name] for name in known} == known
    assert {*capabilities.DEFAULT} <= {*capabilities.NUMBERS}


def test_a_capability_that_the_caller_has_not_got() -> None:
    few = facts.Facts(capabilities=invent.ALL_CAPABILITIES & ~(1 << capabilities.NUMBERS["CAP_SYS_TIME"]))
    with pytest.raises(Unsupported, match="CAP_SYS_TIME"):
        invent.plan(few, cap_add=["CAP_SYS_TIME"], pids=-1)
    assert only(invent.plan(few.with_ids(invent.RANGE), cap_add=["CAP_SYS_TIME"], pids=-1), "bounds").n1 >> 25 & 1


def test_user() -> None:
    step = only(invent.plan(OWN, user={"uid": 5, "gid": 6, "groups": [7, 65535]}), "become", "process.user")
    assert (step.n1, step.n2, step.n3, step.data.hex()) == (0, 6, 5, "07000000ffff0000")
    assert only(invent.plan(OWN, user={"uid": 5, "gid": 6}), "caps").n1 == 0
    assert only(invent.plan(OWN), "caps").n1 == only(invent.plan(OWN), "bounds").n1


@pytest.mark.parametrize("user", [{"uid": 5}, {"gid": 5}, {"groups": [5]}])
def test_a_plain_users_container_has_one_user(user: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="one user only"):
        invent.plan(PLAIN, pids=-1, user=user)


# namespaces

def test_flags_are_the_kernels() -> None:
    names = {"mount": "NEWNS", "network": "NEWNET", "cgroup": "NEWCGROUP", "uts": "NEWUTS", "ipc": "NEWIPC", "user": "NEWUSER",
             "pid": "NEWPID"}  # fmt: skip
    for kind, name in names.items():
        assert namespaces.FLAGS[kind] == getattr(os, f"CLONE_{name}", namespaces.FLAGS[kind])
    assert {*names, "time"} == {*namespaces.FLAGS}


@pytest.mark.parametrize(("host", "options", "types"), [
    (OWN, {}, {"mount", "pid", "uts", "ipc", "cgroup", "network", "user"}),
    (SHARED, {}, {"mount", "pid", "uts", "ipc", "cgroup", "network"}),
    (OWN, {"network": "host"}, {"mount", "pid", "uts", "ipc", "cgroup", "user"}),
    (OWN, {"time_namespace": True}, {"mount", "pid", "uts", "ipc", "cgroup", "network", "user", "time"}),
    (PLAIN, {"pids": -1}, {"mount", "pid", "uts", "ipc", "cgroup", "network"})])  # fmt: skip
def test_each_namespace_is_made_once(host: facts.Facts, options: dict[str, Any], types: set[str]) -> None:
    steps = invent.plan(host, **options)
    flags = only(steps, "clone").n1 + sum(step.n1 for step in steps if step.op == "unshare" and step.actor == INSIDE)
    assert flags == sum(namespaces.FLAGS[each] for each in types)
    assert len([step for step in steps if step.op == "loopback"]) == ("network" in types)


def test_a_plain_user_becomes_root_of_one_id() -> None:
    steps = invent.plan(PLAIN, pids=-1)
    mapped = only(steps, "map_ids")
    assert (mapped.path, mapped.path2, mapped.n1, mapped.n2) == ("0 1000 1\n", "0 1001 1\n", 0, 1)
    assert all(step.n1 == 1 for step in steps if step.op == "become"), "setgroups is denied there"


def test_a_range_of_ids() -> None:
    mapped = only(invent.plan(OWN), "map_ids")
    assert (mapped.path, mapped.path2, mapped.n1, mapped.n2) == ("0 524288 65536\n", "0 524288 65536\n", 1, 0)
    assert not [step for step in invent.plan(SHARED) if step.op in ("map_ids", "open_ns")]


# what it runs

def executed(**options: Any) -> tuple[list[str], list[str], list[str]]:
    step = only(invent.plan(**options), "exec")
    words = step.data.decode("utf-8", "surrogateescape").split("\0")
    assert words.pop() == ""
    assert len(words) == step.n1 + step.n2 + step.n3
    return words[: step.n1], words[step.n1 : step.n1 + step.n2], words[step.n1 + step.n2 :]


def test_candidates_are_those_of_path() -> None:
    assert executed(argv=["x"], env={"PATH": "/a:/b"})[0] == ["/a/x", "/b/x"]
    assert executed(argv=["x"], env={"PATH": ":/b:"})[0] == ["./x", "/b/x", "./x"], "an empty part is the working directory"
    assert executed(argv=["/bin/x", "y"], env={"PATH": "/a"})[:2] == (["/bin/x"], ["/bin/x", "y"])
    assert executed(argv=["./x"])[0] == ["./x"]
    assert [each.rpartition("/")[0] for each in executed(argv=["x"])[0]] == [
        "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]  # fmt: skip


def test_arguments_and_environment_pass_untouched() -> None:
    _, argv, env = executed(argv=["x", "", " a ", "\n", "\udcff", "ü"], env={"A": "", "B": "=b=", "C": "\udc80"})
    assert argv == ["x", "", " a ", "\n", "\udcff", "ü"]
    assert {"A=", "B==b=", "C=\udc80"} <= {*env} and len({each.partition("=")[0] for each in env}) == len(env)


@pytest.mark.parametrize(("options", "path"), [
    ({"argv": ["x", "a\0b"]}, "process.args"), ({"argv": ["x\0"]}, "process.args"), ({"env": {"A": "a\0B=c"}}, "process.env"),
    ({"argv": ["x", "\ud800"]}, "process.args"), ({"env": {"\ud800": ""}}, "process.env")])  # fmt: skip
def test_strings_that_no_program_can_be_given(options: dict[str, Any], path: str) -> None:
    """A NUL would end one argument and begin another."""
    with pytest.raises(SpecError) as caught:
        invent.plan(**{"argv": ["x"], **options})
    assert caught.value.path == path


def test_the_working_directory() -> None:
    assert only(invent.plan(cwd="/srv"), "chdir").path == "/srv"
    assert not [step for step in invent.plan() if step.op == "chdir"]
