"""The test of drift: its level where nothing changes, how soon it finds a change, and the same state however
the values are cut."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.evaluation.statistics.intervals import anytime_share
from engine.monitoring.changes import ValueChange, measure_change
from engine.monitoring.comparisons import compare_window
from engine.monitoring.drift import (
    WATCHED_SIGNALS,
    RequestValue,
    Scale,
    advance_test,
    compute_bin_value,
    compute_bins,
    compute_log_threshold,
    restart_test,
    start_test,
)
from engine.monitoring.sequential_tests import (
    BETS,
    begin_bets,
    compute_initial_shares,
    compute_payoffs,
    draw_ties,
    place_bets,
    update_shares,
)
from engine.monitoring.text import describe_change
from store.core.monitoring_schemas import WatchedName
from store.monitoring.traffic import format_category_name


def _bins(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values / 0.05) + 200, 0, 400).astype(np.int64)


def _path(reference: np.ndarray, values: np.ndarray, seed: int) -> np.ndarray:
    return place_bets(begin_bets(reference), values, draw_ties(seed, 0, len(values))).log_wealth


def test_ties_are_uniform_and_the_same_at_each_place() -> None:
    whole = draw_ties(7, 0, 20_000)
    assert np.array_equal(whole[100:200], draw_ties(7, 100, 100))
    assert not np.array_equal(whole[:100], draw_ties(8, 0, 100))
    assert np.histogram(whole, 10, (0, 1))[0].min() > 1_850


def test_no_bet_pays_more_than_it_costs() -> None:
    """Each payoff is a density over uniform ranks, which is what makes the capital a martingale."""
    ranks = (np.arange(400_000) + 0.5) / 400_000
    means = compute_payoffs(ranks).mean(axis=0)
    assert len(means) == BETS
    assert means == pytest.approx(np.ones(BETS), abs=5e-3)
    assert (means <= 1 + 1e-9).all()


def test_each_bet_has_a_mirrored_one() -> None:
    """A signal that becomes smaller is detected as soon as one that becomes larger."""
    small, large = compute_payoffs(np.array([0.03, 0.97]))
    assert sorted(small) == pytest.approx(sorted(large))
    assert small[1] == pytest.approx(large[2])


def test_half_of_the_reserve_is_spent_after_600_values() -> None:
    """The reserve falls as sqrt(200 / (200 + n))."""
    initial = np.array(compute_initial_shares(BETS))
    shares = initial
    for tested in range(600):
        shares, growth = update_shares(shares, np.ones(BETS), tested)
        assert growth == pytest.approx(0, abs=1e-12)
    assert shares[0] == pytest.approx(initial[0] / 2)


@pytest.mark.parametrize("kind", ["normal", "integers", "rare"])
def test_without_a_change_few_streams_ever_raise_an_alarm(kind: str) -> None:
    """At most 5% of all streams are promised; of 100 at that level more than 12 come in 1 of 700 trials."""
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        if kind == "normal":
            drawn = _bins(rng.normal(size=290))
        else:
            drawn = rng.poisson(4, 290) if kind == "integers" else (rng.random(290) < 0.05).astype(np.int64)
        alarms += _path(drawn[:40], drawn[40:], seed).max() >= math.log(20)
    assert alarms <= 12


def test_a_change_is_found_soon_also_after_many_quiet_values() -> None:
    for quiet in (0, 3_000):
        delays = []
        for seed in range(5):
            rng = np.random.default_rng(seed)
            values = rng.normal(size=quiet + 150)
            values[quiet:] += 1
            over = _path(_bins(rng.normal(size=300)), _bins(values), seed) >= math.log(180)
            assert not over[:quiet].any()
            delays.append(int(np.argmax(over)) - quiet if over.any() else 999)
        assert np.median(delays) < 60


def _stream(values: list[float | str]) -> list[RequestValue]:
    return [RequestValue(place=place, at=100.0 + place, value=value) for place, value in enumerate(values)]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_batches_of_any_size_end_in_the_same_state(size: int) -> None:
    rng = np.random.default_rng(0)
    names = _stream(rng.choice(["en", "de", "fr"], 200, p=[0.8, 0.15, 0.05]).tolist())
    lengths = _stream(np.round(rng.lognormal(4, 0.5, 200)).tolist())
    for name, stream in (("input_language", names), ("output_length", lengths)):
        begun = start_test(name, [], categories=["en", "de"], wanted=60)
        whole = advance_test(begun, stream, compute_log_threshold(0.05, 9))
        cut = begun
        for first in range(0, 200, size):
            cut = advance_test(cut, stream[first : first + size], compute_log_threshold(0.05, 9))
        assert cut == whole
        assert (whole.reference, whole.tested) == (60, 140)


def test_an_alarm_says_since_when_stays_and_is_begun_anew() -> None:
    rng = np.random.default_rng(1)
    values = np.round(np.concatenate([rng.lognormal(4, 0.4, 500), rng.lognormal(5, 0.4, 200)])).tolist()
    begun = start_test("input_length", np.round(rng.lognormal(4, 0.4, 300)).tolist(), wanted=300)
    state = advance_test(begun, _stream(values), compute_log_threshold(0.05, 9))
    assert state.alarm_place is not None
    assert 500 <= state.alarm_place < 540
    assert state.lowest_place is not None
    assert abs(state.lowest_place - 500) < 25
    later = advance_test(
        state, [RequestValue(place=900, at=1_000.0, value=50.0)], compute_log_threshold(0.05, 9)
    )
    assert later.alarm_place == state.alarm_place
    again = restart_test(state, same_reference=True)
    assert (again.reference, again.tested, again.alarm_place) == (300, 0, None)
    assert again.bets[0].counts == begun.bets[0].counts  # what came since is no reference
    assert again.seed != state.seed
    normal = restart_test(state, same_reference=False)
    assert normal.reference == 0
    settled = advance_test(normal, _stream(values[500:] * 4), compute_log_threshold(0.05, 9))
    assert settled.reference == 300
    assert settled.alarm_place is None


def test_a_category_finds_a_share_that_moves() -> None:
    rng = np.random.default_rng(2)
    before, after = ([0.7, 0.2, 0.1, 0.0], [0.4, 0.2, 0.1, 0.3])
    draw = ["refund", "card", "fee", "never seen"]
    reference = rng.choice(draw, 200, p=before).tolist()
    stream = _stream([*rng.choice(draw, 300, p=before), *rng.choice(draw, 200, p=after)])
    state = advance_test(
        start_test("output_label", reference, categories=["refund", "card", "fee"], wanted=200),
        stream,
        compute_log_threshold(0.05, 9),
    )
    assert state.alarm_place is not None
    assert 300 <= state.alarm_place < 400


@pytest.mark.parametrize(("scale", "values"), [
    ("length", [0, 12, 340, 9_000]), ("share", [0.0, 0.25, 1.0]), ("distance", [0.1, 0.5]),
    ("logprob", [-0.01, -3.2]),
])  # fmt: skip
def test_bins_are_as_fine_as_they_say(scale: Scale, values: list[float]) -> None:
    back = [compute_bin_value(scale, place) for place in compute_bins(scale, values).tolist()]
    assert back == pytest.approx(values, rel=0.011, abs=0.006)


def test_the_view_of_a_window_is_held_against_luck() -> None:
    rng = np.random.default_rng(3)

    def counted(shift: float) -> dict[int, int]:
        bins, counts = np.unique(
            compute_bins("length", rng.lognormal(4 + shift, 0.5, 300)), return_counts=True
        )
        return dict(zip(bins.tolist(), counts.tolist(), strict=True))

    over = 0
    for _ in range(60):
        same = compare_window(counted(0), counted(0))
        assert same is not None
        over += same.psi > same.psi_by_luck
    assert over <= 9  # 5% of 60 are 3
    changed = compare_window(counted(0), counted(0.5))
    assert changed is not None
    assert changed.ks is not None
    assert changed.ks_by_luck is not None
    assert changed.psi > changed.psi_by_luck
    assert changed.ks > changed.ks_by_luck
    assert compare_window({1: 5}, {1: 500}) is None
    names = compare_window({"card": 150, "fee": 50}, {"card": 80, "fee": 120})
    assert names is not None
    assert names.moved[0][1].value == pytest.approx(-0.35)


def test_a_share_holds_at_every_look() -> None:
    missed = 0
    for seed in range(60):
        ups = np.cumsum(np.random.default_rng(seed).random(300) < 0.8)
        intervals = [anytime_share(int(ups[n - 1]), n) for n in range(20, 301, 20)]
        missed += any(not (each.low or 0) <= 0.8 <= (each.high or 1) for each in intervals)
    assert missed <= 7
    assert anytime_share(0, 0).why
    with pytest.raises(ValueError, match="proportion"):
        anytime_share(3, 2)


def test_each_watched_value_has_its_words() -> None:
    assert len({each.title for each in WATCHED_SIGNALS.values()}) == len(WATCHED_SIGNALS)


@pytest.mark.parametrize(
    ("name", "before", "since", "figures"),
    [
        ("input_length", 100.0, 20.0, (100, 20, "")),
        ("output_refusal", 0.0, 1.0, (0, 1, "")),
        ("input_distance", 0.1, 0.3, (0.1, 0.3, "")),
        ("confidence", math.log(0.9), math.log(0.5), (math.log(0.9), math.log(0.5), "")),
        ("input_language", "de", "pl", (1, 0, "de")),
        ("input_topic", "lost my card", "x", (1, 0, "lost my card")),
        ("output_label", "card", "cash", (1, 0, "card")),
    ],
)
def test_a_change_has_the_figures_of_both_sides(
    name: WatchedName, before: str | float, since: str | float, figures: tuple[float, float, str]
) -> None:
    state = start_test(name, [before] * 60, categories=["card", "cash", "de", "lost my card"], wanted=60)
    change = measure_change(state, [since] * 40)
    assert change is not None
    assert (change.before, change.since) == pytest.approx(figures[:2], rel=0.02, abs=0.005)
    assert (change.category, change.reference_n, change.since_n) == (figures[2], 60, 40)
    assert measure_change(state, []) is None  # nothing came yet


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (ValueChange("input_length", 100, 20, 60, 40), "Median 100 characters in 60 reference"),
        (ValueChange("output_refusal", 0, 1, 60, 40), "Average 0% in 60 reference values, 100% in 40"),
        (ValueChange("confidence", math.log(0.9), -1, 60, 40), "Median probability 90% in 60"),
        (ValueChange("input_topic", 1, 0, 60, 40, "x"), "Topic “x”: 100% of 60 reference values, 0% in 40"),
    ],
)  # fmt: skip
def test_a_change_reads_with_both_figures(change: ValueChange, words: str) -> None:
    assert words in describe_change(change, format_category_name)
    assert describe_change(replace(change, since=change.before), format_category_name) == ""
