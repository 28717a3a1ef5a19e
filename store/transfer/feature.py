"""Transfer feature: every run on every data set."""

from __future__ import annotations

from store.core.features import Action, JobKind, StoreFeature

FEATURE = StoreFeature(
    job_kinds=(JobKind("transfer", "Transfer", "engine.transfer.job", "device", ":material/grid_on:"),),
    commands={"work": "transfer"},
    actions={
        "transfer": Action("Evaluated", "measured", ":material/grid_on:"),
    },
    queries={"look": {"transfers": "measured_transfer unfinished newest last_bad_end seconds_a_cell"}},
)
