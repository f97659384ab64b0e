"""Each flag that asks for something the kernel does: its effect, seen inside, and what is refused.  (Limits that end a
container are in test_limits_hold.py, volumes and capabilities in test_live_files.py and test_live_rights.py.)"""

import os
import subprocess
from typing import Any

import pytest
from containers import SYSTEM_PYTHON, Dolium, wait_for

from dolium.plan.limits import shares_to_weight

GROUPS = "/sys/fs/cgroup"
MIB = 1 << 20


def has_v1(controller: str) -> bool:
    return os.path.isdir(f"{GROUPS}/{controller}")


def limit(dolium: Dolium, v2: str, v1: str, *words: str) -> str:
    """A file of the container's own cgroup, as it reads it: `v1` as CONTROLLER/FILE where that controller is v1's."""
    file = v1 if has_v1(v1.partition("/")[0]) else v2
    return dolium.output(*words, "cat", f"{GROUPS}/{file}").strip()


def says(dolium: Dolium, *words: str, **how: Any) -> tuple[str, str]:
    """The first line of a refusal, and its hint."""
    said = dolium.refused(*words, **how)
    return said.splitlines()[0], said.partition("\nhint: ")[2].strip()


# ---- limits

@pytest.mark.needs_root
def test_memory_swap(dolium: Dolium, alpine: str) -> None:
    for swap, v1, v2 in (("64m", 64 * MIB, "0"), ("96m", 96 * MIB, str(32 * MIB)), ("-1", 1 << 62, "max")):
        got = limit(dolium, "memory.swap.max", "memory/memory.memsw.limit_in_bytes", "-m", "64m", "--memory-swap", swap, alpine)
        assert got == v2 or int(got) == v1 or int(got) >= v1 == 1 << 62, (swap, got)
    assert "needs `--memory`" in says(dolium, "--memory-swap", "64m", alpine, "true")[0]
    assert "is below `-m`" in says(dolium, "-m", "64m", "--memory-swap", "32m", alpine, "true")[0]


@pytest.mark.needs_root
def test_cpu_weight_and_shares(dolium: Dolium, alpine: str) -> None:
    assert limit(dolium, "cpu.weight", "cpu/cpu.shares", "--cpu-weight", "1000", alpine) in ("1000", "10240")
    shares = limit(dolium, "cpu.weight", "cpu/cpu.shares", "--cpu-shares", "512", alpine)
    assert shares == ("512" if has_v1("cpu") else str(shares_to_weight(512)))
    assert limit(dolium, "cpu.weight", "cpu/cpu.shares", "-c=2", alpine) == ("2" if has_v1("cpu") else "1")


@pytest.mark.needs_root
def test_cpuset(dolium: Dolium, alpine: str) -> None:
    inside = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    first = min(os.sched_getaffinity(0))
    assert dolium.output("--cpuset-cpus", str(first), alpine, *inside).split()[1] == str(first)
    said, hint = says(dolium, "--cpuset-cpus", f"{first},4000", alpine, "true")
    assert said.startswith(f"error: cannot set cpuset.cpus = {first},4000: write(2)") and "not all on this host" in hint


