"""`dolium explain`: the plan of `dolium run` with the same words; needs no root and runs nothing."""

import os

from dolium.cli import flags as grammar
from dolium.cli import render, request
from dolium.cli.explain_flags import ExplainFlags, in_two_parts
from dolium.engine import containers, life, rootfs, store
from dolium.errors import NotFound, SpecError, Unsupported, UsageError
from dolium.plan import build, explain, failures
from dolium.plan.quantities import quoted
from dolium.runtime import places
from dolium.runtime.lease import ID_FIRST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step
    from dolium.engine.images import Image
    from dolium.plan.saved import Saved

FOOTER = """
-v: more on each   --step {middle}: all about one   --run: do it, with timings
--until {middle} --shell: stop after a step and look around   --help: the rest
"""
NUMBERED = "`dolium explain` with the same words numbers them"


class Shown:
    """A plan to be shown: of what it is, its steps, the config that they were made of, and what the caller should be told."""

    __slots__ = ("image", "spec", "steps", "notes", "done")

    def __init__(self, image: str, spec: "dict[str, Any]", steps: "list[Step]", notes: "list[str]",
                 done: str = explain.NOTHING_RUN) -> None:  # fmt: skip
        self.image = image
        self.spec = spec
        self.steps = steps
        self.notes = notes
        self.done = done

    @property
    def total(self) -> int:
        """How many numbered steps it has."""
        return _total(self.steps)


def main(argv: "list[str]") -> int:
    """Raises DoliumError, as `dolium run` would."""
    if len(argv) == 1 and argv[0] in failures.FAILURES:
        render.write(1, failures.page(argv[0]))
        return 0
    flags = ExplainFlags()
    grammar.parse(argv, "explain", flags)
    if flags.help:
        from dolium.cli.help_page import help

        render.write(1, help("explain"))
        return 0
    flags.check()
    if flags.run:
        return run(flags)
    shown = remembered(flags.id) if flags.id else engines(flags.bundle) if flags.bundle else planned(flags)
    if flags.until is not None:
        return stop_after(flags, shown)
    if flags.json:
        import json

        render.write(1, json.dumps(document(shown), indent=1) + "\n")
    elif flags.sh:
        from dolium.plan import by_hand

        if oci_made(shown):
            raise in_two_parts()
        render.write(1, by_hand.text(shown.steps, shown.spec))
    elif flags.save is not None:
        save(flags.save, shown)
    elif flags.diff is not None:
        render.write(1, compare(flags, shown))
    elif flags.step is not None:
        render.write(1, of_step(flags.step, shown))
    else:
        render.write(1, page(shown, flags.verbose))
    return 0


def run(flags: ExplainFlags) -> int:
    """`dolium run` with these words; afterwards, on stderr, how long each step took.  The program's exit code."""
    from dolium.cli import run as command
    from dolium.plan import timed

    found: list[str] = []

    def seen(begun: life.Begun) -> None:
        running = begun.running
        steps, times = running.steps(), running.times()
        head = f"Plan for `{steps_program(running.spec)}` in {flags.image}: {_total(steps)} steps, done."
        found.append(timed.text(head, steps, running.spec, times, flags.verbose))

    code = command.execute(flags, seen)
    render.write(2, "\n" + found[0])
    return code


def stop_after(flags: ExplainFlags, shown: Shown) -> int:
    """The first steps only, and perhaps a shell; the shell's exit code.  Raises UsageError and what a start raises."""
    from dolium.cli.run import Signals
    from dolium.engine.rehearsal import Rehearsal
    from dolium.plan import timed, until

    number = within(flags.until or 0, "--until", shown.total)
    most = until.last(shown.steps)
    if number > most:
        raise UsageError(f"--until {number}: step {most + 1} is the program itself, and nobody is left to stop after it",
                         hint=f"--until {most} stops just before; `dolium run` goes on")  # fmt: skip
    signals = Signals()
    following = next(step.what for place, step in explain.numbered(shown.steps) if place == number + 1)
    if flags.shell:
        render.write(2, f"{number} of {shown.total} steps, then a shell; next would be: {number + 1} {following}.\n"
                        "This is not a container yet: what the other steps would take away is still there.\n")  # fmt: skip
    term = os.environ.get("TERM", "dumb")
    options = request.options(flags)
    with Rehearsal(request.image(flags), options, flags.user, number, remove=flags.rm, shell=term if flags.shell else "",
                   complete=lambda image: request.complete(flags, options, image).user) as running:  # fmt: skip
        if not flags.shell:
            times = running.stopped()
            head = f"{number} of {shown.total} steps for {shown.image}, done, and undone again. Next would be: {following}."
            render.write(1, timed.text(head, running.steps(), running.spec, times, flags.verbose))
            return 0
        try:
            reason = signals.wait(running, flags.timeout)
        except BaseException:
            running.abandon()
            raise
        code = running.finish().exit_code
        return 124 if reason == "timeout" else code


