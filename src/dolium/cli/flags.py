"""The flags of `dolium run` and `dolium explain`: what there is, how each is read, and the parser.

The table GROUPS is the single source: the parser, `--help` and completions read it.  Words follow Docker's rules:
`--memory 64m`, `--memory=64m`, `-m 64m`, `-m64m`, `-m=64m`, booleans in a bunch (`-it`), `--` or the first word that is
no flag ends the flags, and of a flag given twice the last one counts unless it makes a list.  No argparse: its import
alone costs more than starting a container.
"""

from dolium.engine import etc
from dolium.errors import SpecError, UsageError
from dolium.plan import quantities
from dolium.plan.capabilities import NUMBERS
from dolium.plan.quantities import inside, integer, quoted, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Reader = Callable[[str, str], Any]

COMMANDS = {
    "run": "Run a program in a container of its own and wait until it ends.",
    "explain": "Print what `dolium run` with the same words would do, step by step; run nothing.",
}
OWN = ("@host", "@venv")
ALIASES = {"dns-opt": "dns-option", "net": "network"}
SECURITY = ("seccomp", "no-new-privileges", "mask", "unmask")

CAPABILITIES = tuple(sorted(name[4:] for name in NUMBERS))


class Flags:
    """What one command line asks for. An attribute is its flag with `_` for `-`; None or empty: not asked."""

    __slots__ = (
        "add_host", "argv",
        "asked", "cap_add", "cap_drop", "cpu_shares", "cpu_weight", "cpus", "cpuset_cpus", "debug", "detach", "device",
        "dns", "dns_option", "dns_search",
        "entrypoint", "env", "env_file", "help", "hostname", "image", "init", "interactive", "label", "memory",
        "memory_swap", "name", "network",
        "oom_score_adj", "pids_limit", "platform", "pull", "read_only", "rm", "security_opt", "stop_signal", "stop_timeout",
        "sysctl",
        "time_namespace", "timeout", "tmpfs", "tty", "ulimit", "user", "userns", "volume", "why_denied", "workdir")

    def __init__(self) -> None:
        self.memory: int | None = None               # bytes
        self.memory_swap: int | None = None          # bytes of memory and swap together; -1: no limit
        self.cpus: float | None = None
        self.cpu_weight: int | None = None           # 1..10000, as in cgroup v2
        self.cpu_shares: int | None = None           # 2..262144, as in cgroup v1
        self.cpuset_cpus: str | None = None          # `0-2,4`, sorted
        self.pids_limit: int | None = None           # -1: no limit
        self.ulimit: list[tuple[str, int, int]] = []  # ("RLIMIT_NOFILE", soft, hard)
        self.oom_score_adj: int | None = None
        self.timeout: float | None = None            # seconds
        self.hostname: str | None = None
        self.network: str | None = None              # none, host, bridge, allow=RULES, container:NAME, ns:FILE
        self.add_host: list[tuple[str, str]] = []    # (name, address)
        self.dns: list[str] = []
        self.dns_search: list[str] = []
        self.dns_option: list[str] = []
        self.time_namespace: bool = False
        self.sysctl: dict[str, str] = {}
        self.env: dict[str, str] = {}                # of --env-file and -e together; -e wins
        self.env_file: dict[str, str] = {}           # of --env-file alone
        self.user: str | None = None                 # NAME, UID, or either with :GROUP; not looked up yet
        self.userns: str | None = None               # auto, host, required
        self.cap_add: list[str] = []                 # CAP_NET_ADMIN, ALL
        self.cap_drop: list[str] = []
        self.security_opt: list[tuple[str, Any]] = []  # read them through the properties below
        self.workdir: str | None = None
        self.entrypoint: str | None = None           # empty: none, where the image has one
        self.pull: str | None = None                 # always, missing, never
        self.platform: str | None = None             # as typed
        self.volume: list[tuple[str, str, bool]] = []  # (source as typed, target, read-only)
        self.tmpfs: list[tuple[str, tuple[str, ...]]] = []  # (target, mount options: "size=BYTES", "noexec")
        self.read_only: bool = False
        self.device: list[tuple[str, str, str]] = []  # (source, target, access out of rwm)
        self.init: bool = False
        self.interactive: bool = False
        self.tty: bool = False
        self.rm: bool = False
        self.detach: bool = False
        self.name: str | None = None
        self.stop_signal: int | None = None
        self.stop_timeout: float | None = None       # seconds
        self.label: dict[str, str] = {}
        self.debug: bool = False
        self.help: bool = False                      # nothing after --help has been read
        self.why_denied: bool = False
        self.asked: dict[str, str] = {}              # attribute: its flag as typed (`-m`), for marks and errors
        self.image: str | None = None                # the first word after the flags
        self.argv: list[str] = []                    # the words after that

    @property
    def seccomp(self) -> "str | None":
        """A profile's file as typed, or `unconfined`."""
        chosen: str | None = self._options("seccomp")[-1]
        return chosen

    @property
    def no_new_privileges(self) -> "bool | None":
        """Whether setuid programs are to give nothing; None: not asked."""
        chosen: bool | None = self._options("no-new-privileges")[-1]
        return chosen

    @property
    def mask(self) -> "list[str]":
        """Further paths to hide."""
        return [path for paths in self._options("mask")[1:] for path in paths]

    @property
    def unmask(self) -> "list[str]":
        """Paths not to hide or protect although that is the default; `ALL` among them: none is."""
        return [path for paths in self._options("unmask")[1:] for path in paths]

    def _options(self, name: "str") -> "list[Any]":
        return [None, *(value for kind, value in self.security_opt if kind == name)]


