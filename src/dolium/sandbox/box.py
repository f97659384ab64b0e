"""`dolium.Sandbox`: a container that stays, in which programs are run one after the other or side by side."""

import os
from _thread import allocate_lock
from select import POLLIN, poll
from time import monotonic

from dolium.core.interrupts import Held
from dolium.engine import config, containers, processes, rootfs, users
from dolium.errors import DoliumError, StateError
from dolium.plan import quantities
from dolium.runtime import joining, plans
from dolium.sandbox import asked, files
from dolium.sandbox.forgotten import Forgotten, leave
from dolium.sandbox.job import Job
from dolium.sandbox.process import Ends, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO, Any

    from dolium.engine.snapshots import Image
    from dolium.runtime.ending import Ending
    from dolium.runtime.joining import Joined
    from dolium.runtime.launch import Running
    from dolium.sandbox.asked import Mount
    from dolium.sandbox.python import Python
    from dolium.sandbox.result import Result
    from dolium.sandbox.snapshot import Snapshot

MOST = 1 << 30
"""Bytes that `read` and `get` take of what a program could make endless, unless told otherwise."""
PLAIN = ("python3", None, None, None, None, asked.MAX_OUTPUT, "64M")
"""An interpreter of which nothing was said."""
MOMENT = 0.2
"""Seconds in which a Sandbox that takes its programs with it has ended, too."""


