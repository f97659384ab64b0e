"""An image out of a container: the layers of its own image and one more, of what it has changed; one of a directory or a tarball
gives an image of one layer."""

from dolium.engine import archive, contents, images, instructions, making, manifests, tar
from dolium.engine.pausing import Paused
from dolium.errors import DoliumError, NotFound
from dolium.plan import program, quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.making import Layer
    from dolium.engine.store import Container

SIGTERM = 15
REMOVED = b".wh."
"""What the name of a file begins with that says of another that it has been removed, image-spec layer.md."""


class Wish:
    """What is asked for: a whole reference or nothing; a message and an author for the history; instructions (engine/instructions);
    whether the container is paused meanwhile."""

    __slots__ = ("name", "message", "author", "changes", "pause")

    def __init__(self, name: str = "", *, message: str = "", author: str = "", changes: "tuple[str, ...]" = (),
                 pause: bool = True) -> None:  # fmt: skip
        self.name = name
        self.message = message
        self.author = author
        self.changes = changes
        self.pause = pause


def commit(container: "Container", wish: Wish) -> "images.Image":
    """Make it.  Nothing of it is there if this raises: NotFound, StateError, Unsupported, SpecError, OSError or DoliumError."""
    container.must_be_whole()
    with images.hold():
        parent = _parent(container)
        before = parent.config() if parent else None
        run = _run(container, making.run_of(parent) if parent else {})
        for line in wish.changes:
            instructions.apply(run, line)
        with making.Layer() as layer:
            if wish.pause:
                with Paused(container):
                    _fill(layer, container, whole=parent is None)
            else:
                _fill(layer, container, whole=parent is None)
            layer.commit()
        by = " ".join(container.request().argv)
        config = making.config(
            before.platform if before else manifests.this_platform(), run, [*(before.diff_ids if before else ()), layer.diff_id],
            [*(before.history if before else ()), making.event(by, author=wish.author, comment=wish.message)], wish.author,
        )  # fmt: skip
        below = [making.described(each) for each in parent.manifest().layers] if parent else []
        return making.image(wish.name, config, [*below, layer.descriptor])


def _parent(container: "Container") -> "images.Image | None":
    """The image that a container was made from; None: it was made from none.  Raises NotFound where that is gone."""
    if not container.manifest:
        return None
    try:
        return images.find(container.manifest)
    except NotFound:
        hint = "it has been removed; pull or load it again, or `dolium export` the container"
        raise NotFound("image", container.image, hint=hint) from None


def _fill(layer: "Layer", container: "Container", whole: bool) -> None:
    writer = archive.Writer(layer.write)
    if whole:
        stack = contents.whole(container)
        try:
            for entry, content in stack.everything():
                must_be_said(entry)
                writer.add(entry, content or ())
        finally:
            stack.close()
    else:
        for change in contents.changes(container):
            must_be_said(change.entry)
            if change.kind == "D":
                above, slash, name = change.entry.name.rpartition(b"/")
                writer.add(tar.Entry(above + slash + REMOVED + name, tar.FILE))
            else:
                writer.add(change.entry, change.content or ())
    writer.close()


def must_be_said(entry: tar.Entry) -> None:
    """Whether a layer can have a file of that name.  Raises DoliumError."""
    if entry.name.rpartition(b"/")[2].startswith(REMOVED):
        raise DoliumError(f"{entry.shown()} cannot be in an image: names that begin with `.wh.` say there what was removed",
                          hint="rename it; `dolium export` takes it as it is")  # fmt: skip


def _run(container: "Container", before: "dict[str, Any]") -> "dict[str, Any]":
    """How the container is run, as docker takes it over: words, variables, user, directory, labels, signal.  `before` is the same
    of its image, or empty; what of that says something else stays."""
    options = container.request()
    run = {name: value for name, value in before.items() if value is not None and name not in ("Cmd", "Entrypoint")}
    argv, entrypoint = options.argv, before.get("Entrypoint") or []
    if entrypoint and argv[: len(entrypoint)] == entrypoint:
        run["Entrypoint"], argv = entrypoint, argv[len(entrypoint) :]
    if argv:
        run["Cmd"] = argv
    env = dict(each.partition("=")[::2] for each in before.get("Env") or [f"PATH={program.DEFAULT_PATH}"])
    run["Env"] = [f"{name}={value}" for name, value in {**env, **options.env}.items()]
    if container.labels:
        run["Labels"] = {**(before.get("Labels") or {}), **container.labels}
    if container.stop_signal != SIGTERM:
        number = container.stop_signal
        run["StopSignal"] = f"SIG{quantities.SIGNALS[number - 1]}" if number <= len(quantities.SIGNALS) else str(number)
    for name, value in (("User", container.user), ("WorkingDir", options.cwd)):
        if value is not None:
            run[name] = value
    return run
