"""The examples of the man pages are carried out, each page's in order."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from containers import SLOW, TOP, Dolium
from registry_servers import Hostile

PAGES = sorted(each for each in Path(TOP, "docs/man").iterdir() if ".EX\n" in each.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.name)
def test_examples(page: Path, root: Dolium, folder: str) -> None:
    script = "\n".join(re.findall(r"^\.EX\n(.*?)^\.EE$", page.read_text(), re.M | re.S)).replace("\\-", "-").replace("\\e", "\\")
    assert "dolium " in script
    registry = Hostile()
    script = script.replace("localhost:5000", registry.name)
    # What is usual for root would change this host's network.
    script = "set -e\ndolium() { if [ \"$1\" = run ]; then shift; command dolium run --network none \"$@\"; else command dolium \"$@\"; fi; }\n" + script
    environment = {**os.environ, "PATH": f"{TOP}/bin:/usr/bin:/bin", "HOME": folder, "DOCKER_CONFIG": folder}
    try:
        done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120 * SLOW, env=environment)
    finally:
        registry.close()
    assert done.returncode == 0, (script, done)
