"""HOME of a program whose config names none: that of its user in the container's own /etc/passwd, as runc and crun have it, on
which engines rely.  dolium-init reads the file, in the container; the words are looked for here, and put into the plan."""

import os

from dolium.core import wire
from dolium.plan import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.core.spawn import Helper
    from dolium.core.wire import Step


def put(helper: "Helper", steps: "list[Step]") -> None:
    """At the meeting before exec: inside has read the file, and waits.  Raises OSError."""
    rows = wire.acting(steps)
    data = helper.report()
    reading = next(index for index, step in enumerate(rows) if step.op == "read_file")
    execute = next(index for index, step in enumerate(rows) if step.op == "exec")
    uid = next(step.n1 for step in steps if step.op == "home")
    row = wire.RECORD.unpack_from(data, wire.HEADER.size + wire.RECORD.size * execute)
    place, size = row[13] + row[14] - program.ROOM, program.ROOM - 1  # the NUL behind it stays
    home = of(wire.read_result(data, reading), uid)
    os.pwrite(helper.plan, (b"HOME=" + home)[:size] if len(home) < size - 5 else b"HOME=/", place)


def of(passwd: bytes, uid: int) -> bytes:
    """The home of that user, passwd(5); `/` for one that has none."""
    wanted = b"%d" % uid
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) > 5 and fields[2] == wanted and b"\0" not in fields[5]:
            return fields[5] or b"/"
    return b"/"
