"""Hosts and requests that exist nowhere: what the planner's tests plan for, from plain data such as JSON holds."""

from __future__ import annotations

from typing import Any

from dolium.core import wire
from dolium.engine import config
from dolium.engine.networks import Attachment
from dolium.engine.rootfs import DIRECTORIES, GROUP, PASSWD, Rootfs
from dolium.engine.users import User
from dolium.plan import build, capabilities, oci, systemd
from dolium.plan.facts import Facts, Hierarchy

NAME = "0123456789ab"
RANGE = 524288
ALL_CAPABILITIES = (1 << len(capabilities.NUMBERS)) - 1
CONTROLLERS = ("cpu", "cpuset", "devices", "memory", "pids")

HIERARCHIES: dict[str, dict[str, tuple[int, str]]] = {
    "v2": {each: (2, "/sys/fs/cgroup/dolium") for each in (*CONTROLLERS, "unified")},
    "hybrid": {**{each: (1, f"/sys/fs/cgroup/{each}/dolium") for each in CONTROLLERS},
               "unified": (2, "/sys/fs/cgroup/unified/dolium")},
    "v1": {each: (1, f"/sys/fs/cgroup/{each}/dolium") for each in CONTROLLERS},
    "counting": {"unified": (2, "/sys/fs/cgroup/dolium")},
    "none": {},
}
"""Kinds of host, by where their cgroup controllers are."""


def facts(cgroups: str = "v2", *, kernel: Any = (6, 18), **fields: Any) -> Facts:
    """The facts of a host of that kind; `fields` are those of Facts."""
    controllers = {name: Hierarchy(*where) for name, where in HIERARCHIES[cgroups].items()}
    if fields.get("rootless"):
        controllers.pop("devices", None)
    fields.setdefault("capabilities", ALL_CAPABILITIES)
    fields["hierarchies"] = {name: Hierarchy(*where) for name, where in fields.get("hierarchies", {}).items()}
    fields.setdefault("no_controllers", ("it is not there", "boot with it"))
    fields.setdefault("no_devices", ("there is none", "boot with it"))
    return Facts(kernel=tuple(kernel), controllers=controllers, cgroup2_mounted=cgroups in ("v2", "counting"), **fields)


def options(**fields: Any) -> config.Options:
    """What is asked for; `user` may be given as the fields of User."""
    found = config.Options()
    found.argv = ["sh", "-c", "exit 0"]
    if isinstance(fields.get("user"), dict):
        user = dict(fields["user"])
        user["groups"] = tuple(user.get("groups", ()))
        fields["user"] = User(**user)
    for name, value in fields.items():
        assert name in config.Options.__slots__, name
        setattr(found, name, value)
    for name in ("devices", "ulimits", "volumes"):
        setattr(found, name, [tuple(each) for each in getattr(found, name)])
    found.tmpfs = [(path, tuple(words)) for path, words in found.tmpfs]
    return found


def bundle(config: dict[str, Any]) -> dict[str, Any]:
    """The spec that an engine's config becomes; a group that is named as a unit is one of systemd's."""
    spec = oci.read(config, "/srv/bundle", NAME)
    group = config["linux"].get("cgroupsPath", "")
    if group.count(":") == 2:
        systemd.settle(spec, systemd.unit(group), NAME)
    return spec


def rootfs(name: str) -> Rootfs:
    """A directory's name, `image:N` of so many layers, or `@host` with a /usr that holds /bin and /lib."""
    if name.startswith("image:"):
        found = Rootfs(name, "overlay", "/srv/layers")
        found.layers, found.short = [f"sha256-{n:064x}/tree" for n in range(int(name[6:]))], f"stacks/{7:064x}.d"
        return found
    if name != "@host":
        return Rootfs(name, "overlay", name)
    found = Rootfs(name, "tmpfs", "")
    found.directories += DIRECTORIES
    for path in ("/usr", "/etc/ssl/certs", "/etc/ld.so.cache"):
        found.mounts.append({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro", "nosuid", "nodev"]})
    found.links += [("/bin", "usr/bin"), ("/lib", "usr/lib")]
    found.files += [("/etc/passwd", PASSWD), ("/etc/group", GROUP)]
    return found


CABLE = {"bridge": "dolium0", "index": 7, "gateway": "10.66.0.1", "prefix": 16, "mtu": 1500, "address": "10.66.1.2"}


def spec(host: Facts, asked: config.Options, image: str = "/srv/alpine") -> dict[str, Any]:
    """The OCI config that the engine would make of it."""
    attachment = None
    if asked.network == "bridge":
        attachment = Attachment(cable={**CABLE})
    elif asked.network.startswith("allow="):
        attachment = Attachment(cable={**CABLE}, policy=asked.network)
    elif asked.network not in ("", "none", "host"):
        attachment = Attachment(path="/run/netns/other")
    found = config.specification(NAME, asked, rootfs(image), host, attachment)
    files = dict(found["dolium"]["bound"])
    if asked.network not in ("", "none"):  # the one thing in it that is of the host the tests run on
        files["/etc/resolv.conf"] = "nameserver 192.0.2.1\n"
    found["dolium"]["bound"] = [*files.items()]
    return found


def plan(host: Facts | None = None, image: str = "/srv/alpine", **fields: Any) -> list[wire.Step]:
    """The plan for a request on a host, root with own users on cgroup v2 unless told otherwise."""
    host = host or facts(id_base=RANGE)
    return build.plan(spec(host, options(**fields), image), host)
