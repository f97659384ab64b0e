"""The one grammar for values: what a person or a program may write for a size, a time, a number of CPUs, a user.

Every function takes the value and `path`, the name to blame in an error (`--memory` on the command line, `memory` in
the library), and returns the plain number or text that is meant, or raises SpecError.  Floats are never used to read a
decimal fraction of a size, so `1.1g` is the same number on every machine.
"""

from dolium.errors import SpecError, UsageError

SIGNALS = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",
    "SYS",
)  # fmt: skip
"""signal(7), in the order of their numbers, from 1 on"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INFINITY = 2**64 - 1          # RLIM_INFINITY, getrlimit(2)
LARGEST = 2**63 - 1           # what the kernel's page counters and loff_t can hold
CPUS = 8192                   # the largest NR_CPUS a kernel can be built with (arch/x86/Kconfig, MAXSMP)

_SIZES = "bytes, or powers of 1024: 67108864, 512k, 64m, 64MiB, 1.5g, 2t"
_TIMES = "seconds, or a number with its unit: 5, 1.5, 500ms, 5s, 2m, 1h"

_UNITS = {"": 0, "b": 0}
for _power, _letter in enumerate("kmgt", 1):
    for _ending in ("", "b", "i", "ib"):
        _UNITS[_letter + _ending] = _power

# getrlimit(2): all that Linux has, under the names that `docker run --ulimit` and limits.conf(5) use.
RESOURCES = ("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
              "rtprio", "rttime", "sigpending", "stack")


def size(value: "object", path: "str", low: "int" = 0) -> "int":
    """Bytes: an int, or text such as `64m`; a fraction of a byte is dropped. At least `low`."""
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif isinstance(value, str) and value.isascii():
        text = value.lower()
        figures = text.rstrip("bikmgt")
        power = _UNITS.get(text[len(figures):])
        number = _decimal(figures.removesuffix(" "))
        if power is None or number is None:
            _refuse(path, "a size", value, _SIZES)
        count = number[0] * 1024**power // number[1]
    else:
        _refuse(path, "a size", value, _SIZES)
    if count < low or count > LARGEST:
        bound = f"at least {show_size(low)}" if count < low else "less than 8 EiB"
        _refuse(path, f"a size of {bound}", value, _SIZES)
    return count


def cpus(value: "object", path: "str") -> "float":
    """A number of CPUs from 0.01 (a hundredth of one) to 1,000,000."""
    return _real(value, path, "a number of CPUs", 0.01, 1e6, "1 is one whole CPU, 0.5 half of one")


def seconds(value: "object", path: "str") -> "float":
    """Seconds, from a millisecond to 30 years: a number, or text such as `1.5`, `500ms`, `2m`."""
    if isinstance(value, str):
        figures = value.rstrip("smh")
        units = {"": (1, 1), "ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1)}
        unit = units.get(value[len(figures):])
        number = _decimal(figures)
        if unit is None or number is None:
            _refuse(path, "a time", value, _TIMES)
        # One division of two integers is rounded once: `500ms` is exactly 0.5.
        whole, scale = number[0] * unit[0], number[1] * unit[1]
        if whole > 10**9 * scale or whole * 1000 < scale:
            _refuse(path, "a time from 0.001 to 1000000000 seconds", value, _TIMES)
        return whole / scale
    return _real(value, path, "a time", 0.001, 1e9, _TIMES)


def integer(value: "object", path: "str", low: "int", high: "int", hint: "str" = "") -> "int":
    """A whole number from `low` to `high`, both included."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        _refuse(path, f"a whole number from {low} to {high}", value, hint)
    return value


def cpuset(text: "object", path: "str") -> "str":
    """A list of CPU numbers, `0-2,4`, sorted and joined as the kernel prints it (cpuset(7), list format)."""
    if not isinstance(text, str) or len(text) > 4096:
        _refuse(path, "a list of CPUs", text, "numbers and ranges with commas between: 0, 0-3, 0-2,4")
    spans = []
    for item in text.split(","):
        first, dash, last = item.partition("-")
        if not dash:
            last = first
        if not (item.isascii() and first.isdigit() and last.isdigit() and len(item) <= 20):
            _refuse(path, "a list of CPUs", text, "numbers and ranges with commas between: 0, 0-3, 0-2,4")
        span = int(first), int(last)
        if span[0] > span[1]:
            _refuse(path, "a range that goes upwards", item)
        if span[1] >= CPUS:
            _refuse(path, f"CPU numbers below {CPUS}", item)
        spans.append(span)
    spans.sort()
    joined = [spans[0]]
    for start, end in spans[1:]:
        if start <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return ",".join(str(start) if start == end else f"{start}-{end}" for start, end in joined)


