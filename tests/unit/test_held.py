"""A plan whose last steps come later: what is written into it, and where."""

import pytest
from invent import NAME, facts

from dolium.core import wire
from dolium.engine import config, rootfs
from dolium.errors import SpecError
from dolium.plan import build
from dolium.runtime import plans


def _spec(*argv: str, cwd: str | None = None, held: bool = True) -> tuple[dict, object]:
    options = config.Options()
    options.argv, options.cwd, options.held = list(argv), cwd, held
    host = facts(cgroups="v2", id_base=1 << 19)
    return config.specification(NAME, options, rootfs.Rootfs("x", "overlay", "/srv/x"), host), host


def test_what_comes_later_is_what_a_container_is_else_started_with() -> None:
    waiting, host = _spec()
    planned = plans.Planned(waiting, host)
    memory = bytearray(planned.message(waiting, {}))
    whole = wire.HEADER.unpack_from(memory)[1]
    assert whole == len(memory) + plans.ROOM
    memory += bytes(plans.ROOM)
    later, _ = _spec("echo", "a", cwd="/tmp")
    for place, data in planned.late(later):
        assert not any(memory[place : place + len(data)]) or place < wire.HEADER.size + wire.RECORD.size * len(planned.encoded.steps)
        memory[place : place + len(data)] = data
    rows = [wire.RECORD.unpack_from(memory, wire.HEADER.size + wire.RECORD.size * index) for index in range(len(planned.encoded.steps))]
    at, run = rows[planned.command - 1], rows[planned.command]
    assert [*wire.OPERATIONS][at[0]] == "chdir" and memory[at[11] :].split(b"\0", 1)[0] == b"/tmp"
    expected = next(step for step in build.plan(_spec("echo", "a", held=False)[0], host) if step.op == "exec")
    assert [*wire.OPERATIONS][run[0]] == "exec" and bytes(memory[run[13] : run[13] + run[14]]) == expected.data
    assert run[16:19] == (expected.n1, expected.n2, expected.n3)
    with pytest.raises(SpecError):
        planned.late(_spec("echo", "a\0b")[0])


def test_a_held_container_waits_with_nothing_left_to_give_up() -> None:
    ops = [step.op for step in build.plan(*_spec())]
    assert ops[-4:] == ["wait_command", "chdir", "idle", "keep"]
    wait = ops.index("wait_command")
    assert max(ops.index(each) for each in ("bounds", "caps", "no_new_privs", "die_with", "seccomp", "pivot_root")) < wait
    assert "wait_command" not in [step.op for step in build.plan(*_spec(held=False))]
