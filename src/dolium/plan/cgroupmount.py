"""Steps for a mount of type `cgroup`: the container's own groups, whatever this host has them in."""

from dolium.core.wire import INSIDE, OUTSIDE, Step, part, strings
from dolium.plan import devices, slots
from dolium.plan.attributes import RDONLY, Options
from dolium.plan.mounts import LIKE_SOURCE, place
from dolium.plan.namespaces import wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts


def binds_of(spec: "dict[str, Any]") -> int:
    """How many bind mounts have slots before these."""
    return sum(each["type"] == "bind" for each in spec["mounts"])


def binds(spec: "dict[str, Any]", facts: "Facts") -> "list[tuple[int, str, str]]":
    """(slot, name, directory) of the container's groups where it has no cgroup namespace, in which they would be `/`."""
    from dolium.plan.resources import groups

    if "cgroup" in wanted(spec) or not any(mount["type"] == "cgroup" for mount in spec["mounts"]):
        return []
    first = slots.FIRST_MOUNT + binds_of(spec) + len(devices.NODES)
    where = {facts.hierarchies[controller].parent: path for controller, path in groups(spec, facts).items()}
    return [(first + number, _basename(top), path) for number, (top, path) in enumerate(sorted(where.items()))]


def sources(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Outside: those groups, opened."""
    return [Step("open_tree", OUTSIDE, "linux.cgroupsPath", path=path, out=slot, what=f"open_tree {path}", note="its own group")
            for slot, _, path in binds(spec, facts)]  # fmt: skip


def _basename(path: str) -> str:
    return path.rpartition("/")[2]


def mount(why: str, given: "dict[str, Any]", options: Options, spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The container's own groups: v2 as one mount, v1 hierarchies as directories of a tmpfs."""
    from dolium.plan.resources import groups

    path, bits = given["destination"], options.set
    bound = {name: slot for slot, name, _ in binds(spec, facts)}
    if facts.cgroup2_mounted:
        if bound:
            slot = next(iter(bound.values()))
            return [
                place(why, slot, path, "bind its group", f"on {path}", kind=LIKE_SOURCE),
                part(Step("set_attr", INSIDE, why, fd=slot, n1=options.attributes(), what="its attributes", note="as asked")),
            ]
        return [Step("new_mount", INSIDE, why, path="cgroup2", path2="cgroup", n1=bits, out=slots.MOUNT, what=f"cgroup2 for {path}",
                     note="its own group"),
                part(place(why, slots.MOUNT, path, f"mount cgroup2 on {path}", "as it is"))]  # fmt: skip
    mine: dict[str, list[str]] = {}
    for controller in groups(spec, facts):
        mine.setdefault(facts.hierarchies[controller].parent, []).append(controller)
    steps = [Step("new_mount", INSIDE, why, path="tmpfs", data=strings("mode=755", "size=64k"), n1=bits & ~RDONLY, out=slots.MOUNT,
                  what=f"cgroups for {path}", note="a directory for each hierarchy"),
             part(place(why, slots.MOUNT, path, f"mount tmpfs on {path}", "for its groups"))]  # fmt: skip
    for top, controllers in sorted(mine.items()):
        name, slot = _basename(top), slots.NESTED
        if name in bound:
            slot = bound[name]
            steps.append(part(Step("set_attr", INSIDE, why, fd=slot, n1=bits, what=f"attributes of {name}", note="as asked")))
        else:
            unified = facts.hierarchies[controllers[0]].version == 2
            steps.append(
                part(
                    Step(
                        "new_mount",
                        INSIDE,
                        why,
                        path="cgroup2" if unified else "cgroup",
                        path2="cgroup",
                        n1=bits,
                        out=slot,
                        data=b"" if unified else _hierarchy(controllers),
                        what=f"cgroup {name}",
                        note="its own group",
                    )
                )
            )
        steps.append(part(place(why, slot, f"{path}/{name}", f"mount on {path}/{name}", "its own group")))
        links = [each for each in controllers if each != name and "," in name]
        if links:
            steps.append(
                part(
                    Step(
                        "symlink",
                        INSIDE,
                        why,
                        fd=slots.ROOT,
                        n2=-1,
                        what="links",
                        note="of controllers that share one",
                        data=strings(*(text for each in links for text in (f"{path}/{each}", name))),
                    )
                )
            )
    if bits & RDONLY:
        steps.append(part(Step("set_attr", INSIDE, why, fd=slots.MOUNT, n1=RDONLY, what=f"make {path} read-only", note="as asked")))
    return steps


def _hierarchy(controllers: "list[str]") -> bytes:
    """The options that name a v1 hierarchy; one that has no controller has a name instead."""
    names = [each for each in controllers if each.startswith("name=")]
    return strings(*(["none", *names] if names else controllers))
