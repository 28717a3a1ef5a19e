"""Divergence of training: detected where it is, and never elsewhere, once and at every look."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from bench.made.shapes.courses import DIVERGING
from bench.made.shapes.draws import Floats, draw_course, draw_t25
from bench.truths import Rate
from engine.evaluation.training_curve import stages

STEPS = (30, 100, 1_000)
LOOKS = (10, 100)
VERY_END = "diverges at the very end"  # can't be distinguished from a spike that recovers
TRUTHS = {shape: draw(np.random.default_rng(0), 100).truth for shape, draw in DIVERGING.items()}

Draw = Callable[[np.random.Generator, int], Floats]


def diverges(draw: Draw, steps: int, rng: np.random.Generator) -> bool:
    """Whether the verdict reports divergence."""
    return stages.find_divergence(list(enumerate(draw(rng, steps), 1))) is not None


def is_warned_of(draw: Draw, steps: int, looks: int, rng: np.random.Generator) -> bool:
    """Whether any look during training reports divergence."""
    curve = list(enumerate(draw(rng, steps), 1))
    seen = [round(steps * look / looks) for look in range(1, looks + 1)]
    return any(
        stages.find_divergence(curve[:count], planned_steps=steps, looks=looks) is not None for count in seen
    )


def draw_shape(shape: str, rng: np.random.Generator, steps: int) -> Floats:
    """Draw losses of `bench.made.shapes.courses`."""
    return DIVERGING[shape](rng, steps).losses


def draw_noisy(noise: Draw, size: float, fall: float, rng: np.random.Generator, steps: int) -> Floats:
    """Draw a course that falls by the share `fall`, with batches that vary by `size` of the loss."""
    return (1 - fall * np.linspace(0, 1, steps)) * np.exp(size * np.clip(noise(rng, steps), -6, 6))


QUIET: dict[str, Draw] = {
    **{shape: partial(draw_shape, shape) for shape, truth in TRUTHS.items() if not truth},
    "flat, batches differ by 40%": partial(draw_noisy, lambda rng, n: rng.normal(size=n), 0.4, 0.0),
    "flat, noise of 20%, t2.5": partial(draw_noisy, draw_t25, 0.2, 0.0),
    "flat, noise of 10%, AR(0.7)": partial(draw_noisy, partial(draw_course, correlation=0.7), 0.1, 0.0),
    "falls by half, noise of 20%, AR(0.7)": partial(
        draw_noisy, partial(draw_course, correlation=0.7), 0.2, 0.5
    ),
}
LOUD = [shape for shape, truth in TRUTHS.items() if truth and shape != VERY_END]
RATES = [
    *(
        Rate("divergence", f"called diverged: {shape}, {steps:,} steps", 0.05, 0, 0.05,
             partial(diverges, draw, steps), 1_000)
        for shape, draw in QUIET.items()
        for steps in STEPS
    ),
    *(
        Rate("divergence", f"warned of live: {shape}, {steps:,} steps, {looks} looks", 0.05, 0, 0.05,
             partial(is_warned_of, draw, steps, looks), 400)
        for shape, draw in QUIET.items()
        for steps in STEPS
        for looks in LOOKS
        if looks <= steps
    ),
    *(
        Rate("divergence", f"seen: {shape}, {steps:,} steps", 1, 0.8, 1,
             partial(diverges, partial(draw_shape, shape), steps), 400)
        for shape in LOUD
        for steps in STEPS
    ),
    *(
        Rate("divergence", f"seen live: {shape}, {steps:,} steps, 10 looks", 1, 0.8, 1,
             partial(is_warned_of, partial(draw_shape, shape), steps, 10), 200)
        for shape in LOUD
        for steps in STEPS[1:]  # with 30 steps, over ten looks, a slow rise is left to the verdict
    ),
]  # fmt: skip
