"""What runs inside for `Sandbox.python`: takes snippets from its standard input, which is a socket, and answers there.

Only its text goes into the container, where any Python from 3.6 on runs it: it imports nothing of Dolium.  Question: 16 bytes
that the answer must begin with, two lengths, the snippet's name and the snippet.  Answer: those bytes, flags, four lengths, and
as many bytes of value, type, message and traceback.
"""

import ast
import builtins
import io
import linecache
import os
import shutil
import struct
import sys
import traceback
import types

ASK, ANSWER = struct.Struct("!16sII"), struct.Struct("!16sB4I")
VALUE, ERROR, FIGURES, CUT = 1, 2, 4, 8
MOST = 1 << 20
"""Bytes of each text of an answer."""


def main() -> None:
    """Until the other end of the socket is closed."""
    channel = open(os.dup(0), "rb")  # noqa: SIM115  not inheritable: no program of a snippet's has it
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    figures = os.environ["DOLIUM_FIGURES"]
    here = os.getpid()
    while True:
        head = channel.read(ASK.size)
        if len(head) < ASK.size:
            return
        token, named, length = ASK.unpack(head)
        name, code = channel.read(named).decode(), channel.read(length).decode()
        _empty(figures)
        flags, texts = _carry_out(name, code, module.__dict__)
        _flush()
        if os.getpid() != here:  # the snippet has forked, and this is the child
            os._exit(0)
        if os.path.isdir(figures) and os.listdir(figures):
            flags |= FIGURES
        short = [_cut(each) for each in texts]
        if any(len(one) != len(each) for one, each in zip(short, texts)):  # noqa: B905  `strict` came with 3.10
            flags |= CUT
        answer = memoryview(ANSWER.pack(token, flags, *map(len, short)) + b"".join(short))
        while answer:
            answer = answer[os.write(channel.fileno(), answer) :]


def _carry_out(name: str, code: str, names: "dict[str, object]") -> "tuple[int, list[bytes]]":
    """As an interactive interpreter does: of an expression at the end, the value."""
    lines = [line + "\n" for line in code.splitlines()]
    linecache.cache[name] = (len(code), None, lines, name)  # for tracebacks
    try:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), names)
        value = eval(compile(ast.Expression(last.value), name, "eval"), names) if isinstance(last, ast.Expr) else None
        shown = _bytes(repr(value)) if value is not None else b""
        if value is not None:
            builtins._ = value  # type: ignore[attr-defined]
        return VALUE if value is not None else 0, [shown, b"", b"", b""]
    except BaseException as error:
        kind = type(error)
        prefix = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
        return ERROR, [b"", _bytes(prefix + kind.__qualname__), _said(error), _traced(error)]


def _said(error: BaseException) -> bytes:
    try:
        return _bytes(str(error))
    except BaseException:  # its __str__ is the snippet's
        return b"<no text>"


def _traced(error: BaseException) -> bytes:
    """Without our own frames."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_globals.get("ANSWER") is ANSWER:
        trace = trace.tb_next
    try:
        return _bytes("".join(traceback.format_exception(type(error), error, trace)))
    except BaseException:
        return b"<no traceback>"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _cut(data: bytes) -> bytes:
    half = MOST // 2
    return data if len(data) <= MOST else data[:half] + data[len(data) - half :]


def _flush() -> None:
    """What was printed comes before the answer."""
    for each in (sys.stdout, sys.stderr):
        try:
            each.flush()
        except BaseException:  # closed, or the snippet's own
            pass


def _empty(figures: str) -> None:
    """The directory for figures, as good as new."""
    try:
        shutil.rmtree(figures, ignore_errors=True)
        os.makedirs(figures, exist_ok=True)
    except OSError:  # a full disk: then there is no place for figures
        pass


if __name__ == "__main__":
    sys.stdout = io.TextIOWrapper(open(1, "wb"), "utf-8", "backslashreplace", line_buffering=True)  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb"), "utf-8", "backslashreplace", line_buffering=True)  # noqa: SIM115
    main()
