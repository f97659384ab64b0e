"""Holes that were found in runc, crun and what calls them, each tried on `dolium-oci` (the rows that concern config, mounts,
descriptors, exec and hooks)."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest
from bundles import SAFE, Bundle, config, script
from containers import TOP

WITHOUT_DEV = ("/dev", "/dev/pts", "/dev/shm")


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def victim(bundle: Bundle) -> str:
    path = f"{bundle.directory}/victim"
    os.mkdir(path)
    return path


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_cve_2019_5736_the_runtime_cannot_be_overwritten_from_within(bundle: Bundle, verb: str) -> None:
    """An entrypoint that is the runtime itself, by `#!/proc/self/exe`."""
    ours = [bundle.runtime, *(f"{TOP}/src/dolium/programs/{each}" for each in ("dolium-init", "dolium-keep", "dolium-verbs"))]
    before = [digest(each) for each in ours]
    with open(f"{bundle.rootfs}/evil", "w") as file:
        file.write("#!/proc/self/exe\n")
    os.chmod(f"{bundle.rootfs}/evil", 0o755)
    if verb == "run":
        bundle.write(config(process__args=["/evil"]))
        bundle.verb("run", "-b", bundle.directory, bundle.id)
    else:
        bundle.running(script("for i in 1 2 3 4 5 6 7 8 9; do for p in /proc/[0-9]*; do (: > $p/exe) 2>/dev/null; done; done; sleep 100"))
        for _ in range(3):
            bundle.verb("exec", bundle.id, "/evil")
    assert [digest(each) for each in ours] == before


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev"])
def test_cve_2019_19921_cve_2023_27561_a_symlink_in_place_of_proc(bundle: Bundle, place: str) -> None:
    os.rmdir(f"{bundle.rootfs}{place}") if not os.listdir(f"{bundle.rootfs}{place}") else os.rename(f"{bundle.rootfs}{place}", f"{bundle.rootfs}/old")
    os.mkdir(f"{bundle.rootfs}/evil")
    os.symlink("/evil", f"{bundle.rootfs}{place}")
    line = bundle.refused(config())
    assert f"on {place}" in line and ("ELOOP" in line or "ENOTDIR" in line), line


@pytest.mark.parametrize("mount", [{"destination": "/proc", "type": "tmpfs", "source": "x"}, {"destination": "/proc/self", "type": "tmpfs", "source": "x"},
                                   {"destination": "/proc", "source": "/tmp", "options": ["bind"]},
                                   {"destination": "/proc/sys/../self/attr", "type": "tmpfs", "source": "x"}])
def test_cve_2019_16884_nothing_is_mounted_over_proc(bundle: Bundle, mount: dict[str, object]) -> None:
    spec = config()
    spec["mounts"].append(mount)
    assert bundle.refused(spec).startswith("mounts[5].")


def test_cve_2021_30465_cve_2024_45310_a_destination_through_links_stays_within(bundle: Bundle) -> None:
    """Absolute, relative and chained links out of the rootfs: what is made and mounted is below it."""
    out = victim(bundle)
    os.symlink(out, f"{bundle.rootfs}/absolute")
    os.symlink("../" * 20 + out.lstrip("/"), f"{bundle.rootfs}/relative")
    os.symlink("absolute", f"{bundle.rootfs}/chained")
    spec = script("cat /proc/self/mountinfo")
    for name in ("absolute", "relative", "chained"):
        spec["mounts"].append({"destination": f"/{name}/made/{name}", "type": "tmpfs", "source": "x"})
    assert "ENOENT" in bundle.refused(spec), "a link that leads nowhere, also within the rootfs"
    assert os.listdir(out) == []
    os.makedirs(f"{bundle.rootfs}{out}")
    text = bundle.output(spec)
    assert os.listdir(out) == []
    assert text.count(f" {out}/made/") == 3, "within the rootfs they are ordinary paths"


@pytest.mark.parametrize("link", ["absolute", "relative"])
def test_cve_2026_41579_cve_2026_47766_dev_is_a_link_and_nothing_is_mounted_there(bundle: Bundle, link: str) -> None:
    out = victim(bundle)
    os.rename(f"{bundle.rootfs}/dev", f"{bundle.rootfs}/old-dev")
    os.symlink(out if link == "absolute" else "../" * 20 + out.lstrip("/"), f"{bundle.rootfs}/dev")
    spec = script("true")
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in WITHOUT_DEV]
    bundle.write(spec)
    bundle.verb("run", "-b", bundle.directory, bundle.id)
    assert os.listdir(out) == []


@pytest.mark.parametrize("number", range(3, 24))
def test_cve_2024_21626_no_directory_of_the_host_is_left_open(bundle: Bundle, number: int) -> None:
    spec = script("ls -ld .", process__cwd=f"/proc/self/fd/{number}")
    ended = bundle.create(spec)
    assert ended.code == 1 and "chdir" in ended.err, ended


def test_cve_2024_21626_exec(bundle: Bundle) -> None:
    bundle.running()
    for number in range(3, 24, 4):
        ended = bundle.verb("exec", "--cwd", f"/proc/self/fd/{number}", bundle.id, "ls", "-ld", ".")
        assert (ended.code, ended.out) == (255, ""), ended


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_cve_2024_21626_where_the_user_goes_when_root_may_not(bundle: Bundle, verb: str) -> None:
    """By a link in a directory that is closed to root, so that it is the second try, as the user, which meets it."""
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    spec = config(process__args=["sleep", "1000"], linux__uidMappings=mapping, linux__gidMappings=mapping)
    spec["linux"]["namespaces"].append({"type": "user"})
    bundle.give(100000)
    os.mkdir(f"{bundle.rootfs}/closed", 0o700)
    os.chown(f"{bundle.rootfs}/closed", 101000, 0)
    bundle.write(spec)
    if verb == "exec":
        bundle.running(spec)
    outside = os.open(bundle.directory, os.O_RDONLY)
    user = {"uid": 1000, "gid": 1000}
    try:
        for number in (*range(3, 9), 12, 20):
            link, cwd = f"{bundle.rootfs}/closed/{number}", f"/closed/{number}"
            os.symlink(f"/proc/self/fd/{number}", link)
            if verb == "run":
                bundle.write({**spec, "process": {**spec["process"], "args": ["ls", "-ld", "."], "cwd": cwd, "user": user}})
                words = ["run", "--bundle", bundle.directory, "--preserve-fds", "1", bundle.id]
            else:
                words = ["exec", "--cwd", cwd, "--user", "1000:1000", "--preserve-fds", "1", bundle.id, "ls", "-ld", "."]
            ended = bundle.verb(*words, pass_fds=[3], preexec_fn=lambda: os.dup2(outside, 3))
            assert (ended.code, ended.out) == (1 if verb == "run" else 255, "") and "chdir" in ended.err, ended
    finally:
        os.close(outside)


def test_no_descriptor_comes_in_before_or_after_start(bundle: Bundle) -> None:
    """While it waits, PID 1 holds its standard descriptors, its socket and the end of a pair; then the first alone."""
    bundle.create(script("ls -l /proc/1/fd /proc/self/fd; sleep 0.3"))
    pid = bundle.state()["pid"]
    open_ = [os.readlink(f"/proc/{pid}/fd/{each}") for each in os.listdir(f"/proc/{pid}/fd")]
    assert len(open_) == 5 and sum(each.startswith("socket:") for each in open_) == 2, open_
    bundle.start()
    bundle.wait()
    seen = {line.split(" -> ")[1] for line in bundle.read("out").splitlines() if " -> " in line}
    assert seen <= {"/dev/null", f"{bundle.directory}/out", f"{bundle.directory}/err"} | {each for each in seen if each.startswith("/proc/")}, seen


def test_a_created_container_cannot_be_looked_into(bundle: Bundle) -> None:
    """Who is in its PID namespace may neither trace what waits there nor open what it has open (CVE-2016-9962)."""
    bundle.create(config(process__args=["sleep", "5"]))
    ended = bundle.verb("exec", "--cap", "CAP_DAC_OVERRIDE", bundle.id, "ls", "-l", "/proc/1/fd")
    assert "->" not in ended.out


@pytest.mark.parametrize("target", ["/proc/sysrq-trigger", "/etc/passwd", "/nonexistent"])
def test_cve_2025_31133_the_image_chooses_no_cover_for_masked_paths(bundle: Bundle, target: str) -> None:
    """The image's /dev/null is a link; without a /dev of its own it is not what covers."""
    spec = script("cat /proc/keys | wc -c; stat -c %t:%T /proc/keys")
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in WITHOUT_DEV]
    if os.path.lexists(f"{bundle.rootfs}/dev/null"):
        os.unlink(f"{bundle.rootfs}/dev/null")
    os.symlink(target, f"{bundle.rootfs}/dev/null")
    assert bundle.output(spec) == "0\n1:3\n"