# How a value is read: each takes the text and the flag as typed, and returns what the attribute holds, or is
# extended by (a list, a dict).

def yes(text: "str", flag: "str") -> "bool":
    """A flag that has no value, or `=true` or `=false`.  Raises SpecError."""
    answers = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in answers:
        raise SpecError(flag, f"expected true or false, got {quoted(text)}", hint=f"`{flag}` alone means true")
    return answers[text.lower()]


def _text(text: "str", flag: "str") -> "str":
    return text


def _whole(low: "int", high: "int", unlimited: "bool" = False) -> "Reader":
    def read(text: "str", flag: "str") -> "int":
        if unlimited and text == "-1":
            return -1
        return integer(text, flag, low, high, hint="-1 for no limit" if unlimited else "")
    return read


def _one_of(*known: "str", hint: "str" = "") -> "Reader":
    def read(text: "str", flag: "str") -> "str":
        if text not in known:
            raise SpecError(flag, f"expected {', '.join(known[:-1])} or {known[-1]}, got {quoted(text)}", hint=hint)
        return text
    return read


def _each(read_one: "Reader") -> "Reader":
    return lambda text, flag: [read_one(text, flag)]


def _memory(text: "str", flag: "str") -> "int":
    if text == "0":
        raise SpecError(flag, "a limit of 0 leaves nothing to run in", hint=f"leave `{flag}` out for no limit")
    return size(text, flag, low=4096)


def _memory_swap(text: "str", flag: "str") -> "int":
    return -1 if text == "-1" else _memory(text, flag)


def _pair(text: "str", flag: "str") -> "dict[str, str]":
    name, _, value = text.partition("=")
    if not name:
        raise SpecError(flag, f"no name before the `=` in {quoted(text)}", hint="write NAME=VALUE")
    return {name: value}


def _env(text: "str", flag: "str") -> "dict[str, str]":
    if "=" in text or not text:
        return _pair(text, flag)
    from os import environ
    return {text: environ[text]} if text in environ else {}


