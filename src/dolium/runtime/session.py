"""End a program and what it has started, where no cgroup holds them together."""

import os

from dolium.runtime import process

SIGKILL = 9


def kill(leader: int) -> None:
    """SIGKILL to every process of the session that the process `leader` (a pid) has made, until there is none.

    A process that has made a session of its own is not found: without cgroups only the end of its container ends it.
    """
    from _signal import pidfd_send_signal

    empty = 0
    for _ in range(1000):
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_in(pid, leader)]
        empty = 0 if found else empty + 1
        if empty == 2:  # once is not enough: who dies while /proc is read may have forked behind our back
            return
        for pid in found:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                if _is_in(pid, leader):  # the number may have been given away before the pidfd was opened
                    pidfd_send_signal(fd, SIGKILL)
            except ProcessLookupError:
                pass
            finally:
                os.close(fd)


def _is_in(pid: int, session: int) -> bool:
    """Whether it is alive, and of that session."""
    try:
        state, its_session, _ = process.stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX" and its_session == session
