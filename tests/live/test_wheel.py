"""The wheel and the archive of sources: made, installed by pip as a plain user without a compiler, used, taken away again."""

import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from containers import SYSTEM_PYTHON, TOP, Dolium

OTHER = "aarch64"


def make(folder: str, kind: str, machine: str = "") -> str:
    """The path of a fresh one."""
    code = f"import sys; sys.path.insert(0, {TOP + '/make'!r}); import distributions; print(distributions.{kind}({folder!r}{machine and ', ' + repr(machine)}))"
    done = subprocess.run([SYSTEM_PYTHON, "-IBS", "-c", code], capture_output=True, text=True, check=True)
    return f"{folder}/{done.stdout.strip()}"


@pytest.fixture(scope="module")
def wheel(workshop: str) -> str:
    path = make(workshop, "wheel", "x86_64")
    os.chmod(path, 0o644)
    return path


@pytest.fixture(scope="module")
def environment(workshop: str) -> str:
    """A virtual environment of the system's Python, of root's or whoever runs the tests."""
    path = f"{workshop}/environment"
    done = subprocess.run([SYSTEM_PYTHON, "-m", "venv", path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no venv: {done.stdout}")
    return path


def pip(environment: str, *words: str, code: int = 0, **env: str) -> str:
    """Without any index and any compiler."""
    done = subprocess.run([f"{environment}/bin/python", "-m", "pip", *words], capture_output=True, text=True,
                          env={"PATH": "/nonexistent", "HOME": environment, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **env})  # fmt: skip
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_a_plain_user_installs_it_and_runs_containers(plain: Dolium, wheel: str, folder: str) -> None:
    os.chown(folder, plain.uid, plain.uid)
    who = {} if plain.uid == os.geteuid() else {"user": plain.uid, "group": plain.uid, "extra_groups": []}
    bare = {"PATH": "/usr/bin:/bin", "HOME": folder}
    for words in ([SYSTEM_PYTHON, "-m", "venv", f"{folder}/v"], [f"{folder}/v/bin/pip", "install", "--no-index", wheel]):
        done = subprocess.run(words, capture_output=True, text=True, env=bare, **who)  # type: ignore[call-overload]
        if "ensurepip is not" in done.stdout:
            pytest.skip("no venv here")
        assert done.returncode == 0, done
    plain.command, plain.environment = [f"{folder}/v/bin/dolium"], bare
    assert plain.output("@host", "echo", "no compiler") == "no compiler\n"
    assert plain.output("@venv", "python3", "-c", "import sys, pip; print(sys.prefix)") == f"{folder}/v\n"
    code = "import dolium; r = dolium.run(['id', '-u'], text=True); print(r.stdout, r.ended_by, dolium.__file__)"
    done = subprocess.run([f"{folder}/v/bin/python", "-c", code], capture_output=True, text=True, env=bare, **who)  # type: ignore[call-overload]
    assert done.stdout.split()[:2] == ["0", "exit"] and f"{folder}/v/lib" in done.stdout, done


def test_the_command_keeps_its_fast_start(environment: str, wheel: str, folder: str) -> None:
    """No launcher of pip's: the interpreter runs without `site`, also when called by a link, as by pipx and uv."""
    pip(environment, "install", wheel)
    command = f"{environment}/bin/dolium"
    assert Path(command).read_bytes() == Path(TOP, "bin/dolium").read_bytes() and os.access(command, os.X_OK)
    link = f"{folder}/dolium"
    os.symlink(command, link)
    for each in (command, link):
        done = subprocess.run(["strace", "-f", "-e", "trace=execve", each, "--version"], capture_output=True, text=True, env={}, cwd="/")
        assert re.search(rf'execve\("{environment}/bin/python3", \[.*, "-IS", ', done.stderr), done
        assert done.stdout.startswith("dolium "), done
    before = {*Path(environment).rglob("*")}
    pip(environment, "uninstall", "-y", "dolium")
    assert [each for each in before - {*Path(environment).rglob("*")} if "dolium" not in str(each)] == []
    assert [*Path(environment).rglob("*dolium*")] == []


def test_the_package_is_found_wherever_pip_puts_it(environment: str, wheel: str, folder: str) -> None:
    for way in ({"PIP_TARGET": f"{folder}/target"}, {"PIP_PREFIX": f"{folder}/prefix"}):
        pip(environment, "install", wheel, **way)
        done = subprocess.run([f"{next(iter(way.values()))}/bin/dolium", "--version"], capture_output=True, env={}, cwd="/")
        assert done.stdout.startswith(b"dolium "), done
    library = next(Path(folder, "prefix/lib").iterdir())
    library.rename(library.with_name("python3.99"))  # installed by another Python than the one that will run it
    done = subprocess.run([f"{folder}/prefix/bin/dolium", "--version"], capture_output=True, env={}, cwd="/")
    assert done.stdout.startswith(b"dolium "), done
    shutil.rmtree(f"{folder}/prefix/lib")
    done = subprocess.run([f"{folder}/prefix/bin/dolium", "--version"], capture_output=True, text=True, env={}, cwd="/")
    assert (done.returncode, done.stderr) == (125, f"error: the package that belongs to `{folder}/prefix/bin/dolium` is not there: install Dolium again\n")


def test_what_is_inside(wheel: str, folder: str) -> None:
    assert Path(make(folder, "wheel", "x86_64")).read_bytes() == Path(wheel).read_bytes(), "the same sources, the same bytes"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("dolium/programs/dolium-init")[:5] == b"\x7fELF\x02"
    for path in Path(TOP, "src").rglob("*.py"):
        assert str(path.relative_to(f"{TOP}/src")) in names
    assert not [each for each in names if each.endswith(".pyc") or each.endswith("programs/modules")]


def test_for_another_processor(folder: str) -> None:
    if not shutil.which(f"{OTHER}-linux-gnu-gcc") and not shutil.which(f"{OTHER}-linux-musl-gcc"):
        pytest.skip(f"no compiler for {OTHER} (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross)")
    subprocess.run(["sh", f"{TOP}/make/setup.sh", "helpers"], check=True, env={**os.environ, "MACHINE": OTHER}, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(make(folder, "wheel", OTHER)) as archive:
        for name in ("dolium-init", "dolium-keep"):
            header = archive.read(f"dolium/programs/{name}")[:20]
            assert header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == 183, "EM_AARCH64, elf(5)"


def test_the_sources_are_enough(environment: str, folder: str) -> None:
    """pip builds a wheel out of them, by the compiler that is there."""
    path = make(folder, "sdist")
    with tarfile.open(path) as archive:
        names = archive.getnames()
    assert any(each.endswith("/init/init.c") for each in names) and any(each.endswith("/PKG-INFO") for each in names)
    os.mkdir(f"{folder}/bin")
    for each in os.listdir("/usr/bin"):
        if not re.search("cc|clang", each):
            os.symlink(f"/usr/bin/{each}", f"{folder}/bin/{each}")
    said = pip(environment, "install", "--no-build-isolation", path, code=1, PATH=f"{folder}/bin")
    assert "Dolium needs a C compiler that links statically" in said
    pip(environment, "install", "--no-build-isolation", path, PATH="/usr/bin:/bin")
    done = subprocess.run([f"{environment}/bin/dolium", "run", "--rm", "--network", "none", "@host", "echo", "built"], capture_output=True, env={})
    assert done.stdout == b"built\n", done
    pip(environment, "uninstall", "-y", "dolium")


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_elsewhere_one_line_says_what_to_do(system: str) -> None:
    code = f"import sys; sys.platform = {system!r}; sys.path.insert(0, {TOP + '/src'!r})\n"
    done = subprocess.run([SYSTEM_PYTHON, "-IS", "-c", code + "import dolium"], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last == f"ImportError: Dolium needs the Linux kernel, and this is {system}: install it inside a Linux virtual machine"
    done = subprocess.run([SYSTEM_PYTHON, "-IS", "-c", code + f"sys.argv = ['dolium']; import runpy; runpy.run_path({TOP + '/bin/dolium'!r})"],
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stderr) == (125, f"error: Dolium needs the Linux kernel, and this is {system}: use it inside a Linux virtual machine\n")
    done = subprocess.run([SYSTEM_PYTHON, "-IBS", "-c", code + f"sys.path.insert(0, {TOP + '/make'!r}); import distributions; distributions.build_wheel('.')"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode and done.stderr.count("\n") == 1 and "needs the Linux kernel" in done.stderr, done
