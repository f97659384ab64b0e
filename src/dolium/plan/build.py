"""The plan: everything that happens when a container starts, in order."""

from dolium.plan import devices, filter, identity, limits, mounts, namespaces, network, program, sysctls, terminal

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
    steps: list[Step] = []

    def chapter(name: str, *groups: "list[Step]") -> None:
        for group in groups:
            for step in group:
                step.chapter = name
                steps.append(step)

    chapter(
        "LIMITS",
        limits.cgroup(spec, facts),        # made and limited before anything lives in them
        limits.doors(spec, facts),
        limits.devices(spec, facts),       # before anything is born there
    )  # fmt: skip
    chapter(
        "NAMESPACES",
        namespaces.prepare(spec, facts),
        network.enter(spec, facts),              # the child is born in a network that it shares: it may join none itself
        namespaces.clone(spec, facts),
        network.come_back(spec),
        namespaces.settle(spec, facts),    # enters the limits first, then makes what is left
        network.loopback(spec),
    )  # fmt: skip
    chapter(
        "FILE SYSTEM",
        mounts.layers(spec, facts),        # after the maps: the image's ids are mapped through them
        devices.tree(spec, facts),
        mounts.sources(spec, facts),
        devices.pipes(spec, facts),
        network.announce(spec),            # by now inside has it made
        [mounts.hand_over(spec, facts)],   # outside is done with files
        mounts.root(spec),
        mounts.contents(spec, facts),
        mounts.all_of(spec, facts),        # proc and sysfs need the host's to be visible still, so before the pivot
        terminal.make(spec),               # in the devpts that is one of them
        terminal.console(spec),
    )  # fmt: skip
    chapter("NETWORK", network.connect(spec))  # outside, while inside mounts; some sysctls are of its devices
    chapter(
        "FILE SYSTEM",
        terminal.hand_over(spec),          # outside has done its part by now
        sysctls.write(spec),               # before /proc/sys becomes read-only
        mounts.cover(spec, facts),         # after the mounts that they cover parts of
        mounts.pivot(),                    # the host's paths are gone from here on
    )  # fmt: skip
    privileged = not spec["process"].get("noNewPrivileges")
    chapter(
        "SECURITY",
        limits.rlimits(spec, facts),
        program.directory(spec),
        filter.load(spec, facts) if privileged else [],  # without no_new_privs it takes CAP_SYS_ADMIN
        identity.bounds(spec, facts),      # takes CAP_SETPCAP, which goes next
        identity.user(spec, facts),
        identity.capabilities(spec),
        identity.no_new_privileges(spec),
        program.finish(spec),              # after the last change of ids
        terminal.take(spec),
        terminal.control(spec),            # by whom program.finish has left to go on, who leads a session
        [] if privileged else filter.load(spec, facts),  # as late as possible: only exec comes after it
    )  # fmt: skip
    directories = sorted(set(limits.groups(spec, facts).values()))
    chapter("EXEC", program.run(spec), program.keep(spec, facts, directories))
    return steps
