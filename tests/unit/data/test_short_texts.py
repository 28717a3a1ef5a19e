"""Near duplicates among short texts: one changed word of eight, and not the texts of one template."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from bench.detection.short_texts import TEMPLATES, of_template, reworded
from engine.data.similarity.text_overlap import WINDOW, find_short_pairs
from engine.data.split.leakage import compute_overlap, find_leaks
from store.core.home import Home
from tests.unit.data.test_leakage import parts, write
from tests.unit.data_job import import_file
from tests.unit.measured import measure_duplicates, sentence

CAPITALS = {
    "France": "Paris", "Chile": "Santiago", "Norway": "Oslo", "Japan": "Tokyo", "Kenya": "Nairobi",
    "Cuba": "Havana", "Peru": "Lima", "Ghana": "Accra", "Egypt": "Cairo", "Iran": "Tehran",
}  # fmt: skip


def edited(text: str, way: str, draw: random.Random) -> str:
    """The text with one word changed."""
    words = text.split()
    place = draw.randrange(len(words))
    if way == "typo":
        words[place] = words[place][1] + words[place][0] + words[place][2:]
    elif way == "replaced":
        words[place] = "otherwise"
    elif way == "dropped":
        del words[place]
    elif way == "inserted":
        words.insert(place, "otherwise")
    else:
        words[place - 1], words[place] = words[place], words[place - 1]
    return " ".join(words)


@pytest.mark.parametrize("length", [4, 6, 8, 12, 16, 24])
@pytest.mark.parametrize("way", ["typo", "replaced", "dropped", "inserted", "swapped"])
def test_one_changed_word_is_seen_at_every_length(way: str, length: int) -> None:
    draw = random.Random(length)
    texts = [sentence(n, length) for n in range(60)]
    copies = [edited(text, way, draw) for text in texts]
    side = np.repeat([0, 1], [60, 60])
    first, second, _ = find_short_pairs([*copies, *texts], side=side)
    matched = set(zip(first.tolist(), (second - 60).tolist(), strict=True))
    if length > 4 or way in ("inserted", "swapped"):
        assert len(matched & {(n, n) for n in range(60)}) >= 48
    assert len(matched - {(n, n) for n in range(60)}) <= 3


def test_texts_of_one_template_are_told_apart_by_their_rare_words() -> None:
    texts = [f"What is the capital city of {land}? {city}" for land, city in CAPITALS.items()]
    assert not len(find_short_pairs(texts)[0])
    again = [*texts, "What's the capital city of Chile? Santiago"]
    assert list(zip(*(each.tolist() for each in find_short_pairs(again)[:2]), strict=True)) == [(1, 10)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_rows_of_a_template_match_their_copies_and_nothing_else(name: str) -> None:
    rows = of_template(TEMPLATES[name], 1_500)
    assert len(find_short_pairs(rows)[0]) <= 1
    mixed, copied = reworded(rows)
    pairs = set(zip(*(each.tolist() for each in find_short_pairs(mixed)[:2]), strict=True))
    assert len(pairs & copied) >= 0.95 * len(pairs)
    assert pairs & copied


def test_more_copies_than_are_compared_with_each_other_hang_together() -> None:
    draw = random.Random(4)
    copies = [edited(sentence(1, 9), "swapped", draw) for _ in range(4 * WINDOW)]
    first, second, _ = find_short_pairs([*copies, *(sentence(n, 9) for n in range(10, 400))])
    assert set(first.tolist()) | set(second.tolist()) == set(range(4 * WINDOW))


def test_a_deal_and_a_comparison_see_short_texts_that_are_nearly_the_same(home: Home, tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = [(sentence(n, 8), sentence(n + 500, 1)) for n in range(40)]
    leaked = [(edited(asked, "replaced", draw), answer) for asked, answer in rows[:10]]
    fingerprint = write(home, tmp_path / "a.jsonl", [*rows, *leaked])
    measure_duplicates(home, fingerprint)
    leaks = find_leaks(home, fingerprint, parts(list(range(40)), [], list(range(40, 50))))
    assert leaks["near"] >= 9
    other = write(home, tmp_path / "b.jsonl", leaked)
    ours, theirs = home.rows(other), home.rows(fingerprint)
    assert (
        compute_overlap(ours, theirs, tmp_path, lambda *_: None)["near"] == 0
    )  # they are in it as they stand
    plain = tmp_path / "c.txt"
    plain.write_text("\n\n".join(edited(asked, "swapped", draw) for asked, _ in rows[:10]))
    texts = tmp_path / "d.txt"
    texts.write_text("\n\n".join(asked for asked, _ in rows))
    files = [home.rows(import_file(home, path).result["fingerprint"]) for path in (plain, texts)]
    assert compute_overlap(*files, tmp_path, lambda *_: None)["near"] >= 9
