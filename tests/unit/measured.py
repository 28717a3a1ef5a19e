"""Texts with planted themes, and data sets whose duplicates are measured, for tests of what goes by them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.signals import duplicate_signals
from store.core.home import Home
from store.core.row_schemas import SetFigure
from store.data.config import ProfileConfig
from tests.unit.data_job import make_job

WORDS = [f"{first}{last}" for first in "bdfgklmnprst" for last in ("ane", "iro", "elt", "ust", "ock", "ive")]

THEMES = {
    "cooking": ("boil the pasta", "fry an onion", "bake fresh bread", "season the soup", "roast a chicken"),
    "space": (
        "orbit of the moon",
        "rocket launch to mars",
        "distant galaxy",
        "telescope sees a star",
        "comet",
    ),
    "banking": (
        "open a bank account",
        "loan interest rate",
        "credit card fee",
        "wire money",
        "mortgage payment",
    ),
}


def themed(count: int) -> tuple[list[str], np.ndarray]:
    """So many texts, each on one of the themes, and which."""
    random = np.random.default_rng(5)
    theme = random.integers(0, 3, count)
    phrases = list(THEMES.values())
    texts = [" and ".join(random.choice(phrases[t], 3)) + f" number {i}" for i, t in enumerate(theme)]
    return texts, theme


def sentence(seed: int, words: int) -> str:
    """So many words, other ones for another seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def compute(
    home: Home, rows: Path, threshold: float = 0.7, tell: Any = lambda *_: None
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """The group `duplicates` of a Parquet file of rows."""
    config = ProfileConfig(dataset="d", group="duplicates", threshold=threshold)
    return duplicate_signals.compute(make_job(home, "profile", {}), config, rows, tell)


def measure_duplicates(home: Home, fingerprint: str, threshold: float = 0.7) -> pa.Table:
    """The sidecar as the job `profile` leaves it; its table."""
    table, _ = compute(home, home.rows(fingerprint), threshold)
    path = home.signals(fingerprint, "duplicates")
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
    return table