def planned(flags: ExplainFlags) -> Shown:
    """What these words would do; nothing is made for it."""
    options = request.options(flags)
    identity = os.urandom(6).hex()
    life.equip(options, identity, f"{places.data_path()}/containers/{identity}", remove=flags.rm, detached=flags.detach)
    attachment = life.attach(options.network, 0)
    image, user = request.image(flags), flags.user
    root, digest = None, ""
    if rootfs.is_image(image):
        found = _image(flags, image)
        user = request.complete(flags, options, found).user
        root, unpacked = _layers(found, image)
    else:
        digest, unpacked = _tarball(image)
    if not unpacked and user and not user.replace(":", "").isdigit() and user != "root":
        said = "" if flags.user else "the image's config says so, and "
        hint = f"give a number, or have it unpacked first: {'dolium explain --pull missing' if root else 'dolium run'}"
        raise Unsupported(f"explain --user {user}", f"{said}nothing is known of users in {quoted(image)} before it is unpacked",
                          hint=hint)  # fmt: skip
    prepared = containers.prepare(image, options, user, ID_FIRST, identity, attachment, digest, root)
    later = "" if unpacked else f"{quoted(image)} will be unpacked first, once"
    notes = [each for each in (later, prepared.note, *prepared.notes) if each]
    return Shown(flags.image or "", prepared.spec, build.plan(prepared.spec, prepared.facts), notes)


def _image(flags: ExplainFlags, name: str) -> "Image":
    """The image in the store; `--pull` has it fetched and unpacked, which nothing else does.  Raises NotFound, ImageError, and
    with `--pull` what rootfs.provide does."""
    platform = flags.platform or ""
    if flags.pull in ("always", "missing"):
        from dolium.cli.run import progress

        use = rootfs.provide(name, render.say, pull=flags.pull, platform=platform, progress=progress)
        assert use and use.image
        use.close()
        return use.image
    from dolium.engine import sources

    try:
        return sources.here(name, platform)
    except NotFound as problem:
        raise NotFound("image", name, hint=_rather(name, alone=not flags.argv) or problem.hint) from None


def _rather(name: str, *, alone: bool) -> str:
    """What else of that name can be explained; `alone`: no program was named."""
    from dolium.engine.nearest import nearest

    if store.is_known(name):
        return f"there is a container of that name: dolium explain --id {name}"
    code = next(iter(nearest(name, failures.FAILURES)), "") if alone else ""
    return f"or the code of an error, `dolium explain {code}`?" if code else ""


def _layers(image: "Image", name: str) -> "tuple[rootfs.Rootfs, bool]":
    from dolium.engine import layers

    return layers.expected(image, name)


def _tarball(image: str) -> "tuple[str, bool]":
    """The digest of a tarball, empty for another image, and whether nothing is to be unpacked."""
    if not rootfs.is_file(image):
        return "", True
    from dolium.engine import tarballs

    return tarballs.look(image)


def remembered(word: str) -> Shown:
    """The plan of a container that is there, as it was started or would be.  Raises NotFound, and what `planned` raises."""
    try:
        container = store.find(word)
    except NotFound:
        if found := of_an_engine(word):
            return found
        raise
    now = life.state(container)
    running = now["status"] == "running"
    options = container.request()
    life.equip(options, container.id, container.path, remove=container.remove, detached=False)
    attachment = life.attach(options.network, now["lease"] if running else 0)
    id_base = now["id_base"] or ID_FIRST if running else ID_FIRST
    prepared = containers.prepare(container.image, options, container.user, id_base, container.id, attachment,
                                  container.digest)  # fmt: skip
    notes = [each for each in (prepared.note, *prepared.notes) if each]
    done = f"{container.name} is {now['status']}"
    return Shown(container.image, prepared.spec, build.plan(prepared.spec, prepared.facts), notes, done)


def of_an_engine(word: str) -> "Shown | None":
    """The plan of a container of dolium-oci, by its id or the beginning of it; none where there is none, or more than one.
    It is the config as the engine gave it, with what `update` has changed since."""
    from dolium.plan import oci
    from dolium.runtime import host, state

    found = [each for top in state.known_roots() for each in state.every(top) if each.id.startswith(word)]
    if len(found) != 1:
        return None
    spec = found[0].config()
    facts = oci.with_users(spec, host.facts())
    return Shown(found[0].id[:12], spec, build.plan(spec, facts), [], f"it is {found[0].status()}")


def engines(directory: str) -> Shown:
    """The plan for a bundle that an engine has made, as `dolium-oci` would carry it out.  Raises SpecError and Unsupported."""
    from dolium.plan import oci
    from dolium.runtime import bundle, host

    if os.path.isdir(directory) and not os.path.exists(f"{directory}/config.json"):
        raise NotFound("config.json in", directory, hint="a bundle is a directory with one; `dolium-oci spec` writes it")
    spec = bundle.load(os.path.abspath(directory), "explained")
    notes = bundle.explained(spec)
    if not spec["process"]["args"]:
        raise SpecError("process.args", "is empty")
    facts = oci.with_users(spec, host.facts())
    return Shown(directory, spec, build.plan(spec, facts), notes, explain.NOTHING_RUN)


