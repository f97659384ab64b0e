"""Where a config comes from."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def is_bundle(spec: "dict[str, Any]") -> bool:
    """Whether from an engine (plan/oci.py): its rootfs, groups and mounts are used as they are; else from engine/config.py."""
    return "bundle" in spec["dolium"]
