"""Slurm drives `dolium-oci`, wired as docs/howto/slurm.md says: two nodes on one machine, and what a step sees is what it sees with runc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import wait_for
from lab import Lab
from pages import files

NEEDS = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "srun": "slurm-wlm", "munged": "munge", "runc": "runc", "setpriv": "util-linux"}
OCI = "/etc/slurm/oci.conf"
HERE = """\
ClusterName=lab
SlurmctldHost=vm(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/sctl
SlurmdSpoolDir=/var/spool/sd-%n
SlurmctldPidFile=/run/sctl.pid
SlurmdPidFile=/run/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=3
NodeName=n1 NodeHostname=vm NodeAddr=127.0.0.1 Port=17001 CPUs=2 State=UNKNOWN
NodeName=n2 NodeHostname=vm NodeAddr=127.0.0.1 Port=17002 CPUs=2 State=UNKNOWN
PartitionName=p Nodes=n1,n2 Default=YES MaxTime=10 State=UP
"""
DAEMONS = {"munged": "setpriv --reuid=munge --regid=munge --clear-groups munged --force --foreground", "slurmctld": "slurmctld -D", "n1": "slurmd -D -N n1", "n2": "slurmd -D -N n2"}


@pytest.fixture(scope="module")
def machine(lab: Lab, tarball: str) -> Iterator[Lab]:
    lab.write({"/etc/slurm/slurm.conf": HERE, **files("slurm.md")})
    made = lab.sh(
        f"""ip link add net0 type bridge; ip addr add 192.0.2.1/24 dev net0; ip link set net0 up  # names are found only where there is a network
        grep -q ' vm$' /etc/hosts || echo 127.0.0.1 vm >>/etc/hosts
        mkdir -p /var/spool/sctl /var/spool/sd-n1 /var/spool/sd-n2 /var/log/munge /run/munge /var/lib/munge
        dd if=/dev/urandom of=/etc/munge/munge.key bs=1k count=1 status=none; chown munge: /etc/munge /etc/munge/munge.key /run/munge /var/log/munge /var/lib/munge
        chmod 400 /etc/munge/munge.key; mkdir -p /srv/bundle/rootfs && tar -xzf {tarball} -C /srv/bundle/rootfs &&
        dolium-oci spec --bundle /srv/bundle && sed -i 's/"terminal": true/"terminal": false/' /srv/bundle/config.json""")
    assert made.code == 0, made
    daemons = []
    try:
        for name, line in DAEMONS.items():
            daemons.append(lab.start(line, f"{lab.directory}/{name}.log"))
        wait_for(lambda: "idle" in lab.sh("sinfo -h -N -o %t").stdout and lab.sh("sinfo -h -N -t idle -o %N").stdout.split() == ["n1", "n2"], 60)
        lab.settled()
        yield lab
    finally:
        for each in daemons:
            each.kill()
            each.wait()


def wire(machine: Lab, runtime: str) -> None:
    """A step reads oci.conf when it begins."""
    text = files("slurm.md")[OCI]
    machine.write({OCI: text if runtime == "dolium" else text.replace("/usr/local/bin/dolium-oci", "/usr/sbin/runc").replace("dolium-slurm", "runc-slurm")})


@pytest.fixture(params=["dolium", "runc"])
def runtime(machine: Lab, request: pytest.FixtureRequest) -> str:
    name: str = request.param
    wire(machine, name)
    return name


def test_steps_in_containers(machine: Lab, runtime: str) -> None:
    said = machine.sh("srun -N2 -n2 --container=/srv/bundle sh -c 'cat /etc/alpine-release; echo said' | sort", 60)
    assert said.stdout == "3.20.3\n3.20.3\nsaid\nsaid\n", said
    said = machine.sh("echo data | srun -n1 --container=/srv/bundle sh -c 'cat; exit 5' 2>/dev/null; echo $?", 60)
    assert said.stdout == "data\n5\n", said
    assert not machine.left()


def test_a_step_that_is_cancelled(machine: Lab, runtime: str) -> None:
    said = machine.sh(
        f"""srun -n1 --container=/srv/bundle sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done' >/dev/null 2>&1 & job=$!
        until ls /run/{runtime}-slurm 2>/dev/null | grep -q n1; do sleep 0.1; done; sleep 0.5
        scancel -u root; wait $job; echo $?; until [ -z "$(squeue -h)" ]; do sleep 0.1; done; ls /run/{runtime}-slurm""", 90)  # fmt: skip
    assert said.stdout == "143\n", said
    assert not machine.left()


def test_back_again(machine: Lab) -> None:
    """New steps are runc's, one of Dolium's goes on and is cancelled; without the file a step with --container is refused."""
    wire(machine, "dolium")
    machine.sh("""setsid srun -n1 --container=/srv/bundle sh -c 'trap "exit 7" TERM; while :; do sleep 0.1; done' >/dev/null 2>&1 &
        until ls /run/dolium-slurm 2>/dev/null | grep -q n1; do sleep 0.1; done; sleep 0.5""", 60)  # fmt: skip
    wire(machine, "runc")
    said = machine.sh("srun -n1 --container=/srv/bundle sh -c 'cat /etc/alpine-release; sleep 2' & sleep 1; ls /run/runc-slurm | grep -c n; wait", 60)
    assert said.stdout == "3.20.3\n1\n", said
    said = machine.sh('scancel -u root; until [ -z "$(squeue -h)" ]; do sleep 0.1; done; ls /run/dolium-slurm', 60)
    assert (said.code, said.stdout) == (0, ""), said
    machine.sh(f"rm {OCI}")
    said = machine.sh("srun -n1 --container=/srv/bundle cat /etc/alpine-release; echo $?", 60)
    assert said.stdout == "1\n", said
    assert not machine.left()
