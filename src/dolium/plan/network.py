"""Steps that decide whom the container can reach."""

from dolium.core.wire import INSIDE, Step
from dolium.plan.namespaces import wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def wire(spec: "dict[str, Any]") -> "list[Step]":
    """`none`: the loopback device alone; with the host's network there is nothing to do."""
    if "network" not in wanted(spec):
        return []
    return [Step("loopback", INSIDE, "linux.namespaces", what="set lo up", note="itself, and nobody else")]
