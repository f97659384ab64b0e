"""Who calls listens on a socket for a descriptor: the terminal of an OCI container (--console-socket of conmon and containerd's
shim), a pidfd of its first process (--pidfd-socket), the listener of its filter (runtime/listener.py)."""

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_STREAM, SOL_SOCKET, socket

from dolium.errors import DoliumError

CONSOLE, PIDFD = "--console-socket", "--pidfd-socket"
NAMES = {CONSOLE: b"/dev/ptmx", PIDFD: b"pidfd"}
"""The name that goes with the descriptor; nobody looks at it."""


def connect(path: str, why: str = CONSOLE) -> socket:
    """A connection to that socket, made before anything else: who does not listen is found out at once.  Raises DoliumError,
    which names `why`."""
    client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    where = -1
    try:
        where = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        client.connect(f"/proc/self/fd/{where}/{os.path.basename(path)}")  # a path may be longer than unix(7) allows
    except OSError as error:
        client.close()
        raise DoliumError(f"{why}: `{path}`: {error.strerror or error}") from None
    finally:
        if where >= 0:
            os.close(where)
    return client


def send(client: socket, fd: int, why: str = CONSOLE) -> None:
    """Hand the descriptor over; both are closed.  Raises DoliumError."""
    give(client, NAMES[why], fd, why)


def give(client: socket, data: bytes, fd: int, why: str) -> None:
    """Send data and a descriptor with its beginning; both ends that are ours are closed.  Raises DoliumError."""
    try:
        sent = client.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, "little"))])
        if sent < len(data):  # conmon goes away as soon as it has all, and to send nothing would be EPIPE
            client.sendall(data[sent:])
    except OSError as error:
        raise DoliumError(f"{why}: {error.strerror}") from None
    finally:
        client.close()
        os.close(fd)