def ulimit(text: "object", path: "str") -> "tuple[str, int, int]":
    """`nofile=1024:2048` as ("RLIMIT_NOFILE", 1024, 2048); one number is both limits, -1 or `unlimited` is INFINITY."""
    name, equals, limits = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals:
        _refuse(path, "NAME=SOFT[:HARD]", text, "for example nofile=1024:2048, or core=0")
    if name not in RESOURCES:
        raise SpecError(path, f"no resource {quoted(name)}", hint="one of " + " ".join(RESOURCES))
    soft, colon, hard = limits.partition(":")
    low = _limit(soft, path)
    high = _limit(hard, path) if colon else low
    if low > high:
        raise SpecError(path, f"the soft limit {soft} is above the hard limit {hard}", hint="write NAME=SOFT:HARD")
    return "RLIMIT_" + name.upper(), low, high


def hostname(text: "str", path: "str") -> "str":
    """What the container calls itself; sethostname(2) takes 64 bytes."""
    plain = text.replace("-", "").replace(".", "").replace("_", "")
    if not (plain.isascii() and plain.isalnum()) or text[0] in "-." or len(text) > 64:
        raise SpecError(path, f"not a host name: {quoted(text)}", hint="1 to 64 letters, digits, `-`, `.` and `_`")
    return text


def user(text: "str", path: "str") -> "str":
    """`NAME`, `UID`, or either with `:GROUP`, unchanged; names are looked up later, in the container's own passwd."""
    name, colon, group = text.partition(":")
    for part in (name, group) if colon else (name,):
        if part.isascii() and part.isdigit():
            integer(part, path, 0, 2**32 - 2)    # (uid_t) -1 means `leave as it is` to the kernel, chown(2)
        elif not part.isprintable() or not part or part[0] in "-+" or not {*part}.isdisjoint(" :/,"):
            raise SpecError(path, f"expected USER[:GROUP], got {quoted(text)}", hint="names or numbers: 1000, bin:bin")
    return text


def sysctl(text: "str", path: "str") -> "tuple[str, str]":
    """`NAME=VALUE` as (name, value)."""
    name, equals, value = text.partition("=")
    # The name becomes a path below /proc/sys: no empty component, none that climbs.
    parts = name.replace("/", ".").split(".")
    if not equals or len(parts) < 2 or "" in parts or not name.isprintable() or " " in name:
        raise SpecError(path, f"expected NAME=VALUE, got {quoted(text)}", hint="for example net.core.somaxconn=1024")
    return name, value


def inside(text: "str", path: "str", root_too: "bool" = False) -> "str":
    """A path in the container: absolute, without `..`; a doubled slash and `.` are dropped."""
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not text.startswith("/") or ".." in parts or "\0" in text:
        raise SpecError(path, f"not an absolute path: {quoted(text)}", hint="it begins with `/` and has no `..`")
    if not parts and not root_too:
        raise SpecError(path, "`/` is the root itself", hint="name something below it")
    return "/" + "/".join(parts)


def volume(text: "str", path: "str") -> "tuple[str, str, bool]":
    """`SRC:DST[:ro]` as (SRC as written, DST, read-only)."""
    source, *rest = text.split(":")
    if not rest:
        raise UsageError(f"{path}: no DST in {quoted(text)}", hint="write SRC:DST[:ro]; volumes do not exist yet")
    if not is_path(source):
        raise UsageError(f"{path}: {quoted(source)} is no path, and named volumes do not exist yet",
                         hint="write SRC:DST[:ro], with an SRC that begins with `/`, `./` or `../`")
    if len(rest) > 2:
        raise SpecError(path, f"more than three parts in {quoted(text)}", hint="write SRC:DST[:ro], no `:` in paths")
    options = rest[1].split(",") if len(rest) == 2 else ["rw"]
    for option in options:
        if option not in ("ro", "rw"):
            raise SpecError(path, f"no option {quoted(option)}", hint="`ro` is read-only, `rw` the default")
    if len({*options}) > 1:
        raise SpecError(path, "`ro` and `rw` exclude each other")
    return source, inside(rest[0], path), options[0] == "ro"


def tmpfs(text: "str", path: "str") -> "tuple[str, tuple[str, ...]]":
    """`DST[:OPTIONS]` as (DST, mount options); sizes become bytes, as mount(2) wants them."""
    target, colon, rest = text.partition(":")
    options = []
    for option in rest.split(",") if colon else ():
        name, equals, value = option.partition("=")
        if name == "size" and equals:
            option = f"size={size(value, path, low=4096)}"    # 0 would mean no limit, tmpfs(5)
        elif name == "mode" and value and not value.strip("01234567") and len(value) <= 5 and int(value, 8) <= 0o7777:
            option = f"mode={int(value, 8):o}"
        elif name in ("uid", "gid") and equals:
            option = f"{name}={integer(value, path, 0, 2**32 - 2)}"
        elif name == "nr_inodes" and equals:
            option = f"nr_inodes={integer(value, path, 1, 2**31)}"
        elif option not in ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"):
            raise SpecError(path, f"no option {quoted(option)}",
                            hint="size=SIZE mode=OCTAL uid=N gid=N nr_inodes=N ro rw [no]exec [no]suid [no]dev")
        options.append(option)
    return inside(target, path), tuple(options)


