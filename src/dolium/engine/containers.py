"""Start a container from an image's name and options: rootfs, user, ids, config, in that order."""

import os

from dolium.engine import config, rootfs, users
from dolium.errors import SpecError, Unsupported
from dolium.runtime import host, launch, lease, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.networks import Attachment
    from dolium.engine.snapshots import Image
    from dolium.plan.facts import Facts


ENOENT = 2
_mended = False


class Prepared:
    """What is known before anything runs: the config, the facts it is planned with, and what the caller should be told."""

    __slots__ = ("spec", "facts", "note")

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", note: str) -> None:
        self.spec = spec
        self.facts = facts
        self.note = note

    @property
    def notes(self) -> "list[str]":
        """What there is to say of its network."""
        found: list[str] = self.spec["dolium"]["notes"]
        return found


def prepare(image: str, options: config.Options, user: "str | None", id_base: int, identity: str = "",
            attachment: "Attachment | None" = None, digest: str = "",
            root: "rootfs.Rootfs | None" = None) -> Prepared:  # fmt: skip
    """Decide everything; nothing is made yet.  `user` is as `--user` has it; without an `identity` a new one is made;
    `attachment` is its place in a network; `digest` is of what was unpacked for it, or `root` what that will be.

    Raises NotFound, SpecError and Unsupported.
    """
    root = root or rootfs.find(image, digest)
    if user is not None:
        options.user = users.find(user, lambda path: _read(root, path))
    for source, _, _ in options.volumes:
        _must_exist(source)
    facts = host.facts()
    shared = _why_users_are_shared(options, root, facts)
    note = ""
    if shared and options.userns == "required":
        raise Unsupported("--userns required", shared, hint="--userns auto takes what there is and says so")
    if shared and options.userns == "auto":
        note = f"the container shares the host's users: {shared}"
    if not facts.rootless and not shared:
        facts = facts.with_ids(id_base)
    return Prepared(config.specification(identity or os.urandom(6).hex(), options, root, facts, attachment), facts, note)


def _must_exist(source: str) -> None:
    """Of a bind mount; raises SpecError.  Docker's `-v` would make a directory of root's, and hide a slip of the pen."""
    try:
        os.stat(source)
    except OSError as error:
        hint = "make it first: dolium makes nothing on the host that was not asked for" if error.errno == ENOENT else ""
        raise SpecError("--volume", f"`{source}`: {error.strerror}", hint=hint) from None


def _why_users_are_shared(options: config.Options, root: rootfs.Rootfs, facts: "Facts") -> str:
    """Why this container cannot have, or is not to have, users of its own; empty where it has them."""
    if facts.rootless:
        if options.userns == "host":
            raise Unsupported("--userns host", "who is not root may start containers only in a user namespace",
                              hint="leave --userns out, or run dolium as root")  # fmt: skip
        return ""
    if options.userns == "host":
        return "asked for"
    own = [_existing(each) for each in (*root.sources(), options.store) if each]
    return host.not_idmappable([*own, *(os.path.abspath(source) for source, _, _ in options.volumes)], facts)


def _existing(path: str) -> str:
    """The path, or in a plan that nobody carries out the directory in which it would be made."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _read(root: rootfs.Rootfs, path: str) -> str:
    for name, text in root.files:
        if name == path:
            return text
    if root.layers:
        from dolium.engine import lookup

        return (lookup.Layers(reversed(root.lowers())).read(path, users.CAP) or b"").decode("utf-8", "replace")
    return launch.read_in_root(root.path, path, users.CAP) if root.path and os.path.isdir(root.path) else ""


def start(image: "str | Image", options: config.Options, user: "str | None",
          stdio: "tuple[int, int, int]") -> "tuple[launch.Running, str]":  # fmt: skip
    """A container on its way, and a note for the caller (or nothing).  `image` may be one of snapshots.  Raises what `prepare` and
    `launch.start` do."""
    _mend_once()
    use = rootfs.provide(image) if isinstance(image, str) else image.provide()
    try:
        if use and use.image:
            from dolium.engine import conversion

            user = conversion.apply(use.image.config(), options, user=user).user
        running, note = _start(image, options, user, stdio, use.digest if use else "")
    except BaseException:
        if use:
            use.close()
        raise
    running.use = use
    return running, note


def _mend_once() -> None:
    """Once per process: remove the snapshots of dead ones."""
    global _mended
    if not _mended:
        _mended = True
        where = f"{places.data_path()}/snapshots"
        if os.path.isdir(where) and os.listdir(where):
            from dolium.engine import snapshots

            snapshots.mend()


def _start(image: "str | Image", options: config.Options, user: "str | None", stdio: "tuple[int, int, int]",
           digest: str) -> "tuple[launch.Running, str]":  # fmt: skip
    taken = lease.take()
    try:
        attachment = None
        if options.network not in ("", "none", "host"):
            from dolium.engine import networks

            attachment = networks.attach(options.network, taken.number, host.facts())
        name, root = (image, None) if isinstance(image, str) else (image.below, image.rootfs())
        prepared = prepare(name, options, user, taken.id_base, attachment=attachment, digest=digest, root=root)
    except BaseException:
        taken.release()
        raise
    return launch.start(prepared.spec, prepared.facts, taken, stdio), prepared.note
