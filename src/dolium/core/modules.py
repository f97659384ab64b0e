"""The modules of this package, compiled, in one file that the build writes: to look for fifty files one after the other takes
longer than to run what is in them.

`programs/modules` is the number that marks a Python's bytecode, as in a .pyc; in four bytes the length of what comes next; the
code of this module with the index, {name: (is a package, mtime in ns and size of its source, where its code is, how long)}; and
the code of each module, marshalled, behind the build's stamp.  Only what is imported is read, for memory that was never touched
costs more than a system call (docs/decisions/0033).  `bin/dolium` runs `install`; a module whose source is newer, and all of
them under another Python, are imported in the usual way.
"""

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import O_CLOEXEC, O_RDONLY, close, open, pread, stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    Index = dict[str, tuple[bool, int, int, int, int]]


class Finder:
    """An importer of saved modules, in the protocol of sys.meta_path."""

    def __init__(self, source: str, stamp: bytes, index: "Index") -> None:
        self.source = source
        self.stamp = stamp
        self.index = index

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """The spec of a saved module; None leaves it to the importers after this one."""
        found = self.index.get(name)
        if found is None:
            return None
        is_package, changed, size, start, length = found
        directory = f"{self.source}/{name.replace('.', '/')}"
        origin = f"{directory}/__init__.py" if is_package else f"{directory}.py"
        try:
            status = stat(origin)
            if status.st_mtime_ns != changed or status.st_size != size:
                return None
            code = self._read(start, length)
        except OSError:
            return None
        if not code.startswith(self.stamp):  # the build has replaced the file since its index was read
            return None
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
        spec.loader_state = code
        if is_package:
            spec.submodule_search_locations = [directory]
        return spec

    def _read(self, start: int, length: int) -> bytes:
        """From the file opened anew: a descriptor that stayed open could be mistaken for one of the caller's."""
        fd = open(f"{self.source}/dolium/programs/modules", O_RDONLY | O_CLOEXEC)
        try:
            return pread(fd, length, start)
        finally:
            close(fd)

    def create_module(self, spec: "ModuleSpec") -> None:
        """None: a module as any other."""
        return None

    def exec_module(self, module: "ModuleType") -> None:
        """Run the saved code in the module."""
        spec = module.__spec__
        assert spec
        module.__file__ = spec.origin
        code, spec.loader_state = spec.loader_state, None
        exec(loads(memoryview(code)[len(self.stamp) :]), module.__dict__)


def install(source: str, stamp: bytes, index: "Index") -> None:
    """Import the modules of the package below `source` from the file from now on; and `os`, before any of them does."""
    sys.meta_path.insert(0, Finder(source, stamp, index))
    import dolium.core.quick_os  # noqa: F401
