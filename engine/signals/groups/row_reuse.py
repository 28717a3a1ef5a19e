"""Values of a local group that the version before has already: a row that was kept reads the same.

Taken over where the parent's sidecar was measured with the same options by the same version of the group
(the order tells only of such), so that a cleaning that touches a few rows is measured in the time of a few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.worker.job import WorkerJob
from store.documents.data.signal_figures import SignalOptions

FATES = ["parent_row_id", "row_id", "fate"]


@dataclass
class Reused:
    """rows int64 [k], ascending: ids in the new version; table [k]: the group's columns of these rows."""

    rows: np.ndarray
    table: pa.Table


def of_parent(job: WorkerJob, group: str, options: SignalOptions, columns: list[str]) -> Reused | None:
    """What the parent's sidecar says of the rows that were kept; None where there is none to take from."""
    dataset, parent = job.order["dataset"], job.order.get("parent")
    if not parent or parent["signals"].get(group) != options:
        return None
    fates_path = job.home.fates(dataset["fingerprint"])
    sidecar = job.home.signals(parent["fingerprint"], group)
    if not (fates_path.exists() and sidecar.exists()):
        return None
    fates = pq.read_table(fates_path, columns=FATES)
    kept = fates.filter(pc.equal(fates["fate"], "kept")).sort_by("row_id")
    rows = kept["row_id"].to_numpy()
    before = pq.read_table(sidecar, columns=["row_id", *columns])
    places = kept["parent_row_id"].to_numpy()  # a row's id is its place
    return Reused(rows, before.select(columns).take(pa.array(places)))
