"""Dolium: containers you can read before they run, from Python and the Linux kernel."""

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
from dolium.sandbox import Result, run

__version__ = "0.1.0"
__all__ = ["CommandFailed", "CommandTimeout", "DoliumError", "Exists", "NotFound", "Result", "SpecError", "StateError",
           "StepError", "Unsupported", "UsageError", "run"]  # fmt: skip
