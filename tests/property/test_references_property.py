"""Names of images: whatever is typed is refused as such or read, and what is read is read the same again."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as some

from dolium.engine import references
from dolium.errors import SpecError

PART = some.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
HOST = some.from_regex(r"([a-z0-9]{1,8}\.[a-z]{2,4}|localhost)(:[1-9][0-9]{0,3})?", fullmatch=True)
TAG = some.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGEST = some.from_regex(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", fullmatch=True)
NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII)


@given(HOST, some.lists(PART, min_size=1, max_size=4), some.none() | TAG, some.none() | DIGEST)
def test_all_that_the_grammar_allows(host: str, parts: list[str], tag: str | None, digest: str | None) -> None:
    path = "/".join(parts)
    text = f"{host}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = references.parse(text)
    assert (found.registry, found.repository, found.digest) == (host, path, digest or "")
    assert found.tag == (tag or ("" if digest else "latest"))
    assert references.parse(str(found)) == found == references.parse(found.familiar())


@given(some.text(max_size=80) | some.text("aB.:/@-_1[]", max_size=30))
@example("[/a")
@example("]:1/a")
@example("a:@")
@example("docker-archive::::")
def test_whatever_is_typed(text: str) -> None:
    try:
        found = references.parse(text)
    except SpecError as refusal:
        assert "\n" not in str(refusal)
        return
    assert references.parse(str(found)) == found
    if found.transport == "registry":
        assert NAME.fullmatch(found.repository) and len(found.registry) + len(found.repository) < 255
        assert found.registry and found.registry == found.registry.lower() and found.wanted
        assert found.registry.isascii() and not set(found.registry) & set("/@ \t\n\\?#%")


@given(some.text("ab12._-", max_size=12))
def test_parts_are_as_the_expression_in_the_specification_says(part: str) -> None:
    assert bool(part and references._is_part(part)) == bool(NAME.fullmatch(part))
