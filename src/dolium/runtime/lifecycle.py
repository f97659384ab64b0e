"""One OCI container from `create` to `delete` (runtime-spec, runtime.md "Lifecycle")."""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socket

from dolium.core import wire
from dolium.errors import DoliumError, HookError, StateError
from dolium.plan import build, resources
from dolium.runtime import bundle, cgroup, containerhooks, hooks, host, launch, notify, state
from dolium.runtime.creation import Asked, Creation, kill_first, perform, write_pid
from dolium.runtime.members import freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts
    from dolium.runtime.ending import Ending

SIGKILL = 9
FAILURE = wire.RECORD.size + 8
"""init/init.c, struct failure: the index of a record, and the record."""


def prepare(top: str, identity: str, asked: Asked) -> "tuple[Creation, state.Container]":
    """A container that is planned and written down, and of which nothing else has been made.  Raises DoliumError."""
    state.check_id(identity)
    facts = host.facts()
    spec = bundle.load(asked.bundle, identity, asked.config)
    systemd = notify.wanted()
    own = spec["dolium"]
    own["keep"], own["pivot"], own["keyring"], own["groups"] = not asked.detached, asked.pivot, asked.keyring, asked.groups
    _listen_fds(spec, asked)
    own["preserve"] = asked.preserve
    _check_console(spec, asked)
    from time import gmtime, strftime

    fields = {"id": identity, "bundle": own["bundle"], "annotations": spec["annotations"], "status": "creating", "pid": None,
              "created": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime()), "owner": os.geteuid(), "maker": state.identify(os.getpid()),
              "groups": resources.groups(spec, facts), "rootfs": spec["root"]["path"],
              "versions": {name: each.version for name, each in facts.hierarchies.items()}}  # fmt: skip
    container = state.new(top, identity, fields)
    try:
        if systemd:
            notify.mount(spec, container.path)
        creation = Creation(spec, facts, container)
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
        raise DoliumError("process.terminal is asked for, so --console-socket is needed: somebody must take the terminal")
    if asked.console_socket and not spec["process"].get("terminal"):
        raise DoliumError("--console-socket is given, but process.terminal is not asked for")


def create(top: str, identity: str, asked: Asked) -> None:
    """`create`: whole or not at all.  Raises DoliumError and OSError."""
    creation, container = prepare(top, identity, asked)
    try:
        _make(creation, container, asked)
        creation.left()
    finally:
        container.unlock()


def _make(creation: Creation, container: state.Container, asked: Asked) -> None:
    try:
        creation.create(asked)
        container.fields["status"] = "created"
        container.save()
        if asked.pid_file:
            write_pid(asked.pid_file, creation.pid())
        creation.give_pidfd()
    except BaseException:
        creation.undo()
        run_poststop(creation.spec, container.id)
        container.forget()
        raise


def start(top: str, identity: str) -> None:
    """`start`.  Raises StateError unless it is created, and what exec or a hook says."""
    container = state.find(top, identity)
    container.lock()
    try:
        status = container.status()
        if status != "created":
            raise StateError(identity, status, "created")
        spec = container.config()
        proxy = proxy_of(container)
        begin(container, spec, oci_facts(spec))
        poststart(container, spec)
    finally:
        container.unlock()
    if proxy:
        proxy.wait(container.fields["pid"][0])


def proxy_of(container: state.Container) -> "notify.Proxy | None":
    """Where `create` and `start` have NOTIFY_SOCKET."""
    target = notify.wanted()
    return notify.Proxy(container.path, target) if target and os.path.isdir(f"{container.path}/{notify.DIRECTORY}") else None


def oci_facts(spec: "dict[str, Any]") -> "Facts":
    """The facts of this host with the container's users."""
    from dolium.plan import oci

    return oci.with_users(spec, host.facts())


