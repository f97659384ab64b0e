"""The command `dolium`: pick the command, carry it out, turn errors into text and an exit code."""

import gc
import os
import sys
from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

ENOSPC, EDQUOT = 28, 122
COMMANDS = {
    "run": ("run", "main", "run a program in a container of its own"),
    "explain": ("explain", "main", "print what `run` would do, step by step"),
    "ps": ("ps", "main", "list containers"),
    "inspect": ("inspect", "main", "all that is known of a container"),
    "start": ("start", "main", "start a container again, with what it wrote"),
    "exec": ("exec", "main", "run one more program in a container"),
    "stop": ("stop", "stop", "ask a container to end; end it if it does not"),
    "kill": ("stop", "kill", "send a container a signal"),
    "wait": ("stop", "wait", "wait for the end of a container"),
    "logs": ("logs", "main", "what a detached container has printed"),
    "cp": ("cp", "main", "copy files into a container and out of it"),
    "export": ("files", "export", "a container's files as one tar archive"),
    "diff": ("files", "diff", "what a container has changed of its image's files"),
    "rename": ("rm", "rename", "give a container another name"),
    "rm": ("rm", "rm", "forget a container, with what it wrote"),
    "prune": ("rm", "prune", "forget all containers that do not run, and what nobody needs"),
    "images": ("images", "main", "list images"),
    "pull": ("pull", "main", "fetch an image from a registry"),
    "push": ("pull", "push_main", "send an image to a registry"),
    "login": ("login", "login", "say who you are at a registry"),
    "logout": ("login", "logout", "forget who you are at a registry"),
    "tag": ("images", "tag", "give an image one more name"),
    "rmi": ("images", "rmi", "take an image's name away, or the image"),
    "history": ("images", "history", "how an image was made"),
    "image": ("images", "image", "inspect, verify, prune images, and the rest"),
    "commit": ("making", "commit", "make an image of a container"),
    "import": ("making", "import_", "make an image of a tar archive of files"),
    "save": ("making", "save", "images into an archive that others load"),
    "load": ("images", "load", "images out of an archive"),
    "system": ("system", "main", "system reset: remove all that Dolium has made"),
    "doctor": ("doctor", "main", "say what works on this host, and how to mend the rest"),
}
"""The commands: module, function, what `dolium --help` says."""
tracebacks = False
"""Whether errors are shown as Python shows them; `--debug` says so (cli/flags.py)."""


def main() -> None:
    """Never returns: ends the process at once, without the interpreter's farewell."""
    gc.disable()  # a start makes thousands of objects and no garbage to speak of
    _open_standard()
    os.umask(0o022)  # what is for its owner alone is made so; a stricter mask would shut out the owner too
    if getsignal(SIGINT) == SIG_DFL:
        signal(SIGINT, default_int_handler)
    code = run(sys.argv[1:])
    os._exit(code)


def run(argv: "list[str]") -> int:
    """The exit code of one command line."""
    global tracebacks
    from dolium.errors import DoliumError

    tracebacks = False
    try:
        return _dispatch(argv)
    except DoliumError as problem:
        if tracebacks:
            raise
        from dolium.cli import render

        render.write(2, render.error(problem))
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    except OSError as problem:
        if tracebacks:
            raise
        from dolium.cli import render

        where = f" `{problem.filename}`" if problem.filename else ""
        render.write(2, f"error: dolium itself could not go on:{where} {problem.strerror} (errno {problem.errno})\n")
        if problem.errno in (ENOSPC, EDQUOT):
            from dolium.runtime.places import data_path

            render.write(2, f"\nhint: `df {data_path()}` says whether it is that disk; `dolium prune` removes what no container "
                            "uses, `dolium image prune -a` the images besides\n")  # fmt: skip
        return 125


def _dispatch(argv: "list[str]") -> int:
    word = argv[0] if argv else ""
    if word == "help" and argv[1:]:
        word, argv = argv[1], [argv[1], "--help"]
    if word in COMMANDS:
        module, function, _ = COMMANDS[word]
        command = getattr(__import__(f"dolium.cli.{module}", fromlist=(function,)), function)  # importlib takes a millisecond
    elif word == "_ended":
        from dolium.engine.settling import end_of_detached as command
    else:
        return _other(word)
    code: int = command(argv[1:])
    return code


def _other(word: str) -> int:
    from dolium.cli import render

    if word in ("", "help", "--help", "-h"):
        render.write(1 if word else 2, _usage())
        return 0 if word else 125
    if word in ("version", "--version"):
        from dolium import __version__

        render.write(1, f"dolium {__version__}\n")
        return 0
    from dolium.cli.docker import unknown_command

    raise unknown_command(word, COMMANDS)


def _usage() -> str:
    lines = [f"  {name:<9} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join(["Usage: dolium COMMAND [FLAG...]", "", "Containers you can read before they run.", "", *lines, "",
                      "  dolium run --rm @host echo hello    this host's programs, in a container",
                      "  dolium explain @host sh             what that does, step by step", "",
                      "dolium COMMAND --help tells more, dolium --version the version.", ""])  # fmt: skip


def _open_standard() -> None:
    """A closed 0, 1 or 2 would be given to the next thing opened: put /dev/null there first."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
