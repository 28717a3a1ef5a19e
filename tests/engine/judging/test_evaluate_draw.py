"""Which rows an evaluation draws: the same for a model and a run, whatever there was to draw from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from engine.jobs import evaluate
from store.contract.errors import DataError
from store.contract.home import Home
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
    assert result["notices"][0] == f"{len(trained_on)} rows of these were trained on."
    with pytest.raises(DataError) as caught:
        evaluate.run(evaluation(home, "gone", model="tiny", rows_of="nowhere"))
    assert caught.value.field == "rows_of"
