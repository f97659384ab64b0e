"""What Docker calls its flags and commands: ours, or answered by name with what to do instead."""

import pytest
from test_flags import TABLE, refused

from dolium.cli import docker, flags, main
from dolium.errors import UsageError

# Every flag of `docker run` and `docker create`, Docker 28, with the aliases that its help does not show.
_FLAGS = """add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile
    cpu-count cpu-percent cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems
    detach detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops
    disable-content-trust dns dns-opt dns-option dns-search domainname entrypoint env env-file expose gpus group-add
    health-cmd health-interval health-retries health-start-interval health-start-period health-timeout help hostname
    init interactive io-maxbandwidth io-maxiops ip ip6 ipc isolation kernel-memory label label-file link
    link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount name
    net net-alias network network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform
    privileged publish publish-all pull quiet read-only restart rm runtime security-opt shm-size sig-proxy
    stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit use-api-socket user userns uts volume volume-driver
    volumes-from workdir"""
DOCKER = _FLAGS.split()
DOCKER_SHORT = "acdehilmPpqtuvw"
_COMMANDS = """attach build builder buildx checkpoint commit compose config container context cp create diff
    events exec export history image images import info inspect kill load login logout logs manifest network node
    pause plugin port ps pull push rename restart rm rmi run save search secret service stack start stats stop swarm
    system tag top trust unpause update version volume wait"""
DOCKER_COMMANDS = _COMMANDS.split()


@pytest.mark.parametrize("name", DOCKER)
def test_every_flag_of_docker_is_ours_or_answered_by_name(name):
    if name in TABLE or name in flags.ALIASES:
        assert name not in docker.FLAGS, "it exists now: take it out of the advice"
        return
    for words in ([f"--{name}", "x"], [f"--{name}=x"]):
        error = refused(*words)
        assert isinstance(error, UsageError)
        assert str(error) == f"dolium has no `--{name}`"
        assert error.hint == docker.FLAGS[name]


@pytest.mark.parametrize("letter", DOCKER_SHORT)
def test_every_letter_of_docker_is_ours_or_answered_by_name(letter):
    ours = {flag.short for flag in TABLE.values()}
    assert (letter in ours) != (letter in docker.SHORT)
    if letter not in ours:
        error = refused(f"-{letter}", "x")
        assert f"`-{letter}`" in str(error) and error.hint == docker.FLAGS[docker.SHORT[letter]]


@pytest.mark.parametrize("name", docker.FLAGS)
def test_advice_is_about_flags_that_exist(name):
    assert name in DOCKER
    for word in docker.FLAGS[name].replace("`", " ").replace(":", " ").split():
        if word.startswith("--") and word not in ("--runtime",):
            assert word[2:] in TABLE, word


@pytest.mark.parametrize("name", DOCKER_COMMANDS)
def test_every_command_of_docker_is_ours_or_answered_by_name(name):
    if name in main.COMMANDS:
        assert name not in docker.COMMANDS
        return
    error = docker.unknown_command(name, main.COMMANDS)
    assert str(error) == f"dolium has no `{name}`"
    assert error.hint == docker.COMMANDS[name]


def test_a_misspelt_command():
    assert docker.unknown_command("rnu", main.COMMANDS).hint == "did you mean `run`?"
    assert docker.unknown_command("explian", main.COMMANDS).hint == "did you mean `explain`?"
    assert docker.unknown_command("biuld", main.COMMANDS).hint.startswith("did you mean `build`? Dolium does not")
    assert "--help" in docker.unknown_command("zzzzzzzz", main.COMMANDS).hint
