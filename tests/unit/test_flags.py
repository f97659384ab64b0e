"""The flags of `dolium run`: parsed as Docker parses them, answered by name where they do not exist."""

import subprocess
import sys

import pytest

from dolium.cli import docker, flags, help_page
from dolium.cli.explain_flags import GROUP
from dolium.errors import DoliumError, SpecError, UsageError

TABLE = {flag.name: flag for _, rows in flags.GROUPS for flag in rows}
parse = flags.parse


def refused(*argv, command="run"):
    with pytest.raises(DoliumError) as caught:
        parse([*argv], command)
    assert "\n" not in str(caught.value)
    return caught.value


def test_nothing_asked():
    read = parse([])
    assert (read.image, read.argv, read.asked) == (None, [], {})
    for name in read.__slots__:
        assert not getattr(read, name), name
    assert read.memory is None and read.no_new_privileges is None and read.seccomp is None
    assert read.mask == read.unmask == []


@pytest.mark.parametrize("words", [
    ["--memory", "64m"], ["--memory=64m"], ["-m", "64m"], ["-m64m"], ["-m=64m"], ["-im64m"], ["-im", "64m"],
    ["-im=64m"], ["-m", "1g", "--memory", "64m"]])
def test_every_way_to_give_a_value(words):
    read = parse([*words, "@host", "sh", "-c", "exit 3"])
    assert read.memory == 64 * 1024**2
    assert read.image == "@host"
    assert read.argv == ["sh", "-c", "exit 3"]


@pytest.mark.parametrize(("words", "answer"), [
    (["-i"], True), (["--interactive"], True), (["-i=true"], True), (["--interactive=1"], True),
    (["-i=false"], False), (["--interactive=0"], False), (["-i", "-i=0"], False), (["-i=TRUE"], True)])
def test_booleans(words, answer):
    assert parse(words).interactive is answer


def test_a_boolean_takes_no_word():
    read = parse(["--init", "false"])
    assert read.init is True and read.image == "false"


def test_where_flags_end():
    assert parse(["--rm", "./root", "--init"]).argv == ["--init"]
    assert parse(["--rm", "--", "--init"]).image == "--init"
    assert parse(["--", "./root", "--", "x"]).argv == ["--", "x"]
    assert parse(["-", "x"]).image == "-"
    assert parse(["", "x"]).image == ""


def test_a_value_may_begin_with_a_dash():
    assert parse(["--oom-score-adj", "-5"]).oom_score_adj == -5
    assert parse(["--pids-limit", "-1"]).pids_limit == -1
    assert parse(["-e", "--=x"]).env == {"--": "x"}


def test_everything_at_once():
    line = """
        -m 64m --memory-swap -1 --cpus .5 --cpu-weight 50 --cpuset-cpus 4,0-2 --pids-limit 100 --ulimit
        nofile=5:6 --ulimit core=0 --oom-score-adj 500 --timeout 2m -h box -e A=1 --env B=x=y -l note --label
        k=v -w /tmp/ -u 1000:1000 -v /srv:/data:ro --volume ./x:/y --tmpfs /run:size=1m --read-only --cap-add
        net_admin --cap-drop CAP_CHOWN,ALL --security-opt seccomp=unconfined --security-opt mask=/proc/a:/proc/b
        --device /dev/fuse --sysctl net.core.somaxconn=5 --init -i --rm --net none --userns=required
        --time-namespace --debug @host true"""
    read = parse(line.split())
    assert read.memory == 64 << 20 and read.memory_swap == -1 and read.cpus == 0.5 and read.cpu_weight == 50
    assert read.cpuset_cpus == "0-2,4" and read.pids_limit == 100 and read.oom_score_adj == 500 and read.timeout == 120
    assert read.ulimit == [("RLIMIT_NOFILE", 5, 6), ("RLIMIT_CORE", 0, 0)]
    assert read.hostname == "box" and read.env == {"A": "1", "B": "x=y"} and read.label == {"note": "", "k": "v"}
    assert read.workdir == "/tmp" and read.user == "1000:1000"
    assert read.volume == [("/srv", "/data", True), ("./x", "/y", False)]
    assert read.tmpfs == [("/run", ("size=1048576",))] and read.read_only
    assert read.cap_add == ["CAP_NET_ADMIN"] and read.cap_drop == ["CAP_CHOWN", "ALL"]
    assert read.seccomp == "unconfined" and read.mask == ["/proc/a", "/proc/b"]
    assert read.device == [("/dev/fuse", "/dev/fuse", "rwm")] and read.sysctl == {"net.core.somaxconn": "5"}
    assert read.init and read.interactive and read.rm and read.time_namespace and read.debug
    assert read.network == "none" and read.userns == "required"
    assert read.asked["network"] == "--net" and read.asked["memory"] == "-m"
    assert (read.image, read.argv) == ("@host", ["true"])


