"""An OCI config as engines write it (runtime-spec 1.3), read strictly: what it says in a form that the planner's chapters
take without looking again, or a SpecError that names the field.  Fields that the specification has not are ignored."""

from dolium.core.wire import encoded
from dolium.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from dolium.plan.facts import Facts

    Read = Callable[[object, str], object]
    Schema = Read | dict[str, "Schema"] | list["Schema"] | tuple["Schema"]

INT64, UINT64, UINT32, UINT16 = (-(1 << 63), (1 << 63) - 1), (0, (1 << 64) - 1), (0, (1 << 32) - 1), (0, (1 << 16) - 1)
NAMESPACES = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
LINKS = ("/dev/ptmx", "/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/core")
"""Places that are links in every container; a node of that name is passed over, as runc and crun have it."""
PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")


def refuse(path: str, wanted: str, value: object) -> "NoReturn":
    """Raises SpecError: what was expected there, and what came instead."""
    shown = repr(value)
    if isinstance(value, bool) or value is None:
        shown = "null" if value is None else "true" if value else "false"
    elif isinstance(value, str):
        shown = f'"{value.encode("unicode_escape").decode()}"'
    elif isinstance(value, (dict, list)):
        shown = "an object" if isinstance(value, dict) else "an array"
    raise SpecError(path, f"expected {wanted}, got {shown[:80]}")


def words(value: object, path: str) -> str:
    """A string."""
    if not isinstance(value, str):
        refuse(path, "a string", value)
    return value


def text(value: object, path: str) -> str:
    """A string that Linux can be given."""
    if not isinstance(value, str):
        refuse(path, "a string", value)
    if "\0" in value or not value.isascii():
        encoded(value, path)
    return value


def absolute(value: object, path: str) -> str:
    """A string that is an absolute path."""
    if not isinstance(value, str) or value[:1] != "/":
        refuse(path, "an absolute path", value)
    return text(value, path)


def boolean(value: object, path: str) -> bool:
    """true or false"""
    if not isinstance(value, bool):
        refuse(path, "true or false", value)
    return value


