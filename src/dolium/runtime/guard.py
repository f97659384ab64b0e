"""A network namespace with an egress policy, and its resolver: what the host does before such a container is born.

The namespace is made here and not by the container, so it belongs to the host's root: a container with users of its own has no
capability over it, whatever it is given (network_namespaces(7), user_namespaces(7)), and can change neither its rules nor its
routes, nor send raw packets.  What must be done in it is done by threads that go there and end: setns(2) is of one thread.
"""

import os
from _signal import SIG_BLOCK, pthread_sigmask, valid_signals
from _socket import (
    AF_INET,
    AF_NETLINK,
    SO_REUSEADDR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from _thread import allocate_lock, start_new_thread
from fcntl import F_DUPFD_CLOEXEC, fcntl, ioctl

from dolium.core import sys
from dolium.errors import DoliumError, Unsupported
from dolium.plan import egress, slots
from dolium.runtime import elsewhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType

    from dolium.core.wire import Step
    from dolium.runtime.resolver import Resolver

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
NETFILTER = 12
OPEN_PORTS = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
"""Ports below 1024 are anybody's there, as on the bridge."""
PATHS = (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin")
_live: "set[Guard]" = set()


class Guard:
    """What keeps the policy of one container; `close` it when that has ended.  A forked child of this process has no part in it."""

    __slots__ = ("network", "end", "lock", "resolver")

    def __init__(self) -> None:
        self.network: int = -1
        self.end: int = -1
        self.lock: LockType = allocate_lock()
        self.resolver: Resolver | None = None
        _live.add(self)

    def act(self, step: "Step", filled: "dict[int, int]") -> None:
        """One of the host's steps.  Raises OSError, Unsupported and DoliumError."""
        if step.op == "make_net":
            self._make()
            filled[slots.NETWORK] = fcntl(self.network, F_DUPFD_CLOEXEC, 3)
            filled[slots.HOST_NETWORK] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        elif step.op == "nft":
            elsewhere.act(lambda: sys.enter_network(self.network), lambda: _load(step.data))
        else:
            self._resolve(step.path, step.path2)

    def _make(self) -> None:
        def settle() -> None:
            self.network = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            any_socket = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
            try:
                ioctl(any_socket, SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + IFF_UP.to_bytes(2, "little") + bytes(22))
            finally:
                any_socket.close()
            with open(OPEN_PORTS, "w") as file:
                file.write("0")

        elsewhere.act(sys.new_network, settle)

    def _resolve(self, rules: str, servers: str) -> None:
        """Sockets in the container's network, and a thread, in the host's, to serve them."""
        from dolium.runtime.resolver import DOMAIN, Resolver

        made: list[socket] = []

        def sockets() -> None:
            for kind in (SOCK_DGRAM, SOCK_STREAM):
                line = socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
                made.append(line)
                if kind == SOCK_STREAM:
                    line.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
                line.bind((egress.RESOLVER, DOMAIN))
            made[1].listen(16)
            made.append(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETFILTER))

        try:
            elsewhere.act(lambda: sys.enter_network(self.network), sockets)
        except BaseException:
            for each in made:
                each.close()
            raise
        self.end = os.eventfd(0, os.EFD_CLOEXEC)
        resolver = Resolver(egress.rules(rules, "network"), servers.split(), made[0], made[1], made[2], self.end)
        self.lock.acquire()
        try:
            start_new_thread(self._serve, (resolver,))
        except BaseException:
            resolver.drop()
            raise
        self.resolver = resolver

    def _serve(self, resolver: "Resolver") -> None:
        try:
            pthread_sigmask(SIG_BLOCK, valid_signals())  # signals are for the thread that waits for the container
            resolver.serve()
        finally:
            self.lock.release()

    def close(self) -> None:
        """End the resolver, and wait until it has ended.  Closing twice is no mistake."""
        _live.discard(self)
        if self.resolver:
            os.eventfd_write(self.end, 1)
            self.lock.acquire()
            self.resolver = None
        for fd in (self.end, self.network):
            if fd >= 0:
                os.close(fd)
        self.end = self.network = -1

    def forget(self) -> None:
        """In a forked child, where there is no such thread: the container is its parent's."""
        if self.resolver:
            self.resolver.drop()
            self.resolver = None
        for fd in (self.end, self.network):
            if fd >= 0:
                os.close(fd)
        self.end = self.network = -1


def _load(rules: bytes) -> None:
    """By nft(8), in this thread's network: a child is where the thread is that starts it."""
    import subprocess

    found = next((f"{each}/nft" for each in PATHS if each and os.access(f"{each}/nft", os.X_OK)), "")
    if not found:
        raise Unsupported("--network allow=", "there is no nft(8) to refuse the rest with", hint="apt install nftables")
    ended = subprocess.run([found, "-f", "-"], input=rules, capture_output=True)
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).decode("utf-8", "replace").split())[:300]
        hint = "it takes nft 0.9.2 or later, and a kernel with nf_tables, nft_ct and nft_reject_inet"
        raise DoliumError(f"the rules of the container's network cannot be loaded: nft: {said}", hint=hint)


def _after_fork() -> None:
    """A forked child must not keep its parent's networks alive."""
    for each in _live:
        each.forget()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
