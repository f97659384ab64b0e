"""What the build prepares so that a start need not: src/dolium/programs/modules and src/dolium/programs/filters."""

import marshal
import os
import sys
from importlib import import_module

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
PROGRAMS = f"{SOURCE}/dolium/programs"


def modules() -> "dict[str, object]":
    """Every module of ours that a start of `dolium run` has loaded by now, compiled."""
    saved: "dict[str, object]" = {}
    for name in sorted(each for each in sys.modules if each.partition(".")[0] == "dolium"):
        path = sys.modules[name].__file__ or ""
        status = os.stat(path)
        with open(path, "rb") as file:
            code = compile(file.read(), path, "exec", dont_inherit=True, optimize=2)
        saved[name] = (path.endswith("__init__.py"), path, status.st_mtime_ns, status.st_size, code)
    return saved


def write(name: str, data: bytes) -> None:
    """By rename, so that a start at this moment reads the old or the new one."""
    with open(f"{PROGRAMS}/{name}.new", "wb") as file:
        file.write(data)
    os.rename(f"{PROGRAMS}/{name}.new", f"{PROGRAMS}/{name}")


def main() -> None:
    sys.path.insert(0, SOURCE)
    later = ("dolium.engine.names", "dolium.plan.seccomp_default")
    for name in ("dolium.cli.main", "dolium.cli.run", *later):
        import_module(name)  # and all that they import at once
    saved = modules()
    from dolium.core import modules as loader
    from dolium.plan import capabilities, filter, seccomp
    from dolium.plan.seccomp_default import default_profile

    with open(loader.__file__, "rb") as file:
        code = compile(file.read(), loader.__file__, "exec", dont_inherit=True, optimize=2)
    # The version stands before it and alone: another Python could not even read what follows.
    write("modules", sys.version.encode() + b"\0" + marshal.dumps((code, saved)))
    sets = (frozenset(capabilities.DEFAULT), frozenset(capabilities.DEFAULT) - {"CAP_MKNOD"})
    profiles = [default_profile(held) for held in sets]
    write("filters", marshal.dumps({filter.key(each, "x86_64"): seccomp.compile(each) for each in profiles}))


if __name__ == "__main__":
    main()
