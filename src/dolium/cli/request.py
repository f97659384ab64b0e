"""From the flags of a command line to the engine's options; `run` and `explain` share it."""

import os

from dolium.cli.flags import Flags
from dolium.engine import rootfs
from dolium.engine.config import Options
from dolium.errors import UsageError
from dolium.plan.quantities import is_path, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.conversion import Applied
    from dolium.engine.images import Image


def image(flags: Flags) -> str:
    """Whose path holds wherever the container is started again.  Raises UsageError for a missing rootfs."""
    if flags.image is None:
        raise UsageError("no image or rootfs is named",
                         hint="after the flags: IMAGE, ./DIRECTORY, ./TARBALL or @host, then the program")  # fmt: skip
    if flags.platform and not rootfs.is_image(flags.image):
        raise UsageError(f"`{flags.asked['platform']}` is for images, and {quoted(flags.image)} is none", hint="leave it out")
    return _absolute(flags.image) if is_path(flags.image) else flags.image


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        raise UsageError(f"`{path}` is relative, and the current directory is gone", hint="cd to one that exists") from None


def options(flags: Flags) -> Options:
    """Raises UsageError for a seccomp profile that cannot be read."""
    found = Options()
    found.add_hosts = flags.add_host
    found.argv = [flags.entrypoint, *flags.argv] if flags.entrypoint else flags.argv or ["sh"]
    found.cap_add, found.cap_drop = flags.cap_add, flags.cap_drop
    found.cpu_shares, found.cpu_weight, found.cpus = flags.cpu_shares, flags.cpu_weight, flags.cpus
    found.cpuset_cpus = flags.cpuset_cpus
    found.cwd = flags.workdir
    found.devices = flags.device
    found.dns, found.dns_options, found.dns_search = flags.dns, flags.dns_option, flags.dns_search
    found.env = flags.env
    found.hostname = flags.hostname
    found.init = flags.init
    found.mask, found.unmask = flags.mask, flags.unmask
    found.memory, found.memory_swap = flags.memory, flags.memory_swap
    found.network = flags.network or ""
    found.no_new_privileges = flags.no_new_privileges is not False
    found.oom_score_adj = flags.oom_score_adj
    found.pids = flags.pids_limit
    found.read_only = flags.read_only
    found.seccomp = _profile(flags.seccomp)
    found.sysctl = flags.sysctl
    found.time_namespace = flags.time_namespace
    found.tmpfs = flags.tmpfs
    found.tty = flags.tty
    found.ulimits = flags.ulimit
    found.userns = flags.userns or "auto"
    if flags.why_denied and flags.seccomp == "unconfined":
        raise UsageError("`--why-denied`: with `seccomp=unconfined` nothing is refused", hint="leave one of them out")
    found.why_denied = flags.why_denied
    found.volumes = [(_absolute(source), path, read_only) for source, path, read_only in flags.volume]
    return found


def complete(flags: Flags, found: Options, image: "Image | None") -> "Applied":
    """Add what the image says, where the rootfs is one.  Raises ImageError and SpecError."""
    from dolium.engine import conversion

    if image is None:
        return conversion.Applied(flags.user, flags.stop_signal, flags.label)
    return conversion.apply(image.config(), found, argv=flags.argv, entrypoint=flags.entrypoint, user=flags.user,
                            stop_signal=flags.stop_signal, labels=flags.label)  # fmt: skip


def _profile(name: "str | None") -> "dict[str, Any] | str | None":
    if name is None or name == "unconfined":
        return name
    from dolium.core import document
    from dolium.errors import SpecError

    try:
        with open(name, encoding="utf-8") as file:
            profile = document.read(file.read(), "it")
    except OSError as error:
        raise UsageError(f"--security-opt seccomp={name}: {error.strerror}", hint="name a JSON file, or `unconfined`") from None
    except UnicodeDecodeError:
        raise UsageError(f"--security-opt seccomp={name}: not JSON, nor any other text") from None
    except SpecError as error:
        raise UsageError(f"--security-opt seccomp={name}: it {error.problem}") from None
    if not isinstance(profile, dict):
        raise UsageError(f"--security-opt seccomp={name}: expected an object like linux.seccomp of the OCI specification")
    return profile
