"""A container's resolver: it answers for the names that the container may talk to, and opens the way to what they mean.

One thread of the process that the container belongs to, and lives no longer.  Its sockets are of two networks: it listens, and
fills sets of addresses, in the container's, and asks the host's name servers in the host's.  An address is in its set before
the program hears of it, and somewhat longer than the program may keep it.  When this thread is gone the sets run empty.
"""

import os
from _socket import AF_INET, AF_INET6, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM, socket
from select import POLLIN, POLLOUT, poll
from time import monotonic, sleep

from dolium.plan import dns, egress, nfnetlink, rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.plan.egress import Rule

PATIENCE = 2.0
"""Seconds for one name server to answer; then it is the turn of the next one."""
ROUNDS = 2
SHORTEST, LONGEST, GRACE = 5, 3600, 60
"""Seconds that an answer is good for at least and at most, and that its addresses are open beyond that: who has just heard of one
has not called it yet."""
WAITING, CALLERS, IDLE = 64, 16, 10.0
"""Questions that are being asked at one time; connections, and seconds that one may be silent."""
RATE, BURST = 100.0, 200.0
"""Questions in a second, and at once; what is beyond is not heard."""
DOMAIN = 53
RTN_UNICAST = 1
EINPROGRESS = 115


class Waiting:
    """One question that a name server has been asked: by `line`, with that `number`; `server` is its place in the list, `tell`
    takes the answer.  Over TCP, `rest` is what is to be sent still and `heard` what has come."""

    __slots__ = ("asked", "tell", "line", "number", "server", "until", "stream", "rest", "heard")

    def __init__(self, asked: dns.Question, tell: "Callable[[bytes], None]") -> None:
        self.asked: dns.Question = asked
        self.tell: Callable[[bytes], None] = tell
        self.line: socket | None = None
        self.number: int = 0
        self.server: int = -1
        self.until: float = 0.0
        self.stream: bool = False
        self.rest: bytes = b""
        self.heard: bytes = b""


class Caller:
    """A program that asks over TCP: its `line`, what has come of its next question, and until when it may be silent."""

    __slots__ = ("line", "heard", "until")

    def __init__(self, line: socket) -> None:
        self.line: socket = line
        self.heard: bytes = b""
        self.until: float = monotonic() + IDLE


