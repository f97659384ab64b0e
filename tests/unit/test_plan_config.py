"""Each option lands under its key of the OCI config, is marked as asked for, and changes nothing else."""

from __future__ import annotations

import json
import os
from typing import Any

import invent
import pytest

from dolium.engine import config
from dolium.errors import SpecError, Unsupported
from dolium.plan import capabilities

OWN = invent.facts(id_base=invent.RANGE)
SHARED = invent.facts()
BARE = invent.spec(OWN, invent.options())


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by path; a list of words is a leaf."""
    if isinstance(value, dict):
        return {key: leaf for name in value for key, leaf in flat(value[name], f"{path}.{name}" if path else name).items()}
    if isinstance(value, (list, tuple)) and any(isinstance(each, dict) for each in value):
        return {key: leaf for index, each in enumerate(value) for key, leaf in flat(each, f"{path}[{index}]").items()}
    return {path: value}


def changed(**options: Any) -> dict[str, Any]:
    """What differs from the config of a container for which nothing was asked, without Dolium's own part."""
    bare, other = flat(BARE), flat(invent.spec(OWN, invent.options(**options)))
    own = ("dolium.", "linux.seccomp")
    return {path: value for path, value in other.items() if bare.get(path, ...) != value and not path.startswith(own)}


def asked(**options: Any) -> set[str]:
    found: set[str] = invent.spec(OWN, invent.options(**options))["dolium"]["asked"]
    return found - {"process.args"}


