"""`dolium.run`, as a program uses it."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest
from containers import SLOW, TOP, Dolium

import dolium


def test_a_result_tells_all() -> None:
    result = dolium.run(["sh", "-c", "echo out; echo err >&2; exit 3"], text=True)
    assert (result.args[0], result.exit_code, result.returncode, result.signal) == ("sh", 3, 3, 0)
    assert (result.stdout, result.stderr, result.ended_by, result.limits_hit, result.truncated) == ("out\n", "err\n", "exit", (), False)
    assert result.wall_seconds > 0 and result.cpu_seconds > 0 and result.peak_memory_bytes > 0
    assert "exit_code=3" in repr(result) and "\n" not in repr(result)
    again = pickle.loads(pickle.dumps(result))
    assert (again.stdout, again.exit_code) == (result.stdout, 3) and copy.copy(result).args == result.args


def test_bytes_unless_text_is_asked_for() -> None:
    assert dolium.run(["printf", r"\377\000x"]).stdout == b"\xff\0x"


def test_a_signal() -> None:
    result = dolium.run(["sh", "-c", "sh -c 'kill -9 $$'; exit 0"])
    assert result.exit_code == 0
    result = dolium.run(["python3", "-c", "import os, signal, resource; signal.signal(11, signal.SIG_DFL); import ctypes; ctypes.string_at(0)"])
    assert (result.exit_code, result.returncode, result.signal, result.ended_by) == (139, -11, signal.SIGSEGV, "signal")


def test_input_environment_directory_user() -> None:
    assert dolium.run(["cat"], input="täxt", text=True).stdout == "täxt"
    assert dolium.run(["cat"], input=b"x" * 3_000_000).stdout == b"x" * 3_000_000
    assert dolium.run(["true"], input=b"x" * 3_000_000).exit_code == 0
    assert dolium.run(["sh", "-c", "echo $A $HOME; pwd"], env={"A": "1"}, cwd="/tmp", text=True).stdout == "1 /root\n/tmp\n"


@pytest.mark.needs_root
def test_limits_say_what_ended_it() -> None:
    result = dolium.run(["tail", "/dev/zero"], memory="32M")
    assert (result.ended_by, result.limits_hit, result.exit_code) == ("memory", ("memory",), 137)
    assert 30 << 20 < result.peak_memory_bytes <= 32 << 20
    assert dolium.run(["sh", "-c", "exit 137"]).ended_by == "exit"
    assert dolium.run(["sh", "-c", "(sleep 5 & sleep 5 & sleep 5 & sleep 5) ; sleep 5 & sleep 5"], pids=2).exit_code != 0
    assert dolium.run(["id", "-u"], user="65534", text=True).stdout == "65534\n"


def test_timeout() -> None:
    began = time.monotonic()
    result = dolium.run(["sleep", "600"], timeout=0.3)
    assert (result.ended_by, result.exit_code) == ("timeout", 124)
    assert time.monotonic() - began < 60 * SLOW
    with pytest.raises(dolium.CommandTimeout) as caught:
        dolium.run(["sleep", "600"], timeout="300ms", check=True)
    assert isinstance(caught.value, TimeoutError) and caught.value.result.ended_by == "timeout"


def test_output_is_bounded() -> None:
    result = dolium.run(["yes"], max_output=1000)
    assert (result.ended_by, result.truncated, len(result.stdout)) == ("output", True, 1000)


def test_check() -> None:
    with pytest.raises(dolium.CommandFailed) as caught:
        dolium.run(["false"], check=True)
    assert caught.value.argv == ["false"] and caught.value.result.exit_code == 1
    assert pickle.loads(pickle.dumps(caught.value)).result.exit_code == 1


def test_what_cannot_run_is_an_error() -> None:
    with pytest.raises(dolium.StepError) as caught:
        dolium.run(["no-such-program"])
    error = caught.value
    assert isinstance(error, OSError) and error.errno == 2 and error.exit_code == 127 and error.step == "exec no-such-program"
    for each in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(each), each.errno, each.index, each.total, each.hint) == (str(error), 2, error.index, error.total, error.hint)
    for call in (lambda: dolium.run("ls"), lambda: dolium.run([]), lambda: dolium.run(["x"], network="web")):  # type: ignore[arg-type]
        with pytest.raises(dolium.UsageError):
            call()
    with pytest.raises(dolium.SpecError):
        dolium.run(["true"], memory="64x")
    with pytest.raises(dolium.NotFound):
        dolium.run(["true"], image="/no/such/directory")
    with pytest.raises(dolium.RegistryError):
        dolium.run(["true"], image="127.0.0.1:9/alpine")


@pytest.mark.needs_root
def test_mounts(folder: str) -> None:
    assert dolium.run(["touch", "/data/made"], mounts=[f"{folder}:/data"]).exit_code == 0
    assert os.stat(f"{folder}/made").st_uid == 0, "what root inside writes belongs to the caller"
    assert dolium.run(["touch", "/data/more"], mounts=[f"{folder}:/data:ro"]).exit_code == 1


def test_threads() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(5):
            result = dolium.run(["echo", str(number)], text=True)
            if result.stdout != f"{number}\n":
                wrong.append(result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def program(code: str, **how: object) -> "subprocess.Popen[bytes]":
    text = f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium, os, signal\n{code}"
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, **how)  # type: ignore[call-overload, no-any-return]


def test_sigkill_of_the_caller_ends_the_container(folder: str) -> None:
    """What is left is looked for by the check that watches every test here."""
    with program("print('on its way', flush=True); dolium.run(['sleep', '600'])") as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.5 * SLOW)
        process.kill()
    assert Dolium()("run", "@host", "true").code == 0  # the next command mends, this process has mended already


def test_a_caller_that_ignores_sigchld() -> None:
    with program("signal.signal(signal.SIGCHLD, signal.SIG_IGN); print(dolium.run(['echo', 'x'], text=True).stdout)") as process:
        assert process.communicate()[0] == b"x\n\n"


def test_a_caller_without_standard_descriptors(folder: str) -> None:
    code = f"for fd in range(3): os.close(fd)\nr = dolium.run(['echo', 'x'], text=True)\nopen({folder + '/out'!r}, 'w').write(r.stdout)"
    with program(code) as process:
        process.communicate()
    with open(f"{folder}/out") as file:
        assert file.read() == "x\n"