def test_the_last_of_two_counts():
    assert parse(["--network", "host", "--network", "none"]).network == "none"
    assert parse(["-e", "A=1", "-e", "A=2"]).env == {"A": "2"}
    assert parse(["--security-opt", "seccomp=a", "--security-opt", "seccomp=b"]).seccomp == "b"


# Security options

@pytest.mark.parametrize(("text", "answer"), [
    ("no-new-privileges", True), ("no-new-privileges=true", True), ("no-new-privileges:false", False),
    ("no-new-privileges=0", False)])
def test_no_new_privileges(text, answer):
    assert parse(["--security-opt", text]).no_new_privileges is answer


def test_unmask():
    read = parse(["--security-opt", "unmask=all", "--security-opt", "unmask=/proc/x:/sys/y", "--security-opt",
        "mask=/a"])
    assert read.unmask == ["ALL", "/proc/x", "/sys/y"]
    assert read.mask == ["/a"]
    assert read.seccomp is None


@pytest.mark.parametrize("text", [
    "seccomp", "seccomp=", "mask", "mask=", "mask=a", "unmask=/../x", "no-new-privileges=maybe", "no-new-privileges=",
    "", "bogus", "=x"])
def test_not_a_security_option(text):
    assert isinstance(refused("--security-opt", text), SpecError)


def test_a_misspelt_security_option():
    assert refused("--security-opt", "secomp=x").hint == "did you mean `seccomp`?"
    assert refused("--security-opt", "aparmor=x").hint.startswith("did you mean `apparmor`? AppArmor profiles")
    assert "seccomp" in refused("--security-opt", "zzzzzzzzz").hint


@pytest.mark.parametrize("name", docker.SECURITY)
def test_security_options_of_docker_are_answered_by_name(name):
    error = refused("--security-opt", name + "=x")
    assert f"`{name}`" in str(error) and error.hint == docker.SECURITY[name]


def test_capabilities():
    assert parse(["--cap-add", "cap_net_raw,All", "--cap-add=SYS_TIME"]).cap_add == ["CAP_NET_RAW", "ALL",
        "CAP_SYS_TIME"]
    error = refused("--cap-add", "NET_ADMN")
    assert str(error) == "--cap-add: no capability `NET_ADMN`" and "`NET_ADMIN`" in error.hint
    refused("--cap-drop", "")
    refused("--cap-drop", "CHOWN,")
    assert len(flags.CAPABILITIES) == len({*flags.CAPABILITIES}) == 41


# Variables

def test_a_variable_of_the_caller(monkeypatch):
    monkeypatch.setenv("DOLIUM_A", "from outside")
    monkeypatch.delenv("DOLIUM_B", raising=False)
    assert parse(["-e", "DOLIUM_A", "-e", "DOLIUM_B"]).env == {"DOLIUM_A": "from outside"}
    refused("-e", "")
    refused("-e", "=x")


