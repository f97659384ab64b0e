"""--systemd-cgroup where systemd runs: the container's group is a scope of systemd's, with its limits in both.  Each test is named
after its rule.  `make test-systemd` runs these in a machine that has one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bundles import RUNTIME, Bundle, config, script, wait_for
from containers import DOLIUM, NOBODY, SLOW

pytestmark = pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="systemd does not run here: make test-systemd")
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
TOP = "/sys/fs/cgroup"
DENIED = [{"allow": False, "access": "rwm"}]
LIMITS: dict[str, Any] = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20}, "pids": {"limit": 50},
    "cpu": {"shares": 512, "quota": 25_500, "period": 100_000, "cpus": "0"}, "blockIO": {"weight": 200}, "devices": DENIED,
}  # fmt: skip
SHOWN = {"MemoryMax": str(64 << 20), "MemoryLow": str(32 << 20), "MemorySwapMax": "0", "TasksMax": "50", "CPUWeight": "59",
         "CPUQuotaPerSecUSec": "260ms", "CPUQuotaPeriodUSec": "100ms", "AllowedCPUs": "0", "IOWeight": "1200", "DevicePolicy": "strict",
         "Delegate": "yes", "DefaultDependencies": "no", "MemoryAccounting": "yes", "CPUAccounting": "yes", "IOAccounting": "yes",
         "TasksAccounting": "yes", "ActiveState": "active"}  # fmt: skip
FILES = {"memory.max": str(64 << 20), "memory.low": str(32 << 20), "memory.swap.max": "0", "pids.max": "50", "cpu.weight": "59",
         "cpu.max": "25500 100000", "cpuset.cpus": "0"}  # fmt: skip


def asking(bundle: Bundle, before: str = "") -> Bundle:
    """With --systemd-cgroup before each verb, as engines have it."""
    path = f"{bundle.directory}/asking"
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\n{before}exec "{bundle.runtime}" --systemd-cgroup "$@"\n')
    os.chmod(path, 0o755)
    bundle.runtime = path
    return bundle


@pytest.fixture
def asked(bundle: Bundle) -> Iterator[Bundle]:
    """A bundle; afterwards neither a unit nor a group of it is there."""
    yield asking(bundle)
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    assert show(scope(bundle), "LoadState") == "not-found"
    assert not [where for where, names, _ in os.walk(TOP) if scope(bundle) in names]


def scope(bundle: Bundle) -> str:
    return f"dolium-{bundle.id}.scope"


def systemctl(*words: str) -> str:
    ended = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert ended.returncode == 0, ended
    return ended.stdout


def shown(unit: str) -> dict[str, str]:
    """Its properties; of one with several values the last."""
    return dict(line.split("=", 1) for line in systemctl("show", unit).splitlines())


def show(unit: str, name: str) -> str:
    return systemctl("show", "--value", "-p", name, unit).strip()


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def test_limits_stand_in_the_unit_and_in_the_group(asked: Bundle) -> None:
    asked.running(config(process__args=["sleep", "1000"], linux__resources=LIMITS, linux__cgroupsPath=f"dolium-test-a.slice:dolium:{asked.id}"))
    found = shown(scope(asked))
    assert {name: found[name] for name in SHOWN} == SHOWN
    assert found["Slice"] == "dolium-test-a.slice"
    where = f"/dolium.slice/dolium-test.slice/dolium-test-a.slice/{scope(asked)}"
    assert found["ControlGroup"] == where and found["Description"] == f"dolium container {asked.id}"
    assert {name: read(f"{TOP}{where}/{name}") for name in FILES} == FILES
    assert read(f"/proc/{asked.state()['pid']}/cgroup") == f"0::{where}"


def test_a_reload_of_systemd_changes_nothing(asked: Bundle) -> None:
    rights = {each: ["CAP_MKNOD"] for each in ("bounding", "effective", "permitted")}
    loop = "mknod /mem c 1 1; while sleep 0.1; do head -c1 /dev/zero >/dev/null && ! head -c1 /mem 2>/dev/null && echo held; done"
    asked.running(script(loop, linux__resources=LIMITS, process__capabilities=rights))
    wait_for(lambda: "held" in asked.read("out"))
    systemctl("daemon-reload")
    before = asked.read("out").count("held")
    wait_for(lambda: asked.read("out").count("held") > before + 2)
    group = f"{TOP}/system.slice/{scope(asked)}"
    for name in ("memory.max", "memory.low", "memory.swap.max", "pids.max", "cpu.weight", "cpuset.cpus"):
        assert read(f"{group}/{name}") == FILES[name]
    assert read(f"{group}/cpu.max") in ("25500 100000", "26000 100000")  # systemd keeps whole percents


def test_every_verb(asked: Bundle) -> None:
    assert asked.create(config(process__args=["sleep", "1000"])).code == 0
    unit, group = scope(asked), f"{TOP}/system.slice/{scope(asked)}"
    assert asked.status() == "created" and show(unit, "ActiveState") == "active"
    assert asked.start().code == 0 and asked.status() == "running"
    assert asked.verb("exec", asked.id, "cat", "/proc/self/cgroup").out == "0::/\n"
    assert asked.verb("exec", "--detach", asked.id, "sh", "-c", "exec sleep 1000 >/dev/null 2>&1").code == 0
    members = read(f"{group}/cgroup.procs").split()
    assert len(members) == 2 and [*map(str, json.loads(asked.verb("ps", "--format", "json", asked.id).out))] == members
    assert asked.verb("pause", asked.id).code == 0 and asked.status() == "paused" and read(f"{group}/cgroup.freeze") == "1"
    assert asked.verb("resume", asked.id).code == 0 and asked.status() == "running"
    stats = json.loads(asked.verb("events", "--stats", asked.id).out)
    assert stats["data"]["pids"]["current"] == 2
    assert asked.verb("delete", asked.id).code == 1
    assert asked.verb("kill", asked.id, "KILL").code == 0
    asked.wait()
    deleted = asked.verb("delete", asked.id)
    assert (deleted.code, deleted.err) == (0, "")
    assert show(unit, "LoadState") == "not-found" and not os.path.exists(group)


def test_one_that_is_paused_is_deleted(asked: Bundle) -> None:
    asked.running()
    assert asked.verb("pause", asked.id).code == 0
    assert asked.verb("delete", "--force", asked.id).code == 0
    assert show(scope(asked), "LoadState") == "not-found"


def test_run_in_the_foreground(asked: Bundle) -> None:
    asked.write(script("cat /proc/self/cgroup; exit 7"))
    ended = asked.verb("run", "-b", asked.directory, asked.id)
    assert (ended.code, ended.out, ended.err) == (7, "0::/\n", "")
    assert show(scope(asked), "LoadState") == "not-found"


def test_update_changes_both(asked: Bundle) -> None:
    asked.running(config(process__args=["sleep", "1000"], linux__resources=LIMITS))
    ended = asked.verb("update", "--memory", "41943040", "--memory-swap", "41943040", "--pids-limit", "20", "--cpu-quota", "70000",
                       "--cpu-shares", "1024", asked.id)  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    found, group = shown(scope(asked)), f"{TOP}/system.slice/{scope(asked)}"
    assert [found[each] for each in ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec", "CPUWeight")] == ["41943040", "0", "20", "700ms", "100"]
    assert [read(f"{group}/{each}") for each in ("memory.max", "pids.max", "cpu.max", "cpu.weight")] == ["41943040", "20", "70000 100000", "100"]


def test_what_is_killed_for_want_of_memory_leaves_no_failed_unit(asked: Bundle) -> None:
    asked.running(script("exec tail /dev/zero", linux__resources={"memory": {"limit": 16 << 20, "swap": 16 << 20}}))
    asked.wait()
    deleted = asked.verb("delete", asked.id)
    assert (deleted.code, deleted.err) == (0, "")
    assert show(scope(asked), "LoadState") == "not-found"


def test_a_failed_unit_of_that_name_is_in_nobodys_way(asked: Bundle) -> None:
    unit = scope(asked)
    subprocess.run(["systemd-run", "--quiet", "--scope", "--unit", unit, "-p", "RuntimeMaxSec=1", "sleep", "1000"], check=False, capture_output=True)
    wait_for(lambda: show(unit, "ActiveState") == "failed")
    asked.running()
    assert show(unit, "ActiveState") == "active"


def test_anothers_unit_of_that_name_is_left_alone(asked: Bundle) -> None:
    unit = scope(asked)
    with subprocess.Popen(["systemd-run", "--quiet", "--scope", "--unit", unit, "sleep", "1000"]) as other:
        wait_for(lambda: show(unit, "ActiveState") == "active")
        error = asked.refused(config())
        assert error.startswith(f"systemd has not made `{unit}`: systemd says: Unit {unit} was already loaded"), error
        assert asked.verb("delete", "--force", asked.id).code == 0
        assert show(unit, "ActiveState") == "active" and other.poll() is None
        systemctl("stop", unit)


def test_what_systemd_refuses_is_one_telling_line(asked: Bundle) -> None:
    error = asked.refused(config(annotations={"org.systemd.property.NoSuchThing": "'a'"}))
    assert error.startswith(f"systemd has not made `{scope(asked)}`: systemd says: ") and "NoSuchThing" in error
    error = asked.refused(config(linux__cgroupsPath="a/b.slice:x:y"))
    assert error.startswith("linux.cgroupsPath: `a/b.slice` is no name of a slice")


def test_annotations_are_properties(asked: Bundle) -> None:
    asked.running(config(process__args=["sleep", "1000"], annotations={
        "org.systemd.property.TimeoutStopSec": "uint64 7", "org.systemd.property.After": "['local-fs.target']",
        "org.systemd.property.CollectMode": "'inactive-or-failed'"}))  # fmt: skip
    found = shown(scope(asked))
    assert found["TimeoutStopUSec"] == "7s" and "local-fs.target" in found["After"] and found["CollectMode"] == "inactive-or-failed"


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
def test_create_that_is_killed_is_cleaned_by_delete_force(asked: Bundle, delay: float) -> None:
    asked.write(config(process__args=["sleep", "1000"]))
    process = subprocess.Popen([asked.runtime, "--root", asked.root, "create", "-b", asked.directory, asked.id],
                               stdin=subprocess.DEVNULL, env=asked.environment)  # fmt: skip
    time.sleep(delay * SLOW)
    process.kill()
    process.wait()
    assert asked.verb("delete", "--force", asked.id).code == 0
    wait_for(lambda: show(scope(asked), "LoadState") == "not-found")


def test_without_a_bus(asked: Bundle) -> None:
    """As on a host that has no dbus-daemon: systemd listens on a socket of its own, too."""
    hidden = asking(asked, 'if [ -z "$HIDDEN" ]; then HIDDEN=1 exec unshare -m --propagation private "$0" "$@"; fi; mount -t tmpfs none /run/dbus; ')
    hidden.running()
    assert hidden.verb("update", "--pids-limit", "9", asked.id).code == 0 and show(scope(asked), "TasksMax") == "9"
    assert hidden.verb("delete", "--force", asked.id).code == 0
    assert show(scope(asked), "LoadState") == "not-found"


def test_where_no_systemd_answers(asked: Bundle) -> None:
    usual = asked.runtime
    asking(asked, 'if [ -z "$HIDDEN" ]; then HIDDEN=1 exec unshare -m --propagation private "$0" "$@"; fi\n'
                  "mount -t tmpfs none /run/dbus; mount --bind /dev/null /run/systemd/private\n")  # fmt: skip
    error = asked.refused(config())
    assert error.startswith(f"--systemd-cgroup, {scope(asked)}: the host's systemd cannot be reached: `/run/dbus/system_bus_socket`: No such file"), error
    assert "choose the cgroupfs driver" in error
    asked.runtime = usual


def test_users_of_its_own(asked: Bundle) -> None:
    mapping = [{"containerID": 0, "hostID": 500000, "size": 65536}]
    spec = script("id -u; cat /proc/self/uid_map; cat /proc/self/cgroup", linux__resources=LIMITS, linux__uidMappings=mapping, linux__gidMappings=mapping)
    spec["linux"]["namespaces"].append({"type": "user"})
    subprocess.run(["chown", "-R", "500000:500000", asked.directory], check=True)
    assert asked.output(spec).split() == ["0", "0", "500000", "65536", "0::/"]


def test_users_of_anothers(asked: Bundle) -> None:
    """As in a pod: with them go the rights of the host's root, before there is a group."""
    holder = subprocess.Popen(["unshare", "-U", "sleep", "1000"])
    try:
        wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/user") != os.readlink("/proc/self/ns/user"))
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{holder.pid}/{name}", "w") as file:
                file.write("0 500000 65536\n")
        subprocess.run(["chown", "-R", "500000:500000", asked.directory], check=True)
        spec = script("cat /proc/self/uid_map; head -c1 /dev/null && echo null", linux__resources=LIMITS)
        spec["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{holder.pid}/ns/user"})
        assert asked.output(spec).split() == ["0", "500000", "65536", "null"]
    finally:
        holder.kill()
        holder.wait()


