"""The grammar for values: what is read as what, and what is refused in which words."""

import pytest

from dolium.errors import SpecError, UsageError
from dolium.plan import quantities as q

MIB = 1024**2


def refused(call, value, *more):
    with pytest.raises(SpecError) as caught:
        call(value, "--flag", *more)
    assert caught.value.path == "--flag"
    assert str(caught.value).startswith("--flag: ")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("text", [
    67108864, "67108864", "67108864b", "64m", "64M", "64MiB", "64mb", "64mib", "64Mi", "64 MiB", "65536k", "0.0625g",
    "64.0m"])
def test_one_size_in_every_spelling(text):
    assert q.size(text, "memory") == 64 * MIB


@pytest.mark.parametrize(("text", "count"), [
    ("0", 0), ("1k", 1024), ("1.5g", 3 * 512 * MIB), (".5k", 512), ("5.k", 5120), ("2t", 2 * 1024**4),
    ("1.1g", 1181116006), ("0.1k", 102), ("9223372036854775807", 2**63 - 1)])
def test_size(text, count):
    assert q.size(text, "memory") == count


@pytest.mark.parametrize("value", [
    "", " ", "64x", "-1", "-64m", "+1", "nan", "inf", "1e3", "1_000", "0x10", "m", ".", ".k", "1..5k", "1.2.3",
    "64mm", "64bm", "64 m ", " 64m", "64  m", "64p", "64\u212a", "\u0661", "64m\n", "9" * 41, "8388608t",
    "9223372036854775808", True, False, None, 1.5, -1, 2**63, 2**300, b"64m", [64]])
def test_not_a_size(value):
    error = refused(q.size, value)
    assert "64m" in error.hint


def test_a_size_below_the_least():
    assert "at least 4 KiB" in refused(q.size, "4095", 4096).problem
    assert q.size("4k", "memory", 4096) == 4096


def test_an_error_shows_what_was_got():
    assert refused(q.size, "64x").problem == "expected a size, got `64x`"
    assert refused(q.size, "").problem == "expected a size, got nothing"
    assert refused(q.size, "x" * 1000).problem.endswith("x...`")
    assert "\x1b" not in refused(q.size, "\x1b[31m").problem
    assert "16610 bits" in refused(q.size, 10**5000).problem    # more digits than int() agrees to write


@pytest.mark.parametrize(("value", "number"), [
    ("0.5", 0.5), (".5", 0.5), ("2", 2.0), (2, 2.0), (0.01, 0.01), ("0.01", 0.01), ("1000000", 1e6)])
def test_cpus(value, number):
    read = q.cpus(value, "cpus")
    assert (read, type(read)) == (number, float)


@pytest.mark.parametrize("value", [
    "", "0", "0.009", "-1", "nan", "inf", "1e2", "1/2", "half", "1000001", 0, -0.5, 1e7, float("nan"), float("inf"),
    True, None, "0.5 "])
def test_not_a_number_of_cpus(value):
    refused(q.cpus, value)


@pytest.mark.parametrize(("value", "number"), [
    ("5", 5.0), ("1.5", 1.5), ("500ms", 0.5), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("1.5h", 5400.0), (5, 5.0),
    (0.25, 0.25), ("1ms", 0.001)])
def test_seconds(value, number):
    read = q.seconds(value, "timeout")
    assert (read, type(read)) == (number, float)


@pytest.mark.parametrize("value", [
    "", "0", "0s", "-1", "5d", "5M", "ms", "5sm", "5mss", "1e3", "nan", "1m30s", "0.5ms", "1000000001", 0, -1,
    float("nan"), float("inf"), True, None])
def test_not_a_time(value):
    refused(q.seconds, value)


def test_integer():
    assert q.integer("-5", "adj", -10, 10) == -5
    assert q.integer(7, "adj", 7, 7) == 7
    assert refused(q.integer, "11", -10, 10).problem == "expected a whole number from -10 to 10, got `11`"


@pytest.mark.parametrize("value", [
    "", "-", "--5", "+5", "5.0", "0x5", "5 ", "\u0665", "9" * 5000, True, 5.0, None, "1_0"])
