"""A kubelet's streaming calls, as `kubectl exec`, `attach` and `port-forward` come to a runtime: a WebSocket with a channel's number
before each message (v4.channel.k8s.io; RFC 6455)."""

import base64
import json
import os
import socket
import struct
from urllib.parse import urlsplit

STDIN, STDOUT, STDERR, STATUS = range(4)
TEXT, BINARY, CLOSE = 1, 2, 8


class Stream:
    """One session, at the address that the call has given."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.socket = socket.create_connection((parts.hostname, parts.port), 20)
        self.socket.sendall(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nOrigin: http://{parts.netloc}\r\n\r\n".encode())  # fmt: skip
        self.file = self.socket.makefile("rb")
        answer = self.file.readline()
        assert b" 101 " in answer, answer
        while self.file.readline() != b"\r\n":
            pass

    def send(self, data: bytes, channel: int = STDIN) -> None:
        data = bytes([channel]) + data
        mask = os.urandom(4)
        head = bytes([0x80 | BINARY, 0x80 | len(data)]) if len(data) < 126 else struct.pack("!BBH", 0x80 | BINARY, 0x80 | 126, len(data))
        self.socket.sendall(head + mask + bytes(each ^ mask[index % 4] for index, each in enumerate(data)))

    def read(self) -> "tuple[int, bytes] | None":
        """The next message: its channel, what it says.  None at the end."""
        head = self.file.read(2)
        if len(head) < 2 or head[0] & 15 == CLOSE:
            return None
        length = head[1] & 127
        if length == 126:
            length = struct.unpack("!H", self.file.read(2))[0]
        data = self.file.read(length)
        return (data[0], data[1:]) if data else self.read()

    def rest(self) -> "dict[int, bytes]":
        """All that comes until the end, by channel."""
        found: dict[int, bytes] = {}
        while message := self.read():
            found[message[0]] = found.get(message[0], b"") + message[1]
        return found

    def until(self, text: bytes) -> bytes:
        """What the program says, up to that."""
        found = b""
        while text not in found and (message := self.read()):
            found += message[1] if message[0] != STATUS else b""
        return found


def code(status: bytes) -> int:
    """The exit code that the last message tells of."""
    told = json.loads(status)
    if told["status"] == "Success":
        return 0
    return int(next((each["message"] for each in told.get("details", {}).get("causes", ()) if each["reason"] == "ExitCode"), -1))
