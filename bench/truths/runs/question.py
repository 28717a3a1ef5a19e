"""Coverage of the question's part of a gain, and false attribution where answers don't depend on prompts."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np

from bench.made.shapes.draws import draw_lengths
from bench.made.shapes.memorised import QUESTIONS
from bench.truths import Rate
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.verdicts.paired_measurements import SwappedLosses, SwappedPromptLosses
from engine.evaluation.verdicts.question_part import assign_prompts, measure_parts

QUESTION = 0.5  # nats a token
SEEN = ("all rows", "long tail")  # shapes in which a few rows show the question's part


def part_of(
    rng: np.random.Generator, shape: str, n: int, question: float, unequal: bool
) -> tuple[Interval, float] | None:
    """Return the question's estimated part in one draw and the true one, which is reduced by prompts of rows
    with the same answer where no other could be assigned. None without an interval.
    """
    drawn = QUESTIONS[shape](rng, n, question)
    tokens = draw_lengths(rng, n) if unequal else np.ones(n)
    base, tuned = (tokens[:, None] * losses for losses in (drawn.base, drawn.tuned))
    dealt = assign_prompts(drawn.answers, np.zeros(n), np.zeros(n), int(rng.integers(2**31)))
    at = dealt.answers, dealt.prompts
    others = SwappedPromptLosses(dealt, SwappedLosses(base[at], tuned[at]))
    parts = measure_parts(tokens, base.diagonal(), tuned.diagonal(), others)
    if parts is None or parts.question.low is None:
        return None
    same = drawn.answers[dealt.answers] == drawn.answers[dealt.prompts]
    unlike = 1 - float(np.average(same, weights=tokens[dealt.answers]))
    return parts.question, drawn.truth * unlike


def _covers(shape: str, n: int, question: float, unequal: bool, rng: np.random.Generator) -> bool | None:
    given = part_of(rng, shape, n, question, unequal)
    if given is None or given[0].low is None or given[0].high is None:
        return None
    return given[0].low <= given[1] <= given[0].high


def _called(shape: str, n: int, unequal: bool, rng: np.random.Generator) -> bool | None:
    given = part_of(rng, shape, n, 0.0, unequal)
    return None if given is None else given[0].above


def _rates(shape: str, n: int, unequal: bool = False) -> list[Rate]:
    draws = {10: 1_000, 30: 1_000, 100: 500}.get(n, 200)
    where = f"{shape}, {'log-normal lengths, ' if unequal else ''}n {n}"
    rates = [
        Rate("question", f"interval covers 0, {where}", 0.95, 0.93, 1,
             partial(_covers, shape, n, 0.0, unequal), draws),
        Rate("question", f"nothing is the question's, called, {where}", 0.025, 0, 0.05,
             partial(_called, shape, n, unequal), draws),
    ]  # fmt: skip
    if shape.endswith(SEEN):
        rates.append(
            Rate("question", f"interval covers {QUESTION:g} nats a token, {where}", 0.95, 0.93, 1,
                 partial(_covers, shape, n, QUESTION, unequal), draws)
        )  # fmt: skip
    return rates


RATES = [
    *(rate for shape, n in product(QUESTIONS, (10, 30, 100, 500)) for rate in _rates(shape, n)),
    *(
        rate
        for shape, n in product([name for name in QUESTIONS if name.endswith("all rows")], (30, 100))
        for rate in _rates(shape, n, unequal=True)
    ),
]
