"""A few of the simulations of bench/truths, with fewer draws: the rates whose truth is known."""

from __future__ import annotations

import math

import pytest

from bench.truths import Rate, observe
from bench.truths.models import gates
from bench.truths.runs import checkpoints, classes, detectable, gain, learned, overfitting


def rate(topic: list[Rate], name: str) -> Rate:
    """The one rate of a topic whose name ends so."""
    (only,) = [each for each in topic if each.name.endswith(name)]
    return only


def holds(given: Rate, draws: int) -> None:
    """The share lies in the band, widened by what so few draws may stray (three standard errors)."""
    observed = observe(given, draws)
    stray = 3 * math.sqrt(max(given.nominal * (1 - given.nominal), 0.02) / observed.counted)
    assert given.low - stray <= observed.share <= given.high + stray, observed.share


@pytest.mark.parametrize(
    "name",
    [
        "t4 gains, log-normal lengths, n 20",
        "t4 gains, 5% of rows 100 times as long, n 10",
        "log-normal gains, sigma 1.2, n 50",
        "one of 30 rows has 10,000 tokens, the others 20",
    ],
)
def test_the_interval_of_a_gain_covers(name: str) -> None:
    holds(rate(gain.RATES, name), 800)


@pytest.mark.parametrize("name", ["normal gains, even lengths, n 10", "t4 gains, log-normal lengths, n 20"])
def test_the_smallest_gain_that_could_be_seen_is_seen_in_80_of_100(name: str) -> None:
    holds(rate(detectable.RATES, name), 800)


@pytest.mark.parametrize(
    "name",
    ["no change called one, 30% of rows differ, n 20", "+1.8 points called no gain, n 20",
     "+15 points called learned, n 100"],
)  # fmt: skip
def test_classifiers_are_told_apart_where_they_differ(name: str) -> None:
    holds(rate(classes.RATES, name), 800)


@pytest.mark.parametrize("count", [10, 30])
def test_the_luckiest_checkpoint_is_not_called_better(count: int) -> None:
    holds(rate(checkpoints.RATES, f"best of {count} that gained nothing called learned, same rows"), 600)


@pytest.mark.parametrize(
    "where", ["30 validations, noise of steps 0.5%", "10 validations, noise of steps 0.5%"]
)
def test_what_moves_from_step_to_step_is_no_learning(where: str) -> None:
    holds(rate(overfitting.RATES, f"settled course called still learning, {where}"), 150)


@pytest.mark.parametrize(
    ("what", "seen"), [("called overfitting", "10%"), ("warned of while it trains", "20%")]
)
def test_noise_of_steps_is_no_overfitting(what: str, seen: str) -> None:
    holds(rate(overfitting.RATES, f"flat course {what}, 10 validations, noise of steps 0.5% of the loss"), 40)
    holds(rate(overfitting.RATES, f"rise of {seen} {what}, 10 validations, noise of steps 0.5%"), 15)


@pytest.mark.parametrize(
    "name",
    [
        "called overfitting: flat, 2% step noise, AR(0.7), 10 validations",
        "called overfitting: flat, 2% step noise, 5 validations",
        "called overfitting: flat, 2% step noise, t2.5, 30 validations",
        "metric parts live: steps AR(0.7), 10 validations",
    ],
)
def test_a_course_that_goes_nowhere_is_not_called_otherwise(name: str) -> None:
    holds(rate(overfitting.RATES, name), 150)


@pytest.mark.parametrize("n", [10, 30, 67])
@pytest.mark.parametrize("shape", ["5% lose 3 nats, even lengths", "3% are 150 times as long and lose"])
def test_rare_rows_that_get_much_worse_are_not_overlooked(shape: str, n: int) -> None:
    holds(rate(learned.RATES, f"called learned at a gain of 0: {shape}, n {n}"), 150)


@pytest.mark.parametrize("n", [20, 67])
def test_a_gate_does_not_overlook_texts_that_get_much_worse(n: int) -> None:
    holds(rate(gates.RATES, f"forgetting at the limit passed: 2% lose 2 nats, even lengths, n {n}"), 150)
    holds(rate(gates.RATES, f"scores, worse by the margin, passed: 5% fall from near 1 to 0, n {n}"), 150)
