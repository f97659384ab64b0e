"""The verbs that have criu write a container down and make it again: checkpoint, restore."""

from dolium.cli import oci_life
from dolium.cli.oci import Words, warn
from dolium.runtime import checkpoint as checkpointing


def _wanted(found: Words) -> checkpointing.Asked:
    wanted = checkpointing.Asked(found.flags)
    wanted.criu = found.options.get("criu", "")
    return wanted


def checkpoint(found: Words, root: str) -> int:
    """`checkpoint`"""
    for failed in checkpointing.checkpoint(root, found.id, _wanted(found)):
        warn(found, str(failed))
    return 0


def restore(found: Words, root: str) -> int:
    """`restore`; without --detach its exit code is the program's."""
    from dolium.runtime import restore as restoring

    detached = "detach" in found.flags
    if not detached:
        oci_life.block()
    container = restoring.restore(root, found.id, oci_life.asks(found), _wanted(found))
    if detached:
        return 0
    running = restoring.Foreground(container)
    oci_life.forward(running.fileno(), running.signal)
    return running.finish()
