"""`checkpoint` and `restore`: what becomes of a container that criu has written down and made again."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import time
from typing import Any

import checkpoints
import pytest
from bundles import DEFAULT, script, wait_for
from checkpoints import COUNT, Taken, foreground
from networks import Site
from test_console import listening, taken
from test_net_devices import cable

MISSING = checkpoints.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


LIMITS = {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512},
          "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}  # fmt: skip


def test_a_container_goes_on_where_it_was(one: Taken) -> None:
    """And all verbs act on it as before."""
    bundle = one.bundle
    spec = script(COUNT, linux__resources=LIMITS, process__rlimits=[{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}],
                  process__oomScoreAdj=77, hostname="jar",
                  linux__devices=[{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}])  # fmt: skip
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
    pid = one.run(spec)
    one.counts(2)
    before = checkpoints.status(pid), checkpoints.mounts(pid), checkpoints.groups_of(bundle)
    one.taken()
    last = one.last()
    assert bundle.status() == "gone", "as with runc and crun"
    pid = one.restored()
    assert one.counts(last) > last
    numbers = [int(each) for each in one.read().split()]
    assert numbers == [*range(1, numbers[-1] + 1)], "no number is printed twice, and none is left out"
    assert (checkpoints.status(pid), checkpoints.mounts(pid), checkpoints.groups_of(bundle)) == before
    assert int(one.exec("cat /dev/shm/count")) >= last, "its memory's files are there"
    assert one.exec("hostname") == "jar\n" and "LOOPBACK,UP" in one.exec("ip link show lo")
    assert one.exec("head -c1 /dev/kmsg 2>&1; test -c /dev/kmsg") == "head: /dev/kmsg: Operation not permitted\n", "refused as before"
    assert pid in json.loads(bundle.verb("ps", "--format", "json", bundle.id).out)
    assert json.loads(bundle.verb("events", "--stats", bundle.id).out)["data"]["pids"]["limit"] == 50
    assert bundle.verb("update", "--pids-limit", "40", bundle.id).code == 0
    for verb, status in (("pause", "paused"), ("resume", "running")):
        assert bundle.verb(verb, bundle.id).code == 0 and bundle.status() == status
    assert bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0


def test_a_restored_one_is_checkpointed_again(one: Taken) -> None:
    one.run()
    for _ in range(2):
        last = one.counts(one.last() if one.read() else 0)
        one.taken()
        one.restored()
        one.counts(last)


def test_leave_running(one: Taken) -> None:
    """It goes on; and the images are those of a moment, to which it can be taken back."""
    pid = one.run()
    one.counts(2)
    one.taken("--leave-running")
    last = one.last()
    assert one.bundle.state()["pid"] == pid and one.bundle.status() == "running"
    further = one.counts(last + 20)
    assert one.bundle.verb("delete", "--force", one.bundle.id).code == 0
    one.output = b""
    one.restored()
    assert one.counts(0) < further


def test_a_paused_one_stays_paused_and_is_restored_running(one: Taken) -> None:
    """As containerd does it: pause, checkpoint --leave-running, resume."""
    one.run()
    one.counts(2)
    assert one.bundle.verb("pause", one.bundle.id).code == 0
    one.taken("--leave-running")
    assert one.bundle.status() == "paused"
    last = one.last()
    assert one.bundle.verb("resume", one.bundle.id).code == 0
    one.counts(last)
    assert one.bundle.verb("delete", "--force", one.bundle.id).code == 0
    one.restored()
    one.counts(0)


def test_restore_waits_and_its_exit_code_is_the_programs(one: Taken) -> None:
    one.run(script("trap 'exit 7' TERM; while :; do sleep 0.02; done"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    one.taken()
    process = foreground(one, "restore", "--image-path", one.images, "--bundle", one.bundle.directory)
    one.bundle.wait("running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7
    assert one.bundle.status() == "gone"


def test_one_of_run_in_the_foreground_outlives_who_restores_it(one: Taken) -> None:
    """`run` bound it to dolium-keep; its end, as that of one that is killed, `run` reports."""
    one.rewrite(script(COUNT))
    process = foreground(one, "run", "--bundle", one.bundle.directory)
    one.bundle.wait("running")
    one.taken()
    assert process.wait(20) == 137
    pid = one.restored(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.2)  # the death of its parent would have arrived
    assert one.bundle.state()["pid"] == pid and one.bundle.status() == "running"


def test_what_is_restored_runs_when_it_goes_on(one: Taken) -> None:
    """As after `start`: however slow its status is written down, strace(1) delays that, nothing is seen of it before."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    null, bundle = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}, one.bundle
    one.run(script("while :; do mkdir -p /seen; sleep 0.05; done"), **null)  # a file could be open when it is taken, and is removed then
    wait_for(lambda: os.path.exists(f"{bundle.rootfs}/seen"))
    one.taken()
    os.rmdir(f"{bundle.rootfs}/seen")
    slow = [strace, "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", "inject=rename:delay_enter=300000:when=2+", bundle.runtime]
    words = ["--root", bundle.root, "restore", "--detach", "--image-path", one.images, "--bundle", bundle.directory, bundle.id]
    with subprocess.Popen([*slow, *words], stdin=subprocess.DEVNULL, env=bundle.environment, **null) as restoring:
        wait_for(lambda: os.path.exists(f"{bundle.rootfs}/seen") or restoring.poll() is not None)
        assert bundle.status() == "running"
    assert restoring.returncode == 0


