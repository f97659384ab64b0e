"""What the command line consists of, taken from the tables that parse it: for man pages and completions."""

import os
import sys
from importlib import import_module

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src"))

from dolium.cli import flags, help_page, images, words
from dolium.cli.flags import Flag
from dolium.cli.main import COMMANDS
from dolium.plan import quantities, verdicts
from dolium.plan.facts import Facts
from dolium.plan.failures import FAILURES
from dolium.plan.findings import Findings

HELP = Flag("help", "", "", flags.yes, "this page")


class Command:
    """One command.

    name, summary  as in `dolium --help`
    about          a sentence or two
    usage          the words after `dolium NAME`, without the flags
    groups         (title or nothing, its flags)
    leading        whether the first word that is no flag ends the flags
    before, after  what `--help` says besides, before and after the flags
    own            the commands that it has itself, such as `image inspect`
    """

    def __init__(self, name: str, about: str, usage: str, groups: "list[tuple[str, list[Flag]]]", leading: bool) -> None:
        self.name = name
        self.summary = COMMANDS[name][2] if name in COMMANDS else images.OWN[name.rpartition(" ")[2]][1]
        self.about, _, self.before = about.partition("\n\n")
        self.usage = usage
        self.groups = groups
        self.leading = leading
        self.after = ""
        self.own: list[Command] = []

    def flags(self) -> "list[Flag]":
        return [flag for _, rows in self.groups for flag in rows]


def command(name: str) -> Command:
    return _runs(name) if name in flags.COMMANDS else _smaller(name)


def every() -> "list[Command]":
    return [command(name) for name in COMMANDS]


def all_tables() -> "list[Command]":
    """Those too that another one has."""
    return [each for found in every() for each in (found, *found.own)]


def _runs(name: str) -> Command:
    """`run` and those that take the same words."""
    groups = [(title, [*rows]) for title, rows in flags.groups(name)]
    page = help_page.help(name)
    usage, _, rest = page.partition("\n\n")
    found = Command(name, flags.COMMANDS[name], usage.partition("[FLAG...] ")[2], groups, leading=True)
    found.before = rest.partition(f"\n\n{groups[0][0]}\n")[0].removeprefix(found.about).strip("\n")
    found.after = page.partition(f"\n{groups[-1][0]}\n")[2].partition("\n\n")[2].strip("\n")
    return found


def _smaller(name: str) -> Command:
    """One whose words are read by words.parse: what it is called with there."""
    seen = []

    def look(command: str, argv: "list[str]", table: "tuple[Flag, ...]", *, least: int = 0, most: int = 1 << 16,
             what: str = "CONTAINER", about: str = "", leading: bool = False, missing: object = None) -> None:  # fmt: skip
        usage = what if least or leading else f"[{what}]" if most else ""
        usage += "..." if most > max(least, 1) and not leading else ""
        seen.append(Command(command, about, usage, [("", [*table, HELP])], leading))

    module, function, _ = COMMANDS[name]
    usual = words.parse
    words.parse = look  # type: ignore[assignment]
    try:
        getattr(import_module(f"dolium.cli.{module}"), function)([])
        if name == "image":
            for own, _ in images.OWN.values():
                own([])
    finally:
        words.parse = usual
    seen[0].own = seen[1:]
    return seen[0]


def signature(flag: Flag) -> "tuple[str, ...]":
    """Its names as one types them, the short one first."""
    return (*([f"-{flag.short}"] if flag.short else []), f"--{flag.name}")


WORDS = {
    "cap-add": ("ALL", *flags.CAPABILITIES), "cap-drop": ("ALL", *flags.CAPABILITIES),
    "platform": ("linux/amd64", "linux/arm64"),
    "security-opt": ("seccomp=", "seccomp=unconfined", "no-new-privileges=true", "no-new-privileges=false", "mask=", "unmask=",
                     "unmask=ALL"),
    "stop-signal": quantities.SIGNALS, "signal": quantities.SIGNALS,
    "ulimit": tuple(f"{name}=" for name in quantities.RESOURCES),
    "tail": ("all",), "format": ("json",),
}  # fmt: skip
"""What may be said for a flag's value, or how it begins."""
KINDS = {"FILE": "files", "CONTAINER": "containers", "SRC:DST[:ro]": "files",
         "SRC[:DST[:rwm]]": "devices", "NAME[=VALUE]": "variables"}  # fmt: skip


def _checks() -> "tuple[str, ...]":
    """The ids that `dolium doctor` knows, as root or not."""
    found: dict[str, None] = {}
    for rootless in (False, True):
        found |= dict.fromkeys(each.id for each in verdicts.checks(Findings(Facts(rootless=rootless))))
    return tuple(found)


def consumes(flag: Flag) -> bool:
    """Whether the word after it is its value, whatever that looks like."""
    return bool(flag.value) and flag.takes is None


def values(flag: Flag) -> "tuple[str, tuple[str, ...]]":
    """How a flag's value is completed: (`words`, which), (`files`, ()) and so on, or nothing for what only its user knows."""
    parts = flag.value.split("|")
    if len(parts) > 1 and all(part.replace("-", "").isalpha() and part.islower() for part in parts):
        return "words", tuple(parts)
    if flag.name in WORDS:
        return "words", tuple(str(each) for each in WORDS[flag.name])
    if flag.name == "network":
        return "networks", ("none", "host", "bridge", "allow=", "container:", "ns:")
    if flag.name in ("label", "bundle"):
        return "files" if flag.name == "bundle" else "", ()
    return KINDS.get(flag.value, ""), ()


def places(found: Command) -> "list[tuple[str, tuple[str, ...]]]":
    """How the words of a command that are no flags are completed, in order; the last one goes on."""
    if found.usage.startswith("ROOTFS"):
        own = flags.OWN if found.name != "explain" else (*flags.OWN, *FAILURES)
        return [("roots", own), ("program", ())]
    if found.name == "system":
        return [("words", ("reset",))]
    if found.name == "image":
        return [("words", (*images.OWN, *images.SECOND))]
    if found.name == "doctor":
        return [("words", _checks())]
    which = "running" if found.name in ("exec", "stop", "kill", "wait") else "containers"
    kinds = {"CONTAINER": which, "PROGRAM": "program", "IMAGE": "images", "NAME[:TAG": "images", "AS": "images", "FILE|-": "files",
             "SOURCE": "copies", "TARGET": "copies", **({"NAME": "images"} if found.name == "images" else {})}  # fmt: skip
    return [(kinds.get(word.strip("[]."), ""), ()) for word in found.usage.split() if word != "[ARGUMENT...]"]
