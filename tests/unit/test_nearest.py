"""The nearest name to a misspelt one."""

import pytest

from dolium.engine import nearest


@pytest.mark.parametrize(("one", "other", "slips"), [
    ("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("memroy", "memory", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)])
def test_distance(one, other, slips):
    assert nearest.distance(one, other) == nearest.distance(other, one) == slips


def test_nearest():
    names = ("cap-add", "cap-drop", "cpus", "memory")
    assert nearest.nearest("cap-ad", names) == ("cap-add",)
    assert nearest.nearest("cap", names) == ("cap-add", "cap-drop")
    assert nearest.nearest("cap", names, most=1) == ("cap-add",)
    assert nearest.nearest("", names) == nearest.nearest("zzzz", names) == nearest.nearest("x" * 10**6, names) == ()
