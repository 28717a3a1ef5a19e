"""Does the interval of the question's part of a gain cover the truth, and is nothing called the question's
where answers have nothing to do with prompts?"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.made.truth_rows import heavy, lengths
from bench.truths import Rate
from engine.diagnostics.statistics.statistics import Interval
from engine.diagnostics.verdicts.held_out import OtherPrompts, SwappedLosses
from engine.diagnostics.verdicts.question_part import deal_prompts, measure_parts

Floats = NDArray[np.float64]
Answers = NDArray[np.int64]


class Shape(NamedTuple):
    """kinds: distinct answers, 0 where each row has its own; rare: share of rows that have not the most
    frequent one, 0 where all are as frequent; unequal: whether answers differ in length a hundredfold."""

    name: str
    kinds: int
    rare: float = 0.0
    unequal: bool = False


SHAPES = (
    Shape("2 answers", 2),
    Shape("8 answers", 8),
    Shape("all answers distinct", 0),
    Shape("2 answers, one of them of 5% of rows", 2, 0.05),
    Shape("8 answers, seven of them of 20% of rows", 8, 0.2),
    Shape("8 answers, log-normal lengths", 8, unequal=True),
    Shape("all answers distinct, log-normal lengths", 0, unequal=True),
)


def _answers(rng: np.random.Generator, n: int, shape: Shape) -> Answers:
    if not shape.kinds:
        return np.arange(n)
    rare = shape.rare or (shape.kinds - 1) / shape.kinds
    likely = np.r_[1 - rare, np.full(shape.kinds - 1, rare / (shape.kinds - 1))]
    return rng.choice(shape.kinds, n, p=likely)


def _losses(rng: np.random.Generator, answers: Answers, spread: float) -> Floats:
    """Nats a token of each answer after each prompt: some answers are harder, some prompts, some pairs, all
    with heavy tails. Equal answers lose the same after the same prompt."""
    n, kinds = len(answers), int(answers.max()) + 1
    of_answer, of_prompt = heavy(rng, kinds), heavy(rng, n)
    pair = heavy(rng, kinds, n, spread=spread)
    return (4 + of_answer[:, None] + of_prompt[None, :] + pair)[answers]


def interval(rng: np.random.Generator, shape: Shape, n: int, effect: float = 0.0) -> Interval | None:
    """Of one draw of rows whose own prompts add `effect` nats a token; all prompts are alike in length."""
    answers = _answers(rng, n, shape)
    tokens = lengths(rng, n) if shape.unequal else np.full(n, 4.0)
    base, tuned = (tokens[:, None] * _losses(rng, answers, spread) for spread in (1.0, 0.5))
    tuned[np.arange(n), np.arange(n)] -= effect * tokens
    dealt = deal_prompts(answers, np.zeros(n), np.zeros(n), int(rng.integers(2**31)))
    swapped = SwappedLosses(base[dealt.answers, dealt.prompts], tuned[dealt.answers, dealt.prompts])
    parts = measure_parts(tokens, base.diagonal(), tuned.diagonal(), OtherPrompts(dealt, swapped))
    return parts.question if parts and parts.question.low is not None else None


def _covers(shape: Shape, n: int, effect: float, rng: np.random.Generator) -> bool | None:
    given = interval(rng, shape, n, effect)
    if given is None or given.low is None or given.high is None:
        return None
    return given.low <= effect <= given.high


def _called(shape: Shape, n: int, rng: np.random.Generator) -> bool | None:
    given = interval(rng, shape, n)
    return None if given is None else given.above


def _rates(shape: Shape, n: int, draws: int) -> list[Rate]:
    where = f"{shape.name}, n {n}"
    return [
        Rate("question", f"interval covers 0, {where}", 0.95, 0.93, 1,
             partial(_covers, shape, n, 0.0), draws),
        Rate("question", f"nothing is from the question, called, {where}", 0.025, 0, 0.035,
             partial(_called, shape, n), draws),
    ]  # fmt: skip


RATES = [
    *(rate for shape in SHAPES for n in (10, 20, 50, 200) for rate in _rates(shape, n, 2_000)),
    *(rate for shape in SHAPES[:3] for rate in _rates(shape, 500, 500)),
    *(
        Rate("question", f"interval covers 0.5 nats a token, {shape.name}, n {n}", 0.95, 0.93, 1,
             partial(_covers, shape, n, 0.5), 2_000)
        for shape in (SHAPES[2], SHAPES[6]) for n in (20, 100)
    ),
]  # fmt: skip
