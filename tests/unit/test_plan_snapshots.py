"""The plan of a container that is made from a snapshot."""

from invent import NAME, facts

from dolium.core.wire import Step
from dolium.engine import config
from dolium.engine.rootfs import Rootfs
from dolium.plan import build, slots


def _steps(above: list[str], layers: list[str]) -> list[Step]:
    root = Rootfs("x", "overlay", "/srv/x")
    root.layers, root.above, root.above_path = layers, above, "/data/snapshots" if above else ""
    host = facts(cgroups="v2", id_base=1 << 19)
    return build.plan(config.specification(NAME, config.Options(), root, host), host)


def _lowers(steps: list[Step]) -> list[str]:
    step = next(each for each in steps if each.path == "overlay")
    return [each.partition("=")[2] for each in step.data.decode().split("\0") if each.startswith("lowerdir")]


def test_snapshots_come_above_the_image_the_latest_first() -> None:
    snapshots, image = (f"/proc/self/fd/{{{slot}}}" for slot in (slots.SNAPSHOTS, slots.LOWER))
    assert _lowers(_steps(["a/tree", "b/tree"], [])) == [f"{snapshots}/b/tree", f"{snapshots}/a/tree", image]
    assert _lowers(_steps(["a/tree"], ["1/tree", "2/tree"])) == [f"{snapshots}/a/tree", f"{image}/2/tree", f"{image}/1/tree"]
    assert _lowers(_steps([], [])) == [image]


def test_they_are_opened_and_mapped_as_the_image_is() -> None:
    steps = _steps(["a/tree"], [])
    opened = [(each.op, each.out if each.op == "open_tree" else each.fd) for each in steps
              if {each.out, each.fd} & {slots.SNAPSHOTS, slots.LOWER} and each.op in ("open_tree", "set_attr")]  # fmt: skip
    assert opened == [("open_tree", slots.LOWER), ("set_attr", slots.LOWER), ("open_tree", slots.SNAPSHOTS), ("set_attr", slots.SNAPSHOTS)]
    assert not [each for each in _steps([], []) if each.out == slots.SNAPSHOTS]


def test_who_may_want_a_snapshot_finds_the_upper_directory() -> None:
    def words(argv: list[str], kind: str) -> bytes:
        options = config.Options()
        options.argv = argv
        host = facts(cgroups="v2", id_base=1 << 19)
        root = Rootfs("x", kind, "/srv/x" if kind == "overlay" else "")
        return build.plan(config.specification(NAME, options, root, host), host)[-1].data

    assert b"store={%d}" % slots.STORE in words([], "overlay")
    assert b"store=" not in words(["true"], "overlay") + words([], "tmpfs")
