"""Exports that change the responses to a few prompts: how often a check of single prompts passes one."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.made.shapes.paired_scores import draw_parity
from bench.truths import Rate
from engine.export.parity.parity_report import Judgement, judge_prompts
from store.export.forms import EXACT

PROMPTS = (16, 64, 149, 200, 500)


def passes(share: float, prompts: int, rng: np.random.Generator) -> bool:
    """Whether parity passes if that share of all prompts is destroyed."""
    judged = Judgement()
    gaps = draw_parity(rng, prompts, share, tiny=0.0005).gaps
    judge_prompts(judged, [[gap] for gap in gaps.tolist()], EXACT)
    return judged.status == "passed"


RATES = [
    *(
        Rate("parity", f"passes with 2% of prompts destroyed, {n} prompts", 0.05, 0, 0.06,
             partial(passes, 0.02, n), 2_000)
        for n in PROMPTS
    ),
    *(
        Rate("parity", f"passes with none destroyed, {n} prompts", 1, 1, 1, partial(passes, 0.0, n), 100)
        for n in PROMPTS if n >= 149
    ),
]  # fmt: skip
