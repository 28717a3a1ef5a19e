"""What the text steps do to one text: repair characters, normalise, strip, redact.

Each function gives the text itself where there is nothing to do. Indentation at the start of a line is never
touched, nor is what stands between ``` fences when HTML is stripped: it is code that somebody asked for.
"""

from __future__ import annotations

import html as entities
import re
import unicodedata
from collections.abc import Callable
from typing import Literal

import ftfy

from engine.signals.texts.web import BOILERPLATE, HTML

# Encodings alone: quotes, ligatures, widths and entities are what somebody wrote.
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
_BLANKS = "\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000 "
_RUNS = re.compile(rf"(?<=[^{_BLANKS}\n])[{_BLANKS}]{{2,}}(?=[^{_BLANKS}\n])")  # not at the start of a line
# A run is tried once, from its start.
_TRAILING = re.compile(rf"[{_BLANKS}](?<![{_BLANKS}]{{2}})[{_BLANKS}]*(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNUSUAL = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|  |\n\n\n| \n| \\Z")
_FENCED = re.compile(r"(```.*?(?:```|\Z))", re.DOTALL)
_DOCTYPE = re.compile(r"<!DOCTYPE[^<>]*>", re.IGNORECASE)
_HIDDEN = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_ENDS = {
    name: re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE) for name in ("", "script", "style")
}
_BREAKING = "p|br|hr|div|li|ul|ol|tr|table|h[1-6]|section|article|header|footer|blockquote|pre|form|title"
_BREAK = re.compile(rf"(?:(?<![ \t])[ \t]+)?</?(?:{_BREAKING})(?:\s[^<>]*)?/?>[ \t]*", re.IGNORECASE)
_INLINE = (
    "html|head|body|meta|link|span|thead|tbody|td|th|img|input|button|nav|iframe|font|center|strong|em|code"
    "|sup|sub|a|b|i|u|s|script|style"
)
_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_HTML = re.compile(HTML)
_BOILERPLATE = re.compile(BOILERPLATE)

TextEdit = Callable[[str], str]


def fixed(text: str) -> str:
    """Mojibake, lossy sequences and control characters repaired by ftfy (Speer 2019)."""
    if text.isascii() and not _CONTROL.search(text):
        return text
    return ftfy.fix_text(text, REPAIR)


def normaliser(form: Literal["NFC", "NFKC", "none"], *, white_space: bool) -> TextEdit:
    """One Unicode form, line ends \\n; with `white_space` no runs of blanks within a line, none at its end,
    and one blank line at most."""

    def normalised(text: str) -> str:
        if form != "none" and not text.isascii():
            text = unicodedata.normalize(form, text)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if white_space and _UNUSUAL.search(text):
            text = _TRAILING.sub("", _RUNS.sub(" ", text))
            text = _BLANK_LINES.sub("\n\n", text).replace("\u00a0", " ")
        return text

    return normalised


class Stripper:
    """No white space around a text; tags and entities of HTML, and lines of boilerplate, where asked.

    `pattern`: RE2; texts that it does not match need `light` alone, which is much faster.
    """

    def __init__(self, *, html: bool, boilerplate: bool) -> None:
        self.html, self.boilerplate = html, boilerplate
        self.pattern = "|".join(f"(?:{p})" for p, on in ((HTML, html), (BOILERPLATE, boilerplate)) if on)

    @staticmethod
    def light(text: str) -> str:
        """White space alone."""
        return text.strip()

    def __call__(self, text: str) -> str:
        if self.html and _HTML.search(text):
            text = "".join(
                part if part.startswith("```") else _without_tags(part) for part in _FENCED.split(text)
            )
        if self.boilerplate and _BOILERPLATE.search(text):
            text = "\n".join(line for line in text.split("\n") if not _BOILERPLATE.search(line))
        return text.strip()


def _without_tags(text: str) -> str:
    """Tags out, a line break where a block ends, entities as the characters that they stand for."""
    if not _HTML.search(text):
        return text
    text = _BREAK.sub("\n", _DOCTYPE.sub("", _without_hidden(text)))
    text = entities.unescape(_TAG.sub("", text)).replace("\u00a0", " ")
    return _BLANK_LINES.sub("\n\n", text)


def _without_hidden(text: str) -> str:
    """Comments, scripts and styles out. One that is never closed stays, and no other of its kind is looked
    for: a text of openings alone would take a search to its end from each of them."""
    parts, end, place = [], 0, 0
    unclosed: set[str] = set()
    while (opening := _HIDDEN.search(text, place)) is not None:
        name = (opening[1] or "").lower()
        closing = None if name in unclosed else _ENDS[name].search(text, opening.end())
        place = opening.end()
        if closing is None:
            unclosed.add(name)
        else:
            parts.append(text[end : opening.start()])
            place = end = closing.end()
    return "".join([*parts, text[end:]])