def _env_file(text: "str", flag: "str") -> "dict[str, str]":
    most = 1 << 20
    try:
        with open(text, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise SpecError(flag, f"{quoted(text)} is longer than 1 MiB", hint="is it the right file?")
        lines = content.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UsageError(f"{flag}: cannot read {quoted(text)}: {error.strerror}") from None
    except ValueError:    # UnicodeDecodeError is one, and so is what open() says to a NUL in a name
        raise UsageError(f"{flag}: {quoted(text)} is not a text file in UTF-8") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r").lstrip()
        name = line.partition("=")[0]
        if not line or line[0] == "#":
            continue
        if not name or name.split() != [name] or "\0" in line:
            raise SpecError(f"{flag} {quoted(text)} line {number}", f"not a variable: {quoted(line)}",
                            hint="each line is NAME=VALUE, NAME (taken from your environment), or a # comment")
        found.update(_env(line, flag))
    return found


def _capabilities(text: "str", flag: "str") -> "list[str]":
    found = []
    for item in text.split(","):
        name = item.upper().removeprefix("CAP_")
        if name != "ALL" and name not in CAPABILITIES:
            raise SpecError(flag, f"no capability {quoted(item)}", hint=_similar(name, CAPABILITIES) or "see capabilities(7)")
        found.append(name if name == "ALL" else "CAP_" + name)
    return found


def _security_opt(text: "str", flag: "str") -> "list[tuple[str, Any]]":
    name, sign, value = text.partition("=" if "=" in text else ":")    # Docker's older form has a colon
    if name == "no-new-privileges":
        return [(name, yes(value, flag) if sign else True)]
    if name == "seccomp" and value:
        return [(name, value)]
    if name == "unmask" and value.upper() == "ALL":
        return [(name, ("ALL",))]
    if name in ("mask", "unmask") and value:
        return [(name, tuple(inside(path, flag) for path in value.split(":")))]
    if name in SECURITY:
        raise SpecError(flag, f"`{name}` has no value", hint="seccomp=FILE|unconfined, mask=PATH, unmask=PATH|ALL")
    from dolium.cli.docker import unknown_security
    raise unknown_security(name, flag, SECURITY)


class Flag:
    """One row of the table. `value` is the word for it in `--help`, empty for a boolean; one that may stand alone has
    `takes`, which says of the next word whether it is its value, and then reads an empty text."""

    __slots__ = ("name", "read", "short", "takes", "text", "value")

    def __init__(self, name: "str", short: "str", value: "str", read: "Reader", text: "str",
                 takes: "Callable[[str], bool] | None" = None) -> None:
        self.name = name
        self.short = short
        self.value = value
        self.read = read
        self.text = text
        self.takes = takes

    @property
    def attribute(self) -> "str":
        """Its name in Flags."""
        return self.name.replace("-", "_")


GROUPS = (
    ("What it may use", (
        Flag("memory", "m", "SIZE", _memory, "all die beyond it: 67108864, 64m, 1.5g"),
        Flag("memory-swap", "", "SIZE", _memory_swap, "memory and swap together; -1: no limit"),
        Flag("cpus", "", "NUMBER", quantities.cpus, "as much time as so many CPUs have: 0.5, 2"),
        Flag("cpu-weight", "", "1..10000", _whole(1, 10000), "share when CPUs are scarce, usual: 100"),
        Flag("cpu-shares", "c", "2..262144", _whole(2, 262144), "the same in Docker's measure, usual: 1024"),
        Flag("cpuset-cpus", "", "LIST", quantities.cpuset, "only these CPUs: 0-2,4"),
        Flag("pids-limit", "", "NUMBER", _whole(1, 2**22, unlimited=True), "processes and threads; -1: no limit"),
        Flag("ulimit", "", "NAME=N[:N]", _each(quantities.ulimit), "soft and hard: nofile=1024:2048, core=0"),
        Flag("oom-score-adj", "", "NUMBER", _whole(-1000, 1000), "1000: first to die when memory is short"),
        Flag("timeout", "", "TIME", quantities.seconds, "all die after it: 5, 500ms, 2m; exit code 124"),
    )),
    ("What it sees", (
        Flag("hostname", "h", "NAME", quantities.hostname, "its own host name"),
        Flag("network", "", "NETWORK", quantities.network, "bridge, none, host, allow=...; see below"),
        Flag("add-host", "", "NAME:ADDRESS", _each(etc.host), "for /etc/hosts; host-gateway: this host"),
        Flag("dns", "", "ADDRESS", _each(etc.address), "a name server instead of the host's"),
        Flag("dns-search", "", "DOMAIN", _each(quantities.word), "where short names are looked for"),
        Flag("dns-option", "", "OPTION", _each(quantities.word), "for the resolver: ndots:2, timeout:1"),
        Flag("time-namespace", "", "", yes, "clocks since boot of its own"),
        Flag("sysctl", "", "NAME=VALUE", lambda text, flag: dict([quantities.sysctl(text, flag)]),
             "a kernel setting of its namespaces"),
        Flag("env", "e", "NAME[=VALUE]", _env, "a variable; without VALUE: yours"),
        Flag("env-file", "", "FILE", _env_file, "such lines from FILE; -e overrides"),
    )),
    ("Who it is", (
        Flag("user", "u", "USER[:GROUP]", quantities.user, "a name in the root's passwd, or a number"),
        Flag("userns", "", "auto|host|required", _one_of("auto", "host", "required"),
             "auto: root inside is nobody outside"),
        Flag("cap-add", "", "NAME", _capabilities, "a capability more: NET_ADMIN, ALL"),
        Flag("cap-drop", "", "NAME", _capabilities, "a capability less"),
        Flag("security-opt", "", "OPTION", _security_opt, "see below"),
    )),
    ("Files", (
        Flag("entrypoint", "", "PROGRAM", _text, "instead of the image's; its arguments go too"),
        Flag("pull", "", "always|missing|never", _one_of("always", "missing", "never"), "when to fetch an image"),
        Flag("platform", "", "OS/MACHINE", _text, "of an image that is for several: linux/arm64"),
        Flag("workdir", "w", "DIR", lambda text, flag: inside(text, flag, root_too=True), "where the program starts"),
        Flag("volume", "v", "SRC:DST[:ro]", _each(quantities.volume), "show the host's SRC at DST"),
        Flag("tmpfs", "", "DST[:OPTIONS]", _each(quantities.tmpfs), "an empty one at DST: size=64m,mode=1777"),
        Flag("read-only", "", "", yes, "nothing can be written in the root"),
        Flag("device", "", "SRC[:DST[:rwm]]", _each(quantities.device), "show the host's device SRC at DST"),
    )),
    ("Run", (
        Flag("init", "", "", yes, "a small PID 1 that reaps and passes signals on"),
        Flag("interactive", "i", "", yes, "pass standard input on"),
        Flag("tty", "t", "", yes, "a terminal of its own; `-it`: at yours"),
        Flag("detach", "d", "", yes, "leave it running, print its id"),
        Flag("name", "", "NAME", quantities.name, "to call it by; else it gets one"),
        Flag("rm", "", "", yes, "forget it and its files when it ends"),
        Flag("stop-signal", "", "SIGNAL", quantities.signal, "what `dolium stop` sends, usual: TERM"),
        Flag("stop-timeout", "", "TIME", quantities.seconds, "how long `dolium stop` waits, usual: 10"),
        Flag("label", "l", "NAME[=VALUE]", _pair, "a note on the container"),
        Flag("why-denied", "", "", yes, "say in the end what seccomp has refused"),
        Flag("debug", "", "", yes, "tracebacks for errors"),
        Flag("help", "", "", yes, "this page"),
    )),
)


def parse(argv: "list[str]", command: "str" = "run", flags: "Flags | None" = None) -> "Flags":
    """Read the words after `dolium run` or `dolium explain`, the latter's into ExplainFlags.

    Raises UsageError for a flag that does not exist, SpecError for a value that is malformed; both name the flag as
    typed.  Reads the environment for `-e NAME` and the files of `--env-file`, and touches nothing else.
    """
    table = _table(command)
    if flags is None:
        flags = _fresh(command)
    at = 0
    while at < len(argv):
        word = argv[at]
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "--":
            break
        if word == "-v" and command == "explain":
            from dolium.cli.explain_flags import is_volume
            word = "-v" if is_volume("".join(argv[at:at + 1])) else "--verbose"
        for flag, typed, text in _flags_in(word, table, command):
            if text is None and flag.takes and not flag.takes(argv[at] if at < len(argv) else ""):
                text = ""
            if text is None:
                if at == len(argv):
                    hint = f"write `{typed} {flag.value}`" + ("; for help `--help`" if typed == "-h" else "")
                    raise UsageError(f"{typed}: a value is missing", hint=hint)
                text = argv[at]
                at += 1
            _keep(flags, flag.attribute, flag.read(text, typed), typed)
            if flags.help:
                return flags
    _agree(flags)
    for name, needs in (("timeout", flags.timeout is not None), ("why-denied", flags.why_denied)):
        if flags.detach and needs:
            raise UsageError(f"`--{name}` takes somebody who waits, and with `--detach` nobody does", hint="leave one of them out")
    flags.env = {**flags.env_file, **flags.env}
    flags.image = argv[at] if at < len(argv) else None
    flags.argv = argv[at + 1:]
    if flags.debug:
        from dolium.cli import main
        main.tracebacks = True
    return flags


def groups(command: "str") -> "tuple[tuple[str, tuple[Flag, ...]], ...]":
    """The flags of that command."""
    if command != "explain":
        return GROUPS
    from dolium.cli.explain_flags import GROUP
    return (*GROUPS, GROUP)


def _fresh(command: "str") -> "Flags":
    if command != "explain":
        return Flags()
    from dolium.cli.explain_flags import ExplainFlags
    return ExplainFlags()


def _table(command: "str") -> "dict[str, Flag]":
    table = {}
    for _, rows in groups(command):
        for flag in rows:
            table["--" + flag.name] = flag
            if flag.short:
                table["-" + flag.short] = flag
    for alias, name in ALIASES.items():
        table["--" + alias] = table["--" + name]
    return table


def _flags_in(word: "str", table: "dict[str, Flag]", command: "str") -> "Iterator[tuple[Flag, str, str | None]]":
    """The flags in one word, each as typed and with its value; None: the value is the word that follows."""
    if word.startswith("--"):
        typed, equals, text = word.partition("=")
        flag = _find(typed, word, table, command)
        yield flag, typed, text if equals else None if flag.value else "true"
        return
    if "-" + word.partition("=")[0] in table:
        # `-user root` would be `-u ser` with the image `root`. Nobody means that.
        raise UsageError(f"unknown flag {quoted(word)}", hint=f"did you mean `-{word}`?")
    rest = word[1:]
    while rest:
        typed, rest = "-" + rest[0], rest[1:]
        flag = _find(typed, word, table, command)
        if flag.value or rest.startswith("="):
            yield flag, typed, rest.removeprefix("=") if rest else None
            return
        yield flag, typed, "true"


def _find(typed: "str", word: "str", table: "dict[str, Flag]", command: "str") -> "Flag":
    if typed not in table:
        from dolium.cli.docker import unknown_flag
        raise unknown_flag(typed, word, command, table, [other for other in COMMANDS if typed in _table(other)])
    return table[typed]


def _keep(flags: "Flags", attribute: "str", value: "Any", typed: "str") -> "None":
    held = getattr(flags, attribute)
    if isinstance(held, list):
        held.extend(value)
    elif isinstance(held, dict):
        held.update(value)
    else:
        setattr(flags, attribute, value)
    flags.asked[attribute] = typed


def _agree(flags: "Flags") -> "None":
    """Flags that are right alone and wrong together."""
    asked = flags.asked
    if "cpu_weight" in asked and "cpu_shares" in asked:
        raise UsageError(f"`--cpu-weight` and `{asked['cpu_shares']}` set the same thing", hint="leave one out")
    if flags.memory_swap is None:
        return
    if flags.memory is None:
        raise UsageError("`--memory-swap` needs `--memory`", hint="it limits memory and swap together")
    if -1 < flags.memory_swap < flags.memory:
        raise UsageError(f"`--memory-swap` is below `{asked['memory']}`", hint="it limits memory and swap together")


def classify(word: "str") -> "str":
    """What kind of root a word names: `path`, `own` (`@host`, `@venv`) or `image`."""
    if quantities.is_path(word):
        return "path"
    if not word.startswith("@"):
        return "image"
    if word not in OWN:
        raise UsageError(f"no root {quoted(word)}", hint=_similar(word, OWN) or f"there are {' and '.join(OWN)}")
    return "own"


def _similar(word: "str", known: "tuple[str, ...]") -> "str":
    from dolium.engine.nearest import did_you_mean
    return did_you_mean(word, known)