class Resolver:
    """`serve` it in a thread of its own that is in the host's network; `door`, `desk` (UDP and TCP) and `firewall` are sockets of
    the container's network, `end` a descriptor that becomes readable when it is to end."""

    def __init__(self, rules: "list[Rule]", servers: "list[str]", door: socket, desk: socket, firewall: socket, end: int) -> None:
        self.rules = rules
        self.servers = servers
        self.door = door
        self.desk = desk
        self.firewall = firewall
        self.end = end
        self.kinds: list[tuple[int, int]] = egress.kinds(rules)
        self.waiting: dict[int, Waiting] = {}
        self.callers: dict[int, Caller] = {}
        self.poll: poll = poll()
        self.credit: float = BURST
        self.counted: float = monotonic()
        self.routes: socket = socket(16, 3 | SOCK_CLOEXEC, 0)  # AF_NETLINK, SOCK_RAW: the host's routes

    def serve(self) -> None:
        """Until the end; whatever comes, it goes on."""
        try:
            for each in (self.door, self.desk):
                self.poll.register(each, POLLIN)
            self.poll.register(self.end, POLLIN)
            while True:
                events = self.poll.poll(self._pause())
                for fd, _ in events:
                    if fd == self.end:
                        return
                    try:
                        self._turn(fd)
                    except OSError:  # no descriptor left, above all; what waits will time out
                        sleep(0.01)
                self._look_at_the_clock()
        finally:
            self.drop()

    def drop(self) -> None:
        """Close all its sockets."""
        lines = [each.line for each in self.waiting.values()] + [each.line for each in self.callers.values()]
        for line in (*lines, self.door, self.desk, self.firewall, self.routes):
            if line:
                line.close()

    def _pause(self) -> "float | None":
        ends = [each.until for each in self.waiting.values()] + [each.until for each in self.callers.values()]
        return max(0.0, min(ends) - monotonic()) * 1000 + 1 if ends else None

    def _turn(self, fd: int) -> None:
        if fd == self.door.fileno():
            data, address = self.door.recvfrom(4096)
            self._hear(data, lambda text: self._send(text, address))
        elif fd == self.desk.fileno():
            self._admit()
        elif fd in self.callers:
            self._listen(self.callers[fd])
        elif fd in self.waiting:
            self._receive(self.waiting[fd])

    def _send(self, text: bytes, address: "tuple[str, int]") -> None:
        try:
            self.door.sendto(text, MSG_DONTWAIT, address)
        except OSError:  # it does not listen any more
            pass

    def _admit(self) -> None:
        fd, _ = self.desk._accept()  # type: ignore[attr-defined]  # of the module below `socket`
        line = socket(AF_INET, SOCK_STREAM, 0, fd)
        line.setblocking(False)
        os.set_inheritable(fd, False)
        if len(self.callers) >= CALLERS:
            line.close()
            return
        self.callers[fd] = Caller(line)
        self.poll.register(fd, POLLIN)

    def _listen(self, caller: Caller) -> None:
        try:
            data = caller.line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        caller.heard += data
        while len(caller.heard) >= 2:
            size = 2 + int.from_bytes(caller.heard[:2], "big")
            if len(caller.heard) < size:
                break
            text, caller.heard = caller.heard[2:size], caller.heard[size:]
            caller.until = monotonic() + IDLE
            if not self._hear(text, lambda found: self._answer(caller, found)):
                data = b""
        if not data or len(caller.heard) > 4096:
            self._dismiss(caller)

    def _answer(self, caller: Caller, text: bytes) -> None:
        try:
            caller.line.send(len(text).to_bytes(2, "big") + text)
        except OSError:  # it does not listen any more, or not fast enough
            self._dismiss(caller)

    def _dismiss(self, caller: Caller) -> None:
        fd = caller.line.fileno()
        if self.callers.pop(fd, None):
            self.poll.unregister(fd)
            caller.line.close()

    def _hear(self, data: bytes, tell: "Callable[[bytes], None]") -> bool:
        """A question; whether it will be answered."""
        now = monotonic()
        self.credit, self.counted = min(BURST, self.credit + (now - self.counted) * RATE), now
        if self.credit < 1:
            return False
        self.credit -= 1
        asked = dns.question(data)
        if asked is None:
            return False
        code = asked.refusal
        if not code and not any(each.means(asked.name) for each in self.rules):
            code = dns.NO_SUCH_NAME  # REFUSED would have programs ask again and again
        if code or asked.type != dns.A:  # no IPv6, and nothing else: there is no way to it
            tell(dns.reply(asked, code, [], 0))
        elif len(self.waiting) >= WAITING:
            tell(dns.reply(asked, dns.SERVER_FAILURE, [], 0))
        else:
            self._ask(Waiting(asked, tell))
        return True

    def _ask(self, one: Waiting, stream: bool = False) -> None:
        """The next name server, or over TCP the same once more; a socket for each question, so that its port is not known."""
        self._forget(one)
        while stream or one.server + 1 < len(self.servers) * ROUNDS:
            one.server += not stream
            server = self.servers[one.server % len(self.servers)]
            one.stream, stream = stream, False
            one.number = int.from_bytes(os.urandom(2), "big")
            text = dns.query(one.number, one.asked.name)
            kind = SOCK_STREAM if one.stream else SOCK_DGRAM
            line = socket(AF_INET6 if ":" in server else AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
            try:
                known = line.connect_ex((server, DOMAIN))
                if known not in (0, EINPROGRESS):
                    raise OSError(known, "")
                if one.stream:
                    one.rest, one.heard = len(text).to_bytes(2, "big") + text, b""
                else:
                    line.send(text)
            except OSError:  # no way to this one
                line.close()
                continue
            one.line, one.until = line, monotonic() + PATIENCE
            self.waiting[line.fileno()] = one
            self.poll.register(line.fileno(), POLLOUT if one.stream else POLLIN)
            return
        one.tell(dns.reply(one.asked, dns.SERVER_FAILURE, [], 0))

    def _forget(self, one: Waiting) -> None:
        if one.line:
            fd = one.line.fileno()
            self.waiting.pop(fd, None)
            self.poll.unregister(fd)
            one.line.close()
            one.line = None

    def _receive(self, one: Waiting) -> None:
        assert one.line
        try:
            data = self._stream(one) if one.stream else one.line.recv(4096)
        except BlockingIOError:
            return
        except OSError:  # nobody is there
            self._ask(one)
            return
        if not data:
            return
        found = dns.answer(data, one.number, one.asked.name)
        if found is None:
            if one.stream:
                self._ask(one)
            return  # a stray; the true one may come still
        if found.cut and not one.stream:
            self._ask(one, stream=True)
        elif found.code in (dns.NO_ERROR, dns.NO_SUCH_NAME):
            self._forget(one)
            one.tell(self._open(one.asked, found))
        else:
            self._ask(one)

    def _stream(self, one: Waiting) -> bytes:
        """A whole answer over TCP, or nothing yet.  Raises OSError."""
        assert one.line
        if one.rest:
            one.rest = one.rest[one.line.send(one.rest) :]
            if not one.rest:
                self.poll.modify(one.line.fileno(), POLLIN)
            return b""
        data = one.line.recv(65536)
        one.heard += data
        size = int.from_bytes(one.heard[:2], "big")
        if not data or len(one.heard) > 2 + 65535:
            raise OSError("it has hung up")
        return one.heard[2 : 2 + size] if len(one.heard) >= 2 + size > 2 else b""

    def _open(self, asked: dns.Question, found: dns.Answer) -> bytes:
        """Let the container go where the name leads; then the answer.  A name leads to nobody near, nor to this host itself, where
        a rule does not name the address, too: a name's owner could say that it is anybody's (DNS rebinding)."""
        far = [each for each in found.addresses if not egress.near(each) and self._is_far(each)]
        told = [each for each in found.addresses if each in far or any(rule.holds(each) for rule in self.rules)][: dns.MOST]
        seconds = max(SHORTEST, min(found.seconds, LONGEST))
        ports = {each.ports for each in self.rules if each.means(asked.name)}
        sets = [egress.set_of(number) for number, kind in enumerate(self.kinds) if kind in ports]
        new = [each for each in told if each in far]
        if new and not self._remember(sets, new, seconds + GRACE):
            return dns.reply(asked, dns.SERVER_FAILURE, [], 0)
        return dns.reply(asked, found.code, told, seconds)

    def _remember(self, sets: "list[str]", addresses: "list[bytes]", seconds: int) -> bool:
        """Whether they are in the sets now."""
        codes = []
        try:
            self.firewall.send(nfnetlink.remember(egress.TABLE, sets, addresses, seconds))
            while True:
                for kind, _, content in rtnetlink.messages(self.firewall.recv(1 << 16, MSG_DONTWAIT)):
                    if kind == rtnetlink.ERROR:
                        codes.append(int.from_bytes(content[:4], "little", signed=True))
        except BlockingIOError:
            return codes == [0]
        except OSError:
            return False

    def _is_far(self, address: bytes) -> bool:
        """Whether the host sends what goes there to somebody else: it is not its own address, nor a broadcast."""
        try:
            self.routes.send(rtnetlink.ask_route(address))
            for kind, _, content in rtnetlink.messages(self.routes.recv(1 << 16)):
                return kind == rtnetlink.NEWROUTE and rtnetlink.ROUTE.unpack_from(content)[7] == RTN_UNICAST
        except OSError:
            pass
        return False

    def _look_at_the_clock(self) -> None:
        now = monotonic()
        for one in [each for each in self.waiting.values() if each.until <= now]:
            self._ask(one)
        for caller in [each for each in self.callers.values() if each.until <= now]:
            self._dismiss(caller)
