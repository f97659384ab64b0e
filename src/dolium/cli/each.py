"""One command for several containers: what fails for one does not keep the others from it."""

from dolium.cli import render
from dolium.engine import store
from dolium.errors import DoliumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dolium.engine.store import Container


def carry_out(names: "Iterable[str]", act: "Callable[[Container], str | None]") -> int:
    """Do it to each, print what it returns or the name as it was given, and the errors; 1 if there was one."""
    code = 0
    for name in names:
        try:
            shown = act(store.find(name))
            render.write(1, f"{name if shown is None else shown}\n")
        except DoliumError as problem:
            render.write(2, render.error(problem))
            code = 1
    return code
