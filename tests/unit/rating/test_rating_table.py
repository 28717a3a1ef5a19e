"""All ratings of a round as a table: a column for each field of an answer, and no formulas in CSV."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import pyarrow.csv
import pyarrow.parquet
import pytest

from engine.rating.exported_ratings import build_rating_table
from store.core.rating_schemas import AssignedTask, Round, RoundItem, RoundSystem
from store.core.table_values import write_csv
from tests.unit.store_samples import row_of

AT = datetime(2026, 11, 30, 12)


def task(number: int, answer: Any, systems: list[int], **more: Any) -> AssignedTask:
    return row_of(
        AssignedTask, task_id=f"t{number}", item_id=number % 2, person_id=f"p{number % 3}", person_name="Bea",
        systems=systems, purpose="first", place=number, given_at=AT, revision=None if answer is None else 2,
        answer=answer, comment="=2+3", seconds=4.5, rated_at=AT, **more,
    )  # fmt: skip


def table(
    protocol: str,
    answers: list[Any],
    systems: list[int],
    left_out: tuple[str, ...] = (),
    check: str | None = None,
) -> Any:
    round = row_of(
        Round, round_id="round-1", name="=Round", protocol=protocol,
        systems=[row_of(RoundSystem, name=name) for name in ("one", "one", "three")], config={},
    )  # fmt: skip
    items = [
        row_of(RoundItem, item_id=item, answers=["x", None, "@z"], weight=1.0,
               prompt=[{"role": "user", "content": "Asked?"}], check=check if item else None)
        for item in range(2)
    ]  # fmt: skip
    tasks = [task(number, answer, systems) for number, answer in enumerate(answers)]
    return build_rating_table(round, tasks, items, left_out)


@pytest.mark.parametrize(
    ("protocol", "answer", "columns"),
    [
        ("pairwise", {"choice": "A", "preference": 0.83}, {"choice": "A", "preference": 0.83}),
        ("rank", {"ranks": [2, 1]}, {"rank_a": 2, "rank_b": 1}),
        ("rubric", {"scores": {"Tone": 7}}, {"score: Tone": 7}),
        ("pass_fail", {"passed": False, "reasons": ["é"]}, {"passed": False, "reasons": '["é"]'}),
        ("correction", {"text": "y"}, {"text": "y"}),
        ("label", {"label": None, "note": "n"}, {"label": None, "note": "n"}),
        ("label", {"labels": ["a", "b"], "note": ""}, {"labels": '["a", "b"]', "note": ""}),
        ("free_text", {"written": "w"}, {"written": "w"}),
        (
            "spans",
            {"spans": [{"start": 0, "end": 1, "label": "l"}]},
            {"spans": '[{"start": 0, "end": 1, "label": "l"}]'},
        ),
        ("spans", {"skipped": True, "reason": "r"}, {"skipped": True, "reason": "r"}),
    ],
)
def test_each_field_of_an_answer_has_its_column(
    protocol: str, answer: dict[str, Any], columns: dict[str, Any]
) -> None:
    systems = [2, 0] if protocol in ("pairwise", "rank") else [2]
    made = table(protocol, [answer, None, answer], systems)
    assert made.num_rows == 2  # one is not rated yet
    row = made.to_pylist()[0]
    assert {name: row[name] for name in columns} == columns
    assert (row["system_a"], row["answer_a"]) == ("three", "@z")
    if len(systems) == 2:
        assert (row["system_b"], row["answer_b"]) == ("one", "x")
    assert (row["seconds"], row["revision"], row["rated_at"], row["left_out"]) == (4.5, 2, AT, False)


def test_raters_of_one_name_are_told_apart_and_those_left_out_are_marked() -> None:
    made = table("pairwise", [{"choice": "A"}, {"choice": "tie"}], [0, 1], ("p1",)).to_pylist()
    assert [(row["rater"], row["left_out"]) for row in made] == [("Bea", False), ("Bea (2)", True)]
    assert [row["system_b"] for row in made] == ["one (2)", "one (2)"]
    assert [row["answer_b"] for row in made] == [None, None]


def test_what_checks_a_rater_is_no_models_answer() -> None:
    rows = table("pairwise", [{"choice": "A"}] * 2, [0, 2], check="gold").to_pylist()
    assert [(row["system_a"] is None, row["system_b"]) for row in rows] == [(False, "three"), (True, None)]
    assert [row["answer_b"] for row in rows] == ["@z", "@z"]


def test_a_table_without_a_rating_has_its_columns() -> None:
    made = table("rubric", [], [0])
    assert made.num_rows == 0
    assert {"round", "prompt", "rater", "comment", "rated_at", "left_out"} <= set(made.column_names)


def test_csv_has_no_formulas_and_parquet_the_very_texts() -> None:
    made = table("free_text", [{"written": "=1+1"}], [2])
    out = io.BytesIO()
    write_csv(made, out)
    (row,) = pyarrow.csv.read_csv(io.BytesIO(out.getvalue())).to_pylist()
    assert (row["written"], row["comment"], row["answer_a"], row["round"]) == (
        "'=1+1", "'=2+3", "'@z", "'=Round",
    )  # fmt: skip
    out = io.BytesIO()
    pyarrow.parquet.write_table(made, out)
    assert pyarrow.parquet.read_table(io.BytesIO(out.getvalue())).to_pylist()[0]["written"] == "=1+1"


def test_an_answer_of_lists_can_be_read_back() -> None:
    spans = [{"start": 3, "end": 9, "label": "l"}]
    (row,) = table("spans", [{"spans": spans}], [0]).to_pylist()
    assert json.loads(row["spans"]) == spans
