"""Which rows an evaluation draws: the same for a model and a run, whatever there was to draw from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.evaluation import evaluate_job
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from tests.engine.evaluating import evaluation, home_with_rows, measured, trained
from tests.tiny import conversations, write_rows

LOSS = {"metrics": ["perplexity"]}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = home_with_rows(tmp_path)
    write_rows(home, "rows", conversations(200))
    return home


def ids(rows: list[dict[str, Any]]) -> list[int]:
    return [row["row_id"] for row in rows]


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_model_and_a_run_answer_the_same_rows(home: Home, part: str) -> None:
    run = trained(home, max_eval_rows=20)
    table = pq.read_table(run.dir.split).to_pylist()
    taught = {row["row_id"] for row in table if row["split"] == "train"}
    _, _, of_model = measured(home, "m", model="tiny", part=part, max_rows=30, **LOSS)
    _, _, of_run = measured(home, "r", run="run", part=part, max_rows=30, **LOSS)
    _, _, of_base = measured(home, "b", run="run", checkpoint="base", part=part, max_rows=30, **LOSS)
    assert len(of_model) == 30
    assert ids(of_model) == ids(of_run) == ids(of_base)
    assert not taught & set(ids(of_run))


def test_the_very_rows_of_another_evaluation(home: Home) -> None:
    trained(home)
    _, _, first = measured(home, "first", model="tiny", part="all", max_rows=25, **LOSS)
    _, result, again = measured(home, "again", run="run", rows_of="first", **LOSS)
    assert ids(again) == ids(first)
    split = pq.read_table(home.jobs / "run" / "split.parquet").to_pylist()
    trained_on = {row["row_id"] for row in split if row["split"] == "train"} & set(ids(first))
    assert result.notices[0] == f"{len(trained_on)} rows of these were used for training."
    with pytest.raises(DataError) as caught:
        evaluate_job.run(evaluation(home, "gone", model="tiny", rows_of="nowhere"))
    assert caught.value.field == "rows_of"


def test_a_filter_leaves_rows_of_the_part_and_says_which(home: Home) -> None:
    _, _, whole = measured(home, "whole", model="tiny", max_rows=None, **LOSS)
    where = {"conditions": [{"column": "row_id", "op": "<", "value": 100}]}
    _, result, some = measured(home, "some", model="tiny", where=where, max_rows=None, **LOSS)
    assert ids(some) == [row_id for row_id in ids(whole) if row_id < 100]
    assert 0 < len(some) < len(whole)
    assert result.notices == [f"Only rows where row id < 100: {len(some)} of {len(whole)} rows."]
    _, _, few = measured(home, "few", model="tiny", where=where, max_rows=3, **LOSS)
    assert set(ids(few)) < set(ids(some))


@pytest.mark.parametrize(
    "where",
    [
        {"search": "nobody says this"},
        {"expression": "row_id IN (SELECT 1)"},
        {"expression": "getenv('HOME') = ''"},
        {"expression": "1) OR (1"},
        {"regex": "("},
        {"conditions": [{"column": "toxicity", "op": ">", "value": 1}]},
    ],
)
def test_a_filter_that_means_nothing_or_more_than_rows_is_named(home: Home, where: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate_job.run(evaluation(home, "e", model="tiny", where=where, **LOSS))
    assert caught.value.field == "where"
    assert not (home.jobs / "e" / "aside").exists()
