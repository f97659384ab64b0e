"""What Docker's command line has and this one has not (yet), each with what to do instead.

Imported only after something was not found among our own names.  An entry leaves this table when its feature lands;
a test holds the table against Docker's own list, so that every name is answered by one side or the other.
"""

from dolium.engine.nearest import did_you_mean, nearest
from dolium.errors import SpecError, UsageError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# docker run, docker create: the long flags ...
FLAGS = {
    "annotation": "annotations are for `dolium-oci` and its config.json; use `--label`",
    "attach": "standard output and error are always yours; for standard input write `-i`",
    "blkio-weight": "limits on block devices do not exist yet; leave it out",
    "blkio-weight-device": "limits on block devices do not exist yet; leave it out",
    "cgroup-parent": "groups are placed by Dolium; to choose the place use `dolium-oci` and `linux.cgroupsPath`",
    "cgroupns": "a container always has a cgroup namespace of its own; leave it out",
    "cidfile": "write `dolium run -d ... > FILE`: it prints the id and nothing else",
    "cpu-count": "exists on Windows only; use `--cpus`",
    "cpu-percent": "exists on Windows only; use `--cpus`",
    "cpu-period": "use `--cpus`: `--cpus 0.5` is half of every period",
    "cpu-quota": "use `--cpus`: a quota of 50000 in a period of 100000 is `--cpus 0.5`",
    "cpu-rt-period": "real-time scheduling is not offered; use `--cpus` or `--cpu-weight`",
    "cpu-rt-runtime": "real-time scheduling is not offered; use `--cpus` or `--cpu-weight`",
    "cpuset-mems": "memory nodes cannot be chosen yet; use `--cpuset-cpus` with the CPUs of one node",
    "detach-keys": "what runs detached cannot be attached to; `dolium logs -f` follows it",
    "device-cgroup-rule": "name each device instead: `--device /dev/SRC[:/dev/DST[:rwm]]`",
    "device-read-bps": "limits on block devices do not exist yet; leave it out",
    "device-read-iops": "limits on block devices do not exist yet; leave it out",
    "device-write-bps": "limits on block devices do not exist yet; leave it out",
    "device-write-iops": "limits on block devices do not exist yet; leave it out",
    "disable-content-trust": "signatures are not checked, digests always are; leave it out",
    "domainname": "the NIS domain name is not offered; for the host's name use `--hostname`",
    "expose": "every port of a container can be reached on the bridge; publishing ports does not exist yet",
    "gpus": "name the device files yourself, such as `--device /dev/nvidia0` or `--device /dev/dri/renderD128`",
    "group-add": "further groups do not exist yet; `--user USER:GROUP` chooses the one",
    "health-cmd": "health checks do not exist yet; run the check yourself, or bound the run with `--timeout`",
    "health-interval": "health checks do not exist yet; leave it out",
    "health-retries": "health checks do not exist yet; leave it out",
    "health-start-interval": "health checks do not exist yet; leave it out",
    "health-start-period": "health checks do not exist yet; leave it out",
    "health-timeout": "health checks do not exist yet; to bound the whole run use `--timeout`",
    "io-maxbandwidth": "exists on Windows only; leave it out",
    "io-maxiops": "exists on Windows only; leave it out",
    "ip": "addresses cannot be chosen yet; leave it out",
    "ip6": "addresses cannot be chosen yet; leave it out",
    "ipc": "a container always has an IPC namespace of its own; share files with `-v`",
    "isolation": "exists on Windows only; leave it out",
    "kernel-memory": "the kernel no longer has this limit; `--memory` counts kernel memory too",
    "label-file": "write each label: `--label NAME=VALUE`",
    "link": "containers on the bridge reach each other; `--add-host NAME:ADDRESS` gives one a name",
    "link-local-ip": "addresses cannot be chosen yet; leave it out",
    "log-driver": "output goes straight to your standard output and error; send it on with a pipe",
    "log-opt": "output goes straight to your standard output and error; send it on with a pipe",
    "mac-address": "it follows from the address on the bridge and cannot be chosen; leave it out",
    "memory-reservation": "soft limits do not exist yet; `--memory` is the hard one",
    "memory-swappiness": "it has no meaning on cgroup v2; `--memory-swap` limits memory and swap together",
    "mount": "write `-v SRC:DST[:ro]` for type=bind and `--tmpfs DST` for type=tmpfs",
    "net-alias": "containers have no names on the bridge yet; `--add-host NAME:ADDRESS` gives one where it is needed",
    "network-alias": "containers have no names on the bridge yet; `--add-host NAME:ADDRESS` gives one where it is needed",
    "no-healthcheck": "health checks do not exist yet, so there is none to turn off; leave it out",
    "oom-kill-disable": "not offered: a group at its limit would hang; raise `--memory`",
    "pid": "a container always has a process tree of its own; leave it out",
    "privileged": "not offered; name what you need with `--cap-add` and `--device`",
    "publish": "ports cannot be published yet; this host reaches them at the container's address; or `--network host`",
    "publish-all": "ports cannot be published yet; this host reaches them at the container's address",
    "quiet": "`dolium pull -q` first, then run it",
    "restart": "nobody watches over detached containers but the kernel; a shell loop around `dolium start -a` restarts",
    "runtime": "Dolium is the runtime; for another one use `docker run --runtime` or `podman --runtime`",
    "shm-size": "write `--tmpfs /dev/shm:size=128m`",
    "sig-proxy": "signals are always passed on to the program; leave it out",
    "storage-opt": "what is written in the root goes to memory and counts against `--memory`",
    "use-api-socket": "there is no daemon, so there is no socket to share; leave it out",
    "uts": "a container always has a host name of its own; choose it with `--hostname`",
    "volume-driver": "named volumes do not exist yet; bind a directory: `-v ./data:/data`",
    "volumes-from": "bind the same directories again: `-v ./data:/data`",
}

