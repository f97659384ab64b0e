"""`dolium-oci features` says exactly what is implemented: each word of it is read where configs are read, and no other is."""

from __future__ import annotations

from typing import Any

import pytest
from bundles import config

from dolium.errors import SpecError
from dolium.plan import attributes, capabilities, oci, process
from dolium.plan.attributes import Options
from dolium.plan.features import features

FOUND = features()
SPECIFIED = ("async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec noiversion nolazytime norelatime nostrictatime nosuid "
             "private rbind relatime remount ro rprivate rshared rslave runbindable rw shared silent slave strictatime suid sync unbindable nosymfollow symfollow ratime rdev "
             "rdiratime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow idmap ridmap "
             "mand nomand tmpcopyup")


def is_read(option: str) -> bool:
    return all(each in attributes.OF_SUPERBLOCK for each in Options([option]).data)


def test_mount_options_are_those_of_the_specification() -> None:
    assert set(FOUND["mountOptions"]) == set(SPECIFIED.split())


@pytest.mark.parametrize("option", FOUND["mountOptions"])
def test_each_mount_option_is_read(option: str) -> None:
    assert is_read(option)


@pytest.mark.parametrize("option", ["size=5", "mode=755", "rsize", "nonsense", "rsync", "copy-symlink"])
def test_what_is_not_named_is_the_file_systems(option: str) -> None:
    assert option not in FOUND["mountOptions"] and Options([option]).data == [option]


def test_namespaces_and_hooks() -> None:
    spaces = [{"type": each} for each in FOUND["linux"]["namespaces"]]
    maps = [{"containerID": 0, "hostID": 1, "size": 1}]
    hooks = {each: [{"path": "/x"}] for each in FOUND["hooks"]}
    found = oci.read(config(linux__namespaces=spaces, linux__uidMappings=maps, linux__gidMappings=maps, hooks=hooks))
    assert set(found["hooks"]) == set(FOUND["hooks"]) and len(FOUND["hooks"]) == 6 and len(spaces) == 8
    with pytest.raises(SpecError):
        oci.read(config(linux__namespaces=[*spaces, {"type": "other"}]))


def test_capabilities_are_the_kernels() -> None:
    assert FOUND["linux"]["capabilities"] == sorted(capabilities.NUMBERS, key=lambda name: capabilities.NUMBERS[name]) and len(FOUND["linux"]["capabilities"]) == 41


@pytest.mark.parametrize("mode", FOUND["linux"]["memoryPolicy"]["modes"])
def test_each_memory_policy(mode: str) -> None:
    assert process._memory_policy({"mode": mode, "nodes": "0", "flags": FOUND["linux"]["memoryPolicy"]["flags"][:1]})


def test_versions_are_read() -> None:
    found: dict[str, Any] = FOUND
    for version in (found["ociVersionMin"], found["ociVersionMax"]):
        assert oci.read(config(ociVersion=version))["ociVersion"] == version


def test_intel_rdt_is_not_there() -> None:
    assert FOUND["linux"]["intelRdt"] == {"enabled": False}
