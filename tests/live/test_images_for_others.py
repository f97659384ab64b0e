"""What `dolium commit` and `save` make is read by skopeo, podman, umoci and docker."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile

import pytest
from archives import archive, entry
from test_commit import good, host, layout, made, root_of
from test_export import WRITES, everything
from test_tarballs import Host

__all__ = ["host", "made", "root_of"]


def needs(*programs: str) -> None:
    for each in programs:
        if not shutil.which(each):
            pytest.skip(f"no {each} here")


def test_skopeo_reads_it(host: Host, root_of: str, folder: str) -> None:
    needs("skopeo")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    image = good(host, "commit", "-q", "c", "my/app:1").strip()
    good(host, "save", "-o", f"{folder}/d.tar", "my/app:1")
    layout(host, folder, "my/app:1")
    layout(host, folder, "my/app:1", form="oci-archive")
    for at, source in enumerate((f"docker-archive:{folder}/d.tar:my/app:1", f"oci:{folder}/oci-dir:1", f"oci-archive:{folder}/oci-archive")):
        subprocess.run(["skopeo", "inspect", source], check=True, capture_output=True)
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, f"dir:{folder}/copy{at}"], check=True)
        assert image.partition(":")[2] in os.listdir(f"{folder}/copy{at}"), "the config is the same byte for byte"


@pytest.mark.needs_root
def test_podman_loads_and_runs_it(host: Host, root_of: str, folder: str) -> None:
    if host.uid:
        pytest.skip("podman is root's here")
    needs("podman")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    image = good(host, "commit", "-q", "c", "my/app:1").strip().partition(":")[2]
    good(host, "import", "-", "other:2", input=archive(entry("x")))
    podman = ["podman", "--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    try:
        good(host, "save", "-o", f"{folder}/d.tar", "my/app:1", "other:2")
        layout(host, folder, "my/app:1", form="oci-archive")
        for each in ("d.tar", "oci-archive"):
            subprocess.run([*podman, "load", "-q", "-i", f"{folder}/{each}"], check=True, capture_output=True)
            found = subprocess.run([*podman, "images", "-q", "--no-trunc", "docker.io/my/app:1"], check=True, capture_output=True, text=True)
            assert found.stdout.strip() == f"sha256:{image}"
        mounted = subprocess.run([*podman, "image", "mount", "my/app:1"], check=True, capture_output=True, text=True).stdout.strip()
        with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
            _must_be_in(mounted, exported)
    finally:
        subprocess.run([*podman, "image", "umount", "-a"], capture_output=True)
        subprocess.run(["rm", "-rf", f"{folder}/store", f"{folder}/run"], check=True)


def test_umoci_unpacks_it(host: Host, root_of: str, folder: str) -> None:
    needs("umoci")
    if host.uid:
        pytest.skip("owners are root's to give")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    good(host, "commit", "-q", "c", "my/app:1")
    path = layout(host, folder, "my/app:1")
    subprocess.run(["umoci", "unpack", "--image", f"{path}:1", f"{folder}/bundle"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
        _must_be_in(f"{folder}/bundle/rootfs", exported)


def _must_be_in(top: str, exported: tarfile.TarFile, but: tuple[str, ...] = ()) -> None:
    """Every entry of an archive is below a directory, as it is, and nothing else."""
    for name, (_, mode, uid, gid, mtime, size, target, _, content) in everything(exported).items():
        if name in but:
            continue
        path = f"{top}/{name}"
        status = os.lstat(path)
        member = exported.getmember(name)
        if name != ".":
            assert (status.st_uid, status.st_gid) == (uid, gid), name
            if not member.issym():
                assert status.st_mode & 0o7777 == mode, name
        if member.isreg():
            with open(path, "rb") as file:
                assert file.read() == content, name
            assert abs(status.st_mtime - mtime) < 1 and status.st_size == size, name
        elif member.islnk():
            assert os.path.samefile(path, f"{top}/{target}"), name
        elif member.issym():
            assert os.readlink(path) == target, name
    found = {os.path.relpath(f"{directory}/{each}", top) for directory, names, files in os.walk(top) for each in (*names, *files)}
    assert found == {each for each in exported.getnames() if each != "." and each not in but}


def test_others_unpack_it_alike(host: Host, made: str, folder: str) -> None:
    needs("umoci")
    if host.uid:
        pytest.skip("owners are root's to give")
    good(host, "commit", "-q", "c", "next:1")
    subprocess.run(["umoci", "unpack", "--image", f"{layout(host, folder, 'next:1')}:1", f"{folder}/bundle"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
        _must_be_in(f"{folder}/bundle/rootfs", exported, but=("etc/resolv.conf", "data"))  # a volume is of no layer


DOCKERD = """
mount -t tmpfs none /run && ip link set lo up
dockerd --data-root "$1/docker" --exec-root /run/docker -H unix:///run/docker.sock --iptables=false --ip6tables=false --bridge=none -s vfs \\
    --pidfile /run/docker.pid >"$1/dockerd.log" 2>&1 &
for at in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
docker load -q -i "$1/saved.tar" && docker inspect --format '{{.Id}}' my/app:1 other:2 &&
docker create --name made my/app:1 >/dev/null && docker export -o "$1/docker.tar" made &&
docker import "$1/exported.tar" again:1 >/dev/null && docker create --name remade again:1 x >/dev/null && docker export -o "$1/again.tar" remade
code=$?
kill $(cat /run/docker.pid)
wait
exit $code
"""


@pytest.mark.needs_root
def test_docker_loads_it(host: Host, made: str, folder: str) -> None:
    """In namespaces of its own, with a daemon that ends with them."""
    if host.uid:
        pytest.skip("docker is root's")
    needs("dockerd", "docker", "containerd", "unshare", "ip")
    image = good(host, "commit", "-q", "c", "my/app:1").strip()
    other = good(host, "import", "-", "other:2", input=archive(entry("x"))).strip()
    good(host, "save", "-o", f"{folder}/saved.tar", "my/app:1", "other:2")
    good(host, "export", "-o", f"{folder}/exported.tar", "c")
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    done = subprocess.run([*words, "sh", "-c", DOCKERD, "sh", folder], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "DOCKER_HOST": "unix:///run/docker.sock"})  # fmt: skip
    subprocess.run(["rm", "-rf", f"{folder}/docker"], check=True)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-2:] == [image, other]
    with tarfile.open(f"{folder}/exported.tar") as ours:
        wanted = everything(ours)
    for name in ("docker.tar", "again.tar"):
        with tarfile.open(f"{folder}/{name}") as theirs:
            found = everything(theirs)
        for path, each in wanted.items():
            if path in (".", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "dev", "etc", "proc", "sys", "data"):
                continue  # docker puts its own there
            other_kind, mode, *_, content = found[path]
            assert (mode & 0o7777, *found[path][2:4], found[path][6]) == (*each[1:4], each[6]), path
            assert other_kind == (tarfile.REGTYPE if each[0] == tarfile.GNUTYPE_SPARSE else each[0]) and content == each[-1], path
