"""Find personal data and secrets in texts, including names of people and street addresses.

`find_personal_data` is used both for counting and for redaction. Every finder has a gate, an RE2 pattern
that matches every text in which the finder could find something. Gates are evaluated for a whole column at
once, so Python only processes few texts. A gate may match too much, never too little; counts are always
those of `find_personal_data`.

Names and addresses can't be verified by check digits; they are found by a word list and their context. A
name counts if a first name of the list precedes a surname, a title precedes a name, or the words before it
announce a name ("my name is"); other names are missed. An address counts if a house number occurs with a
street, in the forms of a few languages, or if it is a post box or a flat.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.data.signals.identifiers import (
    SECRET_GATE,
    PersonalSpan,
    find_cards,
    find_ibans,
    find_ips,
    find_phones,
    find_secrets,
    find_ssns,
    get_preceding_text,
    remove_overlaps,
)

FIRST_NAMES = frozenset(
    line
    for line in (Path(__file__).parent / "first_names.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
_CAPITAL = "[A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u017d\u0410-\u042f]"
_SMALL = "[a-z\u00df-\u00f6\u00f8-\u017e\u0430-\u044f]"
_WORD = rf"(?:[A-Z]['’])?{_CAPITAL}{_SMALL}(?:{_SMALL}|(?<={_SMALL})[-'’]?{_CAPITAL}(?={_SMALL}))*"
_MIDDLE = rf"(?: {_CAPITAL}\.?| {_WORD})?"
_PARTICLE = r"(?: (?:de|da|di|van|von|der|den|del|la|le|el|bin|al))*"
_FULL = re.compile(
    rf"(?<![\w'’.-])(?P<first>{_WORD})(?P<rest>(?: {_CAPITAL}\.?)?{_PARTICLE} (?P<last>{_WORD}))(?![\w-])"
)
_TITLED = re.compile(
    rf"(?<![\w.])(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Madame|Herr|Frau|Señor|Señora)\.? "
    rf"(?P<name>(?:{_CAPITAL}\. ?)?(?P<last>{_WORD}){_MIDDLE})(?![\w-])"
)
_INTRODUCED = re.compile(
    r"(?:\b(?:[Mm]y (?:full |real |first |last )?name is|[Mm]y name[’']s|[Nn]ame ?: ?|[Cc]all me|[Ss]igned,?"
    r"|[Ss]incerely,?|[Rr]egards,?|[Yy]ours truly,?|[Aa]ttn:?)[ \n])"
    rf"(?P<name>{_WORD}(?: {_CAPITAL}\.?)?(?:{_PARTICLE} {_WORD}){{0,2}})(?![\w-])"
)
# A single first name that is not part of another name.
_ALONE = re.compile(rf"(?<![\w'’.@/_-])(?P<name>{_WORD})(?![\w@/_-]| {_CAPITAL}{_SMALL})")
_NAMED_AFTER = re.compile(
    r"(?:\b(?:san|santa|são|st\.?|saint|sainte|king|queen|pope|hurricane|storm|mount|mt\.?|lake|fort|port|prince"
    r"|princess|lady|lord)) $"
)
_AMBIGUOUS = frozenset(  # alone, these are as often a place, a thing or another word
    (
        *(
            "Angelica",
            "Angelo",
            "Bob",
            "Carmen",
            "Carol",
            "Charlotte",
            "Clinton",
            "Constance",
            "Daisy",
            "Dana",
        ),
        *("Diego", "Faith", "Gail", "Hazel", "Holly", "Jack", "Jasmine", "Jay", "Jean", "Kai", "Kim", "Lee"),
        *("Leo", "Lydia", "Magdalena", "Marina", "Marion", "Martin", "Max", "Morris", "Raj", "Rob", "Robin"),
        *("Rosa", "Rosemary", "Ross", "Roy", "Russell", "Salvador", "Santiago", "Shelby", "Sidney", "Stella"),
        *("Sven", "Thomas", "Tommy", "Troy", "Victor", "Wallace", "Warren", "Wayne"),
    )
)
_NO_SURNAME = frozenset(  # after a first name or a title, these denote a place or a thing
    (
        *("Street", "St", "Road", "Rd", "Avenue", "Ave", "Lane", "Drive", "Square", "Park", "Parks", "River"),
        *(
            "Lake",
            "Mountain",
            "Island",
            "Islands",
            "Bay",
            "City",
            "County",
            "Valley",
            "Creek",
            "Pass",
            "Union",
        ),
        *(
            "University",
            "College",
            "School",
            "Hospital",
            "Church",
            "Cathedral",
            "Museum",
            "Library",
            "Airport",
        ),
        *("Station", "Bridge", "Stadium", "Hotel", "Award", "Prize", "Medal", "Cup", "Trophy", "Act", "Bill"),
        *(
            "Theorem",
            "Law",
            "Effect",
            "Test",
            "Theory",
            "Equation",
            "Number",
            "Foundation",
            "Institute",
            "Your",
        ),
        *("Company", "Inc", "Ltd", "Corp", "Corporation", "Group", "Bank", "Press", "Records", "Investments"),
        *("Day", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "January"),
        *("February", "March", "April", "May", "June", "July", "August", "September", "October", "November"),
        *(
            "December",
            "President",
            "Minister",
            "King",
            "Queen",
            "Prince",
            "Who",
            "What",
            "When",
            "Where",
            "Why",
        ),
        *(
            "How",
            "The",
            "And",
            "But",
            "Is",
            "Are",
            "Was",
            "Hello",
            "Hi",
            "Thanks",
            "Please",
            "Pepper",
            "Code",
        ),
        *("Flat", "Bypass", "Cliffs", "Fort", "Villas", "Gardens", "Court", "Center", "Centre", "Tower"),
    )
)
_TITLES = r"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Madame|Herr|Frau|Señor|Señora)\b"
_OPENERS = (
    r"\b(?:[Nn]ame is|[Nn]ame[’']s|[Nn]ame ?:|[Cc]all me|[Ss]igned|[Ss]incerely|[Rr]egards|[Yy]ours truly"
    r"|[Aa]ttn)"
)
NAME_GATE = rf"{_TITLES}|{_OPENERS}|\b(?:{'|'.join(sorted(FIRST_NAMES))})\b"


def find_people(text: str) -> Iterator[PersonalSpan]:
    """Find names of people, without their titles."""
    for pattern in (_TITLED, _INTRODUCED):
        for match in pattern.finditer(text):
            if match["name"].split()[-1] not in _NO_SURNAME:
                yield PersonalSpan(*match.span("name"), "person")
    place = 0
    while (full := _FULL.search(text, place)) is not None:
        is_name = full["first"] in FIRST_NAMES and full["last"] not in _NO_SURNAME
        place = full.end() if is_name else full.end("first")  # "Producer James Sparks": the name follows
        if is_name and not _NAMED_AFTER.search(get_preceding_text(text, full.start(), 12)):
            yield PersonalSpan(*full.span(), "person")
    for match in _ALONE.finditer(text):
        name = match["name"].removesuffix("'s").removesuffix("’s")
        if name not in FIRST_NAMES or name in _AMBIGUOUS:
            continue
        if not _NAMED_AFTER.search(get_preceding_text(text, match.start(), 12)):
            yield PersonalSpan(match.start(), match.start() + len(name), "person")


# -- addresses ----------------------------------------------------------------------------------------

_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Circle|Cir|Place|Pl|Terrace|Ter"
    r"|Parkway|Pkwy|Highway|Hwy|Square|Sq|Trail|Way|Crescent|Cres|Close|Grove|Alley|Plaza|Turnpike|Mews|Gardens)"
)
_NAME = rf"(?:{_CAPITAL}[\w'’.-]*|[1-9]\d{{0,2}}(?:st|nd|rd|th))"
_FLAT = r"(?:,? ?(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?#?[A-Za-z]?\d{1,5}[A-Za-z]?)"
_STATE = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]"
    r"|W[AIVY])"
)
_PLACE = rf"(?:,? (?:{_CAPITAL}[\w'’.-]+ ?){{1,3}})?(?:,? {_STATE},? ?(?:\d{{5}}(?:-\d{{4}})?)?)"
# "1989 Tiananmen Square" is a year and a place, "8 District Court" a judge
_NO_NUMBER = (
    r"(?!(?:1[5-9]|20)\d\d \S+ (?:\S+ )?(?:Court|Square|Plaza|Gardens|Circle|Trail|Place))"
    r"(?!\d+ (?:\S+ )?(?:District|Supreme|Circuit|High|Crown) )"
)
_WAYS = r"straße|strasse|str\.|gasse|platz|allee|weg|vej|gatan|gata|straat|katu|tie|utca|väg"
_LATIN_WAYS = (
    r"Rua|Calle|C/|Via|Avenida|Av\.|Piazza|Plaza|Paseo|Viale|Corso|Largo|Travessa|Carrer|ul\.|Ul\.|Ulica"
)
_STREETS = (
    rf"{_NO_NUMBER}\d{{1,5}}[A-Za-z]?(?:-\d{{1,4}})? (?:[NSEW]\.? |North |South |East |West )?"
    rf"(?:{_NAME} ){{1,4}}{_SUFFIX}\b\.?(?: [NSEW]{{1,2}}\b)?{_FLAT}?{_PLACE}?",
    rf"{_CAPITAL}\w*(?:{_WAYS}) \d{{1,4}}[A-Za-z]?\b",
    rf"(?:{_CAPITAL}\w+ ){{1,3}}(?:utca|u\.|út|tér|Strasse|Straße|Street) \d{{1,4}}\b\.?",
    rf"\d{{1,4}}(?: bis)?,? (?:rue|avenue|boulevard|allée|chemin|quai|impasse|route|cours)"
    rf"(?: (?:de|du|des|la|le|les|l['’]|d['’])){{0,3}} ?(?:{_CAPITAL}[\w'’-]+ ?){{1,3}}",
    rf"(?:{_LATIN_WAYS})(?: (?:de|da|do|del|della|la|las|los|dos|das))*"
    rf"(?: {_CAPITAL}[\w'’.-]+(?: (?:de|da|do|del|di))?){{1,4}},? (?:nº? ?)?\d{{1,5}}\b",
    r"(?:P\.? ?O\.? ?Box|PSC) \d{2,6}(?:,? Box \d{1,6})?",
    r"(?:Apt|Suite|Unit)\.? #?\d{1,5}[A-Za-z]?\b",
)
_STREET = re.compile(r"(?<![\w.,/$€£-])(?:" + "|".join(_STREETS) + ")")
STREET_GATE = (
    rf"[0-9][A-Za-z]?,? (?:[NSEW]|[1-9][0-9]?(?:st|nd|rd|th)|{_CAPITAL}).*\b{_SUFFIX}\b"
    rf"|(?:{_WAYS}|utca|u\.|út|tér|Strasse|Straße|Street) [0-9]"
    rf"|[0-9](?: bis)?,? (?:rue|avenue|boulevard|allée|chemin|quai|impasse|route|cours)\b"
    rf"|(?:{_LATIN_WAYS}) .*[0-9]|(?:Box|PSC) [0-9]|(?:Apt|Suite|Unit)\.? #?[0-9]"
)


def find_addresses(text: str) -> Iterator[PersonalSpan]:
    """Find streets with a house number, flats and post boxes."""
    for match in _STREET.finditer(text):
        yield PersonalSpan(match.start(), match.start() + len(match[0].rstrip(" ,")), "address")


__all__ = ["FINDERS", "Finder", "find_personal_data"]

_EMAIL = re.compile(
    r"(?<![\w.%+-])(?!git@)[\w%+][\w.%+'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@])"
)


def find_emails(text: str) -> Iterator[PersonalSpan]:
    """Find email addresses; git remote addresses don't count."""
    return (PersonalSpan(*match.span(), "email") for match in _EMAIL.finditer(text))


@dataclass(frozen=True)
class Finder:
    """A finder of one kind, and the RE2 pattern that every text with a finding matches."""

    gate: str
    find: Callable[[str], Iterator[PersonalSpan]]


# In order of precedence for spans that several finders match.
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


def find_personal_data(text: str, kinds: Collection[str] | None = None) -> list[PersonalSpan]:
    """Return the findings of these kinds (all if None), without overlaps, in text order.

    A span belongs to one kind regardless of `kinds`: a card number never counts as a phone number because
    cards were not requested.
    """
    spans = (span for finder in FINDERS.values() for span in finder.find(text))
    return [span for span in remove_overlaps(spans) if kinds is None or span.kind in kinds]
