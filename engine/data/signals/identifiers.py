"""Find numbers and credentials that identify a person, an account or a machine, with their spans.

Numbers are verified by check digits or their form. Cards: Luhn and the lengths of the networks. IBAN: ISO
13616 (mod 97). Phone numbers: the national plans of libphonenumber; a number without a country code counts
if it is written like a phone number or the words before it say so, because an order number can be as long.
IP addresses: public ones only; a version such as 1.2.3.4 is none.

Credentials: the formats of well-known keys, and values assigned to a secret's name. An assigned value
counts if it looks random (Shannon entropy of its characters, in bits) or, for a password, mixes kinds of
characters. A placeholder or a reference to a variable never counts.
"""

from __future__ import annotations

import ipaddress
import math
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import phonenumbers
from stdnum import iban, luhn

PARAGRAPH = "\n\n"  # separates turns; finders never match across it


class PersonalSpan(NamedTuple):
    """A finding: `text[start:end]` is of kind `kind`."""

    start: int
    end: int
    kind: str


def get_preceding_text(text: str, start: int, size: int) -> str:
    """Return up to `size` characters before a position, within the same paragraph, in lower case."""
    return text[max(0, start - size) : start].rpartition(PARAGRAPH)[2].lower()


def remove_overlaps(spans: Iterable[PersonalSpan]) -> list[PersonalSpan]:
    """Return the spans in text order; of overlapping spans, keep the one found first."""
    kept: list[
        PersonalSpan
    ] = []  # sorted: only neighbours can overlap, and long texts have thousands of spans
    for span in spans:
        at = bisect(kept, span)
        if (not at or kept[at - 1].end <= span.start) and (at == len(kept) or span.end <= kept[at].start):
            kept.insert(at, span)
    return kept


_CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w]|[.-]\d)")
# (first digits, lengths): Visa, Mastercard, American Express, Diners, Discover, JCB (two), UnionPay, Maestro
_NETWORKS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"30[0-5]|3[689]"), (14, 16)),
    (re.compile(r"6011|65|64[4-9]"), (16, 19)),
    (re.compile(r"35"), (16,)),
    (re.compile(r"2131|1800"), (15,)),
    (re.compile(r"62"), (16, 17, 18, 19)),
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[1-3]"), (12, 13, 14, 15, 16, 17, 18, 19)),
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{1,4}){3,8}(?![A-Za-z0-9])")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d\d\1(?!0000)\d{4}(?![\w]|-\d)")
_SSN_WORDS = re.compile(r"\bssn\b|social security")

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(rf"(?<![\w.-])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?=[\dA-Fa-f:]*\d)[\dA-Fa-f]{0,4}(?::[\dA-Fa-f]{0,4}){2,7}(?![\w:])")
_VERSION_WORDS = re.compile(
    r"(?:\bv|\bver|version|release|revision|section|chapter|clause|paragraph|firmware|build|driver|\w/)"
    r"[ .:#]*$"
)
_MACHINE_WORDS = re.compile(
    r"\b(?:ip|ipv4|address|dns|server|host|ping|gateway|router|subnet|node|proxy)\b|://$"
)

_PHONE = re.compile(
    r"(?<![\w.$€£#/+=-])(?:\+|00)?\(?\+?\d(?:[ \xa0]?[().\-/]{0,2}[ \xa0]?\d){6,14}"
    r"(?: ?(?:x|ext\.? ?)\d{1,5}\b|(?![\w%+]|[./-]\d|:\d|,\d{3}))"
)
_PHONE_WORDS = re.compile(
    r"\b(?:phone|telephone|tel|call|calls|calling|cell|cellphone|mobile|mob|fax|whatsapp|dial|ring|hotline"
    r"|helpline|landline|desk|reach|contact|sms|txt|text|messages? to|answering at|number is|my number|numéro"
    r"|nummer|telefon|teléfono|telefono)\b"
)
_PHONE_WORDS_AFTER = re.compile(r"[ -]{0,2}\(?(?:office|fax|mobile|cell|home|work|desk)\b", re.IGNORECASE)
_NO_PHONE_WORDS = re.compile(
    r"\b(?:order|invoice|ticket|case|reference|ref|tracking|account|isbn|issn|serial|sku|part|policy|model|issue"
    r"|card|license|licence|passport|zip|postal|id|pin|code|no|doi)(?: (?:number|no|id))?\W*(?:is )?\W*$"
)
_DECIMAL = re.compile(r"\+?\d+\.\d+")
_UNITS_AFTER = re.compile(
    r"\s?(?:(?:kilo|mega|giga|tera)?(?:bytes?|bits?)\b|[KMGT]i?B\b|[mµn]?s\b|(?:milli|micro|nano)?seconds?\b"
    r"|(?:rows?|tokens?|items?|lines?|times|people|dollars|euros?|km|kg|mm|cm|hz|px|%))",
    re.IGNORECASE,
)
_AMERICAN = re.compile(
    r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])\d{3}[.-]\d{4}(?: ?(?:x|ext\.? ?)\d{1,5})?"
)
_FRENCH = re.compile(r"0[1-9](?:([ .-])\d\d)(?:\1\d\d){3}")
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ]\d{1,2}[-./ ]\d{1,2}(?: \d.*)?|\d{1,2}[-./]\d{1,2}[-./](?:19|20)?\d\d(?: \d.*)?"
    r"|(?:1[5-9]|20)\d\d ?[-/–] ?(?:1[5-9]|20)\d\d"
)
# Tried in this order for a number without a country code that words announce as a phone number.
REGIONS = (
    *("US", "GB", "DE", "FR", "IN", "CA", "AU", "ES", "IT", "NL", "BR", "PL", "SE", "CH", "AT", "BE", "PT"),
    *("DK", "NO", "FI", "IE", "CZ", "HU", "RO", "GR", "ZA", "MX", "JP", "KR", "SG", "NZ", "IL", "TR", "UY"),
)


