"""A plan as a shell script: what one would type to do the same with unshare(1), mount(8), ip(8), nft(8) and setpriv(1).  Pure.

Descriptors become directories below `$W`, one for each slot; the two actors become two functions, the one started by the
other with unshare(1).  What outside mounts below `$W` after that appears inside, which is its slave: that stands for handing
over descriptors.  A step that no command can do is a comment.
"""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE
from dolium.plan import calls, explain, hand_mounts, hand_program, netlink_words, slots
from dolium.plan.namespaces import FLAGS
from dolium.plan.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step

HEAD = """\
#!/bin/bash
# `dolium explain --sh`: by hand what `dolium run` does with the same words.
# It needs bash, util-linux and iproute2, and {who}.  A lesson, not a container to
# trust: paths are walked by name here, and a step without a command is missing.
set -eu
export PATH="$PATH:/usr/sbin:/sbin"
W=$(mktemp -d)      # what the real one holds by descriptor is a directory here
chmod 755 "$W"
mkdir {directories}
groups=()           # to be removed in the end
clean() {{
    for each in ${{groups[@]+"${{groups[@]}}"}}; do
        for try in 1 2 3 4 5 6 7 8 9; do rmdir "$each" 2>/dev/null && break; sleep 0.1; done
    done
    rm -rf --one-file-system "$W"
}}
trap clean EXIT
mount() {{ command mount --no-mtab "$@"; }}      # the host's notes are not for this
like() {{            # like SOURCE TARGET: make a place that SOURCE can be mounted on
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${{2%/*}}"; [ -e "$2" ] || : > "$2"; fi
}}
hide() {{            # hide PATH: under nothing
    if [ -d "$W/root$1" ]; then mount --bind "$W/empty" "$W/root$1"
    elif [ -e "$W/root$1" ]; then mount --bind "$W/{null}" "$W/root$1"; fi
}}
protect() {{         # protect PATH: make it read-only
    [ -e "$W/root$1" ] || return 0
    mount --rbind "$W/root$1" "$W/root$1"
    mount -o remount,bind,ro,nosuid,nodev,noexec "$W/root$1"
}}
export W
"""

IDMAP = """
# The image's files belong to the container's users only since util-linux 2.39.
version=$(mount --version | sed 's/.*util-linux \\([0-9.]*\\).*/\\1/')
if [ "$(printf '%s\\n' 2.39 "$version" | sort -V | head -n 1)" != 2.39 ]; then
    echo "util-linux $version cannot map the owners of an image; take --userns host" >&2
    exit 1
fi
"""

BRIDGE = """
# Before the first step: the bridge and its rules, which stay for all containers.
if ! ip link show {bridge} >/dev/null 2>&1; then
    ip link add {bridge} type bridge
    ip addr add {gateway}/{prefix} dev {bridge}
    ip link set {bridge} up
    echo 1 > /proc/sys/net/ipv4/ip_forward
    nft -f - <<'RULES'
table ip dolium {{
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ip saddr {gateway}/{prefix} oifname != "{bridge}" masquerade
  }}
}}
RULES
fi
"""


def text(steps: "list[Step]", spec: "dict[str, Any]") -> str:
    """The script."""
    plan = _Plan(steps, spec)
    # /dev/null is handed in as a bind mount to who may not make nodes
    null = "null" if plan.rootless else "dev/null"
    names = sorted({calls.name(step.out) for step in steps if step.op == "new_mount"})
    directories = " ".join(f'"$W/{each}"' for each in names)
    who = "no root" if plan.rootless else "root"
    lines = HEAD.format(who=who, directories=directories, null=null).splitlines()
    lines += IDMAP.splitlines() if any(step.op == "set_attr" and step.why == "linux.uidMappings" for step in steps) else []
    lines += BRIDGE.format(**plan.cable).splitlines() if plan.cable and "policy" not in plan.cable else []
    lines += ["", "### host: as who you are", *plan.written(HOST)]
    lines += ["", "### inside: the first process of the container", "inside() {", *_indented(plan.written(INSIDE)), "}"]
    lines += ["", "### outside: beside it, in a copy of the mounts", "outside() {", *_indented(plan.written(OUTSIDE)), "}"]
    user = "--user --map-root-user " if plan.rootless else ""
    lines += ["", "export -f inside outside mount like hide protect", "code=0",
              f"unshare {user}--mount --propagation slave bash -euc outside || code=$?", 'exit "$code"']  # fmt: skip
    return "\n".join(lines) + "\n"


