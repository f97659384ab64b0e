"""What holds for every plan, whatever was asked for and on whatever host."""

from __future__ import annotations

import copy
import re
import unicodedata
from typing import Any

import invent
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dolium.core.wire import BOTH, HOST, INSIDE, NONE, OUTSIDE, SLOTS, Step, items
from dolium.engine.users import User
from dolium.errors import SpecError, Unsupported
from dolium.plan import build, capabilities, explain, limits, slots
from dolium.plan.facts import Facts

HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40) | st.sampled_from(
    ["\x1b[2J", "a" * 300, "一" * 60, "\u202eexe", "\udcff", "a\nb", "{6}", "e\u0301" * 50, "\U0001f3fa" * 50, "%s%n", "'\"`$("])
NAMES = HOSTILE.map(lambda text: text.replace("/", "_")).filter(lambda text: text.strip(".") and text.strip())
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)) | st.sampled_from(
    ["/data", "/dev/shm", "/etc/hosts", "/usr/lib", "/var/../srv", "/sys/fs/cgroup"])  # fmt: skip
CAPABILITY_NAMES = st.sampled_from(sorted({*capabilities.NUMBERS} - {"CAP_MKNOD"}))
SMALL = dict(max_size=3)
IDS = st.integers(0, 65535)


@st.composite
def hosts(draw: st.DrawFn) -> Facts:
    rootless = draw(st.booleans())
    kernel = draw(st.sampled_from([(5, 10), (5, 14), (5, 19), (6, 1), (6, 14), (6, 15), (6, 18)]))
    cgroups = draw(st.sampled_from(["none", "counting", "v2"] if rootless else [*invent.HIERARCHIES]))
    own = draw(st.booleans())
    return invent.facts(
        cgroups, kernel=kernel, rootless=rootless, uid=1000 if rootless else 0, gid=1000 if rootless else 0,
        id_base=invent.RANGE if own and not rootless else 0,
        throttles=("/sys/devices/system/cpu/cpu0/thermal_throttle",) if draw(st.booleans()) else ())  # fmt: skip


@st.composite
def requests(draw: st.DrawFn, host: Facts) -> dict[str, Any]:
    """Only what is consistent and what this host can do: the planner has no reason to refuse any of it."""
    have = {*host.controllers}
    found: dict[str, Any] = {
        "argv": draw(st.lists(HOSTILE, min_size=1, max_size=4)), "env": draw(st.dictionaries(NAMES, HOSTILE, **SMALL)),
        "network": draw(st.sampled_from(["none", "host"])), "init": draw(st.booleans()), "read_only": draw(st.booleans()),
        "tty": draw(st.booleans()), "size": draw(st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 65535))),
        "no_new_privileges": draw(st.booleans()), "seccomp": draw(st.sampled_from([None, "unconfined"])),
        "cap_add": draw(st.lists(CAPABILITY_NAMES, unique=True, **SMALL)),
        "cap_drop": draw(st.lists(CAPABILITY_NAMES | st.just("ALL"), unique=True, **SMALL)),
        "volumes": draw(st.lists(st.tuples(PATHS, PATHS, st.booleans()), **SMALL)),
        "tmpfs": draw(st.lists(st.tuples(PATHS, st.just(("size=1048576",))), **SMALL)),
        "mask": draw(st.lists(PATHS, **SMALL)), "time_namespace": draw(st.booleans()),
        "unmask": draw(st.lists(st.sampled_from(["ALL", "/proc/keys", "/proc/sys"]), **SMALL)),
        "devices": draw(st.sampled_from([[], [("/dev/null", "/dev/hole", "rwm")], [("/dev/zero", "/dev/a/b", "rw")]])),
        "pids": draw(st.sampled_from([-1, 1, 4096] if "pids" in have or (host.rootless and host.kernel >= (5, 14)) else [-1])),
        "ulimits": draw(st.lists(st.tuples(st.sampled_from(sorted(limits.RESOURCES)), st.just(7), st.just(1 << 63)), **SMALL)),
    }  # fmt: skip
    for name, values in (("cwd", PATHS), ("hostname", NAMES), ("oom_score_adj", st.integers(-1000, 1000))):
        if draw(st.booleans()):
            found[name] = draw(values)
    if found["network"] == "none" and draw(st.booleans()):
        found["sysctl"] = {"net.core.somaxconn": draw(HOSTILE), "kernel.msgmax": "1"}
    if not host.rootless and draw(st.booleans()):
        groups = tuple(draw(st.lists(IDS, **SMALL)))
        found["user"] = User(draw(IDS), draw(IDS), groups, draw(PATHS))
    if "memory" in have and draw(st.booleans()):
        found["memory"] = draw(st.integers(4096, 1 << 40))
        if draw(st.booleans()):
            found["memory_swap"] = draw(st.sampled_from([-1, found["memory"], found["memory"] * 2]))
    if "cpu" in have:
        found |= draw(st.sampled_from([{}, {"cpus": 0.5, "cpu_weight": 1}, {"cpu_shares": 2}, {"cpu_weight": 10000}]))
    if "cpuset" in have and draw(st.booleans()):
        found["cpuset_cpus"] = "0-1"
    return found


