"""The recipe step that adds rows keeps the deal: no row that judged is ever trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.similarity.equality import normalise_text
from engine.data.split.dataset_split import assign_rows
from engine.server.job_results import _build_version_split
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.data.cleaning import Recipe
from store.data.cleaning_text import describe_step
from store.training.split import Split
from tests.unit.improving.gathered import LABELS, RUN, answered, deal, labelled, text
from tests.unit.recipe_samples import Cleaned, make, run

STEP = {"step": "add_rows", "dataset": "data-New", "called": "New rows", "run": RUN}


def new_rows(home: Home, rows: list[dict[str, Any]], name: str = "New") -> dict[str, Any]:
    columns = {"text": "text", "label": "label"}
    made = make(home, rows, name, format="text_label", columns=columns, part_column="part", split_by="given")
    return made | {"split_by": "given", "validation_size": 0.0, "test_size": 0.3}


def parts(made: Cleaned) -> dict[str, str]:
    return {row["messages"][0]["content"]: row["part"] for row in made.rows}


def added(home: Home, old: dict[str, Any], new: dict[str, Any], **step: Any) -> Cleaned:
    return run(home, old, {**STEP, **step}, mixed={"data-New": new})


def test_every_row_keeps_its_part_and_a_corrected_one_gives_way(home: Home) -> None:
    old = labelled(home)
    deal(home, old)
    rows = [
        {"text": text(900 + n), "label": LABELS[0], "part": "train" if n < 8 else "test"} for n in range(12)
    ]
    rows += [
        {"text": text(3), "label": LABELS[0], "part": "train"},  # the old row says the other label
        {"text": text(4), "label": LABELS[0], "part": "train"},  # as the old row does
        {"text": text(55), "label": LABELS[0], "part": "train"},  # which judges
    ]
    made = added(home, old, new_rows(home, rows))
    after = parts(made)
    for number in range(60):
        expected = "train" if number < 40 else "validation" if number < 50 else "test"
        assert after[text(number)] == expected
    assert [after.get(text(900 + n)) for n in range(12)] == ["train"] * 8 + [None] * 4
    assert made.changes[:1] == [(3, "dropped", 0, "row 12 of New answers it otherwise")]
    fates = made.result["fates"]
    assert (fates.kept, fates.dropped, fates.added) == (59, 1, 10)
    assert fates.steps[0].title == "Add the rows of New rows (train and validation) and keep the split"
    assert (fates.steps[0].added, fates.steps[0].dropped) == (11, 2)
    assert made.result["parts"] == {"train": 39 + 10, "validation": 10, "test": 10}
    split = Split.parse(_build_version_split(SimpleNamespace(**old), made.result))  # type: ignore[arg-type]
    assert split.split_by == "given"
    dealt = assign_rows(home, made.result["fingerprint"], split).counts()
    assert dealt == made.result["parts"]


def test_a_held_out_question_is_not_added_under_another_system_turn_or_in_a_conversation(home: Home) -> None:
    old = answered(home)
    deal(home, old)
    turns = [
        [("system", "Be kind."), ("user", text(55)), ("assistant", "Free")],
        [("user", text(56)), ("assistant", "x"), ("user", "And then?"), ("assistant", "Free")],
        [("user", text(900)), ("assistant", "x"), ("user", "And then?"), ("assistant", "Free")],
    ]
    rows = [{"messages": [{"role": role, "content": content} for role, content in row]} for row in turns]
    made = added(home, old, make(home, rows, "New") | {"validation_size": 0.0, "test_size": 0.0})
    assert made.result["fates"].added == 1
    assert made.result["parts"] == {"train": 41, "validation": 10, "test": 10}


def test_rows_that_a_run_had_not_drawn_are_left_out(home: Home) -> None:
    old = labelled(home)
    dealt = assign_rows(home, old["fingerprint"], Split()).ids()
    drawn = {int(n): "train" for n in dealt["train"][:20]}
    drawn |= {int(n): part for part in ("validation", "test") for n in dealt[part]}
    deal(home, old, parts=drawn)
    made = added(home, old, new_rows(home, [{"text": text(900), "label": LABELS[0], "part": "train"}]))
    assert made.result["parts"]["train"] == 21
    assert made.result["fates"].dropped == len(dealt["train"]) - 20
    reasons = {change[3] for change in made.changes if change[1] == "dropped"}
    assert reasons == {"not among the training rows that the run drew"}
    assert {row["text"] for row in made.rows if row["part"] == "train"} > set()


def test_a_part_without_a_row_stays_empty(home: Home) -> None:
    old = labelled(home)
    deal(home, old, parts={n: "train" if n < 50 else "validation" for n in range(60)})
    made = added(home, old, new_rows(home, [{"text": text(900), "label": LABELS[0], "part": "train"}]))
    split = Split.parse(_build_version_split(SimpleNamespace(**old), made.result))  # type: ignore[arg-type]
    assert split.test_size == 0
    assert assign_rows(home, made.result["fingerprint"], split).counts()["test"] == 0


def test_what_can_not_be_added_is_said(home: Home) -> None:
    old = labelled(home)
    new = new_rows(home, [{"text": text(900), "label": LABELS[0], "part": "train"}])
    with pytest.raises(DataError, match="its held-out rows are unknown"):
        added(home, old, new)
    deal(home, old)
    with pytest.raises(ConfigError, match="no row in validation"):
        added(home, old, new, parts=["validation"])
    with pytest.raises(ConfigError, match="is of the kind text"):
        added(home, old, new | {"kind": "text"})
    with pytest.raises(ConfigError, match="has these rows already"):
        added(home, old, old)
    deal(home, labelled_again := make(home, [{"prompt": "a", "completion": "b"}], "Else"))
    assert labelled_again
    with pytest.raises(DataError, match="other rows"):
        added(home, old, new)
    by_hand = added(home, old, new, run="")
    assert sum(by_hand.result["parts"].values()) == 61
    (step,) = Recipe.parse({"steps": [{"step": "add_rows", "dataset": "B", "parts": ["train"]}]}).steps
    assert describe_step(step) == "Add the rows of B (train) and keep the split"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), asked=st.lists(st.integers(0, 80), min_size=1, max_size=30))
def test_no_row_that_judged_is_ever_trained_on(home: Home, seed: int, asked: list[int]) -> None:
    """Whatever is added, in whatever part it is said to be."""
    old = labelled(home)
    rng = np.random.default_rng(seed)
    names = rng.choice(["train", "validation", "test"], 60, p=[0.6, 0.2, 0.2])
    names[0] = "train"
    deal(home, old, parts={n: str(name) for n, name in enumerate(names)})
    rows = [
        {"text": text(n).upper() if n % 3 else text(n), "label": LABELS[n % 2 - n % 5 % 2], "part": "train"}
        for n in asked
    ]
    made = added(home, old, new_rows(home, rows, f"New {rng.integers(2**40)}"))
    trained = {normalise_text(row["messages"][0]["content"]) for row in made.rows if row["part"] == "train"}
    assert not trained & {normalise_text(text(n)) for n in range(60) if names[n] != "train"}
    kept = {normalise_text(row["messages"][0]["content"]) for row in made.rows}
    assert {normalise_text(text(n)) for n in range(60)} <= kept  # one that gives way is answered anew
