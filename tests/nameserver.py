"""A name server for the tests: `nameserver.py ADDRESS ZONE`, where ZONE is JSON {name: [[type, value, seconds], ...]}.

It answers over UDP and TCP, writes down what it is asked for, one name a line, and a name of no zone is NXDOMAIN.  A name that begins
with `cut` is cut short over UDP; one with `silent` gets no answer; one with `forged` first an answer with another id.
"""

import json
import socket
import struct
import sys
import threading

TYPES = {"A": 1, "CNAME": 5}


def packed(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


def answer(data: bytes, zone: dict, stream: bool) -> bytes:
    number, _, _, _, _, _ = struct.unpack_from(">HHHHHH", data)
    at, labels = 12, []
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode())
        at += data[at] + 1
    name, kind = ".".join(labels).lower(), struct.unpack_from(">H", data, at + 1)[0]
    print(name, kind, flush=True)
    records, here = [], name
    for _ in range(9):
        found = [each for each in zone.get(here, []) if TYPES[each[0]] in (kind, 5)]
        for what, value, seconds in found:
            content = socket.inet_aton(value) if what == "A" else packed(value)
            records.append(packed(here) + struct.pack(">HHIH", TYPES[what], 1, seconds, len(content)) + content)
        alias = [value for what, value, _ in found if what == "CNAME"]
        if not alias:
            break
        here = alias[0]
    flags = 0x8180 | (0 if name in zone else 3)
    if name.startswith("cut") and not stream:
        flags, records = flags | 0x200, []
    return struct.pack(">HHHHHH", number, flags, 1, len(records), 0, 0) + data[12 : at + 5] + b"".join(records)


def stream(desk: socket.socket, zone: dict) -> None:
    while True:
        line, _ = desk.accept()
        data = line.recv(4096)
        if len(data) > 2:
            found = answer(data[2:], zone, True)
            line.sendall(len(found).to_bytes(2, "big") + found)
        line.close()


def main() -> None:
    zone = json.loads(sys.argv[2])
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind((sys.argv[1], 53))
    desk = socket.socket()
    desk.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    desk.bind((sys.argv[1], 53))
    desk.listen()
    threading.Thread(target=stream, args=(desk, zone), daemon=True).start()
    print("ready", flush=True)
    while True:
        data, who = door.recvfrom(4096)
        if data[13:19] == b"silent":
            continue
        found = answer(data, zone, False)
        if data[13:19] == b"forged":
            wrong = bytes([found[0] ^ 1]) + found[1:-4] + bytes((203, 0, 113, 66))
            door.sendto(wrong, who)
        door.sendto(found, who)


main()
