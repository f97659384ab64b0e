"""Feed mutated plans to dolium-init: python3 mutate.py PROGRAMS SEED COUNT, as root of throw-away namespaces only.

Prints one line for each plan that ended in a sanitizer's report or a signal of its own making; exits 1 if there was one.
"""

import os
import random
import select
import signal
import sys
import tempfile

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(os.path.dirname(TESTS), "src"), TESTS]

import invent

from dolium.core import spawn, wire
from dolium.plan import rtnetlink

SECONDS = 5
EXTREMES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FIELDS = [(0, 2), (2, 1), (4, 2), (6, 2), (10, 2), (12, 2), (14, 2), (16, 2), (18, 2), (20, 4), (24, 4), (28, 4), (32, 4),
          (40, 8), (48, 8), (56, 8)]  # fmt: skip
"""(offset, size) of the fields of a record that the helper reads, init/wire.h"""


def plans() -> "list[bytes]":
    """Unmutated ones: a file read as `--user` reads it, a whole container, and what each list operation does."""
    step, out = wire.Step, wire.OUTSIDE
    reading = [step("open", out, "a", path="/etc", n1=os.O_PATH, out=6),
               step("read_file", out, "b", fd=6, path="passwd", data=bytes(64), accept=(2, 20, 27))]  # fmt: skip
    own = invent.facts("none", rootless=True, uid=0, gid=0)  # as far as these namespaces let it: nodes are bound, not made
    whole = invent.plan(own, "@host", argv=["true"], tmpfs=[("/scratch", ())], cwd="/scratch", ulimits=[("RLIMIT_CORE", 0, 0)])
    named = [*reading, step("read_file", out, "c", path="/etc/group", data=bytes(4096),
                            on=2, other=step("read_file", out, "d", path="/etc/hosts", data=bytes(4096)))]  # fmt: skip
    made = [step("new_mount", out, "e", path="tmpfs", data=wire.strings("size=64k", "mode=755"), out=9),
            *(each for each in whole if each.actor == out and each.fd == 9), *reading]  # fmt: skip
    return [bytes(wire.encode(each, {}).data) for each in (reading, named, made, whole)]


