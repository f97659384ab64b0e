"""A container that is begun and not finished: the first steps of its plan, carried out for real, and then undone."""

import os

from dolium.engine import containers, life, rootfs, store
from dolium.plan import build, until
from dolium.runtime import launch, lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.engine.config import Options
    from dolium.engine.images import Image


class Rehearsal:
    """Steps that are being carried out.  Use it in a `with`, which removes all that was made."""

    __slots__ = ("running", "_identity", "_held")

    def __init__(self, image: str, options: "Options", user: "str | None", number: int, *, remove: bool, shell: str = "",
                 complete: "Callable[[Image], str | None] | None" = None) -> None:  # fmt: skip
        """Carry out the steps up to that number; with `shell`, the type of its terminal, a shell follows.  `complete` adds to
        the options what an image says, and returns the user that is meant then.

        Raises what containers.prepare and launch.start do; then nothing is left.
        """
        use = rootfs.provide(image)
        if use and use.image and complete:
            user = complete(use.image)
        self._identity, path, self._held = store.passing(kept=not remove)
        try:
            self.running = self._begin(image, options, user, number, path, remove, shell, use.digest if use else "")
            self.running.use = use
        except BaseException:
            self._forget()
            if use:
                use.close()
            raise

    def _begin(self, image: str, options: "Options", user: "str | None", number: int, path: str, remove: bool,
               shell: str, digest: str) -> launch.Running:  # fmt: skip
        life.equip(options, self._identity, path, remove=remove, detached=False)
        options.watch = {}
        more: dict[int, int] = {}
        taken = lease.take()
        try:
            attachment = life.attach(options.network, taken.number, more)
            prepared = containers.prepare(image, options, user, taken.id_base, self._identity, attachment, digest)
            whole = build.plan(prepared.spec, prepared.facts)
            steps = until.shell(whole, number, prepared.spec, shell) if shell else until.alone(whole, number)
        except BaseException:
            for fd in more.values():
                os.close(fd)
            taken.release()
            raise
        return launch.start(prepared.spec, prepared.facts, taken, (0, 1, 2), more, steps)

    def __enter__(self) -> launch.Running:
        return self.running

    def __exit__(self, *_: object) -> None:
        self._forget()

    def _forget(self) -> None:
        with self._held:
            store.erase(self._identity)
