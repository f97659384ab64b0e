"""Fields of config.json, each seen from within a container."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from bundles import KERNEL, SAFE, Bundle, config, maps_ids_of, script

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


def mounted(text: str, path: str) -> list[str]:
    """The options and optional fields of the mount at a path, in mountinfo."""
    line = next(line for line in reversed(text.splitlines()) if line.split()[4] == path)
    return [*line.split()[5].split(","), *line.split(" - ")[0].split()[6:]]


def with_mounts(bundle: Bundle, *mounts: dict[str, Any], text: str = "cat /proc/self/mountinfo", **changes: Any) -> str:
    spec = script(text, **changes)
    spec["mounts"] += mounts
    return bundle.output(spec)


def test_read_only_root(bundle: Bundle) -> None:
    assert bundle.output(script("touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo fine", root={"path": "rootfs", "readonly": True})) == \
        "refused\nfine\n"


def test_default_devices_and_links(bundle: Bundle) -> None:
    text = bundle.output(script("cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; ls -l ptmx | grep -c pts/ptmx"))
    assert text.splitlines()[:6] == ["null 1:3 666", "zero 1:5 666", "full 1:7 666", "random 1:8 666", "urandom 1:9 666", "tty 5:0 666"]


def test_devices_without_a_dev_of_its_own(bundle: Bundle) -> None:
    spec = script("echo x > /dev/null && stat -c %t:%T /dev/null; test -L /dev/stdin && echo link")
    spec["mounts"] = [each for each in spec["mounts"] if not each["destination"].startswith("/dev")]
    assert bundle.output(spec) == "1:3\nlink\n"


def test_devices(bundle: Bundle) -> None:
    devices = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 7, "gid": 8},
               {"path": "/else/where", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/pipe", "type": "p"},
               {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}, {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]
    text = bundle.output(script("stat -c '%t:%T %a %u:%g' /dev/fuse; stat -c '%t:%T' /else/where; test -p /dev/pipe && echo pipe", linux__devices=devices))
    assert text == "a:e5 640 7:8\n1:3\npipe\n"


def test_device_rules(bundle: Bundle) -> None:
    rules = [{"allow": False, "access": "rwm"}]
    devices = [{"path": "/dev/kmsg2", "type": "c", "major": 1, "minor": 11}]
    text = bundle.output(script("head -c1 /dev/kmsg2 2>/dev/null || echo refused; head -c1 /dev/zero >/dev/null && echo fine",
                                linux__devices=devices, linux__resources={"devices": rules}))
    assert text == "refused\nfine\n"


@pytest.mark.parametrize(("options", "has", "hasnt"), [
    (["ro"], ["ro"], ["nosuid"]), (["nosuid", "nodev", "noexec"], ["rw", "nosuid", "nodev", "noexec"], []), (["noatime"], ["noatime"], ["relatime"]),
    (["ro", "rw"], ["rw"], ["ro"]), (["private"], [], ["shared:1"]), (["nosymfollow"], ["nosymfollow"], []), (["strictatime"], [], ["relatime", "noatime"]),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["bind", "rbind", "tmpfs"])
def test_mount_options(bundle: Bundle, kind: str, options: list[str], has: list[str], hasnt: list[str]) -> None:
    own = {"type": "tmpfs", "source": "tmpfs"} if kind == "tmpfs" else {"source": bundle.directory}
    text = with_mounts(bundle, {"destination": "/data", "options": [*options, *([] if kind == "tmpfs" else [kind])], **own})
    found = mounted(text, "/data")
    assert set(has) <= set(found) and not set(hasnt) & set(found), found


@pytest.mark.parametrize(("recursive", "below"), [("ro", "rw"), ("rro", "ro")])
def test_recursive_options(bundle: Bundle, recursive: str, below: str) -> None:
    """`ro` is of the mount alone, `rro` of all below it."""
    os.makedirs(f"{bundle.directory}/tree/sub")
    spec = script("cat /proc/self/mountinfo")
    spec["mounts"].append({"destination": "/data", "source": f"{bundle.directory}/tree", "options": ["rbind", recursive]})
    bundle.write(spec)
    command = f'mount -t tmpfs x "{bundle.directory}/tree/sub" && exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id}'
    ended = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=bundle.environment, check=False)
    assert mounted(ended.stdout, "/data")[0] == "ro" and mounted(ended.stdout, "/data/sub")[0] == below, ended


def test_bind_without_what_is_below(bundle: Bundle) -> None:
    text = with_mounts(bundle, {"destination": "/data", "source": "/", "options": ["bind", "ro"]})
    assert not [line for line in text.splitlines() if line.split()[4].startswith("/data/")]


@pytest.mark.parametrize(("option", "field"), [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")])
def test_propagation(bundle: Bundle, option: str, field: str) -> None:
    found = mounted(with_mounts(bundle, {"destination": "/data", "type": "tmpfs", "source": "x", "options": [option]}), "/data")
    assert [each for each in found if each.startswith(field)] if field else not [each for each in found if ":" in each], found


@pytest.mark.parametrize("kind", ["shared", "rshared"])
def test_a_shared_rootfs_below_a_shared_mount(bundle: Bundle, kind: str) -> None:
    """As Docker asks for it where a bind mount is shared.  What is mounted in the container does not get out on the way there."""
    subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
    try:
        subprocess.run(["mount", "--make-shared", bundle.rootfs], check=True)
        found = mounted(bundle.output(script("cat /proc/self/mountinfo", linux__rootfsPropagation=kind)), "/")
        assert [each for each in found if each.startswith("shared:")], found
        with open("/proc/self/mountinfo") as file:
            assert f"{bundle.rootfs}/" not in file.read()
    finally:
        subprocess.run(["umount", "-R", bundle.rootfs], check=True)


def test_tmpcopyup(bundle: Bundle) -> None:
    os.makedirs(f"{bundle.rootfs}/full/deep")
    with open(f"{bundle.rootfs}/full/deep/file", "w") as file:
        file.write("text\n")
    os.chmod(f"{bundle.rootfs}/full/deep/file", 0o751)
    os.chown(f"{bundle.rootfs}/full/deep/file", 5, 6)
    os.utime(f"{bundle.rootfs}/full/deep/file", (1e9, 1e9))
    os.symlink("/etc/shadow", f"{bundle.rootfs}/full/link")
    os.mkfifo(f"{bundle.rootfs}/full/fifo")
    os.chmod(f"{bundle.rootfs}/full", 0o1770)
    text = with_mounts(bundle, {"destination": "/full", "type": "tmpfs", "source": "tmpfs", "options": [*SAFE, "tmpcopyup"]},
                       text="cd /full; cat deep/file; stat -c '%a %u:%g %Y' deep/file; readlink link; test -p fifo && echo fifo; stat -c %a .; "
                            "rm -r deep && echo own")
    assert text.splitlines() == ["text", "751 5:6 1000000000", "/etc/shadow", "fifo", "1770", "own"]
    assert os.path.exists(f"{bundle.rootfs}/full/deep/file")


def test_remount(bundle: Bundle) -> None:
    text = with_mounts(bundle, {"destination": "/data", "type": "tmpfs", "source": "x", "options": []},
                       {"destination": "/data", "options": ["bind", "remount", "ro", "nosuid"]})
    assert {"ro", "nosuid"} <= set(mounted(text, "/data"))


def test_relative_destinations_and_sources(bundle: Bundle) -> None:
    os.mkdir(f"{bundle.directory}/data")
    with open(f"{bundle.directory}/data/file", "w") as file:
        file.write("found\n")
    assert with_mounts(bundle, {"destination": "inside/here", "source": "data", "options": ["bind"]}, text="cat /inside/here/file") == "found\n"


def test_user_namespace(bundle: Bundle) -> None:
    bundle.give(100000)
    spaces = [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")]
    text = bundle.output(script("id -u; cat /proc/self/uid_map; touch /x && stat -c %u /x; echo > /dev/null && stat -c %u /dev/null", hostname="box",
                                linux__namespaces=spaces, linux__uidMappings=MAPPING, linux__gidMappings=MAPPING))
    assert text.split() == ["0", "0", "100000", "65536", "0", "0"]
    assert os.stat(f"{bundle.rootfs}/x").st_uid == 100000


def test_user_namespace_with_several_mappings(bundle: Bundle) -> None:
    bundle.give(100000)
    several = [{"containerID": 0, "hostID": 100000, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 100}]
    spaces = [{"type": each} for each in ("pid", "network", "mount", "user")]
    text = bundle.output(script("cat /proc/self/uid_map; id -u", linux__namespaces=spaces, linux__uidMappings=several, linux__gidMappings=several,
                                process__user={"uid": 7, "gid": 7}))
    assert text.split() == ["0", "100000", "1", "1", "200000", "100", "7"]


def test_ids_of_a_mount_are_mapped(bundle: Bundle) -> None:
    if not maps_ids_of(bundle.directory):
        pytest.skip("this kernel cannot have the ids of this file system mapped")
    os.mkdir(f"{bundle.directory}/data")
    with open(f"{bundle.directory}/data/file", "w"):
        os.chown(f"{bundle.directory}/data/file", 0, 0)
    mapping = [{"containerID": 0, "hostID": 4000, "size": 1000}]
    text = with_mounts(bundle, {"destination": "/data", "source": "data", "options": ["bind"], "uidMappings": mapping, "gidMappings": mapping},
                       text="stat -c %u:%g /data/file")
    assert text == "4000:4000\n"


def test_namespaces_by_path(bundle: Bundle) -> None:
    """As the containers of a pod join its sandbox."""
    holder = subprocess.Popen(["unshare", "-n", "-i", "-u", "--pid", "--fork", "--kill-child", "sleep", "1000"])
    try:
        while not (children := open(f"/proc/{holder.pid}/task/{holder.pid}/children").read().split()):  # noqa: SIM115
            pass
        pid = int(children[0])
        spaces = [{"type": "mount"}] + [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in
                                        (("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid"))]
        text = bundle.output(script("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done", linux__namespaces=spaces))
        assert text.split() == [os.readlink(f"/proc/{pid}/ns/{name}") for name in ("net", "ipc", "uts", "pid")]
    finally:
        holder.kill()
        holder.wait()


def test_users_of_another_container(bundle: Bundle) -> None:
    """Joined as the containers of a pod join those of its sandbox, with pipes for output; mappings that are given are those it has."""
    bundle.give(100000)
    spaces = [{"type": each} for each in ("pid", "mount", "uts", "network", "user")]
    pid = bundle.running(config(process__args=["sleep", "1000"], hostname="theirs", linux__namespaces=spaces, linux__uidMappings=MAPPING, linux__gidMappings=MAPPING))
    spaces = [{"type": "pid"}, {"type": "mount"}]
    spaces += [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in (("user", "user"), ("uts", "uts"), ("network", "net"))]
    other = [{**MAPPING[0], "hostID": 200000}]
    for uids, words in ((MAPPING, "5 theirs 100000"), ([], "5 theirs 100000"), (other, "linux.uidMappings: says something else than uid_map")):
        spec = script("echo again >/dev/stderr; echo $(id -u) $(hostname) $(cut -c11-22 /proc/self/uid_map)", process__user={"uid": 5, "gid": 5},
                      linux__namespaces=spaces, linux__uidMappings=uids, linux__gidMappings=uids and MAPPING)  # fmt: skip
        bundle.write(spec)
        ended = bundle.verb("run", "-b", bundle.directory, f"{bundle.id}-other")
        assert words in ended.out + ended.err and (ended.code != 0 or ended.err == "again\n"), ended


def test_a_namespace_of_another_kind_is_refused(bundle: Bundle) -> None:
    spaces = [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/ipc"}]
    where = "linux.namespaces[1].path"
    assert f"({where}: that file is no network namespace)" in bundle.refused(config(linux__namespaces=spaces))
    line = bundle.refused(config(linux__namespaces=[{"type": "mount"}, {"type": "network", "path": "/etc/passwd"}]))
    assert line.startswith("cannot join the network namespace /etc/passwd: setns(2): invalid argument") and f"({where}: that file is no network" in line
    line = bundle.refused(config(linux__namespaces=[{"type": "mount"}, {"type": "network", "path": "/nonexistent"}]))
    assert line == f"cannot open /nonexistent: openat2(2): no such file or directory (ENOENT) ({where})"


def test_time_offsets(bundle: Bundle) -> None:
    spaces = [{"type": each} for each in ("pid", "mount", "time")]
    text = bundle.output(script("cut -d. -f1 /proc/uptime", linux__namespaces=spaces, linux__timeOffsets={"boottime": {"secs": 1000000}}))
    assert int(text) >= 1000000


@pytest.mark.parametrize(("key", "value"), [("net.core.somaxconn", "17"), ("kernel.shmmni", "18"), ("fs.mqueue.msg_max", "19")])
def test_sysctl(bundle: Bundle, key: str, value: str) -> None:
    path = key.replace(".", "/")
    assert bundle.output(script(f"cat /proc/sys/{path}", linux__sysctl={key: value})) == f"{value}\n"
    with open(f"/proc/sys/{path}") as file:
        assert file.read().strip() != value


@pytest.mark.parametrize(("kind", "space", "key"), [("network", "net", "net.core.somaxconn"), ("ipc", "ipc", "kernel.shmmni"), ("uts", "uts", "kernel.domainname")])
def test_a_sysctl_of_a_namespace_that_is_the_callers(bundle: Bundle, kind: str, space: str, key: str) -> None:
    """By its path, as Docker has it for `--network host`: it would be the host's that changes."""
    path = f"/proc/sys/{key.replace('.', '/')}"
    with open(path) as file:
        before = file.read()
    spaces = [{"type": "mount"}, {"type": "pid"}, {"type": kind, "path": f"/proc/{os.getpid()}/ns/{space}"}]
    said = bundle.refused(config(linux__namespaces=spaces, linux__sysctl={key: "77"}))
    assert f"linux.sysctl.{key}" in said and f"needs a {kind} namespace of its own" in said, said
    with open(path) as file:
        assert file.read() == before
    assert bundle.output(script(f"readlink /proc/self/ns/{space}", linux__namespaces=spaces)) == os.readlink(f"/proc/self/ns/{space}") + "\n"


