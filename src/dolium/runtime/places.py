"""Where Dolium keeps things on this host, for this user; each place is a directory of the user's own."""

import os

from dolium.errors import DoliumError


def state() -> str:
    """For what a reboot ends: leases, who runs.  Raises DoliumError and OSError."""
    return own(state_path())


def state_path() -> str:
    """Where that is; nothing is made."""
    if _is_root():
        return "/run/dolium"
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/dolium"
    return f"/tmp/dolium-{_uid()}"


def _is_root() -> bool:
    """Whether the system's directories are this user's; those of the host are not, for root of a user namespace."""
    return os.geteuid() == 0 == os.stat("/run").st_uid


def _uid() -> int:
    """This user's id in the user namespace outside this one, where files are seen by others, user_namespaces(7)."""
    if uid := os.geteuid():
        return uid
    with open("/proc/self/uid_map") as file:
        return int(file.read().split()[1])


def data() -> str:
    """For what is kept: containers and what they have written.  Raises DoliumError and OSError."""
    path = data_path()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return own(path)
    except OSError:
        if _is_root():
            raise
        return own(_without_home())


def data_path() -> str:
    """Where that is; nothing is made."""
    if _is_root():
        return "/var/lib/dolium"
    usual = there = f"{os.environ.get('XDG_DATA_HOME') or os.path.expanduser('~/.local/share')}/dolium"
    while there and not os.path.exists(there):
        there = os.path.dirname(there)
    return usual if os.access(there or ".", os.W_OK | os.X_OK) else _without_home()


def _without_home() -> str:
    """For a user without a home; this, too, outlives a reboot."""
    return f"/var/tmp/dolium-{_uid()}"


def below(top: str, name: str) -> str:
    """A directory in one of those, made if need be."""
    return own(f"{top}/{name}")


def own(path: str) -> str:
    """The path of a directory that is there now, mode 0700, and owned by nobody else (CVE-2021-41091)."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        try:
            os.mkdir(path, 0o700)
            os.chmod(path, 0o700)  # whatever the caller's umask is
        except FileExistsError:
            pass
        status = os.lstat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077 or status.st_mode & 0o170000 != 0o040000:
        raise DoliumError(f"`{path}` is not a directory of yours alone (uid {status.st_uid}, mode {status.st_mode & 0o7777:o})",
                          hint=f"remove it, or chmod 700 {path}; `dolium doctor state-directory` says more")  # fmt: skip
    return path
