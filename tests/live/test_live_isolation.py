"""What a container sees of the host by default: namespaces, mounts, /proc, /sys, /dev, network."""

import os
import subprocess

import pytest
from containers import SYSTEM_PYTHON, Dolium, end, first_process, read_line

from dolium.engine import config

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
KERNEL_FILE_SYSTEMS = {"overlay", "tmpfs", "proc", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2"}


class Mount:
    """A line of mountinfo."""

    def __init__(self, line: str) -> None:
        before, _, after = line.partition(" - ")
        words = before.split()
        self.number, self.parent, self.root, self.point = words[0], words[1], words[3], words[4]
        self.options = set(words[5].split(","))
        self.propagation = words[6:]
        self.kind, self.source = after.split()[:2]


def mounts(dolium: Dolium, *words: str) -> dict[str, Mount]:
    return {each.point: each for each in map(Mount, dolium.output(*words, "cat", "/proc/self/mountinfo").splitlines())}


def test_every_namespace_is_its_own(dolium: Dolium, alpine: str) -> None:
    script = "for n in cgroup ipc mnt net pid user uts time; do echo $n $(readlink /proc/self/ns/$n); done"
    ended = dolium("run", alpine, "sh", "-c", script)
    inside = dict(line.split() for line in ended.stdout.splitlines())
    outside = {each: os.readlink(f"/proc/self/ns/{each}") for each in (*KINDS, "time")}
    shared = {"time", "user"} if ended.shares_users else {"time"}
    assert {each for each in outside if inside[each] == outside[each]} == shared
    if ended.shares_users:
        assert b"the container shares the host's users" in ended.err and b"cannot" in ended.err


def test_root_inside_is_nobody_outside(root: Dolium, alpine: str) -> None:
    with root.start("run", alpine, "sh", "-c", "id -u; sleep 1000") as process:
        assert read_line(process) == "0"
        uid = os.stat(f"/proc/{first_process(process)}").st_uid
        with open(f"/proc/{first_process(process)}/uid_map") as file:
            mapping = file.read().split()
        shares = end(process).shares_users
    if shares:
        assert uid == 0
    else:
        assert uid >= 524288 and mapping == ["0", str(uid), "65536"]


def test_two_containers_have_different_ids(root: Dolium, alpine: str) -> None:
    with root.start("run", alpine, "sh", "-c", "echo; sleep 1000") as one, root.start("run", alpine, "sh", "-c", "echo; sleep 1000") as two:
        read_line(one), read_line(two)
        owners = [os.stat(f"/proc/{first_process(each)}").st_uid for each in (one, two)]
        shares = [end(each).shares_users for each in (one, two)]
    assert owners[0] != owners[1] or all(shares)


@pytest.mark.parametrize("rootfs", ["alpine", "@host"])
def test_the_old_root_is_gone(dolium: Dolium, alpine: str, rootfs: str) -> None:
    seen = mounts(dolium, alpine if rootfs == "alpine" else rootfs)
    by_number = {each.number: each for each in seen.values()}
    top = seen["/"]
    assert top.parent not in by_number
    for each in seen.values():
        while each is not top:
            each = by_number[each.parent]
    for each in seen.values():
        assert not each.propagation, f"{each.point} is tied to the host: {each.propagation}"
        if rootfs == "alpine":
            bound = os.geteuid() != 0 and each.root[1:] in NODES  # a plain user cannot make them; masks are of the null device
            assert each.kind in KERNEL_FILE_SYSTEMS or bound, each.point
            ours = ("/dev/", "/proc/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
            assert each.root == "/" or each.point.startswith(ours), each.point
    if rootfs == "@host":
        foreign = {each.point for each in seen.values() if each.kind not in KERNEL_FILE_SYSTEMS - {"overlay", "tmpfs"}}
        allowed = ("/usr", "/etc/", "/bin", "/sbin", "/lib", "/dev", "/proc/", "/sys")
        assert all(each == "/" or each.startswith(allowed) for each in foreign)


def test_dot_dot_leads_nowhere(dolium: Dolium, alpine: str) -> None:
    script = "cd / && cd ../../.. && ls; ls /proc/1/root/ /proc/self/cwd/../../"
    top = {*os.listdir(alpine)} | {"proc", "sys", "dev", "/proc/1/root/:", "/proc/self/cwd/../../:"}
    assert {*dolium.output(alpine, "sh", "-c", script).split()} <= top


def test_proc_is_its_own(dolium: Dolium, alpine: str) -> None:
    seen = dolium.output(alpine, "sh", "-c", "echo $$; echo /proc/[0-9]*; cat /proc/1/comm; true").splitlines()
    assert seen[0] == "1" and seen[1] == "/proc/1" and seen[2] == "sh"
    found = mounts(dolium, alpine)
    assert found["/proc"].kind == "proc" and found["/proc"].root == "/"
    assert {"nosuid", "nodev", "noexec"} <= found["/proc"].options


def test_sys_is_read_only(dolium: Dolium, alpine: str) -> None:
    found = mounts(dolium, alpine)["/sys"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= found.options and found.kind == "sysfs"
    ended = dolium("run", alpine, "sh", "-c", "echo 1 >/sys/kernel/profiling; mkdir /sys/x; mount -o remount,rw /sys")
    assert ended.code != 0 and ended.stderr.count("Read-only file system") == 2, ended


NODES = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}


def test_dev_has_what_programs_expect_and_no_more(dolium: Dolium, alpine: str) -> None:
    script = "for f in /dev/*; do echo ${f#/dev/} $(stat -c %F:%t:%T:%a $f | tr ' ' _) $(readlink $f); done"
    seen = {line.split()[0]: line.split()[1:] for line in dolium.output(alpine, "sh", "-c", script).splitlines()}
    assert {*seen} == {*NODES, *LINKS, "core", "pts", "shm", "mqueue"}
    for name, number in NODES.items():
        kind, major, minor, mode = seen[name][0].split(":")
        assert (kind, f"{int(major, 16)}:{int(minor, 16)}", mode) == ("character_special_file", number, "666"), name
    assert {name: seen[name][-1] for name in LINKS} == LINKS


def test_devices_work(dolium: Dolium, alpine: str) -> None:
    script = """cat /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; head -c 5 /dev/random | wc -c
        echo x >/dev/null; echo y | cat /dev/stdin >/dev/stdout; ls /dev/fd/0; echo x >/dev/full || echo full"""
    ended = dolium("run", alpine, "sh", "-c", script)
    assert ended.stdout.split() == ["3", "5", "5", "y", "/dev/fd/0", "full"], ended
    script = "ls /dev/pts; df -k /dev/shm | tail -1; stat -c %a /dev/shm /dev/mqueue; echo s >/dev/shm/s && cat /dev/shm/s"
    lines = dolium.output(alpine, "sh", "-c", script).splitlines()
    assert lines[0] == "ptmx" and lines[1].split()[1] == str(64 * 1024) and lines[2:] == ["1777", "1777", "s"]
    found = mounts(dolium, alpine)
    assert [found[f"/dev/{each}"].kind for each in ("pts", "shm", "mqueue")] == ["devpts", "tmpfs", "mqueue"]


def test_a_new_terminal_can_be_opened(dolium: Dolium) -> None:
    code = "import os; a, b = os.openpty(); print(os.ttyname(b)); os.write(b, b'x'); print(os.read(a, 1))"
    assert dolium.output("@host", SYSTEM_PYTHON, "-IS", "-c", code) == "/dev/pts/0\nb'x'\n"


def test_cgroups_are_its_own_and_read_only(dolium: Dolium, alpine: str) -> None:
    found = [each for each in mounts(dolium, alpine).values() if each.point.startswith("/sys/fs/cgroup")]
    lines = dolium.output(alpine, "cat", "/proc/self/cgroup").splitlines()
    assert all("ro" in each.options for each in found)
    for each in found:
        assert each.root == "/", each.point
    if os.geteuid() == 0:
        assert found
        assert all(line.endswith(":/") for line in lines), lines


def test_masked_paths_tell_nothing(dolium: Dolium, alpine: str) -> None:
    count = 0
    for path in config.MASKED:
        if not os.path.exists(path):
            continue
        count += 1
        ended = dolium("run", alpine, "sh", "-c", f"if test -d {path}; then ls -A {path}; else cat {path}; fi")
        assert ended.stdout == "", path
    assert count >= 3


def test_read_only_paths(dolium: Dolium, alpine: str) -> None:
    tries = [path for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/hostname", "/proc/irq/default_smp_affinity") if os.path.exists(path)]
    for path in tries:  # opened for writing, never written to
        ended = dolium("run", alpine, "sh", "-c", f": >>{path}")
        assert ended.code != 0 and ("Read-only file system" in ended.stderr or "Permission denied" in ended.stderr), (path, ended)
    found = mounts(dolium, alpine)
    for path in config.READ_ONLY:
        if os.path.exists(path):
            assert {"ro", "nosuid", "nodev", "noexec"} <= found[path].options, path


def test_the_network_is_lo_alone(dolium: Dolium, alpine: str) -> None:
    script = "ls /sys/class/net; cat /sys/class/net/lo/flags; ping -c 1 -W 5 127.0.0.1 >/dev/null && echo up; wc -l </proc/net/route"
    assert dolium.output(alpine, "sh", "-c", script).split() == ["lo", "0x9", "up", "1"]


def test_network_host_is_the_hosts(dolium: Dolium, alpine: str) -> None:
    ended = dolium("run", "--network", "host", alpine, "sh", "-c", "readlink /proc/self/ns/net; cat /etc/resolv.conf")
    assert ended.code == 0 and ended.stderr == "", ended
    assert ended.stdout.splitlines()[0] == os.readlink("/proc/self/ns/net")
    if os.access("/etc/resolv.conf", os.R_OK):
        with open("/etc/resolv.conf") as file:
            assert ended.stdout.partition("\n")[2] == file.read()
    assert dolium.output("--net=host", alpine, "ls", "/sys/class/net").split() == sorted(os.listdir("/sys/class/net"))


def test_the_hosts_names_files(dolium: Dolium, alpine: str) -> None:
    before = os.uname().nodename
    script = "hostname; cat /etc/hostname; cat /etc/hosts; cat /etc/resolv.conf"
    lines = dolium.output("-h", "amphora.example", alpine, "sh", "-c", script).splitlines()
    if os.geteuid() == 0:
        assert lines == ["amphora.example", "amphora.example", "127.0.0.1 localhost", "::1 localhost",
                         "127.0.1.1 amphora.example", "# no network"]  # fmt: skip
    name = dolium.output(alpine, "hostname").strip()
    assert len(name) == 12 and {*name} <= {*"0123456789abcdef"} and name != before
    assert os.uname().nodename == before


def test_mounts_inside_do_not_reach_the_host(root: Dolium, alpine: str) -> None:
    with open("/proc/self/mountinfo") as file:
        before = file.read()
    words = ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", alpine]
    script = "mount -t tmpfs x /mnt && touch /mnt/here && ls /mnt; sleep 1000"
    with root.start("run", *words, "sh", "-c", script) as process:
        assert read_line(process) == "here"
        with open("/proc/self/mountinfo") as file:
            assert file.read() == before
        end(process)


def test_the_ipc_namespace_is_empty(dolium: Dolium, alpine: str) -> None:
    made = subprocess.run(["ipcmk", "-Q"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip("ipcmk cannot make a message queue on this host")
    number = made.stdout.split()[-1]
    try:
        assert dolium.output(alpine, "sh", "-c", "tail -n +2 /proc/sysvipc/msg") == ""
    finally:
        subprocess.run(["ipcrm", "-q", number], check=True)


def test_time_namespace_on_request(dolium: Dolium, alpine: str) -> None:
    ended = dolium("run", "--time-namespace", alpine, "readlink", "/proc/self/ns/time")
    assert ended.code == 0 and ended.stdout.strip() != os.readlink("/proc/self/ns/time")
