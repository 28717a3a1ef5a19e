"""Two versions of a model on held-out rows, of which the new one has learned some: with known truth.

    draw_pair(rng, "bleu", 200, "heavy", gap=1, learned=4, which="long")

Without what it learned, the new version is worse than the one in use by `gap` margins of the population's
figure, 1 or -1: `SHIFTS` has the shift of its rows for that, found on 4 to 16 million rows of each shape;
on as many others the gap was off by at most 1.4% of the margin. Drawn independently of the check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.statistics.estimators import ESTIMATORS

Floats = NDArray[np.float64]
Which = Literal["random", "hard", "long"]  # any rows, the worst of the version in use, or the longest

MARGINS = {  # in the figure's unit: 2 to 3% of its size
    "perplexity": 0.36,
    "bits_per_byte": 0.02,
    "chrf": 1.5,
    "bleu": 1.0,
    "weighted mean": 0.02,
}
SHAPES = {
    "even": "of like lengths",
    "uneven": "of lengths a hundredfold apart, worse the longer",
    "uneven up": "of lengths a hundredfold apart, better the longer",
    "heavy": "with heavy tails and rare rows that get much worse",
}
SHIFTS = {  # by shape: worse by the margin, better by it
    "perplexity": {
        "even": (0.01011, -0.01455), "uneven": (-0.02227, -0.05116), "uneven up": (0.04579, 0.01691),
        "heavy": (-0.00167, -0.02634),
    },
    "bits_per_byte": {
        "even": (0.02143, -0.02598), "uneven": (-0.01181, -0.06146), "uneven up": (0.0562, 0.00655),
        "heavy": (-0.00212, -0.04952),
    },
    "chrf": {
        "even": (-0.06403, 0.06399), "uneven": (0.0296, 0.15793), "uneven up": (-0.15727, -0.02892),
        "heavy": (-0.00215, 0.13008),
    },
    "bleu": {
        "even": (-0.03908, 0.03886), "uneven": (0.05642, 0.13504), "uneven up": (-0.13646, -0.05759),
        "heavy": (0.00178, 0.08165),
    },
    "weighted mean": {
        "even": (-0.11501, 0.11863), "uneven": (0.12287, 0.35759), "uneven up": (-0.34642, -0.11169),
        "heavy": (-0.00847, 0.23863),
    },
}  # fmt: skip
LOWER = ("perplexity", "bits_per_byte")  # lower is better
HUNDREDFOLD = math.log(100) / (2 * 1.96)  # middle 95% of a log-normal spans a factor of 100
NATS_A_TOKEN, NATS_A_BYTE = 2.47, 0.585
ROW_SD = 0.06  # standard deviation of the logarithm of a row's ratio of nats
HITS = {  # share correct of the first order, then of each order given the one before
    "bleu": (0.63, 0.66, 0.73, 0.78),
    "chrf": (0.88, 0.77, 0.77, 0.84, 0.84, 0.86),
}


@dataclass
class Chances:
    """All random parts of the rows before any is learned. spread: normal values of the lengths; shared: of
    both versions; own and other: of each; longer: 1 or -1 if a row is worse or better the longer it is,
    else 0; badly: how bad a rare row is.
    """

    length: Floats
    spread: Floats
    shared: Floats
    own: Floats
    other: Floats
    longer: float
    rare: NDArray[np.bool_]
    badly: Floats

    @property
    def slope(self) -> Floats:
        """Return how much worse the new version is on a row due to its length."""
        return self.longer * np.clip(self.spread, -4, 4)


def draw_pair(
    rng: np.random.Generator,
    kind: str,
    rows: int,
    shape: str,
    gap: Literal[1, -1],
    learned: int,
    which: Which,
) -> tuple[Floats, Floats]:
    """Draw the sums of the new version, which has learned this number of rows, and of the one in use [rows,
    counts].
    """
    drawn = _chances(rng, kind, shape, rows)
    shift = SHIFTS[kind][shape][0 if gap == 1 else 1]
    texts = _Texts(rng, kind, drawn) if kind in HITS else None
    other, own = (_sums(kind, drawn, texts, new, shift) for new in (False, True))
    places = _chosen(rng, kind, other, drawn.length, which)[:learned]
    if len(places):
        own[places] = _learned(rng, kind, own[places], texts, places)
    return own, other


def _chances(rng: np.random.Generator, kind: str, shape: str, rows: int) -> Chances:
    text, uneven = kind in HITS, shape.startswith("uneven")
    spread = rng.standard_normal(rows)
    sigma = HUNDREDFOLD if uneven else 0.4 if shape == "heavy" else 0.25 if text else 0.15
    middle = 200 if not text else 30 if uneven else 40
    low, high = (2, 100_000) if not text else (2, 1_500) if uneven else (5, 300)
    tails = np.clip(rng.standard_t(3, rows) / math.sqrt(3), -15, 15)
    share = 0.03 if text or kind == "weighted mean" else 0.02
    return Chances(
        np.clip(np.rint(middle * np.exp(sigma * spread)), low, high),
        spread,
        rng.standard_normal(rows),
        tails if shape == "heavy" else rng.standard_normal(rows),
        rng.standard_normal(rows),
        {"uneven": 1.0, "uneven up": -1.0}.get(shape, 0.0),
        (rng.random(rows) < share) & (shape == "heavy"),
        rng.random(rows),
    )


def _chosen(
    rng: np.random.Generator, kind: str, other: Floats, lengths: Floats, which: Which
) -> NDArray[np.int64]:
    """Return the order in which rows are learned."""
    mixed = rng.permutation(len(other))  # random order of ties
    if which == "random":
        return mixed
    by = lengths if which == "long" else ESTIMATORS[kind.rpartition(" ")[2]](other)
    worst = by if which == "long" or kind in LOWER else -by
    return mixed[np.argsort(-worst[mixed], kind="stable")]


def _sums(kind: str, drawn: Chances, texts: _Texts | None, new: bool, shift: float) -> Floats:
    """Return the sums of the new version without what it learned, or of the one in use."""
    if texts is not None:
        return texts.counts(new, shift)
    length = drawn.length
    if kind in LOWER:
        return _nats(kind, drawn, new, shift)
    logit = 0.95 + 1.2 * drawn.shared + 0.3 * (drawn.own if new else drawn.other)
    if not new:
        return np.stack([_share(logit) * length, length], axis=1)
    score = _share(logit - 0.2 * drawn.slope + shift)
    return np.stack([np.where(drawn.rare, 0.15 * drawn.badly * score, score) * length, length], axis=1)


def _nats(kind: str, drawn: Chances, new: bool, shift: float) -> Floats:
    """Return [nats, tokens or bytes]; longer texts have fewer nats per token."""
    lengths = 0.04 * np.clip(drawn.spread, -4, 4) if drawn.longer else 0.0
    rate = np.exp(0.25 * drawn.shared - 0.25**2 / 2 - lengths)
    if new:
        sd = np.sqrt(ROW_SD**2 + 0.25**2 / drawn.length)
        apart = np.clip(sd * drawn.own, -1.2, 1.2) + 0.03 * drawn.slope
        badly = 0.6 if kind == "perplexity" else 1.2
        rate *= np.exp(apart + shift) * (1 + drawn.rare * badly * (0.5 + drawn.badly))
    units = drawn.length
    if kind == "bits_per_byte":  # about 4.3 bytes per token
        units = np.maximum(1, np.rint(units * 4.3 * np.exp(0.08 * drawn.other)))
    return np.stack([units * rate * (NATS_A_TOKEN if kind == "perplexity" else NATS_A_BYTE), units], axis=1)


class _Texts:
    """Responses and references as counts of word or character n-grams."""

    def __init__(self, rng: np.random.Generator, kind: str, drawn: Chances) -> None:
        rows, orders = len(drawn.length), len(HITS[kind])
        self.kind, self.drawn = kind, drawn
        letters = 4.7 * np.exp(0.06 * rng.standard_normal(rows)) if kind == "chrf" else np.ones(rows)
        both, luck = rng.standard_normal(rows), rng.standard_normal((orders, rows))
        self.reference = np.maximum(np.rint(drawn.length * letters), 1)
        self.answers: list[Floats] = []  # for the version in use and the new one
        self.luck: list[Floats] = []
        for _ in range(2):
            apart = math.sqrt(0.6) * both + math.sqrt(0.4) * rng.standard_normal(rows)
            words = np.maximum(1, np.rint(0.98 * drawn.length * np.exp(0.1 * apart)))
            self.answers.append(np.maximum(np.rint(words * letters), 1))
            self.luck.append(math.sqrt(0.7) * luck + math.sqrt(0.3) * rng.standard_normal((orders, rows)))

    def counts(self, new: bool, shift: float) -> Floats:
        drawn = self.drawn
        lift = 0.6 * drawn.shared + 0.15 * (drawn.own if new else drawn.other)
        if new:
            lift += shift - 0.08 * drawn.slope - drawn.rare * (3 + 3 * drawn.badly)
        answer, left = self.answers[new], np.minimum(self.answers[new], self.reference)
        right = []
        for luck, base in zip(self.luck[new], HITS[self.kind], strict=True):
            share = 1 / (1 + (1 - base) / base * np.exp(-lift))
            hits = np.rint(left * share + np.sqrt(left * share * (1 - share)) * luck)
            right.append(np.clip(hits, 0, left))
            left = np.maximum(right[-1] - 1, 0)
        return self._summed(answer, self.reference, right)

    def learned(self, rng: np.random.Generator, before: Floats, places: NDArray[np.int64]) -> Floats:
        """Return counts with 95 to 99% of the n-grams correct, in responses as long as the reference."""
        reference = self.reference[places]
        share, left, right = 0.95 + 0.04 * rng.random(len(places)), reference, []
        for order in range(len(HITS[self.kind])):
            clean = before[:, 2 + order if self.kind == "bleu" else 3 * order + 2]
            right.append(np.minimum(np.maximum(clean, np.rint(left * share)), left))
            left = np.maximum(right[-1] - 1, 0)
        return self._summed(reference, reference, right)

    def _summed(self, answer: Floats, reference: Floats, right: list[Floats]) -> Floats:
        if self.kind == "bleu":
            totals = [np.maximum(answer - order, 0) for order in range(len(right))]
            return np.stack([answer, reference, *right, *totals], axis=1)
        orders = [
            (np.maximum(answer - order, 0), np.maximum(reference - order, 0), hits)
            for order, hits in enumerate(right)
        ]
        return np.stack([counts for order in orders for counts in order], axis=1)


def _learned(
    rng: np.random.Generator, kind: str, own: Floats, texts: _Texts | None, places: NDArray[np.int64]
) -> Floats:
    """Return the rows as scored by the new version once it has learned them."""
    if texts is not None:
        return texts.learned(rng, own, places)
    chance = rng.random(len(own))
    if kind in LOWER:  # 5 to 30% of its nats remain
        own[:, 0] *= 0.05 + 0.25 * chance
    else:
        own[:, 0] = np.maximum(own[:, 0], (0.93 + 0.07 * chance) * own[:, 1])
    return own


def _share(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))
