"""A few of the simulations of bench/truths, with fewer draws: the rates whose truth is known."""

from __future__ import annotations

import math

import pytest

from bench.truths import Rate, checkpoints, classes, detectable, gain, observe, overfitting


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


@pytest.mark.parametrize("what", ["called overfitting", "warned of while it trains"])
def test_noise_of_steps_is_no_overfitting(what: str) -> None:
    holds(rate(overfitting.RATES, f"flat course {what}, 10 validations, noise of steps 0.5% of the loss"), 40)
    holds(rate(overfitting.RATES, f"rise of 10% {what}, 10 validations, noise of steps 0.5%"), 15)
