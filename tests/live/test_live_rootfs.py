"""What `/` is made of: an overlay over a directory, this host's programs, the running Python."""

import hashlib
import os
import shutil
import stat
import subprocess

import pytest
from containers import SYSTEM_PYTHON, Dolium

from dolium.runtime import host


def fingerprint(top: str) -> str:
    """A hash over every name, kind, mode, owner, time and content below a directory."""
    total = hashlib.sha256()
    for directory, names, files in os.walk(top):
        names.sort()
        for name in (".", *sorted(files), *names):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            total.update(repr((path, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns,
                               status.st_ctime_ns, status.st_nlink)).encode())  # fmt: skip
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                with open(path, "rb") as file:
                    total.update(file.read())
            elif stat.S_ISLNK(status.st_mode):
                total.update(os.readlink(path).encode())
    return total.hexdigest()


SPOIL = """echo changed >>/etc/alpine-release; echo new >/new; mkdir -p /opt/a/b; chmod 777 /usr; chown 5:5 /etc/fstab
rm -rf /var/cache /lib/apk; ln -sf /nowhere /etc/motd; touch /etc/passwd; mv /bin/arch /bin/gone
cat /new; test ! -e /lib/apk && test -e /bin/gone && tail -1 /etc/alpine-release"""


def test_the_directory_is_never_modified(dolium: Dolium, alpine: str) -> None:
    before = fingerprint(alpine)
    ended = dolium("run", alpine, "sh", "-c", SPOIL)
    assert ended.stdout.splitlines()[0] == "new"
    if os.geteuid() == 0:  # a plain user has no chown and may not copy up what root owns
        assert (ended.code, ended.stdout, ended.stderr) == (0, "new\nchanged\n", "")
    assert fingerprint(alpine) == before
    assert dolium.output(alpine, "sh", "-c", "test ! -e /new && grep -c changed /etc/alpine-release || true") == "0\n"


def test_a_relative_path_names_a_directory(dolium: Dolium, alpine: str) -> None:
    assert dolium.output("./" + os.path.basename(alpine), "echo", "x", cwd=os.path.dirname(alpine)) == "x\n"
    assert dolium.output(".", "echo", "x", cwd=alpine) == "x\n"


