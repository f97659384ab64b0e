"""`dolium inspect`: what it says is what the kernel says, of containers in every state, and `dolium ps` says the same."""

import json
import os
import re
import shlex
import signal
import time
from typing import Any

import pytest
from containers import SLOW, TOP, Begin, Dolium, wait_for
from networks import Site
from test_live_exec import rootfs

from dolium.cli import ps

NESTED = ("State", "HostConfig", "Config", "NetworkSettings", "Dolium")


@pytest.fixture(params=["root", "plain"])
def user(request: pytest.FixtureRequest) -> Dolium:
    """Whose containers stay when they have ended."""
    found: Dolium = request.getfixturevalue(request.param)
    found.forgets = False
    return found


def documents(who: Dolium, *names: str) -> list[dict[str, Any]]:
    ended = who("inspect", *names)
    assert (ended.code, ended.stderr) == (0, ""), ended
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def document(who: Dolium, name: str) -> dict[str, Any]:
    (found,) = documents(who, name)
    return found


def pretty(who: Dolium, name: str) -> str:
    ended = who("inspect", "--pretty", name)
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


def listed(who: Dolium, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(who("ps", "-a", "--format", "json", "-f", f"id={name}").stdout)
    return found


def keys(found: dict[str, Any]) -> set[str]:
    return {key for key in found if key not in NESTED} | {f"{top}.{key}" for top in NESTED for key in found[top]}


def documented() -> set[str]:
    with open(f"{TOP}/docs/reference/inspect.md") as file:
        rows = [line.split("|")[1] for line in file if line.startswith("| `")]
    return {word for row in rows for word in re.findall("`([^`]*)`", row)}


def test_its_keys_are_the_documented_ones_in_every_state(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    """Created, running, exited; and `ps` agrees each time."""
    name = begin(user, "--name", f"shown-{os.getpid()}", rootfs(request, user))
    found = document(user, name)
    assert keys(found) == documented()
    state, row = found["State"], listed(user, name)
    assert (state["Status"], state["Running"]) == (row["State"], True) == ("running", True) and state["Pid"] == row["Pid"] > 0
    assert found["Id"] == row["ID"] == name and found["Name"] == row["Names"] and found["Path"] == "sleep"
    assert user("kill", name).code == 0
    found, row = document(user, name), listed(user, name)
    state = found["State"]
    assert keys(found) == documented()
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 137)
    assert row["State"] == "exited" and row["ExitCode"] == 137
    assert "0001" < state["StartedAt"] <= state["FinishedAt"] and found["Dolium"]["Ended"]["Signal"] == signal.SIGKILL
    assert "ended        by signal 9, exit code 137" in pretty(user, name)
    for each in ("began", "ended"):  # as if its maker had been killed before it ran
        os.unlink(f"{os.path.dirname(found['Dolium']['Upper'])}/{each}.json")
    found = document(user, name)
    assert keys(found) == documented() and found["State"]["StartedAt"] == found["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert found["State"]["Status"] == listed(user, name)["State"] == "created" and "status       created\n" in pretty(user, name)


def test_namespaces_side_by_side(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    name = begin(user, rootfs(request, user))
    found = document(user, name)
    pid = found["State"]["Pid"]
    for kind, seen in found["Dolium"]["Namespaces"].items():
        assert seen["Host"] == os.stat(f"/proc/self/ns/{kind}").st_ino
        assert seen["Own"] == (seen["Container"] != seen["Host"])
        if os.geteuid() == 0:
            assert seen["Container"] == os.stat(f"/proc/{pid}/ns/{kind}").st_ino
    own = {kind for kind, seen in found["Dolium"]["Namespaces"].items() if seen["Own"]}
    expected = {"pid", "net", "mnt", "uts", "ipc", "cgroup"} | ({"user"} if found["Dolium"]["Users"]["Own"] else set())
    assert own == expected
    text = pretty(user, name)
    head, *lines = text[text.index("namespaces ") :].splitlines()[:4]
    assert head.split() == ["namespaces", "container", "host"]
    assert [(line.split()[0], line.split()[3]) for line in lines[:2]] == [("pid", "own"), ("net", "own")]


def test_what_is_shared_is_said(root: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, "--network", "host", "--userns", "host", "--time-namespace", alpine)
    found = document(root, name)
    kinds = found["Dolium"]["Namespaces"]
    assert not kinds["net"]["Own"] and not kinds["user"]["Own"] and kinds["time"]["Own"]
    assert found["Dolium"]["Users"] == {"Own": False, "First": 0, "Count": (1 << 32) - 1, "Note": ""}
    assert found["HostConfig"]["NetworkMode"] == "host" and found["HostConfig"]["UsernsMode"] == "host"
    assert "shared       the host's: root there is root here" in pretty(root, name)


def test_users_are_where_it_says(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    name = begin(user, rootfs(request, user))
    found = document(user, name)
    users = found["Dolium"]["Users"]
    with open(f"/proc/{found['State']['Pid']}/uid_map") as file:
        inside, first, count = map(int, file.readline().split())
    assert (inside, first, count) == (0, users["First"], users["Count"])
    assert [each["Uid"] for each in found["Dolium"]["Processes"]] == [users["First"]]


def test_limits_and_what_is_used(root: Dolium, begin: Begin, alpine: str) -> None:
    spin = "while :; do :; done"
    name = begin(root, "-m", "32m", "--cpus", "0.25", "--pids-limit", "9", "--init", alpine,
                 program=("sh", "-c", f"({spin}) & head -c 4m /dev/zero >/dev/shm/f; sleep 1000; :"))  # fmt: skip
    assert root("exec", "-d", name, "sleep", "999").code == 0

    def settled() -> dict[str, Any] | None:
        own: dict[str, Any] = document(root, name)["Dolium"]
        begun = {shlex.join(each["Command"]) for each in own["Processes"]} >= {"sleep 1000", "sleep 999"}
        done = own["Cpu"]["Throttled"] and own["Memory"]["Usage"] > 4 << 20 and len(own["Processes"]) == 5
        return own if done and begun else None

    own = wait_for(settled, 20)
    assert own["Memory"]["Limit"] == 32 << 20 and own["Memory"]["SwapLimit"] in (0, None)
    assert 4 << 20 < own["Memory"]["Usage"] <= own["Memory"]["Peak"] <= 32 << 20 and own["Memory"]["Events"]["oom_kill"] == 0
    assert (own["Cpu"]["Quota"], own["Cpu"]["Period"]) == (25000, 100000) and own["Cpu"]["ThrottledSeconds"] > 0
    assert own["CpuSeconds"] > 0 and own["Pids"] == {"Limit": 9, "Current": 5}
    assert 1 in [each["Inside"] for each in own["Processes"]]
    asked = document(root, name)["HostConfig"]
    assert (asked["Memory"], asked["MemorySwap"], asked["NanoCpus"], asked["PidsLimit"]) == (32 << 20, 32 << 20, 250_000_000, 9)
    text = pretty(root, name)
    assert "enforced     32 MiB" in text and "25 % of one CPU" in text and "at most 9, 5 now" in text and "sleep 999" in text


def test_mounts_and_what_was_asked(root: Dolium, begin: Begin, alpine: str, folder: str) -> None:
    words = ["-v", f"{folder}:/data:ro", "-v", f"{folder}:/more", "--tmpfs", "/scratch:size=1m", "-h", "pot", "-u", "1000", "-w", "/tmp",
             "-l", "tier=db", "--cap-add", "NET_ADMIN", "--read-only", "--stop-signal", "HUP", "-e", "A=é"]  # fmt: skip
    found = document(root, begin(root, *words, alpine))
    assert [(each["Type"], each["Source"], each["Destination"], each["RW"]) for each in found["Mounts"]] == [
        ("bind", folder, "/data", False), ("bind", folder, "/more", True), ("tmpfs", "", "/scratch", True)]  # fmt: skip
    asked, limits = found["Config"], found["HostConfig"]
    assert (asked["Hostname"], asked["User"], asked["WorkingDir"], asked["Labels"]) == ("pot", "1000", "/tmp", {"tier": "db"})
    assert asked["StopSignal"] == "SIGHUP" and asked["Env"] == ["A=é"] and asked["Image"] == found["Image"] == alpine
    assert limits["CapAdd"] == ["CAP_NET_ADMIN"] and limits["ReadonlyRootfs"] and limits["Binds"] == [f"{folder}:/data:ro", f"{folder}:/more"]


def test_the_address(site: Site, alpine: str) -> None:
    name = site.run("-d", alpine, "sleep", "1000").strip()
    try:
        found = document(site, name)["NetworkSettings"]
        shown = site("exec", name, "ip", "-4", "-o", "addr", "show", "eth0").stdout
        assert f"{found['IPAddress']}/{found['IPPrefixLen']}" in shown
        assert site("exec", name, "ip", "route").stdout.startswith(f"default via {found['Gateway']} ")
        assert found["Networks"] == {"bridge": {key: found[key] for key in ("IPAddress", "IPPrefixLen", "Gateway")}}
        assert site("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout == found["IPAddress"] + "\n"
        assert f"address      {found['IPAddress']}/16" in pretty(site, name)
    finally:
        site("rm", "-f", name)


@pytest.mark.parametrize(("words", "program", "reason", "code", "told"), [
    ([], ["sh", "-c", "exit 3"], "exit", 3, "ended        by itself, exit code 3"),
    (["--init"], ["sh", "-c", "kill -6 $$"], "exit", 134, "ended        by itself, exit code 134"),
    (["-m", "16m"], ["sh", "-c", "tail /dev/zero"], "memory", 137, "killed: memory ran out, exit code 137"),
    (["--timeout", "0.2"], ["sleep", "100"], "timeout", 137, "killed: its time was over"),
])  # fmt: skip
def test_how_it_ended(root: Dolium, alpine: str, words: list[str], program: list[str], reason: str, code: int, told: str) -> None:
    name = f"ends-{os.getpid()}"
    kept = Dolium(forgets=False)
    kept("run", "--name", name, *words, alpine, *program, timeout=60)
    try:
        found = document(kept, name)
        assert (found["Dolium"]["Ended"]["Reason"], found["State"]["ExitCode"]) == (reason, code)
        assert found["State"]["OOMKilled"] == (reason == "memory") and told in pretty(kept, name)
        assert (listed(kept, found["Id"])["ExitCode"], listed(kept, found["Id"])["State"]) == (code, "exited")
    finally:
        kept("rm", name)


def test_one_that_dies_meanwhile(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    """At whatever moment: it runs, and has a pid, or has ended, and how is known."""
    seen = set()
    for turn in range(12):
        name = begin(user, rootfs(request, user), program=("sleep", str(0.02 * turn * SLOW)))
        for _ in range(3):
            found = document(user, name)
            state = found["State"]
            seen.add(state["Status"])
            assert (state["Pid"] > 0) == state["Running"] == (found["Dolium"]["Namespaces"] is not None), found
            assert state["Running"] or state["ExitCode"] == 0 < len(state["FinishedAt"]), found
    assert seen == {"running", "exited"}


def test_one_whose_watcher_is_gone(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    from containers import children

    name = begin(user, rootfs(request, user))
    pid = document(user, name)["State"]["Pid"]
    with open(f"/proc/{pid}/stat") as file:
        keep = int(file.read().rpartition(")")[2].split()[1])
    assert pid in children(keep)
    os.kill(keep, signal.SIGKILL)
    found = document(user, name)
    assert (found["State"]["Status"], found["State"]["ExitCode"]) == ("exited", 137)
    assert found["Dolium"]["Ended"]["Reason"] == "dolium-keep was killed" and listed(user, name)["State"] == "exited"
    assert "dolium-keep was killed, exit code 137" in pretty(user, name)


def test_bytes_that_are_no_text(user: Dolium, begin: Begin, request: pytest.FixtureRequest) -> None:
    """They come out as they went in, and move no terminal's cursor."""
    odd = os.fsdecode(b"\xff\xfe\x1b[2J\n")
    name = begin(user, "-e", f"ODD={odd}", "-l", "x=\x1b[31m", rootfs(request, user), program=("sh", "-c", "sleep 1000 #" + odd))
    found = document(user, name)
    assert os.fsencode(found["Config"]["Env"][0]) == b"ODD=\xff\xfe\x1b[2J\n" and os.fsencode(found["Args"][1]).endswith(b"\xff\xfe\x1b[2J\n")
    text = user("inspect", "--pretty", name)
    assert text.code == 0 and b"\x1b" not in text.out and b"\xff" not in text.out and r"\udcff" in text.stdout
    assert b"\x1b" not in user("ps", "--no-trunc").out
    assert user("inspect", "-f", "{{.Path}}", name).stdout == "sh\n"


def test_words(root: Dolium, begin: Begin, alpine: str) -> None:
    one, two = begin(root, alpine), begin(root, alpine)
    assert [each["Id"] for each in documents(root, two, one[:8])] == [two, one], "in the order asked for, and by prefix"
    some = root("inspect", one, "nothing-such")
    assert some.code == 1 and [each["Id"] for each in json.loads(some.stdout)] == [one] and "no container or image `nothing-such`" in some.stderr
    none = root("inspect", "nothing-such")
    assert (none.code, json.loads(none.stdout)) == (1, [])
    assert root("inspect", "--format", "json", one).stdout.count("\n") == 1
    assert root("inspect", "-f", r"{{.Id}}\t{{.State.Running}}", one, two).stdout == f"{one}\ttrue\n{two}\ttrue\n"
    for words, answer in ((["--pretty", "-f", "json", one], "two different things"), (["-s", one], "du -sh"), ([], "needs a CONTAINER"),
                          (["-f", "{{range .Mounts}}{{end}}", one], "jq")):  # fmt: skip
        ended = root("inspect", *words)
        assert ended.code == 125 and ended.stdout == "" and answer in ended.stderr, ended


def test_what_is_rootss_is_not_a_plain_users(root: Dolium, plain: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, alpine)
    ended = plain("inspect", name)
    assert ended.code == 1 and f"no container or image `{name}`" in ended.stderr, ended


def test_fields_of_ps(root: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, "--name", f"row-{os.getpid()}", "-l", "a=b", "-l", "c=d", alpine)
    shape = r"table {{.ID}}\t{{.Names}}\t{{.Command}}\t{{.Labels}}"
    head, row = root("ps", "-f", f"id={name}", "--format", shape).stdout.splitlines()
    assert head.split() == ["ID", "NAMES", "COMMAND", "LABELS"]
    assert row.split("   ") == [name, f"row-{os.getpid()}", "sleep 1000", "a=b,c=d"]
    shown = root("ps", "-f", f"id={name}", "--format", "{{.CreatedAt}} {{.RunningFor}}").stdout
    assert shown.startswith(time.strftime("%Y-", time.gmtime())) and shown.endswith(" ago\n")
    assert [*json.loads(root("ps", "-f", f"id={name}", "--format", "{{json .}}").stdout)] == [*ps.FIELDS]
