"""An online judge: compile a stranger's program, run it on the tests, say the verdict.

    python3 examples/judge.py                     # judges a few programs of its own

CE  it does not compile             TLE  its time was over           OLE  it printed without end
AC  all answers are right           MLE  its memory was used up      RE   it failed
WA  an answer is wrong
"""

import os
import sys

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/src")  # from a clone, where nothing is installed

import dolium


class Language:
    """How a program is compiled (or only looked at) and run."""

    def __init__(self, source: str, compile: "list[str]", run: "list[str]") -> None:
        self.source = source
        self.compile = compile
        self.run = run


LANGUAGES = {
    "c": Language("/work/a.c", ["cc", "-O2", "-o", "/work/a", "/work/a.c"], ["/work/a"]),
    "python": Language("/work/a.py", ["python3", "-m", "py_compile", "/work/a.py"], ["python3", "/work/a.py"]),
}


class Verdict:
    """`code` is one of those above, `test` the number of the test that decided (from 1; 0: none did), `detail` words for people."""

    def __init__(self, code: str, test: int = 0, detail: str = "") -> None:
        self.code = code
        self.test = test
        self.detail = detail

    def __repr__(self) -> str:
        return f"Verdict({self.code}{f' on test {self.test}' if self.test else ''}{f': {self.detail}' if self.detail else ''})"


def judge(language: str, program: str, tests: "list[tuple[str, str]]", *, seconds: float = 2, memory: "str | None" = "128M",
          most_output: int = 1 << 20) -> Verdict:  # fmt: skip
    """Each test is (input, expected output).  Compiled in one box, whose files are then those of a fresh one for each test, made in
    advance: no test sees another.

    `memory` None: for a plain user without cgroups, who can set no such limit.
    """
    how = LANGUAGES[language]
    with dolium.Sandbox(timeout=60) as box:
        box.write(how.source, program)
        compiled = box.run(how.compile, text=True, timeout=30, cwd="/work")
        if compiled.exit_code:
            return Verdict("CE", detail=compiled.stderr[:2000])
        compiled_files = box.snapshot()
    with compiled_files, dolium.Pool(size=2, image=compiled_files, memory=memory, pids=32 if memory else None) as pool:
        for number, (given, expected) in enumerate(tests, 1):
            result = pool.run(how.run, input=given, text=True, timeout=seconds, max_output=most_output)
            verdict = _of(result, expected)
            if verdict.code != "AC":
                verdict.test = number
                return verdict
    return Verdict("AC")


def _of(result: dolium.Result, expected: str) -> Verdict:
    if result.ended_by == "timeout":
        return Verdict("OLE" if result.truncated else "TLE")
    if result.ended_by == "memory":
        return Verdict("MLE")
    if result.truncated:
        return Verdict("OLE")
    if result.exit_code:
        return Verdict("RE", detail=f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}")
    return Verdict("AC") if result.stdout.split() == expected.split() else Verdict("WA")


TESTS = [("1 2\n", "3\n"), ("20 22\n", "42\n")]
PROGRAMS = {
    "AC": "print(sum(map(int, input().split())))",
    "WA": "a, b = map(int, input().split()); print(a + b if a < 10 else a)",
    "TLE": "while True: pass",
    "MLE": "x = bytearray(512 << 20); print(3)",
    "RE": "input(); input()",
    "OLE": "while True: print('x' * 1000)",
    "CE": "def f(:",
}


def main() -> None:
    memory = "128M" if os.geteuid() == 0 else None
    for wanted, program in PROGRAMS.items():
        if wanted != "MLE" or memory:
            print(f"{wanted:4} {judge('python', program, TESTS, memory=memory)}")


if __name__ == "__main__":
    main()
