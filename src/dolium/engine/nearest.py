"""Which known name did a person mean?  Imported only once something is spelt wrong."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: "str", candidates: "Iterable[str]", most: "int" = 2) -> "tuple[str, ...]":
    """The candidates closest to `word`, at most `most` of them and all equally close; none when all are far.

    Far is more than one slip in three letters.  A word broken off early (`mem`) counts as one slip from its whole.
    """
    word = word.lower()
    best = max(1, len(word) // 3) if word else 0
    found: list[str] = []
    for candidate in candidates:
        known = candidate.lower()
        if len(word) >= 3 and known.startswith(word):
            slips = min(1, len(known) - len(word))
        elif abs(len(known) - len(word)) > best:
            continue
        else:
            slips = distance(word, known)
        if slips < best:
            best, found = slips, []
        if slips == best and candidate not in found:
            found.append(candidate)
    return tuple(found[:most])


def did_you_mean(word: "str", candidates: "Iterable[str]", before: "str" = "") -> "str":
    """The hint for an error, or nothing; `before` goes before each name (`--`)."""
    found = nearest(word, candidates)
    return "did you mean " + " or ".join(f"`{before}{each}`" for each in found) + "?" if found else ""


def distance(one: "str", other: "str") -> "int":
    """How many slips turn one word into the other: a letter more, less, or wrong, or two neighbours exchanged."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        now = [row]
        for column, wanted in enumerate(other, 1):
            slips = min(last[column] + 1, now[-1] + 1, last[column - 1] + (letter != wanted))
            if row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted:
                slips = min(slips, before[column - 2] + 1)
            now.append(slips)
        before, last = last, now
    return last[-1]