def test_its_terminal_goes_to_the_console_socket(one: Taken) -> None:
    path = f"{one.bundle.directory}/console"
    spec = script("while read line; do echo got $line; done", process__terminal=True)
    with listening(path) as server:
        one.run(spec, "--console-socket", path)
        master = taken(server)
    os.write(master, b"one\n")
    wait_for(lambda: b"got one" in os.read(master, 4096))
    one.taken()
    os.close(master)
    os.unlink(path)
    with listening(path) as server:
        one.restored("--console-socket", path)
        master = taken(server)
    os.write(master, b"two\n")
    wait_for(lambda: b"got two" in os.read(master, 4096))
    os.close(master)


def test_bind_mounts_are_those_of_the_config_again(one: Taken) -> None:
    """Directories, files, what is mounted below one, and at a place that a link leads to; with other contents by then."""
    top = one.bundle.directory
    os.symlink("/run", f"{one.bundle.rootfs}/var/link")
    for name in ("first", "second"):
        os.mkdir(f"{top}/{name}")
        os.mkdir(f"{top}/{name}/below")
        for path in ("text", "below/text"):
            with open(f"{top}/{name}/{path}", "w") as file:
                file.write(name)
    subprocess.run(["mount", "-t", "tmpfs", "none", f"{top}/first/below"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", f"{top}/second/below"], check=True)
    try:
        for name in ("first", "second"):
            with open(f"{top}/{name}/below/text", "w") as file:
                file.write(f"{name} below")

        def spec(name: str) -> dict[str, Any]:
            found = script(COUNT)
            found["mounts"] += [{"destination": "/data", "type": "bind", "source": f"{top}/{name}", "options": ["rbind", "ro"]},
                                {"destination": "/file", "type": "bind", "source": f"{top}/{name}/text", "options": ["bind"]},
                                {"destination": "/var/link/linked", "type": "bind", "source": f"{top}/{name}", "options": ["bind"]}]  # fmt: skip
            return found

        one.run(spec("first"))
        show = "cat /data/text /data/below/text /file /run/linked/text"
        assert one.exec(show) == "firstfirst belowfirstfirst"
        one.taken()
        one.rewrite(spec("second"))
        shutil.rmtree(f"{one.bundle.rootfs}/data")
        os.unlink(f"{one.bundle.rootfs}/file")
        one.restored()
        assert one.exec(show) == "secondsecond belowsecondsecond"
        assert one.bundle.verb("exec", one.bundle.id, "touch", "/data/x").code != 0, "read-only as before"
        one.taken()
        fewer = spec("second")
        del fewer["mounts"][-1]
        one.rewrite(fewer)
        ended = one.restore("--detach")
        assert ended.code == 1 and "the checkpoint has a bind mount on `/var/link/linked`, the config has none" in ended.err, ended
        assert one.bundle.status() == "gone"
    finally:
        for name in ("first", "second"):
            subprocess.run(["umount", f"{top}/{name}/below"], check=True)


def test_a_joined_network_stays_another_s(one: Taken, site: Site) -> None:
    spec = script(COUNT)
    for each in spec["linux"]["namespaces"]:
        if each["type"] == "network":
            each["path"] = f"/proc/{site.holder.pid}/ns/net"
    one.run(spec)
    one.taken()
    pid = one.restored()
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(f"/proc/{site.holder.pid}/ns/net").st_ino


@pytest.mark.parametrize("kind", ["ipc", "uts", "pid"])
def test_other_joined_namespaces(one: Taken, kind: str) -> None:
    first = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); [signal.pause() for _ in iter(int, 1)]"  # buries its dead
    fork = ["--fork", "--kill-child"] if kind == "pid" else []
    with subprocess.Popen(["unshare", f"--{kind}", *fork, "/usr/bin/python3", "-IS", "-c", first]) as holder:
        try:
            path = f"/proc/{holder.pid}/ns/{'pid_for_children' if kind == 'pid' else kind}"
            wait_for(lambda: os.path.exists(path) and os.stat(path).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino)
            spec = script(COUNT)
            for each in spec["linux"]["namespaces"]:
                if each["type"] == kind:
                    each["path"] = path
            one.run(spec)
            one.taken()
            pid = one.restored()
            assert os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(path).st_ino
            one.bundle.verb("delete", "--force", one.bundle.id)
        finally:
            holder.kill()


def test_namespaces_that_criu_cannot_give_back(one: Taken) -> None:
    spec = script(COUNT)
    with subprocess.Popen(["unshare", "--cgroup", "sleep", "1000"]) as holder:
        path = f"/proc/{holder.pid}/ns/cgroup"
        wait_for(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/cgroup").st_ino)
        next(each for each in spec["linux"]["namespaces"] if each["type"] == "cgroup")["path"] = path
        one.run(spec)
        holder.kill()
    ended = one.checkpoint()
    assert ended.code == 1 and "linux.namespaces[5].path" in ended.err and "another's cgroup namespace" in ended.err, ended
    assert one.bundle.status() == "running"
    assert one.bundle.verb("delete", "--force", one.bundle.id).code == 0
    spec = script(COUNT)
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"] |= {key: [{"containerID": 0, "hostID": 100000, "size": 65536}] for key in ("uidMappings", "gidMappings")}
    subprocess.run(["chown", "100000:100000", one.bundle.rootfs, one.bundle.directory], check=True)
    one.run(spec)
    ended = one.checkpoint()
    assert ended.code == 1 and "linux.namespaces[6]" in ended.err and "users of its own" in ended.err, ended
    assert one.bundle.status() == "running"


def test_cgroups_that_it_sees(one: Taken) -> None:
    """With a namespace of them and without."""
    for own in (True, False):
        spec = script(COUNT)
        spec["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]})
        if not own:
            spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "cgroup"]
        one.run(spec)
        look = "cd /sys/fs/cgroup && for f in cgroup.procs */cgroup.procs; do test -e $f && echo $f && head -n1 $f; done; cat /proc/self/cgroup"
        before = one.exec(look)
        one.taken()
        one.restored()
        assert one.exec(look) == before and "\n1\n" in before
        assert one.bundle.verb("delete", "--force", one.bundle.id).code == 0


def test_hooks_that_make_networks_are_run_again(one: Taken) -> None:
    """As with runc: prestart and createRuntime, when the namespaces are there; poststop when it is deleted."""
    log = f"{one.bundle.directory}/hooks"
    spec = script(COUNT, hooks={kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} $(tr , '\\n' | grep -c pid) >>{log}"]}]
                                for kind in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")})  # fmt: skip
    spec["hooks"]["startContainer"] = [{"path": "/bin/true"}]
    one.run(spec)
    one.taken()
    assert one.bundle.read("hooks").split()[-2:] == ["poststop", "0"]
    os.unlink(log)
    one.restored()
    assert one.bundle.read("hooks") == "prestart 1\ncreateRuntime 1\n"


def test_net_devices_are_moved_again(one: Taken, site: Site) -> None:
    path = f"{one.bundle.directory}/there"
    with open(path, "w") as file:
        file.write(f'#!/bin/sh\nexec {" ".join(site.enter)} {one.bundle.runtime} "$@"\n')
    os.chmod(path, 0o755)
    ours, one.bundle.runtime = one.bundle.runtime, path
    try:
        cable(site)
        one.run(script(COUNT, linux__netDevices={"one": {"name": "eth7"}}))
        one.taken()
        wait_for(lambda: "one" not in site.sh("ip -o link"))  # it has ended with the namespace
        cable(site)
        one.restored()
        assert "mtu 1400" in one.exec("ip link show eth7")
    finally:
        one.bundle.runtime = ours


def test_a_hook_that_fails_undoes_it(one: Taken) -> None:
    one.run()
    one.taken()
    one.rewrite(script(COUNT, hooks={"createRuntime": [{"path": "/bin/false"}]}))
    ended = one.restore("--detach")
    assert ended.code == 1 and "hooks.createRuntime[0]" in ended.err, ended
    assert one.bundle.status() == "gone"


def test_under_another_name_and_in_a_new_rootfs(one: Taken, alpine: str) -> None:
    """As podman imports it."""
    one.run()
    one.counts(2)
    one.taken()
    shutil.rmtree(one.bundle.rootfs)
    subprocess.run(["cp", "-a", alpine, one.bundle.rootfs], check=True)
    for name in ("proc", "dev", "sys"):
        os.rmdir(f"{one.bundle.rootfs}/{name}")
    one.bundle.id += "-again"
    one.restored()
    one.counts(one.last())


def test_what_runc_has_written_down(one: Taken) -> None:
    if not (runc := shutil.which("runc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")):
        pytest.skip("no runc here")
    ours, one.bundle.runtime = one.bundle.runtime, runc
    try:
        spec = script(COUNT)
        os.mkdir(f"{one.bundle.directory}/mounted")
        spec["mounts"].append({"destination": "/data", "type": "bind", "source": f"{one.bundle.directory}/mounted", "options": ["rbind"]})
        one.run(spec, stderr=subprocess.DEVNULL)
        one.counts(1)
        assert one.checkpoint().code == 0, one.log("dump")
    finally:
        one.bundle.runtime = ours
    last = one.last()
    one.restored()
    one.counts(last)


def test_a_privileged_default(one: Taken) -> None:
    """No masks, the host's network, and no other groups than its own."""
    spec = copy.deepcopy(DEFAULT)
    spec["process"]["args"] = ["sh", "-c", COUNT]
    spec["linux"]["maskedPaths"] = spec["linux"]["readonlyPaths"] = []
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    one.run(spec)
    last = one.counts(1)
    one.taken()
    pid = one.restored()
    one.counts(last)
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
