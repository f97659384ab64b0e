"""Listens to a filter that asks (plan/denied.py) and answers what the filter itself would have said; keeps account of it.

The answer does not depend on memory of the program, which it could change meanwhile (seccomp_unotify(2), "Design goals").
When this process dies, its listener closes with it, and the kernel answers ENOSYS.
"""

import os
from _signal import SIG_BLOCK, pthread_sigmask, valid_signals
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SHUT_RDWR, SOCK_SEQPACKET, socketpair
from _struct import Struct
from _thread import allocate_lock, start_new_thread
from fcntl import ioctl
from select import POLLIN, poll

from dolium.plan import denied

RECEIVE, SEND = 0xC0502100, 0xC0182101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND; the sizes of their structures are part of the numbers."""
QUESTION = Struct("<QII")
"""The head of struct seccomp_notif: id, pid, flags; a struct seccomp_data follows."""
ANSWER = Struct("<QqiI")
"""struct seccomp_notif_resp: id, value, minus errno, flags"""
CALLS, PROGRAMS = 64, 4
"""Different calls that are kept, and names of those that were refused one and the same: a program can make up billions."""


class Watcher:
    """Give `door` to the plan, then call `watch`, and `end` in the end, whatever happens."""

    def __init__(self) -> None:
        self._ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self.door = theirs.detach()
        """The socket that a plan hands its listener over to; its taker closes it."""
        self.found: dict[tuple[int, int, int], denied.Denial] = {}
        """What was refused, by architecture, number and errno, in the order of its first time."""
        self.others = 0
        """How often other calls were refused, beyond those that are kept."""
        self._program = b""
        self._at_work = allocate_lock()

    def watch(self, program: bytes) -> None:
        """Listen from now on, in a thread of its own: the container's first steps may already be asked about.

        `program` is the filter as it would be without asking.
        """
        self._program = program
        self._at_work.acquire()
        start_new_thread(self._listen, ())

    def end(self) -> "list[denied.Denial]":
        """Stop; what there is to tell."""
        try:
            self._ours.shutdown(SHUT_RDWR)
        except OSError:  # the other end has gone already
            pass
        with self._at_work:
            self._ours.close()
        return [*self.found.values()]

    def _listen(self) -> None:
        listener = -1
        pthread_sigmask(SIG_BLOCK, valid_signals())  # they are the main thread's to forward
        try:
            _, control, _, _ = self._ours.recvmsg(1, 32, MSG_CMSG_CLOEXEC)
            if control:
                listener = int.from_bytes(control[0][2][:4], "little")
                self._answer_all(listener)
        except OSError:  # nobody can be told; with the listener closed all calls fail
            pass
        finally:
            if listener >= 0:
                os.close(listener)
            self._at_work.release()

    def _answer_all(self, listener: int) -> None:
        waiter = poll()
        waiter.register(listener, POLLIN)
        waiter.register(self._ours.fileno(), 0)
        while True:
            events = dict(waiter.poll())
            if events.get(listener, 0) & POLLIN:
                self._answer(listener)
            elif events:  # nobody is left that has the filter, or nobody wants to know
                return

    def _answer(self, listener: int) -> None:
        room = bytearray(80)
        try:
            ioctl(listener, RECEIVE, room)
            identity, pid, _ = QUESTION.unpack_from(room)
            call = bytes(room[QUESTION.size :])
            errno = denied.errno(self._program, call)
            self._note(pid, call, errno)
            ioctl(listener, SEND, bytearray(ANSWER.pack(identity, 0, -errno, 0)))
        except FileNotFoundError:  # it was killed meanwhile
            pass

    def _note(self, pid: int, call: bytes, errno: int) -> None:
        number, arch = denied.CALL.unpack(call)[:2]
        if len(self.found) >= CALLS and (arch, number, errno) not in self.found:
            self.others += 1
            return
        seen = self.found.setdefault((arch, number, errno), denied.Denial(arch, number, errno))
        seen.count += 1
        if len(seen.programs) < PROGRAMS:
            name = _name(pid)
            if name not in seen.programs:
                seen.programs.append(name)


def _name(pid: int) -> str:
    """What a process calls itself, and the path of its program in its container."""
    name = path = ""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        path = os.readlink(f"/proc/{pid}/exe")
    except OSError:
        pass
    shown = f"{name or 'a process'} ({path})" if path else name or "a process"
    return "".join(each if each.isprintable() else "?" for each in shown)