# ... and their short forms.
SHORT = {"a": "attach", "P": "publish-all", "p": "publish", "q": "quiet"}

# docker run --security-opt NAME
SECURITY = {
    "apparmor": "AppArmor profiles do not exist yet; leave it out",
    "credentialspec": "exists on Windows only; leave it out",
    "label": "SELinux labels do not exist yet; leave it out",
    "systempaths": "write `--security-opt unmask=ALL`",
    "writable-cgroups": "not offered: limits would be the container's own to change; leave it out",
}

# docker exec, with the short forms
EXEC = {
    "--detach-keys": "what runs detached cannot be attached to; leave it out",
    "--privileged": "not offered: a process has what its container has; start that one with `--cap-add`",
}

# docker inspect, with the short forms
INSPECT = {
    "--size": "its files are a directory: `du -sh` of what `dolium inspect --format {{.Dolium.Upper}} NAME` says",
    "-s": "its files are a directory: `du -sh` of what `dolium inspect --format {{.Dolium.Upper}} NAME` says",
}

# docker logs, docker rm, docker start
LOGS = {"--details": "labels are in `dolium inspect`; leave it out"}
RM = {
    "--link": "there are no links; leave it out",
    "--volumes": "all that it wrote goes with it; a directory of yours that it was given stays; leave it out",
    "-l": "there are no links; leave it out",
    "-v": "all that it wrote goes with it; a directory of yours that it was given stays; leave it out",
}
START = {
    "--checkpoint": "checkpoints are not offered; `criu` takes them of ordinary processes",
    "--checkpoint-dir": "checkpoints are not offered; `criu` takes them of ordinary processes",
    "--detach-keys": "what runs detached cannot be attached to; leave it out",
}

# docker pull, docker push, docker login, with the short forms
PULL = {
    "--all-tags": "name each: `dolium pull IMAGE:ONE IMAGE:TWO`",
    "--disable-content-trust": "signatures are not looked at; a digest in the name is: `dolium pull NAME@sha256:...`",
    "-a": "name each: `dolium pull IMAGE:ONE IMAGE:TWO`",
}
PUSH = {
    "--all-tags": "push each: `dolium push IMAGE:TAG`",
    "--disable-content-trust": "nothing is signed; leave it out",
    "--platform": "what goes is the image that is here; an index goes with it where all that it lists is",
    "-a": "push each: `dolium push IMAGE:TAG`",
}

# docker ps, with the short forms
PS = {
    "--last": "the youngest come first: `dolium ps -aq | head -n 1`",
    "--latest": "the youngest comes first: `dolium ps -aq | head -n 1`",
    "--size": "what one wrote is a directory: `du -sh` of what `dolium inspect --format {{.Dolium.Upper}} NAME` says",
    "-l": "the youngest comes first: `dolium ps -aq | head -n 1`",
    "-n": "the youngest come first: `dolium ps -aq | head -n 1`",
    "-s": "what one wrote is a directory: `du -sh` of what `dolium inspect --format {{.Dolium.Upper}} NAME` says",
}

# ... by the command of ours that has them not
MISSING = {"exec": EXEC, "inspect": INSPECT, "logs": LOGS, "rm": RM, "start": START, "ps": PS, "pull": PULL, "push": PUSH}

_NO_DAEMON = "there is no daemon; every `dolium run` stands for itself"
_CLUSTER = "Dolium runs on one machine; for several use Kubernetes, with `dolium-oci` under containerd"

