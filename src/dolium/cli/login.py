"""`dolium login` and `dolium logout`: who we are at a registry, kept where docker keeps it."""

import os

from dolium.cli import render, words
from dolium.cli.flags import Flag, yes
from dolium.cli.pull import REGISTRY
from dolium.engine import credentials, references, registries, registry
from dolium.engine.credentials import Credentials
from dolium.errors import UsageError

MOST = 1 << 16


def _text(text: str, flag: str) -> str:
    if not text or not text.isprintable():
        raise UsageError(f"{flag}: nothing that can be used")
    return text


TABLE = (
    Flag("username", "u", "NAME", _text, "else it is asked for"),
    Flag("password", "p", "WORD", _text, "others can see it: rather --password-stdin"),
    Flag("password-stdin", "", "", yes, "a line of standard input"),
    *REGISTRY,
)


def login(argv: "list[str]") -> int:
    """Raises DoliumError."""
    found = words.parse("login", argv, TABLE, most=1, what="HOST[:PORT]",
                        about="Log in to a registry, Docker Hub if none is named: try it, and keep it.")  # fmt: skip
    if found is None:
        return 0
    host = _host(found.names)
    user, password = _ask(found, host)
    settings = registries.load(found.get("tls-verify"), found.get("plain-http"))
    about = references.parse(f"{host}/x")
    client = registry.Client(about, f"log in to {host}", settings, push=True)
    try:
        client.log_in(Credentials(user, password))
    finally:
        client.close()
    where = credentials.store(host, Credentials(user, password))
    if where == os.path.realpath(credentials.own()):
        render.say(f"the password is kept in {where}, readable for you alone and not encrypted; a credential helper would hide it")
    render.write(1, "Login Succeeded\n")
    return 0


def logout(argv: "list[str]") -> int:
    """Raises DoliumError."""
    found = words.parse("logout", argv, (), most=1, what="HOST[:PORT]",
                        about="Forget who we are at a registry, Docker Hub if none is named.")  # fmt: skip
    if found is None:
        return 0
    host = _host(found.names)
    if credentials.erase(host):
        render.write(1, f"Removed the login to {host}\n")
    else:
        render.say(f"there was no login to {host}")
    return 0


def _host(names: "list[str]") -> str:
    text = names[0] if names else references.HUB
    text = text.partition("://")[2] or text
    return references.parse(f"{text.rstrip('/').removesuffix('/v1').removesuffix('/v2')}/x/x", "registry").registry


def _ask(found: words.Words, host: str) -> "tuple[str, str]":
    user, password = found.get("username", ""), found.get("password", "")
    if found.get("password-stdin"):
        if password:
            raise UsageError("`--password` and `--password-stdin` are two passwords", hint="leave the first out: others can see it")
        if not user:
            raise UsageError("`--password-stdin` needs `--username`")
        data = b""
        while len(data) < MOST and (piece := os.read(0, MOST)):
            data += piece
        return user, _decoded(data.removesuffix(b"\n").removesuffix(b"\r"))
    if password:
        render.say("a password on the command line can be seen by others (ps, history); --password-stdin hides it")
    if (not user or not password) and not os.isatty(0):
        raise UsageError("there is no terminal to ask for a password at", hint="write `--username NAME --password-stdin <FILE`")
    if not user:
        render.write(2, f"Username at {host}: ")
        user = _text(_decoded(os.read(0, 1024).strip()), "the name")
    if not password:
        from getpass import getpass

        password = _text(getpass(f"Password of {user} at {host}: "), "the password")
    return user, password


def _decoded(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("what was typed is not UTF-8") from None
    return _text(text, "--password-stdin")
