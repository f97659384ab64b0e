"""`make install` and `make uninstall`: what is put where, that it runs from there, and that it all goes away again."""

import marshal
import os
import re
import shutil
import stat
import subprocess
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest
from containers import DOLIUM, NOBODY, SYSTEM_PYTHON, TOP, Dolium, wait_for

COMMANDS = sorted(os.listdir(f"{TOP}/bin"))
BARE = {"LC_ALL": "C.UTF-8"}


def make(action: str, prefix: object, top: str = TOP, code: int = 0, destination: object = "", **how: object) -> str:
    """What `make install` or `make uninstall` prints, after the helpers have been built."""
    done = subprocess.run(
        ["/bin/sh", f"{top}/make/install.sh", action], capture_output=True, text=True, cwd="/", **how,  # type: ignore[call-overload]
        env={"PATH": "/usr/bin:/bin", "PREFIX": str(prefix), "DESTDIR": str(destination)})  # fmt: skip
    assert done.returncode == code, done
    return str(done.stdout + done.stderr)


def tree(top: str) -> dict[str, tuple[int, int, int]]:
    """Each path below: mode, owner, size of a file."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            status = os.lstat(f"{directory}/{name}")
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            found[os.path.relpath(f"{directory}/{name}", top)] = (status.st_mode, status.st_uid, size)
    return found


def installed(prefix: str, uid: int | None = None) -> Dolium:
    user = Dolium(uid)
    user.command = [f"{prefix}/bin/dolium"]
    user.environment.pop("DOLIUM_PYTHON", None)
    return user


@pytest.fixture
def copy(folder: str) -> str:
    """Another version of Dolium: this clone with a different number."""
    top = f"{folder}/clone"
    for name in ("bin", "make", "src", "docs"):
        shutil.copytree(f"{TOP}/{name}", f"{top}/{name}", ignore=shutil.ignore_patterns("__pycache__"))
    path = Path(top, "src/dolium/__init__.py")
    path.write_text(path.read_text().replace('__version__ = "', '__version__ = "9.'))
    return top


def test_it_runs_from_there_whatever_surrounds_it(root: Dolium, folder: str) -> None:
    assert re.search(rf"^python +{SYSTEM_PYTHON} [\d.]+  \(the system's own\)\n", make("install", folder))
    command = f"{folder}/bin/dolium"
    text = Path(command).read_text()
    assert text.startswith(f"#!{folder}/lib/dolium/python -IS\n"), "the kernel starts it, no shell"
    assert f"\nimport sys\n\nsource = '{folder}/lib/dolium'\n" in text, "it looks for nothing"
    version = subprocess.run([DOLIUM, "--version"], capture_output=True, env=BARE).stdout
    for where in ("/", folder):
        done = subprocess.run([command, "--version"], capture_output=True, env={}, cwd=where)
        assert (done.stdout, done.stderr) == (version, b"")
    link = f"{folder}/called-by-a-link"
    os.symlink(command, link)
    assert subprocess.run([link, "--version"], capture_output=True, env={}, cwd="/").stdout == version
    ended = installed(folder)("run", "-m", "64m", "@host", "echo", "out of there", env={"PATH": ""}, cwd="/")
    assert (ended.code, ended.stdout) == (0, "out of there\n"), ended
    traced = subprocess.run(["strace", "-f", "-e", "trace=open,openat,execve", command, "run", "--rm", "--network", "none", "@host",
                             "true"], capture_output=True, text=True, env=BARE)  # fmt: skip
    assert TOP not in traced.stderr, "nothing of the clone is used"


def test_engines_find_a_quick_one(folder: str) -> None:
    """dolium-verbs, which knows where the Python program is, by whatever name it is called."""
    make("install", folder)
    command, behind = f"{folder}/bin/dolium-oci", Path(folder, "lib/dolium/dolium-oci").read_text()
    assert Path(command).read_bytes() == Path(TOP, "src/dolium/programs/dolium-verbs").read_bytes()
    assert behind.startswith(f"#!{folder}/lib/dolium/python -IS\n") and f"\nsource = '{folder}/lib/dolium'\n" in behind
    os.symlink(command, f"{folder}/runc")
    for name in (command, f"{folder}/runc"):
        done = subprocess.run([name, "features"], capture_output=True, env={}, cwd="/")
        assert done.returncode == 0 and done.stdout.startswith(b"{"), done


@pytest.mark.parametrize("name", ["a b", "x" * 120], ids=["blank", "long"])
def test_a_place_that_no_first_line_can_name(folder: str, name: str) -> None:
    make("install", f"{folder}/{name}")
    for command in ("dolium", "dolium-oci"):
        path = f"{folder}/{name}/bin/{command}"
        assert Path(path).read_bytes() == Path(TOP, "bin", command).read_bytes()
        assert subprocess.run([path, "--version"], capture_output=True, env={}, cwd="/").returncode == 0


def test_every_user_runs_it(plain: Dolium, folder: str) -> None:
    make("install", folder, preexec_fn=lambda: os.umask(0o077))
    assert installed(folder, plain.uid).output("@host", "id", "-u") == "0\n"


def test_a_plain_user_installs_below_his_home(plain: Dolium, folder: str) -> None:
    os.chown(folder, plain.uid, plain.uid)
    who = {} if plain.uid == os.geteuid() else {"user": plain.uid, "group": plain.uid, "extra_groups": []}
    assert "root" not in make("install", f"{folder}/.local", **who)
    assert installed(f"{folder}/.local", plain.uid).output("@host", "echo", "mine") == "mine\n"
    make("uninstall", f"{folder}/.local", **who)
    assert os.listdir(folder) == []


def test_what_belongs_to_root_takes_root(plain: Dolium, folder: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("`sudo` may be granted to whoever runs this")
    said = make("install", f"{folder}/p", code=1, user=NOBODY, group=NOBODY, extra_groups=[])
    assert f"To change {folder}/p takes root, so this runs: sudo {SYSTEM_PYTHON}" in said and "not done" in said
    assert os.listdir(folder) == []


def test_files_are_roots_and_nobody_elses_to_write(root: Dolium, folder: str) -> None:
    make("install", folder, preexec_fn=lambda: os.umask(0))
    for name, (mode, uid, _) in tree(folder).items():
        assert uid == 0 and (stat.S_ISLNK(mode) or not mode & 0o7022), name
        assert stat.S_ISLNK(mode) or mode & 0o444 == 0o444, name


def test_uninstall_leaves_what_was_there(folder: str) -> None:
    for name in ("bin", "lib/python3", "share/man/man1"):
        os.makedirs(f"{folder}/{name}")
        Path(folder, name, "of-somebody-else").write_text("kept")
    before = tree(folder)
    make("install", folder)
    assert {"bin/dolium", "lib/dolium"} <= tree(folder).keys() - before.keys()
    make("install", folder)
    installed(folder)("--version")
    make("uninstall", folder)
    assert tree(folder) == before
    assert "nothing of `make install`" in make("uninstall", folder, code=1)


def test_nothing_of_others_is_replaced(folder: str) -> None:
    os.mkdir(f"{folder}/bin")
    Path(folder, "bin/dolium").write_text("of a distribution")
    before = tree(folder)
    assert "is there and not from `make install`" in make("install", folder, code=1)
    assert tree(folder) == before
    os.unlink(f"{folder}/bin/dolium")
    os.makedirs(f"{folder}/lib/dolium/theirs")
    before = tree(folder)
    for action in ("install", "uninstall"):
        assert "is there and not from `make install`" in make(action, folder, code=1)
    assert tree(folder) == before


def test_what_a_start_need_not_do_is_done_also_for_a_package(folder: str) -> None:
    """DESTDIR, an archive with whole seconds, unpacked at the real place: the prepared modules hold for that place."""
    make("install", f"{folder}/usr", destination=f"{folder}/staged")
    assert not os.path.exists(f"{folder}/usr")
    subprocess.run(["tar", "--format=ustar", "-C", f"{folder}/staged/{folder}", "-cf", f"{folder}/a.tar", "usr"], check=True)
    subprocess.run(["tar", "-C", folder, "-xf", f"{folder}/a.tar"], check=True)
    top = f"{folder}/usr/lib/dolium"
    prepared = Path(top, "dolium/programs/modules").read_bytes()
    number = subprocess.run([f"{top}/python", "-c", "import importlib.util as u; print(u.MAGIC_NUMBER.hex())"], capture_output=True,
                            text=True, check=True).stdout  # fmt: skip
    assert bytes.fromhex(number) == prepared[:4]
    assert f"{folder}/staged".encode() not in prepared and TOP.encode() not in prepared
    if prepared[:4] == MAGIC_NUMBER:
        _, stamp, index = marshal.loads(prepared[8:])
        for name, (is_package, changed, size, start, length) in index.items():
            path = f"{top}/{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"
            assert (os.stat(path).st_mtime_ns, os.stat(path).st_size) == (changed, size)
            assert marshal.loads(prepared[start + len(stamp) : start + length]).co_filename == path
    assert installed(f"{folder}/usr")("--version").code == 0
    assert Path(top, "dolium/programs/filters").read_bytes() == Path(TOP, "src/dolium/programs/filters").read_bytes()


def test_an_upgrade_does_not_disturb_what_runs(root: Dolium, folder: str, copy: str) -> None:
    prefix = f"{folder}/p"
    make("install", prefix)
    dolium = installed(prefix)
    dolium.forgets = False
    first = dolium("--version").stdout
    assert dolium("run", "-d", "--name", "upgraded", "@host", "sleep", "1000").code == 0
    assert dolium("run", "-d", "--name", "ends-later", "@host", "sh", "-c", "while [ ! -e /tmp/go ]; do sleep .05; done; "
                  "exit 7").code == 0  # fmt: skip
    with dolium.start("run", "--rm", "-i", "@host", "cat", stdin=subprocess.PIPE) as attended:
        assert attended.stdin
        wait_for(lambda: dolium("ps", "-q").stdout.count("\n") >= 3)
        make("install", prefix, top=copy)
        assert dolium("--version").stdout == first.replace("dolium ", "dolium 9.")
        out, _ = attended.communicate(b"still here\n", 30)
        assert (attended.returncode, out) == (0, b"still here\n")
    assert dolium("exec", "upgraded", "echo", "joined").stdout == "joined\n"
    assert dolium("exec", "ends-later", "touch", "/tmp/go").code == 0
    assert dolium("wait", "ends-later").stdout == "7\n"
    assert dolium("stop", "upgraded").code == 0
    assert dolium("rm", "upgraded", "ends-later").code == 0
    make("uninstall", prefix)
    assert not os.path.exists(prefix)


def test_an_interpreter_that_only_its_owner_reaches_is_said(root: Dolium, folder: str) -> None:
    closed = f"{folder}/home"
    os.mkdir(closed, 0o700)
    os.symlink(SYSTEM_PYTHON, f"{closed}/python3")
    wrapped = f"{closed}/bin/python3"
    os.mkdir(f"{closed}/bin")
    shutil.copy(os.path.realpath(SYSTEM_PYTHON), wrapped)
    done = subprocess.run(["/bin/sh", f"{TOP}/make/install.sh", "install"], capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "PREFIX": f"{folder}/p", "DOLIUM_PYTHON": wrapped})  # fmt: skip
    assert done.returncode == 0 and f"only its owner may enter {closed}: other users cannot run it" in done.stdout, done


def test_make_itself(folder: str) -> None:
    done = subprocess.run(["make", "-s", "install", f"PREFIX={folder}"], cwd=TOP, capture_output=True, text=True)
    assert done.returncode == 0 and f"installed: {folder}/bin/dolium" in done.stdout, done
    assert subprocess.run(["make", "-s", "uninstall", f"PREFIX={folder}"], cwd=TOP).returncode == 0
    assert tree(folder) == {}
