"""The modules that a command line needs, in one file that the build writes: to look for forty files one after the other
takes longer than to run what is in them.

`programs/modules` holds the number that marks a Python's bytecode, as a .pyc does, and (the code of this module,
{name: (is a package, path, mtime in ns, size, code)}), each code marshalled by itself, for a command runs only some of them.
`bin/dolium` runs `install` out of it; where a source is newer, or Python another one, imports go their usual way.
"""

import sys
from _frozen_importlib import ModuleSpec
from marshal import loads
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    Saved = dict[str, tuple[bool, str, int, int, bytes]]


class Finder:
    """An importer of saved modules, in the protocol of sys.meta_path."""

    def __init__(self, saved: "Saved") -> None:
        self.saved = saved

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """The spec of a saved module; None leaves it to the importers after this one."""
        found = self.saved.get(name)
        if found is None:
            return None
        spec = ModuleSpec(name, self, origin=found[1], is_package=found[0])  # type: ignore[arg-type]
        if found[0]:
            spec.submodule_search_locations = [found[1].rpartition("/")[0]]
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """None: a module as any other."""
        return None

    def exec_module(self, module: "ModuleType") -> None:
        """Run the saved code in the module."""
        _, path, _, _, code = self.saved[module.__name__]
        module.__file__ = path
        exec(loads(code), module.__dict__)


def install(saved: "Saved") -> bool:
    """Import from `saved` from now on, unless one of the sources has changed since; whether it does."""
    try:
        for _, path, changed, size, _ in saved.values():
            status = stat(path)
            if status.st_mtime_ns != changed or status.st_size != size:
                return False
    except OSError:
        return False
    sys.meta_path.insert(0, Finder(saved))
    return True
