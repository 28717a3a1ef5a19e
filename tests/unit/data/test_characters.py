"""Characters are what people see, and counting them costs next to nothing where none join."""

from __future__ import annotations

from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from engine.data.graphemes import count_characters, measure_lengths
from store.core.home import Home
from tests.unit.data_job import import_file
from tests.unit.recipe_samples import make

FAMILY, FLAG, WAVE = "👨‍👩‍👧‍👦", "🇩🇪", "👋🏽"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("plain", 5),
        ("naïve", 5),
        ("nai\u0308ve", 5),
        (FAMILY, 1),
        (FLAG * 3, 3),
        (f"hi {WAVE}!", 5),
        ("a\r\nb\n\rc", 6),
        ("한국어", 3),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", 2),  # the first two of them, letter by letter
        ("नमस्ते", 3),
        ("日本語", 3),
        ("1\ufe0f\u20e3", 1),
    ],
)
def test_what_is_seen_as_one_counts_as_one(text: str, count: int) -> None:
    assert count_characters(text) == count
    assert count_characters(f"{text}x") == count + 1


JOINING = st.sampled_from(
    [*"a\r\né", "\u0308", "\u200d", "👩", "🇩", "🏽", "\u1100", "\u1161", "\u0600", "한", "न", "्"]
)


@given(st.lists(st.one_of(JOINING, st.characters(exclude_categories=["Cs"]))).map("".join))
def test_the_quick_way_counts_as_the_standard_does(text: str) -> None:
    assert count_characters(text) == len(regex.findall(r"\X", text))


def test_none_joins_none_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.graphemes._CLUSTER", None)
    assert measure_lengths(["plain\r\n", "Ünïcödé 日本語", "한국어"]).tolist() == [6, 11, 3]


def test_an_import_and_a_new_version_count_so(home: Home, tmp_path: Path) -> None:
    from tests.unit.recipe_samples import run

    rows = [{"text": f"{FAMILY}{FLAG}{n}"} for n in range(3)]
    dataset = make(home, rows)
    stats = import_file(home, home.path.parent / "Old.jsonl").result["stats"]
    assert (stats["characters"]["min"], stats["characters"]["max"]) == (3, 3)
    made = run(home, dataset, {"step": "sample", "rows": 2, "seed": 1})
    assert made.result["stats"]["characters"]["max"] == 3
