"""What web pages leave in texts that were scraped from them: markup and the lines around the content.

Two RE2 patterns, asked of all rows at once. Both are made for few false alarms: code is full of `<T>` and
`a < b`, and "read more" is an advice as often as a link. What stands between ``` fences is code that somebody
asked for: it is neither counted as HTML nor stripped of it.
"""

from __future__ import annotations

import html as entities
import re

_BLOCKS = (
    "html|head|body|title|meta|link|script|style|div|span|table|thead|tbody|tr|td|th|ul|ol|li|img|form|input"
    "|button|section|article|header|footer|nav|iframe|font|center|strong|em|code|pre|blockquote|h[1-6]|sup|sub"
)
_CAPITALS = "HTML|HEAD|BODY|TITLE|SCRIPT|STYLE|DIV|SPAN|TABLE|TR|TD|TH|UL|OL|LI|IMG|BR|HR|H[1-6]"

# A name counts in one case throughout, so that List<Table> does not; a single letter only where it closes or
# has an attribute, or is a paragraph that begins like one.
HTML = "|".join(
    (
        rf"</(?:{_BLOCKS}|a|p|b|i|u|s)\s*>|</(?:{_CAPITALS}|A|P|B|I|U)\s*>",
        rf"<(?:{_BLOCKS}|br|hr)(?:\s[^<>]*)?/?>|<(?:{_CAPITALS})(?:\s[^<>]*)?/?>",
        r"<(?:a|p|b|i|u|A|P|B|I|U)\s+[A-Za-z-]+\s*=",
        r"(?:^|[\s>.!?])<p>|<!DOCTYPE|<!--",
        r"&(?:nbsp|amp|lt|gt|quot|apos|copy|reg|mdash|ndash|hellip|[lr][sd]quo|bull|middot|[lr]aquo);",
        r"&#(?:[0-9]{2,5}|x[0-9A-Fa-f]{2,5});",
    )
)

_SITES = "facebook|twitter|instagram|linkedin|youtube"
BOILERPLATE = "(?im)" + "|".join(
    (
        r"all rights reserved",
        r"(?:we|site|website) uses? cookies|accept (?:all )?cookies|cookie (?:policy|settings|preferences)",
        r"subscribe to our|sign up (?:for|to) (?:our|the) (?:\w+ )?newsletter",
        rf"(?:follow|like|find) us on (?:{_SITES})|share (?:this )?on (?:{_SITES})",
        r"click here to (?:subscribe|unsubscribe|read|continue|learn|view|download)",
        r"^[^\w\n]*(?:read|learn|show|see) more[^\w\n]*$|(?:\.\.\.|…)[ \t]*(?:read more|continue reading)",
        r"^[^\w\n]*(?:advertisement|back to top|previous post|next post|leave a (?:comment|reply))[^\w\n]*$",
        r"skip to (?:main )?content|powered by wordpress",
        r"terms (?:of (?:use|service)|and conditions) (?:\||and|&) privacy|privacy policy \|",
        r"(?:enable|requires?) javascript (?:to|in)",
        r"you (?:may|might) also (?:like|be interested in):?\s*$",
        r"^[^\w\n]*copyright (?:©|\(c\))? ?(?:19|20)\d\d|^[^\w\n]*(?:©|\(c\)) ?(?:19|20)\d\d",
    )
)

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
_BLANK_LINES = re.compile(r"\n{3,}")


def without_html(text: str) -> str:
    """Tags and entities out, but for those in fenced code; the text itself where it has none."""
    if not _HTML.search(text):
        return text
    parts = _FENCED.split(text)
    return "".join(part if part.startswith("```") else _without_tags(part) for part in parts)


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
