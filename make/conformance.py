"""make conformance RUNTIME_TOOLS=DIR: the `validation` suite of opencontainers/runtime-tools, built there already, on runtimes.

Each program of the suite passes where it ends well and none of its lines says `not ok`.  The table of those that fail, with the
reasons, goes to docs/reference/conformance.md when all three runtimes are there and all programs run.
RUNTIMES="dolium-oci runc crun" chooses; those that are not installed are left out."""

import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 120
ALONE = ["unshare", "--mount", "--propagation", "private"]
"""Each program has mounts of its own: what a runtime or the suite leaves mounted ends with it (linux_ns_itype with runc does)."""
CRUN = r"""#!/bin/sh
bundle=.
for word in "$@"; do
    [ "$last" = --bundle ] && bundle=$word
    last=$word
done
[ "$1" = create ] && sed -i 's/"ociVersion": *"1\.[123]/"ociVersion":"1.0/' "$bundle/config.json"
exec unshare -m --propagation slave sh -c 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' crun "$@"
"""
"""On a host with both kinds of cgroups crun starts only where it sees one; the mount namespace is this call's own.  An older
crun refuses configs of a later version than it knows."""


_ABSENT = "host: the controller `{}` of cgroup v1, whose files it looks for, is not there"
_PIDS = "suite: it compares two pointers, `expect: 63144155300016, actual: 63144155305824`; the limit is set"
_KERNEL = "host: Linux since 5.16 limits no kernel memory by itself; runc and crun write the limit, and nothing comes of it"
_BLKIO = "host: this kernel has no `blkio.leaf_weight`"
_RULES = "runc 1.1: `devices c 10:229 rwm is set correctly`"
REASONS = {
    "delete": "contrary to runc and crun, which end a container that is only created; engines rely on it",
    "delete_resources": _PIDS, "linux_cgroups_pids": _PIDS, "linux_cgroups_relative_pids": _PIDS,
    "linux_cgroups_blkio": _BLKIO, "linux_cgroups_relative_blkio": _BLKIO,
    "linux_cgroups_hugetlb": _ABSENT.format("hugetlb"), "linux_cgroups_relative_hugetlb": _ABSENT.format("hugetlb"),
    "linux_cgroups_network": _ABSENT.format("net_cls"), "linux_cgroups_relative_network": _ABSENT.format("net_cls"),
    "linux_cgroups_memory": _KERNEL, "linux_cgroups_relative_memory": _KERNEL,
    "linux_ns_itype": "ours refuses a config without a mount namespace; with runc and crun its mounts are made on the host, and "
                      "stay there. crun fails by the mount namespace that it is called in here",
    "linux_process_apparmor_profile": "host: a kernel without AppArmor",
    "misc_props": "suite: its configs name a program that is not in the rootfs, which all three say at `create`",
    "pidfile": "suite: it kills a container whose `true` has ended, and wants no error; one that by chance still runs passes",
    "process_capabilities": "host: the caller has no CAP_SYS_RESOURCE to give",
    "process_capabilities_fail": "contrary to runtime-spec 1.1, by which unknown capabilities are left out",
    "process_rlimits": "suite: its program is one of Go's, which raises RLIMIT_NOFILE to the hard limit before it looks",
    "start": "contrary to runc and crun, which refuse a config without `process` at `create`; the suite then wants `start` to "
             "succeed, against its own words",
    "hooks_stdin": "runc 1.1 says `creating` to prestart and `created` to poststart, where `created` and `running` are wanted",
    "linux_cgroups_devices": _RULES, "linux_cgroups_relative_devices": _RULES,
    "linux_mount_label": "runc 1.1 asks the kernel for a label where there is no SELinux",
    "linux_rootfs_propagation": "runc 1.1: `check root propagation: shared`",
    "linux_seccomp": "runc 1.1: `seccomp action is added correctly`",
}  # fmt: skip
"""Why a program fails: by the host that it was last run on, by a defect of the suite, contrary to what engines rely on."""
PAGE = """# The validation suite of runtime-tools

`make conformance RUNTIME_TOOLS=DIR` writes this page: the programs of opencontainers/runtime-tools `validation`, on {system}, for
{versions}. Each runtime is called as itself; crun in a mount namespace that shows it cgroup v1 alone.

Of {count} programs {passed} pass. All pass but these:

"""


