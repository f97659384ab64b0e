"""The terminal of an OCI container goes to whoever listens on --console-socket: conmon, containerd's shim."""

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from dolium.errors import DoliumError

SAID = b"/dev/ptmx"
"""The name that goes with the descriptor; nobody looks at it."""


def connect(path: str) -> socket:
    """A connection to that socket, made before anything else: who does not listen is found out at once.  Raises DoliumError."""
    where = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{where}/{os.path.basename(path)}")  # a path may be longer than unix(7) allows
    except OSError as error:
        client.close()
        raise DoliumError(f"--console-socket: `{path}`: {error.strerror}") from None
    finally:
        os.close(where)
    return client


def send(client: socket, master: int) -> None:
    """Hand the terminal over; both descriptors are closed."""
    try:
        client.sendmsg([SAID], [(SOL_SOCKET, SCM_RIGHTS, master.to_bytes(4, "little"))])
    except OSError as error:
        raise DoliumError(f"--console-socket: {error.strerror}") from None
    finally:
        client.close()
        os.close(master)
