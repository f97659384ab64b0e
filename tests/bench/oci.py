"""The OCI runtimes that are installed, beside one another: `python tests/bench/oci.py [ROUNDS]`.

Each round calls every runtime once for every row, one after the other, so that what else the machine does meets all alike.
Medians in milliseconds, and dolium-oci as a part of the others."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, f"{os.path.dirname(TESTS)}/make"]

from bundles import config
from conformance import runtime
from installed import installed

ROWS = ("run", "create+start+delete", "exec", "exec, new to it", "exec, again", "state", "kill", "python -IS -c pass")
NULL = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def call(*argv: str) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, **NULL)  # type: ignore[call-overload]
    return (time.perf_counter() - began) * 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory(prefix="dolium-bench-") as directory:
        os.mkdir(f"{directory}/rootfs")
        archive = f"{os.path.dirname(os.path.dirname(TESTS))}/shared/rootfs/alpine-minirootfs-3.20.3-x86_64.tar.gz"
        subprocess.run(["tar", "-xzf", archive, "-C", f"{directory}/rootfs"], check=True)
        with open(f"{directory}/config.json", "w") as file:
            spaces = [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")]
            json.dump(config(ociVersion="1.0.2", process__args=["true"], linux__namespaces=spaces), file)
        shutil.copytree(directory, f"{directory}-long", symlinks=True)
        with open(f"{directory}-long/config.json", "w") as file:
            json.dump(config(ociVersion="1.0.2", process__args=["sleep", "1000"], linux__namespaces=spaces), file)
        paths = {name: path for name in ("dolium-oci", "runc", "crun") if (path := runtime(name, directory))}
        paths["dolium-oci"] = f"{installed(f'{directory}-prefix')}/dolium-oci"
        taken: dict[str, dict[str, list[float]]] = {row: {name: [] for name in paths} for row in ROWS}
        for name, path in paths.items():
            subprocess.run([path, "run", "--detach", "--bundle", f"{directory}-long", f"bench-{name}"], check=True, **NULL)  # type: ignore[call-overload]
        for number in range(rounds + 1):
            for name, path in paths.items():
                one = f"bench-{name}-{number}"
                parts = {"run": call(path, "run", "--bundle", directory, one)}
                made = call(path, "create", "--bundle", directory, one) + call(path, "start", one)
                time.sleep(0.05)
                parts["create+start+delete"] = made + call(path, "delete", "--force", one)
                parts["exec"] = call(path, "exec", f"bench-{name}", "true")
                with open(f"{directory}/process.json", "w") as file:
                    json.dump({**config()["process"], "args": ["true"], "env": ["PATH=/bin", f"NUMBER={number}"]}, file, separators=(",", ":"))
                for row in ("exec, new to it", "exec, again"):  # as a health check is
                    parts[row] = call(path, "exec", "--process", file.name, "--detach", "--pid-file", f"{directory}/pid", f"bench-{name}")
                parts["state"] = call(path, "state", f"bench-{name}")
                parts["kill"] = call(path, "kill", f"bench-{name}", "CONT")
                parts["python -IS -c pass"] = call("/usr/bin/python3", "-IS", "-c", "pass")
                if number:  # the first warms up
                    for row, value in parts.items():
                        taken[row][name].append(value)
        for name, path in paths.items():
            subprocess.run([path, "delete", "--force", f"bench-{name}"], check=False, **NULL)  # type: ignore[call-overload]
        shutil.rmtree(f"{directory}-long")
        shutil.rmtree(f"{directory}-prefix")
    print(f"{'':22}" + "".join(f"{name:>14}" for name in paths) + "".join(f"{'of ' + name:>10}" for name in paths if name != "dolium-oci"))
    for row, by_name in taken.items():
        medians = {name: statistics.median(values) for name, values in by_name.items()}
        print(f"{row:22}" + "".join(f"{value:11.1f} ms" for value in medians.values())
              + "".join(f"{medians['dolium-oci'] / value:10.2f}" for name, value in medians.items() if name != "dolium-oci"))


if __name__ == "__main__":
    main()