def version(path: str) -> str:
    """The first line of its --version, in three words at most."""
    words = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0].split()
    return " ".join(word for word in words if word != "version")


def page(rows: "dict[str, dict[str, str]]", paths: "dict[str, str]") -> str:
    """What is written down."""
    count = {name: sum(row[name] == "pass" for row in rows.values()) for name in paths}
    kernel = os.uname().release.partition("-")[0]
    text = PAGE.format(system=f"Linux {kernel} with cgroups v1 and v2 side by side", count=len(rows),
                       versions=", ".join(version(path) for path in paths.values()),
                       passed=", ".join(f"{number} with {name}" for name, number in count.items()))  # fmt: skip
    lines = ["| test | " + " | ".join(paths) + " | why |", "|---" * (len(paths) + 2) + "|"]
    lines += [f"| {test} | " + " | ".join(row.values()) + f" | {REASONS.get(test, 'not known')} |"
              for test, row in rows.items() if {*row.values()} != {"pass"}]  # fmt: skip
    return text + "\n".join(lines) + "\n"


def runtime(name: str, directory: str) -> str:
    """The path of a runtime, or nothing where it is not installed."""
    if name == "dolium-oci":
        return f"{TOP}/.build/oci/bin/dolium-oci"  # as it is when installed, dolium-verbs in front
    found = shutil.which(name)
    if not found or name != "crun":
        return found or ""
    path = f"{directory}/crun-of-v1"
    with open(path, "w") as file:
        file.write(CRUN)
    os.chmod(path, 0o755)
    return path


def verdict(program: str, path: str, suite: str) -> "tuple[str, str]":
    """`pass`, `skip` or `FAIL`, and what failed first."""
    try:
        ended = subprocess.run([*ALONE, program], cwd=suite, env={**os.environ, "RUNTIME": path}, capture_output=True, text=True,
                               timeout=PATIENCE, check=False, errors="replace", stdin=subprocess.DEVNULL)  # fmt: skip
    except subprocess.TimeoutExpired:
        return "FAIL", f"did not end in {PATIENCE} s"
    lines = ended.stdout.splitlines()
    failed = [line for line in lines if line.startswith("not ok")]
    if failed or ended.returncode:
        return "FAIL", [*failed, " ".join(ended.stderr.split())[:300] or f"exit code {ended.returncode}"][0]
    done = [line for line in lines if line.startswith("ok")]
    if done and all("# SKIP" in line.upper() for line in done):
        return "skip", ""
    return "pass", ""


def main() -> int:
    suite = os.environ.get("RUNTIME_TOOLS", "")
    programs = sorted(
        f"{where}/{name}" for where, _, names in os.walk(f"{suite}/validation") for name in names if name.endswith(".t")
    )
    if not suite or not programs:
        print("not run: RUNTIME_TOOLS=DIR names a checkout of opencontainers/runtime-tools, built there")
        return 0
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        names = (os.environ.get("RUNTIMES") or "dolium-oci runc crun").split()  # make exports what is empty, too
        paths = {name: path for name in names if (path := runtime(name, directory))}
        rows, details = {}, []
        for program in programs:
            test = os.path.basename(program).removesuffix(".t")
            if words and test not in words:
                continue
            row = rows[test] = {}
            for name, path in paths.items():
                row[name], why = verdict(program, path, suite)
                if why:
                    details.append(f"{test}: {name}: {why}")
            print(f"{test:36}", *(f"{row[name]:5}" for name in paths), flush=True)
        text = page(rows, paths)
    if not words and len(paths) == 3:
        with open(f"{TOP}/docs/reference/conformance.md", "w") as file:
            file.write(text)
    passed = [f"{name} {sum(row[name] == 'pass' for row in rows.values())}" for name in paths]
    print(f"passed, of {len(rows)}:", *passed)
    print(*details, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
