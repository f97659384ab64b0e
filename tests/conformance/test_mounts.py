"""Mounts of config.json with every option that the specification has, each seen from within; each test is named after its rule."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
from bundles import SAFE, Bundle, config, maps_ids_of, script

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]


class Seen:
    """One line of mountinfo: `options` of the mount, `fields` such as `shared:1`, `kind` and `superblock`."""

    def __init__(self, line: str) -> None:
        left, right = line.split(" - ")
        words = left.split()
        self.place = words[4]
        self.options = {*words[5].split(",")}
        self.fields = words[6:]
        self.kind = right.split()[0]
        self.superblock = {*right.split()[2].split(",")}


def seen(text: str) -> dict[str, Seen]:
    """All lines, by their place; of several at one place the last."""
    return {each.place: each for each in map(Seen, text.splitlines())}


def with_mounts(bundle: Bundle, *mounts: dict[str, Any], text: str = "cat /proc/self/mountinfo", **changes: Any) -> str:
    spec = script(text, **changes)
    spec["mounts"] += mounts
    return bundle.output(spec)


def tree(bundle: Bundle) -> str:
    """A directory with a file, on which a tmpfs will be mounted at `sub`."""
    path = f"{bundle.directory}/tree"
    os.makedirs(f"{path}/sub")
    return path


def above(bundle: Bundle, spec: dict[str, Any], *before: str) -> str:
    """What a container prints that is made where something is mounted on tree/sub, in a mount namespace of the caller's own."""
    bundle.write(spec)
    commands = " && ".join([f'mount -t tmpfs x "{bundle.directory}/tree/sub"', *before,
                            f'exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id}'])
    ended = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", commands], capture_output=True, text=True, env=bundle.environment)
    assert ended.returncode == 0, ended
    return ended.stdout


