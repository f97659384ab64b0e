"""What of this clone is shipped, by `make install` and in a wheel, and what is made for it: man pages, completions."""

import os
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HELPERS = ("dolium-init", "dolium-keep")


def package(programs: str = f"{TOP}/src/dolium/programs") -> "list[tuple[str, str, int]]":
    """(source, path below the directory that is on sys.path, mode) of all files of the package; the helpers out of `programs`."""
    source = f"{TOP}/src"
    found = [(f"{programs}/{name}", f"dolium/programs/{name}", 0o755) for name in HELPERS]
    for directory, inner, names in os.walk(f"{source}/dolium"):
        inner[:] = [name for name in inner if name not in ("__pycache__", "programs")]
        for name in names:
            if name.endswith((".py", ".typed")):
                found.append((f"{directory}/{name}", f"{directory}/{name}".removeprefix(source + "/"), 0o644))
    return sorted(found, key=lambda each: each[1])


def commands() -> "list[str]":
    """The names of the programs in bin/."""
    return sorted(os.listdir(f"{TOP}/bin"))


def version() -> str:
    """As the package says it."""
    sys.path.insert(0, f"{TOP}/src")
    from dolium import __version__

    return __version__


def pages() -> "dict[str, str]":
    """Path below a prefix -> text of what is made out of the tables of the command line."""
    import completion
    import manual

    return {**manual.pages(), **completion.scripts()}