def test_not_an_integer(value):
    refused(q.integer, value, -10, 10)


@pytest.mark.parametrize(("text", "normal"), [
    ("0", "0"), ("0-2,4", "0-2,4"), ("4,0-2", "0-2,4"), ("0,1,2", "0-2"), ("3-3", "3"), ("0-5,2-3", "0-5"),
    ("00-01", "0-1"), ("7,7", "7"), ("0-8191", "0-8191")])
def test_cpuset(text, normal):
    assert q.cpuset(text, "cpuset") == normal


@pytest.mark.parametrize("text", [
    "", ",", "0,", "2-1", "a", "0-", "-1", "0--1", "0 ,1", "8192", "0-99999", "1-2-3", "\u0661", "0\n", None, 3,
    "0," * 4096 + "0"])
def test_not_a_cpuset(text):
    refused(q.cpuset, text)


@pytest.mark.parametrize(("text", "read"), [
    ("nofile=1024:2048", ("RLIMIT_NOFILE", 1024, 2048)), ("nofile=1024", ("RLIMIT_NOFILE", 1024, 1024)),
    ("core=0", ("RLIMIT_CORE", 0, 0)), ("memlock=-1", ("RLIMIT_MEMLOCK", 2**64 - 1, 2**64 - 1)),
    ("stack=8388608:unlimited", ("RLIMIT_STACK", 8388608, 2**64 - 1))])
def test_ulimit(text, read):
    assert q.ulimit(text, "ulimit") == read


def test_every_resource_that_linux_has_and_python_knows():
    import resource
    known = {name for name in dir(resource) if name.startswith("RLIMIT_")} - {"RLIMIT_OFILE"}
    ours = {q.ulimit(name + "=1", "ulimit")[0] for name in q.RESOURCES}
    assert len(ours) == 16
    assert known <= ours | {"RLIMIT_LOCKS"}


@pytest.mark.parametrize("text", [
    "", "nofile", "nofile=", "nofile=2:1", "nofile=1:", "nofile=:1", "nofile=-1:5", "=1", "nofile=-2", "nofile=x",
    "NOFILE=1", "nofil=1", "nofile=1:2:3", None, "nofile=18446744073709551616"])
def test_not_a_ulimit(text):
    refused(q.ulimit, text)


def test_an_unknown_resource_is_answered_with_all():
    error = refused(q.ulimit, "nofil=1")
    assert error.problem == "no resource `nofil`"
    assert "nofile" in error.hint


