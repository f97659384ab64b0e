"""What the build prepares so that a start need not: programs/modules and programs/filters.

    prepare.py              in this clone
    prepare.py DIR FINAL    in the package below DIR, which will lie below FINAL when it is used
"""

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from hashlib import sha256
from types import CodeType

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


def compiled(path: str, final: str) -> CodeType:
    """The code of a source that says of itself that it is at `final`."""
    with open(path, "rb") as file:
        return compile(file.read(), final, "exec", dont_inherit=True, optimize=2)


def sources(source: str) -> "dict[str, str]":
    """Every module of the package by name."""
    found = {}
    for directory, _, names in os.walk(f"{source}/dolium"):
        package = os.path.relpath(directory, source).replace("/", ".")
        for each in names:
            if each.endswith(".py"):
                found[package if each == "__init__.py" else f"{package}.{each[:-3]}"] = f"{directory}/{each}"
    return dict(sorted(found.items()))


def modules(source: str, final: str) -> bytes:
    """programs/modules, as core/modules.py has it."""
    found = [(name, path, marshal.dumps(compiled(path, final + path.removeprefix(source))))
             for name, path in sources(source).items()]  # fmt: skip
    stamp = sha256(b"".join(code for _, _, code in found)).digest()[:8]
    installer = compiled(f"{source}/dolium/core/modules.py", f"{final}/dolium/core/modules.py")

    def head(start: int) -> bytes:
        index = {}
        for name, path, code in found:
            status = os.stat(path)
            index[name] = (path.endswith("/__init__.py"), status.st_mtime_ns, status.st_size, start, len(stamp + code))
            start += len(stamp + code)
        return marshal.dumps((installer, stamp, index))

    length = len(head(0))  # where a module begins takes four bytes, wherever that is
    start = len(MAGIC_NUMBER) + 4 + length
    # The number stands before all else and alone: another Python could not even read what follows.
    return b"".join([MAGIC_NUMBER, length.to_bytes(4, "little"), head(start), *(stamp + code for _, _, code in found)])


def filters() -> bytes:
    """programs/filters: what `runtime.host` finds of the default profile, compiled."""
    from dolium.plan import capabilities, filter, seccomp
    from dolium.plan.seccomp_default import default_profile

    sets = (frozenset(capabilities.DEFAULT), frozenset(capabilities.DEFAULT) - {"CAP_MKNOD"})
    profiles = [default_profile(held) for held in sets]
    return marshal.dumps({filter.key(each, "x86_64"): seccomp.compile(each) for each in profiles}, 4)  # of all Pythons that we know


def write(path: str, data: bytes) -> None:
    """By rename, so that a start at this moment reads the old or the new one."""
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)


def main(source: str = SOURCE, final: str = SOURCE) -> None:
    sys.path.insert(0, source)
    write(f"{source}/dolium/programs/modules", modules(source, final))
    write(f"{source}/dolium/programs/filters", filters())


if __name__ == "__main__":
    main(*sys.argv[1:])
