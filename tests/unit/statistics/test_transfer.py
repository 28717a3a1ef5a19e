"""Transfer: what a cell says, when it is told from noise, predictors, sequences, and the words for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench import truth
from bench.truths import observe
from engine.transfer import effects as diagnosis
from engine.transfer import text as words
from engine.transfer.effects import (
    WIDTH,
    CellRows,
    Sketch,
    Task,
    compute_backward_transfer,
    compute_embedding_distance,
    compute_sketch,
    compute_weight_cosine,
)


def sides(
    gain: float, n: int = 60, seed: int = 0, noise: float = 0.1
) -> tuple[dict[str, Any], dict[str, Any]]:
    random = np.random.default_rng(seed)
    tokens = random.integers(5, 30, n)
    loss = random.gamma(4, 0.6, n) * tokens
    base = {"loss": loss, "tokens": tokens, "right": np.zeros(n, bool)}
    return base, base | {"loss": loss * (1 - gain + random.normal(0, noise, n))}


def compare(base: dict[str, Any], tuned: dict[str, Any]) -> Any:
    return diagnosis.compare(CellRows(**base), CellRows(**tuned))


def test_a_cell_is_the_gain_over_the_base_models_loss() -> None:
    base, tuned = sides(0.2)
    cell = compare(base, tuned)
    before, after = base["loss"].sum(), tuned["loss"].sum()
    assert cell["relative"].value == pytest.approx(1 - after / before)
    assert cell["change"].value == pytest.approx((after - before) / base["tokens"].sum())
    assert cell["relative"].low < cell["relative"].value < cell["relative"].high
    assert cell["n"] == 60
    assert cell["relative"].p < 1e-4
    assert cell["right"].value == 0
    assert cell["right"].low < 0 < cell["right"].high  # none of 60 flipped is no certainty


def test_nothing_changed_is_no_effect() -> None:
    base, _ = sides(0)
    cell = compare(base, base)
    assert (cell["relative"].value, cell["relative"].p) == (0, 1)
    (judged,) = diagnosis.judge_cells([cell])
    assert not judged["sure"]


def test_a_loss_that_is_no_number_is_refused() -> None:
    base, tuned = sides(0.1)
    tuned["loss"][3] = np.nan
    with pytest.raises(ValueError, match="non-finite loss"):
        compare(base, tuned)


def test_one_row_tells_nothing() -> None:
    base, tuned = sides(0.5, n=1)
    (cell,) = diagnosis.judge_cells([compare(base, tuned)])
    assert cell["relative"].p == 1
    assert not cell["sure"]


def test_the_swap_test_holds_its_level_and_agrees_with_scipy() -> None:
    random = np.random.default_rng(1)
    p = [diagnosis.permutation_test(random.normal(0, 1, 30), swaps=400) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.085
    values = random.normal(0.4, 1, 40)
    exact = stats.permutation_test(
        (values, np.zeros(40)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=19_999,
        random_state=np.random.default_rng(0),
    )
    assert diagnosis.permutation_test(values, swaps=20_000) == pytest.approx(exact.pvalue, abs=0.01)


def test_few_rows_can_not_be_surer_than_their_swaps() -> None:
    assert diagnosis.permutation_test([1.0, 1.0, 1.0, 1.0]) == pytest.approx(2 / 2**4, abs=0.02)
    assert diagnosis.permutation_test(np.full(400, 1.0) + np.arange(400) * 1e-3) < 1e-20


def test_cells_without_effect_get_no_star_more_often_than_the_level_allows() -> None:
    alarms = 0
    for round_ in range(60):
        cells = [compare(*sides(0, n=40, seed=100 * round_ + i)) for i in range(6)]
        alarms += any(cell["sure"] for cell in diagnosis.judge_cells(cells))
    assert alarms <= 7  # of 60 matrices at 5%


def test_holm_is_over_all_cells() -> None:
    cells = [compare(*sides(0.03, seed=4))] + [compare(*sides(0, seed=i)) for i in range(9)]
    alone, beside = diagnosis.judge_cells(cells[:1])[0], diagnosis.judge_cells(cells)[0]
    assert beside["p_holm"] == pytest.approx(min(1, 10 * alone["p_holm"]))
    assert [diagnosis.judge_cells([compare(*sides(g))])[0]["stars"] for g in (0, 0.5)] == ["", "***"]


def test_spearman_says_how_little_it_knows() -> None:
    x = np.arange(24.0)
    noisy = x + np.random.default_rng(0).normal(0, 4, 24)
    correlation = diagnosis.spearman(x, noisy)
    assert correlation.value == pytest.approx(stats.spearmanr(x, noisy).statistic)
    assert correlation.low < correlation.value < correlation.high <= 1
    assert correlation.state == "sure"
    assert diagnosis.spearman(x, np.random.default_rng(5).normal(0, 1, 24)).state == "unclear"
    assert diagnosis.spearman(x[:6], noisy[:6]).state == "few"
    assert diagnosis.spearman([1, 2], [2, 1]).value is None
    assert diagnosis.spearman([1, 1, 1, 1], [1, 2, 3, 4]).value is None


def test_backward_transfer_is_the_mean_over_earlier_tasks() -> None:
    base, tuned = sides(0.4)
    other, _ = sides(0, seed=3)
    kept = Task("a", base["loss"], tuned["loss"], base["loss"])  # all of it is lost again
    same = Task("b", other["loss"], other["loss"], other["loss"])
    transfer = compute_backward_transfer([kept, same])
    lost = -(1 - tuned["loss"].sum() / base["loss"].sum())
    assert transfer.tasks[0].value == pytest.approx(lost)
    assert transfer.value == pytest.approx(lost / 2)
    assert transfer.low < transfer.value < transfer.high < 0
    assert transfer.n == 120
    assert "Later training reduced the earlier gains" in words.describe_backward_transfer(transfer)
    with pytest.raises(ValueError, match="two tasks"):
        compute_backward_transfer([])


def changes(seed: int, shared: float) -> list[np.ndarray]:
    common = [np.random.default_rng(i).normal(0, 1, (60, 90)) for i in range(6)]
    own = np.random.default_rng(100 + seed)
    return [shared * part + own.normal(0, 1, part.shape) for part in common]


def sketched(matrices: list[np.ndarray], names: str = "abcdef") -> Sketch:
    values = np.stack([compute_sketch(m, ord(name)) for m, name in zip(matrices, names, strict=True)])
    return Sketch(
        list(names), [i // 2 for i in range(6)], [float(np.linalg.norm(m)) for m in matrices], values
    )


@pytest.mark.parametrize("shared", [0.0, 0.7, 3.0])
def test_a_sketch_keeps_cosines(shared: float) -> None:
    first, second = changes(1, shared), changes(2, shared)
    flat = [np.concatenate([m.ravel() for m in side]) for side in (first, second)]
    exact = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    cosine = compute_weight_cosine(sketched(first), sketched(second))
    assert cosine["value"] == pytest.approx(exact, abs=4 / np.sqrt(6 * WIDTH))
    assert (cosine["n"], cosine["matrices"]) == (3, 6)
    assert cosine["low"] - 0.02 <= cosine["value"] <= cosine["high"] + 0.02
    assert compute_weight_cosine(sketched(first), sketched(first))["value"] == pytest.approx(1, abs=0.05)


def test_what_only_one_run_changed_counts_as_unchanged_in_the_other() -> None:
    first = sketched(changes(1, 3.0))
    second = sketched(changes(2, 3.0), "abcxyz")
    half = compute_weight_cosine(first, second)
    assert half["matrices"] == 3
    assert half["value"] == pytest.approx(
        compute_weight_cosine(first, sketched(changes(2, 3.0)))["value"] / 2, abs=0.06
    )
    nothing = Sketch([], [], [], np.zeros((0, WIDTH), np.float32))
    assert compute_weight_cosine(first, nothing)["value"] is None


def test_the_distance_of_embeddings() -> None:
    random = np.random.default_rng(0)
    middle = random.normal(0, 1, (2, 16))
    near, far = (middle[i] + random.normal(0, 1.5, (300, 16)) for i in (0, 1))
    other = middle[0] + random.normal(0, 1.5, (200, 16))
    same, apart = compute_embedding_distance(near, other), compute_embedding_distance(near, far)
    assert same["value"] < 0.02 < apart["low"] <= apart["value"] <= apart["high"]
    assert same["low"] == 0
    assert same["n"] == 200
    assert compute_embedding_distance(near, np.zeros((5, 16)))["value"] is None
    assert compute_embedding_distance(near, far[:1])["low"] is None


def cell(
    source: str,
    target: str,
    gain: float,
    seed: int = 0,
    *,
    own: bool = False,
    earlier: bool = False,
    run: str = "",
) -> Any:
    labels = {"source": source, "target": target, "own": own, "earlier": earlier}
    labels |= {"run_id": run or source, "run_name": run}
    return compare(*sides(gain, seed=seed)) | labels


def test_the_sentence_names_who_helps_and_who_costs() -> None:
    cells = [
        cell("A", "A", 0.5, own=True),
        cell("A", "B", 0.12, 1),
        cell("A", "C", -0.2, 2),
        cell("B", "A", 0, 3),
        cell("A, then B", "A", 0.4, 4, earlier=True),
    ]
    sentence = words.describe_matrix(diagnosis.judge_cells(cells), "relative")
    assert sentence.startswith("Training on A improves B by 1")
    assert " and degrades C by 18.5% (" in sentence
    assert sentence.endswith("1 of 3 cells on other data sets not significant.")
    assert "then" not in sentence  # what was learned in an earlier run is no transfer


def test_runs_on_the_same_data_are_named() -> None:
    cells = [
        cell("A", "B", 0.4, 1, run="#1 first"),
        cell("A", "B", 0.1, 2, run="#2 second"),
        cell("C", "B", -0.2, 3, run="#3 third"),
    ]
    sentence = words.describe_matrix(diagnosis.judge_cells(cells), "relative")
    assert sentence.startswith("Training on A (#1 first) improves B by ")
    assert "Training on A (#2 second) improves B by " in sentence
    assert "Training on C degrades B by " in sentence


def test_the_sentence_says_what_noise_hides() -> None:
    cells = [cell("A", "B", 0, 1), cell("B", "A", 0, 2), cell("A", "A", 0.4, own=True)]
    sentence = words.describe_matrix(diagnosis.judge_cells(cells), "relative")
    assert "other data sets: with 60 rows, the smallest detectable change is about" in sentence
    assert "No other data sets" in words.describe_matrix(diagnosis.judge_cells([cells[2]]), "relative")


def test_why_nothing_can_be_told_is_said() -> None:
    labels = {"run_id": "r", "source": "A", "target": "B", "own": False, "earlier": False}
    cell = compare(*sides(0.5, n=1)) | labels
    sentence = words.describe_matrix(diagnosis.judge_cells([cell]), "relative")
    assert sentence.endswith("No significant effect on other data sets: there is only one row.")
    base, tuned = sides(0.4, n=3)
    transfer = compute_backward_transfer([Task("a", base["loss"], tuned["loss"], base["loss"])])
    assert (
        words.describe_backward_transfer(transfer)
        == "Backward transfer inconclusive: of a, 3 rows are too few (1 earlier data set)."
    )
    base, _ = sides(0)
    same = compare(base, base) | labels
    sentence = words.describe_matrix(diagnosis.judge_cells([same]), "relative")
    assert sentence == "No change on other data sets (n 60 rows)."


def test_the_words_of_a_predictor() -> None:
    x = np.arange(24.0)
    assert words.describe_correlation(diagnosis.spearman(x, -x), "distance").startswith(
        "The larger the distance, the less"
    )
    assert words.describe_correlation(diagnosis.spearman(x[:5], x[:5]), "distance").startswith(
        "Inconclusive, too few pairs: ρ 1"
    )
    assert "n 2 pairs" in words.describe_correlation(diagnosis.spearman([1, 2], [1, 2]), "distance")
    random = np.random.default_rng(5)
    assert "Inconclusive whether" in words.describe_correlation(
        diagnosis.spearman(x, random.normal(0, 1, 24)), "distance"
    )


def test_the_interval_of_one_task_of_ten_rows_covers() -> None:
    (rate,) = [rate for rate in truth.rates("transfer") if "1 tasks of 10 rows" in rate.name]
    assert 0.9 <= observe(rate, 100).share <= 1.0
