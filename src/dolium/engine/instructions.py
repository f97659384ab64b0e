"""Lines as a Dockerfile has them that change how an image is run: `CMD ["sh"]`, `ENV A=1`, for `--change`.

They are carried out on the part `config` of an image's config (image-spec config.md).
"""

from dolium.core import document
from dolium.errors import SpecError
from dolium.plan import quantities
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Config = dict[str, Any]

SHELL = ["/bin/sh", "-c"]
PROTOCOLS = ("tcp", "udp", "sctp")


def apply(config: "Config", line: str, flag: str = "--change") -> None:
    """Carry out one of them.  Raises SpecError, which blames `flag`."""
    word, _, rest = line.strip().partition(" ")
    act = ACTS.get(word.upper())
    if act is None:
        known = ", ".join(sorted(ACTS))
        raise SpecError(flag, f"{quoted(word)} does not change how an image is run", hint=f"there are {known}")
    rest = rest.strip()
    if not rest:
        raise SpecError(flag, f"{word.upper()} needs something after it")
    act(config, rest, flag)


def _words(text: str, flag: str) -> "list[str] | None":
    """Of the form with brackets; None where it is not that."""
    if not text.startswith("["):
        return None
    try:
        found = document.read(text, flag)
    except SpecError:
        return None
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None


def _split(text: str, flag: str) -> "list[str]":
    from shlex import split

    try:
        return split(text)
    except ValueError as error:
        raise SpecError(flag, f"{quoted(text)}: {error}") from None


def _command(config: "Config", text: str, flag: str) -> "list[str]":
    """Words with brackets are the program's, else it is a line for a shell."""
    found = _words(text, flag)
    return [*(config.get("Shell") or SHELL), text] if found is None else found


def _cmd(config: "Config", text: str, flag: str) -> None:
    config["Cmd"] = _command(config, text, flag)


def _entrypoint(config: "Config", text: str, flag: str) -> None:
    config["Entrypoint"] = _command(config, text, flag)


def _pairs(text: str, flag: str, what: str) -> "dict[str, str]":
    """`A=1 B="x y"`, or one in the old form `A value`."""
    first, space, rest = text.partition(" ")
    if "=" not in first and first[0] not in "'\"":
        if not space:
            raise SpecError(flag, f"{what} {quoted(text)}: no value", hint=f"write {what} NAME=VALUE")
        return {first: rest.strip()}
    found = {}
    for each in _split(text, flag):
        name, sign, value = each.partition("=")
        if not sign or not name:
            raise SpecError(flag, f"{what} {quoted(each)}: no NAME=VALUE", hint=f"a value with spaces is quoted: {what} A='x y'")
        found[name] = value
    return found


def _env(config: "Config", text: str, flag: str) -> None:
    there = dict(each.partition("=")[::2] for each in config.get("Env") or [])
    there |= _pairs(text, flag, "ENV")
    config["Env"] = [f"{name}={value}" for name, value in there.items()]


def _label(config: "Config", text: str, flag: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **_pairs(text, flag, "LABEL")}


def _expose(config: "Config", text: str, flag: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    for each in _split(text, flag):
        number, _, protocol = each.partition("/")
        is_number = number.isascii() and number.isdecimal() and 0 < int(number) < 65536
        if not is_number or (protocol or "tcp").lower() not in PROTOCOLS:
            raise SpecError(flag, f"EXPOSE {quoted(each)} is no port", hint="such as 80, 53/udp")
        ports[f"{int(number)}/{(protocol or 'tcp').lower()}"] = {}
    config["ExposedPorts"] = ports


def _volume(config: "Config", text: str, flag: str) -> None:
    volumes = dict(config.get("Volumes") or {})
    for each in _words(text, flag) or _split(text, flag):
        if not each.startswith("/"):
            raise SpecError(flag, f"VOLUME {quoted(each)} is no absolute path")
        volumes[each] = {}
    config["Volumes"] = volumes


def _workdir(config: "Config", text: str, flag: str) -> None:
    if text.startswith("/"):
        config["WorkingDir"] = text
    else:  # below the one before it
        config["WorkingDir"] = f"{(config.get('WorkingDir') or '/').rstrip('/')}/{text}"


def _user(config: "Config", text: str, flag: str) -> None:
    config["User"] = text


def _stop_signal(config: "Config", text: str, flag: str) -> None:
    quantities.signal(text, flag)
    config["StopSignal"] = text


ACTS = {"CMD": _cmd, "ENTRYPOINT": _entrypoint, "ENV": _env, "EXPOSE": _expose, "LABEL": _label, "STOPSIGNAL": _stop_signal,
        "USER": _user, "VOLUME": _volume, "WORKDIR": _workdir}  # fmt: skip
