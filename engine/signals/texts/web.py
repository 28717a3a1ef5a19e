"""What web pages leave in texts that were scraped from them: markup and the lines around the content.

Two RE2 patterns, asked of all rows at once. Both are made for few false alarms: code is full of `<T>` and
`a < b`, and "read more" is an advice as often as a link.
"""

from __future__ import annotations

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
        r"^[^\w\n]*(?:read|learn|show|see) more[^\w\n]*$|(?:\.\.\.|…)\s*(?:read more|continue reading)",
        r"^[^\w\n]*(?:advertisement|back to top|previous post|next post|leave a (?:comment|reply))[^\w\n]*$",
        r"skip to (?:main )?content|powered by wordpress",
        r"terms (?:of (?:use|service)|and conditions) (?:\||and|&) privacy|privacy policy \|",
        r"(?:enable|requires?) javascript (?:to|in)",
        r"you (?:may|might) also (?:like|be interested in):?\s*$",
        r"^[^\w\n]*copyright (?:©|\(c\))? ?(?:19|20)\d\d|^[^\w\n]*(?:©|\(c\)) ?(?:19|20)\d\d",
    )
)
