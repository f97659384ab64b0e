"""One test for each published hole of other runtimes that this code could have had, named after it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from containers import SYSTEM_PYTHON, TOP, Dolium

from dolium.core import PROGRAMS
from dolium.engine import users
from dolium.errors import DoliumError


@pytest.fixture
def image(folder: str, alpine: str) -> str:
    """A copy of Alpine to spoil."""
    path = f"{folder}/image"
    shutil.copytree(alpine, path, symlinks=True)
    os.chmod(path, 0o755)
    return path


def replace(path: str, target: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    os.symlink(target, path)


def secret(folder: str, name: str = "victim") -> str:
    path = f"{folder}/{name}"
    with open(path, "w") as file:
        file.write("untouched\n")
    return path


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def test_cve_2016_3697_a_numeric_name_is_an_id(dolium: Dolium, image: str) -> None:
    with open(f"{image}/etc/passwd", "a") as file:
        file.write("0:x:1000:1000::/:/bin/sh\n7:x:0:0::/:/bin/sh\n")
    assert dolium.output("-u", "0", image, "id", "-u") == "0\n"


@pytest.mark.parametrize("text", ["+0", "-1", " 0", "0 ", "0x0", "1e3", "0:", ":0", "0:0:0", "", "4294967295", "٣", "0\n"])
def test_cve_2026_30892_users_are_read_strictly(text: str) -> None:
    with pytest.raises(DoliumError):
        users.find(text, lambda path: "root:x:0:0::/:/bin/sh\n")


@pytest.mark.parametrize("place", ["proc", "sys", "dev"])
@pytest.mark.parametrize("absolute", [True, False])
def test_cve_2019_16884_2019_19921_2023_27561_2026_41579_kernel_paths_are_no_links(
        dolium: Dolium, image: str, folder: str, place: str, absolute: bool) -> None:  # fmt: skip
    os.mkdir(f"{folder}/victim")
    replace(f"{image}/{place}", f"{folder}/victim" if absolute else "../victim")
    said = dolium.refused(image, "true")
    assert f"/{place}" in said
    assert os.listdir(f"{folder}/victim") == []


def test_cve_2019_16884_nothing_is_mounted_on_proc(dolium: Dolium, alpine: str, folder: str) -> None:
    for target in ("/proc", "/proc/self", "/etc/../proc", "/"):
        dolium.refused("-v", f"{folder}:{target}", alpine, "true")


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
def test_cve_2025_24965_our_files_never_go_through_a_link(dolium: Dolium, image: str, folder: str, name: str) -> None:
    victim = secret(folder)
    replace(f"{image}/etc/{name}", victim)
    dolium("run", image, "true")
    assert read(victim) == "untouched\n"
    replace(f"{image}/etc", folder)
    dolium("run", image, "true")
    assert read(victim) == "untouched\n" and not os.path.exists(f"{folder}/{name}")


def test_cve_2025_31133_masks_use_the_true_null(dolium: Dolium, image: str, folder: str) -> None:
    victim = secret(folder)
    os.makedirs(f"{image}/dev", exist_ok=True)
    replace(f"{image}/dev/null", victim)
    inside = dolium.output(image, "sh", "-c", "cat /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null; echo x >/dev/null")
    assert inside == "" and read(victim) == "untouched\n"


@pytest.mark.parametrize("number", [*range(3, 12), 20, 63])
def test_cve_2024_21626_no_directory_of_the_host_leaks(dolium: Dolium, alpine: str, number: int) -> None:
    ended = dolium("run", "-w", f"/proc/self/fd/{number}", alpine, "ls")
    assert ended.code == 125 and ended.stdout == "", ended
    inside = "for f in /proc/1/fd/*; do readlink $f || :; done"  # the shell is PID 1 and holds its own script's glob open
    links = [line for line in dolium.output(alpine, "sh", "-c", inside).splitlines() if not line.startswith("pipe:")]
    assert set(links) <= {"/dev/null", "/proc/1/fd"}, links


def test_cve_2019_5736_the_helper_cannot_be_overwritten(dolium: Dolium, alpine: str, image: str) -> None:
    def state() -> list[tuple[int, int]]:
        return [(os.stat(f"{PROGRAMS}/{name}").st_mtime_ns, os.stat(f"{PROGRAMS}/{name}").st_size)
                for name in ("dolium-init", "dolium-keep")]  # fmt: skip

    before = state()
    with open(f"{image}/evil", "w") as file:
        file.write("#!/proc/self/exe\n")
    os.chmod(f"{image}/evil", 0o755)
    dolium("run", image, "/evil")
    inside = "exec 2>&1; for i in 1 2 3; do (echo x >>/proc/1/exe) && echo WRITTEN; done; cat /proc/1/exe >/dev/null && echo READ"
    assert "WRITTEN" not in dolium("run", "--init", "-u", "0", alpine, "sh", "-c", inside).stdout
    assert state() == before


@pytest.mark.needs_root
@pytest.mark.parametrize("who", ["root", "plain", "owner"])
def test_cve_2019_5736_where_memfds_cannot_be_run(request: pytest.FixtureRequest, who: str, folder: str) -> None:
    """With vm.memfd_noexec=2 (of a PID namespace of the test's own), for root, a plain user, and one whom the programs belong to:
    what the container could write to when it runs no more is a copy that nobody runs again."""
    if not os.path.exists("/proc/sys/vm/memfd_noexec"):
        pytest.skip("Linux before 6.3 has no vm.memfd_noexec")
    if os.uname().release.startswith(("6.11.", "6.12.")):
        pytest.skip("refused on this kernel")
    user: Dolium = request.getfixturevalue("plain" if who == "owner" else who)
    programs = PROGRAMS
    if who == "owner":
        for each in ("bin", "src"):
            shutil.copytree(f"{TOP}/{each}", f"{folder}/{each}", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["chown", "-R", f"{user.uid}:{user.uid}", folder], check=True)
        user.command, programs = [f"{folder}/bin/dolium"], f"{folder}/src/dolium/programs"
    become = [] if who == "root" else ["setpriv", f"--reuid={user.uid}", f"--regid={user.uid}", "--clear-groups"]
    begin = 'echo 2 >/proc/sys/vm/memfd_noexec && exec "$@"'
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", begin, "sh", *become, *user.command]
    user.uid = os.geteuid()
    names = ("dolium-init", "dolium-keep")
    before = [Path(programs, name).read_bytes() for name in names]
    inside = "for i in 1 2 3; do (echo x >>/proc/1/exe) && echo WRITTEN; done; cat /proc/1/exe >/dev/null && echo READ; exec 2>&1; id -u"
    words = ["--cap-add", "SYS_PTRACE", "--init", *(["--userns", "host"] if who == "root" else []), "@host", "sh", "-c", inside]
    ended = user("run", *words, argv=command)
    assert ended.code == 0 and ended.stdout in ("READ\n0\n", "0\n"), ended
    if who == "root":
        assert ended.stdout == "READ\n0\n" and ended.stderr.count("Text file busy") == 3, ended
    look = ("import os, sys; sys.path.insert(0, sys.argv[1]); from dolium.core import spawn; fds = [spawn.program('dolium-init') "
            "for _ in 'ab']; print(*(os.readlink(f'/proc/self/fd/{fd}') for fd in fds), len({os.fstat(fd).st_ino for fd in fds}))")  # fmt: skip
    shown = user(SYSTEM_PYTHON, "-c", look, str(Path(programs).parents[1]), argv=command[: -len(user.command)]).stdout.split()
    if who == "plain":
        assert shown == [f"{programs}/dolium-init"] * 2 + ["1"], "it belongs to root, so it need not be copied"
    else:
        assert shown.count("(deleted)") == 2 and shown[-1] == "2", "a copy for each run"
    assert [Path(programs, name).read_bytes() for name in names] == before


@pytest.mark.needs_root
def test_cve_2022_0492_no_release_agent(dolium: Dolium, alpine: str) -> None:
    inside = ("mkdir /tmp/g; for t in memory pids rdma; do mount -t cgroup -o $t none /tmp/g 2>/dev/null && "
              "echo '|/x' >/tmp/g/release_agent 2>/dev/null && echo ESCAPED; done; "
              "for f in $(find /sys/fs/cgroup -name release_agent); do (echo /x >$f) 2>/dev/null && echo ESCAPED; done; echo done")  # fmt: skip
    for words in ([], ["--cap-add", "SYS_ADMIN"]):
        ended = dolium("run", *words, alpine, "sh", "-c", inside)
        assert ended.stdout == "done\n", ended


@pytest.mark.parametrize("key", ["kernel.core_pattern", "kernel.shm_rmid_forced+kernel.core_pattern", "net/../kernel/core_pattern",
                                 "vm.overcommit_memory", "net..ipv4", "kernel.shmmax\n"])  # fmt: skip
def test_cve_2022_0811_sysctls_are_keys_of_a_namespace(dolium: Dolium, alpine: str, key: str) -> None:
    before = read("/proc/sys/kernel/core_pattern")
    dolium.refused("--sysctl", f"{key}=1", alpine, "true")
    assert read("/proc/sys/kernel/core_pattern") == before


def test_cve_2022_24769_nothing_is_inheritable(dolium: Dolium, alpine: str) -> None:
    status = dolium.output(alpine, "grep", "-E", "CapInh|CapAmb", "/proc/self/status")
    assert [line.split()[1] for line in status.splitlines()] == ["0" * 16] * 2


def test_cve_2023_25809_cgroups_are_read_only(dolium: Dolium, alpine: str) -> None:
    inside = "for f in $(find /sys/fs/cgroup -type f | head -40); do (: >>$f) 2>/dev/null && echo WRITABLE $f; done; echo done"
    assert dolium.output(alpine, "sh", "-c", inside) == "done\n"


def test_cve_2026_47262_a_huge_passwd_is_refused(dolium: Dolium, image: str) -> None:
    with open(f"{image}/etc/passwd", "r+b") as file:
        file.truncate(5 << 30)
    began = time.monotonic()
    dolium.refused("-u", "mail", image, "true")
    replace(f"{image}/etc/passwd", "/dev/zero")
    ended = dolium("run", "-u", "mail", image, "true")
    assert ended.code == 125, ended
    assert time.monotonic() - began < 60


@pytest.mark.needs_root
def test_cve_2021_41091_state_is_for_its_owner_alone(dolium: Dolium, alpine: str) -> None:
    dolium("run", alpine, "true")
    for path in ("/run/dolium", "/run/dolium/leases"):
        assert os.stat(path).st_mode & 0o077 == 0 and os.stat(path).st_uid == 0


def test_cve_2020_15257_no_abstract_socket(dolium: Dolium, alpine: str) -> None:
    sockets = dolium.output("--network", "host", alpine, "cat", "/proc/net/unix")
    assert not [line for line in sockets.splitlines() if "@" in line and "dolium" in line]


def test_cve_2024_45310_directories_are_made_inside(dolium: Dolium, image: str, folder: str) -> None:
    os.mkdir(f"{folder}/outside")
    replace(f"{image}/srv", f"{folder}/outside")
    os.mkdir(f"{folder}/volume")
    dolium("run", "-v", f"{folder}/volume:/srv/a/b/c", image, "true")
    replace(f"{image}/srv", "../../../../../../.." + f"{folder}/outside")
    dolium("run", "-v", f"{folder}/volume:/srv/a/b/c", image, "true")
    assert os.listdir(f"{folder}/outside") == []


def test_cve_2021_43784_the_helper_refuses_what_does_not_hold_together() -> None:
    from dolium.core import wire

    good = wire.encode([wire.Step("open", wire.OUTSIDE, "test", path="/", n1=0o10000000, out=9)], {}).data
    samples = [b"", b"x", good[:100], good[:-1], good + b"x", b"\0" * 4096, b"\xff" * 4096]
    for place in range(0, wire.HEADER.size + wire.RECORD.size, 3):
        samples.append(good[:place] + b"\xff" + good[place + 1 :])
    for sample in samples:
        memory = os.memfd_create("plan", 0)
        os.write(memory, sample)
        process = subprocess.run([f"{PROGRAMS}/dolium-init", "0", str(memory)], pass_fds=(memory,), stdin=subprocess.DEVNULL, timeout=60)
        os.close(memory)
        assert process.returncode in (0, 1, 2), (process.returncode, sample[:200])