TIMES = {"noatime", "relatime", "nodiratime"}
OPTIONS: list[tuple[list[str], set[str]]] = [
    ([], {"rw", "relatime"}), (["defaults"], {"rw", "relatime"}), (["ro"], {"ro", "relatime"}), (["ro", "rw"], {"rw", "relatime"}),
    (["nosuid"], {"rw", "nosuid", "relatime"}), (["nosuid", "suid"], {"rw", "relatime"}), (["nodev"], {"rw", "nodev", "relatime"}),
    (["nodev", "dev"], {"rw", "relatime"}), (["noexec"], {"rw", "noexec", "relatime"}), (["noexec", "exec"], {"rw", "relatime"}),
    (["noatime"], {"rw", "noatime"}), (["noatime", "atime"], {"rw", "relatime"}), (["relatime"], {"rw", "relatime"}),
    (["noatime", "relatime"], {"rw", "relatime"}), (["strictatime"], {"rw"}), (["strictatime", "nostrictatime"], {"rw", "relatime"}),
    (["strictatime", "norelatime"], {"rw", "relatime"}), (["nodiratime"], {"rw", "nodiratime", "relatime"}),
    (["nodiratime", "diratime"], {"rw", "relatime"}), (["nosymfollow"], {"rw", "relatime", "nosymfollow"}),
    (["nosymfollow", "symfollow"], {"rw", "relatime"}), (["silent"], {"rw", "relatime"}), (["loud"], {"rw", "relatime"}),
    (["iversion", "noiversion"], {"rw", "relatime"}),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_each_option_is_what_it_says(bundle: Bundle, kind: str) -> None:
    """runtime-spec, config.md "Linux mount options"; of two that contradict the later one holds."""
    source: dict[str, Any] = {"type": "tmpfs", "source": "tmpfs"} if kind == "tmpfs" else {"source": tree(bundle)}
    mounts = [{**source, "destination": f"/data/{number}", "options": [*options, *(["bind"] if kind == "bind" else [])]}
              for number, (options, _) in enumerate(OPTIONS)]  # fmt: skip
    found = seen(with_mounts(bundle, *mounts))
    wrong = {" ".join(options): found[f"/data/{number}"].options for number, (options, wanted) in enumerate(OPTIONS)
             if found[f"/data/{number}"].options != wanted}  # fmt: skip
    assert not wrong


def test_options_of_a_file_system_itself(bundle: Bundle) -> None:
    """sync, dirsync, lazytime, mand and their contraries; what is none of ours goes to the file system."""
    table = [(["sync"], {"sync"}), (["sync", "async"], set()), (["dirsync"], {"dirsync"}), (["lazytime"], {"lazytime"}),
             (["lazytime", "nolazytime"], set()), (["size=64k"], {"size=64k"}), (["mode=711"], {"mode=711"}), (["nomand"], set())]  # fmt: skip
    mounts = [{"destination": f"/data/{number}", "type": "tmpfs", "source": "x", "options": options} for number, (options, _) in enumerate(table)]
    found = seen(with_mounts(bundle, *mounts))
    named = {"sync", "dirsync", "lazytime", "size=64k", "mode=711"}
    assert [found[f"/data/{number}"].superblock & named for number in range(len(table))] == [wanted for _, wanted in table]


RECURSIVE: list[tuple[list[str], set[str]]] = [
    (["rro"], {"ro", "relatime"}), (["rnosuid"], {"rw", "nosuid", "relatime"}), (["rnodev"], {"rw", "nodev", "relatime"}),
    (["rnoexec"], {"rw", "noexec", "relatime"}), (["rnoatime"], {"rw", "noatime"}), (["rstrictatime"], {"rw"}),
    (["rnodiratime"], {"rw", "nodiratime", "relatime"}), (["rnosymfollow"], {"rw", "relatime", "nosymfollow"}),
    (["rro", "rrw"], {"rw", "relatime"}), (["rnosuid", "rsuid"], {"rw", "relatime"}), (["rnodev", "rdev"], {"rw", "relatime"}),
    (["rnoexec", "rexec"], {"rw", "relatime"}), (["rnoatime", "ratime"], {"rw", "relatime"}), (["rnoatime", "rrelatime"], {"rw", "relatime"}),
    (["rstrictatime", "rnostrictatime"], {"rw", "relatime"}), (["rstrictatime", "rnorelatime"], {"rw", "relatime"}),
    (["rnodiratime", "rdiratime"], {"rw", "relatime"}), (["rnosymfollow", "rsymfollow"], {"rw", "relatime"}),
]  # fmt: skip


def test_each_recursive_option_is_of_all_that_is_below(bundle: Bundle) -> None:
    source = tree(bundle)
    spec = script("cat /proc/self/mountinfo")
    spec["mounts"] += [{"destination": f"/data/{number}", "source": source, "options": ["rbind", *options]} for number, (options, _) in enumerate(RECURSIVE)]
    found = seen(above(bundle, spec))
    for place in ("", "/sub"):
        wrong = {" ".join(options): found[f"/data/{number}{place}"].options for number, (options, wanted) in enumerate(RECURSIVE)
                 if found[f"/data/{number}{place}"].options != wanted}  # fmt: skip
        assert not wrong, place


def test_what_is_cleared_below_was_set_there(bundle: Bundle) -> None:
    """`rrw` and its like open what the host has closed, which `rw` does of the mount alone."""
    source = tree(bundle)
    spec = script("cat /proc/self/mountinfo")
    spec["mounts"] += [{"destination": "/all", "source": source, "options": ["rbind", "rrw", "rexec", "rsuid", "rdev"]},
                       {"destination": "/one", "source": source, "options": ["rbind", "rw", "exec"]}]
    found = seen(above(bundle, spec, f'mount -o remount,bind,ro,noexec,nosuid,nodev "{source}/sub"'))
    assert found["/all/sub"].options == {"rw", "relatime"}
    assert {"ro", "noexec", "nosuid", "nodev"} <= found["/one/sub"].options


def test_only_rbind_takes_what_is_below(bundle: Bundle) -> None:
    source = tree(bundle)
    spec = script("cat /proc/self/mountinfo")
    spec["mounts"] += [{"destination": "/one", "type": "none", "source": source, "options": ["bind"]},
                       {"destination": "/all", "type": "ext4", "source": source, "options": ["rbind"]}]
    found = seen(above(bundle, spec))
    assert "/one" in found and "/one/sub" not in found and found["/all/sub"].kind == "tmpfs"


PROPAGATIONS = [("shared", ["shared"]), ("slave", []), ("private", []), ("unbindable", ["unbindable"]),
                ("rshared", ["shared"]), ("rslave", []), ("rprivate", []), ("runbindable", ["unbindable"])]


def test_each_propagation_is_what_it_says(bundle: Bundle) -> None:
    """The `r` ones of all that is below; the others of the mount alone, what is below stays as it was."""
    source = tree(bundle)
    spec = script("cat /proc/self/mountinfo")
    spec["mounts"] += [{"destination": f"/{name}", "source": source, "options": ["rbind", name]} for name, _ in PROPAGATIONS]
    found = seen(above(bundle, spec))
    for name, fields in PROPAGATIONS:
        assert [each.partition(":")[0] for each in found[f"/{name}"].fields] == fields, name
        assert [each.partition(":")[0] for each in found[f"/{name}/sub"].fields] == (fields if name.startswith("r") else []), name


def test_a_slave_sees_what_the_host_mounts_later(bundle: Bundle) -> None:
    """As `podman run -v DIR:DIR:rslave`: with a host whose mount is shared; private sees nothing, and nothing ever goes to the host."""
    source = tree(bundle)
    spec = script("echo ready; read line; test -e /slave/sub/file && echo slave; test -e /private/sub/file || echo not private; "
                  "mount -t tmpfs x /slave/sub 2>/dev/null; mkdir -p /slave/mine")
    spec["mounts"] += [{"destination": "/slave", "source": source, "options": ["rbind", "rslave"]},
                       {"destination": "/private", "source": source, "options": ["rbind", "rprivate"]}]
    spec["linux"]["rootfsPropagation"] = "rslave"
    bundle.write(spec)
    lines = (f'mount --bind "{source}" "{source}" && mount --make-shared "{source}" && mkfifo "{source}/in" && '
             f'{{ "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id} <"{source}/in" >"{source}/out" 2>&1 & }} && '
             f'exec 9>"{source}/in" && until grep -q ready "{source}/out"; do sleep 0.02; done && mount -t tmpfs x "{source}/sub" && '
             f'touch "{source}/sub/file" && echo >&9 && wait && cat "{source}/out"')
    ended = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", lines], capture_output=True, text=True, env=bundle.environment)
    assert ended.stdout == "ready\nslave\nnot private\n", ended


def test_mounts_are_listed_in_their_order(bundle: Bundle) -> None:
    """runtime-spec: "The runtime MUST mount entries in the listed order"; mountinfo shows it so, since Linux 6.8 by the age of mounts."""
    source = tree(bundle)
    with open(f"{bundle.directory}/file", "w"):
        pass
    names = ["tmpfs", "bind", "tmpfs", "file", "rbind", "tmpfs"]
    spec = config(process__args=["cat", "/proc/self/mountinfo"])
    for number, name in enumerate(names):
        fields = {"tmpfs": {"type": "tmpfs", "source": "x"}, "file": {"source": f"{bundle.directory}/file", "options": ["bind"]}}.get(
            name, {"source": source, "options": [name]})  # fmt: skip
        spec["mounts"].append({"destination": f"/m/{number}", **fields})
    wanted = [each["destination"] for each in spec["mounts"]]
    found = [each.place for each in map(Seen, above(bundle, spec).splitlines())]
    assert [each for each in found if each in wanted] == wanted


def test_a_later_mount_covers_an_earlier_one(bundle: Bundle) -> None:
    source = tree(bundle)
    with open(f"{source}/file", "w"):
        pass
    text = with_mounts(bundle, {"destination": "/data", "source": source, "options": ["bind"]}, {"destination": "/data", "type": "tmpfs", "source": "x"},
                       {"destination": "/data/deep", "source": source, "options": ["bind"]}, text="ls /data /data/deep")
    assert text.split() == ["/data:", "deep", "/data/deep:", "file", "sub"]


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_ids_are_mapped_as_the_containers(bundle: Bundle, option: str) -> None:
    """`idmap` of the mount alone, `ridmap` of all below; without mappings of their own through the container's."""
    source = tree(bundle)
    if not maps_ids_of(source):
        pytest.skip("this kernel cannot have the ids of this file system mapped")
    bundle.give(100000)
    spaces = [{"type": each} for each in ("pid", "mount", "user")]
    spec = script("stat -c %u /data /data/sub", linux__namespaces=spaces, linux__uidMappings=MAPPING, linux__gidMappings=MAPPING)
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in ("/sys", "/dev/mqueue")]
    spec["mounts"].append({"destination": "/data", "source": source, "options": ["rbind", option]})
    assert above(bundle, spec).split() == ["0", "0" if option == "ridmap" else "65534"]


