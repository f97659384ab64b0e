"""An engine's config, read strictly: what is wrong is named by its field; what the specification has not is ignored."""

from __future__ import annotations

import copy
from typing import Any

import invent
import pytest
from bundles import DEFAULT, config

from dolium.core import document
from dolium.core.wire import HOST, INSIDE, OUTSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan import attributes, build, oci, process, resources, slots
from dolium.plan.attributes import Options

HYBRID = {"hierarchies": {"memory": (1, "/sys/fs/cgroup/memory"), "pids": (1, "/sys/fs/cgroup/pids"), "cpu": (1, "/sys/fs/cgroup/cpu"),
                          "cpuset": (1, "/sys/fs/cgroup/cpuset"), "blkio": (1, "/sys/fs/cgroup/blkio"), "devices": (1, "/sys/fs/cgroup/devices"),
                          "unified": (2, "/sys/fs/cgroup/unified"), "hugetlb": (2, "/sys/fs/cgroup/unified")}}  # fmt: skip
V2 = {"hierarchies": {each: (2, "/sys/fs/cgroup") for each in ("memory", "pids", "cpu", "cpuset", "io", "hugetlb", "rdma", "unified")}}


def host(kind: dict[str, Any] = V2, **fields: Any) -> Any:
    return invent.facts(hierarchies=kind["hierarchies"], **fields)


def plan(spec: dict[str, Any], **fields: Any) -> list[Step]:
    return build.plan(oci.read(spec, "/bundle", "name"), host(**fields))


def written(spec: dict[str, Any], kind: dict[str, Any] = V2) -> dict[str, str]:
    """What goes into which file of the groups."""
    steps = build.plan(oci.read(spec, "/bundle", "name"), host(kind))
    return {step.path.rpartition("/")[2]: step.data.decode() for step in steps if step.op == "set_limit"}


