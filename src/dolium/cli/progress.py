"""What is shown while an image comes or goes: bars where people look, lines where they do not, events where programs do."""

import os
from threading import Lock
from time import monotonic

from dolium.cli import render
from dolium.core import document
from dolium.engine.pull import Progress
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVERY = 0.1
"""Seconds between two drawings."""
WIDTH = 24


class Layer:
    """How far one is, in bytes."""

    __slots__ = ("name", "digest", "size", "came", "state")

    def __init__(self, digest: str, size: int, state: str) -> None:
        self.name = digest.partition(":")[2][:12]
        self.digest = digest
        self.size = size
        self.came = 0
        self.state = state


class Lines(Progress):
    """A line for each layer when it is done; `doing`, `done` and `there` are the words for it."""

    def __init__(self, doing: str = "fetching", done: str = "fetched", there: str = "there already") -> None:
        self._words = doing, done, there
        self._lock = Lock()
        self._layers: dict[str, Layer] = {}

    def say(self, line: str) -> None:
        """A line of its own."""
        with self._lock:
            self._write(f"dolium: {line}\n")

    def layer(self, digest: str, size: int, there: bool) -> None:
        """One begins."""
        with self._lock:
            self._layers[digest] = Layer(digest, size, self._words[2] if there else "")
            self._begins(self._layers[digest])

    def came(self, digest: str, count: int) -> None:
        """It goes on."""
        with self._lock:
            if layer := self._layers.get(digest):
                layer.came += count
                self._goes_on(layer)

    def done(self, digest: str) -> None:
        """It ends."""
        with self._lock:
            if layer := self._layers.get(digest):
                layer.state = self._words[1]
                self._ends(layer)

    def close(self) -> None:
        """Nothing more comes."""

    def _write(self, text: str) -> None:
        render.write(2, text)

    def _begins(self, layer: Layer) -> None:
        if layer.state:
            self._ends(layer)

    def _goes_on(self, layer: Layer) -> None:
        pass

    def _ends(self, layer: Layer) -> None:
        self._write(f"{layer.name}: {layer.state}, {show_size(layer.size)}\n")


class Bars(Lines):
    """A line for each layer, drawn over and over.  Where there are more than the terminal has lines, only what is on its way."""

    def __init__(self, *words: str) -> None:
        super().__init__(*words)
        self._drawn = 0
        self._last = 0.0
        try:
            columns, lines = os.get_terminal_size(2)
        except OSError:
            columns = lines = 0
        self._columns, self._lines = columns or 80, lines or 24

    def close(self) -> None:
        """The last drawing stays."""
        with self._lock:
            self._draw()
            self._drawn = 0

    def _begins(self, layer: Layer) -> None:
        self._goes_on(layer)

    def _goes_on(self, layer: Layer) -> None:
        if monotonic() - self._last >= EVERY:
            self._draw()

    def _ends(self, layer: Layer) -> None:
        self._goes_on(layer)

    def say(self, line: str) -> None:
        """A line of its own."""
        with self._lock:
            self._write(self._up() + f"dolium: {line}\n")
            self._draw()

    def _up(self) -> str:
        text, self._drawn = (f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""), 0
        return text

    def _draw(self) -> None:
        self._last = monotonic()
        shown = [*self._layers.values()]
        if len(shown) > self._lines - 2:
            shown = [each for each in shown if not each.state and each.came][: self._lines - 2]
        text = self._up() + "".join(self._line(each) + "\n" for each in shown)
        self._drawn = len(shown)
        self._write(text)

    def _line(self, layer: Layer) -> str:
        if layer.state:
            return f"{layer.name}  {layer.state}  {show_size(layer.size)}"[: self._columns - 1]
        if not layer.came:
            return f"{layer.name}  waiting"
        part = min(1.0, layer.came / layer.size) if layer.size else 1.0
        bar = ("=" * int(part * WIDTH) + ">").ljust(WIDTH)[:WIDTH]
        return f"{layer.name}  {self._words[0]} [{bar}] {show_size(layer.came)} of {show_size(layer.size)}"[: self._columns - 1]


class Events(Lines):
    """One JSON document a line on stdout: event `note`, `layer` or `image`, and what belongs to it."""

    def event(self, kind: str, **more: "Any") -> None:
        """Print one."""
        render.write(1, document.write({"event": kind, **more}) + "\n")

    def say(self, line: str) -> None:
        """A line of its own."""
        with self._lock:
            self.event("note", text=line)

    def _begins(self, layer: Layer) -> None:
        self.event("layer", digest=layer.digest, size=layer.size, state="there" if layer.state else "waiting")

    def _ends(self, layer: Layer) -> None:
        self.event("layer", digest=layer.digest, size=layer.size, state="done")


class Quiet(Lines):
    """Nothing; what goes wrong is an error."""

    def _write(self, text: str) -> None:
        pass


def chosen(quiet: bool, events: bool, *words: str) -> Lines:
    """The one for what was asked for, and for where stderr leads."""
    if events:
        return Events(*words)
    if quiet:
        return Quiet(*words)
    return Bars(*words) if os.isatty(2) and os.environ.get("TERM") != "dumb" else Lines(*words)
