"""The verbs that only look: list, ps, features, spec, and the version."""

from __future__ import annotations

import json

from bundles import Bundle


def test_list_and_ps(bundle: Bundle) -> None:
    pid = bundle.running()
    assert json.loads(bundle.verb("list", "--format=json").out)[0]["id"] == bundle.id
    assert bundle.verb("list", "-q").out == f"{bundle.id}\n"
    assert bundle.verb("list").out.splitlines()[1].split()[:3] == [bundle.id, str(pid), "running"]
    assert json.loads(bundle.verb("ps", "--format=json", bundle.id).out) == [pid]
    assert str(pid) in bundle.verb("ps", bundle.id).out
    assert bundle.verb("ps", bundle.id, "-e", "-o", "pid,comm").out.split() == ["PID", "COMMAND", str(pid), "sleep"]
    assert json.loads(bundle.verb("ps", bundle.id, "--format", "json").out) == [pid]
    said = bundle.verb("ps", bundle.id, "-e", "-o", "comm").err
    assert said == "error: ps: no column is called PID, by which the container's processes are told (such as: -o pid,comm)\n"


def test_what_follows_the_id_of_ps_is_for_ps(bundle: Bundle) -> None:
    """As runc has it: whatever ps(1) takes."""
    pid = bundle.running()
    shown = bundle.verb("ps", bundle.id, "-o", "pid,comm").out.splitlines()
    assert shown[0].split() == ["PID", "COMMAND"] and shown[1].split() == [str(pid), "sleep"]
    assert "PPID" in bundle.verb("ps", bundle.id, "-f", "-e").out and "%CPU" in bundle.verb("ps", "--format", "table", bundle.id, "aux").out
    assert bundle.verb("ps", "--nonsense", bundle.id).code == 1


def test_features_and_spec(bundle: Bundle) -> None:
    found = json.loads(bundle.verb("features").out)
    assert found["ociVersionMax"] == "1.3.0" and "rro" in found["mountOptions"] and "time" in found["linux"]["namespaces"]
    assert bundle.verb("spec", "-b", bundle.directory).code == 0
    spec = json.loads(bundle.read("config.json"))
    spec["process"] |= {"terminal": False, "args": ["hostname"]}
    assert bundle.output(spec) == "dolium\n"
    assert bundle.verb("spec", "--bundle", bundle.directory).code == 1


def test_version(bundle: Bundle) -> None:
    lines = bundle.verb("--version").out.splitlines()
    assert lines[0].startswith("dolium-oci version ") and lines[1].startswith("spec: ")
