"""What is known of the containers of an OCI runtime: one directory each, written whole or not at all, read by every verb.

    ROOT/ID/state.json   `format` 1: see Container.fields      ROOT/ID/config.json   the config as it was at `create`
    ROOT/ID/start        the socket on which a created container waits
    ROOT/ID/notify/      what it says to systemd is said here (runtime/notify.py)
    ROOT/ID/exec.N       plans of `exec` that may be asked for again (runtime/exec_again.py)
    ROOT/ID/answer       of a container that could not go on: what it told dolium-verbs (init/verbs.c), which does not explain

The lock is on ROOT/ID itself; it is held by whoever changes the container.  A pid counts only together with the boot and the
time at which it was started.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from time import monotonic, sleep

from dolium.core import document
from dolium.errors import DoliumError, Exists, NotFound, StateError, UsageError
from dolium.runtime import places, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGKILL = 9
FORMAT = 1
READABLE = (1,)
"""The formats that can be read: this one and, when there is one, the one before."""
PLANS = ("exec.0", "exec.1", "exec.2", "exec.3")
"""Of `exec` (runtime/exec_again.py).  A container has seldom more probes than three."""
NEW_PLAN = "exec.new"
FILES = ("start", "notify/notify.sock", *PLANS, NEW_PLAN, "config.json", "config.json.new", "answer", "state.json.new",
         "state.json")  # fmt: skip
"""All that there can be of a container, in the order in which it goes."""
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
PATIENCE = 10.0
"""Seconds that a verb waits for another one on the same container."""


def default_root() -> str:
    """Where containers are without --root."""
    return f"{places.state_path()}/oci"


def known_roots() -> "list[str]":
    """Where engines, set up as is usual, have dolium-oci keep containers: Podman nowhere else, Docker and containerd by --root."""
    spaces = "/run/containerd/runc"
    names = sorted(os.listdir(spaces)) if os.path.isdir(spaces) and os.access(spaces, os.R_OK) else []
    return [default_root(), "/run/docker/runtime-runc/moby", *(f"{spaces}/{name}" for name in names)]


def check_id(identity: str) -> str:
    """The id.  Raises UsageError for one that could be no directory, or somebody else's."""
    if not identity or len(identity) > 1024 or not set(identity) <= LETTERS or identity[0] == "." or len(identity) > 255:
        raise UsageError(f"`{identity[:80]}` is no id of a container: letters, digits and _ + - . (not first), 255 at most")
    return identity


