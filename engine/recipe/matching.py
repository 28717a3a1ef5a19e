"""The rows of a data set that a filter means, for jobs that only read them."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from engine.recipe.questions_of_sql import RowQueries
from engine.recipe.working import Working
from engine.worker.job import WorkerJob
from engine.worker.temporary_folder import temporary_folder
from store.config.data.filters import Filter
from store.contract.errors import ConfigError
from store.documents.tables.job_order import OrderDataset


def matching_rows(job: WorkerJob, dataset: OrderDataset, where: Filter) -> np.ndarray:
    """Their numbers, in order: int64. `dataset` with what was measured of it. Raises ConfigError (where) for
    what the data set has not, and for an expression that is more than a condition on one row."""
    with (
        temporary_folder(job, what="what the filter needs", again="try again") as folder,
        closing(RowQueries(Working(job, dataset, {}, folder))) as ask,
    ):
        try:
            return ask.matching(where)
        except ConfigError as error:
            raise ConfigError(error.message, fix=error.fix, field="where") from error
