"""What the text steps do to one text: normalise and strip. Damaged characters and HTML go as the signals find
them (`engine.signals.texts`), so that a step changes the rows that a finding counts.

Each function gives the text itself where there is nothing to do. Indentation at the start of a line is never
touched.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from engine.signals.texts.web import BOILERPLATE, HTML, without_html

_BLANKS = "\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000 "
_RUNS = re.compile(rf"(?<=[^{_BLANKS}\n])[{_BLANKS}]{{2,}}(?=[^{_BLANKS}\n])")  # not at the start of a line
# A run is tried once, from its start.
_TRAILING = re.compile(rf"[{_BLANKS}](?<![{_BLANKS}]{{2}})[{_BLANKS}]*(?=\n|\Z)")
_BLANK_LINES = re.compile(r"\n{3,}")
_UNUSUAL = re.compile("[\t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]|  |\n\n\n| \n| \\Z")
_BOILERPLATE = re.compile(BOILERPLATE)

TextEdit = Callable[[str], str]


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
        if self.html:
            text = without_html(text)
        if self.boilerplate and _BOILERPLATE.search(text):
            text = "\n".join(line for line in text.split("\n") if not _BOILERPLATE.search(line))
        return text.strip()
