"""`checkpoint` of an OCI container: criu writes its processes down, and ends them unless they are to go on.

    IMAGES/*.img              criu's
    IMAGES/descriptors.json   what its first process has as standard input, output and error: names by which criu finds them when
                              it restores, or whatever they are
    IMAGES/external.json      which of its mounts are the host's, plan/checkpoint.py

Whoever can write there is as good as root: what is restored is what the files say.
"""

import os

from dolium.core import document, sys
from dolium.errors import HookError, StateError, Unsupported, UsageError
from dolium.plan import checkpoint as planning
from dolium.plan import criu_messages as messages
from dolium.runtime import criu, delete, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOG = "dump.log"


class Asked:
    """What the words of `checkpoint` and `restore` ask of criu: its `images`, a directory for its logs in `work`, one of
    earlier images, `parent`, relative to the first; the program itself; and `flags` by their names."""

    __slots__ = ("images", "work", "parent", "criu", "flags")

    def __init__(self, flags: "dict[str, Any]") -> None:
        self.flags = flags
        self.images = os.path.abspath(flags.get("image-path") or "checkpoint")
        self.work = os.path.abspath(flags["work-path"]) if flags.get("work-path") else self.images
        self.parent: str = flags.get("parent-path", "")
        self.criu = ""


class Directories:
    """`fds`: descriptors of the images' directory and of the logs'.  Where they are not there they are made, for their owner
    alone: a memory's secrets are in them.  Raises OSError."""

    def __init__(self, asked: Asked) -> None:
        self.fds: list[int] = []
        try:
            for path in (asked.images, asked.work):
                os.makedirs(path, 0o700, exist_ok=True)
                self.fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Both."""
        for fd in self.fds:
            os.close(fd)


def needs_root() -> None:
    """Raises Unsupported."""
    if os.geteuid():
        raise Unsupported("checkpoint and restore", "only root can have criu do it")


def checkpoint(top: str, identity: str, asked: Asked) -> "list[HookError]":
    """`checkpoint`; whatever fails, the container goes on.  Raises DoliumError; the poststop hooks that failed are returned."""
    needs_root()
    container = state.find(top, identity)
    container.lock()
    try:
        status = container.status()
        if status not in ("running", "paused"):
            raise StateError(identity, status, "running")
        goes_on = "leave-running" in asked.flags or "pre-dump" in asked.flags
        _dump(container, asked)
        if goes_on:
            return []
        delete.destroy(container)
        return delete.remove(container)
    finally:
        container.unlock()


def _dump(container: state.Container, asked: Asked) -> None:
    spec, pid = container.config(), container.pid()
    planning.check_namespaces(spec)
    options = planning.options(asked.flags)
    program = criu.find(asked.criu)
    directories = Directories(asked)
    images, work = directories.fds
    try:
        _check_parent(asked)
        mounts, stdio = _external(spec, pid), [_named(pid, fd) for fd in range(3)]
        shared = [_external_namespace(kind, path) for kind, path in planning.shared(spec) if kind in planning.EXTERNAL]
        lent = sorted({each for each in stdio if each.startswith(planning.LENT)})
        options |= {"images_dir_fd": images, "work_dir_fd": work, "log_file": LOG, "pid": pid, "root": spec["root"]["path"],
                    "config_file": planning.config_file(spec["annotations"]),
                    "external": [*(f"mnt[{place}]:{place}" for place in mounts), *lent, *shared]}  # fmt: skip
        if freezer := container.freezer()[0]:
            options["freeze_cgroup"] = os.path.dirname(freezer)
        if asked.parent:
            options |= {"parent_img": asked.parent, "track_mem": True}
        if server := asked.flags.get("page-server"):
            options["ps"] = planning.page_server(server)
        if "pre-dump" in asked.flags:
            _ask(program, messages.SINGLE_PRE_DUMP, {**options, "track_mem": True}, asked)
            return
        _write(images, "descriptors.json", stdio)
        _write(images, "external.json", mounts)
        _ask(program, messages.DUMP, options, asked)
        if spec["dolium"]["keep"]:
            _let_go(images)
    finally:
        directories.close()


def _ask(program: str, kind: int, options: "dict[str, Any]", asked: Asked) -> None:
    """Have it done.  Raises DoliumError."""
    if kind == messages.SINGLE_PRE_DUMP or asked.parent:
        _check_tracking(program, asked)
    at_work = criu.Criu(program, {})
    try:
        answer = at_work.ask(kind, options)
    finally:
        at_work.end()
    if not answer.fine:
        raise criu.failure("checkpoint the container", answer, f"{asked.work}/{LOG}")


def _check_tracking(program: str, asked: Asked) -> None:
    """Raises Unsupported where the kernel does not say what has changed since."""
    at_work = criu.Criu(program, {})
    try:
        found = at_work.ask(messages.FEATURES, {})
    finally:
        at_work.end()
    if not found.tracks_memory:
        flag = "--parent-path" if asked.parent else "--pre-dump"
        raise Unsupported(flag, "this kernel does not say which memory has changed (CONFIG_MEM_SOFT_DIRTY)")


def _check_parent(asked: Asked) -> None:
    if asked.parent and (asked.parent[0] == "/" or not os.path.isdir(f"{asked.images}/{asked.parent}")):
        raise UsageError(f"--parent-path: expected a directory relative to --image-path, got `{asked.parent[:80]}`")


def _external(spec: "dict[str, Any]", pid: int) -> "dict[str, tuple[str, str]]":
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        numbers = [(_mount_at(root, mount["destination"]), mount) for mount in spec["mounts"]]
    finally:
        os.close(root)
    binds = {number: mount["destination"] for number, mount in numbers if mount["type"] == "bind"}
    own = any(each["type"] == "cgroup" for each in spec["linux"]["namespaces"])
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return planning.external(file.read(), binds, {number for number, _ in numbers} - {*binds}, not own)


def _mount_at(root: int, path: str) -> int:
    """The number of the mount that is there, whatever links lead to it; -1 for none."""
    try:
        fd = sys.open_in_root(root, os.fsencode(path), os.O_PATH)
    except OSError:
        return -1
    try:
        return _mount_of(f"/proc/self/fdinfo/{fd}")
    finally:
        os.close(fd)


def _mount_of(fdinfo: str) -> int:
    with open(fdinfo) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _named(pid: int, fd: int) -> str:
    """What criu calls a file, by which it takes another one for it when it restores: a pipe, or one that no mount of the
    container has; else what it is."""
    try:
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        if target[0] != "/":
            return target
        number, found = _mount_of(f"/proc/{pid}/fdinfo/{fd}"), os.stat(f"/proc/{pid}/fd/{fd}")
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            its_own = any(line.startswith(f"{number} ") for line in file)
    except FileNotFoundError:  # closed
        return ""
    if its_own:
        return target
    if target.startswith("/dev/pts/"):
        return f"tty[{found.st_rdev:x}:{found.st_dev:x}]"
    return f"file[{number:x}:{found.st_ino:x}]"


def _external_namespace(kind: str, path: str) -> str:
    short, key = planning.EXTERNAL[kind]
    return f"{short}[{os.stat(path).st_ino}]:{key}"


def _let_go(images: int) -> None:
    """Of its parent, dolium-keep: see without_death_signal."""
    name = "core-1.img"
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=images)
    except FileNotFoundError:  # first in no PID namespace
        return
    with open(fd, "rb") as file:
        image = messages.without_death_signal(file.read())
    _put(images, name, image)


def _write(images: int, name: str, value: "Any") -> None:
    _put(images, name, document.write(value).encode("utf-8", "surrogateescape"))


def _put(images: int, name: str, data: bytes) -> None:
    """A file that is there whole."""
    fd = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=images)
    with open(fd, "wb") as file:
        file.write(data)
    os.rename(f"{name}.new", name, src_dir_fd=images, dst_dir_fd=images)
