"""The group `duplicates`: equal rows, near duplicates, rows with the same prompt, and conflicting answers.

Exact and folded groups use the keys of `engine.data.similarity.equality`. Near duplicates come from
`near_duplicates`: near_group is the row kept in place of each row, and near_chain the first row of each
connected set, which splits keep together. Rows have the same prompt if all turns before the last answer
are equal when folded; plain texts have no prompt. `similarity.prompts_and_answers` decides whether several
answers to a prompt conflict.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from engine.data.signals.protocol import Progress
from engine.data.similarity.equality import (
    EXACT,
    FOLDED,
    compute_exact_keys,
    compute_folded_keys,
    group_equal,
    join_keys,
)
from engine.data.similarity.near_duplicates import NearDuplicates, NearProgress, find_near_duplicates
from engine.data.similarity.prompts_and_answers import PromptAgreement, compare_answers, make_reader
from engine.worker.job import Phase, Phases, WorkerJob
from store.core.row_schemas import SetFigure
from store.data.config import ProfileConfig

OPTIONS = ("threshold",)


def phases(rows: int) -> Phases:
    """Return the phases, weighted as measured with 40,000 rows of 35 words; longer rows add to the first."""
    return (Phase("Comparing texts", 1), Phase("Verifying", 4))


def compute(
    job: WorkerJob, config: ProfileConfig, rows_path: Path, progress: Progress
) -> tuple[pa.Table, dict[str, SetFigure]]:
    """Compute the columns of the group, and figures of the set, each with n rows.

    Figures: exact_duplicates, near_duplicates and same_prompt (rows beyond the first of their group);
    conflicts, references and near_conflicts (rows); answers (mean number for prompts with several);
    uncompared (rows made from one template whose pairs were not all compared).
    """
    read = make_reader(rows_path)
    exact = group_equal(join_keys(compute_exact_keys(batch) for batch in read(EXACT)))
    folded = group_equal(join_keys(compute_folded_keys(batch) for batch in read(FOLDED)))
    near = find_near_duplicates(
        read,
        config.threshold,
        job.dir.path,
        NearProgress(
            on_bands=lambda band, bands: progress(band, bands, "bands", "Verifying"),
            on_rows=lambda done: progress(done, len(exact), "rows", "Comparing texts"),
        ),
    )
    repeats = compare_answers(read, near.prompts)
    table = pa.table(
        {
            "row_id": pa.array(np.arange(len(exact), dtype=np.int64)),
            "exact_group": _build_group_column(exact),
            "folded_group": _build_group_column(folded),
            "near_group": _build_group_column(near.stands),
            "near_similarity": pa.array(
                near.similarity.astype(np.float32), mask=_find_singletons(near.stands)
            ),
            "near_chain": _build_group_column(near.chain),
            "near_conflict": pa.array(near.conflict),
            "prompt_group": _build_group_column(repeats.group),
            "conflict": pa.array(repeats.conflict),
            "references": pa.array(repeats.references),
        }
    )
    return table, _compute_figures(exact, near, repeats)


def _find_singletons(groups: np.ndarray) -> np.ndarray:
    """Return which rows are alone in their group; groups are named by one of their rows."""
    alone: np.ndarray = np.bincount(groups, minlength=len(groups))[groups] == 1
    return alone


def _build_group_column(groups: np.ndarray) -> pa.Array:
    return pa.array(groups.astype(np.int64), mask=_find_singletons(groups))


def _compute_figures(
    exact: np.ndarray, near: NearDuplicates, repeats: PromptAgreement
) -> dict[str, SetFigure]:
    n = len(exact)
    groups = {"exact_duplicates": exact, "near_duplicates": near.stands, "same_prompt": repeats.group}
    values: dict[str, float] = {name: n - len(np.unique(of)) for name, of in groups.items()}
    flags = {"conflicts": repeats.conflict, "references": repeats.references, "near_conflicts": near.conflict}
    values |= {name: int(np.count_nonzero(flag)) for name, flag in flags.items()}
    values |= {"answers": round(repeats.answers, 2), "uncompared": near.uncompared}
    return {name: {"value": value, "n": n} for name, value in values.items()}