class Case:
    """One plan and what it was made from."""

    def __init__(self, host: Facts, request: dict[str, Any], image: str) -> None:
        self.host = host
        self.image = image
        self.spec = invent.spec(host, invent.options(**request), image)
        self.steps = build.plan(self.spec, host)

    def __repr__(self) -> str:
        words = {name: getattr(self.host, name) for name in ("rootless", "id_base", "kernel", "machine")}
        return f"Case({words}, {sorted(self.host.controllers)}, {self.image}, {self.spec['process']['args']})"

    def of(self, actor: int) -> list[Step]:
        return [step for step in self.steps if step.actor & actor] if actor else [each for each in self.steps if not each.actor]

    def at(self, *operations: str, actor: int = BOTH) -> list[int]:
        """The places of these operations."""
        return [place for place, step in enumerate(self.steps)
                if step.op in operations and (step.actor & actor or actor == BOTH)]  # fmt: skip

    def place(self, op: str, why: str) -> int:
        places = [each for each in self.at(op) if self.steps[each].why == why]
        assert len(places) == 1, (op, why, places)
        return places[0]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    host = draw(hosts())
    request = draw(requests(host))
    image = draw(st.sampled_from(["/srv/alpine", "@host"]) | PATHS)
    try:
        return Case(host, request, image)
    except (SpecError, Unsupported) as refusal:
        assume("nothing can be mounted on" not in str(refusal))  # a hostile path may mean `/`
        raise


every_plan = given(case=cases())
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
FIELDS = [name for name in Step.__slots__ if name != "other"]
FILE_OPERATIONS = ("open", "open_tree", "set_attr", "new_mount", "move_mount", "mkdir", "symlink", "mknod", "write_file",
                   "read_file", "write", "mask", "read_only", "ptmx")  # fmt: skip


def fields(step: Step) -> list[Any]:
    return [*(getattr(step, name) for name in FIELDS), fields(step.other) if step.other else None]


@quick
@every_plan
def test_pure(case: Case) -> None:
    """The same input gives the same plan, and is left as it was."""
    before = copy.deepcopy(case.spec)
    again = build.plan(case.spec, case.host)
    assert case.spec == before
    assert [fields(step) for step in again] == [fields(step) for step in case.steps]
    assert not {id(step) for step in again} & {id(step) for step in case.steps}


def needed(step: Step) -> set[int]:
    """The slots that an actor reads in a step."""
    found = {step.fd, step.fd2} - {NONE}
    if step.op == "mask":
        found.add(step.n1)
    if step.op in ("new_mount", "keep"):
        found |= {int(each) for each in re.findall(rb"\{(\d+)\}", step.data)}
    return found


@quick
@every_plan
def test_slots_are_filled_before_they_are_used(case: Case) -> None:
    host = {step.out for step in case.of(HOST)} - {NONE}
    passed = {slots.LEASE, slots.KEEP, slots.RECORD, slots.OUT, slots.ERR, slots.LOG}
    outside, inside = {*passed, *host}, None
    for step in case.steps:
        if step.op == "sync":
            assert inside is not None and step.actor == BOTH
            giver, taker = (inside, outside) if step.n1 else (outside, inside)
            assert {*step.data} <= giver, step.what
            taker |= {*step.data}
        elif step.actor == OUTSIDE:
            assert needed(step) <= outside, step.what
            if step.op == "clone":
                assert inside is None
                inside = {*outside}
            outside |= {step.out} - {NONE}
        elif step.actor == INSIDE:
            assert inside is not None, f"{step.what} comes before the child is there"
            assert needed(step) <= inside, step.what
            inside |= {step.out} - {NONE}
        assert all(-1 <= number < SLOTS for number in (step.fd, step.fd2, step.out))


