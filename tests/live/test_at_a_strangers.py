"""`make`, `make run` and the set-up of `make test` on machines that lack things: what is said there, and what is asked of apt-get.

CONTRIBUTING.md lists what goes wrong at a stranger's, and which test or target shows each answer; the numbers are those of its rows.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from containers import DOLIUM, NOBODY, TOP, Dolium, wait_for
from stranger import COMPILER, RUN, TEST, Stranger

APT = ('#!/bin/sh\nprintf "%s\\n" "$DEBIAN_FRONTEND $NEEDRESTART_MODE $*" >>"$0.said"\n'
       'case "$*" in *update*) exit 0 ;; esac\necho "E: nothing is installed here"\nexit 100\n')  # fmt: skip

pytestmark = pytest.mark.needs_root


NO_PYTHON = ("mount -t tmpfs none /mnt; mkdir /mnt/up /mnt/work; for each in python3 python3.11 python3.12 python3.13; do mknod /mnt/up/$each c 0 0; done; "
             "mount -t overlay -o lowerdir=/usr/bin,upperdir=/mnt/up,workdir=/mnt/work none /usr/bin; mount -t tmpfs none /usr/local/bin")  # fmt: skip


def test_nothing_there(stranger: Stranger) -> None:
    """Trap 1, where there is no apt-get either."""
    said = stranger(*RUN, code=1, before=NO_PYTHON)
    assert "missing: python3 musl-tools, as Debian calls them. There is no apt-get here" in said
    assert "Dolium needs Python 3.11 or newer; here is: " in said
    stranger.has("python3")
    said = stranger(*RUN, code=1)
    assert "Dolium needs a C compiler that links statically: musl-gcc (Debian: musl-tools; Fedora: musl-gcc; Arch: musl)" in said


def test_what_apt_get_is_told(stranger: Stranger) -> None:
    """Traps 5 and 6: nobody is asked, nothing is removed or recommended, a lock is waited for; no engine, no service."""
    stranger.stand_in("apt-get", APT)
    stranger(*TEST, code=1, before=NO_PYTHON)
    install = next(each for each in stranger.said("apt-get") if " install " in each)
    assert install.startswith("noninteractive l -q -o DPkg::Lock::Timeout=300 install -y --no-remove --no-install-recommends ")
    wanted = set(install.partition("recommends ")[2].split())
    readme = Path(TOP, "README.md").read_text()
    named = readme[readme.index("to install what is missing"):readme.index("docker-registry is unpacked")]
    assert {"python3", "musl-tools", "strace"} <= wanted <= set(re.findall(r"[a-z][a-z0-9-]+", named)) | {"libc6-dev"}, wanted
    # a list that is out of date names files that are gone: update, and once more
    assert [each.split("Timeout=300 ")[1].split()[0] for each in stranger.said("apt-get")][-3:] == ["install", "update", "install"]
    assert [each for each in stranger.said("apt-get") if "upgrade" in each or "purge" in each] == []


def test_no_lists_of_packages_yet(stranger: Stranger) -> None:
    stranger.stand_in("apt-get", APT)
    stranger(*RUN, code=1, before=NO_PYTHON + "; mount -t tmpfs none /var/lib/apt/lists")
    assert stranger.said("apt-get")[0].endswith(" update")


@pytest.mark.parametrize("lock", ["/var/lib/dpkg/lock-frontend", "/var/lib/apt/lists/lock"])
def test_somebody_else_is_installing(stranger: Stranger, lock: str) -> None:
    """As unattended-upgrades on a new machine: said, and waited for."""
    stranger.stand_in("apt-get", APT)
    hold = (f"import fcntl, os, time; f = open('{lock}', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); open('held', 'w')\n"
            "while not os.path.exists('go'): time.sleep(0.02)")  # fmt: skip
    mine = f"mount -t tmpfs none {os.path.dirname(lock)}; cd {stranger.folder}; {sys.executable} -IS -c {shlex.quote(hold)} & "
    mine += "while [ ! -e held ]; do sleep 0.1; done"
    with stranger.start(*RUN, before=f"{mine}; {NO_PYTHON}") as process:
        assert process.stdout
        while not process.stdout.readline().startswith("another program is installing packages: this waits for it"):
            assert process.poll() is None
        assert not stranger.said("apt-get")
        Path(stranger.folder, "go").touch()
        process.communicate()
    assert stranger.said("apt-get")


@pytest.mark.parametrize("sudo", ["", "#!/bin/sh\nexit 1\n"], ids=["absent", "refused"])
def test_a_plain_user_gets_a_line_to_paste(stranger: Stranger, sudo: str) -> None:
    """Trap 2."""
    stranger.has("python3")
    stranger.stand_in("apt-get", APT)
    if sudo:
        stranger.stand_in("sudo", sudo)
    said = stranger(*RUN, code=1, uid=NOBODY)
    assert "not installed: you are not root and sudo is absent or refused. Root can do it so:\n    apt-get install " in said
    assert ("to install them takes root: sudo apt-get install (it may ask for your password)" in said) == bool(sudo)
    assert not stranger.said("apt-get")


def test_a_clone_of_somebody_else(stranger: Stranger) -> None:
    subprocess.run(["chmod", "755", stranger.clone], check=True)
    stranger.has("python3", "setpriv")
    as_nobody = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    assert "is not yours to write in (it belongs to root); clone Dolium as nobody" in stranger(*as_nobody, *RUN, code=1)




def test_a_clone_on_a_file_system_that_runs_nothing(stranger: Stranger) -> None:
    """Trap 10."""
    stranger.has(*COMPILER)
    said = stranger("make", code=2, before=f"mount --bind {stranger.clone} {stranger.clone}; mount -o remount,bind,noexec {stranger.clone}")
    assert f"{stranger.clone}/bin/dolium may not be executed: is this directory mounted noexec?" in said


@pytest.mark.parametrize(("system", "said"), [
    ("Linux aarch64 6.1.0", "Dolium runs on Linux x86_64 only so far; this is Linux aarch64."), ("Darwin arm64 23.1", "this is Darwin arm64."),
    ("Linux x86_64 4.19.0-27", "Dolium needs Linux 5.10 or newer; this is 4.19.0-27"), ("Linux x86_64 5.4.0", "this is 5.4.0.")])  # fmt: skip
def test_another_machine(stranger: Stranger, system: str, said: str) -> None:
    """Traps 10 and 11, before anything is made."""
    name, machine, release = system.split()
    os.unlink(f"{stranger.programs}/uname")
    stranger.stand_in("uname", f"#!/bin/sh\ncase $1 in -s) echo {name} ;; -m) echo {machine} ;; -r) echo {release} ;; esac\n")
    assert said in stranger(*RUN, code=1)
    assert not os.path.exists(f"{stranger.clone}/.build")


def test_what_fails_ends_with_the_log(stranger: Stranger) -> None:
    """Trap 12: its last lines and where the whole is, and no line before that is not a phase."""
    stranger.has("python3")
    stranger.stand_in("musl-gcc", "#!/bin/sh\nfor each in $(/usr/bin/seq 100); do echo complaint $each; done\nexit 1\n")
    said = stranger(*RUN, code=1).splitlines()
    assert said[1].startswith("  helpers    musl-gcc: dolium-init") and "  FAILED after " in said[1]
    assert said[2:22] == [f"complaint {each}" for each in range(81, 101)]
    assert said[-1] == f"The whole log: {stranger.clone}/.build/setup.log"


def test_a_full_disk(stranger: Stranger) -> None:
    """Trap 10."""
    stranger.has(*COMPILER)
    full = f"mkdir -p {stranger.clone}/src/dolium/programs; mount -t tmpfs -o size=8k none {stranger.clone}/src/dolium/programs"
    said = stranger(*RUN, code=1, before=full)
    assert "No space left on device" in said and "The helpers do not compile." in said
    assert os.listdir(f"{stranger.clone}/src/dolium/programs") == []


def test_interrupted(stranger: Stranger) -> None:
    """Trap 13: it goes on where it was."""
    stranger.has("python3")
    stranger.stand_in("musl-gcc", f"#!/bin/sh\n>{stranger.folder}/begun\nexec sleep 1000\n")
    with stranger.start(*RUN) as process:
        wait_for(lambda: os.path.exists(f"{stranger.folder}/begun"))
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode == 130 and "interrupted; the next time goes on where this one was" in said
    os.unlink(f"{stranger.programs}/musl-gcc")
    stranger.has(*COMPILER[1:])
    assert [line.split()[0] for line in stranger(*RUN).splitlines()] == ["helpers", "bytecode"]


def test_another_processor(dolium: Dolium) -> None:
    """Trap 11, of what is installed already: a personality(2) in which uname(2) says so."""
    for command in ("run", "explain"):
        ended = dolium(command, "@host", "true", argv=["setarch", "i686", DOLIUM])
        assert ended.code == 125 and "seccomp on i686: its system call numbers are not known here" in ended.stderr, ended
        assert "dolium doctor machine" in ended.stderr, ended
    assert "i686" in dolium("doctor", "machine", argv=["setarch", "i686", DOLIUM]).stdout