# docker COMMAND: Docker's own and its two usual plugins
COMMANDS = {
    "attach": "a detached container cannot be attached to; `dolium logs -f` follows it, `dolium start -a` starts one attached",
    "build": "Dolium does not build images; use `buildah` or `docker build`",
    "builder": "Dolium does not build images; use `buildah` or `docker build`",
    "buildx": "Dolium does not build images; use `buildah` or `docker buildx`",
    "checkpoint": "checkpoints are not offered; `criu` takes them of ordinary processes",
    "compose": "Dolium runs one container; a script of several `dolium run` lines runs several",
    "config": _CLUSTER,
    "container": "leave the word `container` out: `dolium run`",
    "context": _NO_DAEMON,
    "create": "`dolium run` creates and starts in one; `dolium-oci create` is the form for engines",
    "events": _NO_DAEMON + "; its exit code says how it ended",
    "info": "`dolium doctor` says what works on this host; `dolium --version` the version",
    "manifest": "`dolium image inspect` shows what is here; `skopeo inspect --raw` what a registry has",
    "network": "there is one network, made when it is needed: `dolium run --network bridge`; `dolium system reset` removes it",
    "node": _CLUSTER,
    "pause": "a container cannot be frozen yet; `dolium kill -s STOP NAME` stops its first process",
    "plugin": "there are no plugins; what Dolium can do is in `dolium --help`",
    "port": "publishing ports does not exist yet; this host reaches every port at the container's address",
    "restart": "write `dolium stop NAME && dolium start NAME`",
    "search": "registries are searched on their web pages; `dolium pull` fetches by name",
    "secret": "bind a file read-only: `dolium run -v ./secret:/run/secret:ro`",
    "service": _CLUSTER,
    "stack": _CLUSTER,
    "stats": "live figures do not exist yet; `top` on the host shows the processes",
    "swarm": _CLUSTER,
    "top": "the host's `ps -ef --forest` shows its processes below dolium-keep",
    "trust": "signatures are not checked; name an image by its digest: NAME@sha256:...",
    "unpause": "a container cannot be frozen yet; `dolium kill -s CONT NAME` goes on with its first process",
    "update": "limits are set at the start: `dolium run --memory 64m --cpus 0.5`",
    "version": "write `dolium --version`",
    "volume": "named volumes do not exist yet; bind a directory: `dolium run -v ./data:/data`",
}


def unknown_flag(typed: "str", word: "str", command: "str", ours: "Iterable[str]", others: "list[str]") -> "UsageError":
    """What to answer to a flag that `command` has not.

    `typed` is the flag (`--memroy`, `-t`), `word` the whole word it stood in (`-it`), `ours` the flags that there are,
    with their dashes, `others` the commands that do have it.
    """
    shown = quoted(typed)
    if not typed.startswith("--") and word != typed:
        shown += f" (in {quoted(word)})"
    name = typed[2:] if typed.startswith("--") else SHORT.get(typed[1:], "")
    if name in FLAGS:
        return UsageError(f"dolium has no {shown}", hint=FLAGS[name])
    if others:
        return UsageError(f"`dolium {command}` has no {shown}", hint=f"`dolium {others[0]}` has")
    wanted = typed.strip("-").replace("_", "-") if typed.startswith("--") else ""
    hint = _nearest(wanted, [flag[2:] for flag in ours if flag.startswith("--")], FLAGS, before="--")
    return UsageError(f"unknown flag {shown}", hint=hint or f"`dolium {command} --help` lists them all")


def unknown_security(name: "str", flag: "str", ours: "Iterable[str]") -> "SpecError":
    """What to answer to an option of `--security-opt` that is not among `ours`."""
    hint = SECURITY.get(name) or _nearest(name, [*ours], SECURITY) or "there are " + ", ".join(ours)
    return SpecError(flag, f"no option {quoted(name)}", hint=hint)


def unknown_command(word: "str", ours: "Iterable[str]") -> "UsageError":
    """What to answer to a command that is not among `ours`."""
    if word in COMMANDS:
        return UsageError(f"dolium has no `{word}`", hint=COMMANDS[word])
    if word[:1] == "-":
        return UsageError(f"`dolium` itself has no {quoted(word)}", hint=f"flags come after the command: dolium COMMAND {word}")
    hint = _nearest(word, [*ours], COMMANDS)
    return UsageError(f"unknown command {quoted(word)}", hint=hint or "`dolium --help` lists them all")


def _nearest(word: "str", ours: "list[str]", advice: "dict[str, str]", before: "str" = "") -> "str":
    """The nearest of our names; or, if only Docker has a nearer one, that name with its advice."""
    found = nearest(word, [*ours, *advice])
    hint = did_you_mean(word, [*ours, *advice], before)
    return f"{hint} {advice[found[0]]}" if found and found[0] not in ours else hint
