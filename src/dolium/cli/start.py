"""`dolium start`: a container that has ended, once more, with what it wrote."""

from dolium.cli import each, render, run, words
from dolium.cli.flags import Flag, yes
from dolium.engine import life, store
from dolium.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container

TABLE = (
    Flag("attach", "a", "", yes, "in the foreground; the exit code is the program's"),
    Flag("interactive", "i", "", yes, "pass standard input on; with --attach"),
)


def main(argv: "list[str]") -> int:
    """Raises DoliumError."""
    found = words.parse(
        "start", argv, TABLE, least=1,
        about="Start containers that have ended, in fresh namespaces, with their files.",
    )  # fmt: skip
    if found is None:
        return 0
    if found.get("attach"):
        if len(found.names) > 1:
            raise UsageError("`dolium start --attach`: only one container can be in the foreground")
        return _attached(store.find(found.names[0]), found.get("interactive", False))
    return each.carry_out(found.names, _detached)


def _detached(container: "Container") -> None:
    with store.hold(container):
        if life.state_of_locked(container) != "running":  # starting twice is no mistake
            begun = run.begin(container, interactive=False, detached=True)
            if begun.note:
                render.say(begun.note)
            begun.running.leave()


def _attached(container: "Container", interactive: bool) -> int:
    signals = run.Signals()
    screen = run.terminal(interactive) if container.options.get("tty") else None
    with store.hold(container):
        life.must_not_run(container)
        begun = run.begin(container, interactive=interactive, detached=False, screen=screen)
    if begun.note:
        render.say(begun.note)
    return run.attend(container, begun, signals, None, screen)
