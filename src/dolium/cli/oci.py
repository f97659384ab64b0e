"""The command `dolium-oci`: the words that engines give an OCI runtime, in every spelling that they use."""

import gc
import os
import sys
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

from dolium.errors import DoliumError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GLOBAL = {"root": "DIR", "log": "FILE", "log-format": "FORMAT", "debug": "", "systemd-cgroup": "", "rootless": "true|false|auto",
          "cgroup-manager": "NAME", "criu": "FILE"}  # fmt: skip
"""Flags that stand before the command: name -> what its value is called, empty for none."""
MANAGERS = ("cgroupfs", "systemd", "disabled")
CREATE = {"bundle": "DIR", "console-socket": "SOCKET", "pid-file": "FILE", "pidfd-socket": "SOCKET", "no-pivot": "",
          "no-new-keyring": "", "preserve-fds": "N", "config": "FILE"}  # fmt: skip
SHORT = {"b": "bundle", "a": "all", "d": "detach", "e": "env", "p": "process", "t": "tty", "u": "user", "c": "cap",
         "g": "additional-gids", "r": "resources", "q": "quiet", "v": "version", "h": "help"}  # fmt: skip
OF_F = ("force", "format", "config")
"""What `-f` says, by what the command has: of delete, of list and ps, of create and run (as crun has it)."""
RESOURCES = {
    each: "N"
    for each in (
        "blkio-weight",
        "cpu-period",
        "cpu-quota",
        "cpu-burst",
        "cpu-share",
        "cpu-shares",
        "cpu-rt-period",
        "cpu-rt-runtime",
        "cpu-idle",
        "cpuset-cpus",
        "cpuset-mems",
        "memory",
        "memory-reservation",
        "memory-swap",
        "kernel-memory",
        "kernel-memory-tcp",
        "pids-limit",
        "l3-cache-schema",
        "mem-bw-schema",
    )
}
CRIU = {"image-path": "DIR", "work-path": "DIR", "tcp-established": "", "tcp-close": "", "ext-unix-sk": "", "shell-job": "",
        "file-locks": "", "manage-cgroups-mode": "soft|full|strict|ignore", "empty-ns": "network", "auto-dedup": "",
        "lazy-pages": "", "lsm-profile": "TYPE:NAME", "lsm-mount-context": "LABEL"}  # fmt: skip
"""Flags that checkpoint and restore share."""
COMMANDS: "dict[str, tuple[dict[str, str], str, str]]" = {
    "create": (CREATE, "ID", "make a container, up to its program"),
    "start": ({}, "ID", "run the program of a created one"),
    # --no-subreaper: nobody of ours is one ever, what an engine's runc does not do then we do not do at all
    "run": ({**CREATE, "detach": "", "keep": "", "no-subreaper": ""}, "ID", "create and start; wait for its end, unless --detach"),
    "state": ({}, "ID", "its state, as JSON"),
    "kill": ({"all": "", "regex": ""}, "ID [SIGNAL]", "send a signal, SIGTERM unless told otherwise; --regex: to all such IDs"),
    "delete": ({"force": "", "regex": ""}, "ID", "forget one that has ended; --force: kill it first; --regex: all such IDs"),
    "exec": ({"process": "FILE", "console-socket": "SOCKET", "pid-file": "FILE", "detach": "", "preserve-fds": "N", "tty": "",
              "user": "UID[:GID]", "cwd": "DIR", "env": "NAME=VALUE", "cap": "NAME", "apparmor": "NAME", "process-label": "LABEL",
              "no-new-privs": "", "cgroup": "PATH", "ignore-paused": "", "additional-gids": "GID", "pidfd-socket": "SOCKET",
              "no-subreaper": ""},
             "ID [COMMAND...]", "run one more program in it"),
    "list": ({"format": "table|json", "quiet": ""}, "", "all containers"),
    "ps": ({"format": "table|json"}, "ID [WORD...]", "the processes in one"),
    "events": ({"stats": "", "interval": "TIME"}, "ID", "what it uses, again and again, or once with --stats"),
    "pause": ({}, "ID", "stop all its processes where they are"),
    "resume": ({}, "ID", "let them go on"),
    "update": ({"resources": "FILE", **RESOURCES}, "ID", "other limits"),
    "features": ({}, "", "what is implemented, as JSON"),
    "spec": ({"bundle": "DIR", "rootless": ""}, "", "write a config.json to begin with"),
    "checkpoint": ({**CRIU, "parent-path": "DIR", "pre-dump": "", "leave-running": "", "status-fd": "FD", "network-lock": "METHOD",
                    "page-server": "ADDRESS:PORT", "link-remap": "", "tcp-skip-in-flight": ""},
                   "ID", "have criu write it down, and end it unless told otherwise"),
    "restore": ({**CREATE, **CRIU, "detach": "", "no-subreaper": ""},
                "ID", "have criu make it again; wait for its end, unless --detach"),
}  # fmt: skip
"""Command -> its flags, its words, what it does."""
REPEATED = ("env", "cap", "additional-gids", "empty-ns")