DEFAULT = sorted(capabilities.DEFAULT)
MOUNTS = len(BARE["mounts"])
TABLE: list[tuple[dict[str, Any], dict[str, Any], set[str]]] = [
    ({"argv": ["x", "y"]}, {"process.args": ["x", "y"]}, set()),
    ({"cwd": "/srv"}, {"process.cwd": "/srv"}, {"process.cwd"}),
    ({"env": {"A": "b"}}, {"process.env": [*BARE["process"]["env"], "A=b"]}, set()),
    ({"env": {"PATH": "/x"}}, {"process.env": ["PATH=/x", *BARE["process"]["env"][1:]]}, set()),
    ({"hostname": "box"}, {"hostname": "box", "process.env": [each.replace(invent.NAME, "box") for each in BARE["process"]["env"]]},
     {"hostname"}),
    ({"memory": 8192}, {"linux.resources.memory.limit": 8192, "linux.resources.memory.swap": 8192}, {"memory.limit"}),
    ({"memory": 8192, "memory_swap": -1}, {"linux.resources.memory.limit": 8192, "linux.resources.memory.swap": -1},
     {"memory.limit", "memory.swap"}),
    ({"cpus": 0.25}, {"linux.resources.cpu.quota": 25000, "linux.resources.cpu.period": 100000}, {"cpu.quota"}),
    ({"cpu_weight": 7}, {"linux.resources.cpu.weight": 7}, {"cpu.shares"}),
    ({"cpu_shares": 7}, {"linux.resources.cpu.shares": 7}, {"cpu.shares"}),
    ({"cpuset_cpus": "0"}, {"linux.resources.cpu.cpus": "0"}, {"cpu.cpus"}),
    ({"pids": 5}, {"linux.resources.pids.limit": 5}, {"pids.limit"}),
    ({"pids": -1}, {"linux.resources.pids.limit": -1}, {"pids.limit"}),
    ({"oom_score_adj": 0}, {"process.oomScoreAdj": 0}, {"process.oomScoreAdj"}),
    ({"read_only": True}, {"root.readonly": True}, {"root.readonly"}),
    ({"no_new_privileges": False}, {"process.noNewPrivileges": False}, set()),
    ({"init": True}, {}, {"init"}),
    ({"why_denied": True}, {}, {"why_denied"}),
    ({"sysctl": {"net.core.somaxconn": "5"}}, {"linux.sysctl.net.core.somaxconn": "5"}, {"linux.sysctl.net.core.somaxconn"}),
    ({"cap_add": ["CAP_NET_ADMIN"]}, {f"process.capabilities.{each}": sorted([*DEFAULT, "CAP_NET_ADMIN"])
                                     for each in ("bounding", "effective", "permitted")},
     {"process.capabilities.bounding", "process.capabilities.effective"}),
    ({"ulimits": [("RLIMIT_CORE", 0, 5)]}, {"process.rlimits[0].type": "RLIMIT_CORE", "process.rlimits[0].soft": 0,
                                            "process.rlimits[0].hard": 5}, {"process.rlimits[0]"}),
    ({"mask": ["/proc/x"]}, {"linux.maskedPaths": [*config.MASKED, "/proc/x"]}, set()),
    ({"unmask": ["/proc/keys"]}, {"linux.maskedPaths": [each for each in config.MASKED if each != "/proc/keys"]}, set()),
    ({"unmask": ["/proc/sys"]}, {"linux.readonlyPaths": [each for each in config.READ_ONLY if each != "/proc/sys"]}, set()),
    ({"unmask": ["ALL"], "mask": ["/x"]}, {"linux.maskedPaths": ["/x"], "linux.readonlyPaths": []}, set()),
    ({"user": {"uid": 5, "gid": 6, "groups": (7,), "home": "/h"}},
     {"process.user.uid": 5, "process.user.gid": 6, "process.user.additionalGids": [7], "process.capabilities.effective": [],
      "process.env": [each.replace("=/root", "=/h") for each in BARE["process"]["env"]]}, {"process.user"}),
    ({"tty": True, "size": (24, 80)},
     {"process.terminal": True, "process.consoleSize.height": 24, "process.consoleSize.width": 80,
      "process.env": [*BARE["process"]["env"], "TERM=xterm"]}, {"process.terminal"}),
    ({"tmpfs": [("/t", ("size=5",))]}, {f"mounts[{MOUNTS}].destination": "/t", f"mounts[{MOUNTS}].type": "tmpfs",
     f"mounts[{MOUNTS}].source": "tmpfs", f"mounts[{MOUNTS}].options": ["nosuid", "noexec", "nodev", "size=5"]}, {f"mounts[{MOUNTS}]"}),
    ({"volumes": [("/a", "/b", True)]}, {f"mounts[{MOUNTS}].destination": "/b", f"mounts[{MOUNTS}].type": "bind",
     f"mounts[{MOUNTS}].source": "/a", f"mounts[{MOUNTS}].options": ["rbind", "nodev", "ro"]}, {f"mounts[{MOUNTS}]"}),
    ({"devices": [("/dev/null", "/dev/x", "rwm")]},
     {f"linux.devices[0].{key}": value for key, value in {
         "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": os.stat("/dev/null").st_mode & 0o777, "uid": 0, "gid": 0,
         "source": "/dev/null"}.items()}, {"linux.devices[0]"}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "keys", "marks"), TABLE, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_each_option_has_its_key(options: dict[str, Any], keys: dict[str, Any], marks: set[str]) -> None:
    assert changed(**options) == keys
    assert asked(**options) == marks


def test_every_option_is_in_the_table() -> None:
    tested = {name for options, _, _ in TABLE for name in options}
    elsewhere = {"add_hosts", "cap_drop", "disk", "dns", "dns_options", "dns_search", "held", "network", "of_image", "places", "seccomp", "store", "time_namespace", "userns", "watch"}
    assert tested | elsewhere == {*config.Options.__slots__}


def test_every_mark_is_a_step_of_the_plan() -> None:
    """Or `explain` would show what was asked for as a default."""
    from dolium.plan import askers, build

    for options, _, marks in TABLE:
        if options == {"pids": -1}:  # there is no step that does not limit
            continue
        spec = invent.spec(OWN, invent.options(**options))
        steps = build.plan(spec, OWN)
        for mark in marks:
            assert any(askers.who(step, {"asked": {mark}}) == askers.YOU for step in steps), (options, mark)


def test_nothing_asked() -> None:
    assert asked() == set()
    assert BARE["ociVersion"].startswith("1.") and BARE["hostname"] == invent.NAME and BARE["root"] == {"path": "/srv/alpine", "readonly": False}
    assert BARE["process"]["cwd"] == "/" and BARE["process"]["noNewPrivileges"] is True
    assert BARE["process"]["capabilities"]["bounding"] == DEFAULT
    assert BARE["process"]["capabilities"]["inheritable"] == BARE["process"]["capabilities"]["ambient"] == [], "CVE-2022-24769"
    assert BARE["linux"]["resources"] == {"pids": {"limit": config.PIDS}}
    assert BARE["linux"]["cgroupsPath"].endswith(invent.NAME)
    own = {key: value for key, value in BARE.items() if key != "dolium"}
    assert json.loads(json.dumps(own)) == own, "all but our own part is an OCI config.json"


def test_the_network_namespace() -> None:
    def types(**options: Any) -> list[str]:
        return [each["type"] for each in invent.spec(OWN, invent.options(**options))["linux"]["namespaces"]]

    assert {*types()} - {*types(network="host")} == {"network"}
    assert {*types(time_namespace=True)} - {*types()} == {"time"}
    assert "user" not in [each["type"] for each in invent.spec(SHARED, invent.options())["linux"]["namespaces"]]


def test_sysfs_is_bound_where_it_may_not_be_mounted() -> None:
    """With the host's network in a user namespace of one's own; without one it may be."""
    for host, kind in ((OWN, "bind"), (SHARED, "sysfs")):
        mount = next(each for each in invent.spec(host, invent.options(network="host"))["mounts"] if each["destination"] == "/sys")
        assert mount["type"] == kind and "ro" in mount["options"] and {"nosuid", "noexec", "nodev"} <= {*mount["options"]}


def test_ids() -> None:
    linux = BARE["linux"]
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": invent.RANGE, "size": 65536}]
    assert "uidMappings" not in invent.spec(SHARED, invent.options())["linux"]


@pytest.mark.parametrize(("add", "drop", "wanted"), [
    ([], ["ALL"], []), (["CAP_CHOWN"], ["ALL"], ["CAP_CHOWN"]), (["ALL"], ["CAP_CHOWN"], sorted({*capabilities.NUMBERS} - {"CAP_CHOWN"})),
    (["CAP_CHOWN"], ["CAP_CHOWN"], [each for each in DEFAULT if each != "CAP_CHOWN"]), (["ALL"], [], sorted(capabilities.NUMBERS))])  # fmt: skip
def test_capabilities(add: list[str], drop: list[str], wanted: list[str]) -> None:
    found = invent.spec(OWN, invent.options(cap_add=add, cap_drop=drop))["process"]["capabilities"]
    assert found["bounding"] == found["effective"] == found["permitted"] == wanted


def test_device_nodes_with_the_hosts_users() -> None:
    """As with docker, where a filter keeps what they name closed; where there is none, no nodes."""
    assert "CAP_MKNOD" in invent.spec(SHARED, invent.options())["process"]["capabilities"]["bounding"]
    bare = invent.facts("none")
    assert "CAP_MKNOD" not in invent.spec(bare, invent.options())["process"]["capabilities"]["bounding"]
    for add in ("CAP_MKNOD", "ALL"):
        assert "CAP_MKNOD" in invent.spec(SHARED, invent.options(cap_add=[add]))["process"]["capabilities"]["bounding"]
        with pytest.raises(Unsupported, match="disk"):
            invent.spec(bare, invent.options(cap_add=[add]))
    assert invent.spec(bare, invent.options(cap_add=["ALL"], cap_drop=["CAP_MKNOD"]))


def test_seccomp() -> None:
    own = {"defaultAction": "SCMP_ACT_ALLOW"}
    assert invent.spec(OWN, invent.options(seccomp=own))["linux"]["seccomp"] is own
    assert "seccomp" not in invent.spec(OWN, invent.options(seccomp="unconfined"))["linux"]
    assert BARE["linux"]["seccomp"]["defaultAction"] != "SCMP_ACT_ALLOW"
    assert asked(seccomp="unconfined") == asked(seccomp=own) == {"linux.seccomp"}


@pytest.mark.parametrize(("options", "word"), [
    ({"memory_swap": 5}, "--memory-swap"), ({"memory_swap": -1}, "--memory-swap"),
    ({"memory": 8192, "memory_swap": 8191}, "--memory-swap"), ({"cpu_weight": 5, "cpu_shares": 5}, "--cpu-weight"),
    *(({"volumes": [("/a", path, False)]}, "--volume") for path in ("/proc", "/proc/", "/proc/sys/x", "//proc", "///proc/1", "/dev", "/dev/", "/sys",
                                                                    "/", "//", "/x/..", "/x/../proc/self", "/./proc")),
    *(({"tmpfs": [(path, ())]}, "--tmpfs") for path in ("/proc", "/dev", "/proc/acpi", "//sys/")),
    ({"devices": [("/dev/null", "/tmp/null", "rwm")]}, "--device"), ({"devices": [("/etc/passwd", "/dev/x", "rwm")]}, "--device"),
    ({"devices": [("/dev/no-such", "/dev/x", "rwm")]}, "--device"),
])  # fmt: skip
def test_contradictions(options: dict[str, Any], word: str) -> None:
    with pytest.raises(SpecError) as caught:
        invent.spec(OWN, invent.options(**options))
    assert caught.value.path == word


@pytest.mark.parametrize("access", ["r", "w", "m", "rm", "wm"])
def test_less_than_a_whole_device(access: str) -> None:
    options = invent.options(devices=[("/dev/null", "/dev/x", access)])
    refused = "".join(each for each in "rw" if each not in access)
    assert invent.spec(OWN, options)["linux"]["resources"]["devices"] == [
        {"allow": False, "type": "c", "major": 1, "minor": 3, "access": refused},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": access}]  # fmt: skip
    assert "linux.resources.devices" in asked(devices=options.devices)
    for host in (invent.facts("none", id_base=invent.RANGE), invent.facts("v2", rootless=True, uid=1000, gid=1000)):
        with pytest.raises(Unsupported, match="device filter") as caught:
            invent.spec(host, options)
        assert caught.value.hint.endswith("or give it `rw`")


def test_masks_of_this_host() -> None:
    host = invent.facts(id_base=invent.RANGE, throttles=("/sys/devices/system/cpu/cpu0/thermal_throttle",))
    assert invent.spec(host, invent.options())["linux"]["maskedPaths"][-1].endswith("thermal_throttle")
    assert {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi", "/proc/interrupts"} <= {*config.MASKED}
    assert {"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"} <= {*config.READ_ONLY}


def test_a_mount_replaces_ours() -> None:
    for options in ({"tmpfs": [("/dev/shm", ())]}, {"volumes": [("/a", "/dev/shm", False)]}):
        mounts = [each for each in invent.spec(OWN, invent.options(**options))["mounts"] if each["destination"] == "/dev/shm"]
        assert len(mounts) == 1


def test_options_are_left_as_they_are() -> None:
    asked_for = invent.options(cap_add=["ALL"], mask=["/x"], env={"A": "b"}, volumes=[("/a", "/b", True)])
    before = {name: repr(getattr(asked_for, name)) for name in config.Options.__slots__}
    first = invent.spec(OWN, asked_for)
    assert {name: repr(getattr(asked_for, name)) for name in config.Options.__slots__} == before
    first["linux"]["maskedPaths"].append("/y")
    first["mounts"].clear()
    assert "/y" not in invent.spec(OWN, asked_for)["linux"]["maskedPaths"] and invent.spec(OWN, asked_for)["mounts"]
