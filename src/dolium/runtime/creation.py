"""An OCI container while it is made: the host's steps, dolium-init's questions in between, and the way back."""

import os
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from dolium.core import wire
from dolium.plan import build, slots
from dolium.runtime import cgroup, state, watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.errors import DoliumError
    from dolium.plan.facts import Facts
    from dolium.runtime.listener import Listener
    from dolium.runtime.netdevices import Moved

SIGKILL = 9
BY_SYSTEMD = ("start_unit", "enter_group", "filter_devices")


class Asked:
    """What the words of `create` and `run` ask for, besides the bundle."""

    __slots__ = ("bundle", "pid_file", "console_socket", "own_terminal", "pivot", "keyring", "preserve", "pidfd_socket", "groups",
                 "detached", "config", "systemd")  # fmt: skip

    def __init__(self, directory: str) -> None:
        self.bundle = directory
        self.pid_file = ""
        self.console_socket = ""
        self.own_terminal: tuple[int, int] | None = None  # columns and rows of the caller's, which shows the container's
        self.pidfd_socket = ""
        self.config = ""
        self.systemd = False
        self.pivot = True
        self.keyring = True
        self.preserve = 0
        self.groups = True
        self.detached = True


class Creation(watched.Watched):
    """A container while its maker is at work on it."""

    __slots__ = ("container", "made", "planned", "turns", "console", "listener", "pidfd", "moved", "unit")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", container: state.Container) -> None:
        super().__init__(spec, facts, {})
        self.container = container
        self.made: list[str] = []
        self.planned = build.plan(spec, facts)
        self.turns = turns(self.planned)
        self.console: socket | None = None
        self.listener: Listener | None = None
        self.pidfd: socket | None = None
        self.moved: list[Moved] = []
        self.unit: dict[str, Any] | None = None  # of systemd's, once it is there

    def steps(self) -> "list[Step]":
        """Its plan."""
        return self.planned

    def pid(self) -> int:
        """Of the container's first process, as dolium-init has it; 0 before there is one."""
        return self.helper.child() if self.helper and self.helper.plan >= 0 else 0

    def create(self, asked: Asked) -> None:
        """Until it waits for `start`.  Raises DoliumError; then all is undone but for the state."""
        self.prepare(asked)
        self.filled[slots.START] = _listen(self.container.path)
        if any(step.op == "notify" for step in self.planned):
            from dolium.runtime import listener

            self.listener = listener.Listener()
            self.filled[slots.DENIALS] = self.listener.door
        self.begin(lambda passed: wire.encode(self.planned, passed).data, (0, 1, 2), watched.preserved(asked.preserve))
        for turn in self.turns[1:]:
            self._next_question()
            if not turn and self.spec["dolium"]["keep"] and turn is self.turns[-1]:
                break  # created; the answer is run's to give
            for step in turn:
                self.act(step)
            self.answer()
        if not self.spec["dolium"]["keep"]:
            self._finished()
        os.close(self.filled.pop(slots.START))

    def prepare(self, asked: Asked) -> None:
        """Reach who takes the terminal and the pidfd, and make what is there before the first process.  Raises DoliumError."""
        if asked.console_socket or asked.pidfd_socket:
            from dolium.runtime import console
        if asked.console_socket:
            self.console = console.connect(asked.console_socket)
        if asked.pidfd_socket:
            self.pidfd = console.connect(asked.pidfd_socket, console.PIDFD)
        for step in self.turns[0]:
            self.act(step)

    def _next_question(self) -> None:
        """Before one of them comes the terminal, where there is one."""
        assert self.helper
        data, control = self._hear(b"HSF", 1)
        if data == b"S":
            self._give_terminal(control)
            data, _ = self._hear(b"HF", 1)
        if data == b"F":
            raise self.failure(died=False)

    def _give_terminal(self, control: "list[tuple[int, int, bytes]]") -> None:
        self.terminal = int.from_bytes(control[0][2][:4], "little")
        if self.console:
            from dolium.runtime import console

            given, self.terminal = self.terminal, -1
            console.send(self.console, given)
            self.console = None

    def give_pidfd(self) -> None:
        """A pidfd of its first process to whoever listens on --pidfd-socket.  Raises DoliumError."""
        if self.pidfd:
            from dolium.runtime import console

            console.send(self.pidfd, os.pidfd_open(self.pid()), console.PIDFD)
            self.pidfd = None

    def answer(self) -> None:
        """Let dolium-init go on."""
        assert self.helper
        self.helper.socket.send(b"G")

    def _finished(self) -> None:
        """dolium-init has come to its end.  Raises what went wrong."""
        assert self.helper
        data, control = self._hear(b"FS", 1)
        if data == b"S":
            self._give_terminal(control)
            self._hear(b"F", 1)
        if wire.Report(self.helper.report()).failed >= 0:
            raise self.failure(died=False)

    def _hear(self, kind: bytes, size: int) -> "tuple[bytes, list[tuple[int, int, bytes]]]":
        """As its base, without an end to everything: `undo` comes later."""
        assert self.helper
        try:
            data, control, _, _ = self.helper.socket.recvmsg(size, 32, MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            data, control = b"", []
        if not data or data[:1] not in kind:
            raise self.failure(died=not data)
        return data, control

    def act(self, step: "Step") -> None:
        """One of the host's steps.  Raises DoliumError."""
        container = self.container
        if step.op == "hook":
            from dolium.runtime import hooks

            status = "created" if step.path2 == "prestart" else "creating"  # of older versions, which knew no other
            told = hooks.state(self.spec, container.id, status, self.pid())
            hook = self.spec["hooks"][step.path2][step.n1]
            if step.path2 == "createContainer":
                from dolium.runtime import containerhooks

                containerhooks.run_before_pivot(self.spec, self.facts, self.pid(), hook, step.why, told)
            else:
                hooks.run(hook, step.why, told, self.spec["dolium"]["bundle"])
        elif step.op == "record":
            container.fields["pid"] = state.identify(self.pid())
            container.save()
        elif step.op == "home":
            from dolium.runtime import home

            assert self.helper
            home.put(self.helper, self.planned)
        elif step.op == "notify":
            from dolium.runtime import hooks

            assert self.listener
            told = hooks.state(self.spec, container.id, "creating", self.pid())
            self.listener.hand_over(self.spec["linux"]["seccomp"], told, self.pid())
        elif step.op == "move_device":
            from dolium.runtime import netdevices

            try:
                self.moved.append(netdevices.move(step, self.pid()))
            except OSError as error:
                raise watched.step_error(step, self.planned, error.errno or 0, "sendto", self.facts) from None
        elif step.op in BY_SYSTEMD:
            self._by_systemd(step)
        elif step.op == "map_users":
            from dolium.runtime import rootless

            assert self.helper
            rootless.map_users(step, self.helper.pid)
        elif step.op == "make_users":
            from dolium.runtime import containerhooks

            self.filled[step.out] = containerhooks.make_users(step, self.facts)
        else:
            try:
                perform(step, self.made)
            except OSError as error:
                call = {"make_group": "mkdir", "own_group": "chown"}.get(step.op, "write")
                raise watched.step_error(step, self.planned, error.errno or 0, call, self.facts) from None

    def _by_systemd(self, step: "Step") -> None:
        """A step around its first process, whose group systemd makes.  Raises DoliumError."""
        from dolium.plan import resources, systemd
        from dolium.runtime import launch, units

        if step.op == "start_unit":
            unit: dict[str, Any] = self.spec["dolium"]["unit"]
            told = systemd.properties(self.spec, self.facts)
            units.start(unit, self.pid(), told, self.spec["linux"]["cgroupsPath"])
            self.unit = unit  # before, what has this name may be another's; killed meanwhile, ours ends with its process
            self.container.fields |= {"unit": unit, "groups": resources.groups(self.spec, self.facts)}
            self.container.save()
        elif step.op == "filter_devices":
            group = wire.Step("open", wire.OUTSIDE, step.why, path=step.path, n1=os.O_PATH | os.O_DIRECTORY, out=slots.CGROUP,
                              what=f"open {step.path}")  # fmt: skip
            filter = wire.Step("device_filter", wire.OUTSIDE, step.why, fd=slots.CGROUP, data=step.data, what=step.what)
            launch.done([group, filter])
        else:
            try:
                units.enter(self.pid(), step.path)
            except OSError as error:
                raise watched.step_error(step, self.planned, error.errno or 0, "write", self.facts) from None

    def _died_in_setup(self, status: int) -> "DoliumError":
        from dolium.errors import DoliumError

        limit = self.spec["linux"]["resources"].get("memory", {}).get("limit", 0)
        group = self.container.fields["groups"].get("memory")
        if limit > 0 and group and cgroup.memory_kills(group, self.facts.hierarchies["memory"].version):
            return DoliumError(f"linux.resources.memory.limit: {limit} bytes are too few even to make the container in")
        return super()._died_in_setup(status)

    def runs(self) -> None:
        """Wait until dolium-keep says that the program runs.  Raises what went wrong."""
        os.close(self._hear_descriptor(b"S"))

    def ended(self, size: int) -> bytes:
        """Wait for what dolium-keep says of its end."""
        return self._hear(b"X", size)[0]

    def left(self) -> None:
        """dolium-init has done its part."""
        assert self.helper
        self.let_go()
        self.helper.close()
        self.helper.reap()
        self._close_filled()

    def let_go(self) -> None:
        """Of its network: devices that were moved are its own from here on."""
        while self.moved:
            self.moved.pop().close()

    def undo(self) -> None:
        """Give the host its devices back, kill what there is of it, and remove the groups that were made for it."""
        for moved in reversed(self.moved):
            try:
                moved.back()
            except OSError:  # what went wrong before is what is told
                pass
        self.let_go()
        pid = self.pid()
        if pid > 0:
            state.kill(pid)
        if self.helper:
            self.helper.close()
            try:
                os.kill(self.helper.pid, SIGKILL)  # our own child
            except ProcessLookupError:
                pass
            self.helper.reap()
        self._close_filled()
        if self.unit:
            from dolium.runtime import units

            units.stop(self.unit)
        for group in self.made:
            cgroup.remove(group)


def perform(step: "Step", made: "list[str]") -> None:
    """A step of the host that is about groups; those it makes are added to `made`.  Raises OSError."""
    if step.op == "make_group":
        if not os.path.isdir(step.path):
            made.append(step.path)  # before it is: one that is only half made is removed, too
        cgroup.make_below(step.path2, step.path)
        return
    if step.op == "own_group":
        cgroup.give(step.path, step.n1)
        return
    try:
        cgroup.write(step.path, step.data)
    except OSError as error:
        if error.errno in step.accept:
            return
        if step.other is None or error.errno != step.on:
            raise
        perform(step.other, made)


def turns(steps: "list[Step]") -> "list[list[Step]]":
    """The host's steps: those before dolium-init starts, and those after each of its questions; those of `start` are not
    among them."""
    found: list[list[Step]] = [[]]
    for step in steps:
        if step.op == "ask":
            found.append([])
        elif step.actor == wire.HOST and step.path2 != "startContainer":
            found[-1].append(step)
    return found


def _listen(directory: str) -> int:
    """The socket that the created container waits on, reached by a path that is never too long, unix(7)."""
    where = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        server.bind(f"/proc/self/fd/{where}/start")
        server.listen(8)
        return server.detach()
    finally:
        server.close()
        os.close(where)
