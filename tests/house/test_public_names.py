"""The public names, pinned: whoever changes one changes this list, and says so in CHANGELOG.md."""

import inspect
import subprocess
import sys

import dolium
from dolium import aio

NAMES = """CommandFailed CommandTimeout DoliumError Exists HookError ImageError Mount NotFound Pool Process Python RegistryError Result
Sandbox Snapshot Snippet SpecError StateError StepError Unsupported UsageError allow doctor ro run rw tmp""".split()
MEMBERS = {
    "Sandbox": "close ended_by exists get id ls popen put python read remove run snapshot status write",
    "Snapshot": "close depth",
    "Pool": "close ready run size snippet take",
    "Process": "args communicate ending exit_code fileno kill pid poll returncode send_signal stderr stdin stdout terminate wait",
    "Python": "close ended_by kill restart run status",
    "Snippet": "ended_by error figures message ok stderr stdout traceback truncated value wall_seconds",
    "Result": "args cpu_seconds ended_by exit_code limits_hit peak_memory_bytes returncode signal stderr stdout truncated wall_seconds",
    "Mount": "kind size source target",
}
AIO = {"Pool": "close ready run snippet start take",
       "Process": "args communicate exit_code kill pid returncode send_signal stderr stdin stdout terminate wait",
       "Python": "close ended_by restart run status",
       "Sandbox": "close ended_by exists get id ls popen put python read remove run snapshot start status write"}  # fmt: skip
RUN = """argv image check text encoding errors input env cwd user timeout memory cpus pids disk network mounts max_output on_stdout
on_stderr""".split()


def members(kind: type) -> list[str]:
    """Of its class, and what its constructor gives it."""
    given = {node.partition("=")[0].partition(":")[0].strip() for node in inspect.getsource(kind.__init__).split("self.")[1:]
             if "=" in node.partition("\n")[0]}  # type: ignore[misc]  # fmt: skip
    found = {*vars(kind), *inspect.get_annotations(kind), *(each for each in given if each.isidentifier())}
    return sorted(each for each in found if not each.startswith("_"))


def test_the_names() -> None:
    assert sorted(dolium.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(dolium, name).__module__.startswith("dolium."), name


def test_the_members() -> None:
    assert {name: members(getattr(dolium, name)) for name in MEMBERS} == {name: words.split() for name, words in MEMBERS.items()}
    assert {name: members(getattr(aio, name)) for name in AIO} == {name: words.split() for name, words in AIO.items()}


def test_the_arguments() -> None:
    assert [*inspect.signature(dolium.run).parameters] == RUN
    for call in (dolium.run, dolium.Pool, dolium.Pool.run, dolium.Pool.take, dolium.Sandbox, dolium.Sandbox.run, dolium.Sandbox.popen, dolium.Sandbox.python):
        kinds = [each.kind for each in inspect.signature(call).parameters.values() if each.name not in ("self", "argv")]
        assert {*kinds} == {inspect.Parameter.KEYWORD_ONLY}, call


def test_star_and_dir() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from dolium import *; print(*sorted(each for each in globals() if each[0] != '_'))"
    source = dolium.__file__.removesuffix("/dolium/__init__.py")
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted([*NAMES, "sys"])
