"""Each decision has a page and a number of its own."""

import re
from pathlib import Path

PAGES = sorted((Path(__file__).parents[2] / "docs/decisions").iterdir())


def test_numbers_are_given_once() -> None:
    numbers = [each.name[:4] for each in PAGES]
    assert len({*numbers}) == len(numbers), numbers
    for each in PAGES:
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", each.name)
        assert each.read_text().startswith(f"# {each.name[:4]} "), each