def test_a_link_at_a_masked_or_read_only_path_does_not_leave_the_file_open(bundle: Bundle) -> None:
    """What it leads to in the rootfs is masked, and read-only, whichever way one goes; the host's of that name is left alone."""
    for name in ("hidden", "fixed"):
        os.makedirs(f"{bundle.rootfs}/{name}/deep")
        with open(f"{bundle.rootfs}/{name}/file", "w") as file:
            file.write("secret\n")
    for name, target in (("a", "/hidden"), ("b", "../../../../fixed"), ("c", "hidden/file"), ("d", "/nonexistent")):
        os.symlink(target, f"{bundle.rootfs}/{name}")
    text = bundle.output(script("ls /hidden | wc -l; touch /fixed/x /fixed/deep/x 2>&1 | grep -c Read-only; cat /fixed/file",
                                linux__maskedPaths=["/a", "/d"], linux__readonlyPaths=["/b", "/d"]))
    assert text.split() == ["0", "2", "secret"]
    assert bundle.output(script("cat /hidden/file | wc -c; ls /hidden | wc -l", linux__maskedPaths=["/c"])).split() == ["0", "2"]
    assert sorted(os.listdir(f"{bundle.rootfs}/fixed")) == ["deep", "file"]


def test_cve_2025_52881_sysctls_are_written_in_a_proc_that_nobody_covers(bundle: Bundle) -> None:
    spec = script("cat /proc/sys/net/core/somaxconn 2>/dev/null; cat /fake", linux__sysctl={"net.core.somaxconn": "4242"})
    with open(f"{bundle.directory}/stat", "w") as file:
        file.write("x")
    with open(f"{bundle.rootfs}/fake", "w") as file:
        file.write("untouched\n")
    spec["mounts"].append({"destination": "/proc/stat", "source": f"{bundle.directory}/stat", "options": ["bind"]})
    assert bundle.output(spec) == "4242\nuntouched\n"