class Words:
    """What one command line says: global `options`, the `command`, its `flags`, and its other `words`."""

    __slots__ = ("options", "command", "flags", "words")

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.command = ""
        self.flags: dict[str, Any] = {}
        self.words: list[str] = []

    def number(self, name: str) -> int:
        """A flag's number, 0 where it is not given.  Raises UsageError."""
        text = self.flags.get(name, "0")
        if not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise UsageError(f"--{name}: expected a number, got `{text[:40]}`")
        return int(text)

    @property
    def id(self) -> str:
        """The container's."""
        return self.words[0]


def parse(argv: "list[str]", found: "Words") -> None:
    """Read the words after `dolium-oci` into `found`, as far as they make sense: who reports an error wants to know where to.

    Raises UsageError."""
    at, table, into = 0, {**GLOBAL, "version": "", "help": ""}, found.options
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--" and found.command:
            found.words += argv[at:]
            break
        if len(word) < 2 or word[0] != "-" or found.command == "ps" and found.words and not _is_format(word, argv[at:]):
            if not found.command:
                if word == "help":  # `help COMMAND`
                    into["help"] = "true"
                    continue
                if word not in COMMANDS:
                    raise UsageError(f"there is no command `{word}`", hint="they are " + ", ".join(COMMANDS))
                found.command, table, into = word, {**COMMANDS[word][0], "help": ""}, found.flags
                continue
            found.words.append(word)
            if found.command == "exec":  # what follows the id belongs to the program
                rest = argv[at:]
                found.words += rest[1:] if rest[:1] == ["--"] else rest
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name == "f":
            name = next((each for each in OF_F if each in table), name)
        name = SHORT.get(name, name) if len(name) == 1 else name
        if name not in table:
            raise UsageError(f"`{f'dolium-oci {found.command}'.strip()}` has no flag `{word.partition('=')[0]}`")
        if table[name] and not equals:
            if at == len(argv):
                raise UsageError(f"--{name}: a value is missing, {table[name]}")
            value, at = argv[at], at + 1
        elif not table[name]:
            value = value or "true"
            if value in ("false", "0"):
                continue
        if name in REPEATED:
            into.setdefault(name, []).append(value)
        else:
            into[name] = value


def _is_format(word: str, rest: "list[str]") -> bool:
    """Of a word after the id of `ps`: whether it is ours, and not ps(1)'s, whose `-f` says something else."""
    name, equals, _ = word.partition("=")
    return name in ("--format", "-format") or name == "-f" and (bool(equals) or rest[:1] in (["json"], ["table"]))


def main() -> None:
    """Never returns: ends the process at once."""
    gc.disable()
    _open_standard()
    os.umask(0o022)
    if getsignal(SIGINT) == SIG_DFL:
        signal(SIGINT, default_int_handler)
    os._exit(run(sys.argv[1:]))


def run(argv: "list[str]") -> int:
    """The exit code of one command line."""
    found = Words()
    try:
        parse(argv, found)
        return _dispatch(found)
    except DoliumError as problem:
        if found.options.get("debug") and os.environ.get("DOLIUM_TRACEBACK"):
            raise
        return _report(found, _plain(problem) + (f" ({problem.hint})" if problem.hint else ""))
    except OSError as problem:
        where = f" `{problem.filename}`" if problem.filename else ""
        return _report(found, f"dolium-oci could not go on:{where} {problem.strerror}")
    except KeyboardInterrupt:
        return 130


