"""Whether two containers look the same to a program inside."""

import os
import re
from collections import Counter

SEEN = r"""cat /proc/self/mountinfo; echo; cat /proc/self/status; echo; cat /proc/self/uid_map /proc/self/gid_map; echo
for each in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$each; done; echo
cat /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj /sys/class/net/lo/flags; echo
ls -lan /dev / /sys/fs/cgroup; cat /etc/hosts /etc/hostname /etc/resolv.conf; hostname; pwd; umask
env | grep -v SHLVL; ls -l /proc/self/fd"""
STATUS = ("Umask", "Uid", "Gid", "Groups", "NStgid", "NSpgid", "NSsid", "SigBlk", "SigIgn", "SigCgt", "CapInh",
          "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Speculation_Store_Bypass",
          "SpeculationIndirectBranch", "Cpus_allowed", "Mems_allowed", "THP_enabled")  # fmt: skip


def normal(text: str) -> list[str]:
    """What a program saw, line by line, without what no two containers share: ids, names, numbers of mounts."""
    mounts, status, ids, own, rest, names = text.split("\n\n", 5)
    base = ids.split()[1]
    host = {os.readlink(f"/proc/self/ns/{each}") for each in os.listdir("/proc/self/ns")}
    found = []
    for line in mounts.splitlines():
        fields = line.split()
        fields[:3] = []
        found.append(re.sub(r"/proc/self/fd/\d+", "/proc/self/fd/N", " ".join(fields)))
    found += [line for line in status.splitlines() if line.partition(":")[0] in STATUS]
    found += [" ".join(line.split()) for line in ids.splitlines()]
    for line in own.splitlines():
        found.append(f"namespace {line.partition(':')[0]}: {'the host`s' if line in host else 'its own'}")
    name = re.search(r"^127.0.1.1 (\S+)$", names, re.M)
    found += (rest + names.replace(name[1] if name else "", "NAME")).splitlines()
    text = "\n".join(found).replace(base, "BASE").replace(str(int(base) + 5), "BASE+5")
    text = re.sub(r"(?m) +\d+ \w{3} +\d+ (\d\d:\d\d| \d{4}) ", " ... ", text)  # size and time in `ls -l`
    text = re.sub(r"(?m)^(d\S+) +\d+ ", r"\1 N ", text)  # a link for each directory: processes, above all
    return re.sub(r"(pipe:\[|ptmxmode=|/proc/)\d+", r"\1N", text).splitlines()


def differences(ours: str, theirs: str) -> list[str]:
    """The lines that only one of the two programs saw."""
    left, right = Counter(normal(ours)), Counter(normal(theirs))
    return [*(f"only Dolium: {line}" for line in left - right), *(f"only floor:  {line}" for line in right - left)]
