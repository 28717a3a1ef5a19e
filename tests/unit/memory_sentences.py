"""Every sentence of memory, forgetting, comparisons and transfer, from inputs at the edges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.evaluation.comparison import run_comparison
from engine.evaluation.verdicts import (
    duplicates,
    extraction,
    forgetting,
    membership_inference,
    paired_measurements,
)
from engine.evaluation.verdicts.forgetting_text import describe_forgetting
from engine.evaluation.verdicts.paired_measurements import PairedProbe
from engine.transfer import effects
from engine.transfer import text as transfer_words
from engine.transfer.effects import Task, compute_backward_transfer
from pages.comparison import differences
from store.evaluation.forgetting_schemas import ForgettingParts

SIZES = (0, 1, 2, 3, 5, 10, 40)
LEVELS = ("equal", "alike", "apart", "tiny", "huge", "broken", "unequal")


def losses(kind: str, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed losses of two models, and tokens."""
    random = np.random.default_rng(seed)
    tokens = random.integers(5, 60, rows).astype(float)
    if kind == "unequal":
        tokens = np.where(np.arange(rows) == 0, 10_000.0, tokens)
    base = tokens * random.gamma(5, 0.4, rows)
    noise = random.normal(0, 0.2, rows)
    change = {
        "equal": np.zeros(rows), "alike": noise, "apart": noise - 0.8, "tiny": -1e-9 + 1e-10 * noise,
        "huge": 1e12 * (1 + noise), "broken": noise * np.where(np.arange(rows) % 2, np.nan, 1.0),
        "unequal": noise,
    }[kind]  # fmt: skip
    return base, base + tokens * change, tokens


def of_comparisons() -> Iterator[str]:
    """Compare, by loss and by what is right."""
    for kind, rows in itertools.product(LEVELS, SIZES):
        first, second, tokens = losses(kind, rows)
        for comparisons in (1, 190):
            shared = run_comparison.SharedRows(first, second, tokens)
            yield run_comparison.compare_runs("A", "B", shared, comparisons=comparisons).sentence
    for lost, won, rows in (
        (0, 0, 1),
        (1, 0, 1),
        (0, 2, 2),
        (0, 0, 40),
        (40, 0, 40),
        (0, 40, 40),
        (3, 4, 40),
    ):
        yield differences.describe_accuracy_gap("A", "B", comparison_of(lost, won, rows))


def comparison_of(lost: int, won: int, rows: int) -> Any:
    return differences.estimate_paired_change(lost, won, rows)


def of_membership() -> Iterator[str]:
    """Training rows against held-out ones, and their course."""
    for kind, rows, others in itertools.product(LEVELS, SIZES, (0, 1, 5, 40)):
        inside, outside = losses(kind, rows), losses("alike", others, 1)
        groups = [
            {"base": {"loss": base / tokens}, "tuned": {"loss": tuned / tokens}}
            for base, tuned, tokens in (inside, outside)
        ]
        yield membership_inference.assess_membership(*groups).sentence  # type: ignore[arg-type]
        points = membership_inference.compute_checkpoint_points({9: groups[0]}, {9: groups[1]})  # type: ignore[dict-item]
        yield membership_inference.describe_path(points)


