"""`dolium inspect`: all that is known of containers, as JSON or for people; and of images, as JSON."""

import json

from dolium.cli import render, template, words
from dolium.cli.flags import Flag, yes
from dolium.engine import inspection, store
from dolium.errors import DoliumError, NotFound, SpecError, UsageError
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _kind(text: str, flag: str) -> str:
    if text not in ("container", "image"):
        raise SpecError(flag, f"no type `{text}`", hint="container, image")
    return text


TABLE = (
    Flag("pretty", "", "", yes, "for people, and how it runs now"),
    Flag("format", "f", "TEMPLATE", template.check, "such as {{.State.Pid}}; json: on one line"),
    Flag("type", "", "container|image", _kind, "only such; else an image where no container has that name"),
)
WIDTH = 13


def main(argv: "list[str]") -> int:
    """1 where one of them is not there; what is known of the others is printed first.  Raises UsageError and SpecError."""
    found = words.parse(
        "inspect", argv, TABLE, least=1, about="Show all that is known of containers, and of images, as a JSON array."
    )
    if found is None:
        return 0
    pretty, shape = found.get("pretty", False), found.get("format", "")
    if pretty and shape:
        raise UsageError("`--pretty` and `--format` say two different things", hint="leave one out")
    documents, problems = [], ""
    for name in found.names:
        try:
            documents.append(_document(name, "container" if pretty else found.get("type", "")))
        except DoliumError as problem:
            problems += render.error(problem)
    if pretty:
        text = "\n".join("".join(f"{line}\n" for line in lines(each)) for each in documents)
    elif shape and shape != "json":
        text = "".join(template.fill(shape, each) + "\n" for each in documents)
    else:
        text = json.dumps(documents, indent=None if shape else 4) + "\n"
    render.write(1, text)
    render.write(2, problems)
    return 1 if problems else 0


def _document(name: str, kind: str) -> "dict[str, Any]":
    """Of a container, else of an image.  Raises NotFound and DoliumError."""
    from dolium.cli import images
    from dolium.engine import sources

    if kind != "image":
        try:
            return inspection.inspect(store.find(name))
        except NotFound as absent:
            if kind:
                raise
            problem = absent
    try:
        return images.document(sources.stored(name))
    except (NotFound, SpecError):
        if kind:
            raise
        similar = problem.similar
        if problem.several:
            raise problem from None
        raise NotFound("container or image", name, similar=similar, hint="" if similar else "dolium ps -a, dolium images") from None


def lines(found: "dict[str, Any]") -> "list[str]":
    """One container for people, a paragraph for each thing."""
    own, limits = found["Dolium"], found["HostConfig"]
    page = [f"{found['Name']}  {found['Id']}", *_status(found), ""]
    page += ["memory", _row("limit", _size(limits["Memory"], "none asked for")), *_memory(own), ""]
    page += ["cpu", *_cpu(own, limits), ""]
    page += [_processes(own, limits), *_members(own), ""]
    if own["Namespaces"]:
        page += [f"{'namespaces':<15}{'container':<14}host", *_namespaces(own["Namespaces"]), ""]
    page += ["users", *_users(own, limits), ""]
    page += ["mounts", _row("/", f"{own['Rootfs']}, written to {own['Upper'] or 'memory'}"), *_mounts(found["Mounts"]), ""]
    page += ["network", *_network(found["NetworkSettings"], limits["NetworkMode"])]
    if own["Cgroups"]:
        page += ["", "cgroups", *(_row(name, path) for name, path in own["Cgroups"].items()), _row("lease", str(own["Lease"]))]
    return page


def _row(name: str, text: str) -> str:
    return f"  {name:<{WIDTH}}{render.printable(text)}"


def _size(count: "int | None", none: str) -> str:
    return none if not count else "unlimited" if count < 0 else show_size(count)


def _status(found: "dict[str, Any]") -> "list[str]":
    from shlex import join

    state, own = found["State"], found["Dolium"]
    said = state["Status"]
    if own["Process"]:
        process = own["Process"]
        said += f", pid {state['Pid']} {process['State']}, {process['Threads']} thread{'s'[: process['Threads'] > 1]}"
    page = [_row("status", said), _row("command", join([found["Path"], *found["Args"]])), _row("created", found["Created"])]
    if said != "created":
        page.append(_row("started", state["StartedAt"]))
    if ended := own["Ended"]:
        page += [_row("finished", state["FinishedAt"]), _row("ended", _why(ended, state["ExitCode"]))]
    return page