def test_names(bundle: Bundle) -> None:
    assert bundle.output(script("hostname; cat /proc/sys/kernel/domainname", hostname="box", domainname="nis")) == "box\nnis\n"


def test_process(bundle: Bundle) -> None:
    text = bundle.output(script("id -u; id -g; id -G; umask; pwd; ulimit -n; cat /proc/self/oom_score_adj; echo $X", process__cwd="/made/up",
                                process__user={"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6]}, process__oomScoreAdj=500,
                                process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
                                process__env=["PATH=/bin:/usr/bin", "X=y z"]))
    assert text.splitlines() == ["1000", "1001", "1001 5 6", "0027", "/made/up", "100", "500", "y z"]


def test_a_group_that_is_named_twice_is_one(bundle: Bundle) -> None:
    user = {"uid": 5, "gid": 6, "additionalGids": [7, 0, 7]}
    assert bundle.output(script("grep Groups: /proc/self/status", process__user=user)).split() == ["Groups:", "0", "7"]


def test_scheduler_and_io_priority(bundle: Bundle) -> None:
    text = bundle.output(script("cut -d' ' -f19,41 /proc/self/stat; ionice", process__scheduler={"policy": "SCHED_BATCH", "nice": 7},
                                process__ioPriority={"class": "IOPRIO_CLASS_IDLE"}))
    assert text.split()[:2] == ["7", "3"] and "idle" in text, text


@pytest.mark.parametrize(("policy", "shown"), [
    ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"), ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
    ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"), ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
    ({"mode": "MPOL_LOCAL"}, "local"), ({"mode": "MPOL_DEFAULT"}, "default"), ({"mode": "MPOL_DEFAULT", "nodes": ""}, "default"),
    ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
    pytest.param({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0",
                 marks=pytest.mark.skipif(KERNEL < (6, 9), reason="Linux has weighted interleave since 6.9")),
])  # fmt: skip
def test_memory_policy(bundle: Bundle, policy: dict[str, Any], shown: str) -> None:
    assert bundle.output(script("head -1 /proc/self/numa_maps", linux__memoryPolicy=policy)).split(" ", 1)[1].startswith(shown)


def test_a_memory_node_that_is_not_there(bundle: Bundle) -> None:
    assert "cannot MPOL_BIND" in bundle.refused(config(linux__memoryPolicy={"mode": "MPOL_BIND", "nodes": "63"}))


def test_personality(bundle: Bundle) -> None:
    assert bundle.output(script("uname -m", linux__personality={"domain": "LINUX32"})) == "i686\n"


def test_masked_and_read_only_paths(bundle: Bundle) -> None:
    text = bundle.output(script("cat /proc/keys | wc -c; ls /sys/firmware | wc -l; (echo 1 > /proc/sys/net/core/somaxconn) 2>/dev/null || echo refused",
                                linux__maskedPaths=["/proc/keys", "/sys/firmware", "/nonexistent"]))
    assert text.split() == ["0", "0", "refused"]


def test_seccomp(bundle: Bundle) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]}
    for locked in (True, False):
        text = bundle.output(script("mkdir /x 2>&1; grep Seccomp: /proc/self/status", linux__seccomp=profile, process__noNewPrivileges=locked))
        assert "File descriptor in bad state" in text and text.split()[-1] == "2"