@quick
@every_plan
def test_no_slot_is_filled_twice_while_it_is_wanted(case: Case) -> None:
    """Bind mounts above all: two in one slot would put one source in the other's place."""
    handed = [step for step in case.of(OUTSIDE) if step.op == "open_tree"]
    assert len({step.out for step in handed}) == len(handed)
    numbers = [number for step in case.steps if step.op == "sync" for number in step.data]
    assert len(set(numbers)) == len(numbers)


@quick
@every_plan
def test_host_acts_first_and_limits_come_before_the_child(case: Case) -> None:
    clone = case.at("clone")
    assert len(clone) == 1
    actors = [step.actor for step in case.steps]
    assert HOST not in actors[len(case.of(HOST)) :]
    assert all(place < clone[0] for place in case.at("make_group", "set_limit", "watch_oom"))
    made = {step.path for step in case.of(HOST) if step.op == "make_group"}
    for step in case.of(HOST):
        if step.op != "make_group":
            assert step.path in made or step.path.rpartition("/")[0] in made
    assert all(actor != INSIDE for actor in actors[: clone[0]])


@quick
@every_plan
def test_every_group_is_entered(case: Case) -> None:
    """Of v2 by birth, of v1 by descriptor, before the child makes anything that is counted."""
    version = {limit.parent: limit.version for limit in case.host.controllers.values()}
    made = [step.path for step in case.of(HOST) if step.op == "make_group"]
    doors = {step.path: step.out for step in case.of(OUTSIDE) if step.op == "open"}
    entered = {step.fd for step in case.steps if step.op == "write_fd"}
    clone = case.steps[case.at("clone")[0]]
    for path in made:
        if version[path.rpartition("/")[0]] == 2:
            assert doors.pop(path) == clone.fd
        else:
            assert doors.pop(path + "/tasks") in entered
    assert not doors
    last, unshared = max(case.at("write_fd"), default=-1), case.at("unshare", actor=INSIDE)
    assert all(place > last for place in unshared + [each for each in case.at("new_mount") if case.steps[each].actor == INSIDE])
    wanted = {each["type"] for each in case.spec["linux"]["namespaces"]} - {"mount", "pid", "user", "time"}
    assert sum(case.steps[place].n1 for place in unshared) == sum(build.namespaces.FLAGS[each] for each in wanted)


@quick
@every_plan
def test_nothing_after_the_pivot_touches_files(case: Case) -> None:
    pivot, = case.at("pivot_root")
    assert case.steps[pivot + 1].op == "drop_old"
    assert not [step.what for step in case.steps[pivot:] if step.op in FILE_OPERATIONS]
    root, = (place for place, step in enumerate(case.steps) if step.op == "move_mount" and step.why == "root.path")
    assert root < pivot and case.steps[root].fd == case.steps[pivot].fd == slots.ROOT


@quick
@every_plan
def test_inside_names_no_path_of_the_host(case: Case) -> None:
    """It goes by descriptor; what it names besides are `/`, the old /dev, and itself in /proc."""
    own = {("set_attr", "/"), ("move_mount", "/"), ("move_mount", "/dev"), ("write", "/proc/self/oom_score_adj")}
    for step in case.of(INSIDE):
        root = step.fd2 if step.op == "move_mount" else step.fd
        if step.op in FILE_OPERATIONS and step.op != "new_mount" and root == NONE:
            assert (step.op, step.path) in own, step.what


@quick
@every_plan
def test_privileges_go_in_order(case: Case) -> None:
    pivot, = case.at("pivot_root")
    user = case.place("become", "process.user")
    bounds, caps = case.at("bounds"), case.at("caps")
    assert len(bounds) == len(caps) == 1
    assert pivot < bounds[0] < user < caps[0]
    loaded = case.at("seccomp")
    assert len(loaded) == (case.spec["linux"].get("seccomp") is not None)
    if case.spec["process"]["noNewPrivileges"]:
        locked, = case.at("no_new_privs")
        assert caps[0] < locked and all(locked < place for place in loaded)
        assert all(place == case.at("exec")[0] - 1 for place in loaded)
    else:
        assert not case.at("no_new_privs")
        assert all(pivot < place < bounds[0] for place in loaded)