def _why(ended: "dict[str, Any]", code: int) -> str:
    reasons = {"exit": "by itself", "signal": f"by signal {ended['Signal']}", "memory": "killed: memory ran out",
               "timeout": "killed: its time was over", "interrupted": "killed: interrupts that it did not heed"}  # fmt: skip
    return f"{reasons.get(ended['Reason'], ended['Reason'])}, exit code {code}"


def _memory(own: "dict[str, Any]") -> "list[str]":
    if own["Ended"]:
        return [_row("peak", _size(own["Ended"]["PeakMemory"], "not known"))]
    if not own["Memory"]:
        return []
    memory = own["Memory"]
    events = ", ".join(f"{name} {count}" for name, count in memory["Events"].items()) or "not known"
    swap = memory["SwapLimit"]
    return [_row("enforced", _size(memory["Limit"], "none") + ("" if swap is None else f", and {show_size(swap)} of swap")),
            _row("usage", _size(memory["Usage"], "not known")), _row("peak", _size(memory["Peak"], "not known")),
            _row("events", events)]  # fmt: skip


def _cpu(own: "dict[str, Any]", limits: "dict[str, Any]") -> "list[str]":
    page = [_row("limit", f"{limits['NanoCpus'] / 1e9:g} CPUs" if limits["NanoCpus"] else "none asked for")]
    if cpu := own["Cpu"]:
        if cpu["Quota"]:
            part = cpu["Quota"] * 100 / cpu["Period"]
            page.append(_row("enforced", f"{cpu['Quota']} of every {cpu['Period']} us, {part:g} % of one CPU"))
            page.append(_row("throttled", f"{cpu['Throttled']} times, {cpu['ThrottledSeconds']:.3f} s"))
        else:
            page.append(_row("enforced", "none"))
    seconds = own["Ended"]["CpuSeconds"] if own["Ended"] else own["CpuSeconds"]
    return page if seconds is None else [*page, _row("time", f"{seconds:.3f} s")]


def _processes(own: "dict[str, Any]", limits: "dict[str, Any]") -> str:
    most = "no limit" if limits["PidsLimit"] <= 0 else f"at most {limits['PidsLimit']}"
    return f"processes    {most}" + (f", {own['Pids']['Current']} now" if own["Pids"] else "")


def _members(own: "dict[str, Any]") -> "list[str]":
    from shlex import join

    rows = own["Processes"] or []
    head = [f"  {'host':<9}{'container':<11}{'uid':<12}command"] if rows else []
    return head + [f"  {each['Pid']:<9}{each['Inside']:<11}{each['Uid']:<12}" + render.printable(join(each["Command"]), 44)
                   for each in rows]  # fmt: skip


def _namespaces(found: "dict[str, dict[str, Any]]") -> "list[str]":
    def shown(inode: "int | None") -> str:
        return "?" if inode is None else str(inode)

    words = {True: "own", False: "shared", None: "not yours to see"}
    return [f"  {name:<{WIDTH}}{shown(each['Container']):<14}{shown(each['Host']):<13}{words[each['Own']]}"
            for name, each in found.items()]  # fmt: skip


def _users(own: "dict[str, Any]", limits: "dict[str, Any]") -> "list[str]":
    users = own["Users"]
    if not users:
        return [_row("asked", limits["UsernsMode"])]
    span = f"uid 0 is {users['First']} on the host" + (f", and so on for {users['Count']}" if users["Count"] > 1 else "")
    page = [_row("own" if users["Own"] else "shared", span if users["Own"] else "the host's: root there is root here")]
    return [*page, _row("", users["Note"])] if users["Note"] else page


def _mounts(found: "list[dict[str, Any]]") -> "list[str]":
    return [_row(each["Destination"], f"{each['Source'] or each['Type']} {'rw' if each['RW'] else 'ro'}"
                 + (f" {each['Mode']}" if each["Mode"] not in ("", "ro") else "")) for each in found]  # fmt: skip


def _network(found: "dict[str, Any]", mode: str) -> "list[str]":
    page = [_row("kind", mode)]
    if found["IPAddress"]:
        page.append(_row("address", f"{found['IPAddress']}/{found['IPPrefixLen']}, default route by {found['Gateway']}"))
    return page
