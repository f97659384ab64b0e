"""What a program finds in a container of ours, of runc's and of crun's made from the same config: the same, but for what is listed
here with its reason.  The configs are made up; SEEDS says how many.  DOLIUM_DIFFERENTIAL=N tries more of them."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
from typing import Any

import pytest
from bundles import DEFAULT, Bundle, script
from containers import SLOW
from test_cwd import CASES, is_as, said

SEEDS = range(int(os.environ.get("DOLIUM_DIFFERENTIAL", "8")))
PROGRAM = """
grep -E '^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|Cap[A-Z][a-z]*|SigBlk):' /proc/self/status
echo @limits; cat /proc/self/limits
echo @mounts; cat /proc/self/mountinfo
echo @maps; cat /proc/self/uid_map /proc/self/gid_map
echo @place; pwd; hostname; cat /proc/self/oom_score_adj; env | sort
echo @dev; cd /dev; for f in * pts/*; do test -e $f && stat -c '%n %F %a %t:%T' $f; done; ls -l /proc/self/fd | wc -l
echo @masked; for f in /proc/kcore /proc/keys /proc/timer_list /proc/sysrq-trigger; do test -s $f; echo $?; (: >>$f) 2>&1 | sed 's/.*: //'; done
ls -a /sys/firmware /proc/scsi 2>&1; (: >/sys/firmware/x) 2>&1 | sed 's/.*: //'
"""
CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_NET_BIND_SERVICE", "CAP_DAC_OVERRIDE"]
OPTIONS = ["ro", "nosuid", "nodev", "noexec", "nodiratime"]
TIMES = ["noatime", "relatime", "strictatime"]
"""Of two of them the last holds with us; the others set both, and which holds is the kernel's choice."""
ONLY_V2 = "umount -l -R /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\""
"""crun 1.8 takes no hybrid host: it sees cgroup v2 alone."""


def made_up(seed: int, directory: str) -> dict[str, Any]:
    """A config by chance."""
    chance = random.Random(seed)
    spec = copy.deepcopy(DEFAULT)
    spec["ociVersion"] = "1.0.2"
    process, linux = spec["process"], spec["linux"]
    process["args"] = ["sh", "-c", PROGRAM]
    process["noNewPrivileges"] = chance.random() < 0.5
    uid = chance.choice([0, 0, 1, 1000, 65534])
    process["user"] = {"uid": uid, "gid": chance.choice([0, 5, 1000]), "additionalGids": chance.sample(range(20), chance.randrange(4))}
    if chance.random() < 0.5:
        process["user"]["umask"] = chance.choice([0, 0o22, 0o77])
    held = chance.sample(CAPABILITIES, chance.randrange(len(CAPABILITIES) + 1))
    process["capabilities"] = {each: held for each in ("bounding", "effective", "permitted")}
    if chance.random() < 0.4:
        process["capabilities"] |= {"inheritable": held, "ambient": held[: len(held) // 2]}
    process["rlimits"] = [{"type": f"RLIMIT_{name}", "soft": soft, "hard": soft + chance.randrange(100)} for name in
                          chance.sample(["NOFILE", "CORE", "STACK", "FSIZE", "AS", "CPU", "MEMLOCK", "MSGQUEUE", "SIGPENDING"], 3)
                          for soft in [{"AS": 1 << 32, "STACK": 4 << 20, "FSIZE": 1 << 30}.get(name, chance.randrange(50, 900))]]
    process["cwd"] = chance.choice(["/", "/tmp", "/usr/bin"])
    process["env"] += [f"X{number}=a b={number}" for number in range(chance.randrange(4))]
    if chance.random() < 0.4:
        process["oomScoreAdj"] = chance.randrange(0, 1000)
    spec["root"]["readonly"] = chance.random() < 0.4
    kinds = ["pid", "mount", *(each for each in ("network", "ipc", "uts", "cgroup") if chance.random() < 0.8)]
    if "uts" in kinds:
        spec["hostname"] = "made-up"
    if chance.random() < 0.3:
        kinds.append("user")
        maps = [{"containerID": 0, "hostID": 100000, "size": 70000}]
        linux |= {"uidMappings": maps, "gidMappings": maps}
        kinds += [each for each in ("network", "ipc", "uts", "cgroup") if each not in kinds]
    linux["namespaces"] = [{"type": each} for each in dict.fromkeys(kinds)]
    for number in range(chance.randrange(1, 5)):
        options = chance.sample(OPTIONS, chance.randrange(4)) + chance.sample(TIMES, chance.randrange(2))
        if chance.random() < 0.5:
            if "user" in kinds:  # runc 1.1 fails to set any there, where other flags are locked; crun 1.8 leaves all of them out
                options = []
            source = chance.choice([f"{directory}/data", f"{directory}/data/file"])
            spec["mounts"].append({"destination": f"/mnt/{number}", "type": "bind", "source": source,
                                   "options": [chance.choice(["bind", "rbind"]), *options, *chance.sample(["rprivate", "rslave", "private", "rshared"], 1)]})
        else:
            size = chance.choice(["size=64k", "size=1m", "nr_inodes=100"])
            spec["mounts"].append({"destination": f"/mnt/{number}", "type": "tmpfs", "source": "tmpfs", "options": [*options, size, "mode=1755"]})
    linux["maskedPaths"] = chance.sample(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/scsi", "/nonexistent"], 3)
    linux["readonlyPaths"] = chance.sample(["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger", "/nonexistent"], 3)
    if chance.random() < 0.5:
        linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                            "syscalls": [{"names": ["bpf", "keyctl"], "action": "SCMP_ACT_ERRNO"}]}
    return spec


Found = dict[str, list[str]]


def mount(line: str) -> str:
    """A line of mountinfo without what is a number of the kernel's: ids, devices, peer groups."""
    fields, rest = line.split(" - ")
    _, _, _, root, point, options, *optional = fields.split()
    return " ".join([root, point, options, *(re.sub(r":\d+", "", each) for each in optional), "-", *rest.split()])


def read(text: str, directory: str) -> Found:
    """The program's words by chapters."""
    found: Found = {"status": []}
    chapter = "status"
    for line in text.replace(directory, "DIRECTORY").splitlines():
        if line.startswith("@"):
            chapter = line[1:]
            found[chapter] = []
        else:
            found[chapter].append(mount(line) if chapter == "mounts" else line)
    return found


def comparable(found: Found) -> Found:
    """Without what differs, and is meant to."""
    found = copy.deepcopy(found)
    mounts = []
    for line in found["mounts"]:
        fields = line.split()
        if fields[1] in COVERED or fields[1].startswith("/dev/") and "devtmpfs" in fields:
            continue
        # mount(2) makes a file system itself read-only where the mount is to be; ours is so by the mount alone, as crun's is
        mounts.append(re.sub(r"(sysfs|tmpfs|proc|devpts|shm) r[ow]", r"\1", line))
    found["mounts"] = mounts
    found["dev"] = [line for line in found["dev"] if line.split()[0] not in ("core", "mqueue")]  # which runc or both do not make
    found["place"] = sorted(found["place"])  # HOME has another place among the variables
    return found


COVERED = {"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware", "/proc/sysrq-trigger", "/proc/sys", "/proc/bus",
           "/proc/fs", "/proc/irq"}  # fmt: skip
"""What covers them differs, what it does is looked at under @masked.  Nodes of /dev in a user namespace are made beside it, where
the others bind the host's."""


def command(name: str) -> list[str]:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"no {name} here")
    hybrid = os.path.exists("/sys/fs/cgroup/unified")
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", ONLY_V2, "-", path] if name == "crun" and hybrid else [path]


def seen(bundle: Bundle, spec: dict[str, Any], argv: list[str]) -> Found:
    bundle.write(spec)
    identity = f"{bundle.id}-{os.path.basename(argv[-1])}"
    ended = subprocess.run([*argv, "--root", f"{bundle.directory}/{identity}", "run", "--bundle", bundle.directory, identity],
                           capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, timeout=60 * SLOW)
    assert ended.returncode == 0, (argv, ended, spec)
    return read(ended.stdout, bundle.directory)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("other", ["runc", "crun"])
def test_the_same_as(bundle: Bundle, other: str, seed: int) -> None:
    theirs = command(other)
    os.makedirs(f"{bundle.directory}/data/deep")
    with open(f"{bundle.directory}/data/file", "w") as file:
        file.write("text\n")
    spec = made_up(seed, bundle.directory)
    if any(each["type"] == "user" for each in spec["linux"]["namespaces"]):
        bundle.give(100000)
    if other == "crun":  # 1.8 sets no HOME for a user whom passwd does not know, and leaves `shared` of a bind mount out
        if spec["process"]["user"]["uid"] == 1000:
            spec["process"]["env"].append("HOME=/")
        for mount in spec["mounts"]:
            mount["options"] = [each for each in mount["options"] if each != "rshared"]
    mine, others = comparable(seen(bundle, spec, [bundle.runtime])), comparable(seen(bundle, spec, theirs))
    for chapter, lines in mine.items():
        assert lines == others[chapter], (chapter, json.dumps(spec["process"]))


UNLIKE = {("runc", "below-the-users", "run"): "denied", ("runc", "nothing-below", "run"): "denied", ("crun", "nobody", "exec"): "/a"}
"""runc 1.1 makes a working directory that root does not see, and fails; crun enters it as the user, as we do.  `exec` of crun 1.8
enters as root of the host, to whom this one belongs."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("other", ["runc", "crun"])
def test_the_same_may_enter_the_working_directory(bundle: Bundle, other: str, case: str) -> None:
    for verb, found in said(bundle, command(other), case).items():
        assert is_as(found, UNLIKE.get((other, case, verb), CASES[case][3])), (verb, found)


def test_events_count_what_runc_counts(bundle: Bundle) -> None:
    """By the same names; of values those that do not change."""
    [runc] = command("runc")
    spec = script("sleep 1000", linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 77}, "cpu": {"cpus": "0"}})
    bundle.running(spec)
    other = f"{bundle.id}-runc"
    subprocess.run([runc, "--root", f"{bundle.directory}/runc", "run", "-d", "-b", bundle.directory, other], check=True, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, env=bundle.environment)  # fmt: skip
    try:
        shown = subprocess.run([runc, "--root", f"{bundle.directory}/runc", "events", "--stats", other], capture_output=True, text=True, check=True).stdout
    finally:
        subprocess.run([runc, "--root", f"{bundle.directory}/runc", "delete", "-f", other], check=True, env=bundle.environment)
    mine, theirs = (json.loads(each)["data"] for each in (bundle.verb("events", "--stats", bundle.id).out, shown))
    for part in ("cpuset", "pids"):
        assert mine[part] == theirs[part], part
    for part in ("usage", "swap", "kernel", "kernelTCP"):  # runc leaves out what is 0
        if part in theirs["memory"]:
            assert set(theirs["memory"][part]) <= set(mine["memory"][part]), part
    assert mine["memory"]["usage"]["limit"] == theirs["memory"]["usage"]["limit"] == 64 << 20
    assert set(theirs["memory"]["raw"]) == set(mine["memory"]["raw"])
    assert set(theirs["cpu"]["usage"]) <= set(mine["cpu"]["usage"]) and len(mine["cpu"]["usage"].get("percpu", [])) == len(theirs["cpu"]["usage"].get("percpu", []))
