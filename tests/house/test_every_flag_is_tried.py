"""What the house promises of flags: every one is in a test that starts a container with it."""

import os
import re

from containers import TESTS

from dolium.cli import explain_flags, flags

LIVE = ("live", "api", "security", "faults")
SHOWS = {"help", "debug", "json", "verbose"}
"""What they ask for is text, and looked at where that is made."""


def written() -> str:
    found = []
    for directory in LIVE:
        for name in sorted(os.listdir(f"{TESTS}/{directory}")):
            if name.endswith(".py"):
                with open(f"{TESTS}/{directory}/{name}") as file:
                    found.append(file.read())
    return "".join(found)


def test_every_flag_is_tried() -> None:
    text, missing = written(), []
    for _, rows in (*flags.GROUPS, explain_flags.GROUP):
        for flag in rows:
            forms = [rf"--{flag.name}[ =\"']+", *([rf"[\"']-{flag.short}[=\"']"] if flag.short else [])]
            if flag.name not in SHOWS and not any(re.search(each, text) for each in forms):
                missing.append(flag.name)
    assert not missing, "no live test has them"
