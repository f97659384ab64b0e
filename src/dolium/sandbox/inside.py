"""The root of a container to copy from and to: of one that runs as its programs see it; of another its layers, mounted for this
process alone, in a mount namespace that nobody else sees and that ends with it.

Every path is opened by the container's own root, so no symbolic link of a program there leads out of it (CVE-2018-15664,
CVE-2019-14271).
"""

import os

from dolium.core import sys
from dolium.engine import contents, life, processes, rootfs, store
from dolium.errors import StateError
from dolium.runtime import host
from dolium.sandbox import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.engine.store import Container, Lock

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Inside:
    """Close it in the end; one that does not run cannot be started until then.

    id_base  where its ids begin on this host, as they are seen in what `open` gives;  owner  as what is made there must be made, or
    None: as the caller
    """

    def __init__(self, container: "Container") -> None:
        container.must_be_whole()
        self.id_base: int = 0
        self.owner: tuple[int, int] | None = None
        self._first = self._root = -1
        self._held: Lock | None = None
        if life.state_once_begun(container)["status"] == "running":
            self._first, now = life.first_process(container, "running")
            self._facts = processes.found_running(now)
            self.id_base = self._facts.id_base
            self.owner = (self.id_base, self.id_base) if self.id_base else None
            return
        if container.remove:
            raise StateError(container.name, "removed when it ends (--rm)", "kept", hint="start it without `--rm`")
        if container.image in rootfs.OWN:
            raise StateError(container.name, "stopped", "running", hint=f"its root is made anew: dolium start {container.name}")
        self._held = store.hold(container)
        try:
            life.must_not_run(container)
            self._root = _mounted(container)
        except BaseException:
            self.close()
            raise

    def open(self, path: str, flags: int) -> int:
        """A descriptor of what the path, from its root, leads to.  Raises OSError and StepError."""
        if self._root >= 0:
            return sys.open_in_root(self._root, os.fsencode(path), flags)
        return files.open_path(self._facts, self._first, path, flags)

    def close(self) -> None:
        """Let others start it."""
        for fd in (self._first, self._root):
            if fd >= 0:
                os.close(fd)
        self._first = self._root = -1
        if self._held:
            self._held.__exit__()
            self._held = None


def _mounted(container: "Container") -> int:
    """Its root, with what is mounted there by nobody else."""
    is_rootless, before = host.facts().rootless, os.open(".", DIRECTORY)
    if is_rootless:
        sys.own_users()
    sys.own_mounts()
    opened = [before]
    try:
        lowers = []
        for path in contents.lowers(container):
            opened.append(os.open(path, DIRECTORY))
            lowers.append(f"/proc/self/fd/{opened[-1]}")
        options = f"lowerdir={':'.join(lowers)},upperdir=upper,workdir=work" + (",userxattr" if is_rootless else "")
        opened.append(os.open(container.path, DIRECTORY))
        os.fchdir(opened[-1])
        sys.mount("overlay", "upper", options)
        return os.open(f"{container.path}/upper", DIRECTORY)
    finally:
        os.fchdir(before)
        for fd in opened:
            os.close(fd)
