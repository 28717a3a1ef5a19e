"""How far models, metrics and a judge part on each prompt: what people could settle there.

Each measure is one number a prompt, more where more is parted; they are ranked before they are put together
(`engine.diagnostics.rating.rows.choice`), so that their scales don't matter. What is not there is not a
number.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_WORD = re.compile(r"\w+")


def disagreement(
    row_ids: Sequence[int],
    answers: Sequence[Mapping[int, str]],
    scores: Sequence[Path],
    judgements: Sequence[Path],
) -> dict[str, Floats]:
    """Measures by name. answers, scores: of each model, by row; judgements: of the first two models."""
    measures = {"words": _words_parted(row_ids, answers)}
    for metric, by_model in _shared_metrics(scores).items():
        rows = [[by_row.get(row_id, np.nan) for by_row in by_model] for row_id in row_ids]
        measures[f"metric {metric}"] = np.ptp(np.array(rows, float), axis=1)
    for number, path in enumerate(judgements, 1):
        measures[f"judge {number}"] = _judge_unsure(row_ids, path)
    return measures


def _words_parted(row_ids: Sequence[int], answers: Sequence[Mapping[int, str]]) -> Floats:
    """1 less the share of words that two answers have in common (Jaccard), in the mean of the pairs."""
    parted = np.zeros(len(row_ids))
    for place, row_id in enumerate(row_ids):
        words = [set(_WORD.findall(by_row[row_id].casefold())) for by_row in answers]
        pairs = list(itertools.combinations(words, 2))
        shares = [len(first & other) / max(1, len(first | other)) for first, other in pairs]
        parted[place] = 1 - float(np.mean(shares)) if shares else np.nan
    return parted


def _shared_metrics(scores: Sequence[Path]) -> dict[str, list[dict[int, float]]]:
    """metric -> of each model row id -> score, of the metrics that all models have."""
    read: list[dict[str, dict[int, float]]] = []
    for path in scores:
        by_metric: dict[str, dict[int, float]] = {}
        if path.exists():
            for row in pq.read_table(path, columns=["row_id", "metric", "score"]).to_pylist():
                if row["score"] is not None:
                    by_metric.setdefault(row["metric"], {})[row["row_id"]] = row["score"]
        read.append(by_metric)
    shared = set(read[0]).intersection(*read[1:]) if read else set()
    return {metric: [by_metric[metric] for by_metric in read] for metric in sorted(shared)}


def _judge_unsure(row_ids: Sequence[int], path: Path) -> Floats:
    """1 where the judge's two orders differ or it calls a tie, 0 where it is sure."""
    if not path.exists():
        return np.full(len(row_ids), np.nan)
    rows = pq.read_table(path, columns=["row_id", "score"]).to_pylist()
    by_row = {row["row_id"]: row["score"] for row in rows if row["score"] is not None}
    return np.array([1 - 2 * abs(by_row.get(row_id, np.nan) - 0.5) for row_id in row_ids])
