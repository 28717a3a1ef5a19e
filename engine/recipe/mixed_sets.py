"""The step mix: rows of another data set, drawn by seed, until they are the stated share of the whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from engine.recipe.selected import draw
from engine.recipe.working import BATCH_ROWS, Working
from engine.rows.dataset import SCHEMA, load, open_rows
from store.config.data.recipe import Mix
from store.contract.errors import ConfigError


def run(work: Working, step: Mix, index: int) -> None:
    """Add the rows after those that are there. Raises ConfigError for a data set of another kind, the version
    itself, and one with too few rows."""
    other = work.mixed[step.dataset]
    if other["fingerprint"] == work.origins[0].dataset["fingerprint"]:
        raise ConfigError(f"{step.dataset} has these rows already.", fix="Mix in another.", field="dataset")
    if other["kind"] != work.kind:
        raise ConfigError(
            f"{step.dataset} is of the kind {other['kind']}, and these rows are {work.kind}.",
            fix="Mix in a data set of the same kind.",
            field="dataset",
        )
    present, there = work.count, open_rows(work.home, other["fingerprint"]).metadata.num_rows
    wanted = round(step.share * present / (1 - step.share))
    if not 0 < wanted <= there:
        most = there / (present + there)
        raise ConfigError(
            f"A share of {step.share:g} beside {present:,} rows takes {wanted:,} rows; {step.dataset} has"
            f" {there:,}.",
            fix=f"Set share to {int(most * 1000) / 1000:g} or less." if wanted else "Set a larger share.",
            field="share",
        )
    if work.redactors:
        work.notices.append(
            f"The rows of {step.dataset} are mixed in after the redaction, so nothing is redacted in them."
            " Put the redaction last."
        )
    row_ids = np.sort(draw(np.arange(there), step.seed)[:wanted])
    work.add(index, other, row_ids, _tables(work, other["fingerprint"], row_ids))


def _tables(work: Working, fingerprint: str, row_ids: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(row_ids), BATCH_ROWS):
        work.progress.at(start / len(row_ids))
        rows = load(work.home, fingerprint, SCHEMA.names, row_ids[start : start + BATCH_ROWS])
        yield rows.select(SCHEMA.names)