def test_resources(bundle: Bundle) -> None:
    pid = bundle.running(config(process__args=["sleep", "100"], linux__cgroupsPath=f"/dolium/{bundle.id}/deep",
                                linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 77}, "cpu": {"shares": 512, "quota": 20000, "period": 100000}}))
    with open(f"/proc/{pid}/cgroup") as file:
        assert {line.strip().split(":", 2)[2] for line in file} == {f"/dolium/{bundle.id}/deep"}
    ended = bundle.verb("update", "--resources", "-", bundle.id, input='{"memory":{"limit":83886080,"swap":167772160},"cpu":{"shares":0},"pids":{"limit":60},"blockIO":{"weight":0}}')
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert bundle.verb("update", "--pids-limit", "61", "--memory", "90M", bundle.id).code == 0
    found = ""
    for name in ("pids.max", "memory.limit_in_bytes", "memory.max"):
        for where in ("pids/", "memory/", ""):
            if os.path.exists(path := f"/sys/fs/cgroup/{where}dolium/{bundle.id}/deep/{name}"):
                with open(path) as file:
                    found += file.read()
    assert found.split() == ["61", str(90 << 20)]
    bundle.verb("delete", "--force", bundle.id)
    for where in (*os.listdir("/sys/fs/cgroup"), "."):
        if os.path.isdir(parent := f"/sys/fs/cgroup/{where}/dolium/{bundle.id}"):
            assert not os.path.exists(f"{parent}/deep")
            os.rmdir(parent)


