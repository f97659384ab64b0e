"""The process of config.json: what it may use, how it is scheduled, which namespaces it has; each test is named after its rule."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from bundles import Bundle, config, script

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
GIB = 1 << 30
LIMITS = {
    "AS": ("Max address space", 4 * GIB, 8 * GIB), "CORE": ("Max core file size", 0, 5), "CPU": ("Max cpu time", 50, 60), "DATA": ("Max data size", GIB, 2 * GIB),
    "FSIZE": ("Max file size", GIB, 2 * GIB), "LOCKS": ("Max file locks", 20, 21), "MEMLOCK": ("Max locked memory", 4096, 8192),
    "MSGQUEUE": ("Max msgqueue size", 1000, 2000), "NICE": ("Max nice priority", 0, 0), "NOFILE": ("Max open files", 100, 200),
    "NPROC": ("Max processes", 500, 600), "RSS": ("Max resident set", 4096, 8192), "RTPRIO": ("Max realtime priority", 0, 0),
    "RTTIME": ("Max realtime timeout", 1000, 2000), "SIGPENDING": ("Max pending signals", 70, 80), "STACK": ("Max stack size", 4 << 20, 8 << 20),
}  # fmt: skip


def test_each_rlimit(bundle: Bundle) -> None:
    """All sixteen of setrlimit(2), soft and hard."""
    wanted = [{"type": f"RLIMIT_{name}", "soft": soft, "hard": hard} for name, (_, soft, hard) in LIMITS.items()]
    text = bundle.output(config(process__args=["cat", "/proc/self/limits"], process__rlimits=wanted))
    found = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()[1:]}
    assert found == {title: [str(soft), str(hard)] for title, soft, hard in LIMITS.values()}


def test_an_rlimit_without_end(bundle: Bundle) -> None:
    text = bundle.output(config(process__args=["cat", "/proc/self/limits"], process__rlimits=[{"type": "RLIMIT_CORE", "soft": (1 << 64) - 1, "hard": (1 << 64) - 1}]))
    assert next(line for line in text.splitlines() if line.startswith("Max core")).split()[4:6] == ["unlimited", "unlimited"]


def test_a_soft_limit_above_the_hard_one_is_named(bundle: Bundle) -> None:
    line = bundle.refused(config(process__rlimits=[{"type": "RLIMIT_CORE", "soft": 9, "hard": 8}]))
    assert "RLIMIT_CORE" in line and "invalid argument" in line, line


@pytest.mark.parametrize(("scheduler", "policy", "priority", "nice"), [
    ({"policy": "SCHED_OTHER", "nice": 5}, "0", "0", "5"), ({"policy": "SCHED_FIFO", "priority": 7}, "1", "7", "0"),
    ({"policy": "SCHED_RR", "priority": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "2", "3", "0"), ({"policy": "SCHED_BATCH"}, "3", "0", "0"),
    ({"policy": "SCHED_IDLE"}, "5", "0", "0"),
], ids=["OTHER", "FIFO", "RR", "BATCH", "IDLE"])  # fmt: skip
def test_each_scheduling_policy(bundle: Bundle, scheduler: dict[str, Any], policy: str, priority: str, nice: str) -> None:
    bundle.create(config(process__args=["cat", "/proc/self/stat"], process__scheduler=scheduler))
    if "cannot" in bundle.read("err") and "EPERM" in bundle.read("err"):
        pytest.skip("no group of cgroup v1 here may run in real time")
    assert bundle.start().code == 0
    bundle.wait()
    fields = bundle.read("out").rpartition(")")[2].split()
    assert (fields[38], fields[37], fields[16]) == (policy, priority, nice)


@pytest.mark.parametrize(("given", "shown"), [({"class": "IOPRIO_CLASS_RT", "priority": 3}, "realtime: prio 3"), ({"class": "IOPRIO_CLASS_BE", "priority": 6}, "best-effort: prio 6"),
                                              ({"class": "IOPRIO_CLASS_IDLE"}, "idle")], ids=["RT", "BE", "IDLE"])
def test_each_class_of_io(bundle: Bundle, given: dict[str, Any], shown: str) -> None:
    assert bundle.output(config(process__args=["ionice"], process__ioPriority=given)).startswith(shown)


@pytest.mark.parametrize(("changes", "words"), [
    ({"process__scheduler": {"policy": "SCHED_OTHER", "nice": 50}}, "process.scheduler.nice: expected an integer from -20 to 19"),
    ({"process__capabilities": {each: ["CAP_CHOWN"] for each in ("bounding", "effective")}}, "process.capabilities.effective: has one that is not among the permitted"),
    ({"process__args": [""]}, "no such file or directory"),
    ({"linux__sysctl": {"kernel.hostname": "x"}}, "linux.sysctl.kernel.hostname: is what `hostname` says"),
    ({"linux__resources": {"memory": {"swappiness": 101}}}, "linux.resources.memory.swappiness: expected an integer from 0 to 100"),
    ({"linux__namespaces": [{"type": each} for each in ("pid", "mount", "user")], "linux__uidMappings": [{**MAPPING[0], "containerID": 1}], "linux__gidMappings": MAPPING},
     "linux.uidMappings: has no root (containerID 0)"),
], ids=["nice", "effective", "no name", "hostname", "swappiness", "no root"])  # fmt: skip
def test_what_makes_no_sense_is_named(bundle: Bundle, changes: dict[str, Any], words: str) -> None:
    """Where the kernel would take something else in silence, or say EINVAL."""
    assert words in bundle.refused(config(**changes))


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "open"])
def test_no_new_privileges(bundle: Bundle, locked: bool) -> None:
    assert bundle.output(script("grep NoNewPrivs /proc/self/status", process__noNewPrivileges=locked)).split()[1] == str(int(locked))


def test_the_personality_has_no_flags(bundle: Bundle) -> None:
    assert "linux.personality.flags" in bundle.refused(config(linux__personality={"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}))
    assert bundle.output(config(process__args=["cat", "/proc/self/personality"], linux__personality={"domain": "LINUX"})).strip() == "00000000"


def test_both_clocks_have_their_offset(bundle: Bundle) -> None:
    """linux.timeOffsets, with nanoseconds."""
    spaces = [{"type": each} for each in ("pid", "mount", "time")]
    offsets = {"monotonic": {"secs": 86400, "nanosecs": 5}, "boottime": {"secs": 172800, "nanosecs": 7}}
    text = bundle.output(script("cat /proc/self/timens_offsets", linux__namespaces=spaces, linux__timeOffsets=offsets))
    assert text.split() == ["monotonic", "86400", "5", "boottime", "172800", "7"]


def test_a_clock_cannot_be_set_before_the_start(bundle: Bundle) -> None:
    spaces = [{"type": each} for each in ("pid", "mount", "time")]
    line = bundle.refused(config(linux__namespaces=spaces, linux__timeOffsets={"boottime": {"secs": -(1 << 40)}}))
    assert "linux.timeOffsets" in line or "timens_offsets" in line, line
    assert "is no clock" in bundle.refused(config(linux__namespaces=spaces, linux__timeOffsets={"realtime": {"secs": 1}}))


def test_each_namespace_is_joined_by_its_path(bundle: Bundle) -> None:
    """Those of another container, as in a pod; with its user namespace come its ids, without mappings of the config's own."""
    bundle.give(100000)
    names = {"user": "user", "cgroup": "cgroup", "time": "time", "network": "net", "ipc": "ipc", "uts": "uts", "pid": "pid"}
    bundle.write(config(process__args=["sleep", "1000"], hostname="theirs", linux__namespaces=[{"type": each} for each in ("mount", *names)],
                        linux__uidMappings=MAPPING, linux__gidMappings=MAPPING))  # fmt: skip
    pod = f"{bundle.id}-pod"
    subprocess.run([bundle.runtime, "--root", bundle.root, "run", "-d", "-b", bundle.directory, pod], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   env=bundle.environment, check=True)
    try:
        first = json.loads(bundle.verb("state", pod).out)["pid"]
        spaces = [{"type": kind, "path": f"/proc/{first}/ns/{name}"} for kind, name in names.items()] + [{"type": "mount"}]
        text = bundle.output(script(f"id -u; hostname; for n in {' '.join(names.values())}; do readlink /proc/self/ns/$n; done", linux__namespaces=spaces))
        assert text.split() == ["0", "theirs", *(os.readlink(f"/proc/{first}/ns/{name}") for name in names.values())]
    finally:
        assert bundle.verb("delete", "--force", pod).code == 0