def test_as_runc_and_crun_have_it(asked: Bundle) -> None:
    """The unit looks alike whoever asks for it, but for what they differ in themselves."""
    spec = config(process__args=["sleep", "1000"], linux__resources={**LIMITS, "cpu": {**LIMITS["cpu"], "shares": 1024}}, linux__cgroupsPath=f"system.slice:dolium:{asked.id}")
    names = [*SHOWN, "Slice", "ControlGroup", "OOMPolicy", "CollectMode", "KillMode", "TimeoutStopUSec", "Before", "After", "Conflicts", "Requires"]
    asked.running(spec)
    ours = shown(scope(asked))
    assert asked.verb("delete", "--force", asked.id).code == 0
    own = {"runc": {"IOWeight", "MemorySwapMax"}, "crun": {"MemorySwapMax", "MemoryLow"}}
    compared = 0
    for other, different in own.items():
        if not shutil.which(other):
            continue
        subprocess.run([other, "--systemd-cgroup", "run", "--detach", "-b", asked.directory, asked.id], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, check=True, timeout=60 * SLOW)  # fmt: skip
        theirs = shown(scope(asked))
        subprocess.run([other, "--systemd-cgroup", "delete", "--force", asked.id], check=True, timeout=60 * SLOW)
        found = {name: (ours[name], theirs[name]) for name in names if name not in different and ours[name] != theirs[name]}
        assert not found, (other, found)
        compared += 1
    if not compared:
        pytest.skip("neither runc nor crun here")


