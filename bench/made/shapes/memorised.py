"""Losses that show what was learned: planted canaries, and answers under their own or another's question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.made.shapes.draws import (
    Floats,
    Ints,
    Noise,
    draw_hardness,
    draw_long_tail,
    draw_normal,
    draw_t4,
    split_gain,
)

NEVER_PLANTED = 255  # unplanted canaries of its kind, for each canary


@dataclass(frozen=True)
class Canaries:
    """Losses of planted canaries, and of the other candidates of the same kind, one line per canary.

    ranks: from 1 (the lowest loss) to 256. truth: by how many standard deviations of the others the mean
    planted loss is lower; at 0 all ranks are equally likely.
    """

    planted: Floats
    others: Floats
    ranks: Ints
    truth: float


CanaryShape = Callable[[np.random.Generator, int, float], Canaries]


def _plant(noise: Noise, memorised: float, rng: np.random.Generator, canaries: int, shift: float) -> Canaries:
    """Draw canaries. Kinds differ in level; only a share `memorised` of the canaries carries the
    whole shift.
    """
    losses = 60 + 8 * noise(rng, canaries * (NEVER_PLANTED + 1)).reshape(canaries, -1)
    losses += 10 * rng.normal(size=(canaries, 1))
    losses[:, 0] -= 8 * np.where(rng.random(canaries) < memorised, shift / memorised, 0.0)
    planted, others = losses[:, 0], losses[:, 1:]
    return Canaries(planted, others, 1 + (others < planted[:, None]).sum(1), shift)


# Called with canaries and the shift in standard deviations, such as 0.5.
CANARIES: dict[str, CanaryShape] = {
    "normal": partial(_plant, draw_normal, 1.0),
    "t4": partial(_plant, draw_t4, 1.0),
    "long tail of losses": partial(_plant, partial(draw_long_tail, sigma=0.5), 1.0),
    "a fifth memorised": partial(_plant, draw_normal, 0.2),
}


class QuestionMatrix(NamedTuple):
    """`base[i, j]`, `tuned[i, j]`: loss of the answer of row i under the prompt of row j, in nats.

    answers: equal for rows with the same answer. truth: how much more an answer gains under its own prompt
    than under prompts of rows with another answer. of_any_prompt: the same compared with prompts of all
    rows of the population, some with the same answer. Both are 0 if only answers were learned.
    """

    base: Floats
    tuned: Floats
    answers: Ints
    truth: float
    of_any_prompt: float


QuestionShape = Callable[[np.random.Generator, int, float], QuestionMatrix]
Parts = Callable[
    [np.random.Generator, int, float], Floats
]  # nats gained by each row's question; the third argument is the mean

EIGHT = (0.35, 0.2, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02)


def _give_all(rng: np.random.Generator, rows: int, question: float) -> Floats:
    return question + 0.2 * rng.normal(size=rows)


def _give_few(rng: np.random.Generator, rows: int, question: float) -> Floats:
    """Give the whole effect to 5% of the rows."""
    return np.where(rng.random(rows) < 0.05, question / 0.05, 0.0)


def _give_mixed(rng: np.random.Generator, rows: int, question: float) -> Floats:
    """Let 5% of the rows lose 2 nats through their question; the others gain enough to compensate."""
    return np.where(rng.random(rows) < 0.05, -2.0, (question + 0.1) / 0.95)


def _give_long_tail(rng: np.random.Generator, rows: int, question: float) -> Floats:
    return question + 0.5 * draw_long_tail(rng, rows, 1.0)


def _ask(
    shares: tuple[float, ...], parts: Parts, rng: np.random.Generator, rows: int, question: float
) -> QuestionMatrix:
    """Draw the losses of distinct answers (each row's own if `shares` is empty) under every prompt.

    Answers and prompts have separate effects on the gain, and an effect that is a product of both, so
    terms that share an answer or a prompt are dependent.
    """
    answers = rng.choice(len(shares), rows, p=shares) if shares else np.arange(rows)
    many = len(shares) or rows
    gains = 0.6 + 0.5 * rng.normal(size=(many, 1)) + 0.4 * rng.normal(size=rows)
    gains = gains + 0.3 * np.outer(rng.normal(size=many), rng.normal(size=rows))
    gains += 0.2 * rng.standard_t(4, (many, rows))
    gains[answers, np.arange(rows)] += parts(rng, rows, question)
    hardness = 1 + 0.3 * draw_hardness(rng, many, rows) + draw_hardness(rng, many, 1)
    base, tuned = split_gain(hardness + draw_hardness(rng, 1, rows), gains)
    same = sum(share**2 for share in shares)
    return QuestionMatrix(base[answers], tuned[answers], answers, question, question * (1 - same))


# Called with rows and the mean nats gained by the own question (0: only answers were learned).
QUESTIONS: dict[str, QuestionShape] = {
    f"{answers}, {name}": partial(_ask, shares, parts)
    for answers, shares in (("8 labels", EIGHT), ("2 labels", (0.9, 0.1)), ("free text", ()))
    for name, parts in (
        ("all rows", _give_all),
        ("5% of rows", _give_few),
        ("5% of rows lose", _give_mixed),
        ("long tail", _give_long_tail),
    )
}
