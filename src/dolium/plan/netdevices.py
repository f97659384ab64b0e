"""Steps for linux.netDevices: network devices of the host that the container gets (runtime-spec, config-linux.md).  Pure."""

from dolium.core.wire import HOST, Step, encoded
from dolium.errors import SpecError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

LONGEST = 15
"""Bytes of a device's name, IFNAMSIZ without the end."""


def move(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """On the host, as soon as there is a network to move them into.  Raises SpecError and Unsupported."""
    wanted = spec["linux"]["netDevices"]
    if not any(each["type"] == "network" for each in spec["linux"]["namespaces"]):
        raise SpecError("linux.netDevices", "needs a network namespace among linux.namespaces")
    if facts.rootless:
        raise Unsupported("linux.netDevices", "devices of the host are root's to move")
    steps: list[Step] = []
    taken = set()
    for name, about in wanted.items():
        why = f"linux.netDevices.{name}"
        inside = about.get("name") or name
        _check(name, why, template=False)
        _check(inside, f"{why}.name", template="name" in about)
        if inside in taken and "%" not in inside:
            raise SpecError(f"{why}.name", f"there are two devices `{inside}`")
        taken.add(inside)
        steps.append(Step("move_device", HOST, why, path=name, path2=inside, what=f"move {name} into the container",
                          note=f"as {inside}, with its addresses, up"))  # fmt: skip
    return steps


def _check(name: str, why: str, template: bool) -> None:
    """What the kernel takes as a name, dev_valid_name(); of a template one %d, which it replaces by a number."""
    plain = name.removesuffix("%d") if template else name
    odd = not plain or name in (".", "..") or len(encoded(name, why)) > LONGEST
    if odd or not plain.isprintable() or {*plain} & set("/: %"):
        raise SpecError(why, f"{name[:40]!a} is no name of a network device")
