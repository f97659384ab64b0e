"""An engine's config with anything in any place gives a plan or an error that says where; nothing else ever."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import invent
from bundles import DEFAULT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dolium.core import document, wire
from dolium.errors import SpecError, Unsupported
from dolium.plan import build, oci

EVERYTHING = json.loads((Path(__file__).parents[1] / "golden" / "bundle-everything.json").read_text())["config"]
HOSTS = [invent.facts(hierarchies={each: (2, "/sys/fs/cgroup") for each in ("memory", "pids", "cpu", "cpuset", "io", "unified")}),
         invent.facts(hierarchies={"memory": (1, "/c/memory"), "devices": (1, "/c/devices"), "unified": (2, "/c/unified")}),
         invent.facts(hierarchies={}), invent.facts(rootless=True, uid=1000, gid=1000)]
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(1 << 65), 1 << 65), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
                    st.sampled_from(["", "/", "/proc", "..", "/../x", "\0", "\ud800", "rbind", "cgroup", "user", "a", "max", "-1", "0-"]))
ANYTHING = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)), max_leaves=6)


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [way] if way else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*way, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*way, index))
    return found


def change(config: Any, way: tuple[Any, ...], value: Any, remove: bool) -> None:
    for each in way[:-1]:
        config = config[each]
        if not isinstance(config, (dict, list)):
            return
    try:
        if remove:
            del config[way[-1]]
        else:
            config[way[-1]] = value
    except (KeyError, IndexError, TypeError):
        pass


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_plan_or_an_error_that_says_where(data: st.DataObject) -> None:
    config = copy.deepcopy(data.draw(st.sampled_from([DEFAULT, EVERYTHING])))
    for _ in range(data.draw(st.integers(1, 3))):
        change(config, data.draw(st.sampled_from(places(config))), data.draw(ANYTHING), data.draw(st.booleans()))
    try:
        spec = oci.read(config, "/bundle", "name")
        steps = build.plan(spec, data.draw(st.sampled_from(HOSTS)))
        wire.encode(steps, {})
    except SpecError as error:
        assert error.path and error.problem
    except Unsupported as error:
        assert error.feature and error.missing


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_whatever_is_no_config(value: Any) -> None:
    try:
        oci.read(value)
    except SpecError:
        return
    raise AssertionError("taken for a config")


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_documents_there_and_back(value: Any) -> None:
    assert document.read(document.write(value), "x") == json.loads(json.dumps(value))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20))
def test_any_text_is_a_document_or_an_error(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = ValueError
    try:
        assert document.read(text, "x") == wanted
    except SpecError:
        assert wanted is ValueError or "Infinity" in text or "NaN" in text
