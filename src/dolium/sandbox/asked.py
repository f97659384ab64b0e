"""What a call of the library asks for, as the engine reads it."""

import os

from dolium.engine import config
from dolium.errors import CommandFailed, CommandTimeout, SpecError, UsageError
from dolium.plan import egress, quantities
from dolium.sandbox.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dolium.engine.snapshots import Image
    from dolium.runtime.ending import Ending
    from dolium.sandbox.exchange import Exchange
    from dolium.sandbox.snapshot import Snapshot

SIGKILL = 9
MAX_OUTPUT = 16 << 20
"""Bytes of stdout, and of stderr, that are kept unless told otherwise."""
LEAST_DISK = 65536


class Mount:
    """A path of the host, or (`kind` "tmpfs") an empty file system, at `target` in the container.  Made by `ro`, `rw`, `tmp`."""

    __slots__ = ("kind", "source", "target", "size")

    def __init__(self, kind: str, source: str, target: str, size: int = 0) -> None:
        self.kind: str = kind
        self.source: str = source
        self.target: str = target
        self.size: int = size

    def __repr__(self) -> str:
        return f"Mount({self.kind!r}, {self.source!r}, {self.target!r}, {self.size})"


def ro(source: "str | os.PathLike[str]", target: "str | None" = None) -> Mount:
    """A file or directory of the host that programs in the container can read, at the same path unless `target` is given."""
    return _bind("ro", source, target)


def rw(source: "str | os.PathLike[str]", target: "str | None" = None) -> Mount:
    """The same, which they can write, too; what root in the container writes belongs to the caller, as far as the file
    system can map ids (`Unsupported` is raised where it cannot and the caller is root)."""
    return _bind("rw", source, target)


def tmp(target: str, size: "int | str | None" = None) -> Mount:
    """An empty directory in memory, of at most `size` bytes (or text such as "64M")."""
    return Mount("tmpfs", "", target, 0 if size is None else quantities.size(size, "size", 4096))


def allow(*given: str) -> str:
    """The network of a container that may talk to these and to nobody else: `network=dolium.allow("pypi.org:443", ...)`.

    Each is HOST:PORT: a name, `*.NAME` (all below NAME), an address or a subnet, and a port, a range or `*`.  For root only, as
    `bridge` is.  Raises SpecError.
    """
    if not given:
        raise SpecError("allow", "nothing is allowed", hint='for nothing at all: network="none"')
    text = egress.WORD + ",".join(map(str, given))
    egress.rules(text, "allow")
    return text


def _bind(kind: str, source: "str | os.PathLike[str]", target: "str | None") -> Mount:
    path = os.path.abspath(os.fspath(source))
    return Mount(kind, path, path if target is None else target)


def image(given: "str | Snapshot") -> "str | Image":
    """What the engine makes a container of.  Raises UsageError."""
    if isinstance(given, str):
        return given
    found: Image | None = getattr(given, "_image", None)
    if found is None:
        raise UsageError(f"image: expected a str or what Sandbox.snapshot returns, got {type(given).__name__}")
    return found


def options(*, env: "Mapping[str, str] | None", cwd: "str | None", memory: "int | str | None", cpus: "float | str | None",
            pids: "int | None", network: str, mounts: "Iterable[str | Mount]",
            disk: "int | str | None") -> config.Options:  # fmt: skip
    """Raises UsageError and SpecError."""
    found = config.Options()
    found.env = {**env} if env else {}
    found.cwd = cwd
    found.network = network
    if network not in ("none", "host", "bridge"):
        if not network.startswith(egress.WORD):
            raise UsageError(f"network: expected none, host, bridge or what dolium.allow returns, got {network!r}")
        egress.rules(network, "network")
    if memory is not None:
        found.memory = quantities.size(memory, "memory", 4096)
    if cpus is not None:
        found.cpus = quantities.cpus(cpus, "cpus")
    if pids is not None:
        found.pids = quantities.integer(pids, "pids", 1, 1 << 22)
    if disk is not None:
        found.disk = quantities.size(disk, "disk", LEAST_DISK)
    for each in mounts:
        if isinstance(each, str):
            found.volumes.append(quantities.volume(each, "mounts"))
        elif each.kind == "tmpfs":
            found.tmpfs.append((each.target, (f"size={each.size}",) if each.size else ()))
        else:
            found.volumes.append((each.source, each.target, each.kind == "ro"))
    return found


def words(argv: "Sequence[str | os.PathLike[str]]") -> "list[str]":
    """The command as a list of strings.  Raises UsageError."""
    found = [os.fspath(each) for each in argv] if not isinstance(argv, (str, bytes)) else []
    if not found or not found[0] or not all(isinstance(each, str) for each in found):
        raise UsageError("argv: expected a list of strings, the program first", hint='for a shell line: ["sh", "-c", line]')
    return found


class Text:
    """Whether output is text, and of which encoding; as subprocess has it."""

    __slots__ = ("encoding", "errors")

    def __init__(self, text: bool, encoding: "str | None", errors: "str | None") -> None:
        self.encoding: str = encoding or ("utf-8" if text or errors else "")
        self.errors: str = errors or "replace"

    def taken(self, data: "str | bytes | None") -> bytes:
        """What is to go in."""
        return data.encode(self.encoding or "utf-8", self.errors) if isinstance(data, str) else data or b""

    def given(self, data: bytes) -> "str | bytes":
        """What has come out."""
        if not self.encoding:
            return data
        return data.decode(self.encoding, self.errors).replace("\r\n", "\n")


def result(argv: "list[str]", ending: "Ending", exchange: "Exchange", text: Text, reason: str, seconds: float,
           check: bool) -> Result:  # fmt: skip
    """The result of a run that we ended for that reason, or nobody (empty).  Raises, if asked, CommandFailed and
    CommandTimeout."""
    if ending.out_of_memory and ending.signal == SIGKILL:
        reason = "memory"
    limits = [reason] if reason else []
    if exchange.truncated and "output" not in limits:
        limits.append("output")
    found = Result(
        args=argv, exit_code=124 if reason == "timeout" else ending.exit_code, signal=ending.signal,
        stdout=text.given(exchange.kept[0].data()), stderr=text.given(exchange.kept[1].data()),
        wall_seconds=seconds, cpu_seconds=ending.cpu_seconds, peak_memory_bytes=ending.peak_memory,
        ended_by=reason or ("signal" if ending.signal else "exit"), limits_hit=tuple(limits),
        truncated=exchange.truncated)  # fmt: skip
    if check and (found.exit_code or reason):
        raise (CommandTimeout if reason == "timeout" else CommandFailed)(argv, found)
    return found
