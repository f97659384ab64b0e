"""Names for containers whose owner gives them none: what it is like, and what a Roman ship had in its hold."""

from os import urandom

LIKE = (
    "amber", "brave", "brisk", "calm", "clay", "clever", "cool", "deep", "early", "fair", "fine", "fond", "free", "glad",
    "gold", "grand", "great", "green", "happy", "keen", "kind", "light", "lucky", "merry", "mild", "neat", "noble", "plain",
    "proud", "quick", "quiet", "rapid", "round", "ruby", "safe", "sharp", "silver", "small", "solid", "stout", "sunny",
    "sweet", "swift", "tall", "tidy", "true", "warm", "wise",
)  # fmt: skip
CARGO = (
    "amphora", "anchor", "barley", "beam", "bronze", "cask", "cedar", "coral", "copper", "cork", "date", "dolium", "fig",
    "flax", "garum", "glass", "grain", "honey", "iron", "ivory", "jar", "lamp", "lead", "lentil", "linen", "lyre", "marble",
    "mast", "millet", "mortar", "oar", "oil", "olive", "papyrus", "pearl", "pepper", "pitch", "purple", "rope", "rudder",
    "saffron", "sail", "salt", "sesame", "silk", "spelt", "tile", "tin", "vase", "wheat", "wine", "wool",
)  # fmt: skip


def invent(attempt: int) -> str:
    """A name such as `swift-amphora`; with a number where those before were taken."""
    first, second = urandom(2)
    name = f"{LIKE[first % len(LIKE)]}-{CARGO[second % len(CARGO)]}"
    return f"{name}-{attempt}" if attempt > 2 else name
