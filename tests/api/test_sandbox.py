"""`dolium.Sandbox`, as a program uses it."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from containers import SLOW, TOP, Dolium, children, wait_for

import dolium


def test_programs_share_what_they_write_and_nothing_else() -> None:
    with dolium.Sandbox() as box:
        assert box.run(["sh", "-c", "echo kept > /tmp/a; export A=1; cd /tmp"]).exit_code == 0
        again = box.run(["sh", "-c", "cat /tmp/a; echo $A; pwd"], text=True)
        assert again.stdout == "kept\n\n/\n"
        assert box.status == "running" and box.id in repr(box)
    assert box.status == "closed"


def test_a_run_is_as_dolium_run_has_it() -> None:
    with dolium.Sandbox(env={"A": "1"}, cwd="/tmp") as box:
        result = box.run(["sh", "-c", "cat; echo $A$B; pwd; echo err >&2; exit 3"], input="in\n", env={"B": "2"}, text=True)
        assert (result.stdout, result.stderr, result.exit_code, result.ended_by) == ("in\n12\n/tmp\n", "err\n", 3, "exit")
        assert box.run(["pwd"], cwd="/usr", text=True).stdout == "/usr\n"
        assert box.run(["sh", "-c", "kill -TERM $$"]).returncode == -signal.SIGTERM
        with pytest.raises(dolium.CommandFailed) as failed:
            box.run(["false"], check=True)
        assert failed.value.argv == ["false"] and failed.value.result.exit_code == 1
        with pytest.raises(dolium.StepError) as missing:
            box.run(["no-such-program"])
        assert missing.value.exit_code == 127
        with pytest.raises(dolium.UsageError):
            box.run("ls /")  # type: ignore[arg-type]
        assert box.run(["true"]).exit_code == 0


@pytest.mark.needs_root
def test_a_user_of_the_containers_own() -> None:
    with dolium.Sandbox(user="nobody") as box:
        assert box.run(["id", "-u"], text=True).stdout == "65534\n"
        assert box.run(["id", "-u"], user="0", text=True).stdout == "0\n"
        with pytest.raises(dolium.NotFound):
            box.run(["true"], user="nobody-of-that-name")


def test_the_time_limit_of_a_run_is_its_own() -> None:
    with dolium.Sandbox() as box:
        kept = box.popen(["sleep", "600"])
        result = box.run(["sh", "-c", "sleep 601 & sleep 601 & sleep 601"], timeout=0.3)
        assert (result.ended_by, result.exit_code, result.limits_hit) == ("timeout", 124, ("timeout",))
        assert box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], text=True).stdout.count("sleep 601") == 0
        assert kept.poll() is None
        with pytest.raises(dolium.CommandTimeout):
            box.run(["sleep", "600"], timeout=0.1, check=True)
        kept.kill()
        assert kept.wait() == -signal.SIGKILL


@pytest.mark.needs_root
def test_with_a_cgroup_nobody_escapes_the_time_limit() -> None:
    with dolium.Sandbox() as box:
        box.run(["sh", "-c", "setsid sleep 601 & sleep 601"], timeout=0.3)
        assert "601" not in box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], text=True).stdout.replace("601'", "")


def test_what_a_run_leaves_running_goes_on_until_the_end_of_the_sandbox() -> None:
    with dolium.Sandbox() as box:
        began = time.monotonic()
        assert box.run(["sh", "-c", "sleep 600 & echo $! > /tmp/pid; echo started"], text=True).stdout == "started\n"
        assert time.monotonic() - began < 60 * SLOW
        assert box.run(["sh", "-c", "kill -0 $(cat /tmp/pid)"]).exit_code == 0


@pytest.mark.needs_root
def test_memory_ends_the_sandbox_and_says_so() -> None:
    with dolium.Sandbox(memory="32M") as box:
        result = box.run(["tail", "/dev/zero"])
        assert (result.ended_by, result.limits_hit, result.exit_code) == ("memory", ("memory",), 137)
        assert (box.status, box.ended_by) == ("ended", "memory")
        with pytest.raises(dolium.StateError, match="memory limit"):
            box.run(["true"])


def test_a_life_has_an_end() -> None:
    with dolium.Sandbox(timeout=0.5 * SLOW) as box:
        assert box.run(["sleep", "600"]).ended_by == "timeout"
        with pytest.raises(dolium.StateError, match="time"):
            box.run(["true"])
        assert box.ended_by == "timeout"


def test_closed_is_closed() -> None:
    box = dolium.Sandbox()
    process = box.popen(["sleep", "600"])
    box.close()
    box.close()
    assert process.wait() == -signal.SIGKILL
    for act in (lambda: box.run(["true"]), lambda: box.read("/etc/passwd"), lambda: box.popen(["true"]), lambda: box.ls("/")):
        with pytest.raises(dolium.StateError, match="closed"):
            act()


def test_forgotten_is_closed() -> None:
    before = {*children(os.getpid())}
    box = dolium.Sandbox()
    assert {*children(os.getpid())} - before
    del box
    wait_for(lambda: not {*children(os.getpid())} - before)


def test_popen_has_the_names_of_subprocess() -> None:
    with dolium.Sandbox() as box:
        with box.popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
            assert cat.stdin and cat.stdout
            cat.stdin.write(b"one\n")
            cat.stdin.flush()
            assert cat.stdout.readline() == b"one\n" and cat.poll() is None and cat.returncode is None
            cat.stdin.close()
            assert cat.stdout.read() == b""
        assert cat.returncode == 0 and cat.exit_code == 0
        both = box.popen(["sh", "-c", "echo a; echo b >&2; exit 4"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert both.communicate() == ("a\nb\n", None) and both.returncode == 4
        asleep = box.popen(["sleep", "600"])
        with pytest.raises(subprocess.TimeoutExpired):
            asleep.wait(timeout=0.05)
        os.kill(asleep.pid, 0)
        asleep.terminate()
        assert asleep.wait() == -signal.SIGTERM and asleep.exit_code == 143
        asleep.kill()
        asleep.send_signal(9)


def test_communicate_is_not_stuck_by_much_on_every_side() -> None:
    with dolium.Sandbox() as box:
        much = os.urandom(1 << 20)
        process = box.popen(["sh", "-c", "tee /dev/stderr"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(much)
        assert out == much and err == much
        deaf = box.popen(["true"], stdin=subprocess.PIPE)
        assert deaf.communicate(much) == (None, None)
        slow = box.popen(["sh", "-c", "echo first; sleep 600"], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired) as expired:
            slow.communicate(timeout=0.5 * SLOW)
        assert expired.value.output == b"first\n"
        slow.kill()
        assert slow.communicate() == (b"first\n", None)


def test_lines_as_they_come() -> None:
    with dolium.Sandbox() as box:
        pieces: list[bytes] = []
        result = box.run(["sh", "-c", "echo 1; sleep 0.2; echo 2"], on_stdout=pieces.append)
        assert pieces == [b"1\n", b"2\n"] and result.stdout == b"1\n2\n"
        with box.popen(["printf", "a\\nb\\n"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout and [*process.stdout] == ["a\n", "b\n"]


def test_of_long_output_head_and_tail_are_kept() -> None:
    with dolium.Sandbox() as box:
        result = box.run(["seq", "100000"], max_output=100, text=True)
        assert result.truncated and result.ended_by == "exit" and result.limits_hit == ("output",)
        assert result.stdout.startswith("1\n2\n3\n") and result.stdout.endswith("\n99999\n100000\n") and len(result.stdout) == 100


def test_files_of_the_sandbox() -> None:
    with dolium.Sandbox() as box:
        box.write("/app/deep/er/a.py", "print('hi')\n", mode=0o755)
        assert box.read("/app/deep/er/a.py", text=True) == "print('hi')\n" and box.read("app/deep/er/a.py") == b"print('hi')\n"
        assert box.run(["stat", "-c", "%a %u %g", "/app/deep/er/a.py"], text=True).stdout == "755 0 0\n"
        assert box.ls("/app/deep") == ["er"] and "etc" in box.ls()
        assert box.exists("/app/deep") and not box.exists("/app/nothing") and not box.exists("/app/deep/er/a.py/x")
        big = os.urandom(3 << 20)
        box.write("/tmp/big", big)
        assert box.read("/tmp/big") == big
        box.write("/tmp/big", b"")
        assert box.read("/tmp/big") == b""
        box.remove("/app")
        assert not box.exists("/app")
        box.remove("/tmp/big")
        for act, kind in ((lambda: box.read("/nothing"), FileNotFoundError), (lambda: box.read("/etc"), IsADirectoryError),
                          (lambda: box.ls("/etc/passwd"), NotADirectoryError), (lambda: box.remove("/"), OSError),
                          (lambda: box.remove("/nothing"), FileNotFoundError), (lambda: box.read(""), FileNotFoundError)):  # fmt: skip
            with pytest.raises(kind) as problem:
                act()
            assert isinstance(problem.value, OSError)


def test_no_link_of_a_program_leads_out() -> None:
    """CVE-2019-14271, CVE-2018-15664 and their like: a copy into or out of a container follows its links on the host."""
    with dolium.Sandbox() as box:
        box.run(["sh", "-c", "ln -s /etc/shadow /tmp/a; ln -s ../../../../../../etc /tmp/up; ln -s /proc/1/root /tmp/root; "
                             "ln -s /proc/self/fd/0 /tmp/fd; mkfifo /tmp/fifo; ln -s /tmp/made /tmp/dangling"])  # fmt: skip
        with pytest.raises(OSError):
            box.read("/tmp/a")  # the container's own, which it has not got
        assert box.ls("/tmp/up") == box.ls("/etc")
        for path in ("/tmp/root/etc/passwd", "/tmp/fd", "/tmp/fifo"):
            with pytest.raises(OSError):
                box.read(path)
        box.write("/tmp/dangling", "x")
        assert box.read("/tmp/made") == b"x"
        box.remove("/tmp/up")
        assert box.exists("/etc/passwd")


def test_mounts(folder: str) -> None:
    with open(f"{folder}/data", "w") as file:
        file.write("of the host")
    os.mkdir(f"{folder}/shared")
    mounts = [dolium.ro(folder, "/data"), dolium.rw(f"{folder}/shared"), dolium.tmp("/scratch", "1M"), f"{folder}:/again:ro"]
    try:
        box = dolium.Sandbox(mounts=mounts)
    except dolium.Unsupported:
        pytest.skip("this host maps no ids of mounts")
    with box:
        assert box.run(["cat", "/data/data", "/again/data"], text=True).stdout == "of the hostof the host"
        assert box.run(["sh", "-c", "echo > /data/new"]).exit_code != 0
        assert box.run(["sh", "-c", f"echo x > {folder}/shared/new"]).exit_code == 0
        assert box.run(["sh", "-c", "head -c 2M /dev/zero > /scratch/a"]).exit_code != 0
        shared = box.run(["cat", "/proc/self/uid_map"], text=True).stdout.split()[1] == "0"
        assert os.stat(f"{folder}/shared/new").st_uid == os.geteuid() or shared


def test_the_disk_is_bounded() -> None:
    with dolium.Sandbox(disk="1M") as box:
        assert box.run(["sh", "-c", "head -c 900K /dev/zero > /tmp/a"]).exit_code == 0
        assert "space" in box.run(["sh", "-c", "head -c 900K /dev/zero > /tmp/b"], text=True).stderr
        with pytest.raises(OSError):
            box.write("/tmp/c", bytes(2 << 20))


def test_many_threads_in_one_sandbox() -> None:
    results: list[str] = []
    with dolium.Sandbox() as box:
        def work(number: int) -> None:
            for turn in range(5):
                results.append(box.run(["echo", f"{number}.{turn}"], text=True).stdout)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(results) == sorted(f"{number}.{turn}\n" for number in range(8) for turn in range(5))


def test_killed_with_its_python() -> None:
    code = (f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium, os; box = dolium.Sandbox(); "
            "p = box.popen(['sleep', '600']); print(p.pid, flush=True); os.kill(os.getpid(), 9)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        pid = int(process.stdout.readline())
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))
    assert Dolium()("run", "@host", "true").code == 0  # the next command mends


def test_a_forgotten_program_goes_on_and_nothing_of_it_stays() -> None:
    """As of subprocess.Popen: nobody need wait.  It held four descriptors and a helper for ever."""
    before = len(os.listdir("/proc/self/fd"))
    with dolium.Sandbox() as box:
        inside = len(os.listdir("/proc/self/fd"))
        box.popen(["sh", "-c", "sleep 0.2; touch /tmp/done; sleep 600"])
        for _ in range(20):
            box.popen(["true"])
        wait_for(lambda: box.exists("/tmp/done"))
        wait_for(lambda: [box.run(["true"]), len(os.listdir("/proc/self/fd")) <= inside + 6][1])
    assert len(os.listdir("/proc/self/fd")) <= before + 2, "the two helpers"


def test_a_kill_that_comes_too_late_changes_no_result() -> None:
    """It then lies unread where dolium-keep has ended, and the kernel says so before it gives us what that had to say."""
    with dolium.Sandbox() as box:
        for _ in range(20):
            process = box.popen(["sh", "-c", "exit 3"])
            time.sleep(0.02 * SLOW)
            process.kill()
            assert process.wait() in (3, -signal.SIGKILL)


def test_a_forked_child_does_no_harm_to_what_is_not_its_own() -> None:
    with dolium.Sandbox() as box:
        process = box.popen(["sleep", "600"])
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(dolium.StateError, match="forked"):
                    box.run(["true"])
                box.close()
                del process
                gc.collect()
                code = dolium.run(["sh", "-c", "exit 7"]).exit_code  # containers of its own it may have
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert process.poll() is None and box.run(["echo", "fine"], text=True).stdout == "fine\n"
