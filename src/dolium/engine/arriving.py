"""Unpack the layers of an image while they are on their way: each is read as far as it has come.

A layer that needs something of those below it (engine/whiteouts.py) waits for them; they are begun in order, so the lowest that is
not done waits for nobody.  What fails here is not told: layers.provide, which comes after it, does it again and says what is wrong.
"""

import os
from threading import Condition, Event, Thread

from dolium.engine import blobs, layers
from dolium.errors import DoliumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.blobs import Writer
    from dolium.engine.manifests import Config, Descriptor, Manifest

AT_ONCE = 4
"""Layers unpacked at the same time, where there are so many processors: calls of the kernel, sums and decompression do not hold the
interpreter's lock."""
PATIENCE = 2.0
"""Seconds that an error waits for them; what they leave is a trace, as of a dolium that was killed."""


class Stopped(Exception):
    """The bytes that are waited for will not come."""


class Arrival:
    """One blob: who writes it says how far it is, who reads it waits for that."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._count = 0
        self._ended = self._failed = False
        self._fd = -1

    def begin(self, writer: "Writer") -> None:
        """It is being written, or is there."""
        with self._changed:
            if not writer.done:
                self._fd = writer.reader()
            self._count = writer.offset
            self._changed.notify_all()

    def came(self, count: int) -> None:
        """So many bytes are there now."""
        with self._changed:
            self._count = count
            self._changed.notify_all()

    def end(self, failed: bool = False) -> None:
        """It is there, whole and right; or will not be."""
        with self._changed:
            self._ended, self._failed = True, self._failed or failed
            self._changed.notify_all()

    def open(self, digest: str) -> int:
        """A descriptor to read it, once its first bytes are there.  Raises Stopped, ImageError and OSError."""
        self.wait(0)
        with self._changed:
            fd, self._fd = self._fd, -1
        return fd if fd >= 0 else blobs.open_blob(digest)

    def wait(self, read: int) -> None:
        """For more bytes than those, or for the end.  Raises Stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._count > read)
            if self._failed:
                raise Stopped

    def close(self) -> None:
        """Nobody will read it any more."""
        self.end(failed=True)
        with self._changed:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Unpacking:
    """Of one image, called `shown`; used with `with`, at whose end all is unpacked that could be, or, where that ends with an
    error, nothing goes on.

    arrivals  digest -> Arrival, for whoever fetches;  notes  what the caller should be told
    """

    def __init__(self, manifest: "Manifest", config: "Config", shown: str) -> None:
        self.arrivals = {each.digest: Arrival() for each in manifest.layers}
        self.notes: list[str] = []
        self._shown = shown
        self._config = config
        self._chain = layers.chain_ids(config.diff_ids)
        self._todo = [*enumerate(manifest.layers)]
        self._names: list[str] = [""] * len(self._todo)
        self._done = [Event() for _ in self._todo]
        count = min(AT_ONCE, len(os.sched_getaffinity(0)), len(self._todo))
        self._left = iter(self._todo)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(count)]

    def __enter__(self) -> "Unpacking":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for each in self._threads if kind is None else ():
            each.join()
        for arrival in self.arrivals.values():
            arrival.close()
        for each in self._threads:
            each.join(PATIENCE)

    def _work(self) -> None:
        for at, layer in self._left:  # a list's iterator may be shared: it gives each to one
            try:
                self._names[at] = self._unpack(at, layer)
            except (Stopped, DoliumError, OSError, EOFError):
                pass
            finally:
                self._done[at].set()

    def _unpack(self, at: int, layer: "Descriptor") -> str:
        arrival = self.arrivals[layer.digest]
        return layers.unpack(layer, self._config.diff_ids[at], self._chain[at], lambda: self._below(at), self._shown, None,
                             self.notes, arrival)  # fmt: skip

    def _below(self, count: int) -> "list[str]":
        found: list[str] = []
        for at in range(count):
            self._done[at].wait()
            if not self._names[at]:
                raise Stopped
            found = layers.over(found, self._names[at])
        return found
