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
