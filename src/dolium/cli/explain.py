"""`dolium explain`: the plan of `dolium run` with the same words; needs no root and runs nothing."""

import os

from dolium.cli import flags as grammar
from dolium.cli import render, request
from dolium.engine import containers, life
from dolium.plan import build, explain, failures
from dolium.runtime import places
from dolium.runtime.lease import ID_FIRST


def main(argv: "list[str]") -> int:
    """Raises DoliumError, as `dolium run` would."""
    if len(argv) == 1 and argv[0] in failures.FAILURES:
        render.write(1, failures.page(argv[0]))
        return 0
    flags = grammar.parse(argv, "explain")
    if flags.help:
        render.write(1, grammar.help("explain"))
        return 0
    options = request.options(flags)
    identity = os.urandom(6).hex()
    life.equip(options, identity, f"{places.data_path()}/containers/{identity}", remove=flags.rm, detached=flags.detach)
    attachment = life.attach(options.network, 0)
    prepared = containers.prepare(request.image(flags), options, flags.user, ID_FIRST, identity, attachment)
    steps = build.plan(prepared.spec, prepared.facts)
    notes = [each for each in (prepared.note, *prepared.notes) if each]
    if flags.json:
        import json

        document = {"image": flags.image, "notes": notes, "steps": explain.rows(steps, prepared.spec)}
        render.write(1, json.dumps(document, indent=1) + "\n")
    else:
        render.write(1, explain.text(steps, prepared.spec, flags.image or "", "\n".join(notes), parts=flags.verbose))
    return 0
