"""`dolium.run`: one program in a fresh container, as plain as subprocess.run."""

from dolium.engine import containers
from dolium.sandbox import asked
from dolium.sandbox.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from dolium.runtime.ending import Ending
    from dolium.runtime.launch import Running
    from dolium.sandbox.asked import Mount
    from dolium.sandbox.result import Result
    from dolium.sandbox.snapshot import Snapshot


def run(argv: "Sequence[str]", *, image: "str | Snapshot" = "@host", check: bool = False, text: bool = False,
        encoding: "str | None" = None, errors: "str | None" = None, input: "str | bytes | None" = None,
        env: "Mapping[str, str] | None" = None, cwd: "str | None" = None,
        user: "str | None" = None, timeout: "float | str | None" = None,
        memory: "int | str | None" = None, cpus: "float | str | None" = None, pids: "int | None" = None,
        disk: "int | str | None" = None, network: str = "none", mounts: "Iterable[str | Mount]" = (),
        max_output: "int | str" = asked.MAX_OUTPUT, on_stdout: "Callable[[bytes], Any] | None" = None,
        on_stderr: "Callable[[bytes], Any] | None" = None) -> "Result":  # fmt: skip
    """Run a program in a container of its own, wait for its end, return what it printed and how it ended.

    `image` is `@host`, `@venv`, what `Sandbox.snapshot` returned, the name of an image, a directory or a tarball, which is
    unpacked the first time; `memory`, `disk` (what it may write) and `max_output` are bytes or text such as "64M"; `cpus` is a
    number of CPUs; `timeout` is seconds; `pids` is a number of processes; `mounts` are what `ro`, `rw` and `tmp` return, or
    `SRC:DST[:ro]`; `network` is `none`, `host` or, for root, `bridge` or what `allow` returns, which reaches only those; `env` is
    all that the program gets besides PATH, HOME and HOSTNAME.  A program that fails is a result, not an error, unless `check` is
    given.  Of output longer than `max_output` the first and the last half are kept.  `on_stdout` and `on_stderr` are called with
    each piece of output (bytes) as it comes.  Safe to call from several threads at once.

    Raises UsageError, SpecError, NotFound, ImageError and Unsupported for a call that cannot be carried out, StepError where the
    kernel refuses (a program that is not there, above all), CommandFailed and CommandTimeout with `check`.
    """
    return job(**locals()).work()


def job(argv: "Sequence[str]", *, image: "str | Snapshot", env: "Mapping[str, str] | None", cwd: "str | None", user: "str | None",
        memory: "int | str | None", cpus: "float | str | None", pids: "int | None", disk: "int | str | None", network: str,
        mounts: "Iterable[str | Mount]", **how: "Any") -> Job:  # fmt: skip
    """What a call of `run` with these very arguments is to do; nothing is started yet.  Raises UsageError and SpecError."""
    options = asked.options(env=env, cwd=cwd, memory=memory, cpus=cpus, pids=pids, network=network, mounts=mounts, disk=disk)
    options.argv = asked.words(argv)
    made_of = asked.image(image)
    return Job(options.argv, lambda stdio: _Fresh(containers.start(made_of, options, user, stdio)[0]), **how)


class _Fresh:
    """The handle of a program in a container of its own: both end together."""

    def __init__(self, running: "Running") -> None:
        self._running = running
        self.fileno, self.finish, self.abandon = running.fileno, running.finish, running.abandon

    def stop(self) -> None:
        self._running.signal(asked.SIGKILL)

    def reason(self, ending: "Ending") -> str:
        return ""


def doctor() -> "list[dict[str, Any]]":
    """What Dolium can do on this host, as `dolium doctor --json` says it: a dict for each thing that was looked at, with `id`
    (stable), `job` (what cannot be done without it, or empty), `ok`, `found`, `breaks` and `mend` (a line for a shell).

    It starts `true` in a few containers.  Raises Unsupported where not even /proc is there.
    """
    from dolium.engine import doctor

    return [each.fields() for each in doctor.examine()]
