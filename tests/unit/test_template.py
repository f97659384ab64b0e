"""`--format` with a template: what Docker's users write most, and a clear answer to the rest."""

import pytest

from dolium.cli import template
from dolium.errors import SpecError

DOCUMENT = {"Id": "a1", "State": {"Pid": 7, "Running": True, "Error": ""}, "Mounts": [{"RW": False}], "None": None,
            "Labels": {"a.b": "x"}}  # fmt: skip


@pytest.mark.parametrize(("text", "filled"), [
    ("{{.Id}}", "a1"), ("{{ .Id }}", "a1"), ("pid {{.State.Pid}}: {{.State.Running}}", "pid 7: true"), (r"{{.Id}}\t{{.Id}}\n", "a1\ta1\n"),
    ("{{json .Mounts}}", '[{"RW": false}]'), ("{{json .Id}}", '"a1"'), ("{{.None}}", "<no value>"), ("[{{.State.Error}}]", "[]"),
    ("{{json .}}", None), ("é{{.Id}}\x1b", "éa1\x1b")])  # fmt: skip
def test_filled(text: str, filled: str | None) -> None:
    done = template.fill(template.check(text, "-f"), DOCUMENT)
    assert done == filled or (filled is None and '"State": {' in done)


@pytest.mark.parametrize(("text", "words"), [
    ("", "expected json or a template"), ("yaml", "expected json or a template"), ("{{range .Mounts}}x{{end}}", "only {{.Name}}"),
    ("{{.Id", "no `}}`"), ("{{index .Labels \"a.b\"}}", "only {{.Name}}"), ("{{Id}}", "only {{.Name}}"), ("{{}}", "only {{.Name}}"),
    ("{{.A..B}}", "only {{.Name}}")])  # fmt: skip
def test_refused_before_anything_is_looked_at(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words.replace("{", r"\{").replace("}", r"\}")):
        template.check(text, "-f")


@pytest.mark.parametrize(("text", "hint"), [
    ("{{.Stat}}", "did you mean State?"), ("{{.State.Pod}}", "did you mean Pid?"), ("{{.State}}", "write {{json .State}}"),
    ("{{.Id.X}}", ""), ("{{.}}", "write {{json .}}"), ("{{.Zzzzzzz}}", "there are Id, State, Mounts, None, Labels")])  # fmt: skip
def test_a_field_that_there_is_not(text: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        template.fill(template.check(text, "-f"), DOCUMENT)
    assert caught.value.hint == hint


def test_a_table() -> None:
    documents = [{"Name": "a\tb", "State": "up"}, {"Name": "longer", "State": "x"}]
    text = template.check(r"table {{.Name}}\t{{.State}}", "--format")
    assert template.table(text, documents) == "NAME     STATE\na\tb      up\nlonger   x\n"
    assert template.table("{{.Name}}", documents) == "a\tb\nlonger\n"
    assert template.table(text, []) == "NAME   STATE\n"
