"""A clone at a stranger's: nothing in it is made yet, and of this host it has a few programs and no network."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from containers import TOP

TOOLS = "awk cat chmod chown cksum cmp cp cut date dirname env find grep head id ln ls make mkdir mv readlink rm sed sh sleep sort stat tail touch tr uname"
COMPILER = ("python3", "musl-gcc", "gcc", "x86_64-linux-gnu-gcc", "as", "ld")
RUN = ("/bin/sh", "make/setup.sh", "run")
TEST = ("/bin/sh", "make/setup.sh", "test")


class Stranger:
    """A copy of this clone in which nothing was made yet, a PATH of a few programs, and namespaces without a network for each command."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.clone = f"{folder}/dolium"
        self.programs = f"{folder}/bin"
        for each in ("bin", "demo", "init", "make", "src"):
            shutil.copytree(f"{TOP}/{each}", f"{self.clone}/{each}", ignore=shutil.ignore_patterns("__pycache__", "programs"))
        shutil.copy(f"{TOP}/Makefile", self.clone)
        os.mkdir(self.programs)
        for each in TOOLS.split():
            os.symlink(shutil.which(each) or "", f"{self.programs}/{each}")

    def has(self, *names: str) -> None:
        """Programs of this host."""
        for each in names:
            os.symlink(shutil.which(each) or f"nothing called {each}", f"{self.programs}/{each}")

    def stand_in(self, name: str, script: str) -> None:
        path = Path(self.programs, name)
        path.write_text(script)
        path.chmod(0o755)

    def said(self, name: str) -> list[str]:
        """What a stand-in for apt-get was told, one line a call."""
        path = Path(self.programs, f"{name}.said")
        return path.read_text().splitlines() if path.exists() else []

    def start(self, *words: str, before: str = "", uid: int = 0, top: str = "", **environment: str) -> "subprocess.Popen[str]":
        """One of the clone's commands; `before` changes the mounts first."""
        if uid:
            subprocess.run(["chown", "-hR", f"{uid}:{uid}", self.clone], check=True)
            words = (shutil.which("setpriv") or "", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *words)
        script = f"{before}\ncd {shlex.quote(top or self.clone)} && exec env PATH={self.programs} {shlex.join(words)}"
        whole = ["unshare", "--mount", "--net", "--propagation", "private", "/bin/sh", "-ec", script]
        return subprocess.Popen(whole, env={"PATH": os.environ["PATH"], "HOME": self.folder, **environment}, start_new_session=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def __call__(self, *words: str, code: int = 0, before: str = "", uid: int = 0, top: str = "", **environment: str) -> str:
        """What it says, all of it, when it ends so."""
        with self.start(*words, before=before, uid=uid, top=top, **environment) as process:
            said, _ = process.communicate()
        assert process.returncode == code, (process.returncode, said)
        assert "not found" not in said and "Traceback" not in said, said
        return said
