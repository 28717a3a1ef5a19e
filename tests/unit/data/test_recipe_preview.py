"""The preview of a recipe says what the job would do, of the first rows where there are many."""

from __future__ import annotations

from typing import Any

import pytest

from engine.data import cleaning_preview
from store.core.home import Home
from store.data.schemas import CleanPreview, SampledRows
from tests.unit.data_job import make_job, read
from tests.unit.recipe_samples import ROWS, chat, make, run


def ask(
    home: Home, dataset: dict[str, Any], *steps: dict[str, Any], examples: int = 3, whole: bool = False
) -> CleanPreview:
    body = {
        "dataset": dataset,
        "parent": None,
        "mixed": {},
        "recipe": {"steps": list(steps)},
        "examples": examples,
        "whole": whole,
    }
    return cleaning_preview.run(make_job(home, "clean_preview", body))


def test_a_preview_says_what_the_job_would_do(home: Home) -> None:
    dataset = make(home, ROWS)
    steps = [
        {"step": "strip", "html": True},
        {"step": "drop_duplicates", "kind": "prompt"},
        {"step": "normalise"},
    ]
    answer = ask(home, dataset, *steps)
    made = run(home, dataset, *steps)
    assert answer.fates == made.result["fates"]
    assert answer.of is None
    assert [problem["field"] for problem in answer.problems] == ["recipe.steps.2"]
    fates = {fate["parent_row_id"]: fate for fate in made.fates}
    old = read(home.rows(dataset["fingerprint"]))
    assert {example.fate for example in answer.examples} >= {"changed", "dropped"}
    for example in answer.examples:
        fate = fates[example.row_id]
        assert example.before["text"] == old[example.row_id]["text"]
        after = None if fate["row_id"] is None else made.rows[fate["row_id"]]["text"]
        assert (example.after and example.after["text"]) == after
        assert all(getattr(example, field) == fate[field] for field in ("fate", "step", "steps", "reason"))


def test_of_a_large_data_set_the_first_rows_are_tried(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning_preview, "FIRST_ROWS", 10)
    monkeypatch.setattr(cleaning_preview, "MAX_QUICK_COST", 0)
    dataset = make(home, ROWS)
    answer = ask(
        home, dataset, {"step": "strip"}, {"step": "edit_rows", "edits": [{"row_id": 30, "label": "x"}]}
    )
    assert answer.of == SampledRows(rows=10, total=34)
    assert answer.fates.changed == 10
    gone = ask(home, dataset, {"step": "filter", "where": {"expression": "row_id < 20"}}, {"step": "strip"})
    assert gone.fates.dropped == 10
    assert "drops all of the first rows" in gone.problems[-1]["message"]
    assert answer.unknown == []


def test_what_looks_across_rows_is_counted_on_all_of_them_or_not_promised(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning_preview, "FIRST_ROWS", 20)
    rows = [
        chat(f"question {n}", f"answer {n % 25}") for n in range(50)
    ] * 2  # twice: none among the first 20
    dataset = make(home, rows)
    step = {"step": "drop_duplicates"}
    quick = ask(home, dataset, step)
    assert quick.of is None
    assert quick.fates.dropped == 50
    monkeypatch.setattr(cleaning_preview, "MAX_QUICK_COST", 0)
    first = ask(home, dataset, {"step": "strip"}, step)
    assert first.of == SampledRows(rows=20, total=100)
    assert first.fates.dropped == 0
    assert first.unknown == [{"step": 1, "title": "Drop exact duplicates, keep the first"}]
    whole = ask(home, dataset, step, whole=True)
    assert whole.fates == run(home, dataset, step).result["fates"]
