"""Personal data and secrets in a text: `find` is what counts them and what redacts them.

Every finder has a gate, an RE2 pattern that lets through all that the finder could match: over a column of
texts it is asked of all rows at once, and Python looks at the few that pass. A gate may let through too much,
never too little; the counts of a row are always those of `find`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from engine.signals.personal.numbers import find_cards, find_ibans, find_ips, find_phones, find_ssns
from engine.signals.personal.people import NAME_GATE, STREET_GATE, find_addresses, find_people
from engine.signals.personal.secrets import SECRET_GATE, find_secrets
from engine.signals.personal.spans import PersonalSpan, without_overlaps

__all__ = ["FINDERS", "Finder", "find"]

_EMAIL = re.compile(
    r"(?<![\w.%+-])(?!git@)[\w%+][\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])"
)


def find_emails(text: str) -> Iterator[PersonalSpan]:
    """name@domain; the addresses of git remotes are none."""
    return (PersonalSpan(*match.span(), "email") for match in _EMAIL.finditer(text))


@dataclass(frozen=True)
class Finder:
    """What finds one kind, and the RE2 pattern that every text it could find something in matches."""

    gate: str
    find: Callable[[str], Iterator[PersonalSpan]]


# In the order in which they claim a place that several could.
FINDERS: dict[str, Finder] = {
    "secret": Finder(SECRET_GATE, find_secrets),
    "email": Finder("@", find_emails),
    "iban": Finder(r"[A-Za-z]{2}[0-9]{2}[ A-Za-z0-9]{10}", find_ibans),
    "card": Finder(r"[0-9](?:[ -]?[0-9]){11}", find_cards),
    "ssn": Finder(r"[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}", find_ssns),
    "ip": Finder(
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f]*:", find_ips
    ),
    "phone": Finder(r"[0-9](?:[ \x{a0}().\-/]{0,4}[0-9]){6}", find_phones),
    "address": Finder(STREET_GATE, find_addresses),
    "person": Finder(NAME_GATE, find_people),
}


def find(text: str, kinds: Collection[str] | None = None) -> list[PersonalSpan]:
    """What is found of these kinds (all where None), without overlaps, in the order of the text.

    A place belongs to one kind, whichever kinds are asked for: a card number is never taken for a phone
    number because cards were not asked for.
    """
    spans = (span for finder in FINDERS.values() for span in finder.find(text))
    return [span for span in without_overlaps(spans) if kinds is None or span.kind in kinds]
