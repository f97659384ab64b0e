"""Compress with gzip (RFC 1952) on all processors: pieces of one size, each with the end of the one before as its dictionary, which
any gzip reads as one stream.  The bytes depend on what comes alone, not on how it comes or how many processors there are.
"""

import os
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from dolium.engine.archive import Buffer

LEVEL = 6
"""What docker and gzip use, too."""
PIECE = 1 << 20
"""Bytes; a piece begins with the 32 KiB before it at hand, so next to nothing is lost."""
WINDOW = 1 << 15
RAW = -15
"""zlib's word for its largest window and no header of its own."""
MOST_THREADS = 8
HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\3"
"""No name and no time in it; from Unix."""
LAST = b"\3\0"
"""An empty block, which says that none follows."""


class Packer:
    """Bytes in; what they become is given to `write`, in order, by the thread that calls `add` and `finish`."""

    def __init__(self, write: "Callable[[Buffer], object]") -> None:
        threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
        self._write = write
        self._most = threads + 1
        self._pool = ThreadPoolExecutor(threads)  # its threads begin with the first piece
        self._packed: deque[Future[bytes]] = deque()
        self._buffer = bytearray()
        self._before = b""
        self._sum = self._size = 0
        write(HEADER)

    def add(self, data: "Buffer") -> None:
        """More bytes.  Raises what `write` does."""
        self._sum = zlib.crc32(data, self._sum)
        self._size += len(data)
        self._buffer += data
        while len(self._buffer) >= PIECE:
            self._begin(bytes(self._buffer[:PIECE]))
            del self._buffer[:PIECE]

    def _begin(self, piece: bytes) -> None:
        self._packed.append(self._pool.submit(_pack, piece, self._before))
        self._before = piece[-WINDOW:]
        if len(self._packed) > self._most:
            self._write(self._packed.popleft().result())

    def finish(self) -> None:
        """The end of it.  Raises what `write` does."""
        if self._buffer:
            self._begin(bytes(self._buffer))
        while self._packed:
            self._write(self._packed.popleft().result())
        self._write(LAST + self._sum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))
        self.close()

    def close(self) -> None:
        """End its threads, also in the middle."""
        self._pool.shutdown(cancel_futures=True)


def _pack(piece: bytes, before: bytes) -> bytes:
    """Up to a byte's end, so that the next can follow."""
    work = zlib.compressobj(LEVEL, zlib.DEFLATED, RAW, zdict=before) if before else zlib.compressobj(LEVEL, zlib.DEFLATED, RAW)
    return work.compress(piece) + work.flush(zlib.Z_SYNC_FLUSH)
