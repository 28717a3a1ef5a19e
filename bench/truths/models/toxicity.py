"""Continuations scored by a classifier: coverage of the intervals, and how often "worse" is claimed wrongly.

Each opening has its own propensity (`alike`: the intraclass correlation of its continuations), which base
and tuned model share for most openings. Harm is rare, in nearly all openings absent; the classifier gives
harmful texts 0.5 to 1, and all others little.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import special

from bench.truths import Rate
from engine.bias import rates, verdict
from engine.bias.rates import JudgedContinuations, MeasuredBias
from engine.evaluation.statistics.intervals import Interval

SHARED = 0.8  # share of the openings that provoke harm from both models alike
CALLED = 1 - 0.5 * 0.25  # mean probability of a continuation classified as harmful
OTHER = 0.5 * 0.3 / 8.3  # mean probability of any other continuation


def _propensities(quantile: np.ndarray, share: float, alike: float) -> np.ndarray:
    """Return the propensities of openings whose mean is `share`; all 0 if that is 0."""
    if not share:
        return np.zeros(len(quantile))
    more = (1 - alike) / alike
    return np.asarray(special.betaincinv(share * more, (1 - share) * more, quantile))


def _judged(rng: np.random.Generator, share: np.ndarray, samples: int) -> np.ndarray:
    """Draw the classifier's probabilities [openings, samples]."""
    shape = (len(share), samples)
    hit = rng.random(shape) < share[:, None]
    return np.where(hit, 1 - 0.5 * rng.beta(1, 3, shape), 0.4999 * rng.beta(0.3, 8, shape))


def _draw(
    rng: np.random.Generator,
    shares: tuple[float, float],
    openings: int,
    samples: int,
    alike: float,
    axes: int = 1,
) -> JudgedContinuations:
    first = rng.random(openings)
    second = np.where(rng.random(openings) < SHARED, first, rng.random(openings))
    base, tuned = (
        _judged(rng, _propensities(quantile, share, alike), samples)
        for quantile, share in zip((first, second), shares, strict=True)
    )
    groups = np.resize([f"axis {place}" for place in range(axes)], openings)
    return JudgedContinuations(base, tuned, groups)


def _any_of(share: float, samples: int, alike: float) -> float:
    """Return the expected share of openings with at least one harmful continuation."""
    if not share:
        return 0.0
    more = (1 - alike) / alike
    a, b = share * more, (1 - share) * more
    return float(1 - np.exp(special.betaln(a, b + samples) - special.betaln(a, b)))


def _truth(measure: str, share: float, samples: int, alike: float) -> float:
    if measure == "toxic_prompts":
        return _any_of(share, samples, alike)
    return share if measure == "toxic_share" else share * CALLED + (1 - share) * OTHER


def _holds(interval: Interval, truth: float) -> bool | None:
    if interval.low is None or interval.high is None:
        return None
    return interval.low - 1e-9 <= truth <= interval.high + 1e-9


def _figure(measure: str, made: JudgedContinuations) -> MeasuredBias:
    return next(
        f for f in rates.compute_toxicity_figures("made", made) if f.measure == measure and not f.group
    )


def level_covers(
    rng: np.random.Generator, measure: str, share: float, openings: int, samples: int, alike: float
) -> bool | None:
    made = _draw(rng, (share, share), openings, samples, alike)
    return _holds(_figure(measure, made).tuned, _truth(measure, share, samples, alike))


def change_covers(
    rng: np.random.Generator,
    measure: str,
    shares: tuple[float, float],
    openings: int,
    samples: int,
    alike: float,
) -> bool | None:
    change = _figure(measure, _draw(rng, shares, openings, samples, alike)).change
    assert change is not None
    base, tuned = (_truth(measure, share, samples, alike) for share in shares)
    return _holds(change(0.95), tuned - base)


def family_claims(rng: np.random.Generator, share: float, openings: int) -> bool:
    """Whether a complete check of two equally harmful models calls anything worse or better."""
    figures = rates.compute_toxicity_figures("made", _draw(rng, (share, share), openings, 4, 0.4, axes=8))
    answers = {figure.answer for figure in verdict.build_report(figures, []).figures}
    return bool(answers & {"worse", "better"})


def finds(rng: np.random.Generator, shares: tuple[float, float], openings: int) -> bool:
    """Whether training that made a model more harmful is called worse."""
    figures = rates.compute_toxicity_figures("made", _draw(rng, shares, openings, 4, 0.4, axes=8))
    return any(figure.answer == "worse" for figure in verdict.build_report(figures, []).figures)


MEASURES = ("toxic_share", "toxic_prompts", "toxic_probability")
CASES = ((10, 4), (96, 1), (96, 4), (96, 25), (300, 4))
DRAWS = 300


def _rate(name: str, happens: partial[bool | None]) -> Rate:
    return Rate("toxicity", f"{name}: covers", 0.95, 0.925, 1.0, happens, DRAWS)


RATES = [
    *(
        _rate(
            f"{measure} {share:g}, {n} openings of {samples}, alike {alike:g}",
            partial(level_covers, measure=measure, share=share, openings=n, samples=samples, alike=alike),
        )
        for measure in MEASURES
        for share, alike in ((0.0, 0.5), (0.005, 0.3), (0.02, 0.7), (0.2, 0.1), (0.2, 0.7))
        for n, samples in CASES
    ),
    *(
        _rate(
            f"{measure} {shares[0]:g} to {shares[1]:g}, {n} openings of {samples}, alike {alike:g}",
            partial(change_covers, measure=measure, shares=shares, openings=n, samples=samples, alike=alike),
        )
        for measure in MEASURES
        for shares, alike in (
            ((0.0, 0.0), 0.5), ((0.005, 0.005), 0.3), ((0.02, 0.02), 0.7), ((0.01, 0.05), 0.7),
            ((0.2, 0.2), 0.1), ((0.05, 0.2), 0.7),
        )
        for n, samples in CASES
    ),
    *(
        Rate(
            "toxicity", f"a whole check of equal models at {share:g}, {n} openings: anything changed",
            0.05, 0.0, 0.075, partial(family_claims, share=share, openings=n), 200,
        )
        for share, n in ((0.005, 96), (0.05, 96), (0.2, 96), (0.05, 500))
    ),
    Rate(
        "toxicity", "5 to 20% of continuations, 96 openings: called worse", 0.9, 0.8, 1.0,
        partial(finds, shares=(0.05, 0.2), openings=96), 100,
    ),
    Rate(
        "toxicity", "2 to 5% of continuations, 500 openings: called worse", 0.8, 0.5, 1.0,
        partial(finds, shares=(0.02, 0.05), openings=500), 100,
    ),
]  # fmt: skip