def of_extraction() -> Iterator[str]:
    """Rows from memory, and canaries."""
    texts = [f"the code of locker {i} is {i * 7919 % 100_000:05}" for i in range(40)]
    for rows, base, tuned in itertools.product(SIZES, (0, 1, 10, 40), (0, 1, 9, 40)):
        written = [
            [text if i < count else "no" for i, text in enumerate(texts[:rows])] for count in (base, tuned)
        ]
        yield extraction.compare_continuations(texts[:rows], *written).sentence
        asked: list[extraction.ContinuedRow] = [
            {
                "row_id": i, "reference": text, "base": written[0][i], "tuned": written[1][i], "tokens": 20,
                "base_same": 1, "tuned_same": 20,
            }
            for i, text in enumerate(texts[:rows])
        ]  # fmt: skip
        counted: extraction.PassageCounts = {"rows": rows, "short": 0, "passed": 0}
        held: dict[str, extraction.PassageCounts] = {"train": counted, "held_out": counted}
        yield extraction.assess_verbatim(asked, asked[: rows // 2], held, 10).sentence
    others = np.arange(1, 256)
    for planted, never, rows in itertools.product((0.5, 100.0, 300.0), (0.5, 100.0), (1, 2, 5)):
        groups = {0: [(never, others)] * rows, 1: [(100.0, others)] * rows, 16: [(planted, others)] * rows}
        yield extraction.assess_canaries(groups).sentence
        yield extraction.assess_canaries({1: [(planted, others)] * rows}).sentence


def of_repeats() -> Iterator[str]:
    """Duplicates, across the split and in training."""
    for kind, rows, hit in itertools.product(LEVELS, SIZES, SIZES):
        base, tuned, tokens = losses(kind, rows)
        better = tuned - np.where(np.arange(rows) < hit, 0.9 * tokens, 0)
        for after in (tuned, better, base + base - better):
            kinds = {"exact": np.arange(rows) < hit}
            rows_of = duplicates.RowLossPair(base, after, tokens)
            yield duplicates.assess_leaks(rows_of, kinds, True).sentence
            times = np.where(np.arange(rows) < hit, 3, 1)
            counts = (rows, min(hit, rows))
            measured = duplicates.MeasuredTraining(
                np.arange(rows), times, rows_of, np.full(5, 2.0), {}, *counts
            )
            yield duplicates.assess_training_repeats(measured).sentence


def asked(name: str, before: np.ndarray, after: np.ndarray, broken: int = 0) -> PairedProbe:
    """Questions of one category."""
    n, ones = len(before), np.ones(len(before))
    base, tuned = (
        {"loss_sum": ones, "tokens": ones, "correct": right.astype(float)} for right in (before, after)
    )
    items = [str(i) for i in range(n)]
    return PairedProbe(name, items, np.array(["c"] * n), np.full(n, 4), base, tuned, 0, broken, broken)


def read(name: str, base: np.ndarray, tuned: np.ndarray, tokens: np.ndarray) -> PairedProbe:
    """Texts that both models could score."""
    n = len(base)
    sides = [{"loss_sum": loss, "tokens": tokens, "correct": np.zeros(n)} for loss in (base, tuned)]
    items = [str(i) for i in range(n)]
    return PairedProbe(name, items, np.array([""] * n), np.zeros(n, np.int64), sides[0], sides[1], 0, 0, 0)


def of_forgetting() -> Iterator[str]:
    """Texts, questions and what the user named, alone and together."""
    for rows in SIZES[1:]:
        right, wrong = np.ones(rows, bool), np.zeros(rows, bool)
        mixed = np.arange(rows) % 2 == 0
        for before, after in itertools.product((right, wrong, mixed), repeat=2):
            for name in (paired_measurements.CHOICES, f"{paired_measurements.TASK}piqa"):
                parts = [forgetting.assess_choices(asked(name, before, after))]
                yield from judged(ForgettingParts(texts=[], choices=parts, divergence=[]))
        for kind in LEVELS:
            if kind == "broken":
                continue
            text = read(paired_measurements.PROSE, *losses(kind, rows))
            own = read(f"{paired_measurements.DATA}Notes", *losses("apart", rows, 3))
            samples = forgetting.estimate_divergence(
                read(paired_measurements.OWN_SAMPLES, *losses(kind, rows))
            )
            texts = [forgetting.assess_text(text), forgetting.assess_text(own)]
            yield from judged(ForgettingParts(texts=texts, choices=[], divergence=[samples]))
    nothing = asked(paired_measurements.CHOICES, np.zeros(0, bool), np.zeros(0, bool), broken=1)
    unscored = forgetting.assess_choices(nothing)
    yield from judged(ForgettingParts(texts=[], choices=[unscored], divergence=[]))


def judged(parts: ForgettingParts) -> list[str]:
    """The sentences of these parts."""
    rated = [*parts.texts, *parts.choices]
    forgetting.correct_user_probes(rated)
    return describe_forgetting(forgetting.combine_parts(rated), parts)


def of_transfer() -> Iterator[str]:
    """A matrix with one other cell, a sequence, a predictor."""
    for kind, rows in itertools.product(LEVELS, SIZES[1:]):
        base, tuned, tokens = losses(kind, rows)
        if kind == "broken":
            continue
        for start in (base, np.zeros(rows)):
            sides = [
                effects.CellRows(loss, tokens, np.arange(rows) % 2 == place)
                for place, loss in enumerate((start, tuned))
            ]
            labels = {"run_id": "r", "source": "A", "target": "B", "own": False, "earlier": False}
            cell = effects.compare(*sides) | labels
            for measure in ("relative", "right"):
                yield transfer_words.describe_matrix(effects.judge_cells([cell], measure), measure)
        for then in (base, tuned):
            yield transfer_words.describe_backward_transfer(
                compute_backward_transfer([Task("a", base, then, tuned)])
            )
    for n in (0, 1, 3, 5, 12):
        x = np.arange(n, dtype=float)
        for y in (x, np.zeros(n), np.random.default_rng(0).normal(size=n)):
            yield transfer_words.describe_correlation(effects.spearman(x, y), "distance")


SOURCES = (of_comparisons, of_membership, of_extraction, of_repeats, of_forgetting, of_transfer)