def test_a_program_under_half_a_megabyte(bundle: Bundle) -> None:
    bundle.write(config(linux__resources={"memory": {"limit": 512 << 10}}))
    assert bundle.verb("run", "-b", bundle.directory, bundle.id).code == 0


@pytest.mark.parametrize(("changes", "words"), [
    ({"linux__resources": {"memory": {"limit": 4096}}}, "linux.resources.memory.limit: 4096 bytes are too few even to make the container in"),
    ({"linux__resources": {"cpu": {"quota": 10, "period": 10}}}, "a period is of 1000 to 1000000 microseconds, a quota of 1000 at least"),
], ids=["memory", "quota"])  # fmt: skip
def test_a_limit_that_is_too_small_is_named(bundle: Bundle, changes: dict[str, Any], words: str) -> None:
    assert words in bundle.refused(config(**changes))


def test_a_pid_file_that_cannot_be_written_is_named(bundle: Bundle) -> None:
    assert bundle.refused(config(), "--pid-file", "/nonexistent/pid") == "--pid-file: `/nonexistent/pid`: No such file or directory"


def test_half_a_config_says_so(bundle: Bundle) -> None:
    assert bundle.refused('{"ociVersion": ') == "config.json: is not JSON: it ends too early"


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"ociVersion":"1.0"}', "\0", '{"a":' * 1000])
def test_malformed_configs(bundle: Bundle, text: str) -> None:
    assert bundle.refused(text)


def test_what_is_no_bundle(bundle: Bundle) -> None:
    assert bundle.verb("create", "-b", "/nonexistent", bundle.id).code == 1
    bundle.write(config(root={"path": "nonexistent"}))
    assert "root.path: there is no directory" in bundle.verb("create", "-b", bundle.directory, bundle.id).err
    os.unlink(f"{bundle.directory}/config.json")
    assert "No such file" in bundle.verb("create", "-b", bundle.directory, bundle.id).err
    os.mkfifo(f"{bundle.directory}/config.json")
    assert "is not a file" in bundle.verb("create", "-b", bundle.directory, bundle.id).err
    os.unlink(f"{bundle.directory}/config.json")
    with open(f"{bundle.directory}/config.json", "w") as file:
        file.truncate(1 << 32)
    assert "more than" in bundle.verb("create", "-b", bundle.directory, bundle.id).err


def test_a_mount_that_does_not_fit_is_named(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/etc/passwd", "type": "bind", "source": "/tmp", "options": ["rbind"]})
    assert bundle.refused(spec).startswith("cannot bind /tmp on /etc/passwd: move_mount(2): ")
