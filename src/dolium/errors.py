"""Every exception that Dolium raises, drawn as a tree.

    DoliumError              code (stable, kebab-case), hint
    |-- UsageError           the command line or the call is wrong
    |-- SpecError            a specification is malformed: path, problem
    |-- NotFound             kind, name, similar
    |-- Exists               kind, name
    |-- StateError           an illegal move: name, status, wanted
    |-- Unsupported          this host cannot: feature, missing
    |-- ImageError           an image is not what it should be: image, problem, entry, action
    |-- RegistryError        a registry refuses, fails or cannot be reached: doing, registry, problem, status
    |-- StepError (OSError)  the kernel refused a step: step, index, total, call, errno, filename, why
    |-- HookError            a hook of an OCI config failed: why, path, problem, said
    `-- CommandFailed        only with check=True: argv, result
        `-- CommandTimeout (TimeoutError)

An error's text is one line, complete in itself: engines relay only one.  The hint, where there is one, says how to
mend it.  Every exception survives pickling and copying with its fields.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DoliumError(Exception):
    """Any failure of Dolium itself (never of the program that runs in a container)."""

    code = "error"
    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message: str = message
        self.hint: str = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: "type[DoliumError]", fields: "dict[str, Any]") -> DoliumError:
    error = kind.__new__(kind)
    if isinstance(error, StepError):
        OSError.__init__(error, fields["errno_"], fields["message"])
        error.filename = fields.pop("filename")  # OSError's own, not in __dict__
    error.__dict__.update(fields)
    return error


class UsageError(DoliumError):
    """The command line or the call is wrong."""

    code = "usage"


class SpecError(DoliumError):
    """A configuration is malformed; `path` says where (`mounts[2].source`), `problem` what."""

    code = "spec"

    def __init__(self, path: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {problem}", hint=hint)
        self.path: str = path
        self.problem: str = problem


class NotFound(DoliumError):
    """There is no such thing; `similar` are the nearest names that do exist, `several` the ids that all begin so."""

    code = "not-found"

    def __init__(self, kind: str, name: str, *, similar: "tuple[str, ...]" = (), several: "tuple[str, ...]" = (),
                 hint: str = "") -> None:  # fmt: skip
        if several and not hint:
            hint = f"{len(several)} ids begin so: {', '.join(sorted(several)[:5])}"
        elif similar and not hint:
            hint = "did you mean " + " or ".join(f"`{each}`" for each in similar) + "?"
        super().__init__(f"no {kind} `{name}`", hint=hint)
        self.kind: str = kind
        self.name: str = name
        self.similar: tuple[str, ...] = similar
        self.several: tuple[str, ...] = several


class Exists(DoliumError):
    """The name is taken."""

    code = "exists"

    def __init__(self, kind: str, name: str, *, hint: str = "") -> None:
        super().__init__(f"{kind} `{name}` exists already", hint=hint)
        self.kind: str = kind
        self.name: str = name


class StateError(DoliumError):
    """A move that the container's status does not allow."""

    code = "state"

    def __init__(self, name: str, status: str, wanted: str, *, hint: str = "", kind: str = "container") -> None:
        super().__init__(f"{kind} `{name}` is {status}, not {wanted}", hint=hint)
        self.name: str = name
        self.status: str = status
        self.wanted: str = wanted


class Unsupported(DoliumError):
    """This host, or this user on it, cannot do what was asked: `feature` lacks `missing`."""

    code = "unsupported"

    def __init__(self, feature: str, missing: str, *, hint: str = "") -> None:
        super().__init__(f"unsupported: {feature}: {missing}", hint=hint)
        self.feature: str = feature
        self.missing: str = missing


class ImageError(DoliumError):
    """An image, a part of it, or the archive of one is malformed or hostile; `entry` is the one of its files where that shows,
    or empty; `action` what could not be done with it, such as `unpack`."""

    code = "image"

    def __init__(self, image: str, problem: str, *, entry: str = "", hint: str = "", action: str = "unpack") -> None:
        super().__init__(f"cannot {action} {image}: {f'{entry}: ' if entry else ''}{problem}", hint=hint)
        self.image: str = image
        self.problem: str = problem
        self.entry: str = entry
        self.action: str = action


class RegistryError(DoliumError):
    """A registry refuses, fails, sends what is wrong, or cannot be reached: `doing` is what cannot be done (`pull NAME`),
    `registry` its HOST[:PORT], or that of whom it led us to, `status` of its answer, or 0."""

    code = "registry"

    def __init__(self, doing: str, registry: str, problem: str, *, status: int = 0, hint: str = "") -> None:
        super().__init__(f"cannot {doing}: {registry}: {problem}", hint=hint)
        self.doing: str = doing
        self.registry: str = registry
        self.problem: str = problem
        self.status: int = status


class StepError(DoliumError, OSError):
    """The kernel refused a step of a plan.

    `step` is the step's text, `index` of `total` its place, `call` the system call, `errno` and `filename` as in OSError,
    `why` the configuration key that asked for the step.
    """

    code = "step"

    def __init__(self, step: str, *, index: int, total: int, call: str, errno: int, why: str, filename: str = "",
                 hint: str = "", exit_code: int = 125) -> None:
        import errno as names
        import os
        name = names.errorcode.get(errno, str(errno))
        message = f"cannot {step}: {call}: {os.strerror(errno)} ({name})"
        DoliumError.__init__(self, message, hint=hint)
        OSError.__init__(self, errno, message)
        self.step: str = step
        self.index: int = index
        self.total: int = total
        self.call: str = call
        self.errno_: int = errno
        self.why: str = why
        self.filename: Any = filename or None
        self.exit_code: int = exit_code

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, (type(self), {**self.__dict__, "filename": self.filename})

    @property
    def place(self) -> str:
        """Where in the plan, and who asked: the second line of the error on a terminal."""
        return f"at step {self.index} of {self.total}, asked for by {self.why}"


class HookError(DoliumError):
    """A hook of an OCI config failed: `why` is its key in the config, `path` the program, `said` what it wrote."""

    code = "hook"

    def __init__(self, why: str, path: str, problem: str, said: str = "") -> None:
        super().__init__(f"{why}: `{path}` {problem}" + (f": {said}" if said else ""))
        self.why: str = why
        self.path: str = path
        self.problem: str = problem
        self.said: str = said


class CommandFailed(DoliumError):
    """A program ended with a failure and the caller had asked for `check=True`."""

    code = "command-failed"

    def __init__(self, argv: "list[str]", result: "Any") -> None:
        super().__init__(f"`{argv[0]}` failed: {result!r}")
        self.argv: list[str] = argv
        self.result: Any = result


class CommandTimeout(CommandFailed, TimeoutError):
    """The program was killed at its time limit and the caller had asked for `check=True`."""

    code = "command-timeout"