def integer(low: int, high: int) -> "Read":
    """A reader of integers within these bounds."""

    def read(value: object, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            refuse(path, "an integer", value)
        if not low <= value <= high:
            refuse(path, f"an integer from {low} to {high}", value)
        return value

    return read


def word(*words: str) -> "Read":
    """A reader of one of these."""

    def read(value: object, path: str) -> str:
        if value not in words or not isinstance(value, str):
            refuse(path, "one of " + ", ".join(filter(None, words)), value)
        return value

    return read


def version(value: object, path: str) -> str:
    """A version of the specification whose configs are read: any of 1.x, whatever it adds (SemVer 2.0)."""
    parts = value.partition("+")[0].partition("-")[0].split(".") if isinstance(value, str) else []
    if len(parts) not in (2, 3) or not all(each.isascii() and each.isdecimal() for each in parts) or parts[0] != "1":
        refuse(path, "a version such as 1.2.0", value)
    return str(value)


def hostname(value: object, path: str) -> str:
    """A name that uname(2) has room for."""
    if len(text(value, path).encode("utf-8", "surrogateescape")) > 64:
        refuse(path, "at most 64 bytes", value)
    return str(value)


def anything(value: object, path: str) -> object:
    """What its own chapter reads."""
    if not isinstance(value, dict):
        refuse(path, "an object", value)
    return value


i64, u64, u32, u16, i32 = integer(*INT64), integer(*UINT64), integer(*UINT32), integer(*UINT16), integer(-(1 << 31), (1 << 31) - 1)
ID = integer(0, (1 << 32) - 2)
"""A user or group; the largest number of 32 bits means none, credentials(7)."""
MAPPINGS: "Schema" = [{"containerID!": ID, "hostID!": ID, "size!": integer(1, (1 << 32) - 1)}]
HOOKS: "Schema" = [{"path!": absolute, "args": [text], "env": [text], "timeout": integer(1, 1 << 31)}]
NUMBER_OF_DEVICE: "dict[str, Schema]" = {"major!": i64, "minor!": i64}
RATES: "Schema" = [{**NUMBER_OF_DEVICE, "rate!": u64}]

RESOURCES: "Schema" = {
    "devices": [{"allow!": boolean, "type": word("a", "b", "c", ""), "major": i64, "minor": i64, "access": text}],
    "memory": {"limit": i64, "reservation": i64, "swap": i64, "kernel": i64, "kernelTCP": i64, "swappiness": integer(0, 100),
               "disableOOMKiller": boolean, "useHierarchy": boolean, "checkBeforeUpdate": boolean},
    "cpu": {"shares": u64, "quota": i64, "burst": u64, "period": u64, "realtimeRuntime": i64, "realtimePeriod": u64,
            "cpus": text, "mems": text, "idle": i64},
    "pids": {"limit": i64},
    "blockIO": {"weight": u16, "leafWeight": u16,
                "weightDevice": [{**NUMBER_OF_DEVICE, "weight": u16, "leafWeight": u16}],
                "throttleReadBpsDevice": RATES, "throttleWriteBpsDevice": RATES, "throttleReadIOPSDevice": RATES,
                "throttleWriteIOPSDevice": RATES},
    "hugepageLimits": [{"pageSize!": text, "limit!": u64}],
    "network": {"classID": u32, "priorities": [{"name!": text, "priority!": u32}]},
    "rdma": ({"hcaHandles": u32, "hcaObjects": u32},),
    "unified": (text,),
}  # fmt: skip
"""linux.resources; of a tuple of one the keys are free."""

PROCESS: "Schema" = {
    "terminal": boolean,
    "consoleSize": {"height!": u16, "width!": u16},
    "user": {"uid": ID, "gid": ID, "umask": integer(0, 0o7777), "additionalGids": [ID]},
    "args": [text],
    "env": [text],
    "cwd!": absolute,
    "capabilities": {each: [text] for each in ("bounding", "effective", "inheritable", "permitted", "ambient")},
    "rlimits": [{"type!": text, "hard!": u64, "soft!": u64}],
    "noNewPrivileges": boolean,
    "apparmorProfile": text,
    "selinuxLabel": text,
    "oomScoreAdj": integer(-1000, 1000),
    "scheduler": {"policy!": text, "nice": integer(-20, 19), "priority": i32, "flags": [text], "runtime": u64, "deadline": u64,
                  "period": u64},
    "ioPriority": {"class!": text, "priority": integer(0, 7)},
    "execCPUAffinity": {"initial": text, "final": text},
}  # fmt: skip

CONFIG: "Schema" = {
    "ociVersion!": version,
    "hostname": hostname,
    "domainname": hostname,
    "annotations": (words,),
    "root!": {"path!": text, "readonly": boolean},
    "mounts": [{"destination!": text, "type": text, "source": text, "options": [text], "uidMappings": MAPPINGS,
                "gidMappings": MAPPINGS}],
    "process!": PROCESS,
    "hooks": {each: HOOKS for each in ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")},
    "linux": {
        "namespaces": [{"type!": word(*NAMESPACES), "path": absolute}],
        "uidMappings": MAPPINGS,
        "gidMappings": MAPPINGS,
        "timeOffsets": ({"secs": i64, "nanosecs": u32},),
        "devices": [{"path!": absolute, "type!": word("c", "b", "u", "p"), "major": i64, "minor": i64,
                     "fileMode": integer(0, 0o177777), "uid": ID, "gid": ID}],
        "netDevices": ({"name": text},),
        "cgroupsPath": text,
        "resources": RESOURCES,
        "intelRdt": anything,
        "memoryPolicy": {"mode!": text, "nodes": text, "flags": [text]},
        "sysctl": (text,),
        "seccomp": anything,
        "rootfsPropagation": word("", *PROPAGATIONS),
        "maskedPaths": [absolute],
        "readonlyPaths": [absolute],
        "mountLabel": text,
        "personality": {"domain!": word("LINUX", "LINUX32"), "flags": [text]},
    },
}  # fmt: skip
"""A key that ends in `!` is required; a list of one schema is an array of it."""


def check(value: object, schema: "Any", path: str) -> "Any":
    """The value with what the schema knows of it, and nothing else.  JSON's null is absence, as Go writes it.  Raises SpecError."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            refuse(path, "an object", value)
        found = {}
        for key, inner in schema.items():
            name = key.removesuffix("!")
            given = value.get(name)
            where = f"{path}.{name}" if path else name
            if given is not None:
                found[name] = check(given, inner, where)
            elif key is not name and key != name:
                raise SpecError(where, "is required")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list):
            refuse(path, "an array", value)
        return [check(each, schema[0], f"{path}[{index}]") for index, each in enumerate(value)]
    if isinstance(schema, tuple):
        if not isinstance(value, dict):
            refuse(path, "an object", value)
        return {key: check(each, schema[0], f"{path}.{key}") for key, each in value.items() if each is not None}
    return schema(value, path)


def read(config: object, bundle: str = "/", identity: str = "container") -> "dict[str, Any]":
    """The config of an engine, complete: with every optional part, paths of the host absolute, and Dolium's own part.

    `bundle` is the directory that relative paths of the host start from.  Raises SpecError.
    """
    spec: dict[str, Any] = check(config, CONFIG, "")
    linux = spec.setdefault("linux", {})
    asked = set(_asked(spec))
    for key in ("namespaces", "devices", "uidMappings", "gidMappings", "maskedPaths", "readonlyPaths"):
        linux.setdefault(key, [])
    linux.setdefault("resources", {})
    linux.setdefault("sysctl", {})
    linux["cgroupsPath"] = _group(linux.get("cgroupsPath") or f"/dolium/{identity}")
    spec.setdefault("mounts", [])
    spec.setdefault("annotations", {})
    spec.setdefault("hooks", {})
    _complete_process(spec["process"])
    if not spec["root"]["path"]:
        raise SpecError("root.path", "is empty")
    spec["root"]["path"] = _below(bundle, spec["root"]["path"])
    for index, mount in enumerate(spec["mounts"]):
        _complete_mount(mount, f"mounts[{index}]", bundle)
    _check_namespaces(spec)
    linux["devices"] = [each for each in linux["devices"] if each["path"] not in LINKS]  # podman --privileged names all of /dev
    for index, device in enumerate(linux["devices"]):
        device["path"] = _plain(device["path"], f"linux.devices[{index}].path")
        device.setdefault("fileMode", 0o666)
        if device["type"] != "p" and not ("major" in device and "minor" in device):
            raise SpecError(f"linux.devices[{index}].{'minor' if 'major' in device else 'major'}", "is required")
    spec["dolium"] = {
        "root": {"kind": "plain", "size": 0, "store": ""}, "directories": [], "links": [], "files": [], "bound": [],
        "network": None, "notes": [], "init": False, "watch": {}, "asked": asked,
        "bundle": bundle, "keep": False, "preserve": 0, "pivot": True, "keyring": True, "groups": True,
    }  # fmt: skip
    return spec


def _asked(spec: "dict[str, Any]") -> "list[str]":
    """What the config says anything of, by the names that steps give as their reason."""
    found = [key for key in spec if key not in ("ociVersion", "mounts", "process", "linux", "root")] + ["root.path"]
    found += ["root.readonly"] if spec["root"].get("readonly") else []
    for top in ("process", "linux"):
        found += [f"{top}.{key}" for key in spec[top]]
        for key, value in spec[top].items():
            if isinstance(value, list):
                found += [f"{top}.{key}[{index}]" for index in range(len(value))]
            elif isinstance(value, dict):
                found += [f"{top}.{key}.{inner}" for inner in value]
    for key, value in spec["linux"].get("resources", {}).items():
        if isinstance(value, dict):
            found += [f"{key}.{inner}" for inner in value]
    return found + [f"mounts[{index}]" for index in range(len(spec.get("mounts", ())))]


def _below(directory: str, path: str) -> str:
    return path if path[:1] == "/" else f"{directory.rstrip('/')}/{path}"


def _plain(path: str, why: str) -> str:
    """A path of the container, without what says nothing in it.  Raises SpecError."""
    parts = [each for each in path.split("/") if each not in ("", ".")]
    if ".." in parts:
        raise SpecError(why, "leads upwards (`..`)")
    return "/" + "/".join(parts)


def _group(path: str) -> str:
    """linux.cgroupsPath, absolute; one that is relative has its place below our own groups."""
    parts = [each for each in path.split("/") if each not in ("", ".")]
    if ".." in parts:
        raise SpecError("linux.cgroupsPath", "leads upwards (`..`)")
    if not parts:
        raise SpecError("linux.cgroupsPath", "is the root of all groups, which cannot be a container's")
    return "/" + "/".join(parts if path[:1] == "/" else ["dolium", *parts])


def _complete_process(process: "dict[str, Any]") -> None:
    if not process.get("args"):
        raise SpecError("process.args", "is required: at least the name of a program")
    process.setdefault("env", [])
    process.setdefault("rlimits", [])
    user = process.setdefault("user", {})
    for key in ("uid", "gid"):
        user.setdefault(key, 0)
    user.setdefault("additionalGids", [])
    held = process.setdefault("capabilities", {})
    for key in ("bounding", "effective", "inheritable", "permitted", "ambient"):
        held.setdefault(key, [])
    process.setdefault("noNewPrivileges", False)
    if "consoleSize" in process and not process.get("terminal"):
        del process["consoleSize"]
    seen = set()
    for index, each in enumerate(process["rlimits"]):
        if each["type"] in seen:
            raise SpecError(f"process.rlimits[{index}].type", f"{each['type']} is there twice")
        seen.add(each["type"])


def complete_process(process: object, path: str = "process") -> "dict[str, Any]":
    """A `process` object by itself, as `exec --process` is given.  Raises SpecError."""
    found: dict[str, Any] = check(process, PROCESS, path)
    _complete_process(found)
    return found


def _complete_mount(mount: "dict[str, Any]", why: str, bundle: str) -> None:
    options = mount.setdefault("options", [])
    destination = mount["destination"]
    if not destination:
        raise SpecError(f"{why}.destination", "is empty")
    mount["destination"] = _plain(destination, f"{why}.destination")
    mount["recursive"] = "rbind" in options
    if "remount" in options:
        mount["type"] = "remount"
    elif "bind" in options or "rbind" in options:
        mount["type"] = "bind"
    if mount.get("type") == "bind":
        if not mount.get("source"):
            raise SpecError(f"{why}.source", "is required of a bind mount")
        if "bind" not in options and "rbind" not in options:
            raise SpecError(f"{why}.options", "of type `bind`, it needs `bind` or `rbind`")
        mount["source"] = _below(bundle, mount["source"])
    elif not mount.get("type"):
        raise SpecError(f"{why}.type", "is required of what is no bind mount")
    mount.setdefault("source", mount["type"])


def _check_namespaces(spec: "dict[str, Any]") -> None:
    linux = spec["linux"]
    types: dict[str, int] = {}
    for index, each in enumerate(linux["namespaces"]):
        if each["type"] in types:
            raise SpecError(f"linux.namespaces[{index}].type", f"`{each['type']}` is there twice")
        types[each["type"]] = index
    if "user" not in types:
        for key in ("uidMappings", "gidMappings"):
            if linux[key]:
                raise SpecError(f"linux.{key}", "needs a user namespace among linux.namespaces")
    elif "path" not in linux["namespaces"][types["user"]] and not (linux["uidMappings"] and linux["gidMappings"]):
        raise SpecError("linux.uidMappings" if not linux["uidMappings"] else "linux.gidMappings",
                        "is required of a user namespace of its own")  # fmt: skip
    for key in ("uidMappings", "gidMappings"):
        if linux[key] and not any(each["containerID"] == 0 for each in linux[key]):
            raise SpecError(f"linux.{key}", "has no root (containerID 0), who makes the container")
    for key, kind in (("hostname", "uts"), ("domainname", "uts"), ("timeOffsets", "time")):
        holder = linux if key == "timeOffsets" else spec
        if holder.get(key) and kind not in types:
            raise SpecError(f"linux.{key}" if holder is linux else key, f"needs a {kind} namespace of its own")
    for key in linux.get("timeOffsets", {}):
        if key not in ("monotonic", "boottime"):
            raise SpecError(f"linux.timeOffsets.{key}", "is no clock that a time namespace can set back: monotonic, boottime")
    if "mount" not in types:
        raise SpecError("linux.namespaces", "has no `mount`: a rootfs without a mount namespace would change the host's mounts")
    if linux.get("intelRdt") is not None:
        raise Unsupported("linux.intelRdt", "Intel's resource director is not set by Dolium",
                          hint="leave it out; a createRuntime hook can write the pid into /sys/fs/resctrl/GROUP/tasks")  # fmt: skip


def host_id(spec: "dict[str, Any]") -> int:
    """Which uid of the host is the container's root."""
    return next((each["hostID"] - each["containerID"] for each in spec["linux"]["uidMappings"] if each["containerID"] == 0), 0)


def with_users(spec: "dict[str, Any]", facts: "Facts") -> "Facts":
    """The facts, with what the config says of the container's users.

    Root of a user namespace (rootless podman's, another container's) needs no other one.  Who is no root at all needs one, and
    is in it from the start, so ids are as seen from within.  Raises SpecError and Unsupported."""
    users = [each for each in spec["linux"]["namespaces"] if each["type"] == "user"]
    if not users and not facts.rootless:
        return facts
    found = facts.with_ids(host_id(spec) if users and facts.is_root else 0)
    found.has_users = bool(users)
    found.makes_users = not facts.is_root
    ids = sum(each["size"] for key in ("uidMappings", "gidMappings") for each in spec["linux"][key])
    found.one_id = found.makes_users and ids == 2
    if found.makes_users and not users:
        raise SpecError("linux.namespaces", "has no `user`: who is not root can make a container only with one")
    if found.makes_users and "path" in users[0]:
        raise Unsupported("linux.namespaces", "who is not root cannot join the user namespace of another container")
    return found
