"""Every exception: one line of text, its fields, and both after pickling and copying."""

from __future__ import annotations

import copy
import errno
import inspect
import os
import pickle

import pytest

import dolium
from dolium import Result, errors
from dolium.cli import render

RESULT = Result(args=["x"], exit_code=3, signal=0, stdout=b"", stderr=b"", wall_seconds=1.5, cpu_seconds=0.5, peak_memory_bytes=4096,
                ended_by="exit", limits_hit=(), truncated=False)  # fmt: skip
STEP = errors.StepError("mount proc at `/proc`", index=14, total=31, call="mount(2)", errno=errno.EPERM, why="`mounts[0]`",
                        filename="/proc", hint="start the outer container with more privilege")  # fmt: skip
ONE_OF_EACH: list[errors.DoliumError] = [
    errors.DoliumError("plain", hint="mend it"), errors.UsageError("wrong word"),
    errors.SpecError("mounts[2].source", "is empty", hint="name it"),
    errors.NotFound("container", "ngnix", similar=("nginx", "ngrep")), errors.Exists("container", "web"),
    errors.ImageError("`./x.tar`", "no", entry="`../a`", hint="x"), errors.StateError("web", "stopped", "running"),
    errors.RegistryError("pull alpine", "docker.io", "it was asked too often (429)", status=429, hint="wait"), errors.Unsupported("--memory", "no controller", hint="boot with it"),
    errors.HookError("hooks.prestart[0]", "/bin/x", "ended with exit code 1", "its words"),
    STEP, errors.CommandFailed(["x", "-y"], RESULT), errors.CommandTimeout(["x", "-y"], RESULT),
]  # fmt: skip


def classes() -> set[type]:
    return {each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.DoliumError)}


def test_there_is_one_of_each() -> None:
    assert {type(each) for each in ONE_OF_EACH} == classes()
    assert {each.__name__ for each in classes()} <= {*dolium.__all__}


def test_the_drawing_is_the_tree() -> None:
    drawn = [line.strip("| `-") for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    names = {line.split()[0] for line in drawn}
    assert names == {each.__name__ for each in classes()}


def fields(error: errors.DoliumError) -> dict[str, object]:
    found = {**vars(error), "text": str(error), "code": error.code, "exit_code": error.exit_code, "hint": error.hint}
    if isinstance(error, OSError):
        found |= {"errno": error.errno, "strerror": error.strerror, "filename": error.filename}
    if "result" in found:
        found["result"] = {name: getattr(found["result"], name) for name in Result.__slots__}
    return found


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, *(
    lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in range(2, pickle.HIGHEST_PROTOCOL + 1))])  # fmt: skip
def test_survives(error: errors.DoliumError, way: object) -> None:
    again = way(error)  # type: ignore[operator]
    assert type(again) is type(error) and again is not error
    assert fields(again) == fields(error)
    assert fields(copy.copy(again)) == fields(error), "once more"


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_shape(error: errors.DoliumError) -> None:
    assert str(error) and "\n" not in str(error)
    assert error.code == error.code.lower() and " " not in error.code
    assert error.exit_code == 125
    shown = render.error(error).splitlines()
    assert shown[0] == f"error: {error}"
    if error.hint:
        assert shown[-2:] == ["", f"hint: {error.hint}"]
    assert not isinstance(error.hint, tuple)


def test_codes_tell_them_apart() -> None:
    codes = [each.code for each in classes()]  # type: ignore[attr-defined]
    assert len({*codes}) == len(codes)


def test_step_error() -> None:
    assert isinstance(STEP, OSError) and isinstance(STEP, errors.DoliumError)
    assert (STEP.errno, STEP.filename, STEP.index, STEP.total, STEP.call) == (errno.EPERM, "/proc", 14, 31, "mount(2)")
    assert str(STEP) == f"cannot mount proc at `/proc`: mount(2): {os.strerror(errno.EPERM)} (EPERM)"
    assert render.error(STEP).splitlines()[1] == "  at step 14 of 31, asked for by `mounts[0]`"
    with pytest.raises(OSError):
        raise STEP
    nameless = errors.StepError("do it", index=0, total=2, call="x(2)", errno=4095, why="`y`")
    assert nameless.filename is None and "(4095)" in str(nameless)
    assert render.error(nameless).count("\n") == 1, "without a place there is no second line"
    assert errors.StepError("exec x", index=1, total=2, call="execve(2)", errno=2, why="`y`", exit_code=127).exit_code == 127


def test_what_others_catch() -> None:
    """A program that knows subprocess catches TimeoutError; nothing of ours is caught as something that it is not."""
    assert issubclass(errors.CommandTimeout, TimeoutError) and issubclass(errors.CommandTimeout, errors.CommandFailed)
    assert not issubclass(errors.CommandFailed, OSError)
    assert {each.__name__ for each in classes() if issubclass(each, OSError)} == {"StepError", "CommandTimeout"}


def test_similar_names_are_a_hint() -> None:
    assert errors.NotFound("container", "ngnix", similar=("nginx", "ngrep")).hint == "did you mean `nginx` or `ngrep`?"
    assert errors.NotFound("container", "x").hint == ""
    assert errors.NotFound("container", "x", similar=("y",), hint="else").hint == "else"


def test_no_field_is_named_args() -> None:
    for error in ONE_OF_EACH:
        assert "args" not in vars(error)
        signature = inspect.signature(type(error).__init__)
        assert "args" not in signature.parameters
