"""Two runs on shared rows: told apart where the rows say so, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.evaluation.comparison.run_comparison import SharedRows, compare_runs, find_incomparability
from store.core.figure_schemas import Gain
from store.core.home import Home
from store.core.job_folder import JobDir
from store.db.database import Database
from store.evaluation import scored_rows
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import Run
from tests.unit.store_samples import row_of

TOKENS = np.random.default_rng(0).integers(5, 50, 150)
LOSS = np.random.default_rng(1).gamma(5, 0.4, 150) * TOKENS


def noisy(effect: float, seed: int) -> np.ndarray:
    return LOSS + TOKENS * (effect + np.random.default_rng(seed).normal(0, 0.2, 150))


def test_a_clear_difference_is_named_in_the_right_direction() -> None:
    comparison = compare_runs("A", "B", SharedRows(LOSS, noisy(0.3, 2), TOKENS))
    assert comparison.separated
    assert comparison.sentence.startswith("A is better than B by 0.3")
    other_way = compare_runs("B", "A", SharedRows(noisy(0.3, 2), LOSS, TOKENS))
    assert other_way.sentence == comparison.sentence


def test_equal_runs_are_not_told_apart_and_what_could_be_seen_is_said() -> None:
    comparison = compare_runs("A", "B", SharedRows(LOSS, noisy(0.0, 3), TOKENS))
    assert not comparison.separated
    assert comparison.sentence.startswith("A and B can't be distinguished on 150 held-out rows (")
    assert f"smallest detectable difference: {comparison.interval.detectable:.2f}" in comparison.sentence


def test_more_comparisons_ask_for_more() -> None:
    single, ten = (
        compare_runs("A", "B", SharedRows(LOSS, noisy(0.05, 4), TOKENS), comparisons=k) for k in (1, 10)
    )
    assert ten.interval.low < single.interval.low < single.interval.high < ten.interval.high


def test_what_cannot_be_compared_says_why() -> None:
    assert "no held-out row in common" in compare_runs("A", "B", SharedRows([], [], [])).sentence
    assert "not a number" in compare_runs("A", "B", SharedRows([1.0], [np.nan], [3])).sentence
    long = np.where(np.arange(20) == 0, 10_000, 20)
    heavy = compare_runs("A", "B", SharedRows(2.0 * long, 2.1 * long, long)).sentence
    assert (
        heavy == "A and B can't be distinguished on 20 held-out rows: one of 20 rows has 96% of the weight."
    )


def test_rows_that_both_runs_held_out_are_joined(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    for run, rows, split in (("a", [1, 2, 3], "test"), ("b", [2, 3, 4], "test"), ("c", [1, 2], "validation")):
        (home.jobs / run).mkdir()
        table = {
            "split": [split] * len(rows),
            "row_id": rows,
            "tokens": [10 * row + (run == "b" and row == 3) for row in rows],
            "base_loss": [9.0] * len(rows),
            "tuned_loss": [float(row) for row in rows],
        }
        pq.write_table(pa.table(table), JobDir(home.jobs / run).row_losses)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        shared = scored_rows.shared_losses(database, "a", "b", "test").to_pylist()
        assert shared == [
            {"row_id": 2, "tokens": 20, "same_tokens": True, "first_loss": 2.0, "second_loss": 2.0},
            {"row_id": 3, "tokens": 30, "same_tokens": False, "first_loss": 3.0, "second_loss": 3.0},
        ]
        assert scored_rows.shared_losses(database, "a", "c", "test").num_rows == 0
    finally:
        database.close()


def judged(fingerprint: str = "f", split: str = "test", **config: Any) -> Run:
    verdict = row_of(Verdict, gain=row_of(Gain, split=split))
    return row_of(Run, data_fingerprint=fingerprint, config={"task": "sft"} | config, verdict=verdict)


@pytest.mark.parametrize(
    ("run", "other", "why"),
    [
        (judged(), judged(seed=7, learning_rate=1e-5), ""),
        (judged(), judged("g"), "trained on different data"),
        (judged(), judged(split="validation"), "one was evaluated on test rows"),
        (judged(), judged(task="dpo"), "mean different things (task differ)"),
        (judged(task="dpo", beta=0.1), judged(task="dpo", beta=0.2), "mean different things (beta differ)"),
        (judged(beta=0.1), judged(beta=0.2), ""),  # of instruction tuning no loss depends on it
    ],
)
def test_runs_are_compared_by_row_where_their_losses_mean_the_same(run: Run, other: Run, why: str) -> None:
    assert bool(find_incomparability(run, other)) == bool(why)
    assert why in find_incomparability(run, other)
    assert bool(find_incomparability(other, run)) == bool(why)
