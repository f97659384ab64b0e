"""`dolium rm`, `prune` and `rename`: what is remembered of containers."""

from dolium.cli import each, render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import life, store
from dolium.errors import DoliumError, NotFound
from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container

FORCE = Flag("force", "f", "", yes, "kill it first if it runs; no error if there is none")


PRUNE = (
    Flag("force", "f", "", yes, "as it is: nothing is asked"),
    Flag("rootfs", "", "", yes, "only what was unpacked and no container uses"),
)


def rm(argv: "list[str]") -> int:
    """Raises UsageError."""
    found = words.parse(
        "rm", argv, (FORCE,), least=1, about="Forget containers, with all that they have written."
    )
    if found is None:
        return 0
    force = found.get("force", False)

    def act(container: "Container") -> None:
        try:
            life.remove(container, force)
        except NotFound:  # somebody else was quicker
            if not force:
                raise

    names = found.names
    if force:
        there = []
        for name in names:
            try:
                store.find(name)
                there.append(name)
            except NotFound:
                pass
        names = there
    return each.carry_out(names, act)


def prune(argv: "list[str]") -> int:
    """Raises UsageError."""
    found = words.parse("prune", argv, PRUNE, most=0,
                        about="Forget all containers that do not run, images without a name that none was made from, and what\n"
                              "was unpacked and nobody needs any more.")  # fmt: skip
    if found is None:
        return 0
    code = 0 if found.get("rootfs") else _forget_ended()
    from dolium.engine import removal, snapshots, tarballs

    for line in removal.prune(False) if not found.get("rootfs") else ():
        render.write(1, f"{line}\n")
    freed = 0
    for name, size in tarballs.prune():
        render.write(1, f"{name}\n")
        freed += size
    if freed:
        render.say(f"{quantities.show_size(freed)} of unpacked tarballs freed")
    if layers := removal.sweep():
        render.say(f"{quantities.show_size(layers)} of layers freed")
    if left := snapshots.mend():
        render.say(f"{quantities.show_size(left)} of snapshots freed, whose programs were killed")
    return code


def _forget_ended() -> int:
    code = 0
    for container in life.every():
        try:
            status = life.state(container)["status"]
            if status == "dead":
                render.say(f"{container.name} stays: {container.damage}; dolium rm {container.name} removes it")
            elif status != "running":
                life.remove(container)
                render.write(1, f"{container.id}\n")
        except NotFound:  # somebody else was quicker
            pass
        except DoliumError as problem:
            render.write(2, render.error(problem))
            code = 1
    return code


def rename(argv: "list[str]") -> int:
    """Raises DoliumError."""
    found = words.parse("rename", argv, (), least=2, most=2, what="CONTAINER NAME", about="Give a container another name.")
    if found is None:
        return 0
    container = store.find(found.names[0])
    with store.hold(container):
        store.rename(container, quantities.name(found.names[1], "NAME"))
    return 0
