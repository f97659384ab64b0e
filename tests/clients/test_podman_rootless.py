"""Podman of a plain user, with ids of its own (/etc/subuid), drives `dolium-oci`, wired as docs/howto/podman.md says, and sees what it sees
with runc.  Its store is on a disk; its network, where it has one, is slirp4netns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alike import frozen, limits
from lab import GROUPS, V2, Lab, Pair
from pages import files
from test_podman import HERE, IMAGE
from test_podman import NEEDS as OF_ROOT

NEEDS = {**OF_ROOT, "slirp4netns": "slirp4netns", "newuidmap": "uidmap", "setpriv": "util-linux"}
HOME, STORE, RUN = "/home/plain", "/var/lib/containers/plain", "/run/plain"
GROUP = "/plain"
"""On cgroup v2 it is his, as systemd gives one to each session; his processes are in one below it."""
USER = f"setpriv --reuid plain --regid plain --clear-groups env -i HOME={HOME} USER=plain XDG_RUNTIME_DIR={RUN} PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin podman"
STORAGE = f'[storage]\ndriver = "overlay"\ngraphroot = "{STORE}/storage"\nrunroot = "{RUN}/containers"\n'


@pytest.fixture(scope="module")
def podman(lab: Lab, tarball: str) -> Iterator[Pair]:
    lab.write({**HERE, **files("podman.md"), f"{HOME}/.config/containers/storage.conf": STORAGE})
    made = lab.sh(f"""id plain >/dev/null 2>&1 || useradd --home-dir {HOME} plain; grep -q ^plain: /etc/subuid || echo plain:400000:65536 | tee -a /etc/subuid >>/etc/subgid
        {f"mkdir -p {GROUPS}{GROUP}/session {GROUPS}{GROUP}/pods && chown -R plain: {GROUPS}{GROUP}" if V2 else ""}
        mkdir -p {STORE} {RUN} && chown -R plain: {HOME} {STORE} {RUN} && chmod 700 {RUN} && chmod o+x /var/lib/containers; chmod 666 /dev/net/tun; cd {HOME}
        {USER} import {tarball} {IMAGE} && {USER} run --rm --network none {IMAGE} true""")
    assert made.code == 0, made
    lab.settled()
    yield Pair(lab, {name: {"podman": way, "run": f"{way} run --network none", "I": IMAGE} for name, way in (("dolium", USER), ("runc", f"{USER} --runtime runc"))})


def same(podman: Pair, script: str, wanted: str) -> None:
    podman.same(f"cd {HOME}\n{script}", wanted)


def test_users(podman: Pair) -> None:
    same(podman, "$run --rm $I sh -c 'id -u; cut -c 11- /proc/self/uid_map | tr -s \" \"; touch /x; stat -c %u /x'", "^0\n.* 1\n [0-9]+ 65536\n0\n")
    same(podman, "$run --rm -u 1000:1000 --cap-drop ALL --read-only $I sh -c 'exec 2>&1; id -u; touch /x; grep CapEff /proc/self/status'",
         "1000\ntouch: /x: Read-only file system\nCapEff:\t0000000000000000\n")  # fmt: skip
    same(podman, "[ $($run --rm --userns keep-id $I id -u) = $(id -u plain) ] && echo the same", "the same\n")
    same(podman, f"$run --rm -v {HOME}:/h $I touch /h/made; stat -c %U made; rm made", "plain\n")


def test_networks(podman: Pair) -> None:
    same(podman, "$podman run --rm $I ls /sys/class/net; $podman run --rm --network host $I readlink /proc/self/ns/net | grep -cF $(readlink /proc/self/ns/net)", "lo\ntap0\n1\n")


def test_a_life(podman: Pair) -> None:
    same(
        podman,
        """$run -d --name c1 $I sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' >/dev/null
        $podman exec c1 id -u; $podman exec -u 5 c1 id -u; echo in | $podman exec -i c1 cat; $podman cp /etc/hostname c1:/h; $podman exec c1 stat -c %u /h
        $podman stop -t 5 c1; $podman inspect c1 --format '{{.State.ExitCode}}'; $podman start c1; $podman kill c1; $podman wait c1; $podman rm c1
        $run --rm -it $I tty 2>/dev/null; $run --rm $I nope 2>/dev/null; echo $?; $run --rm --init $I cat /proc/1/comm; $run --rm $I sh -c 'exit 3'; echo $?""",
        "0\n5\nin\n0\nc1\n9\nc1\nc1\n137\nc1\n/dev/pts/0\n127\npodman-init\n3\n",
    )


def test_more_rights_and_a_pod(podman: Pair) -> None:
    same(podman, "$run --rm --privileged $I sh -c 'mount -t tmpfs none /mnt && echo mounted'", "mounted\n")
    same(podman, """$podman pod create --name pp --network none --infra-image $I --infra-command 'sleep 1000' >/dev/null
        $podman run --rm --pod pp $I hostname; $podman pod rm -f -t 0 pp >/dev/null""", "pp\n")  # fmt: skip


def test_no_cgroups(podman: Pair) -> None:
    """runc cannot do it."""
    done = podman.lab.sh(f"cd {HOME}; {USER} run --rm --network none --cgroups=disabled {IMAGE} echo runs")
    assert done.stdout == "runs\n", done
    assert not podman.lab.left()


@pytest.mark.skipif(not V2, reason="only groups of cgroup v2 alone can be given to a plain user")
def test_limits_in_a_group_of_his_own(podman: Pair) -> None:
    """Podman makes its groups there when it is told so; else none, and a limit is an error."""
    now = limits("plain/pods/libpod-*")
    same(
        podman,
        f"""echo $$ >{GROUPS}{GROUP}/session/cgroup.procs; there="--cgroup-parent {GROUP}/pods"
        $run $there -d --name c1 -m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0-1 $I sleep 1000 >/dev/null; {now}
        $podman update -m 80m --cpus 0.3 c1 >/dev/null; echo $?; {now} | sed -n '1p;3p'
        $podman exec c1 cat /proc/self/cgroup /sys/fs/cgroup/memory.max
        $podman pause c1 2>/dev/null; {frozen("plain/pods/libpod-*")}; $podman unpause c1 2>/dev/null; $podman rm -f -t 0 c1
        $run $there --rm -m 20m $I sh -c 'x=a; while :; do x=$x$x; done'; echo $?; ls {GROUPS}{GROUP}/pods | grep -c libpod""",
        "67108864\n134217728\n50000\n1024\n50\n0-1\n0\n83886080\n30000\n0::/\n83886080\nc1\nFROZEN\nc1\nc1\n137\n0\n",
    )
    refused = podman.lab.sh(f"cd {HOME}; {USER} run --rm --network none -m 64m {IMAGE} true")
    assert refused.code == 126 and "that is delegated to you" in refused.stderr, refused