def find_cards(text: str) -> Iterator[PersonalSpan]:
    """Find 12 to 19 digits of a card network that pass the Luhn check."""
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        network = any(len(digits) in lengths and first.match(digits) for first, lengths in _NETWORKS)
        if network and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield PersonalSpan(*match.span(), "card")


def find_ibans(text: str) -> Iterator[PersonalSpan]:
    """Find IBANs, grouped or not, with valid check digits."""
    for match in _IBAN.finditer(text):
        candidate = match[0]
        while len(candidate) >= 15:
            if iban.is_valid(candidate):
                yield PersonalSpan(match.start(), match.start() + len(candidate), "iban")
                break
            candidate = candidate.rpartition(" ")[0]  # it may include parts of the following words


def find_ssns(text: str) -> Iterator[PersonalSpan]:
    """Find US social security numbers: with hyphens, or with spaces if the preceding words announce one."""
    for match in _SSN.finditer(text):
        if match[1] == "-" or _SSN_WORDS.search(get_preceding_text(text, match.start(), 40)):
            yield PersonalSpan(*match.span(), "ssn")


def find_ips(text: str) -> Iterator[PersonalSpan]:
    """Find public IP addresses: not loopback, private, reserved or for documentation, and not a version.

    See RFC 1918, RFC 5737 and RFC 3849.
    """
    for match in _IPV4.finditer(text):
        octets = [int(part) for part in match[0].split(".")]
        context = get_preceding_text(text, match.start(), 30)
        if not ipaddress.IPv4Address(match[0]).is_global or (
            _VERSION_WORDS.search(context) and not context.endswith("//")
        ):
            continue
        if max(octets) >= 10 or _MACHINE_WORDS.search(context):
            yield PersonalSpan(*match.span(), "ip")
    for match in _IPV6.finditer(text):
        groups = [group for group in match[0].split(":") if group]
        if len(groups) >= 3 and sum(map(len, groups)) >= 8 and _is_public(match[0]):
            yield PersonalSpan(*match.span(), "ip")


def _is_public(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).is_global
    except ValueError:
        return False


def find_phones(text: str) -> Iterator[PersonalSpan]:
    """Find phone numbers with a country code, in American or French form, or announced by the text."""
    for match in _PHONE.finditer(text):
        number = match[0]
        unbalanced = number.count("(") != number.count(")")
        if unbalanced or sum(map(str.isdigit, number)) > 20 or _DATE.fullmatch(number):
            continue
        context, after = get_preceding_text(text, match.start(), 40), text[match.end() : match.end() + 12]
        if _DECIMAL.fullmatch(number) or _UNITS_AFTER.match(after):
            continue
        if not _NO_PHONE_WORDS.search(context) and _is_phone(number, context, after):
            yield PersonalSpan(*match.span(), "phone")


def _is_phone(number: str, context: str, after: str) -> bool:
    if number.startswith(("+", "00")):
        return _is_possible("+" + number.lstrip("+0(").replace("(0)", ""))
    if _AMERICAN.fullmatch(number) or _FRENCH.fullmatch(number):
        return True
    groups = len(re.findall(r"\d+", number))
    if _PHONE_WORDS.search(context) or _PHONE_WORDS_AFTER.match(after):
        return groups > 1 or any(_is_valid(number, region) for region in REGIONS)
    return number[0] in "0(" and groups > 1 and _is_valid(number, "GB")


def _is_possible(number: str) -> bool:
    """Return whether the length of a number with a country code is possible.

    New and unused number ranges count as well.
    """
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


def _is_valid(number: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


RANDOM_BITS = 3.2  # bits per character; hexadecimal keys of 32 have about 3.7, words about 2.8

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
    """Find keys, tokens, private keys and password values."""
    yield from _find_private_keys(text)
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


def _find_private_keys(text: str) -> Iterator[PersonalSpan]:
    """Yield spans from each key header to the next footer, or the header alone if no footer follows."""
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
    """Return the Shannon entropy of the characters, in bits per character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values())
