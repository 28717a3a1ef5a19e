"""Whatever a recipe does, each row of before and of after is accounted for, and twice the same comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from engine.data.cleaning import working_rows
from store.core.errors import ConfigError
from store.core.home import Home
from tests.unit.data_job import read
from tests.unit.recipe_samples import OTHER, ROWS, Cleaned, chat, make, measure, run

STEPS = st.sampled_from(
    [
        {"step": "fix_encoding"},
        {"step": "normalise"},
        {"step": "strip", "html": True},
        {"step": "redact", "kinds": ["email"]},
        {
            "step": "map_columns",
            "format": "prompt_completion",
            "columns": {"prompt": "question", "completion": "answer"},
        },
        {"step": "filter", "where": {"expression": "row_id % 5 = 3"}},
        {
            "step": "filter",
            "where": {"conditions": [{"column": "words", "op": "<", "value": 28}]},
            "action": "keep",
        },
        {"step": "drop_duplicates"},
        {"step": "drop_duplicates", "kind": "near"},
        {"step": "drop_duplicates", "kind": "prompt", "keep": "longest_answer"},
        {"step": "cap_length", "most": 8, "unit": "words"},
        {"step": "cap_length", "most": 9, "unit": "words", "action": "cut"},
        {"step": "balance", "column": "source.part", "most": 5},
        {"step": "sample", "rows": 20},
        {"step": "mix", "dataset": "Other", "share": 0.25},
        {"step": "edit_rows", "edits": [{"row_id": 1, "label": "x"}, {"row_id": 31, "label": "y"}]},
    ]
)


def check_accounts(home: Home, dataset: dict[str, Any], made: Cleaned, steps: list[dict[str, Any]]) -> None:
    old = read(home.rows(dataset["fingerprint"]))
    fates = made.result["fates"]
    assert fates.kept + fates.changed + fates.dropped == len(old)
    assert fates.kept + fates.changed + fates.added == len(made.rows) == made.result["row_count"]
    assert [f["parent_row_id"] for f in made.fates][: len(old)] == list(range(len(old)))
    assert [f["row_id"] for f in made.fates if f["row_id"] is not None] == list(range(len(made.rows)))
    assert [row["row_id"] for row in made.rows] == list(range(len(made.rows)))
    for name in ("kept", "changed", "dropped", "added"):
        assert getattr(fates, name) == sum(f["fate"] == name for f in made.fates)
    fields = ("messages", "text", "label", "rejected", "digest")
    for fate in made.fates:
        assert (fate["row_id"] is None) == (fate["fate"] == "dropped")
        assert (fate["parent_row_id"] is None) == (fate["fate"] == "added")
        assert (fate["step"] is None) == (fate["fate"] == "kept")
        assert bool(fate["reason"]) == (fate["fate"] in ("dropped", "added"))
        if fate["fate"] == "kept":
            before, after = old[fate["parent_row_id"]], made.rows[fate["row_id"]]
            assert [before[f] for f in fields] == [after[f] for f in fields]
        if fate["fate"] == "changed":
            assert fate["step"] == fate["steps"][-1]
            if not any(steps[step]["step"] == "redact" for step in fate["steps"]):
                assert old[fate["parent_row_id"]]["source"] == made.rows[fate["row_id"]]["source"]
    rows = len(old)
    for step in fates.steps:
        assert step.rows_in == rows
        rows += step.added - step.dropped
        assert step.rows_out == rows
    assert len(fates.steps) == len(steps)
    assert rows == len(made.rows)


@pytest.fixture
def measured(home: Home) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two data sets with a signal, which no cleaning changes."""
    dataset, other = make(home, ROWS), make(home, OTHER, name="Other")
    for each_dataset in (dataset, other):
        measure(home, each_dataset, "text", words=list(range(each_dataset["row_count"])))
    return dataset, other


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=5))
def test_every_row_is_accounted_for(
    home: Home, measured: tuple[dict[str, Any], dict[str, Any]], steps: list[dict[str, Any]]
) -> None:
    dataset, other = measured
    try:
        made = run(home, dataset, *steps, mixed={"Other": other})
    except ConfigError as error:
        if not any(words in str(error) for words in ("would drop every one of", "No row has a value in")):
            raise
        reject()  # what was drawn leaves no version to check
    check_accounts(home, dataset, made, steps)
    again = run(home, dataset, *steps, mixed={"Other": other})
    assert again.result == made.result


def test_batches_do_not_matter(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make(home, ROWS)
    steps = [
        {"step": "strip", "html": True},
        {"step": "drop_duplicates", "kind": "near"},
        {"step": "sample", "rows": 9},
    ]
    whole = run(home, dataset, *steps)
    monkeypatch.setattr(working_rows, "BATCH_ROWS", 4)
    assert run(home, dataset, *steps).result["fingerprint"] == whole.result["fingerprint"]


def test_a_version_that_changes_nothing_has_a_folder_of_its_own(home: Home) -> None:
    dataset = make(home, [chat("a", "b")])
    made = run(home, dataset, {"step": "normalise"})
    assert made.result["fingerprint"] != dataset["fingerprint"]
    assert not home.fates(dataset["fingerprint"]).exists()
    assert made.result["fates"].kept == 1


@pytest.mark.parametrize("action", ["drop", "cut"])
def test_a_row_that_is_just_as_long_as_it_may_be_stays_as_it_is(home: Home, action: str) -> None:
    dataset = make(home, [chat("1 2 3 4 5 6", "7 8"), chat("1 2 3 4 5 6", "7 8 9")])
    made = run(home, dataset, {"step": "cap_length", "most": 8, "unit": "words", "action": action})
    assert [fate["fate"] for fate in made.fates] == ["kept", "dropped" if action == "drop" else "changed"]
    assert made.rows[0]["messages"][-1]["content"] == "7 8"
