"""A file for somebody outside, which appears whole or not at all."""

import os

from dolium.errors import DoliumError

TYPE_CHECKING = False
if TYPE_CHECKING:

    from dolium.engine.archive import Buffer

EISDIR, EINVAL, EOPNOTSUPP = 21, 22, 95


class Output:
    """A file at that path, or standard output for none and for `-`.  Used with `with`: it is there when that ends without an error.

    What is no regular file, such as a FIFO or /dev/null, is written to as it is.  Raises DoliumError.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path = "" if path == "-" else path
        self._fd = 1
        self._target = ""
        self._name = ""  # of the half-written file, where it has one
        if path:
            try:
                self._open()
            except OSError as error:
                raise self._refused(error) from None

    def _open(self) -> None:
        if _is_standard_output(self.path):
            self._fd = os.dup(1)
            return
        target = os.path.realpath(self.path)
        if os.path.exists(target) and not os.path.isfile(target):
            self._fd = os.open(target, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            return
        self._target = target
        directory = os.path.dirname(target)
        try:
            self._fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (EISDIR, EINVAL, EOPNOTSUPP):  # what file systems say that have no such files, open(2)
                raise
            self._name = self._beside()
            self._fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _beside(self) -> str:
        return f"{os.path.dirname(self._target)}/.{os.path.basename(self._target)[:200]}.{os.urandom(6).hex()}"

    def _refused(self, error: OSError) -> DoliumError:
        return DoliumError(f"cannot write `{self.path}`: {error.strerror}" if self.path else
                           f"cannot write to standard output: {error.strerror}")  # fmt: skip

    def write(self, data: "Buffer") -> None:
        """All of it.  Raises DoliumError."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise self._refused(error) from None

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if not self.path:
            return
        try:
            if kind is None and self._target:
                self._finish()
        except OSError as error:
            raise self._refused(error) from None
        finally:
            if self._name:
                os.unlink(self._name)
            os.close(self._fd)

    def _finish(self) -> None:
        os.fsync(self._fd)
        if not self._name:
            name = self._beside()
            os.link(f"/proc/self/fd/{self._fd}", name, src_dir_fd=self._fd, follow_symlinks=True)  # else it is link(2)
            self._name = name
        os.rename(self._name, self._target)
        self._name = ""


def _is_standard_output(path: str) -> bool:
    """By another name, such as /dev/stdout: a pipe's or a socket's real path is none, and somebody else's cannot be opened."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False
