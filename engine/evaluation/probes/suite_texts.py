"""The suite's files as items and passages.

Read once per process. Items are in the order of file names and lines; the position of the right option
depends only on the item's ID, so that it is the same for every model, seed and machine.
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

PASSAGE_PATTERN = "== "  # starts the line before a passage: its ID, a colon, its topic


@dataclass(frozen=True)
class ProsePassage:
    """Passage of plain prose. `register` is the kind of text, the name of its file."""

    id: str
    register: str
    topic: str
    text: str


@dataclass(frozen=True)
class Suite:
    """All items and passages. `fingerprint` identifies their version."""

    items: tuple[ChoiceItem, ...]
    passages: tuple[ProsePassage, ...]
    fingerprint: str

    @property
    def categories(self) -> dict[str, int]:
        """Number of items by category."""
        return dict(Counter(item.category for item in self.items))


@cache
def load_suite() -> Suite:
    """Load the suite of this installation."""
    items = tuple(item for name, text in _read_files("items", ".tsv") for item in read_items(name, text))
    check_items(items)
    passages = tuple(p for name, text in _read_files("prose", ".txt") for p in read_passages(name, text))
    contents = [[asdict(item) | {"prompt": item.prompt} for item in items], [asdict(p) for p in passages]]
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return Suite(items, passages, digest[:16])


def read_items(category: str, text: str) -> list[ChoiceItem]:
    """Read the items of a file. Raises DataError for a line with fewer than three fields."""
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
    """Read the passages of a file. Raises DataError for one without a topic or text."""
    passages = []
    for part in f"\n{text}".split(f"\n{PASSAGE_PATTERN}")[1:]:
        heading, _, body = part.partition("\n")
        name, _, topic = heading.partition(": ")
        if not topic or not body.strip():
            raise DataError(f"The passage {name!r} of {register} has no topic or no text.")
        passages.append(ProsePassage(f"{register}/{name}", register, topic, body.strip()))
    return passages


def _shuffle_options(name: str, count: int) -> list[int]:
    """Return the index of the written option for each position."""

    def rank(place: int) -> bytes:
        return hashlib.sha256(f"{name} {place}".encode()).digest()

    return sorted(range(count), key=rank)


def _read_files(folder: str, ending: str) -> list[tuple[str, str]]:
    """Return the name without extension and the text of each file of a folder, sorted by name."""
    files = (resources.files("engine.evaluation.probes.suite") / folder).iterdir()
    named = {file.name: file for file in files if file.name.endswith(ending)}
    return [(name.removesuffix(ending), named[name].read_text("utf-8")) for name in sorted(named)]
