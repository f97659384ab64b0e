"""Places for mounts in a rootfs, where nobody has made them yet: what dolium-init does when it mounts, done before criu does it."""

import os

from dolium.core import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make(spec: "dict[str, Any]") -> None:
    """Directories, and files where a file is bound.  What lies below another mount comes with that.  Raises OSError."""
    root = os.open(spec["root"]["path"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        places: list[str] = []
        for mount in spec["mounts"]:
            path = mount["destination"].rstrip("/")
            if path and not any(path.startswith(f"{above}/") for above in places):
                _make(root, path, mount["type"] == "bind" and not os.path.isdir(mount["source"]))
            places.append(path)
    finally:
        os.close(root)


def _make(root: int, path: str, is_file: bool) -> None:
    names = [each for each in path.split("/") if each]
    for depth in range(len(names)):
        above = sys.open_in_root(root, os.fsencode("/".join(names[:depth])) or b".", os.O_PATH | os.O_DIRECTORY)
        try:
            if is_file and depth == len(names) - 1:
                os.close(os.open(names[depth], os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=above))
            else:
                os.mkdir(names[depth], 0o755, dir_fd=above)
        except FileExistsError:
            pass
        finally:
            os.close(above)
