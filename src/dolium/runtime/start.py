"""`start` of an OCI container: the created one is told to go on.  What only hooks and errors need is loaded for them alone."""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from dolium.errors import DoliumError, HookError, StateError
from dolium.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.runtime.notify import Proxy

LONGEST = 4096
"""Bytes of an answer at most; init/init.c, struct failure: the index of a record, and the record."""


def start(top: str, identity: str) -> None:
    """`start`.  Raises StateError unless it is created, and what exec or a hook says."""
    container = state.find(top, identity)
    container.lock()
    try:
        status = container.status()
        if status != "created":
            if answer := _left(container):
                raise _told(answer, container)
            raise StateError(identity, status, "created")
        proxy = proxy_of(container)
        begin(container)
        poststart(container)
    finally:
        container.unlock()
    if proxy:
        proxy.wait(container.fields["pid"][0])


def proxy_of(container: state.Container) -> "Proxy | None":
    """Where `create` and `start` have NOTIFY_SOCKET."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from dolium.runtime import notify

    target = notify.wanted()
    return notify.Proxy(container.path, target) if target and os.path.isdir(f"{container.path}/{notify.DIRECTORY}") else None


def begin(container: state.Container) -> None:
    """Tell a created container to go on.  Raises StepError where the program cannot be executed; HookError.

    That it is started is written down before it is told: who has heard of the program finds nothing else.  A container to which
    we are connected, and that is told nothing, ends (init/init.c): so it is never kept waiting as one that runs."""
    if container.has_hooks("startContainer"):
        _run_inside(container)
    client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    where = os.open(container.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{where}/start")
        container.fields["status"] = "started"
        container.save()
        client.send(b"G")
        answer = client.recv(LONGEST)
    except (ConnectionError, FileNotFoundError, BrokenPipeError):
        raise StateError(container.id, "started already, or dead", "created") from None
    finally:
        client.close()
        os.close(where)
    if answer:
        raise _told(answer, container)


def _left(container: state.Container) -> bytes:
    """What dolium-verbs was told when it had begun, and leaves to us; it is told once."""
    path = f"{container.path}/answer"
    try:
        with open(path, "rb") as file:
            answer = file.read()
    except FileNotFoundError:
        return b""
    os.unlink(path)
    return answer


def _run_inside(container: state.Container) -> None:
    from dolium.runtime import bundle, containerhooks, hooks

    spec, pid = container.config(), container.pid()
    told = hooks.state(spec, container.id, "created", pid)
    for index, hook in enumerate(spec["hooks"].get("startContainer", ())):
        try:
            containerhooks.run_inside(spec, bundle.facts(spec), pid, hook, f"hooks.startContainer[{index}]", told)
        except DoliumError:
            state.kill(pid)
            raise


def _told(answer: bytes, container: state.Container) -> DoliumError:
    """What a container says of the step that failed after `start`."""
    from dolium.core import wire
    from dolium.plan import build
    from dolium.runtime import bundle, watched

    if len(answer) != wire.RECORD.size + 8:
        return DoliumError("the container's first process ended while it was started")
    spec = container.config()
    facts = bundle.facts(spec)
    steps = build.plan(spec, facts)
    acting = wire.acting(steps)
    index, row = int.from_bytes(answer[:4], "little"), wire.RECORD.unpack_from(answer, 8)
    if index >= len(acting):
        return DoliumError("the container's first process could not go on")
    return watched.step_error(acting[index], steps, row[15], row[2], facts)


def poststart(container: state.Container) -> None:
    """Hooks after the program runs; where one fails, the container is stopped (runtime-spec 1.3).  Raises HookError."""
    if not container.has_hooks("poststart"):
        return
    from dolium.runtime import delete, hooks

    spec = container.config()
    told = hooks.state(spec, container.id, "running", container.fields["pid"][0])  # even if it has ended meanwhile
    for index, hook in enumerate(spec["hooks"].get("poststart", ())):
        try:
            hooks.run(hook, f"hooks.poststart[{index}]", told, spec["dolium"]["bundle"])
        except HookError:
            delete.destroy(container)
            raise
