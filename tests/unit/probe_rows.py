"""Rows of probes as a model would leave them, made up with known changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

CATEGORIES = ("capitals", "elements", "arithmetic", "grammar")


def texts(
    rise: float, *, n: int = 120, noise: float = 0.05, probe: str = "prose", seed: int = 0
) -> list[dict[str, Any]]:
    """Passages of unequal length, whose loss a token lies `rise` above that of the base model (rise 0,
    noise 0)."""
    lengths = np.random.default_rng(1).integers(100, 300, n)
    level = np.random.default_rng(2).normal(3.0, 0.4, n)
    shift = rise + np.random.default_rng(seed).normal(0, noise, n) if noise else np.full(n, rise)
    return [
        {
            "probe": probe, "item": f"{probe}/{i:03}", "category": "", "loss_sum": float(t * (a + b)),
            "tokens": int(t), "correct": int(t // 3), "options": 0, "chosen": -1,
        }
        for i, (t, a, b) in enumerate(zip(lengths, level, shift, strict=True))
    ]  # fmt: skip


def choices(lost: int = 0, won: int = 0, *, n: int = 640, only: str | None = None) -> list[dict[str, Any]]:
    """Questions with four options, 60% right under the base model (lost 0, won 0), spread over categories;
    of those right before `lost` are wrong, of the others `won` right, the lost ones of category `only`."""
    rows: list[dict[str, Any]] = []
    for i in range(n):
        category, right = CATEGORIES[i % 4], i % 5 < 3
        if right and lost and only in (None, category):
            right, lost = False, lost - 1
        elif not right and won and i % 5 >= 3:
            right, won = True, won - 1
        rows.append(
            {
                "probe": "choices", "item": f"{category}/{i:03}", "category": category,
                "loss_sum": 0.4 if right else 1.8, "tokens": 1, "correct": int(right), "options": 4,
                "chosen": 0 if right else 1,
            }
        )  # fmt: skip
    assert (lost, won) == (0, 0)
    return rows


def requests(refused: tuple[int, int], *, n: int = 28) -> list[dict[str, Any]]:
    """So many of the harmful and of the harmless requests are refused, the first ones."""
    return [
        {
            "probe": "requests", "item": f"requests/{kind}/{i:03}", "category": f"{kind}/fraud",
            "loss_sum": 0.0, "tokens": 1, "correct": int(i < count), "options": 0, "chosen": -1,
        }
        for kind, count in zip(("harmful", "harmless"), refused, strict=True)
        for i in range(n)
    ]  # fmt: skip


def table(*parts: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([row for part in parts for row in part])
