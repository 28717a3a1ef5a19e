"""@names in a text: whom they mean, and the text in pieces with the names apart."""

from __future__ import annotations

import re
from collections.abc import Sequence

from store.documents.tables.activity import PersonName


def resolved(text: str, people: Sequence[PersonName]) -> list[PersonName]:
    """The people whom `text` names by @, each once, in the order of the text. Of names that begin alike the
    longest counts; case does not."""
    mentioned = [piece for piece in pieces(text, people) if not isinstance(piece, str)]
    return list({person["person_id"]: person for person in mentioned}.values())


def pieces(text: str, people: Sequence[PersonName]) -> list[str | PersonName]:
    """The text, with a person in place of each @name of `people`."""
    by_name = {person["name"].lower(): person for person in people}
    longest_first = sorted(by_name, key=len, reverse=True)
    if not longest_first:
        return [text]
    # An address such as ada@example.org names nobody, nor does the beginning of a longer word.
    names = re.compile(rf"(?<!\w)@({'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE)
    parts: list[str | PersonName] = []
    end = 0
    for match in names.finditer(text):
        person = by_name.get(match[1].lower())
        if person is None:  # a letter that has more than one lower case
            continue
        parts += [text[end : match.start()], person]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]
