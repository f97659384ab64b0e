"""What an image says of how to run it, into what was asked for (image-spec conversion.md): the asker has the last word.

Files below a volume of the image are written where all others are: kept with a container, gone with one that is not; no two
containers share them.  Labels are notes on a container, and nothing of ours looks at them (CVE-2026-53488).
"""

from dolium.errors import ImageError, SpecError
from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from dolium.engine.config import Options
    from dolium.engine.manifests import Config

    Value = TypeVar("Value")


class Applied:
    """What of an image does not go into Options: `user` as `--user` has it, and `stop_signal`, a number; None where neither the
    image nor the asker has one; all `labels`."""

    __slots__ = ("user", "stop_signal", "labels")

    def __init__(self, user: "str | None", stop_signal: "int | None", labels: "dict[str, str]") -> None:
        self.user = user
        self.stop_signal = stop_signal
        self.labels = labels


def apply(config: "Config", options: "Options", *, argv: "list[str] | None" = None, entrypoint: "str | None" = None,
          user: "str | None" = None, stop_signal: "int | None" = None,
          labels: "dict[str, str] | None" = None) -> Applied:  # fmt: skip
    """Complete `options` by what the image says.  `argv` are the words after the image's name, and `entrypoint` what was asked
    for instead of the image's (empty: none at all), as docker understands both; without `argv`, options.argv is the command.

    Raises ImageError for what cannot be meant, SpecError where there is no program.
    """
    if argv is not None:
        options.argv = command(config, argv, entrypoint)
    options.of_image = _said(config, options, argv, entrypoint, user, stop_signal)
    env = {}
    for each in config.env:
        name, _, value = each.partition("=")
        env[name] = value
    options.env = {**env, **options.env}
    places = [_read(each, "Volumes", _inside) for each in config.volumes]
    if options.cwd is None and config.working_dir:
        options.cwd = _read("/" + config.working_dir.lstrip("/"), "WorkingDir", _inside)
    if options.cwd and options.cwd != "/":
        places.append(options.cwd)
    options.places = [*dict.fromkeys(places)]
    if user is None and config.user:
        user = _read(config.user, "User", quantities.user)
    if stop_signal is None and config.stop_signal:
        stop_signal = _read(config.stop_signal, "StopSignal", quantities.signal)
    return Applied(user, stop_signal, {**config.labels, **(labels or {})})


def _said(config: "Config", options: "Options", argv: "list[str] | None", entrypoint: "str | None", user: "str | None",
          stop_signal: "int | None") -> "dict[str, list[str]]":  # fmt: skip
    """What the image says, and whether that alone holds, for `dolium explain`."""
    from dolium.plan.askers import ALONE, INSTEAD, WITH
    from dolium.plan.quoting import quote

    def shown(words: "tuple[str, ...] | None") -> str:
        return " ".join(map(quote, words or ()))

    words = ALONE if not argv and entrypoint is None else INSTEAD
    names = [each.partition("=")[0] for each in config.env]
    said = {
        "Entrypoint": (shown(config.entrypoint), ALONE if words == ALONE else WITH if entrypoint is None else INSTEAD),
        "Cmd": (shown(config.cmd), words),
        "Env": (", ".join(names), WITH if options.env else ALONE),
        "User": (config.user, ALONE if user is None else INSTEAD),
        "WorkingDir": (config.working_dir, ALONE if options.cwd is None else INSTEAD),
        "Volumes": (", ".join(config.volumes), ALONE),
        "StopSignal": (config.stop_signal, ALONE if stop_signal is None else INSTEAD),
    }
    if argv is None:  # of the library, whose callers say the command
        del said["Entrypoint"], said["Cmd"]
    return {field: [value, how] for field, (value, how) in said.items() if value}


def command(config: "Config", argv: "list[str]", entrypoint: "str | None") -> "list[str]":
    """Entrypoint and Cmd: words replace Cmd, another entrypoint both."""
    if entrypoint is not None:
        found = [*([entrypoint] if entrypoint else []), *argv]
    else:
        found = [*(config.entrypoint or ()), *(argv or config.cmd or ())]
    if not found or not found[0]:
        raise SpecError("the image", "says no program to run", hint="name one after the image")
    return found


def _read(text: str, key: str, read: "Callable[[str, str], Value]") -> "Value":
    """A value by the parser of the flag that says the same.  Raises ImageError."""
    try:
        return read(text, key)
    except SpecError as error:
        raise ImageError("the image's config", f"{key}: {error.problem}", action="use") from None


def _inside(text: str, key: str) -> str:
    return quantities.inside(text, key, root_too=True)
