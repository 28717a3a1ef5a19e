"""Credentials in a text: the formats of well-known keys, and values that are assigned to a secret's name.

An assigned value counts where it looks random (Shannon entropy of its characters, in bits) or, for a
password, mixes kinds of characters; a placeholder or a reference to a variable never does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from engine.signals.personal.spans import PersonalSpan

RANDOM_BITS = 3.2  # a character; hexadecimal keys of 32 have about 3.7, words about 2.8

_FORMATS = (
    r"(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{16}",  # Amazon
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{36,255}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"https://hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    r"AIza[0-9A-Za-z_-]{35}",  # Google
    r"ya29\.[0-9A-Za-z_-]{20,}",
    r"[sr]k_(?:live|test)_[0-9A-Za-z]{16,}",  # Stripe
    r"sk-(?:proj-|ant-|svcacct-|or-v1-)?[A-Za-z0-9_-]{20,}",  # model providers
    r"hf_[A-Za-z]{30,}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgEIcHlwaS[A-Za-z0-9_-]{50,}",
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",  # SendGrid
    r"SK[0-9a-f]{32}",  # Twilio
    r"dop_v1_[0-9a-f]{64}",
    r"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}",  # Telegram
    r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",  # JSON web token
)
_KEY = re.compile(r"(?<![A-Za-z0-9_])(?:" + "|".join(_FORMATS) + r")(?![A-Za-z0-9])")
_PEM = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----")
_IN_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>]{1,64}:([^\s:/@\"'<>]{3,128})@[\w.-]+")
_ASSIGNED = re.compile(
    r"(?:(?P<password>passw(?:or)?d|passphrase|pwd)|api[_ -]?key|secret(?:[_ -]?(?:access[_ -]?)?key)?"
    r"|access[_ -]?key|(?:auth|access)[_ -]?token|client[_ -]?secret|(?:private|encryption)[_ -]?key"
    r"|token|bearer)[\"']?[ \t]{0,4}(?P<sign>:=|=>|=|:| is:? | )[ \t]{0,4}"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`<>(){}\[\],;]{6,256})(?P=quote)",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"your|^pass$|xxx|\*\*|\.\.\.|example|placeholder|change|insert|replace|redacted|secret|password|passwd|test"
    r"|dummy|sample|none$|null$|true$|false$|undefined|environ|getenv|process\.env|config|\$|%|^self\.|^os\.|^string$|required",
    re.IGNORECASE,
)
SECRET_GATE = (
    r"AKIA|ASIA|AROA|AIDA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|hooks\.slack|AIza|ya29\."
    r"|[sr]k_(?:live|test)|sk-[A-Za-z0-9]|hf_[A-Za-z]|npm_|pypi-Ag|SG\.|SK[0-9a-f]{8}|dop_v1_|:AA|eyJ"
    r"|PRIVATE KEY|://[^\s]+:[^\s]+@"
    r"|(?i:passw(?:or)?d|passphrase|pwd|key|secret|token|bearer)[\"']?[ \t]{0,4}(?:[:=]|(?i:is):? |[ \t])"
)


def find_secrets(text: str) -> Iterator[PersonalSpan]:
    """Keys, tokens, private keys, and the values of passwords."""
    yield from _private_keys(text)
    for match in _KEY.finditer(text):
        if entropy(match[0]) >= RANDOM_BITS:
            yield PersonalSpan(*match.span(), "secret")
    for match in _IN_ADDRESS.finditer(text):
        if not _PLACEHOLDER.search(match[1]):
            yield PersonalSpan(*match.span(1), "secret")
    for match in _ASSIGNED.finditer(text):
        value = match["value"].rstrip(".!?:")
        if _is_secret(value, match):
            yield PersonalSpan(match.start("value"), match.start("value") + len(value), "secret")


def _private_keys(text: str) -> Iterator[PersonalSpan]:
    """From each beginning to the next end; only the beginnings where no end comes any more."""
    place, closed = 0, True
    while (begin := _PEM.search(text, place)) is not None:
        end = _PEM_END.search(text, begin.end()) if closed else None
        closed = end is not None
        place = (end or begin).end()
        yield PersonalSpan(begin.start(), place, "secret")


def _is_secret(value: str, match: re.Match[str]) -> bool:
    if _PLACEHOLDER.search(value) or len(value) < 6:
        return False
    digits = any(map(str.isdigit, value))
    letters = any(map(str.isalpha, value))
    if match["password"]:
        signs = any(not sign.isalnum() and sign not in "_.-/" for sign in value)
        return match["sign"] != " " and letters and (digits or signs)
    return len(value) >= 16 and digits and letters and "/" not in value[:2] and entropy(value) >= RANDOM_BITS


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits a character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values())
