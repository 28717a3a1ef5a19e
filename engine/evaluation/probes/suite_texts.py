"""The suite's files as items and passages.

Read once a process. The order of items is that of the files' names and lines; where the right option stands
is told by the item's id alone, so that it is the same for every model, seed and machine.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources

from engine.evaluation.probes.choice_items import ChoiceItem, check_items
from store.core.errors import DataError

PASSAGE_PATTERN = "== "  # begins the line before a passage: its id, a colon, its topic


@dataclass(frozen=True)
class ProsePassage:
    """A piece of plain prose. `register` is the kind of text, the name of its file."""

    id: str
    register: str
    topic: str
    text: str


@dataclass(frozen=True)
class Suite:
    """All items and passages. `fingerprint` tells one version of them from another."""

    items: tuple[ChoiceItem, ...]
    passages: tuple[ProsePassage, ...]
    fingerprint: str

    @property
    def categories(self) -> dict[str, int]:
        """Items of each category."""
        return dict(Counter(item.category for item in self.items))


@cache
def load_suite() -> Suite:
    """The suite of this installation."""
    items = tuple(item for name, text in _read_files("items", ".tsv") for item in read_items(name, text))
    check_items(items)
    passages = tuple(p for name, text in _read_files("prose", ".txt") for p in read_passages(name, text))
    contents = [[asdict(item) | {"prompt": item.prompt} for item in items], [asdict(p) for p in passages]]
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return Suite(items, passages, digest[:16])


def read_items(category: str, text: str) -> list[ChoiceItem]:
    """The items of a file. Raises DataError for a line with fewer than three fields."""
    items = []
    for number, line in enumerate(text.splitlines()[1:], 1):
        name = f"{category}/{number:03}"
        question, *written_options = line.split("\t")
        if len(written_options) < 2:
            raise DataError(f"The item {name} has no distractor.", fix="Put tabs between its fields.")
        order = _shuffle_options(name, len(written_options))
        options = tuple(written_options[place] for place in order)
        items.append(ChoiceItem(name, category, question, options, order.index(0)))
    return items


def read_passages(register: str, text: str) -> list[ProsePassage]:
    """The passages of a file. Raises DataError for one without a topic or without text."""
    passages = []
    for part in f"\n{text}".split(f"\n{PASSAGE_PATTERN}")[1:]:
        heading, _, body = part.partition("\n")
        name, _, topic = heading.partition(": ")
        if not topic or not body.strip():
            raise DataError(f"The passage {name!r} of {register} has no topic or no text.")
        passages.append(ProsePassage(f"{register}/{name}", register, topic, body.strip()))
    return passages


def _shuffle_options(name: str, count: int) -> list[int]:
    """Which of the told options stands at each place."""

    def rank(place: int) -> bytes:
        return hashlib.sha256(f"{name} {place}".encode()).digest()

    return sorted(range(count), key=rank)


def _read_files(folder: str, ending: str) -> list[tuple[str, str]]:
    """Name without ending and text of each file of a folder, by name."""
    files = (resources.files("engine.evaluation.probes.suite") / folder).iterdir()
    named = {file.name: file for file in files if file.name.endswith(ending)}
    return [(name.removesuffix(ending), named[name].read_text("utf-8")) for name in sorted(named)]
