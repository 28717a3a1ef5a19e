"""Whether a figure came back: exactly, within its interval, or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.truths import Rate, observe
from bench.truths.models.reproduced import RATES
from engine.archives.originals import compute_paired_changes
from engine.archives.reproduction import compare_figures
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses, compute_figure_interval
from engine.evaluation.statistics.intervals import Interval
from store.evaluation.verdict_schemas import RunFigure


def figure(value: float, low: float | None, high: float | None, key: str = "gain") -> RunFigure:
    return RunFigure(
        key=key,
        title=key,
        unit="nats a token",
        value=value,
        low=low,
        high=high,
        n=100,
    )


def came(first: RunFigure | None, second: RunFigure | None, pair: Interval | None = None) -> str:
    before, after = [first] if first else [], [second] if second else []
    answer = compare_figures("b.zip", before, after, {"gain": pair} if pair else {}, [])
    assert answer.figures[0].sentence.startswith("Gain: ")
    return answer.figures[0].came


def test_a_figure_comes_back_or_not() -> None:
    first = figure(1.0, 0.9, 1.1)
    assert came(first, figure(1.0, 0.9, 1.1)) == "same"
    # nothing tells them apart, and nothing says that they are alike
    assert came(first, figure(1.05, 0.95, 1.15)) == "cant_tell"
    assert came(first, figure(1.2, 1.1, 1.3)) == "outside"
    # the same rows: the difference is known better than that
    assert came(first, figure(1.1, 1.0, 1.2), Interval(0.1, 0.08, 0.12, 500)) == "outside"
    assert came(first, figure(1.01, 0.91, 1.11), Interval(0.01, 0.008, 0.012, 500)) == "within"
    assert came(first, figure(1.02, 0.92, 1.12), Interval(0.02, 0.018, 0.022, 500)) == "cant_tell"
    # so few rows may lack those that changed, but for what is equal up to rounding
    assert came(first, figure(1.01, 0.91, 1.11), Interval(0.01, 0.008, 0.012, 30)) == "cant_tell"
    assert came(first, figure(1.0001, 0.9, 1.1), Interval(1e-4, 9e-5, 1.1e-4, 30)) == "within"
    assert came(figure(1.0, None, None), figure(1.1, None, None)) == "cant_tell"
    assert came(figure(1.0, None, None), figure(1.0, None, None)) == "same"
    assert came(first, None) == came(None, first) == "cant_tell"


def test_of_many_figures_one_has_to_lie_further_outside() -> None:
    first, second = figure(1.0, 0.9, 1.1), figure(1.1, 1.0, 1.2)
    pair = {"gain": Interval(0.1, 0.03, 0.17, 500)}  # 0.01 beyond the margin: surely, of one figure
    others = [figure(2.0, 1.9, 2.1, f"other {place}") for place in range(19)]
    alone, among = (
        compare_figures("b.zip", [first, *more], [second, *more], pair, []).figures[0]
        for more in ([], others)
    )
    assert (alone.came, among.came) == ("outside", "cant_tell")
    within = {"gain": Interval(0.01, 0.008, 0.012, 500)}  # that one came back needs no such allowance
    again = compare_figures("b.zip", [first, *others], [second, *others], within, []).figures[0]
    assert again.came == "within"


def test_a_figure_without_a_margin_can_not_be_told() -> None:
    first, second = (replace(figure(value, value - 0.1, value + 0.1), unit="rewards") for value in (1.0, 3.0))
    line = compare_figures("b.zip", [first], [second], {}, []).figures[0]
    assert line.came == "cant_tell"
    assert "no margin is defined" in line.sentence


@pytest.mark.parametrize(
    "rate", [rate for rate in RATES if "200 rows" in rate.name], ids=lambda rate: rate.name
)
def test_it_errs_as_seldom_as_it_promises(rate: Rate) -> None:
    assert observe(rate, 150).share <= 0.1


def test_all_the_same_is_said_so() -> None:
    both = [figure(1.0, 0.9, 1.1), figure(2.0, None, None, "loss")]
    assert compare_figures("b.zip", both, both, {}, []).sentence == "All 2 metrics reproduced exactly."
    other = [figure(1.5, 1.4, 1.6), figure(2.0, None, None, "loss")]
    assert compare_figures("b.zip", both, other, {}, []).sentence == (
        "Of 2 metrics: 1 identical, 1 outside the margin."
    )


def test_without_a_figure_nothing_came_back() -> None:
    answer = compare_figures("b.zip", [], [], {}, [])
    assert answer.sentence == "No metrics to compare with the bundle."
    assert answer.figures == []


def test_numbers_have_the_digits_of_their_interval_and_always_n() -> None:
    first, second = figure(1.0, 0.9, 1.1), figure(0.88, 0.78, 0.98)
    words = compare_figures("b.zip", [first], [second], {}, []).figures[0].sentence
    assert "1.00 (0.90 to 1.10, n 100) → 0.88 (0.78 to 0.98, n 100) nats" in words
    assert "a change of −0.12 (−0.26 to 0.02); inconclusive" in words
    bare = compare_figures("b.zip", [figure(1.0, None, None)], [figure(0.0031, None, None)], {}, [])
    assert "1.00 (n 100) → 0.0031 (n 100) nats" in bare.figures[0].sentence


def losses(seed: int, shift: float = 0.0, ids: int = 60) -> HeldOutRowLosses:
    generator = np.random.default_rng(1)
    tokens = generator.integers(3, 30, ids).astype(float)
    base = generator.gamma(2, 1, ids) * tokens
    noise = np.random.default_rng(seed).normal(shift, 0.01, ids)
    right = np.floor(tokens / 2)
    return HeldOutRowLosses(np.arange(ids), tokens, base, base * 0.7 + noise * tokens, right, right + 1)


def test_the_same_rows_are_held_against_each_other_one_by_one() -> None:
    first, second = losses(1), losses(2, 0.05)
    own = compute_figure_interval(first, "loss.tuned")
    assert own is not None
    changes = compute_paired_changes(first, second, {"loss.tuned": own.value, "loss.base": -1.0})
    assert set(changes) == {"loss.tuned"}  # what the rows don't give is not claimed
    change = changes["loss.tuned"]
    assert change.value == pytest.approx(0.05, abs=0.01)
    assert change.low is not None
    assert own.low is not None
    assert (change.value - change.low) < (own.value - own.low) / 5
    assert compute_paired_changes(first, losses(2, ids=59), {"loss.tuned": own.value}) == {}