class Container:
    """A container on disk.

    `fields`: id, bundle, annotations, created (ISO 8601), owner (uid); `status` as far as it was written: creating, created,
    started; `maker`, `pid` as (pid, start time, boot); `groups` cgroup directories by controller, `versions` of those.
    """

    __slots__ = ("top", "id", "fields", "fd", "spec")

    def __init__(self, top: str, identity: str, fields: "dict[str, Any]", fd: int = -1) -> None:
        self.top = top
        self.id = identity
        self.fields = fields
        self.fd = fd
        self.spec: dict[str, Any] | None = None  # once it is known

    @property
    def path(self) -> str:
        """Its directory."""
        return f"{self.top}/{self.id}"

    def save(self) -> None:
        """Write the fields down.  Raises OSError."""
        _replace(f"{self.path}/state.json", document.write({"format": FORMAT, **self.fields}))

    def config(self) -> "dict[str, Any]":
        """The config as it was at `create`, completed.  Raises SpecError and OSError."""
        if self.spec is None:
            spec: dict[str, Any] = document.read(document.text(f"{self.path}/config.json"), "config.json")
            spec["dolium"]["asked"] = set(spec["dolium"]["asked"])
            self.spec = spec
        return self.spec

    def has_hooks(self, kind: str) -> bool:
        """Whether its config has hooks of that kind; where that is not written down, it must be looked at."""
        return kind in self.fields.get("hooks", (kind,))

    def save_config(self, spec: "dict[str, Any]") -> None:
        """Keep it: what becomes of the bundle's file does not matter from here on."""
        self.spec = spec
        own = {**spec["dolium"], "asked": sorted(spec["dolium"]["asked"])}
        _replace(f"{self.path}/config.json", document.write({**spec, "dolium": own}))

    def lock(self) -> None:
        """Until `unlock`.  Raises StateError where another verb holds it on and on, NotFound where it has gone meanwhile."""
        self.hold()
        try:
            self.fields = _load(self.top, self.id)
        except (FileNotFoundError, DoliumError):
            self.unlock()
            raise _absent(self.id) from None

    def hold(self) -> None:
        """Lock the directory, whatever is in it.  Who removes one holds it, so that nobody makes a container in one that goes.
        Raises as `lock` does."""
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _absent(self.id) from None
        deadline = monotonic() + PATIENCE
        while True:
            try:
                flock(self.fd, LOCK_EX | LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > deadline:
                    self.unlock()
                    raise StateError(self.id, "busy with another verb", "free") from None
                sleep(0.005)
        try:
            found = os.stat(self.path).st_ino
        except FileNotFoundError:
            found = 0
        if found != os.fstat(self.fd).st_ino:
            self.unlock()
            raise _absent(self.id)

    def unlock(self) -> None:
        """Let others at it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Remove its directory."""
        for name in FILES:
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:
                pass
        for name in (f"{self.path}/notify", self.path):
            try:
                os.rmdir(name)
            except FileNotFoundError:
                pass

    def pid(self) -> int:
        """Of its first process if that lives, else 0."""
        found = self.fields.get("pid")
        return found[0] if found and is_alive(found) else 0

    def status(self) -> str:
        """creating, created, running, paused or stopped"""
        written: str = self.fields["status"]
        if self.pid():
            if written != "creating" and self.is_frozen():
                return "paused"
            return "running" if written == "started" else written
        if written == "creating" and is_alive(self.fields["maker"]):
            return "creating"
        return "stopped"

    def is_frozen(self) -> bool:
        """Whether its processes are paused."""
        name, value = self.freezer()
        try:
            with open(name) as file:
                return bool(name) and file.read().strip() in (value, "FREEZING")
        except OSError:
            return False

    def freezer(self) -> "tuple[str, str]":
        """The file that freezes it, and what freezes it there; empty where there is none."""
        groups, versions = self.fields["groups"], self.fields["versions"]
        if versions.get("freezer") == 1 and "freezer" in groups:
            return f"{groups['freezer']}/freezer.state", "FROZEN"
        if "unified" in groups:
            return f"{groups['unified']}/cgroup.freeze", "1"
        return "", ""


def _replace(path: str, text: str) -> None:
    """A file that appears whole.  It need not reach a disk: what it speaks of ends with the boot, and what a power failure may
    leave of it, an empty file, is a trace that `delete --force` removes."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(text.encode("utf-8", "surrogateescape"))
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)


def kill(pid: int) -> None:
    """A container's first process, and with it its PID namespace; helpers of ours are its parents or gone."""
    try:
        os.kill(pid, SIGKILL)
    except ProcessLookupError:
        pass


def identify(pid: int) -> "tuple[int, int, str]":
    """A process as it is written down: pid, start time in clock ticks, boot.  Raises OSError where it is gone."""
    return pid, process.stat(pid)[2], process.boot_id()


def is_alive(found: "tuple[int, int, str] | list[Any]") -> bool:
    """Whether that very process lives; one that is dead but not waited for does not."""
    pid, started, boot = found
    try:
        letter, _, now = process.stat(pid)
    except (OSError, ValueError, IndexError):
        return False
    return now == started and boot == process.boot_id() and letter not in "ZX"


def make_root(top: str) -> None:
    """The directory of all containers, for its owner alone (CVE-2021-41091).  Raises OSError and DoliumError."""
    if top == default_root():
        places.below(places.state(), "oci")
        return
    os.makedirs(top, 0o700, exist_ok=True)


def new(top: str, identity: str, fields: "dict[str, Any]") -> Container:
    """A container that is being made, locked.  Raises Exists."""
    check_id(identity)
    make_root(top)
    container = Container(top, identity, fields)
    while True:
        try:
            os.mkdir(container.path, 0o700)
        except FileExistsError:
            raise Exists("container", identity) from None
        try:
            container.hold()
            break
        except NotFound:  # a `delete --force` was quicker, and has taken it for remains
            pass
    container.save()
    return container


def find(top: str, identity: str) -> Container:
    """The container of that id.  Raises NotFound, DoliumError for what cannot be read, UsageError."""
    check_id(identity)
    try:
        return Container(top, identity, _load(top, identity))
    except FileNotFoundError:
        raise _absent(identity) from None


def _absent(identity: str) -> NotFound:
    error = NotFound("container", identity)
    error.message = f"container does not exist: `{identity}`"  # containerd, podman and BuildKit look for these words
    return error


def _load(top: str, identity: str) -> "dict[str, Any]":
    with open(f"{top}/{identity}/state.json", encoding="utf-8", errors="surrogateescape") as file:
        found: dict[str, Any] = document.read(file.read(), "state.json")
    if not isinstance(found, dict) or found.pop("format", None) not in READABLE:
        raise DoliumError(f"`{top}/{identity}/state.json` was not written by this version of Dolium, nor by the one before")
    return found


def every(top: str) -> "list[Container]":
    """All containers that can be read, by id."""
    try:
        names = sorted(os.listdir(top))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        try:
            found.append(find(top, name))
        except DoliumError:
            continue
    return found
