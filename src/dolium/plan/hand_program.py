"""Steps on what the process is and may do, by hand; a part of plan/by_hand.py.  Pure."""

from dolium.plan import calls
from dolium.plan.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.core.wire import Step

LIMITS = {"RLIMIT_CORE": ("c", 1024), "RLIMIT_DATA": ("d", 1024), "RLIMIT_NICE": ("e", 1), "RLIMIT_FSIZE": ("f", 1024),
          "RLIMIT_SIGPENDING": ("i", 1), "RLIMIT_MEMLOCK": ("l", 1024), "RLIMIT_RSS": ("m", 1024), "RLIMIT_NOFILE": ("n", 1),
          "RLIMIT_MSGQUEUE": ("q", 1), "RLIMIT_RTPRIO": ("r", 1), "RLIMIT_STACK": ("s", 1024), "RLIMIT_CPU": ("t", 1),
          "RLIMIT_NPROC": ("u", 1), "RLIMIT_AS": ("v", 1024), "RLIMIT_LOCKS": ("x", 1), "RLIMIT_RTTIME": ("R", 1)}  # fmt: skip
"""ulimit of bash(1), and the bytes of its unit."""
LAST = "# (in the last line, by setpriv: all of it at once)"
MISSING = {
    "make_net": "the rules for a network need it before anybody is in it; here it has `lo` alone",
    "nft": "`ip netns exec NAME nft -f -` loads such rules",
    "resolver": "dnsmasq(8) with `nftset=` is one of this kind",
    "watch_oom": "no command waits for it; without, the kernel kills one process, not all",
    "device_filter": "bpftool(8) could load one that somebody has compiled",
    "own_pipes": "the pipes stay yours",
    "undumpable": "no command does it",
    "keyring": "keyctl(1) starts one by `keyctl session - COMMAND`",
    "seccomp": "no command of util-linux loads a filter: it may make every system call",
    "reap": "no small PID 1 without dolium: bash is it, until the last line",
    "reset": "signals and CPUs stay as they are",
    "idle": "nothing to run",
}


def lines(step: "Step", steps: "list[Step]") -> "list[str]":
    """What one would type, or why not."""
    return _LINES[step.op](step, steps) if step.op in _LINES else [f"# (missing: {MISSING.get(step.op, 'no command does it')})"]


def _rlimit(step: "Step", _: "list[Step]") -> "list[str]":
    letter, unit = LIMITS[step.path]
    soft, hard = ("unlimited" if each < 0 else str(each // unit) for each in (step.n2, step.n3))
    return [f"ulimit -S -{letter} {soft}; ulimit -H -{letter} {hard}"]


def _exec(step: "Step", steps: "list[Step]") -> "list[str]":
    parts = step.data.decode("utf-8", "surrogateescape").split("\0")[:-1]
    argv, env = parts[step.n1 : step.n1 + step.n2], parts[step.n1 + step.n2 :]
    path = next((each[5:] for each in env if each.startswith("PATH=")), "/bin:/usr/bin")
    given = " ".join(map(quote, env))
    return [f"set -- {' '.join(map(quote, argv))}", f"export PATH={quote(path)}; hash -r",
            "if setpriv --help 2>&1 | grep -q bounding-set; then",
            f"    exec env -i {given} setpriv {' '.join(_rights(steps))} \"$@\"", "fi",
            'echo "no setpriv in the container: it keeps rights that it should not have" >&2',
            f'exec env -i {given} "$@"']  # fmt: skip


def _rights(steps: "list[Step]") -> "list[str]":
    """The flags of setpriv(1) for all the steps that take something away."""
    found = ["--pdeathsig KILL"]
    for step in steps:
        if step.op == "bounds":
            kept = ",".join(f"+{each[4:].lower()}" for each in calls.capabilities(step.n1))
            found.append(f"--bounding-set -all{',' + kept if kept else ''}")
        elif step.op == "become" and step.why == "process.user":
            groups = [str(int.from_bytes(step.data[at : at + 4], "little")) for at in range(0, len(step.data), 4)]
            who = f"--reuid {step.n3} --regid {step.n2}"
            kept = " --keep-groups" if step.n1 else f" --groups {','.join(groups)}" if groups else " --clear-groups"
            found.append(who + kept)
        elif step.op == "caps":
            found.append("--inh-caps -all")
        elif step.op == "no_new_privs":
            found.append("--no-new-privs")
    return found


_LINES: "dict[str, Callable[[Step, list[Step]], list[str]]]" = {
    "rlimit": _rlimit, "exec": _exec,
    "bounds": lambda step, _: [LAST], "caps": lambda step, _: [LAST], "no_new_privs": lambda step, _: [LAST],
    "die_with": lambda step, _: [LAST],
    "become": lambda step, _: [LAST] if step.why == "process.user" else ["# (nsenter or unshare has made it so)"],
    "reset": lambda step, _: ["umask 0", f"# (missing: {MISSING['reset']})"],
    "umask": lambda step, _: [f"umask {step.n1:03o}"],
    "chdir": lambda step, _: [f"cd {quote(step.path)}"],
    "keep": lambda step, _: ["# (it waits, and kills nobody: Ctrl-C reaches them all)", 'code=0; wait "$child" || code=$?',
                             'exit "$code"'],
}  # fmt: skip
