"""Dolium: containers you can read before they run, from Python and the Linux kernel."""

import sys

if sys.platform != "linux":
    raise ImportError(f"Dolium needs the Linux kernel, and this is {sys.platform}: install it inside a Linux virtual machine")

from dolium.errors import (
    CommandFailed,
    CommandTimeout,
    DoliumError,
    Exists,
    HookError,
    ImageError,
    NotFound,
    RegistryError,
    SpecError,
    StateError,
    StepError,
    Unsupported,
    UsageError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.sandbox.asked import Mount, allow, ro, rw, tmp
    from dolium.sandbox.box import Sandbox
    from dolium.sandbox.fresh import doctor, run
    from dolium.sandbox.pool import Pool
    from dolium.sandbox.process import Process
    from dolium.sandbox.python import Python, Snippet
    from dolium.sandbox.result import Result
    from dolium.sandbox.snapshot import Snapshot

__version__ = "0.1.0"
__all__ = ["CommandFailed", "CommandTimeout", "DoliumError", "Exists", "HookError", "ImageError", "Mount", "NotFound", "Pool",
           "Process", "Python", "RegistryError", "Result", "Sandbox", "Snapshot", "Snippet", "SpecError", "StateError", "StepError",
           "Unsupported", "UsageError", "allow", "doctor", "ro", "run", "rw", "tmp"]  # fmt: skip

_PLACES = {"Mount": "asked", "Pool": "pool", "Process": "process", "Python": "python", "Result": "result",
           "Sandbox": "box", "Snapshot": "snapshot", "Snippet": "python", "allow": "asked",
           "doctor": "fresh", "ro": "asked", "run": "fresh", "rw": "asked", "tmp": "asked"}  # fmt: skip


def __getattr__(name: str) -> object:
    """What starts containers when it is first asked for: the command line has no use for it, and starts sooner."""
    if name in _PLACES:
        found = globals()[name] = getattr(__import__(f"dolium.sandbox.{_PLACES[name]}", fromlist=(name,)), name)
        return found
    raise AttributeError(f"module `dolium` has no attribute `{name}`")
