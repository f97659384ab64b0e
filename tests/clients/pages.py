"""What the pages of docs/howto have a reader write into files: a path in backquotes at the end of a line, then a block."""

import re
from pathlib import Path

from containers import TOP


def files(page: str) -> dict[str, str]:
    """Path -> text, as they stand on that page."""
    text = Path(TOP, "docs/howto", page).read_text()
    found = dict(re.findall(r"`(/etc/[^`]+)`:\n\n```\w*\n(.*?)```\n", text, re.S))
    assert found, page
    return found


def line(page: str, words: str) -> str:
    """The one line for the reader's shell in which those words are."""
    text = Path(TOP, "docs/howto", page).read_text()
    (found,) = (each[4:] for each in text.splitlines() if each.startswith("    ") and words in each)
    return found