@quick
@every_plan
def test_ends(case: Case) -> None:
    """The death signal after what clears it, exec the last thing inside does, keep the last outside."""
    changes = case.at("become", "caps", "bounds")
    die, = case.at("die_with")
    assert die > max(changes)
    assert case.of(INSIDE)[-1].op == "exec" and len(case.at("exec")) == 1
    assert case.of(OUTSIDE)[-1].op == "keep" and len(case.at("keep")) == 1
    assert [case.steps[place].op for place in range(len(case.steps))][-1] == "keep"
    assert len(case.at("reap")) == case.spec["dolium"]["init"]


@quick
@every_plan
def test_capabilities_lie_within_the_bounding_set(case: Case) -> None:
    bounds, caps = (case.steps[case.at(op)[0]] for op in ("bounds", "caps"))
    for held in (caps.n1, caps.n2, caps.n3):
        assert held & ~bounds.n1 == 0
    assert caps.n3 & ~(caps.n1 & caps.n2) == 0, "ambient needs permitted and inheritable, capabilities(7)"
    dropped = {*case.spec["process"]["capabilities"]["bounding"]}
    assert bounds.n1 == sum(1 << capabilities.NUMBERS[name] for name in dropped)
    if case.spec["process"]["user"]["uid"]:
        assert caps.n1 == 0


@quick
@every_plan
def test_every_mount_has_its_place_in_order(case: Case) -> None:
    attached = [step.path for step in case.of(INSIDE) if step.op == "move_mount" and step.fd2 == slots.ROOT]
    wanted = [mount["destination"] for mount in case.spec["mounts"]
              if mount["type"] != "cgroup" or case.host.cgroup2_mounted or limits.groups(case.spec, case.host)]  # fmt: skip
    found = iter(attached)
    assert all(path in found for path in wanted), (wanted, attached)


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line)


@quick
@given(case=cases(), note=HOSTILE, parts=st.booleans())
def test_explain_fits_a_terminal(case: Case, note: str, parts: bool) -> None:
    text = explain.text(case.steps, case.spec, case.image, note, parts)
    assert text.endswith("\n")
    lines = text[:-1].split("\n")
    for line in lines:
        assert columns(line) <= 80, line
        assert line.isprintable() and line == line.rstrip(), ascii(line)
    steps = [step for step in case.steps if parts or not step.is_part]
    listed = sum(len(items(step)) for step in steps) if parts else 0
    plan = len(steps) + listed + 2 * len({step.chapter for step in case.steps})
    noted = lines[3 : len(lines) - plan]  # below the head and the legend; a long one is broken, and nothing of it lost
    assert len([each for each in noted if not each.startswith("      ")]) == len(note.splitlines())
    told = "".join(explain.printable("note: " + each) for each in note.splitlines())
    assert "".join("".join(noted).split()) == "".join(told.split())
    assert {step.chapter for step in case.steps} <= {*explain.CHAPTERS}


@quick
@every_plan
def test_every_step_says_what_and_why(case: Case) -> None:
    for step in case.steps:
        assert step.what.strip() and step.note.strip() and step.why.strip(), (step.op, step.what, step.note, step.why)
    assert not case.steps[0].is_part
    chapters = [step.chapter for step in case.steps]
    assert [*dict.fromkeys(chapters)] == [each for each in explain.CHAPTERS if each in chapters]
    assert chapters == sorted(chapters, key=[*explain.CHAPTERS].index), "a chapter is one run of steps"


@quick
@every_plan
def test_rows_for_programs(case: Case) -> None:
    rows = explain.rows(case.steps, case.spec)
    assert len(rows) == len(case.steps)
    assert all({*row} == {"step", "part", "actor", "chapter", "op", "what", "note", "items", "why", "by", "asked"} for row in rows)
    numbers = [row["step"] for row in rows]
    assert numbers == sorted(numbers) and {*numbers} == {*range(1, numbers[-1] + 1)}
