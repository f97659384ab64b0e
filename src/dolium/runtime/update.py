"""`update` of an OCI container: other limits while it lives."""

from dolium.errors import DoliumError, StateError, Unsupported
from dolium.plan import resources
from dolium.runtime import bundle, cgroup, state, watched
from dolium.runtime.creation import perform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def update(top: str, identity: str, given: "dict[str, Any]") -> None:
    """`update`: other limits for a container that lives.  Raises SpecError, Unsupported, StepError."""
    container = state.find(top, identity)
    container.lock()
    try:
        if not container.pid():
            raise StateError(identity, container.status(), "running")
        spec = container.config()
        if "devices" in given and given["devices"] != spec["linux"]["resources"].get("devices"):  # engines repeat what they are
            raise Unsupported("linux.resources.devices", "the rules of a container that lives are not changed")
        given = resources.completed(given, spec["linux"]["resources"])
        facts = bundle.facts(spec)
        where = container.fields["groups"]
        _check_room(given, container)
        if unit := container.fields.get("unit"):
            from dolium.plan import unit_properties
            from dolium.runtime import units

            units.change(unit, unit_properties.limits(given, facts.cgroup2_mounted, unit["version"]))
        for step in resources.writes(given, where, facts, first=False):
            try:
                perform(step, [])
            except OSError as error:
                raise watched.step_error(step, [step], error.errno or 0, "write", facts) from None
        for key, value in given.items():
            if key == "devices":
                continue
            old = spec["linux"]["resources"].get(key)
            spec["linux"]["resources"][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        container.save_config(spec)
    finally:
        container.unlock()


def _check_room(given: "dict[str, Any]", container: state.Container) -> None:
    """memory.checkBeforeUpdate: a limit below what is in use would kill."""
    memory = given.get("memory", {})
    group = container.fields["groups"].get("memory")
    if not memory.get("checkBeforeUpdate") or not memory.get("limit") or not group:
        return
    name = "memory.current" if container.fields["versions"]["memory"] == 2 else "memory.usage_in_bytes"
    used = int(cgroup.read(f"{group}/{name}"))
    if 0 < memory["limit"] < used:
        raise DoliumError(f"linux.resources.memory.limit: {memory['limit']} bytes are less than the {used} that are in use")
