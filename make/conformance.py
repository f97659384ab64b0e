"""make conformance RUNTIME_TOOLS=DIR: the `validation` suite of opencontainers/runtime-tools, built there already, on runtimes.

Each program of the suite is one row, and passes where it ends well and none of its lines says `not ok`.  The table goes to
.build/conformance.md.  RUNTIMES="dolium-oci runc crun" chooses; those that are not installed are left out."""

import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATIENCE = 120
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


def runtime(name: str, directory: str) -> str:
    """The path of a runtime, or nothing where it is not installed."""
    if name == "dolium-oci":
        return f"{TOP}/bin/dolium-oci"
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
        ended = subprocess.run([program], cwd=suite, env={**os.environ, "RUNTIME": path}, capture_output=True, text=True,
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
        print(
            "not run: RUNTIME_TOOLS=DIR names a checkout of opencontainers/runtime-tools, built there"
        )
        return 0
    words = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        names = os.environ.get("RUNTIMES", "dolium-oci runc crun").split()
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
    lines = ["| test | " + " | ".join(paths) + " |", "|---" * (len(paths) + 1) + "|"]
    lines += [f"| {test} | " + " | ".join(row.values()) + " |" for test, row in rows.items()]
    lines.append("| **passed** | " + " | ".join(str(sum(row[name] == "pass" for row in rows.values())) for name in paths) + " |")
    if not words:
        with open(f"{TOP}/.build/conformance.md", "w") as file:
            file.write("\n".join([*lines, "", *details]) + "\n")
    print(lines[-1], *details, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
