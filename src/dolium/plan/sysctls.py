"""Kernel parameters of the container's own namespaces, sysctl(8)."""

from dolium.core.wire import INSIDE, Step, encoded
from dolium.errors import SpecError
from dolium.plan import slots
from dolium.plan.namespaces import joined, wanted
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IPC = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
       "kernel.shm_rmid_forced")  # fmt: skip
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./")


def write(spec: "dict[str, Any]") -> "list[Step]":
    """One write for each; only what a namespace of the container's own confines, and never a key that could name another
    file (CVE-2022-0811)."""
    steps = []
    types = wanted(spec) | (joined(spec) if is_bundle(spec) else set())
    for key, value in spec["linux"].get("sysctl", {}).items():
        why = f"linux.sysctl.{key}"
        name = key.replace("/", ".")
        if not set(key) <= _LETTERS or ".." in name or name != name.strip("."):
            raise SpecError(why, "is no name of a sysctl")
        if is_bundle(spec) and name == "kernel.hostname":
            raise SpecError(why, "is what `hostname` says")
        if is_bundle(spec) and name == "kernel.domainname":
            if "uts" not in types:
                raise SpecError(why, "needs a uts namespace of its own")
            steps.append(_write(key, value, why, name))
            continue
        needed = "network" if name.startswith("net.") else "ipc" if name in IPC or name.startswith("fs.mqueue.") else None
        if is_bundle(spec) and name.startswith("user."):  # how many namespaces its users may make, namespaces(7)
            needed = "user"
        if needed is None:
            raise SpecError(why, "is not confined to a namespace, it would change the whole host",
                            hint=f"a container has its own net.*, fs.mqueue.*, {', '.join(IPC)}")  # fmt: skip
        if needed not in types:
            raise SpecError(why, f"needs a {needed} namespace of its own",
                            hint="" if is_bundle(spec) else "leave --network host out")  # fmt: skip
        steps.append(_write(key, value, why, name))
    return steps


def _write(key: str, value: str, why: str, name: str) -> Step:
    path = "/".join(("sys", *name.split(".")))
    return Step("write", INSIDE, why, fd=slots.PROC, path=path, data=encoded(value, why), what=f"{key} = {value}",
                note="in its own namespace only")  # fmt: skip
