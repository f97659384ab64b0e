"""What must hold for every command line, not only for those somebody thought of."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.cli import docker, flags
from dolium.cli.explain_flags import ExplainFlags
from dolium.engine import nearest
from dolium.errors import DoliumError, SpecError
from dolium.plan import quantities as q

TABLE = {flag.name: flag for _, rows in flags.GROUPS for flag in rows}
MIB = 1024**2

name = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
path = st.lists(name, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
source = st.tuples(st.sampled_from(["", ".", ".."]), path).map("".join)
number = st.integers(0, 2**32 - 2)
limit = st.one_of(number, st.just(q.INFINITY))
tmpfs_option = st.one_of(st.sampled_from(["ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev"]),
                         st.integers(4096, 2**40).map("size={}".format), st.integers(0, 0o7777).map("mode={:o}".format))
security_option = st.one_of(
    st.tuples(st.just("seccomp"), st.one_of(st.just("unconfined"), source)),
    st.tuples(st.just("no-new-privileges"), st.booleans()),
    st.tuples(st.sampled_from(["mask", "unmask"]), st.lists(path, min_size=1, max_size=3).map(tuple)),
    st.just(("unmask", ("ALL",))))
capability = st.sampled_from(["ALL", *("CAP_" + each for each in flags.CAPABILITIES)])

# For every flag: what its attribute may hold, and how that is written.
address = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda one: not one.ipv4_mapped)).map(str)
MEANINGS = {
    "memory": (st.integers(4096, 2**40), str),
    "memory-swap": (st.one_of(st.just(-1), st.integers(2**40, 2**41)), str),
    "cpus": (st.integers(1, 10**8).map(lambda n: n / 100), "{:.2f}".format),
    "cpu-weight": (st.integers(1, 10000), str),
    "cpu-shares": (st.integers(2, 262144), str),
    "cpuset-cpus": (st.sampled_from(["0", "0-3", "1,3", "0-2,4,6-8191"]), str),
    "pids-limit": (st.one_of(st.just(-1), st.integers(1, 2**22)), str),
    "ulimit": (st.lists(st.tuples(st.sampled_from(q.RESOURCES), limit, limit).map(
        lambda one: ("RLIMIT_" + one[0].upper(), min(one[1:]), max(one[1:])))),
        lambda one: f"{one[0][7:].lower()}={one[1]}:{one[2]}"),
    "oom-score-adj": (st.integers(-1000, 1000), str),
    "timeout": (st.integers(1, 10**9).map(lambda n: n / 1000), "{:.3f}".format),
    "hostname": (st.text("abc019", min_size=1, max_size=64), str),
    "network": (st.sampled_from(["none", "host", "bridge", "container:box", "ns:/run/netns/x"]), str),
    "add-host": (st.lists(st.tuples(name, address)), ":".join),
    "dns": (st.lists(address), str),
    "dns-search": (st.lists(name), str),
    "dns-option": (st.lists(name), str),
    "sysctl": (st.dictionaries(name.map("net.{}".format), text), "=".join),
    "env": (st.dictionaries(name, text), "=".join),
    "user": (st.one_of(name, number.map(str), st.tuples(name, number).map(lambda two: f"{two[0]}:{two[1]}")), str),
    "userns": (st.sampled_from(["auto", "host", "required"]), str),
    "cap-add": (st.lists(capability), str),
    "cap-drop": (st.lists(capability), str.lower),
    "security-opt": (st.lists(security_option), lambda one: f"{one[0]}=" + (
        one[1] if isinstance(one[1], str) else str(one[1]).lower() if isinstance(one[1], bool) else ":".join(one[1]))),
    "workdir": (st.one_of(st.just("/"), path), str),
    "volume": (st.lists(st.tuples(source, path, st.booleans())),
               lambda one: f"{one[0]}:{one[1]}:{'ro' if one[2] else 'rw'}"),
    "tmpfs": (st.lists(st.tuples(path, st.lists(tmpfs_option, min_size=1).map(tuple))),
              lambda one: f"{one[0]}:{','.join(one[1])}"),
    "device": (st.lists(st.tuples(path, path, st.sampled_from(["r", "rw", "rwm", "m"]))), ":".join),
    "name": (st.text("abc019_.-", max_size=20).map(lambda rest: f"a{rest}"), str),
    "stop-signal": (st.integers(1, 64), str),
    "stop-timeout": (st.integers(1, 10**6).map(lambda n: n / 1000), "{:.3f}".format),
    "label": (st.dictionaries(name, text), "=".join),
    "entrypoint": (text, str),
    "pull": (st.sampled_from(["always", "missing", "never"]), str),
    "platform": (st.sampled_from(["linux/amd64", "linux/arm64/v8"]), str),
}
WAITING = ("timeout", "why-denied")
"""Not with --detach."""
SWITCHES = sorted({flag.name for flag in TABLE.values() if not flag.value} - {"help"})


def test_every_flag_has_a_meaning_here():
    assert {*MEANINGS} | {*SWITCHES} | {"help", "env-file"} == {*TABLE}


@st.composite
def command_lines(draw):
    """(words, the attributes they must give)"""
    meant, groups = {}, []
    for flag in draw(st.lists(st.sampled_from(sorted([*MEANINGS, *SWITCHES])), unique=True)):
        if (flag == "cpu-weight" and "cpu_shares" in meant) or (flag == "cpu-shares" and "cpu_weight" in meant):
            continue
        if (flag in WAITING and meant.get("detach")) or (flag == "detach" and {"timeout", "why_denied"} & {*meant}):
            continue
        row = TABLE[flag]
        if flag in SWITCHES:
            meant[row.attribute] = draw(st.booleans())
            groups.append([f"--{flag}=false"] if not meant[row.attribute] else
                          draw(st.sampled_from([[f"--{flag}"], [f"--{flag}=true"], [f"--{flag}=1"]])))
            continue
        values, write = MEANINGS[flag]
        meant[row.attribute] = value = draw(values)
        several = value.items() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for written in map(write, several):
            forms = [[f"--{flag}", written], [f"--{flag}={written}"]]
            if row.short:
                forms += [[f"-{row.short}", written], [f"-{row.short}={written}"], [f"-i{row.short}={written}"]]
                if written and written[0] != "=" and f"--{row.short}{written}".partition("=")[0][2:] not in TABLE:
                    forms.append([f"-{row.short}{written}"])
            form = draw(st.sampled_from(forms))
            if form[0].startswith("-i") and form[0][2:3] == row.short:
                meant["interactive"] = True    # the test ends the flags with one more -i, so that order does not matter
            groups.append(form)
    if "memory_swap" in meant and "memory" not in meant:
        meant["memory"] = 4096
        groups.append(["--memory=4k"])
    return [word for group in groups for word in group], meant


@given(command_lines(), st.lists(text), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_what_is_read(line, rest, dashes):
    words, meant = line
    if meant.get("interactive"):
        words = [*words, "-i"]
    rest = ["@host", *rest]
    read = flags.parse([*words, *(["--"] if dashes else []), *rest], "explain")
    for attribute in {flag.attribute for flag in TABLE.values()} - {"interactive"}:
        fresh = getattr(flags.Flags(), attribute)
        assert getattr(read, attribute) == meant.get(attribute, fresh), attribute
    if "interactive" in meant:
        assert read.interactive == meant["interactive"]
    assert [read.image, *read.argv] == rest


everything = sorted([f"--{flag}" for flag in [*TABLE, *docker.FLAGS]] +
                    [f"-{flag.short}" for flag in TABLE.values() if flag.short])
word = st.one_of(
    st.text(max_size=8),
    st.sampled_from(everything),
    st.sampled_from(["--", "-", "-it", "=", "64m", "/a:/b", "A=1"]),
    st.tuples(st.sampled_from(everything), st.sampled_from(["", "="]), st.text(max_size=8)).map("".join),
    st.text("-=:,./0123456789abkmg", max_size=10))


@given(st.lists(word, max_size=6), st.sampled_from([*flags.COMMANDS]))
@settings(max_examples=1000, deadline=None)
def test_no_command_line_raises_anything_but_our_errors(words, command):
    try:
        read = flags.parse(words, command)
    except DoliumError as error:
        assert "\n" not in str(error) and str(error).isprintable() and error.exit_code == 125
        assert "\n" not in error.hint
        return
    used = [read.image, *read.argv] if read.image is not None else []
    assert read.help or words[len(words) - len(used):] == used
    for attribute, typed in read.asked.items():
        assert attribute in (*flags.Flags.__slots__, *ExplainFlags.__slots__) and (typed == "--verbose" or any(typed.lstrip("-") in each for each in words))


@given(st.sampled_from(sorted(set(MEANINGS) - {"env", "label"})), st.text(max_size=10))
@settings(max_examples=500, deadline=None)
def test_a_refused_value_names_its_flag(flag, value):
    try:
        flags.parse([f"--{flag}", value])
    except DoliumError as error:
        assert f"--{flag}" in str(error)


@given(st.integers(0, 10**12), st.integers(0, 999), st.sampled_from(["", "b", "k", "K", "kb", "KiB", "m", "MB", "g",
    "Gi", "t"]))
def test_sizes_against_decimal_arithmetic(whole, thousandths, unit):
    power = " kmgt".find(unit[:1].lower()) if unit not in ("", "b") else 0
    meant = int(Decimal(f"{whole}.{thousandths:03}") * 1024**power)
    if meant > q.LARGEST:
        with pytest.raises(SpecError):
            q.size(f"{whole}.{thousandths:03}{unit}", "x")
    else:
        assert q.size(f"{whole}.{thousandths:03}{unit}", "x") == meant


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary(),
                 st.from_regex(r"-?[0-9]{0,30}\.?[0-9]{0,30} ?[a-z]{0,3}", fullmatch=True)))
def test_every_grammar_returns_a_number_in_range_or_refuses(value):
    for read, low, high in ((q.size, 0, q.LARGEST), (q.cpus, 0.01, 1e6), (q.seconds, 0.001, 1e9)):
        try:
            number = read(value, "x")
        except SpecError:
            continue
        assert low <= number <= high and not isinstance(number, bool)


@given(st.integers(0, q.LARGEST))
def test_a_shown_size_reads_back_and_is_never_more(count):
    shown = q.show_size(count)
    assert len(shown) <= len("1023.75 GiB")
    if shown.endswith(("PiB", "EiB")):
        return
    read = q.size(shown, "x")
    assert read <= count
    assert count - read < max(count // 10, 1)


@given(st.integers(0, 10**6), st.sampled_from([1024, MIB, 1024 * MIB]))
def test_round_sizes_are_shown_exactly(count, unit):
    shown = q.show_size(count * unit)
    if count < 1024:
        assert q.size(shown, "x") == count * unit


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpusets_keep_their_members(members):
    text = q.cpuset(",".join(map(str, members)), "x")
    spans = [[int(end) for end in item.split("-")] for item in text.split(",")]
    assert {cpu for span in spans for cpu in range(span[0], span[-1] + 1)} == members
    assert q.cpuset(text, "x") == text


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_distance_behaves(one, other, more):
    slips = nearest.distance(one, other)
    assert slips == nearest.distance(other, one)
    assert (slips == 0) == (one == other)
    assert abs(len(one) - len(other)) <= slips <= max(len(one), len(other))
    assert nearest.distance(one + more, other + more) <= slips


@given(st.sampled_from(sorted(TABLE)), st.data())
def test_two_neighbours_exchanged_are_understood(flag, data):
    at = data.draw(st.integers(0, len(flag) - 2))
    wrong = flag[:at] + flag[at + 1] + flag[at] + flag[at + 2:]
    assert flag in nearest.nearest(wrong, TABLE)
