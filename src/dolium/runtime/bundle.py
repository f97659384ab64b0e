"""A bundle: the directory with config.json and, usually, the rootfs; files are read whole, and only if they are files."""

import os

from dolium.core import document
from dolium.errors import SpecError
from dolium.plan import oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST = 16 << 20
"""Bytes of a config.json; real ones have some ten thousand."""


def load(directory: str, identity: str, config: str = "") -> "dict[str, Any]":
    """The config of a bundle, read strictly; `config` is a file in place of its own.  Raises SpecError."""
    if not os.path.isdir(directory):
        raise SpecError("bundle", f"there is no directory `{directory}`")
    spec = oci.read(document.read(text(config or f"{directory}/config.json", "config.json"), "config.json"), directory, identity)
    root = spec["root"]["path"]
    if not os.path.isdir(root):
        raise SpecError("root.path", f"there is no directory `{root}`")
    for index, each in enumerate(spec["linux"]["namespaces"]):
        if each["type"] == "user" and "path" in each and not spec["linux"]["uidMappings"]:
            _take_mappings(spec, each["path"], f"linux.namespaces[{index}].path")
    return spec


def _take_mappings(spec: "dict[str, Any]", path: str, why: str) -> None:
    """Of a user namespace that is joined: which ids it has is written beside it."""
    if not path.startswith("/proc/") or not path.endswith("/ns/user"):
        raise SpecError("linux.uidMappings", f"is required: what ids `{path}` has cannot be seen from its path")
    for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = text(path.removesuffix("ns/user") + name, why).splitlines()
        numbers = [[int(each) for each in line.split()] for line in lines]
        spec["linux"][key] = [{"containerID": first, "hostID": host, "size": size} for first, host, size in numbers]


def text(path: str, why: str = "") -> str:
    """The text of a file of moderate size.  Raises SpecError."""
    why = why or os.path.basename(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpecError(why, f"`{path}`: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise SpecError(why, f"`{path}` is not a file")
        if status.st_size > LARGEST:
            raise SpecError(why, f"`{path}` has {status.st_size} bytes, more than {LARGEST}")
        data = b""
        while (chunk := os.read(fd, 1 << 20)) and len(data) <= LARGEST:
            data += chunk
    finally:
        os.close(fd)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SpecError(why, f"`{path}` is not text in UTF-8") from None