@pytest.mark.parametrize(("changes", "message"), [
    ({"linux__resources": {"memory": {"limit": "64m"}}}, 'linux.resources.memory.limit: expected an integer, got "64m"'),
    ({"root": {}}, "root.path: is required"),
    ({"root": 5}, "root: expected an object, got 5"),
    ({"ociVersion": True}, "ociVersion: expected a version such as 1.2.0, got true"),
    ({"hostname": "x" * 65}, f'hostname: expected at most 64 bytes, got "{"x" * 65}"'),
    ({"domainname": "é" * 33}, 'domainname: expected at most 64 bytes, got ' + ('"' + "é" * 33 + '"').encode("unicode_escape").decode()[:80]),
    ({"linux__resources": {"cpu": {"cpus": "a-b"}}}, "linux.resources.cpu.cpus: is no list of numbers such as 0-3,7: 'a-b'"),
    ({"ociVersion": "invalid"}, 'ociVersion: expected a version such as 1.2.0, got "invalid"'),
    ({"ociVersion": "2.0.0"}, 'ociVersion: expected a version such as 1.2.0, got "2.0.0"'),
    ({"ociVersion": ""}, 'ociVersion: expected a version such as 1.2.0, got ""'),
    ({"process__args": []}, "process.args: is required: at least the name of a program"),
    ({"process__args": "sh"}, 'process.args: expected an array, got "sh"'),
    ({"process__args": ["sh", 1]}, "process.args[1]: expected a string, got 1"),
    ({"process__cwd": "tmp"}, 'process.cwd: expected an absolute path, got "tmp"'),
    ({"process__user": {"uid": -1}}, "process.user.uid: expected an integer from 0 to 4294967294, got -1"),
    ({"process__user": {"uid": 1.5}}, "process.user.uid: expected an integer, got 1.5"),
    ({"process__user": {"uid": True}}, "process.user.uid: expected an integer, got true"),
    ({"process__rlimits": [{"type": "RLIMIT_CORE", "soft": 1}]}, "process.rlimits[0].hard: is required"),
    ({"process__rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2}, "process.rlimits[1].type: RLIMIT_CORE is there twice"),
    ({"process__rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "process.rlimits[0].type: no such resource: RLIMIT_X"),
    ({"process__oomScoreAdj": 2000}, "process.oomScoreAdj: expected an integer from -1000 to 1000, got 2000"),
    ({"mounts": [{"destination": "/x", "type": "bind"}]}, "mounts[0].source: is required of a bind mount"),
    ({"mounts": [{"destination": "/x"}]}, "mounts[0].type: is required of what is no bind mount"),
    ({"mounts": [{"destination": "", "type": "tmpfs"}]}, "mounts[0].destination: is empty"),
    ({"mounts": [{"destination": "/x", "options": ["bind", "remount", "size=5"]}]},
     "mounts[0].options: `size=5` is of a file system, which a remount mount does not make"),
    ({"mounts": [{"destination": "/proc", "type": "tmpfs"}]}, "mounts[0].type: only proc can be mounted on /proc"),
    ({"mounts": [{"destination": "/a/../..", "type": "tmpfs"}]}, "mounts[0].destination: leads upwards (`..`)"),
    ({"mounts": [{"destination": "/proc/self/attr", "type": "tmpfs"}]},
     "mounts[0].destination: nothing may be mounted on /proc/self/attr, which is the kernel's"),
    ({"linux__namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "pid"}]}, "linux.namespaces[2].type: `pid` is there twice"),
    ({"linux__namespaces": [{"type": "mnt"}]},
     'linux.namespaces[0].type: expected one of pid, network, mount, ipc, uts, user, cgroup, time, got "mnt"'),
    ({"linux__namespaces": [{"type": "pid"}]}, "linux.namespaces: has no `mount`: a rootfs without a mount namespace would change the host's mounts"),
    ({"linux__namespaces": [{"type": "mount", "path": "x"}]}, 'linux.namespaces[0].path: expected an absolute path, got "x"'),
    ({"linux__uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, "linux.uidMappings: needs a user namespace among linux.namespaces"),
    ({"linux__cgroupsPath": "/a/../b"}, "linux.cgroupsPath: leads upwards (`..`)"),
    ({"linux__cgroupsPath": "/"}, "linux.cgroupsPath: is the root of all groups, which cannot be a container's"),
    ({"linux__sysctl": {"kernel.core_pattern": "x"}}, "linux.sysctl.kernel.core_pattern: is not confined to a namespace, it would change the whole host"),
    ({"linux__sysctl": {"kernel.shm_rmid_forced": 1}}, "linux.sysctl.kernel.shm_rmid_forced: expected a string, got 1"),
    ({"linux__devices": [{"path": "/dev/x", "type": "c"}]}, "linux.devices[0].major: is required"),
    ({"linux__devices": [{"path": "x", "type": "c"}]}, 'linux.devices[0].path: expected an absolute path, got "x"'),
    ({"linux__resources": {"unified": {"../x": "1"}}}, "linux.resources.unified.../x: is no name of a file of a cgroup"),
    ({"linux__resources": {"hugepageLimits": [{"pageSize": "2MB/..", "limit": 1}]}},
     "linux.resources.hugepageLimits[0].pageSize: is no size of a page, such as 2MB"),
    ({"linux__resources": {"memory": {"limit": 5, "swap": 4}}},
     "linux.resources.memory.swap: is memory and swap together, so it cannot be less than memory.limit"),
    ({"linux__seccomp": {"defaultAction": "SCMP_ACT_NONSENSE"}}, "linux.seccomp.defaultAction: 'SCMP_ACT_NONSENSE' is not an action"),
    ({"linux__personality": {"domain": "BSD"}}, 'linux.personality.domain: expected one of LINUX, LINUX32, got "BSD"'),
    ({"linux__timeOffsets": {"boottime": {"secs": 1}}}, "linux.timeOffsets: needs a time namespace of its own"),
    ({"linux__rootfsPropagation": "sideways"}, "linux.rootfsPropagation: expected one of private, rprivate, slave, rslave, shared, rshared, "
     'unbindable, runbindable, got "sideways"'),
    ({"process__scheduler": {"policy": "SCHED_X"}}, "process.scheduler.policy: expected one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, "
     "SCHED_ISO, SCHED_IDLE, SCHED_DEADLINE, got 'SCHED_X'"),
    ({"process__ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}, "process.ioPriority.priority: expected an integer from 0 to 7, got 8"),
    ({"hooks": {"prestart": [{"path": "bin/x"}]}}, 'hooks.prestart[0].path: expected an absolute path, got "bin/x"'),
    ({"hooks": {"poststop": [{"path": "/bin/x", "timeout": 0}]}}, "hooks.poststop[0].timeout: expected an integer from 1 to 2147483648, got 0"),
])  # fmt: skip
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan(config(**changes))
    assert str(caught.value) == message


HOOK = {"path": "/x", "args": ["a\0b"]}


@pytest.mark.parametrize(("changes", "where"), [
    ({"hostname": "\ud800"}, "hostname"), ({"linux__netDevices": {"x": {"name": "\ud800"}}}, "linux.netDevices.x.name"),
    ({"linux__netDevices": {"\ud800": {}}}, "linux.netDevices.\ud800"), ({"hooks": {"poststop": [HOOK]}}, "hooks.poststop[0].args[0]"),
    ({"linux__resources": {"network": {"priorities": [{"name": "\ud800", "priority": 1}]}}}, "linux.resources.network.priorities[0].name"),
    ({"process__cwd": "/\0"}, "process.cwd"), ({"linux__cgroupsPath": "/a\0"}, "linux.cgroupsPath"),
], ids=["name", "device's name", "device", "hook", "interface", "path", "group"])  # fmt: skip
def test_text_that_linux_cannot_be_given_is_named(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(SpecError) as caught:
        build.plan(oci.read(config(**changes)), host(HYBRID))
    assert caught.value.path == where and ("NUL" in caught.value.problem or "surrogate" in caught.value.problem)


@pytest.mark.parametrize("changes", [
    {"process__apparmorProfile": "docker-default"}, {"process__selinuxLabel": "a:b:c:d"},
    {"linux__resources": {"network": {"classID": 1}}}, {"linux__resources": {"memory": {"kernel": 1}}},
    {"linux__resources": {"memory": {"swappiness": 1}}}, {"linux__resources": {"rdma": {"x": {"hcaHandles": 1}}}},
])  # fmt: skip
def test_what_this_host_cannot_is_an_error(changes: dict[str, Any]) -> None:
    kind = HYBRID if "rdma" in str(changes) else V2
    with pytest.raises(Unsupported):
        build.plan(oci.read(config(**changes)), host(kind))


@pytest.mark.parametrize("asked", [{}, {"closID": "x"}], ids=["empty", "named"])
def test_intel_rdt_is_an_error_that_says_what_to_do(asked: dict[str, str]) -> None:
    """Also an empty one, which asks for a group of its own, config-linux.md "Intel RDT"."""
    with pytest.raises(Unsupported) as caught:
        oci.read(config(linux__intelRdt=asked))
    assert str(caught.value) == "unsupported: linux.intelRdt: Intel's resource director is not set by Dolium"
    assert "createRuntime" in caught.value.hint and "/sys/fs/resctrl/" in caught.value.hint


def test_kernel_memory_is_an_error_where_the_kernel_passes_it_over() -> None:
    spec = config(linux__resources={"memory": {"kernel": 5, "kernelTCP": 6}})
    with pytest.raises(Unsupported, match="limits no kernel memory by itself"):
        build.plan(oci.read(spec), host(HYBRID, kernel=(5, 16)))
    found = {step.path.rpartition("/")[2] for step in build.plan(oci.read(spec), host(HYBRID, kernel=(5, 15))) if step.op == "set_limit"}
    assert found == {"memory.kmem.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes"}


@pytest.mark.parametrize("version", ["1.0.0", "1.0.2-dev", "1.3.0", "1.9.0", "1.2.0+build", "1.0"])
def test_every_version_from_1_on_is_read(version: str) -> None:
    assert oci.read(config(ociVersion=version))["ociVersion"] == version


def test_labels_where_the_kernel_has_them() -> None:
    steps = plan(config(process__apparmorProfile="x", process__selinuxLabel="a:b"), labels=("apparmor", "selinux"))
    found = {step.path: step.data for step in steps if step.op == "write"}
    assert found == {"/proc/self/attr/apparmor/exec": b"exec x", "/proc/self/attr/exec": b"a:b"}


def test_a_mount_label_where_selinux_is_at_work() -> None:
    """And nowhere else: as with crun and runc, which look whether it is enabled."""
    label = "system_u:object_r:container_file_t:s0:c1,c2"
    spec = config(linux__mountLabel=label)
    steps = plan(spec, labels=("selinux",))
    labelled = {step.path2 or step.path for step in steps if step.op == "new_mount" and f"context={label}".encode() in step.data.split(b"\0")}
    assert labelled == {"tmpfs", "devpts", "shm"}
    assert not any(b"context=" in step.data for step in plan(spec))


def test_unknown_fields_are_ignored() -> None:
    spec = config(nonsense={"a": 1}, process__nonsense=1, linux__nonsense=[], linux__mountLabel="x")
    assert [step.what for step in plan(spec)] == [step.what for step in plan(config())]


def test_null_is_absence() -> None:
    """As Go writes an empty slice."""
    spec = config(hooks=None, linux__resources=None, process__rlimits=None, linux__seccomp=None, annotations=None)
    assert [step.what for step in plan(spec)] == [step.what for step in plan(config())]


def test_unknown_capabilities_are_left_out() -> None:
    """As runc and crun have it."""
    spec = config(process__capabilities={each: ["CAP_KILL", "CAP_NEW"] for each in ("bounding", "effective", "permitted")})
    caps = next(step for step in plan(spec) if step.op == "caps")
    assert (caps.n1, int.from_bytes(caps.data, "little")) == (1 << 5, 1 << 5)


def test_the_five_sets_are_what_they_say() -> None:
    sets = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}
    steps = plan(config(process__capabilities=sets))
    caps, bounds = (next(step for step in steps if step.op == op) for op in ("caps", "bounds"))
    assert (bounds.n1, caps.n1, int.from_bytes(caps.data, "little"), caps.n2, caps.n3) == (33, 1, 33, 32, 32)


@pytest.mark.parametrize(("resources", "v2", "hybrid"), [
    ({"memory": {"limit": 100, "swap": 150, "reservation": 50}}, {"memory.max": "100", "memory.swap.max": "50", "memory.low": "50"},
     {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "150", "memory.soft_limit_in_bytes": "50"}),
    ({"memory": {"limit": -1, "swap": -1}}, {"memory.max": "max", "memory.swap.max": "max"},
     {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"}),
    ({"cpu": {"shares": 1024, "quota": 5000, "period": 10000}}, {"cpu.weight": "100", "cpu.max": "5000 10000"},
     {"cpu.shares": "1024", "cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000"}),
    ({"cpu": {"quota": -1}}, {"cpu.max": "max"}, {"cpu.cfs_quota_us": "-1"}),
    ({"cpu": {"cpus": "0-1", "mems": "0", "idle": 1}}, {"cpuset.cpus": "0-1", "cpuset.mems": "0", "cpu.idle": "1"},
     {"cpuset.cpus": "0-1", "cpuset.mems": "0", "cpu.idle": "1"}),
    ({"pids": {"limit": -1}}, {"pids.max": "max"}, {"pids.max": "max"}),
    ({"pids": {"limit": 0}}, {"pids.max": "0"}, {"pids.max": "0"}),
    ({"cpu": {"shares": 0}, "memory": {"limit": 0, "swap": 0}, "blockIO": {"weight": 0}}, {}, {}),
    ({"blockIO": {"weight": 500}}, {"io.bfq.weight": "500"}, {"blkio.weight": "500"}),
    ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}, {"io.bfq.weight": "8:0 500"}, {"blkio.weight_device": "8:0 500"}),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}}, {"io.max": "8:0 rbps=5"},
     {"blkio.throttle.read_bps_device": "8:0 5"}),
    ({"hugepageLimits": [{"pageSize": "2MB", "limit": 7}]}, {"hugetlb.2MB.max": "7", "hugetlb.2MB.rsvd.max": "7"},
     {"hugetlb.2MB.max": "7", "hugetlb.2MB.rsvd.max": "7"}),
    ({"unified": {"cgroup.max.depth": "5"}}, {"cgroup.max.depth": "5"}, {"cgroup.max.depth": "5"}),
])  # fmt: skip
def test_resources(resources: dict[str, Any], v2: dict[str, str], hybrid: dict[str, str]) -> None:
    assert written(config(linux__resources=resources)) == v2
    assert written(config(linux__resources=resources), HYBRID) == hybrid


@pytest.mark.parametrize(("wrong", "words"), [
    ({"memory": {"limit": -1, "swap": 64}}, "memory.swap: is memory and swap together, so it needs memory.limit"),
    ({"memory": {"swap": 64}}, "memory.swap: is memory and swap together, so it needs memory.limit"),
    ({"memory": {"limit": 64, "swap": 32}}, "memory.swap: is memory and swap together, so it cannot be less than memory.limit"),
    ({"blockIO": {"weight": 5}}, "blockIO.weight: is from 10 to 1000, not 5"), ({"blockIO": {"weight": 1001}}, "blockIO.weight: is from 10 to 1000, not 1001"),
], ids=["swap without a limit", "swap alone", "less than the limit", "light", "heavy"])  # fmt: skip
@pytest.mark.parametrize("kind", [V2, HYBRID], ids=["v2", "hybrid"])
def test_resources_that_make_no_sense(wrong: dict[str, Any], words: str, kind: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=words):
        plan(config(linux__resources=wrong), kind=kind)


def test_only_minus_one_is_unlimited() -> None:
    """Other negative numbers are the kernel's to refuse."""
    assert written(config(linux__resources={"memory": {"limit": -2, "reservation": -2}, "pids": {"limit": -2}})) == \
        {"memory.max": "-2", "memory.low": "-2", "pids.max": "-2"}


def test_a_weight_of_a_disk_where_there_is_no_bfq() -> None:
    """io.weight has another scale."""
    steps = plan(config(linux__resources={"blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}}))
    other = [step.other for step in steps if step.path.endswith("io.bfq.weight")]
    assert [(step.path.rpartition("/")[2], step.data) for step in other if step] == [("io.weight", b"default 10000"), ("io.weight", b"8:0 1")]


@pytest.mark.parametrize(("idle", "order"), [(1, ["cpu.weight", "cpu.idle"]), (0, ["cpu.idle", "cpu.weight"])])
def test_a_weight_is_written_while_a_group_is_not_idle(idle: int, order: list[str]) -> None:
    assert [*written(config(linux__resources={"cpu": {"idle": idle, "shares": 512}}))] == order


@pytest.mark.parametrize(("given", "before", "found"), [
    ({"cpu": {"period": 60}}, {"cpu": {"quota": 30, "shares": 7}}, {"cpu": {"period": 60, "quota": 30}}),
    ({"cpu": {"period": 60, "quota": 0, "shares": 0}}, {"cpu": {"quota": 30}}, {"cpu": {"period": 60, "quota": 30}}),
    ({"cpu": {"quota": 60}}, {"cpu": {"quota": 30, "period": 50}}, {"cpu": {"quota": 60, "period": 50}}),
    ({"cpu": {"shares": 60}}, {"cpu": {"quota": 30, "period": 50}}, {"cpu": {"shares": 60}}),
    ({"cpu": {"period": 60}}, {}, {"cpu": {"period": 60}}),
    ({"memory": {"swap": 9}}, {"memory": {"limit": 5, "swap": 6}}, {"memory": {"swap": 9, "limit": 5}}),
    ({"memory": {"swap": -1}}, {"memory": {"limit": 5, "swap": 6}}, {"memory": {"swap": -1}}),
    ({"memory": {"limit": 4, "swap": 0}}, {"memory": {"limit": 5, "swap": 6}}, {"memory": {"limit": 4}}),
    ({"memory": {"limit": -1}}, {"memory": {"limit": 5, "swap": 6}}, {"memory": {"limit": -1, "swap": -1}}),
    ({"pids": {"limit": 0}, "cpu": {"idle": 0, "burst": 0}}, {}, {"pids": {"limit": 0}, "cpu": {"idle": 0, "burst": 0}}),
], ids=["period", "zeros", "quota", "shares", "unknown", "swap", "no swap limit", "zero swap", "no limit", "zeros that are values"])  # fmt: skip
def test_what_stands_together_is_updated_together(given: dict[str, Any], before: dict[str, Any], found: dict[str, Any]) -> None:
    assert resources.completed(given, before) == found


def test_no_process_more_from_now_on() -> None:
    """pids.limit 0 of one that lives is written at once."""
    where = {"pids": "/sys/fs/cgroup/x"}
    assert [step.data for step in resources.writes({"pids": {"limit": 0}}, where, host(), first=False)] == [b"0"]


@pytest.mark.parametrize("shares", [1, 262145])
def test_shares_that_there_are_not(shares: int) -> None:
    """Version 1 would take the nearest; of version 2 the formula of the specification does, which is all that it has."""
    wrong = config(linux__resources={"cpu": {"shares": shares}})
    with pytest.raises(SpecError, match=f"from 2 to 262144, not {shares}"):
        plan(wrong, kind=HYBRID)
    assert written(wrong) == {"cpu.weight": "1" if shares == 1 else "10000"}


def test_a_limit_of_no_processes_is_set_when_there_is_one() -> None:
    steps = plan(config(linux__resources={"pids": {"limit": 0}}))
    place = next(number for number, step in enumerate(steps) if step.op == "set_limit")
    assert place > next(number for number, step in enumerate(steps) if step.op == "clone")


def test_a_controller_that_is_not_there() -> None:
    """Where it may be that the user has no group of it, the error says what to do."""
    for rootless, hint in ((False, ""), (True, "that is delegated to you")):
        with pytest.raises(Unsupported) as caught:
            resources.writes({"memory": {"limit": 5}}, {}, host(rootless=rootless))
        assert "the `memory` cgroup controller is not there" in str(caught.value) and hint in caught.value.hint
        assert bool(hint) == bool(caught.value.hint)


def test_a_unified_file_of_a_v1_controller() -> None:
    with pytest.raises(Unsupported, match="one of cgroup v1"):
        written(config(linux__resources={"unified": {"memory.high": "5"}}), HYBRID)


def test_device_rules_of_v1_keep_their_order() -> None:
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    steps = build.plan(oci.read(config(linux__resources={"devices": rules})), host(HYBRID))
    found = [(step.path.rpartition("/")[2], step.data) for step in steps if "devices." in step.path]
    assert found[0] == ("devices.deny", b"a") and {("devices.allow", b"c 10:229 rw"), ("devices.allow", b"c 1:3 rwm")} <= {*found}


@pytest.mark.parametrize(("given", "path"), [("/a/b", "/a/b"), ("/a//b/", "/a/b"), ("a/b", "/dolium/a/b"), (None, "/dolium/name"),
                                             ("/user.slice/x:y", "/user.slice/x:y")])
def test_groups_are_exactly_where_the_config_says(given: str | None, path: str) -> None:
    steps = plan(config(linux__cgroupsPath=given))
    assert {step.path for step in steps if step.op == "make_group"} == {"/sys/fs/cgroup" + path}


@pytest.mark.parametrize(("options", "change"), [
    ([], {}), (["ro"], {"set": 1, "clear": 1}), (["rw"], {"clear": 1}), (["ro", "rw"], {"clear": 1}), (["nosuid", "nodev"], {"set": 6, "clear": 6}),
    (["rro"], {"set_below": 1, "clear_below": 1}), (["rnosuid", "rsuid"], {"clear_below": 2}), (["noatime"], {"set": 0x10, "clear": 0x70}),
    (["rstrictatime"], {"set_below": 0x20, "clear_below": 0x70}), (["relatime"], {"clear": 0x70}), (["rrelatime"], {"clear_below": 0x70}),
    (["rslave"], {"propagation": [(1 << 19, True)]}), (["shared", "runbindable"], {"propagation": [(1 << 20, False), (1 << 17, True)]}),
    (["idmap"], {"idmap": "idmap"}), (["ridmap"], {"idmap": "ridmap"}), (["tmpcopyup", "size=5"], {"copy_up": True, "data": ["size=5"]}),
    (["sync", "mode=755"], {"data": ["sync", "mode=755"]}), (["defaults", "bind", "rbind", "silent"], {}),
    (["rnosymfollow"], {"set_below": 0x200000, "clear_below": 0x200000}), (["rprivate"], {"propagation": [(1 << 18, True)]}),
])  # fmt: skip
def test_mount_options(options: list[str], change: dict[str, Any]) -> None:
    found = Options(options)
    plain = {"set": 0, "clear": 0, "set_below": 0, "clear_below": 0, "propagation": [], "idmap": "", "copy_up": False, "data": []}
    assert {name: getattr(found, name) for name in Options.__slots__} == {**plain, **change}


def test_every_option_of_the_specification_is_known() -> None:
    named = ("async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec noiversion nolazytime "
             "norelatime nostrictatime nosuid private rbind relatime remount ro rprivate rshared rslave runbindable rw shared silent slave "
             "strictatime suid sync unbindable nosymfollow symfollow ratime rdev rdiratime rexec rnoatime rnodev rnodiratime rnoexec "
             "rnorelatime rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow idmap ridmap mand nomand tmpcopyup")
    for option in named.split():
        assert [each for each in Options([option]).data if each not in attributes.OF_SUPERBLOCK] == [], option


def test_attributes_are_cleared_before_they_are_set() -> None:
    """mount_setattr(2): a time is chosen by clearing all of them; what is set is not cleared too."""
    assert Options(["ro", "noatime", "suid"]).attributes() == (0x11 | (0x70 | 2) << 32)


def test_relative_paths_of_the_host_start_from_the_bundle() -> None:
    spec = config(mounts=[{"destination": "data", "source": "data", "options": ["bind"]}])
    steps = plan(spec)
    assert {step.path for step in steps if step.op == "open_tree" and step.actor == OUTSIDE} == {"/bundle/rootfs", "/bundle/data"}
    assert any(step.op == "move_mount" and step.path == "/data" for step in steps)


def test_namespaces_of_others_are_entered_users_last() -> None:
    spaces = [{"type": "user", "path": "/u"}, {"type": "network", "path": "/n"}, {"type": "pid", "path": "/p"}, {"type": "mount"}]
    mappings = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    steps = plan(config(linux__namespaces=spaces, linux__uidMappings=mappings, linux__gidMappings=mappings))
    joined = [step.n1 for step in steps if step.op == "join" and step.actor == OUTSIDE]
    assert joined == [0x40000000, 0x20000000, 0x10000000]
    operations = [step.op for step in steps if step.actor == OUTSIDE]
    assert operations.index("open_tree") < operations.index("join") < operations.index("clone")


def test_hooks_stand_in_the_plan_in_their_order() -> None:
    spec = config(hooks={name: [{"path": f"/{name}"}] for name in ("createContainer", "startContainer", "createRuntime", "prestart")})
    steps = plan(spec)
    found = [step.path for step in steps if step.actor == HOST and step.op == "hook"]
    assert found == ["/prestart", "/createRuntime", "/createContainer", "/startContainer"]
    places = {step.op: number for number, step in enumerate(steps)}
    at = {step.path: number for number, step in enumerate(steps) if step.op == "hook"}
    assert at["/createContainer"] < places["pivot_root"] < places["wait_start"] < at["/startContainer"] < places["exec"]


@pytest.mark.parametrize(("text", "mask"), [("0", 1), ("0-3", 15), ("1,3", 10), ("0-1, 64", 3 | 1 << 64), ("63", 1 << 63)])
def test_lists_of_numbers(text: str, mask: int) -> None:
    data = process.numbers(text, "x")
    assert int.from_bytes(data, "little") == mask and len(data) % 8 == 0


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "9999", "1,,2", "0x1", "1-2-3", "²", "99999999999"])
def test_lists_of_numbers_that_are_none(text: str) -> None:
    with pytest.raises(SpecError):
        process.numbers(text, "x")


def test_mappings_of_mounts_are_made_once_each() -> None:
    mapping = [{"containerID": 0, "hostID": 5, "size": 1}]
    mount = {"source": "/s", "options": ["bind"], "uidMappings": mapping, "gidMappings": mapping}
    steps = plan(config(mounts=[{**mount, "destination": "/a"}, {**mount, "destination": "/b"}]))
    made = [step.out for step in steps if step.op == "make_users"]
    assert made == [slots.FIRST_USERS]
    assert [step.fd2 for step in steps if step.op == "set_attr" and step.fd2 >= 0] == made * 2


def test_a_bundle_is_planned_without_being_read_first() -> None:
    raw = copy.deepcopy(DEFAULT)
    assert build.plan(raw, host()) and raw == DEFAULT, "and what was given stays as it was"


def test_inside_names_no_path_of_the_host() -> None:
    own = {("set_attr", "/"), ("move_mount", "/"), ("move_mount", "/dev"), ("write", "/proc/self/oom_score_adj")}
    for step in plan(config(process__oomScoreAdj=5, linux__sysctl={"net.core.somaxconn": "5"}, process__cwd="/x")):
        root = step.fd2 if step.op == "move_mount" else step.fd
        if step.actor == INSIDE and step.op in ("open", "open_tree", "move_mount", "mkdir", "symlink", "mknod", "write", "set_attr") and root < 0:
            assert (step.op, step.path) in own, step.what


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{} x", "nul", '{"a":NaN}', '"\x01"', "[" * 100000, '{"a":' * 5000, "1" * 5000, "\ufeff{}"])
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        document.read(text, "config.json")
    assert str(caught.value).startswith("config.json: ")


@pytest.mark.parametrize("value", [{}, [], {"a": [1, 2.5, None, True, "é\n\"", "\ud800"]}, "x", 5])
def test_json_there_and_back(value: object) -> None:
    assert document.read(f" {document.write(value)}\n", "x") == value
