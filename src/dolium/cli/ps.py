"""`dolium ps`: which containers there are."""

from time import time

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.engine import life
from dolium.errors import DoliumError, NotFound, SpecError
from dolium.plan.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.store import Container

STATUSES = ("created", "running", "exited", "dead")
FILTERS = ("status", "name", "id", "label", "ancestor", "exited")
FIELDS = ("ID", "Names", "Image", "Command", "CreatedAt", "State", "Status", "Labels", "Pid", "ExitCode", "StartedAt", "FinishedAt",
          "RunningFor")  # fmt: skip
"""What a template can name."""


def _filter(text: str, flag: str) -> "list[tuple[str, str]]":
    name, sign, value = text.partition("=")
    if not sign or name not in FILTERS:
        raise SpecError(flag, f"no filter `{text}`", hint=f"NAME=VALUE with {', '.join(FILTERS)}")
    if name == "status" and value not in STATUSES:
        raise SpecError(flag, f"no status `{value}`", hint=", ".join(STATUSES))
    if name == "name":
        from re import compile, error

        try:
            compile(value)
        except error as problem:
            raise SpecError(flag, f"`{value}` is no regular expression: {problem}") from None
    return [(name, value)]


def _format(text: str, flag: str) -> str:
    from dolium.cli import template

    return template.check(text, flag, FIELDS)


TABLE = (
    Flag("all", "a", "", yes, "also those that do not run"),
    Flag("quiet", "q", "", yes, "only the ids"),
    Flag("no-trunc", "", "", yes, "nothing cut short"),
    Flag("filter", "f", "NAME=VALUE", _filter, "only such: " + ", ".join(FILTERS)),
    Flag("format", "", "TEMPLATE", _format, "json: an object a line; table; {{.Names}}"),
)


def main(argv: "list[str]") -> int:
    """1 where one of them could not be looked at.  Raises DoliumError."""
    found = words.parse("ps", argv, TABLE, most=0, about="List containers.")
    if found is None:
        return 0
    filters = found.get("filter", [])
    everything = found.get("all", False) or any(name in ("status", "exited") for name, _ in filters)
    rows, code = [], 0
    for container in life.every():
        try:
            now = life.state(container)
        except NotFound:  # it was to be removed at its end, and that has come
            continue
        except DoliumError as problem:
            render.write(2, render.error(problem))
            code = 1
            continue
        if (everything or now["status"] == "running") and _matches(container, now, filters):
            rows.append((container, now))
    shape = found.get("format", "table")
    if found.get("quiet"):
        render.write(1, "".join(f"{container.id}\n" for container, _ in rows))
    elif "{{" in shape:
        from dolium.cli import template

        render.write(1, template.table(shape, [_shown(container, now) for container, now in rows]))
    elif shape == "json":
        import json

        render.write(1, "".join(json.dumps(_fields(container, now)) + "\n" for container, now in rows))
    else:
        render.write(1, _table(rows, whole=found.get("no-trunc", False)))
    return code


def _matches(container: "Container", now: "dict[str, Any]", filters: "list[tuple[str, str]]") -> bool:
    """All kinds must hold, and of one kind any."""

    def holds(name: str, value: str) -> bool:
        if name == "label":
            key, sign, wanted = value.partition("=")
            return key in container.labels and (not sign or container.labels[key] == wanted)
        if name == "name":  # a regular expression, as with docker
            from re import search

            return bool(search(value, container.name))
        found = {"status": now["status"] == value, "id": container.id.startswith(value),
                "ancestor": container.image == value, "exited": str(now.get("exit_code")) == value}  # fmt: skip
        return bool(found[name])

    return all(any(holds(name, value) for kind, value in filters if kind == name) for name in {name for name, _ in filters})


def _fields(container: "Container", now: "dict[str, Any]") -> "dict[str, Any]":
    return {"ID": container.id, "Names": container.name, "Image": container.image, "Command": container.options["argv"],
            "CreatedAt": container.created, "State": now["status"], "Status": status(now), "Labels": container.labels,
            "Pid": now.get("pid", 0), "ExitCode": now.get("exit_code"), "StartedAt": now.get("started"),
            "FinishedAt": now.get("finished")}  # fmt: skip


def _command(container: "Container") -> str:
    return " ".join(map(quote, container.options["argv"]))


def _shown(container: "Container", now: "dict[str, Any]") -> "dict[str, Any]":
    """The fields as text, for templates."""
    from time import gmtime, strftime

    return _fields(container, now) | {
        "Command": _command(container), "Labels": ",".join(f"{key}={value}" for key, value in container.labels.items()),
        "CreatedAt": strftime("%Y-%m-%d %H:%M:%S +0000 UTC", gmtime(container.created)),
        "RunningFor": ago(time() - container.created) + " ago"}  # fmt: skip


def _table(rows: "list[tuple[Container, dict[str, Any]]]", whole: bool) -> str:
    def cut(text: str, most: int) -> str:
        return render.printable(text, 1 << 16 if whole else most)

    table = [("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES")]
    for container, now in rows:
        table.append((container.id, cut(container.image, 24), cut(_command(container), 24),
                      ago(time() - container.created) + " ago", status(now), container.name))  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(6)]
    return "".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in table)


def status(now: "dict[str, Any]") -> str:
    """In words, as docker's users know them: `Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`."""
    if now["status"] == "running":
        return f"Up {ago(time() - now['started'])}"
    if now["status"] == "exited":
        why = " out of memory," if now["reason"] == "memory" else ""
        return f"Exited ({now['exit_code']}){why} {ago(time() - now['finished'])} ago"
    return "Dead" if now["status"] == "dead" else "Created"


SPANS = (("year", 31557600), ("month", 2629800), ("week", 604800), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def ago(seconds: float) -> str:
    """A span of time in one unit: of days and longer ones at least two, as docker has it, for "1 year" says little of 18 months."""
    if seconds < 1:
        return "less than a second"
    for unit, size in SPANS:
        if seconds >= (size if size <= 3600 else 2 * size):
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return ""