def test_a_sysctl_of_users(bundle: Bundle) -> None:
    """As runc 1.4: `user.*` of a user namespace of the container's own, and nobody else's."""
    bundle.give(100000)
    spaces = [{"type": each} for each in ("pid", "mount", "user")]
    spec = script("cat /proc/sys/user/max_net_namespaces", linux__namespaces=spaces, linux__uidMappings=MAPPING, linux__gidMappings=MAPPING,
                  linux__sysctl={"user.max_net_namespaces": "17"})
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] != "/sys"]
    assert bundle.output(spec) == "17\n"
    with open("/proc/sys/user/max_net_namespaces") as file:
        assert file.read() != "17\n"
    assert "needs a user namespace of its own" in bundle.refused(config(linux__sysctl={"user.max_net_namespaces": "17"}))


@pytest.mark.parametrize(("sysctl", "words"), [
    ({"kernel.core_pattern": "|/x"}, "is not confined to a namespace"), ({"vm.swappiness": "1"}, "is not confined to a namespace"),
    ({"net.ipv4.nonsense": "1"}, "this kernel has no such setting"), ({"net.core.somaxconn": "x"}, "the kernel does not take this value"),
    ({"kernel.shm_rmid_forced/../../x": "1"}, "is no name of a sysctl"),
], ids=["the host's", "of memory", "unknown", "wrong value", "no name"])  # fmt: skip
def test_a_sysctl_that_cannot_be_set_is_named(bundle: Bundle, sysctl: dict[str, str], words: str) -> None:
    line = bundle.refused(config(linux__sysctl=sysctl))
    assert words in line and next(iter(sysctl)) in line, line


def test_a_sysctl_needs_its_namespace(bundle: Bundle) -> None:
    spaces = [{"type": each} for each in ("pid", "mount", "ipc")]
    assert "needs a network namespace of its own" in bundle.refused(config(linux__namespaces=spaces, linux__sysctl={"net.core.somaxconn": "5"}))


def test_the_status_at_each_stage(bundle: Bundle) -> None:
    """creating (as hooks see it), created, running, paused, stopped."""
    out = f"{bundle.directory}/told"
    told = [{"path": "/bin/sh", "args": ["sh", "-c", f'"{bundle.runtime}" --root "{bundle.root}" state {bundle.id} >"{out}"'], "env": ["PATH=/usr/bin:/bin"]}]
    bundle.create(config(process__args=["sleep", "1000"], hooks={"createRuntime": told}))
    with open(out) as file:
        assert json.load(file)["status"] == "creating"
    seen = [bundle.status()]
    for verb in (("start",), ("pause",), ("resume",), ("kill", "KILL")):
        assert bundle.verb(verb[0], bundle.id, *verb[1:]).code == 0
        if verb[0] == "kill":
            bundle.wait()
        seen.append(bundle.status())
    assert seen == ["created", "running", "paused", "running", "stopped"]
