"""The plan: everything that happens when a container starts, in order."""

from dolium.plan import devices, filter, identity, limits, mounts, namespaces, network, program, sysctls, terminal
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.plan.facts import Facts


def plan(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Every step of every actor.  The order is the design; each line says why it sits there.

    `spec` is an OCI config with Dolium's own part under `dolium` (engine/config.py makes it).  Pure: no file, no system
    call, no clock.  Raises SpecError for what is malformed and Unsupported for what this host cannot do.
    """
    if "dolium" not in spec:
        from dolium.plan import oci

        spec = oci.read(spec)
    if is_bundle(spec):
        from dolium.plan import bundle, oci, process

        facts = oci.with_users(spec, facts)
        attributes, preserve, mappings = process.attributes(spec), process.preserve(spec), bundle.users(spec)
        own_dev = bundle.dev_index(spec) >= 0
    else:
        attributes = preserve = mappings = []
        own_dev = True
    steps: list[Step] = []
    foreign = is_bundle(spec) and "user" in namespaces.joined(spec)  # with its users comes the end of our own rights
    files = [mounts.layers(spec, facts), devices.tree(spec, facts), mounts.sources(spec, facts), devices.pipes(spec, facts)]

    def chapter(name: str, *groups: "list[Step]") -> None:
        for group in groups:
            for step in group:
                step.chapter = name
                steps.append(step)

    limited: list[Step] = []
    if namespaces.is_moved(spec):
        from dolium.plan import systemd

        limited = systemd.steps(spec, facts)
    else:
        chapter(
            "LIMITS",
            limits.cgroup(spec, facts),        # made and limited before anything lives in them
            limits.doors(spec, facts),
            limits.devices(spec, facts),       # before anything is born there
        )  # fmt: skip
    chapter("NETWORK", network.guard(spec))  # its rules are there before anybody who could break them
    chapter("NAMESPACES", mappings, namespaces.prepare(spec, facts))
    chapter("FILE SYSTEM", *(files if foreign else []))
    chapter(
        "NAMESPACES",
        namespaces.join(spec),
        network.enter(spec, facts),              # the child is born in a network that it shares: it may join none itself
        namespaces.clone(spec, facts),
        network.come_back(spec),
    )  # fmt: skip
    chapter("LIMITS", limited)             # of systemd's: while the child waits for its ids
    chapter(
        "NAMESPACES",
        namespaces.settle(spec, facts),    # enters the limits first, then makes what is left
        network.loopback(spec),
    )  # fmt: skip
    chapter(
        "FILE SYSTEM",
        *([] if foreign else files),       # after the maps: ids are mapped through them
        network.announce(spec),            # by now inside has it made
        program.created(spec, facts),
        [mounts.hand_over(spec, facts)],   # outside is done with files
        namespaces.join_mounts(spec),
        mounts.root(spec),
        mounts.contents(spec, facts),
        mounts.all_of(spec, facts),        # proc and sysfs need the host's to be visible still, so before the pivot
        terminal.make(spec),               # in the devpts that is one of them
        terminal.console(spec, own_dev),
    )  # fmt: skip
    chapter("NETWORK", network.connect(spec))  # outside, while inside mounts; some sysctls are of its devices
    chapter(
        "FILE SYSTEM",
        terminal.hand_over(spec),          # outside has done its part by now
        sysctls.write(spec),               # before /proc/sys becomes read-only
        mounts.cover(spec, facts),         # after the mounts that they cover parts of
        program.before_pivot(spec),
        mounts.pivot(spec),                # the host's paths are gone from here on
    )  # fmt: skip
    moment = filter.moment(spec)
    chapter(
        "SECURITY",
        program.home(spec),                # by the container's own files, and as its root
        attributes,
        limits.rlimits(spec, facts),
        program.directory(spec),
        # without no_new_privs it takes CAP_SYS_ADMIN
        filter.load(spec, facts) + filter.hand_over(spec, facts) if moment == filter.PRIVILEGED else [],
        identity.bounds(spec, facts),      # takes CAP_SETPCAP, which goes next
        identity.user(spec, facts),
        program.directory_again(spec),     # and the other way round: it may be open to the user alone
        identity.capabilities(spec, facts),
        identity.no_new_privileges(spec),
        program.finish(spec),              # after the last change of ids
        terminal.take(spec),
        terminal.control(spec),            # by whom program.finish has left to go on, who leads a session
        # who is to be told of it is told by `create`
        filter.load(spec, facts) + filter.hand_over(spec, facts) if moment == filter.CREATED else [],
        program.await_start(spec),         # `create` ends here
        preserve,
        filter.load(spec, facts) if moment == filter.LAST else [],  # as late as possible: only exec comes after it
    )  # fmt: skip
    if is_bundle(spec):
        chapter("EXEC", program.run(spec), program.keep(spec, facts, []))
        return steps
    directories = sorted(set(limits.groups(spec, facts).values()))
    chapter(
        "EXEC",
        program.await_command(spec),       # of one that is made in advance, with nothing left to give up
        program.run(spec),
        program.keep(spec, facts, directories),
    )  # fmt: skip
    return steps
