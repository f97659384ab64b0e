"""`create` and `run` of an OCI container (runtime-spec, runtime.md "Lifecycle")."""

import os

from dolium.errors import DoliumError, NotFound
from dolium.plan import resources
from dolium.runtime import bundle, host, process, state
from dolium.runtime.creation import Asked, Creation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.errors import HookError
    from dolium.runtime.ending import Ending


def prepare(top: str, identity: str, asked: Asked, kind: "type[Creation]" = Creation) -> "tuple[Creation, state.Container]":
    """A container that is planned and written down, and of which nothing else has been made; `kind` is how it will be.
    Raises DoliumError."""
    state.check_id(identity)
    facts = host.facts()
    spec = bundle.load(asked.bundle, identity, asked.config, asked.systemd)
    facts = bundle.of_groups(spec, facts)
    systemd = os.environ.get("NOTIFY_SOCKET")
    if systemd:
        from dolium.runtime import notify

        notify.wanted()
    own = spec["dolium"]
    own["keep"], own["pivot"], own["keyring"], own["groups"] = not asked.detached, asked.pivot, asked.keyring, asked.groups
    _listen_fds(spec, asked)
    own["preserve"] = asked.preserve
    _check_console(spec, asked)
    from time import gmtime, strftime

    fields = {"id": identity, "bundle": own["bundle"], "annotations": spec["annotations"], "status": "creating", "pid": None,
              "created": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()), "owner": os.geteuid(), "maker": state.identify(os.getpid()),
              "groups": {} if "unit" in own else resources.groups(spec, facts),  # of a unit, when it is there
              "rootfs": spec["root"]["path"], "hooks": sorted(spec["hooks"]),
              "versions": {name: each.version for name, each in facts.hierarchies.items()}}  # fmt: skip
    container = state.new(top, identity, fields)
    try:
        if systemd:
            notify.mount(spec, container.path)
        creation = kind(spec, facts, container)
        container.save_config(spec)
    except BaseException:
        container.forget()
        container.unlock()
        raise
    return creation, container


def _listen_fds(spec: "dict[str, Any]", asked: Asked) -> None:
    """sd_listen_fds(3): sockets that systemd or an engine hands on."""
    count = os.environ.get("LISTEN_FDS", "")
    if count.isdecimal() and 0 < int(count) < 256:
        asked.preserve = max(asked.preserve, int(count))
        spec["process"]["env"] += [f"LISTEN_FDS={count}", "LISTEN_PID=1"]


def _check_console(spec: "dict[str, Any]", asked: Asked) -> None:
    if spec["process"].get("terminal") and not asked.console_socket:
        if not asked.own_terminal:
            raise DoliumError("process.terminal is asked for, so --console-socket is needed: somebody must take the terminal")
        columns, rows = asked.own_terminal
        spec["process"]["consoleSize"] = {"height": rows, "width": columns}
    if asked.console_socket and not spec["process"].get("terminal"):
        raise DoliumError("--console-socket is given, but process.terminal is not asked for")


def create(top: str, identity: str, asked: Asked) -> Creation:
    """`create`: whole or not at all.  Raises DoliumError and OSError."""
    creation, container = prepare(top, identity, asked)
    try:
        _make(creation, container, asked)
        creation.left()
    finally:
        container.unlock()
    return creation


def _make(creation: Creation, container: state.Container, asked: Asked) -> None:
    try:
        creation.create(asked)
        container.fields["status"] = "created"
        container.save()
        if asked.pid_file:
            process.write_pid(asked.pid_file, creation.pid())
        creation.give_pidfd()
    except BaseException:
        from dolium.runtime import delete

        creation.undo()
        delete.run_poststop(creation.spec, container.id)
        container.forget()
        raise


class Foreground:
    """A container of `run` without --detach: dolium-keep waits for it, and ends it when we are gone."""

    def __init__(self, top: str, identity: str, asked: Asked) -> None:
        from dolium.runtime import delete, start

        self.failed: list[HookError] = []  # those of its end, which are only told
        self.creation, self.container = prepare(top, identity, asked)
        container, creation = self.container, self.creation
        try:
            _make(creation, container, asked)
            try:
                self.notify = start.proxy_of(container)
                creation.answer()
                start.begin(container)
                creation.runs()
                start.poststart(container)
            except BaseException:
                creation.undo()
                delete.remove(container)
                raise
        finally:
            container.unlock()

    def pid(self) -> int:
        """Of its first process."""
        return self.creation.pid()

    def signal(self, number: int) -> None:
        """Forward one."""
        self.creation.signal(number)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self.creation.fileno()

    def finish(self, keep: bool = False) -> "Ending":
        """Wait for its end; then it is deleted."""
        from dolium.runtime import delete, ending

        data = self.creation.ended(ending.MESSAGE.size)
        found = ending.told(data)
        self.creation.left()
        if not keep:
            try:
                self.container.lock()
            except NotFound:  # `checkpoint` ended and deleted it
                return found
            delete.destroy(self.container)
            self.failed = delete.remove(self.container)
        return found
