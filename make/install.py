"""Put Dolium below a prefix, or take it away again.

    install.py install PREFIX [DESTDIR]      run by the Python that is to run Dolium
    install.py uninstall PREFIX [DESTDIR]

The package goes to PREFIX/lib/dolium, which is Dolium's own and is changed by rename: a command that starts meanwhile finds the
old one or the new one.  PREFIX/lib/dolium/installed lists what lies elsewhere (a directory ends in `/`); nothing that is
not in that list is ever replaced or removed.  With DESTDIR everything is put below it, ready for PREFIX.
"""

import compileall
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True  # root leaves nothing of root's in somebody's clone
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shipped  # noqa: E402

LIST = "installed"
OCI = "bin/dolium-oci"
LONGEST = 127
"""Bytes of a first line that every kernel takes, execve(2)."""


class Place:
    """Where it goes: `final` is PREFIX, `top` the same below DESTDIR, `library` the directory of our own."""

    def __init__(self, prefix: str, destination: str = "") -> None:
        if not prefix.startswith("/") or (destination and not destination.startswith("/")):
            sys.exit(f"PREFIX and DESTDIR are absolute paths; not `{prefix if not prefix.startswith('/') else destination}`")
        self.final = os.path.normpath(prefix)
        self.top = Path(destination + self.final)
        self.library = self.top / "lib/dolium"

    def listed(self) -> "list[str]":
        """What an earlier install has put elsewhere; exits where `library` is there and none of ours."""
        try:
            return (self.library / LIST).read_text().splitlines()
        except FileNotFoundError:
            if self.library.exists():
                sys.exit(f"{self.library} is there and not from `make install`: it stays as it is, and nothing is installed.")
            return []


def install(place: Place) -> None:
    """All of it, or an error before anything is changed."""
    earlier = place.listed()
    files = {f"bin/{name}": (command(name, f"{place.final}/lib/dolium/python"), 0o755) for name in shipped.commands()}
    behind = b""
    if files[OCI][0].startswith(f"#!{place.final}/".encode()):  # dolium-verbs has its place, and hands on to it what it does not do
        behind = files[OCI][0]
        files[OCI] = (Path(shipped.TOP, "src/dolium/programs/dolium-verbs").read_bytes(), 0o755)
    for name, text in shipped.pages().items():
        files[name] = (text.encode(), 0o644)
    for name in files:
        if name not in earlier and os.path.lexists(place.top / name):
            sys.exit(f"{place.top / name} is there and not from `make install`: remove it first. Nothing is installed.")
    made = [each for each in earlier if each.endswith("/")]
    for name in ("lib/dolium", *files):
        make_directories(place, os.path.dirname(name), made)
    stage = place.top / "lib/dolium.new"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        fill(stage, f"{place.final}/lib/dolium")
        if behind:
            (stage / "dolium-oci").write_bytes(behind)
            (stage / "dolium-oci").chmod(0o755)
    except BaseException:
        shutil.rmtree(stage)
        raise
    (stage / LIST).write_text("".join(f"{each}\n" for each in sorted({*made, *files})))
    (stage / LIST).chmod(0o644)
    replace(stage, place.library)
    for name, (content, mode) in files.items():
        new = place.top / f"{name}.new"
        new.unlink(missing_ok=True)
        new.write_bytes(content)
        new.chmod(mode)
        new.rename(place.top / name)
    remove(place, [each for each in earlier if each not in files and not each.endswith("/")])
    print(f"installed: {', '.join(f'{place.final}/bin/{name}' for name in shipped.commands())}")


def command(name: str, python: str) -> bytes:
    """A command for that Python alone: run by the kernel at once, without the shell that would look for one first, and without
    the search for the package, of which to compile it is most: a millisecond each (docs/decisions/0033, 0038)."""
    text = Path(shipped.TOP, "bin", name).read_bytes()
    first = f"#!{python} -IS\n".encode()
    if len(first) > LONGEST or len(first.split()) != 2:  # execve(2) cuts it off, or takes a part of the path for all of it
        return text
    found = f"import sys\n\nsource = {os.path.dirname(python)!r}\n".encode()
    quiet = text[text.index(b"from _signal import") : text.index(b"if sys.platform")]
    return first + quiet + found + text[text.index(b"sys.path.insert(0, source)\n") :]


def make_directories(place: Place, name: str, made: "list[str]") -> None:
    """A directory below the prefix, and those above it; the new ones are added to `made`, as a path from the prefix."""
    path = place.top / name
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        each.chmod(0o755)
        if each.is_relative_to(place.top):
            made.append(os.path.relpath(each, place.top) + "/")


def fill(stage: Path, final: str) -> None:
    """The package as it will lie in `final`, with all that a start need not do itself."""
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    stage.mkdir()
    for source, name, mode in shipped.package():
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        os.utime(target, (moment, moment))  # whole seconds: archives keep no more, and prepared modules are checked by it
    for directory, _, _ in os.walk(stage):
        os.chmod(directory, 0o755)
    os.symlink(sys.executable, stage / "python")
    subprocess.run([sys.executable, "-IS", f"{shipped.TOP}/make/prepare.py", stage, final], check=True)
    for each in (stage / "dolium/programs").iterdir():
        if each.name not in shipped.HELPERS:
            each.chmod(0o644)
    if not compileall.compile_dir(str(stage), quiet=1, stripdir=str(stage), prependdir=final):
        sys.exit("Dolium's own modules do not compile. Nothing is installed.")
    for each in stage.rglob("*.pyc"):
        each.chmod(0o644)
        each.parent.chmod(0o755)


def replace(new: Path, path: Path) -> None:
    """Put a directory in the place of another."""
    old = path.with_name(path.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def remove(place: Place, names: "list[str]") -> None:
    """Files, and those directories of them that are empty, the innermost first."""
    for name in sorted(names, reverse=True):
        path = place.top / name
        if name.endswith("/"):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def uninstall(place: Place) -> None:
    """Exactly what was installed."""
    if not place.library.exists():
        sys.exit(f"nothing of `make install` is below {place.top}")
    names = place.listed()
    shutil.rmtree(place.library)
    remove(place, names)
    print(f"removed what `make install` had put below {place.top}")


def shut(path: str) -> str:
    """The first directory on the way to a program that not every user may enter; or the program, if not all may run it."""
    real = Path(os.path.realpath(path))
    for each in (*reversed(real.parents), real):
        if not each.stat().st_mode & stat.S_IXOTH:
            return str(each)
    return ""


def main(action: str, prefix: str, destination: str = "") -> None:
    os.umask(0o022)
    place = Place(prefix, destination)
    if action == "uninstall":
        uninstall(place)
        return
    install(place)
    closed = shut(sys.executable)
    if closed and os.geteuid() == 0:
        print(f"note: Dolium will run with {sys.executable}, and only its owner may enter {closed}: other users cannot run it.")


if __name__ == "__main__":
    main(*sys.argv[1:])