def crafted() -> "list[bytes]":
    """Plans that do not hold together, each in one way; (offset in the first record, size, value) is what is put there."""
    step, out = wire.Step, wire.OUTSIDE
    start = wire.HEADER.size
    call = step("exec", out, "a", data=wire.strings("/none", "x", "A=b"), n1=1, n2=1, n3=1)
    reading = step("read_file", out, "a", path="/etc/group", data=bytes(4096))
    absent = step("open", out, "a", path="/none")
    changes = [
        (absent, [(10, 2, 2), (12, 2, 0)]), (absent, [(10, 2, 2), (12, 2, 1)]), (absent, [(12, 2, 0x8000)]),
        *((call, [(40, 8, a), (48, 8, b), (56, 8, c)]) for a, b, c in (
            (1000, 1, 1), (-1, 1, 1), (1, -3, 1), (1, 1, -1), (1 << 61, 0, 0), (1 << 62, 1 << 62, 0), (12, 12, 12), (0, 0, 0))),
        *((reading, [(28, 4, place)]) for place in (1, 4, start, start + 28, 0x7FFFFFFF, 0xFFFFFFFF)),
        *((reading, [(32, 4, length)]) for length in (0, 0x7FFFFFFF, 0xFFFFFFFF)), (reading, [(0, 2, 0xFFFF)]),
    ]  # fmt: skip
    found = []
    for one, fields in changes:
        plan = bytearray(wire.encode([one, absent], {}).data)
        for offset, size, value in fields:
            plan[start + offset : start + offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        found.append(bytes(plan))
    root = step("open", out, "a", path="/", n1=os.O_PATH, out=6)
    for op in ("mkdir", "mknod", "symlink", "write_file", "mask", "read_only", "open_ns", "new_mount", "keep", "exec", "write",
               "netlink"):
        for size in (1, 4096, 70000):
            strange = step(op, out, "a", path="x" * size, path2="y" * size, data=b"9" * size, fd=6, fd2=6, out=7)
            plan = wire.encode([root, strange], {}).data
            odd = -len(plan) % 4096  # nothing readable comes after the mapping's last byte
            strange.data += b"9" * odd
            found += [plan, bytes(wire.encode([root, strange], {}).data)]
    up = rtnetlink.batch(rtnetlink.set_up("lo"), rtnetlink.ask_link("lo"))
    for size, n1, n2, n3 in ((8, 0, 0, 0), (15, 0, 0, 0), (0xFFFFFFFF, 0, 0, 0), (32, len(up) - 3, 0, 0), (32, -1, 0, 0), (32, 1 << 62, 0, 0),
                             (32, 0, len(up) - 3, 0), (32, 0, -5, 0), (32, 0, 0, 3)):  # fmt: skip
        odd_batch = step("netlink", out, "a", data=size.to_bytes(4, "little") + up[4:], path="lo", fd2=6, n1=n1, n2=n2, n3=n3)
        found.append(bytes(wire.encode([root, odd_batch], {}).data))
    found.append(bytes(wire.encode([step("new_mount", out, "a", path="tmpfs", data=b"size={%s" % (b"9" * 30))], {}).data))
    return found


def mutate(plan: bytes, chance: random.Random) -> bytes:
    """A few changes: extremes in fields of records or of the header, random bytes anywhere, a piece cut off."""
    data = bytearray(plan)
    count = int.from_bytes(data[8:12], "little")
    for _ in range(chance.randint(1, 4)):
        kind = chance.random()
        if kind < 0.6:
            offset, size = chance.choice(FIELDS)
            place = wire.HEADER.size + wire.RECORD.size * chance.randrange(count) + offset
            near = chance.randrange(len(data) + 16)
            value = chance.choice((*EXTREMES, near, chance.randrange(len(wire.OPERATIONS)))) & (1 << 8 * size) - 1
            data[place : place + size] = value.to_bytes(size, "little")
        elif kind < 0.7:
            place = chance.choice((0, 4, 8, 32 + 2 * chance.randrange(wire.SLOTS)))
            data[place : place + 2] = chance.choice(EXTREMES).to_bytes(4, "little")[:2]
        elif kind < 0.95:
            data[chance.randrange(wire.HEADER.size, len(data))] = chance.randrange(256)
        else:
            del data[chance.randrange(1, len(data)) :]
            break
    return bytes(data)


def carry_out(plan: bytes) -> str:
    """What was wrong with the helper's end: empty if it ended by itself and without a report."""
    with tempfile.TemporaryFile() as errors:
        null = os.open("/dev/null", os.O_RDWR)
        helper = spawn.start(plan, (), (null, null, errors.fileno()))
        os.close(null)
        watch = os.pidfd_open(helper.pid)
        hung = not select.select([watch], [], [], SECONDS)[0]
        if hung:  # a plan may make it wait for ever, as two actors can for each other: no fault of memory
            os.kill(helper.pid, signal.SIGKILL)
        os.close(watch)
        helper.close()
        status = os.waitstatus_to_exitcode(helper.reap())
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace")
    if "CHECK failed" in text and "sigaltstack" in text:
        return ""  # the sanitizer itself stumbles: a filter that the plan has loaded forbids it sigaltstack(2)
    if "Sanitizer" in text or "runtime error" in text:
        lines = [line for line in text.splitlines() if "Sanitizer" in line or "error:" in line or " #" in line]
        return " | ".join(line.strip() for line in lines[:6])
    if status < 0 and not (hung and status == -signal.SIGKILL):
        return f"ended by signal {-status}"
    return ""


def main() -> int:
    spawn.PROGRAMS, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    bases, wrong = plans(), 0
    fixed = [*bases, *crafted()]
    for number in range(len(fixed) + count):
        source = random.Random(seed * 1_000_000 + number)
        plan = fixed[number] if number < len(fixed) else mutate(bases[number % len(bases)], source)
        if problem := carry_out(plan):
            wrong += 1
            print(f"plan {number} of seed {seed}: {problem}", flush=True)
    print(f"{len(fixed) + count} plans carried out, {wrong} badly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
