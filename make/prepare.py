"""What the build prepares so that a start need not: programs/modules, programs/modules-oci and programs/filters.

    prepare.py              in this clone
    prepare.py DIR FINAL    in the package below DIR, which will lie below FINAL when it is used
"""

import marshal
import os
import sys
from _frozen_importlib_external import MAGIC_NUMBER
from importlib import import_module
from types import CodeType

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


def compiled(path: str, final: str) -> CodeType:
    """The code of a source that says of itself that it is at `final`."""
    with open(path, "rb") as file:
        return compile(file.read(), final, "exec", dont_inherit=True, optimize=2)


def modules(source: str, final: str) -> "dict[str, object]":
    """Every module of ours that a start of `dolium run` has loaded by now, compiled."""
    saved: "dict[str, object]" = {}
    for name in sorted(each for each in sys.modules if each.partition(".")[0] == "dolium"):
        path = sys.modules[name].__file__ or ""
        there = final + path.removeprefix(source)
        status = os.stat(path)
        code = marshal.dumps(compiled(path, there))
        saved[name] = (path.endswith("__init__.py"), there, status.st_mtime_ns, status.st_size, code)
    return saved


def write(path: str, data: bytes) -> None:
    """By rename, so that a start at this moment reads the old or the new one."""
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.rename(f"{path}.new", path)


DOLIUM = ("dolium.cli.main", "dolium.cli.run", "dolium.cli.exec", "dolium.cli.start", "dolium.cli.ps", "dolium.core.document",
          "dolium.engine.names", "dolium.engine.networks", "dolium.plan.seccomp_default")
OCI = ("dolium.cli.oci", "dolium.cli.oci_life", "dolium.runtime.lifecycle", "dolium.runtime.exec",
       "dolium.plan.bundle", "dolium.plan.oci", "dolium.plan.process",
       "dolium.plan.resources", "dolium.plan.seccomp")  # fmt: skip
"""What either command loads at once, or later on its way."""


def save(names: "tuple[str, ...]", source: str, final: str, file: str) -> None:
    """Those modules, and all that they import at once, into a file."""
    for name in names:
        import_module(name)
    saved = modules(source, final)
    code = compiled(f"{source}/dolium/core/modules.py", f"{final}/dolium/core/modules.py")
    # The number stands before it and alone: another Python could not even read what follows.
    write(f"{source}/dolium/programs/{file}", MAGIC_NUMBER + marshal.dumps((code, saved)))


def main(source: str = SOURCE, final: str = SOURCE) -> None:
    sys.path.insert(0, source)
    other = os.fork()  # what one of the commands loads is not for the other
    if not other:
        save(OCI, source, final, "modules-oci")
        os._exit(0)
    save(DOLIUM, source, final, "modules")
    if os.waitpid(other, 0)[1]:
        sys.exit("prepare.py: the modules of dolium-oci could not be saved")
    from dolium.plan import capabilities, filter, seccomp
    from dolium.plan.seccomp_default import default_profile

    sets = (frozenset(capabilities.DEFAULT), frozenset(capabilities.DEFAULT) - {"CAP_MKNOD"})
    profiles = [default_profile(held) for held in sets]
    filters = {filter.key(each, "x86_64"): seccomp.compile(each) for each in profiles}
    write(f"{source}/dolium/programs/filters", marshal.dumps(filters, 4))  # version 4: of all Pythons that we know


if __name__ == "__main__":
    main(*sys.argv[1:])