def begin(container: state.Container, spec: "dict[str, Any]", facts: "Facts") -> None:
    """Tell a created container to go on.  Raises StepError where the program cannot be executed; HookError."""
    for index, hook in enumerate(spec["hooks"].get("startContainer", ())):
        told = hooks.state(spec, container.id, "created", container.pid())
        try:
            containerhooks.run_inside(spec, facts, container.pid(), hook, f"hooks.startContainer[{index}]", told)
        except DoliumError:
            kill_first(container.pid())
            raise
    client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    where = os.open(container.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{where}/start")
        client.send(b"G")
        answer = client.recv(FAILURE)
    except (ConnectionError, FileNotFoundError, BrokenPipeError):
        raise StateError(container.id, "started already, or dead", "created") from None
    finally:
        client.close()
        os.close(where)
    container.fields["status"] = "started"
    container.save()
    if answer:
        raise _told(answer, spec, facts)


def _told(answer: bytes, spec: "dict[str, Any]", facts: "Facts") -> DoliumError:
    """What a container says of the step that failed after `start`."""
    if len(answer) != FAILURE:
        return DoliumError("the container's first process ended while it was started")
    steps = build.plan(spec, facts)
    acting = wire.acting(steps)
    index, row = int.from_bytes(answer[:4], "little"), wire.RECORD.unpack_from(answer, 8)
    if index >= len(acting):
        return DoliumError("the container's first process could not go on")
    return launch.step_error(acting[index], steps, row[15], row[2], facts)


def poststart(container: state.Container, spec: "dict[str, Any]") -> None:
    """Hooks after the program runs; where one fails, the container is stopped (runtime-spec 1.3).  Raises HookError."""
    told = hooks.state(spec, container.id, "running", container.fields["pid"][0])  # even if it has ended meanwhile
    for index, hook in enumerate(spec["hooks"].get("poststart", ())):
        try:
            hooks.run(hook, f"hooks.poststart[{index}]", told, spec["dolium"]["bundle"])
        except HookError:
            destroy(container)
            raise


def run_poststop(spec: "dict[str, Any]", identity: str) -> "list[HookError]":
    """Hooks after the end; each is run whatever became of the one before, and what failed is only told."""
    told, failed = hooks.state(spec, identity, "stopped", 0), []
    for index, hook in enumerate(spec["hooks"].get("poststop", ())):
        try:
            hooks.run(hook, f"hooks.poststop[{index}]", told, spec["dolium"]["bundle"])
        except (HookError, OSError) as error:
            failed.append(
                error if isinstance(error, HookError) else HookError(f"hooks.poststop[{index}]", hook["path"], str(error))
            )
    return failed


class Foreground:
    """A container of `run` without --detach: dolium-keep waits for it, and ends it when we are gone."""

    def __init__(self, top: str, identity: str, asked: Asked) -> None:
        self.creation, self.container = prepare(top, identity, asked)
        container, creation = self.container, self.creation
        try:
            _make(creation, container, asked)
            try:
                self.notify = proxy_of(container)
                creation.answer()
                begin(container, creation.spec, creation.facts)
                creation.runs()
                poststart(container, creation.spec)
            except BaseException:
                creation.undo()
                remove(container, creation.spec)
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
        from dolium.runtime import ending

        data = self.creation.ended(ending.MESSAGE.size)
        found = ending.told(data)
        self.creation.left()
        if not keep:
            self.container.lock()
            destroy(self.container)
            remove(self.container, self.creation.spec)
        return found


def delete(top: str, identity: str, force: bool) -> "list[HookError]":
    """`delete`: of one that has ended or was never started; with `force` of any, and of none.  Raises StateError; the hooks
    that failed are returned."""
    try:
        container = state.find(top, identity)
        container.lock()
    except DoliumError:
        if force and _forget_remains(top, identity):
            return []
        raise
    try:
        status = container.status()
        if status not in ("stopped", "created") and not force:
            raise StateError(identity, status, "stopped")
        destroy(container)
        try:
            spec = container.config()
        except (DoliumError, OSError, KeyError, TypeError):  # `create` was killed before it had written it
            container.forget()
            return []
        return remove(container, spec)
    finally:
        container.unlock()


def _forget_remains(top: str, identity: str) -> bool:
    """After a --force: nothing is there, or what a `create` that was killed at once has left."""
    directory = f"{top}/{identity}"
    if os.path.isdir(directory) and not os.path.exists(f"{directory}/state.json"):
        state.Container(top, identity, {}).forget()
    return not os.path.exists(directory)


def destroy(container: state.Container) -> None:
    """Kill all that is in it, and remove its groups."""
    if container.is_frozen():
        freeze(container, False)
    if pid := container.pid():
        kill_first(pid)
    groups = container.fields["groups"]
    for group in sorted({*groups.values()}, key=lambda path: path != groups.get("unified")):  # cgroup.kill first
        if os.path.isdir(group):
            cgroup.kill(group)
    for _ in range(500):
        if not container.pid():
            break
        from time import sleep

        sleep(0.002)
    left = [group for group in {*groups.values()} if not cgroup.remove(group)]
    if left:
        raise DoliumError(f"container `{container.id}`: processes in {left[0]} cannot be killed")


def remove(container: state.Container, spec: "dict[str, Any]") -> "list[HookError]":
    """Forget it, and run what is to be run then."""
    container.forget()
    return run_poststop(spec, container.id)


def update(top: str, identity: str, given: "dict[str, Any]") -> None:
    """`update`: other limits for a container that lives.  Raises SpecError, Unsupported, StepError."""
    container = state.find(top, identity)
    container.lock()
    try:
        if not container.pid():
            raise StateError(identity, container.status(), "running")
        spec = container.config()
        facts = oci_facts(spec)
        where = container.fields["groups"]
        _check_room(given, container)
        for step in resources.writes(given, where, facts, first=False):
            try:
                perform(step, [])
            except OSError as error:
                raise launch.step_error(step, [step], error.errno or 0, "write", facts) from None
        for key, value in given.items():
            if key == "devices":
                continue
            old = spec["linux"]["resources"].get(key)
            spec["linux"]["resources"][key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        container.save_config(spec)
    finally:
        container.unlock()


def _check_room(given: "dict[str, Any]", container: state.Container) -> None:
    """memory.checkBeforeUpdate: a limit below what is in use would kill."""
    memory = given.get("memory", {})
    group = container.fields["groups"].get("memory")
    if not memory.get("checkBeforeUpdate") or not memory.get("limit") or not group:
        return
    name = "memory.current" if container.fields["versions"]["memory"] == 2 else "memory.usage_in_bytes"
    used = int(cgroup.read(f"{group}/{name}"))
    if 0 < memory["limit"] < used:
        raise DoliumError(f"linux.resources.memory.limit: {memory['limit']} bytes are less than the {used} that are in use")

