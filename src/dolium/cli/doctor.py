"""`dolium doctor`: what can be done here, then only the problems, each with the line that mends it."""

import os

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import doctor
from dolium.engine.nearest import nearest
from dolium.errors import NotFound
from dolium.plan import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.checks import Check

TABLE = (
    Flag("verbose", "v", "", yes, "every check, also those that found nothing wrong"),
    Flag("json", "", "", yes, "for programs: id, job, ok, found, breaks, mend of each"),
)


def main(argv: "list[str]") -> int:
    """0 where containers can be run, 1 where not; of one check, whether it is ok.  Raises DoliumError."""
    about = "Say what Dolium can do on this host and what keeps it from more. It starts `true` a few times."
    found = words.parse("doctor", argv, TABLE, most=1, what="ID", about=about)
    if found is None:
        return 0
    made = doctor.examine()
    shown = [each for each in made if not found.names or each.id == found.names[0]]
    if not shown:
        raise _unknown(found.names[0], [each.id for each in made])
    code = 0 if checks.works("containers", shown) else 1
    if found.names:
        code = 0 if shown[0].ok else 1
    if found.get("json"):
        import json

        render.write(1, json.dumps([each.fields() for each in shown], indent=2) + "\n")
    elif found.names:
        render.write(1, "\n".join(_rows(shown, "problem" if not shown[0].ok else "ok")) + "\n")
    else:
        render.write(1, _page(made, found.get("verbose", False)))
    return code


def _unknown(word: str, ids: "list[str]") -> NotFound:
    if word in ("userns", "apparmor-userns"):
        return NotFound("check", word, hint="it is about plain users, and you are root")
    similar = nearest(word, ids) or tuple(each for each in ids if word in each and not each.startswith("trial-"))
    return NotFound("check", word, similar=similar, hint="" if similar else "one of " + ", ".join(ids))


def _page(made: "list[Check]", verbose: bool) -> str:
    from platform import python_version

    from dolium import __version__

    system = os.uname()
    lines = [f"dolium {__version__}, Python {python_version()}, {_name()}{system.sysname} {system.release} {system.machine}, "
             f"you are uid {os.geteuid()}", ""]  # fmt: skip
    problems = _together(_causes([each for each in made if not each.ok and each.job]))
    notes = _together([each for each in made if not each.ok and not each.job])
    who = "root" if os.geteuid() == 0 else "you"
    for job, name in checks.JOBS.items():
        why = [f"problem {number}" for wanted in (job, "containers") for number, group in enumerate(problems, 1)
               if wanted in [each.job for each in group]]  # fmt: skip
        answer = "yes" if checks.works(job, made) else "NO"
        lines.append(f"  {answer:<5} {name.format(who=who):<38} {why[0] if why else ''}")
    for number, group in enumerate(problems, 1):
        lines += ["", *_rows(group, f"problem {number}")]
    for group in notes:
        lines += ["", *_rows(group, "note")]
    fine = [each for each in made if each.ok]
    lines.append("")
    if verbose:
        lines += [f"ok         {each.id:<18} {each.found}" for each in fine]
    else:
        lines.append(f"{len(fine)} other checks found nothing wrong (-v lists them).")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _name() -> str:
    """What the distribution calls itself, os-release(5)."""
    from platform import freedesktop_os_release

    try:
        return freedesktop_os_release().get("PRETTY_NAME", "Linux") + ", "
    except OSError:
        return ""


def _causes(problems: "list[Check]") -> "list[Check]":
    """Without those containers that did not run where the cause is among the problems."""
    known = {each.job for each in problems if not each.id.startswith("trial-")}
    return [each for each in problems if not each.id.startswith("trial-") or each.job not in known]


def _together(found: "list[Check]") -> "list[list[Check]]":
    """Problems with one cause are one."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for each in found:
        groups.setdefault((each.found, each.mend), []).append(each)
    return [*groups.values()]


def _rows(group: "list[Check]", title: str) -> "list[str]":
    first = group[0]
    rows = [("found", first.found)]
    if not first.ok:
        rows += [("breaks", "; ".join(each.breaks for each in group if each.breaks)), ("mend", first.mend)]
    return [f"{title:<10} {', '.join(each.id for each in group)}", *(f"  {name:<8} {text}" for name, text in rows if text)]
