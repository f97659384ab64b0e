"""How a program ended, and what it printed."""

from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Result:
    """How a program ended, and what it printed.

    args               the command
    exit_code          as a shell says it: 128 + N after signal N; 124 at its time limit
    returncode         as subprocess says it: -N after signal N
    signal             the signal that ended it, or 0
    stdout, stderr     bytes, or str with text=True; of what is too long the first and the last half
    wall_seconds       from the call to the end
    cpu_seconds        of the whole container; of a program in a Sandbox, its own
    peak_memory_bytes  of the whole container where its memory is counted, else of its largest process
    ended_by           "exit", "signal", "timeout", "memory" or "output"
    limits_hit         which of "memory", "timeout" and "output" were reached
    truncated          whether more was printed than is kept
    """

    __slots__ = ("args", "exit_code", "signal", "stdout", "stderr", "wall_seconds", "cpu_seconds", "peak_memory_bytes",
                 "ended_by", "limits_hit", "truncated")  # fmt: skip

    def __init__(self, **fields: "Any") -> None:
        self.args: list[str] = fields["args"]
        self.exit_code: int = fields["exit_code"]
        self.signal: int = fields["signal"]
        self.stdout: Any = fields["stdout"]
        self.stderr: Any = fields["stderr"]
        self.wall_seconds: float = fields["wall_seconds"]
        self.cpu_seconds: float = fields["cpu_seconds"]
        self.peak_memory_bytes: int = fields["peak_memory_bytes"]
        self.ended_by: str = fields["ended_by"]
        self.limits_hit: tuple[str, ...] = fields["limits_hit"]
        self.truncated: bool = fields["truncated"]

    @property
    def returncode(self) -> int:
        """As subprocess says it: -N after signal N."""
        return -self.signal if self.signal else self.exit_code

    def __repr__(self) -> str:
        def shorten(data: "Any") -> str:
            return repr(data) if len(data) <= 60 else f"{data[:57]!r}... ({len(data)} in all)"

        peak = quantities.show_size(self.peak_memory_bytes)
        return (f"Result(exit_code={self.exit_code}, ended_by={self.ended_by!r}, wall={self.wall_seconds:.3f} s, "
                f"peak_memory={peak}, stdout={shorten(self.stdout)}, stderr={shorten(self.stderr)})")  # fmt: skip

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, ({name: getattr(self, name) for name in self.__slots__},)


def _rebuild(fields: "dict[str, Any]") -> Result:
    return Result(**fields)