def test_ulimits(dolium: Dolium, alpine: str) -> None:
    inside = ["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c; ulimit -Hf"]
    words = ["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "fsize=1048576"]
    assert dolium.output(*words, alpine, *inside).split() == ["100", "200", "0", "2048"]
    ended = dolium("run", "--ulimit", "fsize=4096", alpine, "sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1k count=9; stat -c %s /dev/shm/f")
    assert ended.stdout == "4096\n", ended


def test_a_ulimit_above_our_own_is_refused(plain: Dolium) -> None:
    said, hint = says(plain, "--ulimit", "nofile=4611686018427387904", "@host", "true")
    assert "cannot set RLIMIT_NOFILE = 4611686018427387904: prlimit(2)" in said and "above the hard limit" in hint


def test_oom_score(dolium: Dolium, plain: Dolium) -> None:
    for user in (dolium, plain):
        assert user.output("--oom-score-adj", "500", "@host", "cat", "/proc/1/oom_score_adj") == "500\n"
    said, hint = says(plain, "--oom-score-adj", "-900", "@host", "true")
    assert "cannot set oom_score_adj = -900: write(2)" in said and "CAP_SYS_RESOURCE" in hint


def test_no_limit_of_processes(dolium: Dolium, alpine: str) -> None:
    inside = "for i in $(seq 30); do sleep 5 & done; jobs | wc -l; kill $(jobs -p)"
    assert dolium.output("--pids-limit", "-1", alpine, "sh", "-c", inside) == "30\n"
    dolium.output("--pids-limit", "1", alpine, "true")


@pytest.mark.needs_root
def test_one_process_leaves_no_room_for_init(dolium: Dolium, alpine: str) -> None:
    said, hint = says(dolium, "--pids-limit", "1", "--init", alpine, "true")
    assert "fork(2)" in said and "--pids-limit 2" in hint


# ---- what it sees

def test_sysctls(dolium: Dolium, alpine: str) -> None:
    words = ["--sysctl", "net.ipv4.ip_default_ttl=77", "--sysctl", "kernel.shmmax=4096", "--sysctl", "net/ipv4/ip_forward=1"]
    paths = [f"/proc/sys/{each}" for each in ("net/ipv4/ip_default_ttl", "kernel/shmmax", "net/ipv4/ip_forward")]

    def outside() -> list[str]:
        return subprocess.run(["cat", *paths], capture_output=True, check=True, text=True).stdout.split()

    before = outside()
    assert dolium.output(*words, alpine, "cat", *paths).split() == ["77", "4096", "1"]
    assert outside() == before


@pytest.mark.parametrize(("given", "words", "hint"), [
    ("kernel.domainname=x", "not confined to a namespace", ""),
    ("net.core.no_such_thing=1", "openat2(2): No such file or directory", "no such setting"),
    ("net.ipv4.ip_default_ttl=many", "write(2): Invalid argument", "does not take this value"),
    ("net.core.rmem_max=4096", "(E", "namespace")])  # fmt: skip
def test_sysctls_that_cannot_be(dolium: Dolium, alpine: str, given: str, words: str, hint: str) -> None:
    said, advice = says(dolium, "--sysctl", given, alpine, "true")
    assert given.partition("=")[0] in said and words in said and hint in advice, (said, advice)


def test_sysctls_of_the_hosts_network_are_the_hosts(dolium: Dolium, alpine: str) -> None:
    said, hint = says(dolium, "--network", "host", "--sysctl", "net.core.somaxconn=77", alpine, "true")
    assert "needs a network namespace" in said and "--network host" in hint


def test_hostname(dolium: Dolium, alpine: str) -> None:
    long = "a" * 64
    assert dolium.output("--hostname", long, alpine, "sh", "-c", "hostname; echo $HOSTNAME") == f"{long}\n{long}\n"
    assert "not a host name" in says(dolium, "--hostname", long + "a", alpine, "true")[0]


def test_variables(dolium: Dolium, alpine: str) -> None:
    assert dolium.output("--env", "A=x y", "--env=B=", alpine, "sh", "-c", 'echo "$A|${B-unset}|${C-unset}"') == "x y||unset\n"


def test_names(dolium: Dolium, alpine: str) -> None:
    words = ["--add-host", "jar:192.0.2.7", "--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-option", "ndots:2"]
    seen = dolium.output(*words, alpine, "sh", "-c", "cat /etc/resolv.conf; grep jar /etc/hosts").splitlines()
    assert seen == ["nameserver 192.0.2.53", "search a.example", "options ndots:2", "192.0.2.7 jar"]


# ---- how it runs

def test_standard_input(dolium: Dolium, alpine: str) -> None:
    assert dolium.output("--interactive", alpine, "cat", input=b"given") == "given"
    assert dolium.output("-i", alpine, "wc", "-c", input=b"x" * 300_000) == "300000\n"
    assert dolium.output(alpine, "cat", input=b"not given") == ""


def test_workdir(dolium: Dolium, alpine: str) -> None:
    assert dolium.output("--workdir", "/etc/apk", alpine, "sh", "-c", "pwd; ls repositories") == "/etc/apk\nrepositories\n"
    assert "cannot chdir /nope" in says(dolium, "-w", "/nope", alpine, "true")[0]
    assert "cannot chdir /etc/passwd" in says(dolium, "-w", "/etc/passwd", alpine, "true")[0]


ORPHAN = """
import os, time
if not os.fork():
    orphan = os.fork()
    if orphan:
        os.write(1, b"%d " % orphan)
        os._exit(0)
    time.sleep(0.2)
    os._exit(0)
os.wait()
seen = 0  # who reaps takes a moment, too
while True:
    states = [open(f"/proc/{each}/stat").read().split()[2] for each in os.listdir("/proc") if each.isdigit()]
    seen = seen + 1 if "Z" in states else 0
    if seen == 20 or len(states) == 1 + (os.getpid() != 1):
        break
    time.sleep(0.05)
os.write(1, b"zombie" if "Z" in states else b"gone")
"""


def test_init_reaps(dolium: Dolium) -> None:
    """An orphan that has ended is a zombie under a PID 1 that does not wait for it, and gone under --init."""
    words = ["@host", SYSTEM_PYTHON, "-IS", "-c", ORPHAN]
    assert dolium.output(*words).split()[1] == "zombie"
    assert dolium.output("--init", *words).split()[1] == "gone"
    assert dolium.output("--init", "@host", "cat", "/proc/1/comm") == "dolium-init\n"


def test_init_passes_signals_on(dolium: Dolium, alpine: str) -> None:
    inside = "trap 'echo heard; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    with dolium.start("run", "--init", alpine, "sh", "-c", inside) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.readline() == b"heard\n"
        assert wait_for(lambda: process.poll()) == 9


# ---- kept, and left running

def test_detached_and_stopped_as_asked(folder: str) -> None:
    """Not with --rm, so that its log and its end are there afterwards."""
    kept, name = Dolium(forgets=False), f"flags-{os.getpid()}"
    loop = "trap 'echo heard; exit 6' USR1; echo ready; while :; do sleep 0.05; done"
    words = ["--detach", "--name", name, "--label", "use=test", "--stop-signal", "USR1", "--stop-timeout", "100"]
    identity = kept.output(*words, "@host", "sh", "-c", loop).strip()
    try:
        assert len(identity) == 12
        wait_for(lambda: kept("logs", name).stdout == "ready\n")
        for value in ("label=use=test", f"name={name}", f"id={identity}"):
            assert identity in kept("ps", "-q", "--filter", value).stdout
        assert identity not in kept("ps", "-q", "--filter", "label=use=other").stdout
        assert kept("stop", name).code == 0
        assert (kept("wait", name).stdout, kept("logs", name).stdout) == ("6\n", "ready\nheard\n")
    finally:
        kept("rm", "--force", name)
    assert kept("logs", name).code == 125


@pytest.mark.parametrize("who", ["dolium", "plain"])
@pytest.mark.parametrize("words", [["--detach", "--rm"], ["--rm"]])
def test_rm_forgets(request: pytest.FixtureRequest, words: list[str], who: str) -> None:
    kept, name = Dolium(request.getfixturevalue(who).uid, forgets=False), f"flags-{os.getpid()}"
    kept.output(*words, "--name", name, "@host", "true")
    wait_for(lambda: kept("logs", name).code == 125)