def test_the_upper_layer_has_half_the_memory_limit(root: Dolium, alpine: str) -> None:
    for rootfs in (alpine, "@host"):
        size = root.output("-m", "64m", rootfs, "df", "-k", "/").splitlines()[-1].split()[-5]
        assert int(size) == 32 * 1024, rootfs
    ended = root("run", "-m", "64m", alpine, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=40 2>&1; ls -l /big")
    assert "No space left on device" in ended.stdout
    assert int(ended.stdout.splitlines()[-1].split()[4]) <= 32 << 20


def test_an_image_name_is_answered(dolium: Dolium) -> None:
    said = dolium.refused("127.0.0.1:9/alpine:3.20", "true")
    assert "cannot pull 127.0.0.1:9/alpine:3.20" in said and "nothing listens there" in said


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./not-there", "/etc/passwd", "@hots"])
def test_a_rootfs_that_is_none(dolium: Dolium, name: str) -> None:
    said = dolium.refused(name, "true")
    assert os.path.basename(name) in said
    if name == "/etc/passwd":
        assert "no tar archive" in said
    if name == "@hots":
        assert "`@host`" in said


def test_an_unreadable_rootfs(plain: Dolium, folder: str) -> None:
    os.mkdir(f"{folder}/closed", 0o700)
    if plain.uid != os.geteuid():
        assert f"{folder}/closed" in plain.refused(f"{folder}/closed/below", "true")
    else:
        os.mkdir(f"{folder}/closed/below")
        os.chmod(f"{folder}/closed", 0)
        assert f"{folder}/closed" in plain.refused(f"{folder}/closed/below", "true")
        os.chmod(f"{folder}/closed", 0o700)


C_PROGRAM = '#include <stdio.h>\nint main(void) { puts("compiled inside"); return 0; }\n'
COMPILE = f"cd /tmp && printf '%s' '{C_PROGRAM}' >a.c && cc -o a a.c && ./a"


def test_host_runs_awk_cc_id_and_the_ca_store(dolium: Dolium) -> None:
    assert dolium.output("@host", "awk", "BEGIN { print 6 * 7 }") == "42\n"
    assert dolium.output("@host", "id", "-un") == "root\n"
    if os.path.exists("/usr/bin/cc"):
        assert dolium.output("@host", "sh", "-c", COMPILE) == "compiled inside\n"
    code = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    outside = subprocess.run([SYSTEM_PYTHON, "-IS", "-c", code], capture_output=True, check=True, text=True).stdout
    assert int(outside) > 0, "this host has no CA store"
    assert dolium.output("@host", SYSTEM_PYTHON, "-IS", "-c", code) == outside


def test_host_compiler_is_there() -> None:
    """Apart, so that its absence is seen as a skip."""
    if not os.path.exists("/usr/bin/cc"):
        pytest.skip("this host has no C compiler at /usr/bin/cc")


def test_host_shows_no_secret(dolium: Dolium) -> None:
    seen = set(dolium.output("@host", "find", "/etc", "-mindepth", "1", "-maxdepth", "1").split())
    allowed = ("alternatives", "ssl", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "nsswitch.conf", "services",
               "protocols", "passwd", "group", "hosts", "hostname", "resolv.conf")  # fmt: skip
    assert seen <= {f"/etc/{each}" for each in allowed}
    assert {"/etc/passwd", "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} <= seen
    inside = dolium.output("@host", "sh", "-c", "ls -A /root /home /run /etc/ssl; cat /etc/passwd")
    assert "shadow" not in inside and ".ssh" not in inside and "private" not in inside
    assert len(inside.split("root:x:0:0:")) == 2
    found = dolium.output("@host", "sh", "-c", "find / -xdev \\( -name 'id_*sa*' -o -name shadow -o -name 'ssh_host*key' \\) 2>/dev/null || true")
    assert found == ""


def test_host_usr_is_read_only_and_nosuid(dolium: Dolium) -> None:
    ended = dolium("run", "@host", "sh", "-c", "echo x >/usr/bin/new; echo x >/bin/new; rm /usr/bin/awk; chmod 777 /usr/bin")
    assert ended.code != 0 and ended.stderr.count("Read-only file system") == 4
    for line in dolium.output("@host", "cat", "/proc/self/mountinfo").splitlines():
        point, options = line.split()[4:6]
        if point in ("/usr", "/bin", "/lib", "/lib64", "/sbin") or point.startswith("/etc/"):
            assert {"ro", "nosuid", "nodev"} <= set(options.split(",")), line


def test_host_has_empty_writable_places(dolium: Dolium) -> None:
    script = "for d in /root /home /tmp /var /var/tmp /run; do find $d -mindepth 1 ! -path /var/tmp; echo x >$d/f; cat $d/f; done"
    assert dolium.output("@host", "sh", "-c", script) == "x\n" * 6
    assert dolium.output("@host", "stat", "-c", "%a", "/tmp", "/root") == "1777\n700\n"


@pytest.fixture
def environment(folder: str, plain: Dolium) -> str:
    """A virtual environment with one package, in a home that only the plain user may enter."""
    home = f"{folder}/home"
    os.mkdir(home, 0o700)
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--without-pip", f"{home}/venv"], check=True)
    site = next(f"{home}/venv/lib/{each}/site-packages" for each in os.listdir(f"{home}/venv/lib"))
    os.mkdir(f"{site}/amphora")
    with open(f"{site}/amphora/__init__.py", "w") as file:
        file.write("LITRES = 26\n")
    for directory, names, files in os.walk(home):
        for name in (".", *names, *files):
            os.chown(f"{directory}/{name}", plain.uid, -1, follow_symlinks=False)
    return f"{home}/venv"


@pytest.mark.parametrize("who", ["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def test_venv_is_first_on_path(who: str, plain: Dolium, dolium: Dolium, environment: str) -> None:
    user = plain if who == "plain" else dolium
    given = {"DOLIUM_PYTHON": f"{environment}/bin/python3"}
    code = "import sys, amphora; print(amphora.LITRES, sys.prefix)"
    assert user.output("@venv", "python3", "-c", code, env=given) == f"26 {environment}\n"
    path = user.output("@venv", "sh", "-c", "echo $PATH; command -v python3", env=given).splitlines()
    assert path[0].startswith(f"{environment}/bin:") and path[1] == f"{environment}/bin/python3"
    ended = user("run", "@venv", "touch", f"{environment}/x", env=given)
    assert ended.code == 1 and "Read-only file system" in ended.stderr
    assert user.output("@venv", "sh", "-c", f"ls -A {os.path.dirname(environment)}", env=given) == "venv\n"


def test_a_plain_user_spoils_nothing_either(plain: Dolium, own_alpine: str) -> None:
    before = fingerprint(own_alpine)
    ended = plain("run", own_alpine, "sh", "-c", SPOIL.replace("chown 5:5 /etc/fstab", ""))
    if host.facts().kernel >= (6, 6):
        assert (ended.code, ended.stdout, ended.stderr) == (0, "new\nchanged\n", "")
    else:  # its tmpfs has no user.* attributes, in which an overlay would write that a directory of the image is gone
        assert ended.stdout == "new\n" and all("I/O error" in line for line in ended.stderr.splitlines()), ended
    assert fingerprint(own_alpine) == before


def test_a_directory_with_next_to_nothing(dolium: Dolium, alpine: str, folder: str) -> None:
    """One program and its loader: every place that is needed is made in the overlay, none in the directory."""
    os.makedirs(f"{folder}/root/lib")
    loader = next(each for each in os.listdir(f"{alpine}/lib") if each.startswith("ld-musl"))
    shutil.copy(f"{alpine}/bin/busybox", f"{folder}/root/busybox")
    shutil.copy(f"{alpine}/lib/{loader}", f"{folder}/root/lib/{loader}")
    for words in ([], ["--read-only", "--tmpfs", "/tmp"], ["-v", "/etc/passwd:/a/b/passwd:ro"]):
        seen = dolium.output(*words, f"{folder}/root", "/busybox", "ls", "/", "/etc").split()
        assert {"busybox", "dev", "proc", "sys", "hosts", "hostname", "resolv.conf"} <= {*seen}
    assert sorted(os.listdir(f"{folder}/root")) == ["busybox", "lib"]
    assert dolium.refused(f"{folder}/root", "sh", code=127).startswith("error: cannot exec sh: ")
    os.mkdir(f"{folder}/empty")
    assert dolium.refused(f"{folder}/empty", "/sh", code=127).startswith("error: cannot exec /sh: ")
