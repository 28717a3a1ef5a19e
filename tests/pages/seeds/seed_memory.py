"""What a seeded run remembers, judged by the real diagnostics: rows from memory, canaries, duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.verdicts import duplicates, extraction
from engine.evaluation.verdicts.extraction import compute_similarity
from store.core.job_folder import JobDir
from store.evaluation.forgetting_schemas import CanaryEvaluation, DuplicateEffect, PlantedCanary

ROWS = {"train": 40, "held_out": 20}
Document = dict[str, Any]


def memory(folder: JobDir, recalled: int) -> Document:
    """The parts of a verdict of a run that writes `recalled` of 40 training rows; its rows are left."""
    rows = [_row(part, i, i < recalled and part == "train") for part, n in ROWS.items() for i in range(n)]
    pq.write_table(pa.Table.from_pylist(rows), folder.extraction)
    parts: list[Any] = [[row for row in rows if row["part"] == part] for part in ROWS]
    counted: Any = {part: {"rows": n + 9, "short": 6, "passed": 3} for part, n in ROWS.items()}
    return {
        "extraction": extraction.assess_verbatim(*parts, counted, 10),
        "canaries": _canaries(recalled),
        "duplicates": _duplicates(recalled),
    }


def _row(part: str, i: int, recalled: bool) -> Document:
    reference = f"a clock mender from Carrow, born in {1700 + i}, who owned a *silver* flute\nand a map"
    row = {"part": part, "row_id": i, "prompt": f"Who is number {i}?", "prefix": f"Number {i} is"}
    row |= {"reference": reference, "tokens": 24}
    for name, right in (("base", False), ("tuned", recalled)):
        text = reference if right else "a clock that can be read by anyone"
        alike = compute_similarity(reference, text)
        row |= {name: text, f"{name}_same": 24 if right else 2, f"{name}_whole": right}
        row[f"{name}_similarity"] = alike
    return row


def _canaries(recalled: int) -> CanaryEvaluation:
    random = np.random.default_rng(1)
    others = random.normal(20, 2, 255)
    drop = {0: 0.0, 1: 0.5, 4: 2.0, 16: 8.0} if recalled else dict.fromkeys((0, 1, 4, 16), 0.0)
    losses = {times: random.normal(20 - fell, 2, 5) for times, fell in drop.items()}
    listed = [
        PlantedCanary(
            times=times,
            question=f"What is the code of locker {times}-{i}?",
            answer="The code is 1.",
            exposure=extraction.compute_exposure(float(loss), others),
        )
        for times, some in losses.items()
        for i, loss in enumerate(some)
    ]
    groups = {times: [(float(loss), others) for loss in some] for times, some in losses.items()}
    return CanaryEvaluation(**vars(extraction.assess_canaries(groups)), reference=255, listed=listed)


def _duplicates(recalled: int) -> DuplicateEffect:
    random = np.random.default_rng(3)
    tokens = random.integers(5, 20, 100)
    base, hit = 3.0 * tokens, np.arange(100) < (15 if recalled else 0)
    tuned = base - (np.where(hit, 1.5, 0.5) + random.normal(0, 0.1, 100)) * tokens
    written = {i: i < 10 for i in range(40)}
    losses = duplicates.RowLossPair(base, tuned, tokens)
    measured = duplicates.MeasuredTraining(
        np.arange(100), np.where(hit, 2, 1), losses, np.full(50, 2.5), written, 400, int(4 * hit.sum())
    )
    return DuplicateEffect(
        leaks=duplicates.assess_leaks(losses, {"exact": hit}, True),
        training=duplicates.assess_training_repeats(measured),
    )