def test_an_idmap_needs_a_mapping(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/data", "source": bundle.directory, "options": ["bind", "idmap"]})
    assert "mounts[5].uidMappings: is required: the container has no user namespace" in bundle.refused(spec)
    spec["mounts"][-1] |= {"uidMappings": MAPPING}
    assert "mounts[5].gidMappings: is required where the other is" in bundle.refused(spec)
    spec["mounts"][-1] = {"destination": "/data", "type": "tmpfs", "source": "x", "options": ["idmap"]}
    assert "ids are mapped of bind mounts only" in bundle.refused(spec)


def test_an_option_that_only_crun_has_is_an_error(bundle: Bundle) -> None:
    """Passed over, it would show other files than are meant, or other owners."""
    for option in ("idmap=uids=0-1000-1;gids=0-1000-1", "ridmap=uids=0-1000-1", "src-nofollow", "dest-nofollow", "copy-symlink"):
        spec = config()
        spec["mounts"].append({"destination": "/data", "source": bundle.directory, "options": ["bind", option]})
        line = bundle.refused(spec)
        assert f"mounts[5].options: `{option}` is an option of crun's alone" in line and ("uidMappings" in line) == ("idmap" in option), line


def test_tmpcopyup_is_for_a_tmpfs(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/data", "source": bundle.directory, "options": ["bind", "tmpcopyup"]})
    assert "`tmpcopyup` is for a tmpfs" in bundle.refused(spec)


def test_an_unknown_file_system_is_named(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/data", "type": "nonsensefs", "source": "x"})
    assert "nonsensefs for /data" in (line := bundle.refused(spec)) and "this kernel has no file system `nonsensefs`" in line


def test_an_option_that_a_file_system_has_not_is_named(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "x", "options": ["nonsense=5"]})
    assert "Unknown parameter 'nonsense'" in bundle.refused(spec)


def test_a_source_that_is_not_there_is_named(bundle: Bundle) -> None:
    spec = config()
    spec["mounts"].append({"destination": "/data", "source": "/nonexistent/dir", "options": ["bind"]})
    assert "/nonexistent/dir" in (line := bundle.refused(spec)) and "it does not exist on this host" in line


def test_a_source_through_a_link_is_what_it_leads_to(bundle: Bundle) -> None:
    source = tree(bundle)
    os.symlink(source, f"{bundle.directory}/link")
    assert with_mounts(bundle, {"destination": "/data", "source": "link", "options": ["bind"]}, text="ls /data") == "sub\n"


@pytest.mark.parametrize("where", ["absolute", "relative", "upwards"])
def test_a_destination_through_a_link_stays_in_the_rootfs(bundle: Bundle, where: str) -> None:
    os.makedirs(f"{bundle.rootfs}/real")
    target = {"absolute": "/real", "relative": "real", "upwards": "../../../../../../real"}[where]
    os.symlink(target, f"{bundle.rootfs}/link")
    text = with_mounts(bundle, {"destination": "/link/here", "type": "tmpfs", "source": "x", "options": ["size=64k"]})
    assert seen(text)["/real/here"].kind == "tmpfs" and os.path.isdir(f"{bundle.rootfs}/real/here")


def test_a_place_that_is_made_has_the_kind_of_its_source(bundle: Bundle) -> None:
    """A file for a file (a socket, a node), a directory for a directory."""
    with open(f"{bundle.directory}/file", "w") as file:
        file.write("text\n")
    text = with_mounts(bundle, {"destination": "/made/file", "source": "file", "options": ["bind"]},
                       {"destination": "/made/null", "source": "/dev/null", "options": ["bind"]},
                       {"destination": "/made/dir", "source": bundle.directory, "options": ["bind"]},
                       text="cat /made/file; stat -c %F /made/null /made/dir")
    assert text.splitlines() == ["text", "character special file", "directory"]


def test_a_shared_mount_of_the_host_stays_so(bundle: Bundle) -> None:
    """As `docker run -v DIR:DIR:rshared` and Kubernetes' Bidirectional ask for it, with a rootfs that is shared, too: what is mounted
    in it is seen on the host, what is mounted elsewhere in the rootfs is not."""
    source = tree(bundle)
    spec = script("mount -t tmpfs x /data/sub && touch /data/sub/file && mount -t tmpfs y /tmp && touch /tmp/own && echo done; read line",
                  process__capabilities={each: ["CAP_SYS_ADMIN"] for each in ("bounding", "effective", "permitted")}, linux__rootfsPropagation="rshared")
    spec["mounts"].append({"destination": "/data", "source": source, "options": ["rbind", "rshared"]})
    bundle.write(spec)
    lines = (f'mount --bind "{bundle.directory}" "{bundle.directory}" && mount --make-shared "{bundle.directory}" && cd "{bundle.directory}" && mkfifo in && '
             f'{{ "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id} <in >out 2>&1 & }} && exec 9>in && '
             f'while kill -0 $! && ! grep -q done out; do sleep 0.02; done; ls tree/sub rootfs/tmp; echo >&9; wait; cat out')
    ended = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", lines], capture_output=True, text=True, env=bundle.environment)
    assert ended.stdout.split() == ["rootfs/tmp:", "tree/sub:", "file", "done"], ended


@pytest.mark.parametrize(("kind", "inside"), [("shared", "shared"), ("slave", "master"), ("private", ""), ("unbindable", "unbindable"),
                                              ("rshared", "shared"), ("rslave", "master"), ("rprivate", ""), ("runbindable", "unbindable")])
def test_rootfs_propagation(bundle: Bundle, kind: str, inside: str) -> None:
    """linux.rootfsPropagation: of a rootfs that is a shared mount of the host."""
    spec = script("cat /proc/self/mountinfo", linux__rootfsPropagation=kind)
    bundle.write(spec)
    lines = (f'mount --bind "{bundle.rootfs}" "{bundle.rootfs}" && mount --make-shared "{bundle.rootfs}" && '
             f'exec "{bundle.runtime}" --root "{bundle.root}" run -b "{bundle.directory}" {bundle.id}')
    ended = subprocess.run(["unshare", "-m", "--propagation", "private", "sh", "-c", lines], capture_output=True, text=True, env=bundle.environment)
    assert ended.returncode == 0, ended
    assert [each.partition(":")[0] for each in seen(ended.stdout)["/"].fields] == ([inside] if inside else []), ended.stdout


def test_masked_paths_of_each_kind(bundle: Bundle) -> None:
    """A file reads as empty and takes nothing, a directory is empty and read-only, what is not there is passed over."""
    for name in ("dir", "other"):
        os.makedirs(f"{bundle.rootfs}/{name}")
        with open(f"{bundle.rootfs}/{name}/file", "w") as file:
            file.write("secret\n")
    text = bundle.output(script("ls /dir | wc -l; touch /dir/x 2>/dev/null || echo closed; cat /other/file | wc -c; echo x >/other/file; cat /other/file",
                                linux__maskedPaths=["/dir", "/other/file", "/nonexistent", "/other/file/below"]))
    assert text.split() == ["0", "closed", "0"]
    with open(f"{bundle.rootfs}/other/file") as file:
        assert file.read() == "secret\n"


def test_read_only_paths_of_each_kind(bundle: Bundle) -> None:
    """With all that is below them; one that is not there is passed over."""
    os.makedirs(f"{bundle.rootfs}/dir/deep")
    with open(f"{bundle.rootfs}/file", "w") as file:
        file.write("text\n")
    spec = script("touch /dir/x 2>/dev/null || echo closed; touch /dir/deep/x 2>/dev/null || echo closed; (echo >/file) 2>/dev/null || echo closed; cat /file;"
                  "touch /dir/mounted/x 2>/dev/null || echo closed", linux__readonlyPaths=["/dir", "/file", "/nonexistent"])
    spec["mounts"].append({"destination": "/dir/mounted", "type": "tmpfs", "source": "x", "options": SAFE})
    assert bundle.output(spec).split() == ["closed", "closed", "closed", "text", "closed"]
