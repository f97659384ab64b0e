"""The processes of an OCI container: signals to them, which they are, and how they are stopped where they are."""

import os

from dolium.errors import DoliumError, StateError
from dolium.runtime import cgroup, state

SIGKILL = 9


def kill(top: str, identity: str, signal: int, every: bool) -> None:
    """`kill`: to the first process, or to every one in its groups.  Raises StateError for what has ended, and what is not made yet
    (runtime-spec, runtime.md "Kill")."""
    container = state.find(top, identity)
    pid = container.pid()
    if every:
        for each in processes(container):
            _signal(each, signal)
        return
    if not pid or container.fields["status"] == "creating":
        error = StateError(identity, container.status(), "running")
        error.message = f"container not running: `{identity}` is {error.status}"  # containerd, CRI-O, BuildKit look for that
        raise error
    fd = os.pidfd_open(pid)
    try:
        if container.pid() != pid:  # it ended, and the number was given away
            return
        from _signal import pidfd_send_signal

        pidfd_send_signal(fd, signal)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
    if signal == SIGKILL and container.is_frozen():
        freeze(container, False)


def _signal(pid: int, signal: int) -> None:
    try:
        os.kill(pid, signal)
    except ProcessLookupError:
        pass


def processes(container: state.Container) -> "list[int]":
    """All in its groups, also in those that it has made below."""
    groups = container.fields["groups"]
    chosen = groups.get("unified") or groups.get("pids") or next(iter(groups.values()), "")
    if not chosen:
        return [pid] if (pid := container.pid()) else []
    found = []
    for directory, _, _ in os.walk(chosen):
        try:
            found += [int(each) for each in cgroup.read(f"{directory}/cgroup.procs").split()]
        except OSError:
            continue
    return sorted({*found} - {0})


def freeze(container: state.Container, frozen: bool) -> None:
    """Stop all its processes where they are, or let them go on.  Raises DoliumError where there is no freezer."""
    path, value = container.freezer()
    if not path:
        raise DoliumError(f"container `{container.id}` has no group that could be frozen")
    cgroup.write(path, value.encode() if frozen else b"THAWED" if value == "FROZEN" else b"0")
    for _ in range(2000):
        if container.is_frozen() == frozen:
            return
        from time import sleep

        sleep(0.001)
