"""Every line that the doctor says mends a thing is carried out here, on a host that lacks it, and mends it.

The lack is made in a namespace of the test's own.  What only an administrator's program could do for real (apt-get, modprobe,
apparmor_parser, systemctl) is stood in for by one that undoes the lack; what it was told is looked at.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from containers import DOLIUM, NOBODY, SLOW, TOP, Dolium
from networks import Site

from dolium.plan import mends
from dolium.runtime import host

PLAIN = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
STAND_IN = 'exec "$@"\n'
FIND = "import json, sys; print(next(each['mend'] for each in json.load(open(sys.argv[1])) if each['id'] == sys.argv[2]))"
SYSTEM_PYTHON = "/usr/bin/python3"

pytestmark = pytest.mark.needs_root


class Bench:
    """A directory with stand-ins for programs, and a shell that uses them in a mount namespace of its own."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        os.mkdir(f"{folder}/bin")
        os.symlink(DOLIUM, f"{folder}/bin/dolium")
        self.stand_in("sudo", STAND_IN)

    def stand_in(self, name: str, script: str) -> None:
        """A program of that name, which writes down its words and does that."""
        path = f"{self.folder}/bin/{name}"
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\necho "$*" >>{self.folder}/{name}.said\n{script}')
        os.chmod(path, 0o755)

    def said(self, name: str) -> str:
        """What a stand-in was told."""
        with open(f"{self.folder}/{name}.said") as file:
            return file.read()

    def mend(self, name: str, before: str, who: tuple[str, ...] = (), then: tuple[str, ...] | None = None, wrap: tuple[str, ...] = (),
             run: str = 'eval "$line"') -> tuple[Any, Any, str]:  # fmt: skip
        """Break something, ask the doctor, carry out its line, ask again: both checks of that id, and the line.

        `who` asks, and `then` asks again; `run` carries out `$line`.
        """
        def look(words: tuple[str, ...], place: str) -> str:
            return f"{shlex.join([*words, DOLIUM, 'doctor', '--json'])} </dev/null >{place}"

        lines = [before, look(who, "before"), f"line=$({SYSTEM_PYTHON} -IS -c {shlex.quote(FIND)} before {name})", '[ -n "$line" ] || exit 9',
                 f"{run} >mended 2>&1 </dev/null || exit 8", look(who if then is None else then, "after")]  # fmt: skip
        environment = {"PATH": f"{self.folder}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "HERE": self.folder}
        if "DOLIUM_PYTHON" in os.environ:
            environment["DOLIUM_PYTHON"] = os.environ["DOLIUM_PYTHON"]
        words = ["unshare", "--mount", "--propagation", "private", *wrap, "sh", "-c", "\n".join(lines)]
        done = subprocess.run(words, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=120 * SLOW)  # fmt: skip
        assert done.returncode != 8, self._read("mended")
        self.note = subprocess.run([DOLIUM, "run", "--rm", "--network", "none", "@host", "true"], capture_output=True, text=True).stderr
        found = [next(each for each in json.loads(self._read(place)) if each["id"] == name) for place in ("before", "after")]
        assert "\n" not in found[0]["mend"]
        return found[0], found[1], found[0]["mend"]

    def mends(self, name: str, before: str, **how: Any) -> str:
        """That it does; the line."""
        broken, mended, line = self.mend(name, before, **how)
        assert not broken["ok"] and broken["breaks"], broken
        assert mended["ok"], (broken, mended)
        return line

    def _read(self, name: str) -> str:
        with open(f"{self.folder}/{name}") as file:
            return file.read()


@pytest.fixture
def bench(root: Dolium, folder: str) -> Bench:
    return Bench(folder)


@pytest.fixture
def open_bench(bench: Bench, plain: Dolium) -> Iterator[Bench]:
    """One that the plain user can use too."""
    yield bench


EMPTY = "mount -t tmpfs -o mode=755 none /mnt; mkdir -m 755 /mnt/up /mnt/work /mnt/low /mnt/all; "


ALONE = "grep ' - proc ' /proc/self/mountinfo | cut -d' ' -f5 | grep -v '^/proc$' | xargs -r umount -l; "
"""One more /proc, wherever it is, would show what is hidden in the usual one."""


def test_open_files(bench: Bench) -> None:
    assert bench.mends("open-files", "ulimit -Sn 40") == "ulimit -n 1024"


def test_hidden_proc(bench: Bench) -> None:
    broken, mended, line = bench.mend("hidden-proc", ALONE + "mount --bind /dev/null /proc/interrupts")
    if broken["ok"]:
        assert "share" in bench.note, "only who has no users of its own may mount /proc all the same"
        return
    assert (broken["ok"], broken["job"], line) == (False, "containers", "umount -l /proc/interrupts") and mended["ok"]


def test_hidden_proc_of_a_plain_user(open_bench: Bench) -> None:
    line = open_bench.mends("hidden-proc", ALONE + "mount --bind /dev/null /proc/interrupts", who=PLAIN)
    assert line == "sudo umount -l /proc/interrupts"


def test_a_store_on_an_overlay(bench: Bench) -> None:
    """As in a container of Docker's."""
    line = bench.mends("store", EMPTY + "mkdir -p /var/lib/dolium; mount -t overlay -o lowerdir=/mnt/low,upperdir=/mnt/up,workdir=/mnt/work none "
                       "/var/lib/dolium; chmod 700 /var/lib/dolium")  # fmt: skip
    assert line == mends.store("/var/lib/dolium", 0, "")


def test_a_store_of_a_plain_user_on_an_overlay(open_bench: Bench) -> None:
    before = EMPTY + ("mount -t overlay -o lowerdir=/mnt/low,upperdir=/mnt/up,workdir=/mnt/work none /mnt/all; "
                      f"chown {NOBODY} /mnt/all; export XDG_DATA_HOME=/mnt/all; mount -t tmpfs -o mode=1777 none /var/tmp")  # fmt: skip
    line = open_bench.mends("store", before, who=PLAIN, run=f"chmod 777 .; {shlex.join(PLAIN)} sh -c \"$line\"; eval \"$line\"")
    assert line == mends.store("", NOBODY, f"/var/tmp/dolium-data-{NOBODY}")


def test_a_state_directory_open_to_others(bench: Bench) -> None:
    assert bench.mends("state-directory", "mkdir -p /run/dolium; mount -t tmpfs -o mode=755 none /run/dolium") == "chmod 700 /run/dolium"
    line = bench.mends("state-directory", f"mount -t tmpfs -o mode=700,uid={NOBODY} none /run/dolium")
    assert line == "chown 0 /run/dolium && chmod 700 /run/dolium"


def test_a_state_directory_that_cannot_be_written(bench: Bench) -> None:
    bench.mends("state-directory", "mkdir -p /run/dolium; mount -t tmpfs -o ro,mode=700 none /run/dolium")


def test_a_state_directory_of_somebody_else(open_bench: Bench) -> None:
    before = EMPTY + "mkdir /mnt/all/dolium; export XDG_RUNTIME_DIR=/mnt/all"
    run = f'eval "$line"; chown {NOBODY} $XDG_RUNTIME_DIR; echo "$XDG_RUNTIME_DIR" >made; true'
    line = open_bench.mends("state-directory", before, who=PLAIN, run=run)
    assert line == "export XDG_RUNTIME_DIR=$(mktemp -d)"
    with open(f"{open_bench.folder}/made") as file:
        subprocess.run(["rm", "-r", file.read().strip()], check=True)


def test_leftovers(bench: Bench) -> None:
    before = "mkdir -p /run/dolium; mount -t tmpfs -o mode=700 none /run/dolium; mkdir -m 700 /run/dolium/leases; echo x >/run/dolium/leases/7"
    assert bench.mends("leftovers", before) == "dolium run --rm --network none @host true"


def test_leftovers_of_a_plain_user(open_bench: Bench) -> None:
    before = EMPTY + ("mkdir -p -m 700 /mnt/all/dolium/leases; chmod 700 /mnt/all/dolium; echo x >/mnt/all/dolium/leases/7; "
                      f"chown -R {NOBODY} /mnt/all; export XDG_RUNTIME_DIR=/mnt/all")  # fmt: skip
    open_bench.mends("leftovers", before, who=PLAIN, run=f"{shlex.join(PLAIN)} $line")


def test_helpers_that_are_not_built(bench: Bench) -> None:
    if not os.access(f"{TOP}/.build", os.W_OK):
        pytest.skip("this clone cannot be written")
    line = bench.mends("helpers", f"mount -t tmpfs none {TOP}/src/dolium/programs")
    assert line == f"make -C {TOP}"


def test_a_file_system_in_a_module(bench: Bench) -> None:
    bench.stand_in("modprobe", "umount /proc/filesystems\n")
    line = bench.mends("features", "grep -vw overlay /proc/filesystems >less; mount --bind less /proc/filesystems")
    assert line == "modprobe overlay" and bench.said("modprobe") == "overlay\n"


def test_a_python_that_others_cannot_reach(bench: Bench) -> None:
    if Dolium()("doctor", "python", env={"DOLIUM_PYTHON": SYSTEM_PYTHON}).code:
        pytest.skip("its mend would open the directory in which this clone lies")
    before = "mkdir -m 700 home; cp /usr/bin/python3 home/python3; export DOLIUM_PYTHON=$PWD/home/python3"
    assert bench.mends("python", before) == f"chmod o+x {bench.folder}/home"


KERNEL = ALONE + "mount -t tmpfs none /proc/sys/kernel; echo 1 >/proc/sys/kernel/{name}; "


def test_a_setting_of_debian(open_bench: Bench) -> None:
    name = "unprivileged_userns_clone"
    line = open_bench.mends("userns", KERNEL.format(name=name) + f"echo 0 >/proc/sys/kernel/{name}", who=PLAIN)
    assert line == f"sudo sysctl -w kernel.{name}=1"


def test_the_profile_for_apparmor(open_bench: Bench) -> None:
    open_bench.stand_in("apparmor_parser", f'cp "$2" {open_bench.folder}/profile && umount /proc/sys/kernel\n')
    before = EMPTY + ("mkdir -p /mnt/low/apparmor.d; mount -t overlay -o lowerdir=/mnt/low:/etc,upperdir=/mnt/up,workdir=/mnt/work none /etc; "
                      + KERNEL.format(name="apparmor_restrict_unprivileged_userns"))  # fmt: skip
    line = open_bench.mends("apparmor-userns", before, who=PLAIN)
    assert line == mends.apparmor(DOLIUM) and open_bench.said("apparmor_parser") == f"-r {mends.PROFILE}\n"
    with open(f"{open_bench.folder}/profile") as file:
        assert file.read() == (f'abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile dolium "{DOLIUM}" flags=(unconfined) {{\n  userns,\n'
                               "  include if exists <local/dolium>\n}\n")  # fmt: skip


def test_the_profile_compiles(folder: str) -> None:
    """By AppArmor's own compiler, for a kernel that has it or not; whether the kernel then does as it says is seen on Ubuntu only."""
    parser = shutil.which("apparmor_parser", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if not parser:
        pytest.skip("no apparmor_parser here (Debian: apparmor)")
    script = mends.apparmor(DOLIUM).partition(" | sudo")[0] + f" >{folder}/dolium && {parser} --skip-cache --skip-kernel-load {folder}/dolium"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    if "abi/4.0" in done.stderr:
        pytest.skip("this AppArmor is older than 4.0, and has no word for user namespaces")
    assert done.returncode == 0, done.stderr


def test_more_controllers_for_everybodys_sessions(bench: Bench) -> None:
    """What the line writes; a real systemd is not started for it."""
    bench.stand_in("systemctl", "")
    script = EMPTY + f"mount -t overlay -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work none /etc; {mends.delegation()} && cat {mends.DROP_IN}"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(words, env={"PATH": f"{bench.folder}/bin:/usr/bin:/bin:/usr/sbin"}, capture_output=True, text=True)
    assert done.stdout == "[Service]\nDelegate=cpu cpuset io memory pids\n", done
    assert bench.said("systemctl") == "daemon-reload\n--user daemon-reexec\n"


def on_v1(controller: str) -> str:
    """Where this host has mounted that controller of cgroup v1, or a skip."""
    point = next((each.point for each in host.mounts() if each.kind == "cgroup" and controller in each.super_options), "")
    if not point:
        pytest.skip(f"{controller} is not on cgroup v1 here")
    return point


def test_a_hierarchy_that_is_not_mounted(bench: Bench) -> None:
    point = on_v1("cpuset")
    assert bench.mends("cgroup-cpuset", f"umount -l {point}") == mends.mount_controller("cpuset")


def test_a_hierarchy_that_is_read_only(bench: Bench) -> None:
    point = on_v1("memory")
    assert bench.mends("cgroup-memory", f"mount -o remount,bind,ro {point}") == f"mount -o remount,bind,rw {point}"


def test_limits_of_a_plain_user_on_v1(open_bench: Bench) -> None:
    """Only root has them: so the line is a container of root's."""
    on_v1("memory")
    line = open_bench.mends("cgroup-memory", "true", who=PLAIN, then=(), wrap=("--net",))
    assert line == "sudo dolium run --memory 64m --cpus 0.5 --cpuset-cpus 0 --pids-limit 100 @host sh"


def pure_v2() -> str:
    """Where cgroup v2 is alone, or a skip."""
    seen = host.mounts()
    if any(each.kind == "cgroup" for each in seen) or os.path.exists("/sys/fs/cgroup/cgroup.type"):
        pytest.skip("cgroup v2 is not alone here, or this is not its root: make test-v2")
    return next(each.point for each in seen if each.kind == "cgroup2")


def test_a_group_of_ones_own(open_bench: Bench) -> None:
    """Also what was there before is there after."""
    mount = pure_v2()
    line = open_bench.mends("cgroup-cpu", "true", who=PLAIN, run=f"id() {{ echo {NOBODY}; }}; eval \"$line\"")
    assert line == mends.own_group(mount, NOBODY, NOBODY)
    subprocess.run(f"find {mount}/dolium-{NOBODY} -depth -type d -exec rmdir {{}} +", shell=True, check=True)


def test_cgroup_v2_that_is_not_mounted(bench: Bench) -> None:
    pure_v2()
    assert bench.mends("cgroup-memory", "umount -l /sys/fs/cgroup") == mends.mount_unified()


def test_a_group_that_has_processes(bench: Bench) -> None:
    """As in a container of Docker's with a cgroup namespace of its own."""
    mount = pure_v2()
    os.mkdir(f"{mount}/outer")
    inner = f"umount -l {mount}; mount -t cgroup2 none {mount}; sleep 100 & trap 'kill $!' EXIT"
    line = bench.mends("cgroup-memory", inner, wrap=("sh", "-c", f'echo $$ >{mount}/outer/cgroup.procs; exec unshare --cgroup "$@"', "sh"))
    assert line == mends.empty_group(mount)
    subprocess.run(f"find {mount}/outer -depth -type d -exec rmdir {{}} +", shell=True, check=True)


def test_nft_that_is_missing(bench: Bench) -> None:
    bench.stand_in("apt-get", "umount /usr/sbin/nft\n")
    line = bench.mends("bridge", "touch nothing; mount --bind nothing /usr/sbin/nft", wrap=("--net",))
    assert line == "apt-get install -y nftables" and bench.said("apt-get") == "install -y nftables\n"


def test_forwarding_that_cannot_be_set(bench: Bench) -> None:
    before = "echo 0 >/proc/sys/net/ipv4/ip_forward; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"
    assert bench.mends("bridge", before, wrap=("--net",)) == "mount -o remount,bind,rw /proc/sys"


def test_others_with_firewalls_are_named(site: Site) -> None:
    """Docker's own chains, as Docker makes them: a door is put in, so nothing is in the way."""
    site.sh("iptables -N DOCKER-USER; iptables -P FORWARD DROP; iptables -A FORWARD -j DOCKER-USER")
    found = next(each for each in json.loads(site("doctor", "--json").stdout) if each["id"] == "bridge")
    assert found["ok"] and "Docker" in found["found"], found


def test_noexec_is_no_obstacle(bench: Bench) -> None:
    """The helpers are run from memory, and an overlay is not noexec because a layer is."""
    run = "dolium run --network none --name x @host sh -c 'cp /bin/true /mine && /mine' && dolium rm x"
    script = f"mkdir -p /var/lib/dolium; mount -t tmpfs -o noexec,mode=700 none /var/lib/dolium; {run} && dolium doctor store && dolium doctor trial-kept"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    environment = {"PATH": f"{bench.folder}/bin:/usr/bin:/bin:/usr/sbin", "HOME": "/"}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60 * SLOW)
    assert ended.returncode == 0 and ended.stdout.startswith("x\n"), ended


def test_a_device_of_somebody_else(bench: Bench) -> None:
    assert bench.mends("bridge", "ip link add dolium0 type veth peer name other", wrap=("--net",)) == "ip link set dolium0 name not-dolium0"


def test_a_bridge_for_a_plain_user(open_bench: Bench) -> None:
    line = open_bench.mends("bridge", "true", who=PLAIN, then=(), wrap=("--net",))
    assert line == "sudo dolium run --network bridge @host sh"


def test_a_container_in_a_container(dolium: Dolium) -> None:
    """What an outer container takes away is named; here the outer one is ours, marked as Docker's."""
    ended = dolium("run", "-v", f"{TOP}:{TOP}:ro", "-v", "/dev/null:/.dockerenv", "@host", DOLIUM, "doctor", "--json")
    found = {each["id"]: each for each in json.loads(ended.stdout)}
    assert ended.code == 1
    assert not found["calls"]["ok"] and "unshare" in found["calls"]["found"]
    assert not found["outer"]["ok"] and found["outer"]["job"] == "containers"
    assert found["outer"]["found"].startswith("this system runs in Docker, which takes away CAP_SYS_ADMIN, system calls")
    assert found["outer"]["mend"] == mends.OUTER["Docker"] == found["calls"]["mend"]


@pytest.mark.parametrize(("mark", "name"), [
    ("mount -t tmpfs none /run; touch /run/.containerenv", "Podman"),
    ("mount -t tmpfs none /var/run/; mkdir -p /var/run/secrets/kubernetes.io", "Kubernetes")])  # fmt: skip
def test_marks_of_outer_containers(root: Dolium, mark: str, name: str) -> None:
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{mark}; mkdir -p -m 700 /run/dolium; {DOLIUM} doctor --json outer"]
    assert f"this system runs in {name}" in subprocess.run(words, capture_output=True, text=True).stdout


TOML = "mkdir -p $HERE/.config/dolium; "
HOME = "export HOME=$HERE; unset XDG_CONFIG_HOME; "


def test_settings_of_registries_that_say_nonsense(bench: Bench) -> None:
    line = bench.mends("registries", HOME + TOML + "echo 'miror = 1' >$HERE/.config/dolium/registries.toml")
    path = f"{bench.folder}/.config/dolium/registries.toml"
    assert line == f"mv {path} {path}.aside" and os.path.exists(f"{path}.aside")


def test_settings_of_registries_of_a_plain_user_that_cannot_be_read(open_bench: Bench) -> None:
    """Root's own, in /etc; the stand-in for sudo is asked, so root carries the line out."""
    before = "export HOME=/nowhere; unset XDG_CONFIG_HOME; mkdir -p $HERE/etc && cp -r /etc/. $HERE/etc 2>/dev/null; mount --bind $HERE/etc /etc; " \
             "mkdir -p /etc/dolium; echo 'short = \"quay.io\"' >/etc/dolium/registries.toml; chmod 600 /etc/dolium/registries.toml"  # fmt: skip
    assert open_bench.mends("registries", before, who=PLAIN) == "sudo chmod a+r /etc/dolium/registries.toml"


@pytest.mark.parametrize(("text", "says"), [
    ('{"credsStore": "nowhere"}', "there is no program docker-credential-nowhere"),
    ('{"credHelpers": {"quay.io": "nowhere"}}', "there is no program docker-credential-nowhere"),
    ("{", "config.json: "), ('{"auths": []}', "`auths` is no object")])  # fmt: skip
def test_logins_that_cannot_be_used(bench: Bench, text: str, says: str) -> None:
    before = f"{HOME}mkdir -p $HERE/.docker; echo {shlex.quote(text)} >$HERE/.docker/config.json"
    broken, mended, line = bench.mend("credentials", before)
    assert not broken["ok"] and broken["job"] == "images" and says in broken["found"] and mended["ok"], (broken, mended)
    assert line == mends.other_logins() and os.path.isdir(f"{bench.folder}/.config/dolium")


def test_a_helper_that_is_there_is_not_run(bench: Bench) -> None:
    bench.stand_in("docker-credential-here", "exit 1\n")
    before = f"{HOME}mkdir -p $HERE/.docker; echo '{{\"credsStore\": \"nowhere\"}}' >$HERE/.docker/config.json"
    mend = 'eval "$line"; echo \'{"credsStore": "here"}\' >$DOCKER_CONFIG/config.json'
    assert bench.mend("credentials", before, run=mend)[1]["ok"] and not os.path.exists(f"{bench.folder}/docker-credential-here.said")


def test_a_full_disk(root: Dolium) -> None:
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             f"mkdir -p /var/lib/dolium; mount -t tmpfs -o size=8m,mode=700 none /var/lib/dolium; {DOLIUM} doctor --json room"]  # fmt: skip
    found = json.loads(subprocess.run(words, capture_output=True, text=True).stdout)[0]
    assert not found["ok"] and "8 MiB left for /var/lib/dolium" in found["found"] and "`dolium image prune --all`" in found["breaks"], found
