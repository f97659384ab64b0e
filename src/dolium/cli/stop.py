"""`dolium stop`, `kill` and `wait`: how a container comes to its end."""

from dolium.cli import each, words
from dolium.cli.flags import Flag
from dolium.engine import life
from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container


def _patience(text: str, flag: str) -> float:
    return 0.0 if text == "0" else quantities.seconds(text, flag)


TIME = (
    Flag("timeout", "t", "TIME", _patience, "how long it has to end by itself, usual: 10"),
    Flag("time", "", "TIME", _patience, "the same, as Docker called it before"),
)
ASK = Flag("signal", "s", "SIGNAL", quantities.signal, "what to send first, usual: TERM, or what it was started with")
SIGNAL = Flag("signal", "s", "SIGNAL", quantities.signal, "what to send, usual: KILL")


def stop(argv: "list[str]") -> int:
    """Raises UsageError and SpecError."""
    found = words.parse("stop", argv, (*TIME, ASK), least=1, about="Ask containers to end; end those that have not after a while.")
    if found is None:
        return 0

    def act(container: "Container") -> None:
        if life.state_once_begun(container)["status"] == "running":  # stopping twice is no mistake
            seconds = found.get("timeout", found.get("time", container.stop_timeout))
            life.stop(container, seconds, found.get("signal", container.stop_signal))

    return each.carry_out(found.names, act)


def kill(argv: "list[str]") -> int:
    """Raises UsageError and SpecError."""
    found = words.parse("kill", argv, (SIGNAL,), least=1, about="Send a signal to the first process of containers.")
    if found is None:
        return 0

    def act(container: "Container") -> None:
        number = found.get("signal", life.SIGKILL)
        life.kill(container, number)
        if number == life.SIGKILL:
            life.wait(container)

    return each.carry_out(found.names, act)


def wait(argv: "list[str]") -> int:
    """Raises UsageError."""
    found = words.parse("wait", argv, (), least=1, about="Wait until containers have ended, and print their exit codes.")
    return 0 if found is None else each.carry_out(found.names, lambda container: str(life.wait(container)))
