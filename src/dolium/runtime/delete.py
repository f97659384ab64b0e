"""`delete` of an OCI container: whatever is left of it is killed and removed."""

import os
from time import sleep

from dolium.errors import DoliumError, HookError, NotFound, StateError
from dolium.runtime import cgroup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def delete(top: str, identity: str, force: bool) -> "list[HookError]":
    """`delete`: of one that has ended or was never started; with `force` of any, and of none.  Raises StateError; the hooks
    that failed are returned."""
    try:
        container = state.find(top, identity)
        container.lock()
    except DoliumError as problem:
        if not force:
            raise
        if _forget_remains(top, identity):
            return []
        if isinstance(problem, NotFound):  # it has been made meanwhile
            return delete(top, identity, force)
        raise
    try:
        status = container.status()
        if status not in ("stopped", "created") and not force:
            raise StateError(identity, status, "stopped")
        destroy(container)
        return remove(container)
    finally:
        container.unlock()


def _forget_remains(top: str, identity: str) -> bool:
    """After a --force: nothing is there, or what a `create` that was killed at once has left."""
    remains = state.Container(top, identity, {})
    try:
        remains.hold()
    except NotFound:
        return True
    try:
        try:
            written = os.stat(f"{remains.path}/state.json").st_size
        except FileNotFoundError:
            written = 0
        if not written:
            remains.forget()
        return not written
    finally:
        remains.unlock()


def destroy(container: state.Container) -> None:
    """Kill all that is in it, and remove its groups; those that systemd has made it removes itself, and would not hear of their
    end if we did."""
    groups, unit = container.fields["groups"], container.fields.get("unit")
    if not unit and not container.pid() and all([cgroup.removed_if_empty(group) for group in {*groups.values()}]):
        return  # the usual case: it has ended, and nobody is left
    if container.is_frozen():
        from dolium.runtime.members import freeze

        freeze(container, False)
    if pid := container.pid():
        state.kill(pid)
    for group in sorted({*groups.values()}, key=lambda path: path != groups.get("unified")):  # cgroup.kill first
        if os.path.isdir(group):
            cgroup.kill(group)
    for _ in range(500):
        if not container.pid():
            break
        sleep(0.002)
    if unit:
        from dolium.runtime import units

        units.stop(unit)
    left = [group for group in {*groups.values()} if not cgroup.remove(group)]
    if left:
        raise DoliumError(f"container `{container.id}`: processes in {left[0]} cannot be killed")


def remove(container: state.Container) -> "list[HookError]":
    """Forget it, and run what is to be run then."""
    spec = None
    if container.has_hooks("poststop"):
        try:
            spec = container.config()
        except (DoliumError, OSError, KeyError, TypeError):  # `create` was killed before it had written it
            pass
    container.forget()
    return run_poststop(spec, container.id) if spec else []


def run_poststop(spec: "dict[str, Any]", identity: str) -> "list[HookError]":
    """Hooks after the end; each is run whatever became of the one before, and what failed is only told."""
    from dolium.runtime import hooks

    told, failed = hooks.state(spec, identity, "stopped", 0), []
    for index, hook in enumerate(spec["hooks"].get("poststop", ())):
        try:
            hooks.run(hook, f"hooks.poststop[{index}]", told, spec["dolium"]["bundle"])
        except (HookError, OSError) as error:
            failed.append(
                error if isinstance(error, HookError) else HookError(f"hooks.poststop[{index}]", hook["path"], str(error))
            )
    return failed