def test_a_file_of_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("DOLIUM_A", "from outside")
    file = tmp_path / "vars"
    file.write_bytes(b"\xef\xbb\xbfA=1\r\n# a comment\n\n  B = kept with its spaces  \n".replace(b"B =", b"B=") +
                     b"DOLIUM_A\nNOT_SET_ANYWHERE\nC='quotes stay'\nD=x=y#z")
    read = parse(["-e", "A=2", "--env-file", str(file)])
    assert read.env == {"A": "2", "B": " kept with its spaces  ", "DOLIUM_A": "from outside", "C": "'quotes stay'",
                        "D": "x=y#z"}


@pytest.mark.parametrize(("content", "line"), [
    (b"A=1\n=x\n", 2), (b"A b=1", 1), (b"A =1", 1), (b"\nA\t=\n", 2), (b"A=\0", 1)])
def test_a_bad_line_is_named(tmp_path, content, line):
    file = tmp_path / "vars"
    file.write_bytes(content)
    error = refused("--env-file", str(file))
    assert str(error).startswith("--env-file `") and f"line {line}: " in str(error)


def test_files_that_cannot_be_read(tmp_path):
    assert "No such file" in str(refused("--env-file", str(tmp_path / "none")))
    assert "Is a directory" in str(refused("--env-file", str(tmp_path)))
    assert "1 MiB" in str(refused("--env-file", "/dev/zero"))
    (tmp_path / "binary").write_bytes(b"A=\xff")
    assert "UTF-8" in str(refused("--env-file", str(tmp_path / "binary")))


# What is wrong

@pytest.mark.parametrize(("word", "near"), [
    ("--memroy", "--memory"), ("--memory-swp=1", "--memory-swap"), ("--hostnam", "--hostname"), ("--cpu", "--cpus"),
    ("--evn", "--env"), ("--timout", "--timeout"), ("--Memory", "--memory"), ("--cap_add", "--cap-add"),
    ("--networks", "--network"), ("--read_only", "--read-only"), ("--volumes", "--volume")])
def test_a_misspelt_flag_is_answered_with_the_nearest(word, near):
    error = refused(word)
    assert isinstance(error, UsageError)
    assert str(error) == f"unknown flag `{word.partition('=')[0]}`"
    assert f"did you mean `{near}`" in error.hint


def test_a_misspelt_flag_of_docker_is_answered_with_its_advice():
    error = refused("--privilegd")
    assert error.hint == "did you mean `--privileged`? " + docker.FLAGS["privileged"]


@pytest.mark.parametrize("word", [
    "--", "--=x", "---memory", "-=", "-=5", "--zzzzzzzz", "-z", "-iz", "--x", "-\u00e9", "--\x1b[m"])
def test_words_that_are_nothing(word):
    if word == "--":
        assert parse([word]).image is None
        return
    error = refused(word)
    assert isinstance(error, UsageError) and str(error).startswith("unknown flag `") and "\x1b" not in str(error)


@pytest.mark.parametrize("word", ["-user", "-memory=64m", "-env", "-rm", "-volume", "-init", "-help"])
def test_a_long_flag_with_one_dash(word):
    assert refused(word, "x").hint == f"did you mean `-{word}`?"


def test_an_unknown_letter_in_a_bunch():
    assert str(refused("-iz")) == "unknown flag `-z` (in `-iz`)"
    error = refused("-ip", "@host", "sh")
    assert str(error) == "dolium has no `-p` (in `-ip`)"
    assert error.hint == docker.FLAGS["publish"]


@pytest.mark.parametrize("word", ["-m", "--memory", "-im", "-e", "--ulimit"])
def test_a_missing_value(word):
    error = refused(word)
    assert isinstance(error, UsageError) and "a value is missing" in str(error)


def test_h_alone_wants_help():
    assert "--help" in refused("-h").hint