def device(text: "str", path: "str") -> "tuple[str, str, str]":
    """`SRC[:DST[:ACCESS]]` as (SRC, DST, ACCESS), the last out of `rwm`: read, write, mknod."""
    source, *rest = text.split(":")
    access = rest.pop() if rest and not rest[-1].startswith("/") else "rwm"
    if len(rest) > 1 or not access or not {*access} <= {*"rwm"} or len({*access}) < len(access):
        raise SpecError(path, f"expected SRC[:DST[:rwm]], got {quoted(text)}", hint="such as /dev/fuse:/dev/fuse:rw")
    return inside(source, path), inside(rest[0] if rest else source, path), access


def is_path(word: "str") -> "bool":
    """Is it a path, and neither the name of an image nor of a volume? Paths begin with `/`, `./` or `../`."""
    return word in (".", "..") or word.startswith(("/", "./", "../"))


def show_size(count: "int") -> "str":
    """Bytes for people: `64 MiB`, `1.5 GiB`, `1088 MiB`; what is not exact has one decimal, rounded down (`65.0 MiB`).

    Down and not to the nearest, so that a peak below a limit never reads as the limit itself.
    """
    names = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    power = min(max(count.bit_length() - 1, 0) // 10, len(names) - 1)
    unit = 1024**power
    if count * 100 % unit == 0:
        whole, hundredths = divmod(count * 100 // unit, 100)
        return f"{whole}.{hundredths:02}".rstrip("0").rstrip(".") + " " + names[power]
    smaller = unit // 1024
    if count % smaller == 0 and count // smaller < 10000:
        return f"{count // smaller} {names[power - 1]}"
    return f"{count // unit}.{count * 10 // unit % 10} {names[power]}"


def quoted(value: "object") -> "str":
    """A value as an error may show it: in back-ticks, on one line, and not longer than a line."""
    if isinstance(value, int) and value.bit_length() > 256:
        value = f"a number of {value.bit_length()} bits"    # repr refuses to write very long ones
    text = value if isinstance(value, str) else repr(value)
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return f"`{text}`" if len(text) <= 60 else f"`{text[:57]}...`"


def _refuse(path: "str", wanted: "str", value: "object", hint: "str" = "") -> "NoReturn":
    got = "nothing" if value == "" else quoted(value)
    raise SpecError(path, f"expected {wanted}, got {got}", hint=hint)


def _decimal(text: "str") -> "tuple[int, int] | None":
    """Digits with at most one point, as a fraction (numerator, power of ten). No sign, no exponent, no `nan`."""
    whole, _, part = text.partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 40:
        return None
    return int(digits), 10**len(part)


def _real(value: "object", path: "str", wanted: "str", low: "float", high: "float", hint: "str") -> "float":
    if isinstance(value, str):
        number = _decimal(value)
        if number is None:
            _refuse(path, wanted, value, hint)
        read = number[0] / number[1]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        read = value
    else:
        _refuse(path, wanted, value, hint)
    if not low <= read <= high:    # false for nan as well
        _refuse(path, f"{wanted} from {low:g} to {high:.0f}", value, hint)
    return float(read)


def _limit(text: "str", path: "str") -> "int":
    return INFINITY if text in ("-1", "unlimited") else integer(text, path, 0, INFINITY)


def name(text: "str", where: "str") -> "str":
    """A container's name, by Docker's rule: a letter or digit, then letters, digits, `_`, `.`, `-`."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    if not text or text[0] in "_.-" or not set(text) <= allowed or len(text) > 128:
        raise SpecError(where, f"not a name: {quoted(text)}", hint="a letter or digit, then also `_`, `.` and `-`; at most 128")
    return text


def signal(text: "str", where: "str") -> "int":
    """A signal's number: `TERM`, `SIGTERM`, `15`."""
    word = text.upper().removeprefix("SIG")
    if word in SIGNALS:
        return SIGNALS.index(word) + 1
    if word.isascii() and word.isdigit() and 0 < int(word) <= 64:
        return int(word)
    raise SpecError(where, f"no signal {quoted(text)}", hint="such as TERM, KILL, HUP, or a number up to 64")


def network(text: "str", flag: "str") -> "str":
    """Which network a container is in: none, host, bridge, allow=HOST:PORT, container:NAME or ns:FILE.  Raises SpecError."""
    if text.startswith("allow="):
        from dolium.plan import egress

        egress.rules(text, flag)
        return text
    kind, sign, rest = text.partition(":")
    if text in ("none", "host", "bridge") or (kind in ("container", "ns") and rest):
        return text
    if kind in ("container", "ns"):
        raise SpecError(flag, f"a {'name' if kind == 'container' else 'file'} is missing in {quoted(text)}",
                        hint="container:NAME, or ns:/run/netns/NAME")
    raise SpecError(flag, f"expected none, host, bridge, allow=HOST:PORT, container:NAME or ns:FILE, got {quoted(text)}",
                    hint="networks of their own names do not exist yet" if not sign else "")


def word(text: "str", flag: "str") -> "str":
    """Something without white space, as files in /etc hold it.  Raises SpecError."""
    if text.split() != [text] or not text.isprintable() or text[0] == "#":
        raise SpecError(flag, f"{quoted(text)} is not one word")
    return text
