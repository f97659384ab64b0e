"""A plain user, with one id or with those that /etc/subuid gives him; and root of a user namespace, as rootless podman's runtime
is.  Each test is named after its rule."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from bundles import PLAIN, RUNTIME, SAFE, Bundle, config, script, wait_for
from containers import NOBODY, program

FIRST = 200000
ONE = [{"containerID": 0, "hostID": NOBODY, "size": 1}]
MANY = [*ONE, {"containerID": 1, "hostID": FIRST, "size": 65536}]
OTHERS = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
SPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")


def plain(bundle: Bundle, more: str = "", subordinate: str = f"{NOBODY}:{FIRST}:65536\n") -> None:
    """A plain user with those subordinate ids, whatever this host's files say."""
    for name in ("newuidmap", "setpriv"):
        if not shutil.which(name):
            pytest.skip(f"no {name} here")
    bundle.give(NOBODY)
    with open(f"{bundle.directory}/ids", "w") as file:
        file.write(subordinate)
    binds = "".join(f"mount --bind {bundle.directory}/ids /etc/{name} && " for name in ("subuid", "subgid"))
    bundle.called_by(NOBODY, f"exec unshare -m --propagation private sh -c '{binds}{more} exec {PLAIN} \"$@\"' -")


def users(spec: dict[str, Any], mapping: list[dict[str, int]]) -> dict[str, Any]:
    spec["linux"] |= {"namespaces": [{"type": each} for each in SPACES], "uidMappings": mapping, "gidMappings": mapping}
    return spec


def test_one_id(bundle: Bundle) -> None:
    plain(bundle, subordinate="")
    assert bundle.output(users(script("id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /x; echo >/dev/null"), ONE)).split() == \
        ["0", "0", str(NOBODY), "1", "deny"]
    assert os.stat(f"{bundle.rootfs}/x").st_uid == NOBODY


@pytest.mark.parametrize("mapping", [MANY, OTHERS], ids=["root is the caller", "root is another"])
def test_more_ids_by_newuidmap(bundle: Bundle, mapping: list[dict[str, int]]) -> None:
    plain(bundle)
    os.chmod(f"{bundle.rootfs}/tmp", 0o777)
    spec = users(script("id -u; id -G; echo x >/tmp/x; stat -c %u:%g /tmp/x /dev/null /dev/pts /dev/fd; cat /proc/self/setgroups",
                        process__user={"uid": 7, "gid": 8, "additionalGids": [9]}), mapping)
    lines = bundle.output(spec).split()
    assert lines[:4] == ["7", "8", "9", "7:8"] and lines[-3:] == ["0:0", "0:0", "allow"], lines
    shift = mapping[-1]["hostID"] - mapping[-1]["containerID"]
    assert (os.stat(f"{bundle.rootfs}/tmp/x").st_uid, os.stat(f"{bundle.rootfs}/tmp/x").st_gid) == (7 + shift, 8 + shift)


@pytest.mark.parametrize("mapping", [ONE, MANY, OTHERS], ids=["one", "many", "others"])
def test_the_whole_life(bundle: Bundle, mapping: list[dict[str, int]]) -> None:
    plain(bundle)
    first = bundle.running(users(config(process__args=["sleep", "1000"]), mapping), "--pid-file", f"{bundle.root}/pid")
    assert bundle.status() == "running"
    with open(f"{bundle.root}/pid") as file:
        assert int(file.read()) == first
    os.unlink(f"{bundle.root}/pid")
    ended = bundle.verb("exec", bundle.id, "sh", "-c", "id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/mnt; exit 3")
    assert (ended.code, ended.out.split()) == (3, ["0", os.readlink(f"/proc/{first}/ns/user"), os.readlink(f"/proc/{first}/ns/mnt")]), ended
    if mapping != ONE:
        ended = bundle.verb("exec", "--user", "5:6", "-g", "7", bundle.id, "id")
        assert ended.out.split()[0].startswith("uid=5") and "gid=6" in ended.out and "7" in ended.out, ended
    assert json.loads(bundle.verb("list", "--format", "json").out)[0]["owner"] == str(NOBODY)
    assert bundle.verb("delete", bundle.id).code == 1
    assert bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0
    assert bundle.status() == "gone" and os.listdir(bundle.root) == []


def test_ids_that_are_not_his(bundle: Bundle) -> None:
    plain(bundle, subordinate="other:1:1\n")
    assert "newuidmap: uid range" in (said := bundle.refused(users(config(), MANY))), said
    assert "/etc/subuid" in said
    stolen = [{"containerID": 0, "hostID": 0, "size": 1}]
    assert "uid_map" in (said := bundle.refused(users(config(), stolen))) and "EPERM" in said, said


def test_newuidmap_is_not_there(bundle: Bundle) -> None:
    plain(bundle, more="for f in /usr/bin/newuidmap; do mount --bind /dev/null $f; done &&")
    said = bundle.refused(users(config(), MANY))
    assert "takes newuidmap(1), which is not there" in said and "apt install uidmap" in said


def test_he_needs_a_user_namespace(bundle: Bundle) -> None:
    plain(bundle)
    assert "linux.namespaces: has no `user`" in bundle.refused(config())
    spec = users(config(), [])
    spec["linux"]["namespaces"][-1]["path"] = "/proc/1/ns/user"
    assert "cannot join the user namespace of another" in bundle.refused(spec)


def test_a_limit_without_a_group_of_his_is_an_error(bundle: Bundle) -> None:
    plain(bundle)
    spec = users(config(linux__resources={"memory": {"limit": 64 << 20}}), ONE)
    assert "the `memory` cgroup controller is not there" in (said := bundle.refused(spec)), said