@pytest.mark.parametrize(("count", "shown"), [
    (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1 KiB"), (1500, "1500 B"), (1536, "1.5 KiB"),
    (64 * MIB, "64 MiB"), (512 * 1024, "512 KiB"), (1536 * MIB, "1.5 GiB"), (1088 * MIB, "1088 MiB"),
    (64 * MIB - 1, "63.9 MiB"), (64 * MIB + 1, "64.0 MiB"), (100 * MIB, "100 MiB"), (10 * 1024**3, "10 GiB"),
    (2**63 - 1, "7.9 EiB"), (2**70, "1024 EiB")])
def test_show_size(count, shown):
    assert q.show_size(count) == shown


@pytest.mark.parametrize("text", ["a", "web-1", "web_1.example.org", "x" * 64])
def test_hostname(text):
    assert q.hostname(text, "--hostname") == text


@pytest.mark.parametrize("text", ["", "-a", ".a", "a b", "a\nb", "a/b", "x" * 65, "h\u00e9", "-", "a:b"])
def test_not_a_hostname(text):
    refused(q.hostname, text)


@pytest.mark.parametrize("text", ["0", "1000", "1000:1000", "bin", "bin:bin", "1000:audio", "_apt", "4294967294"])
def test_user(text):
    assert q.user(text, "--user") == text


@pytest.mark.parametrize("text", [
    "", ":", "1000:", ":5", "-1", "+5", " 5", "5 ", "a:b:c", "4294967295", "4294967296", "a/b", "a\n",
    "99999999999999999999999"])
def test_not_a_user(text):
    refused(q.user, text)


def test_sysctl():
    assert q.sysctl("net.ipv4.ip_unprivileged_port_start=0", "--sysctl") == ("net.ipv4.ip_unprivileged_port_start", "0")
    assert q.sysctl("kernel.x=a=b", "--sysctl") == ("kernel.x", "a=b")


@pytest.mark.parametrize("text", [
    "", "a", "a.b", "=1", "a=1", "net..x=1", ".net.x=1", "net/../x=1", "/net/x=1", "../a.b=1", "a.b\n=1", "a b.c=1"])
def test_not_a_sysctl(text):
    refused(q.sysctl, text)


@pytest.mark.parametrize(("text", "path"), [
    ("/a", "/a"), ("/a/", "/a"), ("//a/./b//c", "/a/b/c"), ("/..a/b..", "/..a/b..")])
def test_inside(text, path):
    assert q.inside(text, "-w") == path


@pytest.mark.parametrize("text", ["", "a", "./a", "/a/../b", "/..", "..", "/", "//", "/.", "/a\0"])
def test_not_inside(text):
    refused(q.inside, text)


def test_the_root_itself_where_it_makes_sense():
    assert q.inside("/", "-w", True) == "/"


@pytest.mark.parametrize(("text", "read"), [
    ("/srv:/data", ("/srv", "/data", False)), ("./a:/b:ro", ("./a", "/b", True)),
    ("../a:/b/:rw", ("../a", "/b", False)), (".:/b", (".", "/b", False))])
def test_volume(text, read):
    assert q.volume(text, "-v") == read


@pytest.mark.parametrize("text", ["", "data", "/data", "data:/data", "~/a:/b", ":/b"])
def test_volumes_without_a_path_do_not_exist_yet(text):
    with pytest.raises(UsageError) as caught:
        q.volume(text, "-v")
    assert str(caught.value).startswith("-v: ")
    assert "SRC:DST" in caught.value.hint


@pytest.mark.parametrize("text", [
    "/a:b", "/a:/b/../c", "/a:/", "/a:/b:z", "/a:/b:ro,rw", "/a:/b:", "/a:/b:ro:x", "/a:"])
def test_not_a_volume(text):
    refused(q.volume, text)


@pytest.mark.parametrize(("text", "read"), [
    ("/tmp", ("/tmp", ())), ("/tmp:size=64m,mode=01777,noexec", ("/tmp", ("size=67108864", "mode=1777", "noexec"))),
    ("/run:uid=5,gid=6,nr_inodes=10,nosuid,nodev,ro", ("/run", ("uid=5", "gid=6", "nr_inodes=10", "nosuid", "nodev",
    "ro")))])
def test_tmpfs(text, read):
    assert q.tmpfs(text, "--tmpfs") == read


@pytest.mark.parametrize("text", [
    "", "tmp", "/", "/tmp:", "/tmp:size", "/tmp:size=", "/tmp:size=0", "/tmp:size=50%", "/tmp:mode=8", "/tmp:mode=",
    "/tmp:mode=17777", "/tmp:mode=77777", "/tmp:bogus", "/tmp:noexec=1", "/tmp:uid=-1", "/tmp:nr_inodes=0",
    "/tmp:ro,", "/tmp:a:b"])
def test_not_a_tmpfs(text):
    refused(q.tmpfs, text)


@pytest.mark.parametrize(("text", "read"), [
    ("/dev/fuse", ("/dev/fuse", "/dev/fuse", "rwm")), ("/dev/fuse:rw", ("/dev/fuse", "/dev/fuse", "rw")),
    ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")), ("/dev/a:/dev/b:r", ("/dev/a", "/dev/b", "r"))])
def test_device(text, read):
    assert q.device(text, "--device") == read


@pytest.mark.parametrize("text", [
    "", "fuse", "/dev/a:", "/dev/a:x", "/dev/a:rr", "/dev/a:/dev/b:", "/dev/a:/b:/c", "/dev/a:/b:/c:r", "/dev/../a",
    "vendor.example/class=name", ":r"])
def test_not_a_device(text):
    refused(q.device, text)