class Sandbox:
    """A container that runs nothing yet and stays until `close`: use it with `with`.

    `image`, `mounts`, `memory`, `cpus`, `pids`, `disk` and `network` are as in `dolium.run`, for all programs together;
    `env`, `cwd` and `user` are what each program gets unless it is told otherwise.  After `timeout` seconds the container
    is killed with all that runs in it, as it is when its memory is used up (then `ended_by` says why), and when this
    process dies.  Safe to use from several threads at once.

    Raises UsageError, SpecError, NotFound, Unsupported and StepError.
    """

    id: str
    """As its cgroups are named."""
    ended_by: str
    """Why it has ended by itself, `memory`, `timeout` or `signal`; else empty."""

    def __init__(self, *, image: "str | Snapshot" = "@host", mounts: "Iterable[str | Mount]" = (),
                 memory: "int | str | None" = None, cpus: "float | str | None" = None, pids: "int | None" = None,
                 disk: "int | str | None" = None, network: str = "none", env: "Mapping[str, str] | None" = None,
                 cwd: "str | None" = None, user: "str | None" = None, timeout: "float | str | None" = None) -> None:  # fmt: skip
        options = asked.options(env=env, cwd=cwd, memory=memory, cpus=cpus, pids=pids, disk=disk, network=network, mounts=mounts)
        seconds = None if timeout is None else quantities.seconds(timeout, "timeout")
        deadline = None if seconds is None else monotonic() + seconds
        options.watch = {"life": seconds}
        options.cwd, own_cwd = None, options.cwd
        made_of = asked.image(image)
        try:
            with Held():
                running = quietly(made_of, options, "0")
                options.cwd = own_cwd
                self._adopt(made_of, options, user, running, running.started(), deadline)
        except BaseException:  # also one that has come meanwhile
            if hasattr(self, "_first"):
                self.close()
            raise

    @classmethod
    def _of(cls, image: "str | Image", options: config.Options, user: "str | None", running: "Running", first: int,
            deadline: "float | None") -> "Sandbox":  # fmt: skip
        """Of a container that is there already, whose first process the pidfd `first` is of; both are its own now."""
        box = cls.__new__(cls)
        box._adopt(image, options, user, running, first, deadline)
        return box

    def _adopt(self, image: "str | Image", options: config.Options, user: "str | None", running: "Running", first: int,
               deadline: "float | None") -> None:  # fmt: skip
        if running.use and running.use.image:
            from dolium.engine import conversion

            user = conversion.apply(running.use.image.config(), options, user=user).user
        self.ended_by = ""
        self._forgotten = Forgotten()
        self._options = options
        self._user = user
        self._deadline = deadline
        self._may_end = options.memory is not None or deadline is not None
        self._owner = os.getpid()
        self._lock = allocate_lock()
        self._count = self._starting = 0
        self._ready: Python | None = None
        self._image = image
        digest = running.use.digest if running.use else ""
        self._rootfs = rootfs.find(image, digest) if isinstance(image, str) else image.rootfs()
        self._is_copied = False
        self._running: Running | None = running
        self._first = first
        self.id = plans.name(running.spec)
        self._above = running.controllers.get("unified", "")
        self._facts = processes.found_running({"id_base": running.facts.id_base, "groups": running.controllers})

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_first"):
            self.close()

    def __repr__(self) -> str:
        return f"<Sandbox {self.id}: {self.status}>"

    @property
    def status(self) -> str:
        """`running`, `ended` (by its time or memory limit, `ended_by` says), or `closed`."""
        if not self._has_ended():
            return "running"
        return "ended" if self.ended_by else "closed"

    def close(self) -> None:
        """Kill what runs in it, and remove it with its files.  Closing twice is no mistake.  In a process that was forked
        from its owner this does nothing."""
        if os.getpid() == self._owner:
            with Held():
                self._settle(lambda running: running.abandon())
                self._bury()

    def _spare(self, python: "Python", seconds: "float | None") -> None:
        """Keep that interpreter for who asks for one; live only so long from now.  Raises as Running.end_in does."""
        if seconds is not None and self._running:
            self._running.end_in(seconds)
            self._deadline, self._may_end = monotonic() + seconds, True
        self._ready = python

    def _settle(self, act: "Callable[[Running], Any]") -> None:
        """The one who comes first ends it; what it gives up is used by nobody any more."""
        with Held(), self._lock:
            running, self._running = self._running, None
            if running:
                act(running)
                os.close(self._first)

    def _has_ended(self, patience: float = 0.0) -> bool:
        """Whether it has ended by itself, within so many seconds; then why is in `ended_by`, and nothing is left of it."""
        running = self._running
        if running is None:
            return True
        if os.getpid() != self._owner:
            raise StateError(self.id, "running for the process that this one was forked from", "for this one",
                             hint="make a Sandbox after the fork")  # fmt: skip
        waiter = poll()
        waiter.register(running.fileno(), POLLIN)
        if not waiter.poll(patience * 1000):
            return False
        self._settle(self._find_out)
        return True

    def _find_out(self, running: "Running") -> None:
        ending = running.finish()
        late = self._deadline is not None and monotonic() >= self._deadline
        self.ended_by = "memory" if ending.out_of_memory else "timeout" if late else "signal"

    def _enter(self) -> int:
        """A pidfd of its first process, the caller's own.  Raises StateError where it does not run."""
        ended = self._has_ended()
        with self._lock:
            if not ended and self._running:
                return os.dup(self._first)
        self._must_run()
        raise StateError(self.id, "closed", "running")

    def _visit(self, act: "Callable[[int], Any]") -> "Any":
        """What may take long has to ask for interrupts itself."""
        with Held():
            first = self._enter()
            try:
                return act(first)
            except (OSError, DoliumError):
                self._must_run()  # what went wrong may be that the container has ended meanwhile
                raise
            finally:
                os.close(first)

    def _must_run(self) -> None:
        """Raises StateError where it does not, for which its first process may have died only just now."""
        died = poll()
        with self._lock:
            if self._running:
                died.register(self._first, POLLIN)
        if self._has_ended(MOMENT if died.poll(0) else 0.0):
            why = {"memory": ": its memory limit was reached", "timeout": ": its time was over", "signal": ": it was killed"}
            raise StateError(self.id, self.status + why.get(self.ended_by, ""), "running", hint="make a new Sandbox")

    def run(self, argv: "Sequence[str]", *, check: bool = False, text: bool = False, encoding: "str | None" = None,
            errors: "str | None" = None, input: "str | bytes | None" = None, env: "Mapping[str, str] | None" = None,
            cwd: "str | None" = None, user: "str | None" = None, timeout: "float | str | None" = None,
            max_output: "int | str" = asked.MAX_OUTPUT, on_stdout: "Callable[[bytes], Any] | None" = None,
            on_stderr: "Callable[[bytes], Any] | None" = None) -> "Result":  # fmt: skip
        """Run a program in it and wait for its end, as `dolium.run` does.  What the program leaves running goes on; at the
        time limit all that it has started is killed, and nothing else.

        Raises StateError where the Sandbox has ended, and what `dolium.run` does.
        """
        return self._job(**{name: value for name, value in locals().items() if name != "self"}).work()

    def _job(self, argv: "Sequence[str]", *, env: "Mapping[str, str] | None", cwd: "str | None", user: "str | None",
            text: bool, encoding: "str | None", errors: "str | None", **how: "Any") -> Job:  # fmt: skip
        """What a call of `run` with these very arguments is to do; nothing is started yet.  Raises UsageError."""
        words = asked.words(argv)
        kind = asked.Text(text, encoding, errors)

        def begin(stdio: "tuple[int, int, int]") -> "_Handle":
            return _Handle(self, self._start(words, stdio, env, cwd, user, (-1, -1, -1), kind, -1))

        return Job(words, begin, text=text, encoding=encoding, errors=errors, **how)

    def _taken_along(self, ending: "Ending") -> str:
        """Whether a program that was killed went with its Sandbox; why that ended."""
        if ending.signal != asked.SIGKILL or not self._may_end or not self._has_ended(MOMENT):
            return ""
        return self.ended_by if self.ended_by != "signal" else ""

    def popen(self, argv: "Sequence[str]", *, stdin: "int | IO[Any] | None" = None, stdout: "int | IO[Any] | None" = None,
              stderr: "int | IO[Any] | None" = None, env: "Mapping[str, str] | None" = None, cwd: "str | None" = None,
              user: "str | None" = None, text: bool = False, encoding: "str | None" = None, errors: "str | None" = None,
              bufsize: int = -1) -> Process:  # fmt: skip
        """Start a program in it, as subprocess.Popen does; `stdin`, `stdout` and `stderr` are PIPE, DEVNULL, a descriptor or
        a file of this process, `stderr` also STDOUT, and None for none (/dev/null), for nothing is inherited.

        Raises what `run` does.
        """
        with Held():
            ends = Ends()
            try:
                ends.make(stdin, stdout, stderr)
                kind = asked.Text(text, encoding, errors)
                process = self._start(argv, ends.theirs(), env, cwd, user, ends.ours(), kind, bufsize)
                ends.given()
                return process
            finally:
                ends.close()

    def _start(self, argv: "Sequence[str]", stdio: "tuple[int, int, int]", env: "Mapping[str, str] | None", cwd: "str | None",
               user: "str | None", ends: "tuple[int, int, int]", text: asked.Text, bufsize: int) -> Process:  # fmt: skip
        self._bury()
        options = self._options.copy()
        options.argv = asked.words(argv)
        options.env = {**options.env, **(env or {})}
        options.cwd = cwd or options.cwd
        who = self._user if user is None else user
        if who is not None:
            options.user = users.find(who, self._read_users)
        spec = config.another(self.id, options, self._rootfs, self._facts)
        group, part = "", self._next_part()
        try:
            group = self._group(spec, part)
            joined = joining.start(spec, self._facts, self._enter(), stdio)
            return Process(options.argv, joined, group, leave, self._forget, ends, text, bufsize)
        except BaseException:
            leave(group)
            self._must_run()  # what went wrong may be that the container has ended meanwhile
            raise
        finally:
            with self._lock:
                self._starting -= 1

    def _read_users(self, path: str) -> str:
        return str(self._visit(lambda first: joining.read(self._facts, first, path, users.CAP)))

    def _next_part(self) -> str:
        """The name of one more program's group; it is on its way from now on.  Raises StateError."""
        with self._lock:
            if self._is_copied:
                raise StateError(self.id, "being copied for a snapshot", "at rest")
            self._count += 1
            self._starting += 1
            return f"/run-{self._count}"

    def _group(self, spec: "dict[str, Any]", part: str) -> str:
        """A cgroup v2 of its own below the container's, so that it can be killed with all that it starts; empty without."""
        above = self._above
        if not above:
            return ""
        os.mkdir(above + part, 0o755)
        spec["dolium"]["part"] = part
        return above + part

    def _forget(self, joined: "Joined", group: str) -> None:
        self._forgotten.add(joined, group)
        if not self._running and os.getpid() == self._owner:
            self._bury()

    def _bury(self) -> None:
        self._forgotten.bury(every=not self._running)

    def read(self, path: str, *, text: bool = False, encoding: str = "utf-8", errors: str = "strict",
             most: "int | str" = MOST) -> "Any":  # fmt: skip
        """The content of a file: bytes, or str with `text`.  Raises OSError as open() does and for a file of more than `most`
        bytes (or text such as "64M"), which a program can make at no cost, and StateError."""
        size = quantities.size(most, "most")
        data = self._visit(lambda first: files.read(self._facts, first, path, size))
        return data.decode(encoding, errors) if text else data

    def write(self, path: str, data: "str | bytes", *, mode: int = 0o644) -> None:
        """Make a file, and the directories above it, or write it anew; it belongs to the container's root.

        Raises OSError as open() does, and StateError.
        """
        content = data.encode() if isinstance(data, str) else data
        self._visit(lambda first: files.write(self._facts, first, path, content, mode))

    def ls(self, path: str = "/") -> "list[str]":
        """The names in a directory, sorted.  Raises OSError and StateError."""
        found: list[str] = self._visit(lambda first: files.names(self._facts, first, path))
        return found

    def exists(self, path: str) -> bool:
        """Whether there is something.  Raises OSError and StateError."""
        return bool(self._visit(lambda first: files.exists(self._facts, first, path)))

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all in it.  Raises OSError and StateError."""
        self._visit(lambda first: files.remove(self._facts, first, path))

    def _harvest(self, path: str, number: int, most: int) -> "tuple[dict[str, bytes], bool]":
        """What sandbox.files.regular does.  Raises OSError and StateError."""
        found: tuple[dict[str, bytes], bool] = self._visit(lambda first: files.regular(self._facts, first, path, number, most))
        return found

    def snapshot(self) -> "Snapshot":
        """A copy of its files, without those of `mounts` and without its processes: an `image` for any number of containers,
        until it is closed.  What is copied is what this container has changed (of `@host` and `@venv`, all that is its own);
        it goes on, and neither sees what the other writes.

        Raises StateError while a program runs in it, ImageError for a disk that is too small, OSError and DoliumError.
        """
        from dolium.sandbox.snapshot import taken

        with self._lock:
            if self._is_copied:
                raise StateError(self.id, "being copied for a snapshot", "at rest")
            self._is_copied = True
        try:
            return taken(self)
        finally:
            self._is_copied = False

    def python(self, *, executable: str = "python3", env: "Mapping[str, str] | None" = None, cwd: "str | None" = None,
               user: "str | None" = None, timeout: "float | str | None" = None, max_output: "int | str" = asked.MAX_OUTPUT,
               max_figures: "int | str" = "64M") -> "Python":  # fmt: skip
        """Start a Python interpreter of the image's in it, which stays, and is given snippets: `with box.python() as python:
        python.run("1 + 1").value`.  `timeout` is of each snippet, unless its own is given; `max_output` bounds what is kept of
        its stdout and stderr, `max_figures` the bytes of the files that it writes to $DOLIUM_FIGURES.

        In a Sandbox of a Pool with `preload` the first call without arguments gives the interpreter that has the modules.

        Raises what `popen` does.
        """
        from dolium.sandbox.python import Python

        if self._ready and (executable, env, cwd, user, timeout, max_output, max_figures) == PLAIN:
            ready, self._ready = self._ready, None
            return ready
        return Python(self, executable=executable, env=env, cwd=cwd, user=user, timeout=timeout, max_output=max_output,
                      max_figures=max_figures)  # fmt: skip

    def put(self, source: "str | os.PathLike[str] | IO[bytes]", target: str) -> None:
        """Copy a file or a directory of this host so that it is `target` there (below it, where that ends with `/`), or
        unpack a tar archive, an open file, below the directory `target`.  Directories above are made; files that are there with
        the same names are replaced; all belongs to the container's root.

        Raises OSError, also where a directory would have to make room for a file or a file for one, ImageError for an archive
        or a disk that is too small, and StateError.
        """
        given = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source
        self._visit(lambda first: files.put(self._facts, first, given, target))

    def get(self, path: str, target: "str | os.PathLike[str] | IO[bytes]", *, most: "int | str" = MOST) -> None:
        """Copy a file or a directory of the Sandbox so that it is `target` on this host (below it, where that ends with `/`), or
        write it into an open file as a tar archive.  It belongs to the caller; set-user-ID bits, sockets, FIFOs and devices
        are left out.

        Raises OSError, also for more than `most` bytes and as `put` does, ImageError for a disk that is too small, and StateError.
        """
        given = os.fspath(target) if isinstance(target, (str, os.PathLike)) else target
        size = quantities.size(most, "most")
        self._visit(lambda first: files.get(self._facts, first, path, given, size))


class _Handle:
    """The handle of a program in a Sandbox."""

    def __init__(self, box: Sandbox, process: Process) -> None:
        self._process = process
        self.reason = box._taken_along
        self.fileno, self.stop = process.fileno, process.kill

    def finish(self) -> "Ending":
        self._process.wait()
        assert self._process.ending
        return self._process.ending

    def abandon(self) -> None:
        self._process.kill()
        self._process.wait()


def quietly(image: "str | Image", options: config.Options, user: "str | None" = None) -> "Running":
    """A container on its way whose first process says and hears nothing.  Raises what containers.start does."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        return containers.start(image, options, user, (null, null, null))[0]
    finally:
        os.close(null)