def _indented(lines: "list[str]") -> "list[str]":
    return [f"    {each}" if each else "" for each in lines]


class _Plan:
    """The steps, and what must be known of all of them to write one down."""

    def __init__(self, steps: "list[Step]", spec: "dict[str, Any]") -> None:
        self.steps = steps
        self.spec = spec
        self.rootless = any(step.op == "unshare" and step.actor == OUTSIDE and step.n1 & FLAGS["user"] for step in steps)
        self.cable: dict[str, Any] = spec["dolium"].get("network") or {}
        self.outside = {step.out for step in steps if step.actor == OUTSIDE and step.out >= 0}
        self.inner = next((step.n1 for step in steps if step.op == "unshare" and step.actor == INSIDE), 0)
        self.born = next(step for step in steps if step.op == "clone")
        self.own_users = bool(self.born.n1 & FLAGS["user"])
        self.moved: dict[int, str] = {}
        self.groups = sorted(step.path for step in steps if step.op == "make_group")

    def written(self, actor: int) -> "list[str]":
        """All that this actor does."""
        lines: list[str] = []
        for number, step in explain.numbered(self.steps):
            if step.actor not in (actor, BOTH) or (step.actor == BOTH and actor == HOST):
                continue
            head = f"# {'   -' if step.is_part else f'{number:3}'} {step.what}: {step.note}"
            lines += ["", explain.fit(head)] if not step.is_part else [explain.fit(head)]
            lines += self._of(step, actor)
        return lines[1:] if lines[:1] == [""] else lines

    def _of(self, step: "Step", actor: int) -> "list[str]":
        if step.op in ("make_group", "set_limit"):
            return self._group(step)
        if step.op == "clone":
            return self._clone()
        if step.op == "sync":
            return _sync(step, actor)
        if step.op == "netlink":
            return self._netlink(step)
        if step.op == "unshare" and actor == OUTSIDE:
            return ["# (by the last line of this script)"]
        if step.op in ("unshare", "write_fd"):
            return ["# (done when it was born: a shell cannot do it to itself)"]
        if step.op in ("map_ids", "open_ns", "open", "enter_net"):
            return ["# (a directory or a process number will do for a shell)"] if step.op != "map_ids" else [
                "# (done before it was born, or by unshare)"]  # fmt: skip
        if step.op == "loopback":
            return ["ip link set lo up"]
        if step.op == "hostname":
            return [f"hostname {quote(step.path)}"]
        found = hand_mounts.lines(step, self.outside, self.own_users, self.moved)
        return found if found is not None else hand_program.lines(step, self.steps)

    def _group(self, step: "Step") -> "list[str]":
        path = quote(step.path)
        if step.op == "set_limit":
            lines = [f"echo {quote(step.data.decode())} > {path}"]
            parent = step.path.rsplit("/", 2)[0]
            if step.path.endswith("/cpuset.mems"):  # of cgroup v1; a new group there is empty, and lets nobody in
                lines.insert(0, f"for each in cpus mems; do cat {quote(parent.rpartition('/')[0])}/cpuset.$each "
                                f"> {quote(parent)}/cpuset.$each; done")  # fmt: skip
            return [f"{each} || true   # not where swap is not counted" for each in lines] if step.accept else lines
        parent = step.path.rpartition("/")[0]
        wanted = sorted({each.path.rpartition("/")[2].partition(".")[0] for each in self.steps
                         if each.op == "set_limit" and each.path.startswith(f"{step.path}/")})  # fmt: skip
        lines = [f"mkdir -p {quote(parent)}"]
        if self._is_v2(step.path) and wanted:
            plus = " ".join(f"+{each}" for each in wanted)
            both = f"{quote(parent.rpartition('/')[0])} {quote(parent)}"
            lines.append(f"for each in {both}; do echo {plus} > $each/cgroup.subtree_control; done")
        return [*lines, f"mkdir {path}; groups+=({path})"]

    def _is_v2(self, path: str) -> bool:
        return any(step.op == "open" and step.path == path and step.out == slots.CGROUP for step in self.steps)

    def _clone(self) -> "list[str]":
        words = {"mount": "--mount --propagation slave", "pid": "--pid", "network": "--net", "cgroup": "--cgroup", "uts": "--uts",
                 "ipc": "--ipc", "time": "--time"}  # fmt: skip
        made = any(step.op == "make_net" for step in self.steps) * FLAGS["network"]
        flags = " ".join(words[name] for name, bit in FLAGS.items() if (self.born.n1 | self.inner | made) & bit and name in words)
        lines = ["users= child=", "trap 'kill -9 $child $users 2>/dev/null || true' EXIT"]
        enter = ""
        if self.own_users:
            first = next(step for step in self.steps if step.op == "map_ids" and step.n1)
            enter = "nsenter --user=/proc/$users/ns/user "
            lines += [
                "unshare --user sleep infinity & users=$!     # somebody must hold the namespace",
                "while [ /proc/$users/ns/user -ef /proc/self/ns/user ]; do sleep 0.01; done",
                f"printf {quote(first.path)} > /proc/$users/uid_map",
                f"printf {quote(first.path2)} > /proc/$users/gid_map",
            ]  # fmt: skip
        group = [f"    echo 0 > {quote(each)}/cgroup.procs" for each in self.groups]
        return [*lines, "{", *group, f"    exec {enter}unshare {flags} --fork --kill-child bash -euc inside", "} <&0 &", "child=$!"]

    def _netlink(self, step: "Step") -> "list[str]":
        if "policy" in self.cable:
            return ["# (missing: without its rules no cable is laid, so it reaches nobody)"]
        lines = []
        for said in netlink_words.read(step.data):
            name = said.get("name", "eth0")
            there = "nsenter --net=/proc/$child/ns/net " if step.fd >= 0 else ""
            if "peer" in said:
                peer = said["peer"]
                lines.append(f"ip link add {name} mtu {said['mtu']} type veth peer name {peer['name']} "
                             f"address {peer['hardware']} mtu {peer['mtu']} netns $child")  # fmt: skip
            elif "without_ipv6" in said:
                lines.append(f"{there}ip link set {name} addrgenmode none")
            elif "up" in said:
                master = f" master {self.cable['bridge']}" if "master" in said else ""
                lines.append(f"{there}ip link set {name}{master} up")
            elif "address" in said:
                lines.append(f"{there}ip addr add {said['address']}/{said['prefix']} broadcast + dev {name}")
            elif "gateway" in said:
                lines.append(f"{there}ip route add default via {said['gateway']}")
        return lines or ["sleep 0.1   # until the bridge forwards"]


def _sync(step: "Step", actor: int) -> "list[str]":
    if step.why == "linux.uidMappings":
        return ["# (they are mapped already)"]
    if step.n1:  # inside has made its network
        return ["# (outside looks for itself)"] if actor == INSIDE else [
            "while [ /proc/$child/ns/net -ef /proc/self/ns/net ]; do sleep 0.01; done"]  # fmt: skip
    name = "connected" if step.why == "network" else "mounted"
    if actor == OUTSIDE:
        return [f': > "$W/{name}"']
    return [f'until [ -e "$W/{name}" ]; do sleep 0.01; done']
