"""Dolium: containers you can read before they run, from Python and the Linux kernel."""

import sys

if sys.platform != "linux":
    raise ImportError(f"Dolium needs the Linux kernel, and this is {sys.platform}: install it inside a Linux virtual machine")

from dolium.errors import (
    CommandFailed,
    CommandTimeout,
    DoliumError,
    Exists,
    NotFound,
    SpecError,
    StateError,
    StepError,
    Unsupported,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.sandbox import Result, doctor, run

__version__ = "0.1.0"
__all__ = ["CommandFailed", "CommandTimeout", "DoliumError", "Exists", "NotFound", "Result", "SpecError", "StateError",
           "StepError", "Unsupported", "UsageError", "doctor", "run"]  # fmt: skip


def __getattr__(name: str) -> object:
    """What starts containers when it is first asked for: the command line has no use for it, and starts sooner."""
    if name in ("Result", "doctor", "run"):
        from dolium import sandbox

        globals().update(Result=sandbox.Result, doctor=sandbox.doctor, run=sandbox.run)
        return globals()[name]
    raise AttributeError(f"module `dolium` has no attribute `{name}`")
