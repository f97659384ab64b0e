"""System calls that Python has no name for, by ctypes; for cold paths only."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(number: int, *given: "int | bytes") -> int:
    """What it returns.  Bytes are passed by address.  Raises OSError."""
    result: int = _libc.syscall(
        ctypes.c_long(number), *(each if isinstance(each, bytes) else ctypes.c_long(each) for each in given)
    )
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
