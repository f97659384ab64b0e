"""What the OCI runtime implements (runtime-spec, features.md): read off the tables that implement it.  Pure."""

from dolium.plan import attributes, capabilities, oci, process, seccomp, unit_properties

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def features() -> "dict[str, Any]":
    """As `dolium-oci features` prints it."""
    options = {*attributes.SET, *attributes.CLEAR, *attributes.TIMES}
    recursive = {f"r{each}" for each in options}
    machines = [name for rows in seccomp._MACHINES.values() for name, *_ in rows]
    hooks: Any = oci.CONFIG["hooks"]  # type: ignore[index,call-overload]
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.3.0",
        "hooks": [*hooks],
        "mountOptions": sorted(
            {*options, *recursive, *attributes.PROPAGATION, *(f"r{each}" for each in attributes.PROPAGATION), *attributes.NOTHING,
             *attributes.OF_SUPERBLOCK, "idmap", "ridmap", "tmpcopyup"}
        ),
        "linux": {
            "namespaces": [*oci.NAMESPACES],
            "capabilities": [*capabilities.NUMBERS],
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": [*seccomp.ACTIONS],
                "operators": [*seccomp.OPERATORS],
                "archs": machines,
                "knownFlags": [*seccomp.FLAGS],
                "supportedFlags": [*seccomp.FLAGS],
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": [*process.MEMORY], "flags": [*process.MEMORY_FLAGS]},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {"org.opencontainers.runc.checkpoint.enabled": "true"},  # by criu, where that is installed
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", unit_properties.ANNOTATION],
    }  # fmt: skip
