"""Words as a shell reads them.  Pure."""

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")


def quote(text: str) -> str:
    """One word of bash(1), whatever is in it; a line break or another control character as `$'...'` has it."""
    if text and set(text) <= _SAFE:
        return text
    if all(each.isprintable() for each in text):
        return "'" + text.replace("'", "'\\''") + "'"
    raw = text.encode("utf-8", "surrogateescape")
    special = {0x0A: "\\n", 0x09: "\\t", 0x27: "\\'", 0x5C: "\\\\"}
    return "$'" + "".join(special.get(each) or (chr(each) if 0x20 <= each < 0x7F else f"\\x{each:02x}") for each in raw) + "'"
