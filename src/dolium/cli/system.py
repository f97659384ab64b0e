"""`dolium system reset`: the host as it was before Dolium."""

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.errors import DoliumError, StateError, UsageError

OTHERS = "`dolium system reset` removes all that Dolium has made here, `dolium prune` what nobody needs"
TABLE = (
    Flag("dry-run", "n", "", yes, "only list what would go"),
    Flag("force", "f", "", yes, "containers that run are killed first"),
)


def main(argv: "list[str]") -> int:
    """1 where something could not be removed.  Raises UsageError, and StateError where containers run."""
    found = words.parse("system", argv, TABLE, least=1, most=1, what="reset",
                        about="Remove all that Dolium has ever made here: containers and their files, the bridge,\n"
                              "firewall rules, cgroups, leases and its own directories.")  # fmt: skip
    if found is None:
        return 0
    if found.names != ["reset"]:
        raise UsageError(f"`dolium system` has no `{found.names[0]}`", hint=OTHERS)
    from dolium.engine import reset

    if found.get("dry-run"):
        for each in reset.find():
            render.write(1, f"would remove {each.what}{' (it runs)' if each.runs else ''}\n")
        return 0
    everything = list(reset.find())
    running = [each for each in everything if each.runs]
    if running and not found.get("force"):
        raise StateError(running[0].what.partition(" ")[2], "running", "stopped",
                         hint=f"{len(running)} run; stop them, or dolium system reset --force")  # fmt: skip
    code = 0
    for each in everything:
        try:
            each.remove()
            render.write(1, f"removed {each.what}\n")
        except DoliumError as problem:
            render.write(2, render.error(problem))
            code = 1
        except OSError as problem:
            render.write(2, f"error: {each.what} stays: {problem.strerror}\n")
            code = 1
    return code
