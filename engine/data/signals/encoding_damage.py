"""Detect and repair characters that were read or written in a wrong encoding."""

from __future__ import annotations

import re

import ftfy
import ftfy.badness

# Repair encodings only: quotes, ligatures, widths and entities are intentional.
REPAIR = ftfy.TextFixerConfig(
    unescape_html=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    normalization=None,
    explain=False,
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# Replacement and control characters are damage. Mojibake needs two consecutive non-ASCII characters, or the
# first half of a pair that was separated, and ftfy then decides. RE2, to match many rows at once.
BROKEN = "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\ufffd]"
PERHAPS_MOJIBAKE = r"[^\x00-\x7f]{2}|[ÃÂ]"
_BROKEN = re.compile(BROKEN)


def is_damaged(text: str) -> bool:
    """Return whether the text has characters damaged by a wrong encoding."""
    return _BROKEN.search(text) is not None or (not text.isascii() and ftfy.badness.is_bad(text))


def repair_text(text: str) -> str:
    """Repair mojibake, lossy sequences and control characters with ftfy (Speer 2019)."""
    if text.isascii() and not _CONTROL.search(text):
        return text
    return ftfy.fix_text(text, REPAIR)