def test_explain_shows_who_makes_the_group(asked: Bundle) -> None:
    asked.running(config(process__args=["sleep", "1000"], linux__resources=LIMITS, linux__cgroupsPath=f"system.slice:dolium:{asked.id}"))
    by_id = subprocess.run([DOLIUM, "explain", "-v", "--bundle", asked.directory], capture_output=True, text=True, check=True).stdout
    assert f"systemd: {scope(asked)}"[:30] in by_id and "MemoryMax=67108864" in by_id and "with --systemd-cgroup" in by_id


def test_podman(asked: Bundle) -> None:
    """`--cgroup-manager systemd`, which is what it does on such hosts by itself."""
    if not shutil.which("podman"):
        pytest.skip("no podman here")
    name, top = asked.id, asked.directory
    engine = ["podman", "--root", f"{top}/store", "--runroot", f"{top}/runroot", "--storage-driver", "vfs", "--events-backend", "none",
              "--cgroup-manager", "systemd", "--runtime", RUNTIME]  # fmt: skip

    def podman(*words: str) -> str:
        ended = subprocess.run([*engine, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * SLOW, check=False)
        assert ended.returncode == 0, ended
        return ended.stdout

    podman("run", "--detach", "--log-driver", "k8s-file", "--name", name, "--network", "none", "--memory", "64m", "--pids-limit", "33",
           "--rootfs", asked.rootfs, "sh", "-c", "cat /sys/fs/cgroup/memory.max; exec sleep 1000")  # fmt: skip
    unit = f"libpod-{podman('inspect', '--format', '{{.Id}}', name).strip()}.scope"
    try:
        found = shown(unit)
        assert [found[each] for each in ("MemoryMax", "TasksMax", "Slice", "Delegate")] == [str(64 << 20), "33", "machine.slice", "yes"]
        assert podman("exec", name, "cat", "/proc/self/cgroup") == "0::/\n"
        wait_for(lambda: podman("logs", name) == f"{64 << 20}\n")
        podman("pause", name)
        podman("unpause", name)
    finally:
        podman("rm", "--force", "--time", "0", name)
    assert show(unit, "LoadState") == "not-found"


PLAIN = 'exec setpriv --reuid {0} --regid {0} --clear-groups env XDG_RUNTIME_DIR=/run/user/{0} '


@pytest.fixture
def plain(bundle: Bundle) -> Iterator[Bundle]:
    """Of a plain user who has a systemd of his own, called from outside of it."""
    started = subprocess.run(["systemctl", "start", f"user@{NOBODY}.service"], capture_output=True, text=True, check=False, timeout=120 * SLOW)
    if started.returncode:
        pytest.skip(f"no systemd of a plain user here: {started.stderr}")
    asking(bundle)
    path = f"{bundle.directory}/plain"
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\n{PLAIN.format(NOBODY)} "{bundle.runtime}" "$@"\n')
    os.chmod(path, 0o755)
    bundle.runtime = path
    fresh = f"{bundle.directory}/fresh"
    subprocess.run(["cp", "-a", bundle.rootfs, fresh], check=True)
    shutil.rmtree(bundle.rootfs)
    os.rename(fresh, bundle.rootfs)
    os.makedirs(bundle.root, exist_ok=True)
    subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", bundle.root, bundle.directory], check=True)
    yield bundle
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    assert not [where for where, names, _ in os.walk(TOP) if scope(bundle) in names]
    systemctl("stop", f"user@{NOBODY}.service")


def test_a_plain_users_own_systemd(plain: Bundle) -> None:
    one = [{"containerID": 0, "hostID": NOBODY, "size": 1}]
    spec = config(process__args=["sleep", "1000"], linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 50}},
                  linux__uidMappings=one, linux__gidMappings=one)  # fmt: skip
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in ("/dev/pts", "/sys")]
    pid = plain.running(spec)
    group = f"/user.slice/user-{NOBODY}.slice/user@{NOBODY}.service/user.slice/{scope(plain)}"
    assert read(f"/proc/{pid}/cgroup") == f"0::{group}"
    assert (read(f"{TOP}{group}/memory.max"), read(f"{TOP}{group}/pids.max")) == (str(64 << 20), "50")
    assert plain.verb("exec", plain.id, "cat", "/proc/self/cgroup").out == "0::/\n"
    assert plain.verb("update", "--pids-limit", "20", plain.id).code == 0 and read(f"{TOP}{group}/pids.max") == "20"
    assert plain.verb("kill", plain.id, "KILL").code == 0
    plain.wait()
    deleted = plain.verb("delete", plain.id)
    assert (deleted.code, deleted.err) == (0, "")
