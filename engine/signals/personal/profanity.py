"""Swear words and slurs of English, whole words with their simple inflections, masked forms among them.

The words are few and plain: a word that is as often something else (cock, ass as an animal is let through for
its other use) costs more false alarms than it finds. Mild words such as damn and hell are not counted.
"""

from __future__ import annotations

import re

_WORDS = (
    r"(?:mother)?fuck(?:s|ed|er|ers|in|ing|ings|wit|wits|head|heads|face|up|tard|able)?",
    r"(?:bull|horse|dip|bat|ape)?shit(?:s|ty|tier|tiest|ting|ted|head|heads|hole|holes|show|faced|bag)?",
    r"(?:son of a )?bitch(?:es|y|ing|ed|in)?|cunt(?:s|y|ish)?|cocksuck(?:er|ers|ing)",
    r"dick(?:head|heads|wad)|twat(?:s|ty)?|wank(?:er|ers|ing|ed)?|bollocks|tosser(?:s)?|arse(?:s|hole|holes)?|pussies",
    r"(?:dumb|bad|jack|smart|fat|lard)?ass(?:hole|holes|hat|hats|wipe|wipes)?|bastard(?:s|y)?|goddamn(?:ed|it)?",
    r"piss(?:ed|ing|er|es)?|slut(?:s|ty|tier)?|whor(?:e|es|ed|ing)|skank(?:s|y)?|douche(?:bag|bags)",
    r"jizz|dildo(?:s)?|titt(?:y|ies)|fck(?:ing|in|ed)?|fuk(?:ing|in|ed)?|stfu|wtf|gtfo|milf",
    r"nigg(?:er|ers|a|as|az)|fag(?:got|gots|gy)|trann(?:y|ies)|retard(?:s|ed)|spic(?:s)?|kike(?:s)?|gook(?:s)?",
    r"wetback(?:s)?|paki(?:s)?|raghead(?:s)?|towelhead(?:s)?|beaner(?:s)?|chinam[ae]n|darkie(?:s)?|coon(?:s)",
    r"f[*@#$%]{1,3}k?(?:ing|in|ed|er|s)?|f\*+ing|sh[*@#!$]t(?:ty|s)?|s[*@#]{2}t|b[*@#!]tch(?:es)?|c[*@#]nt(?:s)?"
    r"|a[*@#$]{2}hole(?:s)?|n[*@#!]gg(?:er|a)(?:s)?",
)
PROFANITY = r"(?:" + "|".join(_WORDS) + r")"
PROFANITY_GATE = r"(?i)\b" + PROFANITY
_PROFANITY = re.compile(rf"(?<![\w*]){PROFANITY}(?![\w*])", re.IGNORECASE)


def count_profanity(text: str) -> int:
    """How many times the text swears."""
    return sum(1 for _ in _PROFANITY.finditer(text))
