"""The flags that `dolium explain` has besides those of `dolium run`."""

import os

from dolium.cli.flags import Flag, Flags, yes
from dolium.errors import UsageError
from dolium.plan import quantities

MOST = 1 << 20
"""More steps than any plan has."""


class ExplainFlags(Flags):
    """What one command line of `dolium explain` asks for."""

    __slots__ = ("bundle", "diff", "id", "json", "run", "save", "sh", "shell", "step", "until", "verbose")

    def __init__(self) -> None:
        super().__init__()
        self.verbose: bool = False
        self.json: bool = False
        self.step: int | str | None = None
        self.run: bool = False
        self.until: int | None = None
        self.shell: bool = False
        self.sh: bool = False
        self.save: str | None = None
        self.diff: str | None = None  # a file; empty: the defaults
        self.id: str | None = None
        self.bundle: str | None = None

    def check(self) -> None:
        """Raises UsageError for flags that are right alone and wrong together."""
        if self.shell and self.until is None:
            raise UsageError("`--shell` needs `--until N`", hint="after which step? dolium explain --until 12 --shell ...")
        views = [name for name in VIEWS if self.asked.get(name)]
        if len(views) > 1:
            raise UsageError(f"`--{views[0]}` and `--{views[1]}` show different things", hint="leave one of them out")
        kinds = [name for name in ("id", "bundle") if self.asked.get(name)]
        if len(kinds) > 1:
            raise UsageError("`--id` and `--bundle` name different containers", hint="leave one of them out")
        if kinds:
            self._stands_alone(kinds[0])
        if self.until is not None and self.why_denied:
            raise UsageError("`--why-denied` is about the program, which `--until` does not start", hint="leave one of them out")
        if self.until is not None and self.tty:
            raise UsageError("`--until` leaves the shell your own terminal", hint=f"leave `{self.asked['tty']}` out")
        for name in ("run", "until"):
            if self.asked.get(name) and self.detach:
                raise UsageError(f"`--{name}` waits for the end, and `--detach` does not", hint="leave one of them out")

    def _stands_alone(self, kind: str) -> None:
        """A container that is there already is what it is: no words of `run` go with it."""
        more = [typed for name, typed in self.asked.items() if name not in (*VIEWS, "id", "bundle", "verbose", "debug")]
        more += [each for each in (self.image, *self.argv) if each]
        if more:
            raise UsageError(f"`--{kind}` names a container whose words are known: {quantities.quoted(more[0])} is one too many",
                             hint="leave it out")  # fmt: skip
        for name in ("run", "until"):
            if self.asked.get(name):
                raise UsageError(f"`--{name}` starts a container of its own, and `--{kind}` names one that is there",
                                 hint="leave one of them out")  # fmt: skip
        if self.sh and kind == "bundle":
            raise in_two_parts()


def in_two_parts() -> UsageError:
    """Of `--sh` and a container of an engine: no command of ours starts it."""
    return UsageError("`--sh` writes down what `dolium run` does, and an engine's container is started in two parts",
                      hint="leave it out")  # fmt: skip


VIEWS = ("json", "step", "run", "until", "sh", "save", "diff")


def _number(text: str, flag: str) -> int:
    return quantities.integer(text, flag, 1, MOST, hint="`dolium explain` numbers the steps")


def _step(text: str, flag: str) -> "int | str":
    """A number, or a word that is to be found in the plan."""
    return text if text.strip() and not text.lstrip("-").isdigit() else _number(text, flag)


def _file(text: str, flag: str) -> str:
    if not text:
        raise UsageError(f"{flag}: no file is named", hint=f"write `{flag} FILE`")
    return text


def is_volume(word: str) -> bool:
    """Whether the word after `-v` is SRC:DST: else it is `--verbose`.  The tag of an image never begins with `/`."""
    from dolium.engine.references import TRANSPORTS

    before, colon, after = word.partition(":")
    return bool(colon) and before not in TRANSPORTS and (after.startswith("/") or quantities.is_path(before))


def _is_plan(word: str) -> bool:
    """Whether the word after `--diff` is a saved plan: else it is the next flag, or the rootfs.  A path that leads nowhere is
    taken for one, whose error says how to make it."""
    if word.endswith((".plan", ".json")):
        return True
    return not os.path.isdir(word) if quantities.is_path(word) else not word.startswith(("-", "@")) and os.path.isfile(word)


GROUP = ("Explain", (
    Flag("verbose", "", "", yes, "words and system calls; or `-v` and no SRC:DST"),
    Flag("step", "", "N|WORD", _step, "all about one step, by number or by name"),
    Flag("run", "", "", yes, "do it, and show how long each step took"),
    Flag("until", "", "N", _number, "do only the steps up to N, then undo them"),
    Flag("shell", "", "", yes, "with --until: a shell before they are undone"),
    Flag("sh", "", "", yes, "the same by hand, as a shell script"),
    Flag("save", "", "FILE", _file, "keep the plan in FILE"),
    Flag("diff", "", "[FILE]", lambda text, _: text, "what differs from FILE, or from no flags", takes=_is_plan),
    Flag("id", "", "CONTAINER", _file, "of a container that is there"),
    Flag("bundle", "", "DIR", _file, "of an OCI bundle, by its config.json"),
    Flag("json", "", "", yes, "the steps as JSON"),
))  # fmt: skip
