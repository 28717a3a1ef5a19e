"""The command by which screens and tools record that runs were compared: `store.evaluation.comparison_looks`.

Whoever may see a comparison records it, so the command needs no more than the right to look. It is no change
that others see: the activity log doesn't have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from engine.server.command import PERSONAL, Command
from store.core.config import Config
from store.db.database import Database
from store.evaluation.comparison_looks import HeldOutRows, count_looks, record_look
from store.http.schemas import ComparisonRecorded
from store.jobs.job_queue import to_utc
from store.runs import runs

MAX_RUNS = 1_000
RunId = Annotated[str, Field(min_length=1, max_length=120)]


class ComparedRunIds(Config):
    """Body of `record_comparison`: ids of the runs whose comparison is read."""

    runs: list[RunId] = Field(min_length=1, max_length=MAX_RUNS)


class ComparisonCommands:
    """Comparison commands of one store."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {"record_comparison": Command(ComparedRunIds, self.record_comparison, PERSONAL)}

    def record_comparison(self, body: ComparedRunIds) -> ComparisonRecorded:
        """Record the comparison of the runs that have a gain, for each set of held-out rows that two or more
        of them share, and return the looks at these rows, the most shared first.

        Raises: NotFoundError for a run that does not exist.
        """
        shared: dict[HeldOutRows, list[str]] = {}
        for run in runs.get_runs(self.database, sorted(set(body.runs))):
            gain = run.verdict.gain if run.verdict else None
            if gain and run.data_fingerprint:
                shared.setdefault(HeldOutRows(run.data_fingerprint, gain.split), []).append(run.run_id)
        compared = {rows: run_ids for rows, run_ids in shared.items() if len(run_ids) > 1}
        with self.database.transaction() as tx:
            for rows, run_ids in compared.items():
                record_look(tx, rows, run_ids, to_utc(self.clock()))
            ordered = sorted(compared, key=lambda rows: -len(compared[rows]))
            return {"looks": [count_looks(tx, rows) for rows in ordered]}
