"""The command that queues a transfer matrix: every run on every data set, in one job."""

from __future__ import annotations

from engine.server.command import CREATED, Command
from engine.server.job_submission import JobSubmission
from store.core.errors import ConfigError, NotFoundError, StateError
from store.core.formatting import plural
from store.core.job_kinds import ALIVE
from store.data import datasets
from store.db.database import Database, Transaction
from store.http.schemas import JobQueued
from store.runs import runs
from store.runs.schemas import Run
from store.transfer.config import KIND, TransferConfig


class TransferCommands:
    """Commands over one store; `launching` queues jobs."""

    def __init__(self, database: Database, launching: JobSubmission) -> None:
        self.database, self.launching = database, launching

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        return {"transfer": Command(TransferConfig, self.transfer, CREATED, makes_work=True)}

    def transfer(self, config: TransferConfig) -> JobQueued:
        """Queue the matrix. Raises ConfigError and StateError that name the invalid field."""
        with self.database.transaction() as tx:
            chosen = [_get_ended_run(tx, name) for name in config.runs]
            _check_base(chosen)
            sets = [datasets.get_dataset(tx, name).dataset_id for name in _resolve_datasets(tx, config)]
            changes = {"runs": [run.run_id for run in chosen], "datasets": sets}
            asked = TransferConfig.parse(config.document() | changes)
            title = f"Transfer: {plural(len(asked.runs), 'run')} on {plural(len(asked.datasets), 'data set')}"
            job_id = self.launching.queue_job(tx, KIND, title, asked.document())
        return {"job_id": job_id}


def _resolve_datasets(tx: Transaction, config: TransferConfig) -> list[str]:
    """Return the requested data sets. Raises ConfigError for one that doesn't exist."""
    for name in config.datasets:
        try:
            datasets.get_dataset(tx, name)
        except NotFoundError as error:
            raise ConfigError(error.message, fix=error.fix, field="datasets") from error
    return config.datasets


def _get_ended_run(tx: Transaction, name: str) -> Run:
    try:
        run = runs.get_run(tx, name)
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field="runs") from error
    if run.status in ALIVE:
        raise StateError(
            f"The run {run.name!r} is {run.status}.",
            fix="Wait until the run has ended, or remove it.",
            field="runs",
        )
    return run


def _check_base(chosen: list[Run]) -> None:
    """Raise ConfigError for runs of different base models: their losses are over different tokens."""
    first = chosen[0]
    for run in chosen[1:]:
        if run.model != first.model:
            raise ConfigError(
                f"{first.name!r} has the base model {first.model} and {run.name!r} has {run.model}: their"
                " losses are based on different tokens.",
                fix="Choose runs with the same base model.",
                field="runs",
            )
