"""docs/reference/errors.md is what the table of codes makes, and every code of the source stands in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from containers import TOP

import dolium
from dolium.plan.failures import FAILURES, document, page

PAGE = Path(TOP) / "docs" / "reference" / "errors.md"
RAISED = re.compile(r"""^\s+(?:self\.)?code = "([^"]+)"|\bcode="([^"]+)\"""", re.M)


def raised() -> set[str]:
    texts = [path.read_text() for path in (Path(TOP) / "src" / "dolium").rglob("*.py")]
    return {first or second for text in texts for first, second in RAISED.findall(text)}


def test_the_document_is_made_of_the_table() -> None:
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        PAGE.write_text(document())
    assert PAGE.read_text() == document(), "make golden"


def test_every_code_has_a_page() -> None:
    assert raised() == {*FAILURES}
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", code) for code in FAILURES)


def test_every_exception_is_there_with_its_code() -> None:
    kinds = {name: getattr(dolium, name) for name in dolium.__all__ if isinstance(getattr(dolium, name), type)}
    codes = {kind.code: name for name, kind in kinds.items() if issubclass(kind, dolium.DoliumError)}
    assert codes == {code: found.kind for code, found in FAILURES.items()}


@pytest.mark.parametrize("code", FAILURES)
def test_a_page_fits_a_terminal(code: str) -> None:
    found = FAILURES[code]
    long = [line[2:] for line in page(code).splitlines() if len(line) > 80]
    assert {*long} <= {*(f"$ {each}" for each in found.example), found.says}, "only what is to be copied is not folded"
    assert found.means and found.causes and found.mends and found.example and found.says