@pytest.mark.parametrize(("words", "path"), [
    (["-m", "64x"], "-m"), (["--memory=64x"], "--memory"), (["-im64x"], "-m"), (["--net=x"], "--net"),
    (["--network", "container:"], "--network"), (["--network", "ns:"], "--network"), (["--network", "bridge:x"], "--network"),
    (["--dns", "one.one"], "--dns"), (["--add-host", "x"], "--add-host"), (["--add-host", "x y:1.2.3.4"], "--add-host"),
    (["--add-host", "x:y"], "--add-host"), (["--dns-search", "a b"], "--dns-search"), (["--dns-option", ""], "--dns-option"), (["--userns=keep"], "--userns"), (["--cpus", "0"], "--cpus"),
    (["--pids-limit=0"], "--pids-limit"), (["-m", "0"], "-m"), (["-m", "5"], "-m"), (["-m", ""], "-m"),
    (["-m="], "-m"), (["--memory-swap", "-2"], "--memory-swap"), (["-c", "1"], "-c"),
    (["--cpu-weight=0"], "--cpu-weight"), (["--read-only=maybe"], "--read-only"), (["--rm="], "--rm"),
    (["-w", "tmp"], "-w"), (["-h", "a b"], "-h"), (["--timeout=0"], "--timeout"), (["-l", "=x"], "-l"),
    (["--memory", "--cpus"], "--memory"), (["-u", ""], "-u")])
def test_a_malformed_value_names_the_flag_as_typed(words, path):
    error = refused(*words)
    assert isinstance(error, SpecError) and error.path == path


def test_flags_that_contradict_each_other():
    assert "`--cpu-weight` and `-c`" in str(refused("-c", "5", "--cpu-weight", "5"))
    assert "needs `--memory`" in str(refused("--memory-swap", "64m"))
    assert "below `-m`" in str(refused("--memory-swap", "64m", "-m", "65m"))
    assert parse(["--memory-swap", "64m", "-m", "64m"]).memory_swap == 64 << 20


# Help

@pytest.mark.parametrize("command", flags.COMMANDS)
def test_help(command):
    page = help_page.help(command)
    assert max(map(len, page.splitlines())) <= 80
    for flag in TABLE.values():
        assert f" --{flag.name}" in page
    assert all((f" --{flag.name} " in page) == (command == "explain") for flag in GROUP[1])
    assert page.endswith("\n") and not page.endswith("\n\n")


def test_help_ends_the_reading():
    read = parse(["--rm", "--help", "--nonsense"])
    assert read.help and read.rm


def test_the_table_and_the_attributes_agree():
    names = {flag.attribute for flag in TABLE.values()}
    assert names | {"argv", "asked", "image"} == {*flags.Flags.__slots__}
    shorts = [flag.short for flag in TABLE.values() if flag.short]
    assert len(shorts) == len({*shorts})


# The word after the flags

@pytest.mark.parametrize(("word", "kind"), [
    ("/", "path"), ("/srv", "path"), ("./a", "path"), ("../a", "path"), (".", "path"), ("..", "path"),
    ("@host", "own"), ("@venv", "own"), ("alpine", "image"), ("a/b:c", "image"), (".a", "image"), ("..a", "image"),
    ("~/a", "image"), ("", "image"), ("-", "image")])
def test_classify(word, kind):
    assert flags.classify(word) == kind


@pytest.mark.parametrize(("word", "hint"), [
    ("@hots", "did you mean `@host`?"), ("@vnev", "did you mean `@venv`?"), ("@", "there are @host and @venv"),
    ("@other", "there are @host and @venv")])
def test_an_unknown_root_of_ours(word, hint):
    with pytest.raises(UsageError) as caught:
        flags.classify(word)
    assert str(caught.value) == f"no root `{word}`" and caught.value.hint == hint


# The budget

def test_what_is_imported():
    """`dolium run` with right flags loads neither Docker's table nor any of the slow modules."""
    script = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        from dolium.cli.flags import parse
        parse(["-m", "64m", "-v", "/a:/b", "@host", "sh"])
        print(*sys.modules)
        """
    source = flags.__file__.rpartition("/dolium/")[0]
    loaded = {*subprocess.check_output([sys.executable, "-IS", "-c", script, source], text=True).split()}
    assert not loaded & {"argparse", "re", "enum", "typing", "dataclasses", "json", "pathlib", "subprocess", "ctypes",
                         "logging", "dolium.cli.docker", "dolium.engine.nearest"}
