"""What the engine adds to a question about costs and a worker can't look up: how runs of the past turned out,
which data set is to be replayed, which are probes, and how old rows were read.

Screens, command line and the launch itself all ask through here, so that one config has one answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.server.scheduling import registered
from engine.server.scheduling.work_orders import named
from store.catalog.job_kinds import JOB_KINDS
from store.contract.document import by_commas
from store.contract.errors import ConfigError, NotFoundError
from store.contract.home import Home
from store.contract.states import ACTIVE
from store.contract.version_folders import is_reference
from store.db.database import Queryable
from store.documents.tables.job_order import ImportedAs, NamedDataset, PastRuns
from store.queries import jobs
from store.queries.data import datasets
from store.queries.runs import runs

ON_DEVICES = [kind.name for kind in JOB_KINDS.values() if kind.lane == "device"]
READERS = ("csv", "tsv", "json", "jsonl", "parquet")  # of files with columns
Body = Mapping[str, object]  # of an ask, which nobody has checked yet


def completed_by(database: Queryable, home: Home) -> Callable[[str, Body], Body]:
    """A function that completes the body of an ask."""

    def complete(name: str, body: Body) -> Body:
        if not JOB_KINDS[name].needs_past:
            return body
        config = body.get("config") or {}
        if not isinstance(config, dict):
            raise ConfigError(f"config is {config!r}: give fields and values.", field="config")
        if isinstance(model := config.get("model"), str) and is_reference(model):
            body = {**body, "config": {**config, "model": registered.whole(database, home, model)}}
        added = PastRuns(
            past=runs.measured(database),
            replay=replayed(database, config),
            probes=probed(database, config),
            imported_as=imported_as(database, str(body.get("fingerprint") or "")),
            running=bool(jobs.with_status(database, ACTIVE, kinds=ON_DEVICES)),
        )
        return {**body, **added}

    return complete


def imported_as(database: Queryable, fingerprint: str) -> ImportedAs | None:
    """How rows were read of which nobody was asked what their columns are: those of imports before there was
    such a question. None for rows that were asked about, and for those that come from no file."""
    dataset = datasets.imported_with(database, fingerprint)
    stats = dataset["stats"] if dataset else None
    if not dataset or not stats or "left_out" in stats or stats.get("reader") not in READERS:
        return None
    if dataset["source"].get("round"):  # its columns are Tunebench's own
        return None
    return {"format": dataset["format"], "columns": dataset["columns"], "answers": stats.get("answers")}


def replayed(database: Queryable, config: Mapping[str, object]) -> NamedDataset | None:
    """The data set whose rows a run replays; None where it is none. Raises ConfigError for one that isn't
    there."""
    name = config.get("replay_dataset") or ""
    return _present(database, name, "replay_dataset") if name and isinstance(name, str) else None


def probed(database: Queryable, config: Mapping[str, object]) -> list[NamedDataset]:
    """The data sets that are probes of a run, each once. Raises ConfigError for one that isn't there."""
    names = by_commas(config.get("probe_datasets") or [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"probe_datasets is {names!r}: give names of data sets.", field="probe_datasets")
    probes = [_present(database, name, "probe_datasets") for name in names]
    return list({probe["dataset_id"]: probe for probe in probes}.values())


def _present(database: Queryable, name: str, field: str) -> NamedDataset:
    try:
        return named(datasets.get_dataset(database, name))
    except NotFoundError as error:
        raise ConfigError(error.message, fix=error.fix, field=field) from error
