"""The flags that `dolium explain` has besides those of `run`."""

import pytest
from test_flags import refused

from dolium.cli.explain_flags import ExplainFlags
from dolium.cli.flags import parse
from dolium.errors import DoliumError


def explained(*words):
    read = ExplainFlags()
    parse([*words], "explain", read)
    read.check()
    return read


def test_explain_shares_the_flags_and_has_more():
    read = explained("--verbose", "--json", "-v", "/a:/b", "-m", "64m", "@host")
    assert read.verbose and read.json and read.volume == [("/a", "/b", False)] and read.memory == 64 << 20
    error = refused("--json")
    assert str(error) == "`dolium run` has no `--json`" and error.hint == "`dolium explain` has"


@pytest.mark.parametrize("words", [["-v", "@host"], ["-v", "./x", "sh"], ["-v"], ["-v", "-m", "64m", "@host"],
                                   ["-v", "alpine:3.20", "sh"], ["-v", "localhost:5000/a:b", "sh"], ["-v", "oci:/tmp/x"]])  # fmt: skip
def test_v_alone_is_verbose(words):
    read = explained(*words)
    assert read.verbose and read.volume == [] and read.image == next((each for each in words[1:] if each[0] not in "-6"), None)


@pytest.mark.parametrize("wrong", ["data:/data", "/tmp:x", "./a:b", "/tmp:/x:rx"])
def test_v_with_a_volume_that_is_wrong_is_no_image(wrong):
    with pytest.raises(DoliumError) as caught:
        explained("-v", wrong, "alpine")
    assert str(caught.value).startswith("-v: ")


def test_a_plan_to_compare_with_is_named_or_not(tmp_path):
    (tmp_path / "saved").write_text("")
    assert explained("--diff", "--memory", "64m", "@host").diff == ""
    assert explained("--diff", "@host", "sh").diff == "" and explained("--diff").diff == ""
    assert explained("--diff", "nosuch.plan", "@host").diff == "nosuch.plan"
    read = explained("--diff", f"{tmp_path}/saved", "@host")
    assert (read.diff, read.image) == (f"{tmp_path}/saved", "@host")
    read = explained("--diff", f"{tmp_path}/gone", "@host")  # what is wrong is said of the plan
    assert (read.diff, read.image) == (f"{tmp_path}/gone", "@host")
    read = explained("--diff", str(tmp_path), "sh")  # a rootfs
    assert (read.diff, read.image) == ("", str(tmp_path))
    assert explained("--diff=x", "@host").diff == "x" and explained("@host").diff is None


@pytest.mark.parametrize(("words", "says"), [
    (["--step", "0", "@host"], "--step: expected a whole number from 1 to 1048576, got `0`"),
    (["--step", "", "@host"], "--step: expected a whole number from 1 to 1048576, got nothing"),
    (["--step", "-1", "@host"], "--step: expected a whole number from 1 to 1048576, got `-1`"),
    (["--until", "x", "@host"], "--until: expected a whole number from 1 to 1048576, got `x`"),
    (["--shell", "@host"], "`--shell` needs `--until N`"),
    (["--step", "3", "--json", "@host"], "`--json` and `--step` show different things"),
    (["--run", "--until", "3", "@host"], "`--run` and `--until` show different things"),
    (["--run", "-d", "@host"], "`--run` waits for the end, and `--detach` does not"),
    (["--until", "3", "-t", "@host"], "`--until` leaves the shell your own terminal"),
    (["--until", "3", "--why-denied", "@host"], "`--why-denied` is about the program, which `--until` does not start"),
    (["--id", "a", "--bundle", "b"], "`--id` and `--bundle` name different containers"),
    (["--id", "a", "@host"], "`--id` names a container whose words are known: `@host` is one too many"),
    (["--id", "a", "-m", "64m"], "`--id` names a container whose words are known: `-m` is one too many"),
    (["--bundle", "b", "--run"], "`--run` starts a container of its own, and `--bundle` names one that is there"),
    (["--save", "", "@host"], "--save: no file is named"),
])  # fmt: skip
def test_words_of_explain_that_are_wrong(words, says):
    with pytest.raises(DoliumError) as caught:
        explained(*words)
    assert str(caught.value) == says and (caught.value.hint or says.startswith("--step"))