@pytest.mark.parametrize(("key", "value"), [("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/evil"), ("kernel.core_pattern", "|/evil"),
                                            ("net/../kernel/core_pattern", "|/evil"), ("kernel/core_pattern", "|/evil")])
def test_cve_2022_0811_sysctls_of_the_host(bundle: Bundle, key: str, value: str) -> None:
    with open("/proc/sys/kernel/core_pattern") as file:
        before = file.read()
    assert bundle.refused(config(linux__sysctl={key: value}))
    with open("/proc/sys/kernel/core_pattern") as file:
        assert file.read() == before


def test_cve_2022_29162_nothing_is_inheritable_unless_it_is_asked_for(bundle: Bundle) -> None:
    bundle.running()
    for text in (bundle.verb("exec", bundle.id, "grep", "CapInh", "/proc/self/status").out,):
        assert int(text.split()[1], 16) == 0


def test_cve_2022_0492_release_agent(bundle: Bundle) -> None:
    spec = script("for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release; do (echo x > $f) 2>/dev/null && echo WRITTEN $f; done; true")
    spec["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*SAFE, "ro"]})
    assert bundle.output(spec) == ""


def test_cve_2020_15257_no_abstract_socket(bundle: Bundle) -> None:
    with open("/proc/net/unix") as file:
        before = {line.split()[-1] for line in file if "@" in line}
    bundle.create(config())
    with open("/proc/net/unix") as file:
        assert {line.split()[-1] for line in file if "@" in line} <= before
    assert stat.S_IMODE(os.stat(f"{bundle.root}/{bundle.id}").st_mode) == 0o700
