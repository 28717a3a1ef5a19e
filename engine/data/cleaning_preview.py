"""The query `clean_preview`: what a recipe would do, with example rows, without writing a version.

Examples show rows before and after. All rows are processed if that takes seconds or is requested.
Otherwise only the first rows are, and `of` gives their number and the total. A step that depends on other
rows (duplicates, a sample) has another effect on all rows than on some, so `unknown` lists these steps:
their effect is not predicted.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import pyarrow as pa

from engine.data.cleaning import recipe_run
from engine.data.cleaning import recipe_run as steps
from engine.data.cleaning.working_rows import WorkingRows
from engine.worker.job import WorkerJob
from store.core.row_schemas import Fates, RowContents
from store.data.cleaning_text import describe_step
from store.data.config import CleanPreviewQuery, WorkDataset
from store.data.dataset_files import load_rows
from store.data.schemas import CleanPreview, FateExample, SampledRows
from store.jobs.schemas import OrderDataset

FIRST_ROWS = 20_000
MAX_QUICK_COST = 2_000_000  # rows times the cost of the steps; about ten seconds
FIELDS = ("messages", "text", "label", "rejected")


def run(job: WorkerJob) -> CleanPreview:
    """Return the preview document (docs/http.md). Raises the error of the step that failed."""
    asked = CleanPreviewQuery.parse(job.config)
    mixed = {name: _build_order(dataset) for name, dataset in asked.mixed.items()}
    cost = asked.dataset.row_count * sum(map(steps.estimate_step_cost, asked.recipe.steps))
    limit = None if asked.whole or cost <= MAX_QUICK_COST else FIRST_ROWS
    work = WorkingRows(job, _build_order(asked.dataset), mixed, job.dir.temporary, limit=limit)
    counted = steps.apply_recipe(work, asked.recipe)
    table = recipe_run.build_fates_table(work)
    preview = CleanPreview(
        fates=Fates(**vars(recipe_run.count_fates(table)), steps=counted),
        examples=_list_examples(work, table, asked.examples),
        problems=[
            {"level": "warning", "field": field, "message": message, "fix": ""}
            for field, message in (
                *(
                    (f"recipe.steps.{index}", f"Step {index + 1} ({step.title}) changes nothing here.")
                    for index, step in enumerate(counted)
                    if not (step.changed or step.dropped or step.added)
                ),
                *(("recipe", notice) for notice in work.notices),
            )
        ],
    )
    if work.limited:
        preview.of = SampledRows(rows=work.parents, total=work.whole)
        preview.unknown = [
            {"step": index, "title": describe_step(step)}
            for index, step in enumerate(asked.recipe.steps)
            if steps.depends_on_other_rows(step)
        ]
    return preview


def _build_order(dataset: WorkDataset) -> OrderDataset:
    # the engine wrote it as an OrderDataset; here it is validated and dumped again
    return cast("OrderDataset", dataset.model_dump())


def _list_examples(work: WorkingRows, table: pa.Table, most: int) -> list[FateExample]:
    """Return the first rows of each fate and step, in the order of the steps, unchanged rows last."""
    fate = np.asarray(table["fate"].to_pylist(), dtype=object)
    step = table["step"].fill_null(-1).to_numpy()
    places: list[int] = []
    for index in range(int(step.max(initial=-1)) + 1):
        for kind in ("changed", "dropped", "added"):
            places += np.flatnonzero((step == index) & (fate == kind))[:most].tolist()
    places += np.flatnonzero(fate == "kept")[:most].tolist()
    chosen = table.take(pa.array(places, pa.int64())).to_pylist()
    # the fates table lists old rows, then living added rows; `work` numbers dropped ones too
    added = np.flatnonzero(work.alive[work.parents :]) + work.parents
    numbers = np.concatenate([np.arange(work.parents), added])[: table.num_rows][places]
    old = [row["parent_row_id"] for row in chosen if row["parent_row_id"] is not None]
    fingerprint = work.origins[0].dataset["fingerprint"]
    read = load_rows(work.home, fingerprint, ["row_id", *FIELDS], old).to_pylist()
    before = {row.pop("row_id"): row for row in read}
    after = _read_rows(work, set(numbers.tolist()))
    return [
        FateExample(
            row_id=row["parent_row_id"],
            fate=row["fate"],
            step=row["step"],
            steps=row["steps"],
            reason=row["reason"],
            before=before.get(row["parent_row_id"]),
            after=after.get(int(number)),
        )
        for row, number in zip(chosen, numbers, strict=True)
    ]


def _read_rows(work: WorkingRows, numbers: set[int]) -> dict[int, RowContents]:
    """Return the current contents of the living rows with these numbers."""
    contents: dict[int, RowContents] = {}
    for batch in work.scan(FIELDS):
        ids = batch["row_id"].to_numpy()
        places = np.flatnonzero(np.isin(ids, list(numbers)))
        if len(places):
            for row in batch.take(pa.array(places)).to_pylist():
                contents[row.pop("row_id")] = row
    return contents
