"""A bundle: the directory with config.json and, usually, the rootfs; what is there is read whole, and only if it is a file."""

import os

from dolium.core import document
from dolium.errors import SpecError
from dolium.plan import oci
from dolium.runtime import host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts


def load(directory: str, identity: str, config: str = "", systemd: bool = False) -> "dict[str, Any]":
    """The config of a bundle, read strictly; `config` is a file in place of its own; `systemd`: it is to make the groups.
    Raises SpecError, and Unsupported."""
    if not os.path.isdir(directory):
        raise SpecError("bundle", f"there is no directory `{directory}`")
    given = document.read(document.text(config or f"{directory}/config.json", "config.json"), "config.json")
    spec = oci.read(given, directory, identity)
    group = (given.get("linux") or {}).get("cgroupsPath") or ""
    if systemd:
        from dolium.runtime import units

        units.settle(spec, group, identity)
    elif not group and host.facts().rootless:
        from dolium.runtime import rootless

        rootless.place(spec, host.facts(), identity)
    root = spec["root"]["path"]
    if not os.path.isdir(root):
        raise SpecError("root.path", f"there is no directory `{root}`")
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if not _is_ours(each)]
    for index, each in enumerate(spec["linux"]["namespaces"]):
        if each["type"] == "user" and "path" in each:
            _take_mappings(spec["linux"], each["path"], f"linux.namespaces[{index}].path")
    return spec


def _is_ours(namespace: "dict[str, Any]") -> bool:
    """Whether it names one that we are in, as Docker has it for `--network host`: nothing is to join, and a sysctl of it is the
    host's."""
    kind = {"network": "net", "ipc": "ipc", "uts": "uts"}.get(namespace["type"])
    if kind is None or "path" not in namespace:
        return False
    try:
        return os.path.samefile(namespace["path"], f"/proc/self/ns/{kind}")
    except OSError:
        return False  # who opens it says why it cannot be opened


def explained(spec: "dict[str, Any]") -> "list[str]":
    """Of a bundle that nobody has given words for: a group that is named as a unit is taken for one; what is to be said of that."""
    given = spec["linux"]["cgroupsPath"].removeprefix("/dolium/")
    if given.count(":") != 2 or "/" in given:
        return []
    from dolium.plan import systemd

    systemd.settle(spec, systemd.unit(given), "explained")
    return [f"with --systemd-cgroup, which {given} is a name for"]


def _take_mappings(linux: "dict[str, Any]", path: str, why: str) -> None:
    """Of a user namespace that is joined: which ids it has is written beside it, and what the config says of them is the same."""
    if not path.startswith("/proc/") or not path.endswith("/ns/user"):
        if not linux["uidMappings"]:
            raise SpecError("linux.uidMappings", f"is required: what ids `{path}` has cannot be seen from its path")
        return
    for key, name in (("uidMappings", "uid_map"), ("gidMappings", "gid_map")):
        lines = document.text(path.removesuffix("ns/user") + name, why).splitlines()
        numbers = [[int(each) for each in line.split()] for line in lines]
        found = [{"containerID": first, "hostID": host, "size": size} for first, host, size in numbers]
        if linux[key] and sorted(map(_numbers, linux[key])) != sorted(map(_numbers, found)):
            raise SpecError(f"linux.{key}", f"says something else than {name} of the user namespace that is joined")
        linux[key] = found


def _numbers(mapping: "dict[str, int]") -> "tuple[int, int, int]":
    return mapping["containerID"], mapping["hostID"], mapping["size"]


def facts(spec: "dict[str, Any]") -> "Facts":
    """The facts of this host with the container's users."""
    return oci.with_users(spec, of_groups(spec, host.facts()))


def of_groups(spec: "dict[str, Any]", facts: "Facts") -> "Facts":
    """The facts, without cgroup hierarchies that this user may not make the container's groups in."""
    if not facts.rootless:
        return facts
    from dolium.runtime import rootless

    return rootless.of_groups(spec, facts)
