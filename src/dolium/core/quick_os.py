"""`os` for our own commands, imported without `_collections_abc`, which makes 25 classes: 1 ms of each start (docs/decisions/0038).

`os` takes two things from there: the methods of a mapping for os.environ, and what isinstance(..., os.PathLike) asks.  Both are
here.  Everybody else gets the true module, once it is asked for.  `import dolium` in a program leaves that program's `os` alone:
only bin/dolium and bin/dolium-oci come here, by way of core/modules.py.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Environment:
    """What os.environ has from a mapping; its own are [], []=, del, iter, len, copy, setdefault and |."""

    def __contains__(self, name: object) -> bool:
        return self.get(name, self) is not self

    def __eq__(self, other: object) -> bool:
        return dict(self.items()) == other

    __hash__ = None  # type: ignore[assignment]

    def get(self, name: "Any", default: "Any" = None) -> "Any":
        """Its value, or `default`."""
        try:
            return self[name]  # type: ignore[index]
        except KeyError:
            return default

    def keys(self) -> "Any":
        """Names, as they are now."""
        return dict.fromkeys(self).keys()  # type: ignore[call-overload]

    def values(self) -> "Any":
        """Values, as they are now."""
        return dict(self.items()).values()

    def items(self) -> "Any":
        """Both, as they are now."""
        return {name: self[name] for name in self}.items()  # type: ignore[attr-defined,index]

    def pop(self, name: "Any", *default: "Any") -> "Any":
        """Its value, which is removed.  Raises KeyError."""
        if name not in self and default:
            return default[0]
        value = self[name]  # type: ignore[index]
        del self[name]  # type: ignore[attr-defined]
        return value

    def clear(self) -> None:
        """Remove all."""
        for name in self.keys():
            del self[name]  # type: ignore[attr-defined]

    def update(self, other: "Any" = (), /, **more: "Any") -> None:
        """Set what is in the others."""
        for name, value in {**dict(other), **more}.items():
            self[name] = value  # type: ignore[index]


def _check_methods(kind: "Any", *names: str) -> "Any":
    """Of the true module, when it is needed."""
    from _collections_abc import _check_methods as check  # type: ignore[attr-defined]

    return check(kind, *names)


if "os" not in sys.modules and "_collections_abc" not in sys.modules:
    stand_in = type(sys)("_collections_abc")
    vars(stand_in).update(Mapping=(dict, Environment), MutableMapping=Environment, _check_methods=_check_methods)
    sys.modules["_collections_abc"] = stand_in
    try:
        import os  # noqa: F401
    finally:
        del sys.modules["_collections_abc"]
