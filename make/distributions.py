"""Dolium as a wheel, with the helpers inside, and as an archive of its sources; also for pip and build, as their backend (PEP 517).

    distributions.py wheel [MACHINE]     into dist/; the helpers have been built (make/setup.sh helpers)
    distributions.py sdist

A wheel is for one kind of processor and for every Python from 3.11 on.  The same sources and compiler give the same bytes.
"""

import base64
import gzip
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tomllib
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import shipped

TAGS = ("py3-none-manylinux_2_17_{}", "py3-none-musllinux_1_1_{}")
"""The helpers are static: they ask for no C library of the host's, whichever it is (PEP 600, PEP 656)."""
LEFT_OUT = {".git", ".build", "__pycache__", "programs", "dist"}
MOMENT = int(os.environ.get("SOURCE_DATE_EPOCH") or 315532800)
"""1980: no archive knows an earlier one."""


def project() -> "dict[str, object]":
    with open(f"{shipped.TOP}/pyproject.toml", "rb") as file:
        found: dict[str, object] = tomllib.load(file)["project"]
    return found


def metadata() -> str:
    """The core metadata, version 2.4."""
    about = project()
    lines = [("Metadata-Version", "2.4"), ("Name", about["name"]), ("Version", about["version"]), ("Summary", about["description"]),
             ("Keywords", ",".join(about["keywords"])), *(("Classifier", each) for each in about["classifiers"]),
             ("License-Expression", about["license"]), *(("License-File", each) for each in about["license-files"]),
             ("Requires-Python", about["requires-python"]), ("Description-Content-Type", "text/markdown")]  # type: ignore  # fmt: skip
    with open(f"{shipped.TOP}/{about['readme']}", encoding="utf-8") as file:
        return "".join(f"{name}: {value}\n" for name, value in lines) + "\n" + file.read()


def entry_points() -> str:
    """What other programs find us by: pytest, its plugin."""
    groups = project()["entry-points"]
    return "".join(f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in found.items())
                   for group, found in groups.items())  # type: ignore  # fmt: skip


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def wheel(directory: str, machine: str) -> str:
    """Write the wheel for a kind of processor; its name."""
    programs = f"{shipped.TOP}/src/dolium/programs" if machine == platform.machine() else f"{shipped.TOP}/.build/programs-{machine}"
    name = "dolium-{version}".format(**project())
    tags = [each.format(machine) for each in TAGS]
    files = [(path, read(source), mode) for source, path, mode in shipped.package(programs)]
    if os.path.exists(f"{programs}/filters"):
        files.append(("dolium/programs/filters", read(f"{programs}/filters"), 0o644))
    for each in shipped.commands():
        files.append((f"{name}.data/scripts/{each}", read(f"{shipped.TOP}/bin/{each}"), 0o755))
    for path, text in shipped.pages().items():
        files.append((f"{name}.data/data/{path}", text.encode(), 0o644))
    kind = "Wheel-Version: 1.0\nGenerator: dolium\nRoot-Is-Purelib: true\n" + "".join(f"Tag: {each}\n" for each in tags)
    about = [("METADATA", metadata()), ("entry_points.txt", entry_points()), ("WHEEL", kind),
             ("licenses/LICENSE", read(f"{shipped.TOP}/LICENSE").decode())]
    files += [(f"{name}.dist-info/{each}", text.encode(), 0o644) for each, text in about]
    rows = [f"{path},sha256={_digest(content)},{len(content)}\n" for path, content, _ in files]
    rows.append(f"{name}.dist-info/RECORD,,\n")
    files.append((f"{name}.dist-info/RECORD", "".join(rows).encode(), 0o644))
    written = f"{name}-py3-none-{'.'.join(each.split('-')[2] for each in tags)}.whl"
    os.makedirs(directory, exist_ok=True)
    with zipfile.ZipFile(f"{directory}/{written}", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content, mode in files:
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return written


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def sdist(directory: str) -> str:
    """Write the archive of the sources that git knows; of a copy without git, of all; its name."""
    name = "dolium-{version}".format(**project())
    files = {path: (read(f"{shipped.TOP}/{path}"), os.stat(f"{shipped.TOP}/{path}").st_mode & 0o111) for path in sources()}
    files["PKG-INFO"] = (metadata().encode(), 0)
    os.makedirs(directory, exist_ok=True)
    with gzip.GzipFile(f"{directory}/{name}.tar.gz", "wb", mtime=MOMENT) as file, tarfile.open(None, "w", file) as archive:
        for path, (content, executable) in sorted(files.items()):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mtime, entry.mode = len(content), MOMENT, 0o755 if executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return f"{name}.tar.gz"


def sources() -> "list[str]":
    """Paths below the clone."""
    listed = subprocess.run(["git", "-C", shipped.TOP, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode == 0:
        return [each for each in listed.stdout.split("\0") if os.path.isfile(f"{shipped.TOP}/{each}")]
    found = []
    for directory, inner, names in os.walk(shipped.TOP):
        inner[:] = [each for each in inner if each not in LEFT_OUT]
        found += [os.path.relpath(f"{directory}/{each}", shipped.TOP) for each in names]
    return found


def build_wheel(directory: str, settings: object = None, prepared: object = None) -> str:
    """What pip calls (PEP 517): compile the helpers here, with the compiler that there is."""
    if sys.platform != "linux":
        sys.exit(f"Dolium needs the Linux kernel, and this is {sys.platform}: install it inside a Linux virtual machine")
    subprocess.run(["sh", f"{shipped.TOP}/make/setup.sh", "helpers"], check=True)
    return wheel(directory, platform.machine())


def build_sdist(directory: str, settings: object = None) -> str:
    """What `python -m build` calls (PEP 517)."""
    return sdist(directory)


def main(kind: str, machine: str = "") -> None:
    place = f"{shipped.TOP}/dist"
    print("dist/" + (sdist(place) if kind == "sdist" else wheel(place, machine or platform.machine())))


if __name__ == "__main__":
    main(*sys.argv[1:])