def test_groups_that_were_given_to_him(bundle: Bundle) -> None:
    top = "/sys/fs/cgroup/pids"
    if not os.path.exists(f"{top}/tasks"):
        pytest.skip("pids is not a hierarchy of cgroup v1 here")
    plain(bundle)
    given = f"{top}/dolium/{bundle.id}"
    os.makedirs(given)
    try:
        subprocess.run(["chown", "-R", str(NOBODY), given], check=True)
        spec = users(script("cat /proc/self/cgroup; (for n in 1 2 3 4 5 6 7 8; do sleep 1 & done) 2>&1 | grep -c fork",
                            linux__cgroupsPath=f"/dolium/{bundle.id}/deep", linux__resources={"pids": {"limit": 5}}), ONE)
        spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "cgroup"]
        text = bundle.output(spec)
        assert f":pids:/dolium/{bundle.id}/deep\n" in text and f":memory:/dolium/{bundle.id}" not in text, text
        assert int(text.split()[-1]) >= 1, "the sixth process could not be made"
        assert not os.path.exists(f"{given}/deep")
    finally:
        os.rmdir(given)


@pytest.fixture
def within(bundle: Bundle) -> Iterator[Bundle]:
    """The runtime is called by root of a user namespace, which goes on from call to call, as rootless podman's does."""
    bundle.give(FIRST)
    with open(f"{bundle.directory}/ids", "w") as file:
        file.write(f"root:{FIRST}:70000\n")
    binds = "".join(f"mount --bind {bundle.directory}/ids /etc/{name} && " for name in ("subuid", "subgid"))
    maps = f"--map-users={FIRST},0,70000 --map-groups={FIRST},0,70000 --setuid 0 --setgid 0"
    line = f"{binds} exec unshare --user --mount {maps} sleep infinity"
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", line]) as holder:
        wait_for(lambda: program(holder.pid) == "sleep")
        bundle.called_by(FIRST, f"exec nsenter --target {holder.pid} --user --mount --setuid 0 --setgid 0")
        yield bundle
        bundle.close()
        bundle.runtime = RUNTIME
        holder.kill()


@pytest.mark.parametrize("own", [False, True], ids=["the caller's users", "users of its own"])
def test_root_of_a_user_namespace(within: Bundle, own: bool) -> None:
    """It needs no other user namespace, and has all the ids of its own."""
    spec = script("id -u; id -G; cat /proc/self/uid_map; echo >/dev/null && echo fine", process__user={"uid": 7, "gid": 8, "additionalGids": [9]})
    if own:
        spec = users(spec, [{"containerID": 0, "hostID": 1000, "size": 5000}])
        within.give(FIRST + 1000)
    text = within.output(spec).split()
    assert text == ["7", "8", "9", "0", "1000" if own else str(FIRST), "5000" if own else "70000", "fine"]
    spec["process"] |= {"args": ["sleep", "1000"]}
    within.running(spec)
    ended = within.verb("exec", "--user", "3:4", within.id, "id", "-u")
    assert ended.out == "3\n", ended


@pytest.mark.parametrize(("value", "code"), [("true", 0), ("auto", 0), ("false", 0), ("maybe", 1)])
def test_rootless_is_seen_and_not_told(bundle: Bundle, value: str, code: int) -> None:
    assert bundle.verb("list", options=("--rootless", value)).code == code
    ended = bundle.verb("list", options=(f"--rootless={value}",))
    assert ended.code == code and (not code or "--rootless: expected true, false or auto" in ended.err)


def owners(group: str) -> dict[str, int]:
    return {name: os.stat(f"{group}/{name}").st_uid for name in (".", *os.listdir(group))}


@pytest.mark.parametrize(("option", "spaces", "uid", "owner"), [
    ("rw", SPACES, 0, 100000), ("rw", SPACES, 5, 100005), ("ro", SPACES, 0, 0), ("rw", SPACES[:5] + SPACES[6:], 0, 0), ("rw", SPACES[:6], 5, 5),
], ids=["root", "another user", "read-only", "no cgroup namespace", "no user namespace"])  # fmt: skip
def test_cgroup_ownership(bundle: Bundle, option: str, spaces: tuple[str, ...], uid: int, owner: int) -> None:
    """runtime-spec, config-linux.md "Cgroup ownership": of cgroup v2, and of that what the kernel lists."""
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}] if "user" in spaces else []
    bundle.give(100000)
    spec = config(process__args=["sleep", "1000"], process__user={"uid": uid, "gid": 0})
    spec["linux"] |= {"namespaces": [{"type": each} for each in spaces], "uidMappings": mapping, "gidMappings": mapping}
    spec["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*SAFE, option]})
    bundle.running(spec)
    with open(f"{bundle.root}/{bundle.id}/state.json") as file:
        fields = json.load(file)
    unified = fields["groups"]["unified"]
    with open("/sys/kernel/cgroup/delegate") as file:
        listed = {".", *file.read().split()}
    found = owners(unified)
    assert {name for name, each in found.items() if each} == ({name for name in found if name in listed} if owner else set())
    assert found["."] == owner
    for controller, group in fields["groups"].items():
        if fields["versions"][controller] == 1:
            assert {*owners(group).values()} == {0}, "cgroup v1 cannot be delegated safely"
    if owner and option == "rw":
        where = "/sys/fs/cgroup/unified" if fields["versions"].get("memory") == 1 else "/sys/fs/cgroup"
        ended = bundle.verb("exec", "--user", f"{uid}:0", bundle.id, "sh", "-c", f"mkdir {where}/inner && echo $$ >{where}/inner/cgroup.procs && cat /proc/self/cgroup")
        assert "0::/inner" in ended.out.split(), ended