def page(shown: Shown, verbose: bool) -> str:
    """The whole plan, a line a step."""
    more, words = None, ""
    if verbose:
        from dolium.plan import one_step

        more, words = one_step.short, "\n" + one_step.WORDS
    text = explain.text(shown.steps, shown.spec, shown.image, "\n".join(shown.notes), parts=verbose, more=more,
                        done=shown.done, words=words)  # fmt: skip
    middle = next((number for number, step in explain.numbered(shown.steps) if step.op == "pivot_root"), 1)
    return text + (FOOTER.format(middle=middle) if shown.done == explain.NOTHING_RUN and not oci_made(shown) else "")


def of_step(wanted: "int | str", shown: Shown) -> str:
    """All about one step; of a word that means several, which they are.  Raises UsageError."""
    from dolium.plan import finding_steps, one_step

    if isinstance(wanted, str):
        numbers = finding_steps.named(shown.steps, wanted)
        if not numbers:
            from dolium.engine.nearest import did_you_mean

            raise UsageError(f"--step {quoted(wanted)}: no step of this plan has that word",
                             hint=did_you_mean(wanted, {each.op for each in shown.steps}) or NUMBERED)  # fmt: skip
        if len(numbers) > 1:
            return finding_steps.listed(shown.steps, numbers, quoted(wanted), shown.spec)
        wanted = numbers[0]
    return one_step.text(shown.steps, within(wanted, "--step", shown.total), shown.spec)


def document(shown: Shown) -> "dict[str, Any]":
    """The plan as data."""
    from dolium.plan import saved

    return saved.document(shown.image, shown.notes, shown.steps, shown.spec)


def save(path: str, shown: Shown) -> None:
    """The plan into a file, which appears whole.  Raises UsageError where it cannot be written."""
    import json

    fresh = f"{path}.new"
    try:
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(json.dumps(document(shown), indent=1) + "\n")
        os.rename(fresh, path)
    except OSError as error:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise UsageError(f"--save: cannot write `{path}`: {error.strerror}") from None


def compare(flags: ExplainFlags, shown: Shown) -> str:
    """What differs from a saved plan, or from what the same rootfs and program get without any flag.  Raises UsageError."""
    from dolium.plan import differences

    base = _saved(flags.diff) if flags.diff else _defaults(flags, shown)
    name = shown.spec["linux"]["cgroupsPath"].rpartition("/")[2]
    found = differences.between(base.steps, shown.steps, (base.id, name))
    return differences.text(found, shown.total, shown.spec["dolium"], f"`{flags.diff}`" if flags.diff else "the defaults")


def _saved(path: str) -> "Saved":
    import json

    from dolium.plan import calls, saved

    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if os.path.basename(path) == "config.json" and isinstance(document, dict) and "ociVersion" in document:
            shown = engines(os.path.dirname(path) or ".")
            return saved.Saved("explained", shown.steps)
        found = saved.read(document, path)
    except OSError as error:
        raise UsageError(f"--diff: cannot read `{path}`: {error.strerror}", hint=saved.HOW) from None
    except ValueError:
        raise UsageError(f"`{path}` is no saved plan", hint=saved.HOW) from None
    strange = next((each.op for each in found.steps if each.op not in calls.KNOWN), None)
    if strange:
        raise UsageError(f"`{path}` has a step that this dolium does not know: {strange}", hint="save the plan again")
    return found


def _defaults(flags: ExplainFlags, shown: Shown) -> "Saved":
    from dolium.plan import saved

    plain = ExplainFlags()
    if oci_made(shown):
        raise UsageError(f"`--{'id' if flags.id else 'bundle'}` with `--diff`: an engine's container has no defaults of ours",
                         hint="name a saved plan: --diff FILE")  # fmt: skip
    plain.image, plain.argv = (shown.image, shown.spec["process"]["args"]) if flags.id else (flags.image, flags.argv)
    plain.pull, plain.platform = flags.pull and "missing", flags.platform
    shown = planned(plain)
    return saved.Saved(shown.spec["linux"]["cgroupsPath"].rpartition("/")[2], shown.steps)


def oci_made(shown: Shown) -> bool:
    """Whether an engine has made the config: then none of our commands starts it."""
    from dolium.plan.origin import is_bundle

    return is_bundle(shown.spec)


def _total(steps: "list[Step]") -> int:
    return sum(not each.is_part for each in steps)


def steps_program(spec: "dict[str, Any]") -> str:
    """The program's name, as it was asked for."""
    name: str = spec["process"]["args"][0]
    return name


def within(number: int, flag: str, total: int) -> int:
    """The number of a step, if there is such a step.  Raises UsageError."""
    if number > total:
        raise UsageError(f"{flag} {number}: the plan has {total} steps", hint=NUMBERED)
    return number
