"""What Podman and Docker do alike.  A script has `$run` for `podman run` or `docker run` with the runtime in question, `$engine` for the
other commands, `$cp` and `$remove` for those with flags of their own, and `$I` for the image.  The files of either have a class of
these tests, and give the fixture `engine`."""

from __future__ import annotations

import pytest
from lab import GROUPS, V2, Pair

SERVER = "while :; do printf \"HTTP/1.0 200 OK\\r\\n\\r\\nserved\\n\" | nc -l -p 80 >/dev/null; done"
SLEEPING = "$run -d --name c1 $I sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done' >/dev/null; "
GONE = "; $remove c1"


def frozen(group: str) -> str:
    """Shell that says whether the processes of a group are."""
    return f"cat {GROUPS}/{group}/cgroup.freeze | sed s/1/FROZEN/" if V2 else f"cat {GROUPS}/freezer/{group}/freezer.state"


def limits(group: str) -> str:
    """Shell that prints those of a group, in the words of version 1: memory, memory and swap, quota, shares, processes, CPUs.

    512 shares are weight 20 as runc 1.1 reckons, and 59 by the formula of the specification 1.3; usual is 100."""
    if V2:
        return (f"(cd {GROUPS}/{group}; read -r memory <memory.max; read -r swap <memory.swap.max; echo $memory; [ $swap = max ] && echo max || echo $((memory + swap)); cut -d ' ' -f 1 cpu.max; "
                "case $(cat cpu.weight) in 39|100) echo 1024;; 20|59) echo 512;; esac; cat pids.max cpuset.cpus)")  # fmt: skip
    files = "memory/$/memory.limit_in_bytes memory/$/memory.memsw.limit_in_bytes cpu/$/cpu.cfs_quota_us cpu/$/cpu.shares pids/$/pids.max cpuset/$/cpuset.cpus"
    return f"(cd {GROUPS}; cat {files.replace('$', group)})"


class Alike:
    def test_run(self, engine: Pair) -> None:
        engine.same("$run --rm $I echo hi", "hi\n")
        engine.same("echo data | $run --rm -i $I cat", "data\n")
        engine.same("$run --rm -e A=b -w /tmp -u 1000:100 --hostname hh $I sh -c 'echo $A; pwd; id -u; id -g; hostname'", "b\n/tmp\n1000\n100\nhh\n")

    def test_run_with_a_terminal(self, engine: Pair) -> None:
        engine.same('script -qec "stty rows 30 cols 100; $run --rm -it $I sh -c \'tty; until stty size 2>/dev/null | grep .; do :; done\'" /dev/null <>/tmp/never', "/dev/pts/0\n30 100\n")

    def test_detached(self, engine: Pair) -> None:
        engine.same(
            """$run -d --name c1 $I sh -c 'echo out; echo err >&2; sleep 1; exit 5' >/dev/null
            $engine inspect c1 --format '{{.State.Status}}'
            $engine wait c1
            $engine logs c1 2>/dev/null; $engine logs c1 2>&1 >/dev/null
            $engine inspect c1 --format '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}'
            $engine ps -a --format '{{.Names}} {{.Status}}' | cut -c 1-13
            $engine rm c1""",
            "running\n5\nout\nerr\nexited 5 false\nc1 Exited (5)\nc1\n",
        )

    def test_exec_again_needs_no_python(self, engine: Pair) -> None:
        """What an engine asks for is the same each time but for the words (docs/decisions/0041): Dolium's Python is taken away."""
        name = "/usr/local/lib/dolium/dolium-oci"
        said = engine.lab.sh(f"""{SLEEPING}
            $engine exec c1 true; mv {name} {name}.away; $engine exec c1 echo 'one & two'; echo in | $engine exec -i c1 cat; $engine exec c1 sh -c 'exit 42'; echo $?
            mv {name}.away {name}{GONE}""", **engine.ways["dolium"])  # fmt: skip
        assert said.stdout == "one & two\nin\n42\nc1\n", said

    def test_signals(self, engine: Pair) -> None:
        engine.same(
            """$run -d --name c1 $I sh -c 'trap "echo got" HUP; echo ready; while :; do sleep 0.05; done' >/dev/null
            until $engine logs c1 | grep -q ready; do :; done
            $engine kill -s HUP c1; until $engine logs c1 | grep got; do :; done
            $engine kill c1; $engine wait c1; $engine inspect c1 --format '{{.State.Status}}'; $engine rm c1""",
            "c1\ngot\nc1\n137\nexited\nc1\n",
        )

    def test_cp(self, engine: Pair) -> None:
        engine.same(
            f"""{SLEEPING}echo inward >/tmp/f; $cp /tmp/f c1:/tmp/g; $engine exec c1 cat /tmp/g
            $engine exec c1 sh -c 'mkdir /d; echo outward >/d/h'; $cp c1:/d /tmp/d; cat /tmp/d/h; rm -r /tmp/d
            $engine stop -t 5 c1; $engine cp c1:/d/h - | tar -xO{GONE}""",
            "inward\noutward\nc1\noutward\nc1\n",
        )

    def test_images_of_containers(self, engine: Pair) -> None:
        engine.same(
            """$run --name c1 $I sh -c 'echo x >/made'; $engine diff c1 | grep made; $engine commit c1 two >/dev/null 2>&1
            $run --rm two cat /made; $engine export c1 | tar -t | grep made; $engine rm c1 >/dev/null; $engine rmi two >/dev/null""",
            "A /made\nx\nmade\n",
        )

    @pytest.mark.parametrize("flags", ["--pid host", "--ipc host", "--uts host", "--network host", "--network none", "--cgroupns private", "--cgroupns host"])
    def test_namespaces(self, engine: Pair, flags: str) -> None:
        kind = flags.split()[0].removeprefix("--").removesuffix("ns").replace("network", "net")
        wanted = "the host's\n" if flags.endswith("host") else "its own\n"
        engine.same(f"own=$($run --rm {flags} $I readlink /proc/self/ns/{kind}); [ $own = $(readlink /proc/self/ns/{kind}) ] && echo \"the host's\" || echo its own", wanted)
