"""What `--change` does to how an image is run."""

from __future__ import annotations

from typing import Any

import pytest

from dolium.engine import instructions
from dolium.errors import SpecError


@pytest.mark.parametrize(("lines", "expected"), [
    (["CMD echo hi"], {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
    (['cmd ["a", "b c"]'], {"Cmd": ["a", "b c"]}),
    (["CMD [not json"], {"Cmd": ["/bin/sh", "-c", "[not json"]}),
    (['ENTRYPOINT ["/x"]'], {"Entrypoint": ["/x"]}),
    (["ENV A=1 B='x y'", "ENV A 2 3"], {"Env": ["A=2 3", "B=x y"]}),
    (["LABEL a=b", 'LABEL "c d"="e f"'], {"Labels": {"a": "b", "c d": "e f"}}),
    (["EXPOSE 80 53/UDP"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
    (['VOLUME ["/a"]', "VOLUME /b /c"], {"Volumes": {"/a": {}, "/b": {}, "/c": {}}}),
    (["WORKDIR /a/", "WORKDIR b"], {"WorkingDir": "/a/b"}),
    (["USER 1:2"], {"User": "1:2"}),
    (["STOPSIGNAL SIGINT"], {"StopSignal": "SIGINT"}),
])  # fmt: skip
def test_is_carried_out(lines: list[str], expected: dict[str, Any]) -> None:
    config: dict[str, Any] = {}
    for line in lines:
        instructions.apply(config, line)
    assert config == expected


def test_of_a_shell_of_its_own() -> None:
    config: dict[str, Any] = {"Shell": ["/bin/bash", "-c"]}
    instructions.apply(config, "CMD x")
    assert config["Cmd"] == ["/bin/bash", "-c", "x"]


@pytest.mark.parametrize(("line", "problem"), [
    ("RUN make", "`RUN` does not change how an image is run"),
    ("CMD", "CMD needs something after it"),
    ("ENV A", "ENV `A`: no value"),
    ("ENV A=1 B", "ENV `B`: no NAME=VALUE"),
    ("ENV A='x", "`A='x`: No closing quotation"),
    ("EXPOSE 0", "EXPOSE `0` is no port"),
    ("EXPOSE 80/x", "EXPOSE `80/x` is no port"),
    ("VOLUME a", "VOLUME `a` is no absolute path"),
    ("STOPSIGNAL SIGNOTHING", "no signal `SIGNOTHING`"),
])  # fmt: skip
def test_is_refused(line: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        instructions.apply({}, line)
    assert str(caught.value) == f"--change: {problem}"
