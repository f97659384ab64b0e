"""What keeps images and registries from being used: the doctor's verdicts on their settings.  Pure."""

from dolium.plan import mends
from dolium.plan.checks import Check
from dolium.plan.findings import Findings


def checks(found: Findings) -> "list[Check]":
    """Those of the settings of registries, and of who we are there."""
    return [_registries(found), _credentials(found)]


def _registries(found: Findings) -> Check:
    path, problem, readable = found.registries
    return Check(
        "registries",
        "images",
        not problem,
        f"{path}: {problem}" if problem else "registries.toml says nothing that is wrong",
        "pull, push and login" + ("; the mend puts the file aside, with all that it says" if readable else ""),
        mends.put_aside(path, found.facts.uid) if readable else mends.readable(path, found.facts.uid),
    )


def _credentials(found: Findings) -> Check:
    path, problem = found.logins
    return Check(
        "credentials",
        "images",
        not problem,
        f"{path}: {problem}" if problem else "what is written of logins can be read, and its helpers are there",
        "pull and push where one must say who one is"
        + ("; the mend has Dolium, and docker, keep logins elsewhere in this shell: log in anew" if found.keeps_logins else ""),
        mends.other_logins() if found.keeps_logins else "",
    )
