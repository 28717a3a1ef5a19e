"""By what rows count as equal: a 64-bit hash of their normalised text."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b


def normalise(text: str) -> str:
    """NFKC, lower case, every run of white space one blank, none at the ends."""
    if not text.isascii():  # ASCII is in NFKC as it is
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def digest(text: str) -> bytes:
    """8 bytes, little-endian uint64: equal for texts that are equal when normalised.

    Raises UnicodeEncodeError for half a surrogate pair, which no text may hold.
    """
    return blake2b(normalise(text).encode("utf-8"), digest_size=8).digest()
