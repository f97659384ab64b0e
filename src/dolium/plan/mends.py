"""The lines for a shell that mend what `dolium doctor` finds: each on one physical line, each carried out by a test.  Pure."""

INSTALLERS = {
    "apt-get": "apt-get install -y",
    "dnf": "dnf install -y",
    "yum": "yum install -y",
    "zypper": "zypper install -y",
    "pacman": "pacman -S --noconfirm",
    "apk": "apk add",
}
"""Package managers, and how each is asked for a package."""
ENOUGH = 1024
"""Namespaces of a kind, and open files, that leave room for many containers."""
DROP_IN = "/etc/systemd/system/user@.service.d/dolium.conf"
PROFILE = "/etc/apparmor.d/dolium"
CLOSED = "\"'\\$`\n"


def quoted(path: str) -> str:
    """As one word of a shell."""
    plain = path and all(each.isalnum() or each in "/._-+:@%=," for each in path)
    return path if plain else "'" + path.replace("'", "'\\''") + "'"


def install(installers: "tuple[str, ...]", package: str) -> str:
    """A package, by the first of the package managers that are there; empty where none is."""
    return next((f"{line} {package}" for name, line in INSTALLERS.items() if name in installers), "")


def namespaces(names: "list[str]") -> str:
    """Room for namespaces: the settings of these names."""
    return "sysctl -w " + " ".join(f"{name}={ENOUGH}" for name in names)


def apparmor(program: str) -> str:
    """A profile by which AppArmor lets one program make user namespaces, and confines it no further: what Ubuntu ships for
    browsers.  It is attached to the script; Python and dolium-init keep it, as nothing else is attached to them."""
    if any(each in program for each in CLOSED):  # in the profile it stands in quotes
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    text = (
        f'abi <abi/4.0>,\\ninclude <tunables/global>\\n\\nprofile dolium "{program}" flags=(unconfined) {{\\n  userns,\\n'
        "  include if exists <local/dolium>\\n}\\n"
    )
    return f"printf '{text.replace('%', '%%')}' | sudo tee {PROFILE} >/dev/null && sudo apparmor_parser -r {PROFILE}"


def session() -> str:
    """A shell in a cgroup that is the caller's own, from the caller's own systemd."""
    return 'systemd-run --user --scope -p Delegate=yes -- "${SHELL:-sh}"'


def delegation() -> str:
    """All controllers for every user's session (systemd.resource-control(5), Delegate=); a running manager learns of it by reexec,
    which ends nothing."""
    return (
        f"sudo mkdir -p {DROP_IN.rpartition('/')[0]} && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
        f"sudo tee {DROP_IN} >/dev/null && sudo systemctl daemon-reload && systemctl --user daemon-reexec"
    )


def own_group(mount: str, uid: int, gid: int) -> str:
    """A cgroup for this user and this shell, where no systemd does it (cgroups(7), "Delegation containment")."""
    group = quoted(f"{mount}/dolium-{uid}")
    theirs = " ".join(f"{each}/{name}" for each in (group, f"{group}/shell") for name in ("cgroup.procs", "cgroup.subtree_control"))
    return (
        f"sudo mkdir -p {group}/shell && echo '+cpu +cpuset +memory +pids' | "
        f"sudo tee {quoted(mount)}/cgroup.subtree_control >/dev/null; sudo chown {uid}:{gid} {group} {group}/shell {theirs} && "
        f"echo $$ | sudo tee {group}/shell/cgroup.procs >/dev/null"
    )


def empty_group(group: str) -> str:
    """Room for groups below one that has processes of its own: they move into one beside."""
    name = quoted(group)
    move = f"echo $pid >{name}/others/cgroup.procs || :"
    return f"mkdir -p {name}/others && for pid in $(cat {name}/cgroup.procs); do {move}; done 2>/dev/null"


def mount_controller(controller: str) -> str:
    """A hierarchy of cgroup v1 that the kernel has and nobody has mounted."""
    place = f"/sys/fs/cgroup/{controller}"
    return f"mkdir -p {place} && mount -t cgroup -o {controller} {controller} {place}"


def mount_unified() -> str:
    """cgroup v2, with all controllers that are not on v1; with the options that systemd gives it, for they are the hierarchy's."""
    return "mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup"


def writable(mount: str) -> str:
    """A mount that is read-only here."""
    return f"mount -o remount,bind,rw {quoted(mount)}"


def store(path: str, uid: int, room: str) -> str:
    """Another place for what containers write."""
    if uid:
        return f"mkdir -p -m 700 {quoted(room)} && export XDG_DATA_HOME={quoted(room)}" if room else ""
    return f"mkdir -p {quoted(path)} && mount -t tmpfs -o mode=700 dolium {quoted(path)}"


def put_aside(path: str, uid: int) -> str:
    """A file that says what is wrong, under a name that nobody reads."""
    return f"{'sudo ' if uid and path.startswith('/etc/') else ''}mv {quoted(path)} {quoted(path + '.aside')}"


def readable(path: str, uid: int) -> str:
    """A file for everybody to read."""
    return f"{'sudo ' if uid else ''}chmod a+r {quoted(path)}"


def other_logins() -> str:
    """Another directory for the file in which docker keeps who one is at registries."""
    return 'export DOCKER_CONFIG="${XDG_CONFIG_HOME:-$HOME/.config}/dolium" && mkdir -p -m 700 "$DOCKER_CONFIG"'


OUTER = {
    "Docker": "docker run --privileged --cgroupns=private",
    "Podman": "podman run --privileged",
    "Kubernetes": "kubectl patch deployment NAME --type json -p "
    '\'[{"op": "add", "path": "/spec/template/spec/containers/0/securityContext", "value": {"privileged": true}}]\'',
    "LXC": "lxc config set NAME security.nesting=true",
    "systemd-nspawn": "systemd-nspawn --capability=all --private-users=no",
    "WSL 1": 'wsl.exe --set-version "$WSL_DISTRO_NAME" 2',
}
"""How each kind of outer container is started so that Dolium can work in it; to be said outside, where it was started."""