def _plain(problem: DoliumError) -> str:
    """The docker command tells 126 and 127 by `no such file or directory` and `permission denied`, in small letters."""
    words = os.strerror(getattr(problem, "errno_", 0))
    return str(problem).replace(words, words[:1].lower() + words[1:])


def _report(found: Words, message: str) -> int:
    """To whoever called, in one line: engines show the last one only."""
    message = " ".join(message.split())
    if path := found.options.get("log"):
        _log(path, found.options.get("log-format", "text"), message)
    _write(2, f"error: {message}\n")
    return 255 if found.command == "exec" else 1


def _log(path: str, kind: str, message: str, level: str = "error") -> None:
    from time import gmtime, strftime

    from dolium.core import document

    now = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
    quoted = document.write(message)
    line = (
        document.write({"level": level, "msg": message, "time": now})
        if kind == "json"
        else f'time="{now}" level={level} msg={quoted}'
    )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError:
        return
    _write(fd, line + "\n")
    os.close(fd)


def note(found: Words, message: str) -> None:
    """A warning for the log alone: standard error is the container's."""
    if path := found.options.get("log"):
        _log(path, found.options.get("log-format", "text"), message, "warning")


def warn(found: Words, message: str) -> None:
    """What went wrong without changing the outcome."""
    _write(2, f"warning: {message}\n")


def _write(fd: int, text: str) -> bool:
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        return False
    return True


def show(text: str) -> bool:
    """Data, on standard output.  Whether it could be written."""
    return _write(1, text)


def _dispatch(found: Words) -> int:
    if "version" in found.options:
        from dolium import __version__

        show(f"dolium-oci version {__version__}\nspec: 1.3.0\n")
        return 0
    if not found.command or "help" in found.options or "help" in found.flags:
        show(_usage(found.command))
        return 0 if found.command or "help" in found.options else 1
    if (told := found.options.get("rootless", "auto")) not in ("true", "false", "auto", "1", "0"):  # who calls is seen, not told
        raise UsageError(f"--rootless: expected true, false or auto, got `{told}`")
    kind = found.options.get("log-format", "text")
    if kind not in ("json", "text"):
        raise UsageError(f"--log-format: expected json or text, got `{kind}`")
    manager = found.options.get("cgroup-manager", "cgroupfs")
    if manager not in MANAGERS:
        raise UsageError(f"--cgroup-manager: expected {', '.join(MANAGERS[:-1])} or {MANAGERS[-1]}, got `{manager}`")
    words = COMMANDS[found.command][1]
    if words.startswith("ID") and not found.words:
        raise UsageError(f"`dolium-oci {found.command}`: the container's id is missing")
    if not words.endswith("...]") and len(found.words) > len(words.split()):
        raise UsageError(f"`dolium-oci {found.command}`: one word too many: `{found.words[len(words.split())]}`")
    if found.command in LIFE:
        from dolium.cli import oci_life as module
    elif found.command in ("checkpoint", "restore"):
        from dolium.cli import oci_checkpoint as module  # type: ignore[no-redef]
    else:
        from dolium.cli import oci_look as module  # type: ignore[no-redef]
    code: int = getattr(module, found.command)(found, root(found))
    return code


LIFE = ("create", "start", "run", "kill", "delete", "exec", "state")
"""Those that every container meets; all else is loaded only where it is asked for."""


def root(found: Words) -> str:
    """Where containers are."""
    from dolium.runtime import state

    given: str = found.options.get("root", "")
    return os.path.abspath(given) if given else state.default_root()


def _usage(command: str) -> str:
    if command:
        flags, words, text = COMMANDS[command]
        lines = [f"Usage: dolium-oci {command} [FLAG...] {words}".rstrip(), "", f"  {text}", ""]
    else:
        flags = GLOBAL
        lines = ["Usage: dolium-oci [FLAG...] COMMAND ...", "", "An OCI runtime.", ""]
        lines += [f"  {name:<11} {text}" for name, (_, _, text) in COMMANDS.items()] + [""]
    return "\n".join([*lines, *(f"  --{name} {value}".rstrip() for name, value in flags.items()), ""])


def _open_standard() -> None:
    """A closed 0, 1 or 2 would be given to the next thing opened: put /dev/null there first."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
