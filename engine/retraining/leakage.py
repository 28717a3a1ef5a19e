"""Rows from elsewhere that new rows are compared with.

Rows held out elsewhere must not be trained on, and rows that the model was trained on before must not be
held out. Deleted data sets are left out, as nothing can be evaluated on them any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from store.core.errors import NotFoundError
from store.core.model_schemas import ModelVersion
from store.core.version_folders import is_reference
from store.data import datasets
from store.db.database import Queryable
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.jobs.schemas import ComparisonRows, EarlierImprovement
from store.monitoring import monitors
from store.registry import model_versions
from store.retraining import improvements
from store.retraining.config import GatherConfig
from store.retraining.schemas import AT_WORK, Improvement
from store.runs import runs
from store.runs.schemas import Run
from store.training.split import Split

ALL_IMPROVEMENTS = 1_000_000  # no limit: all improvements of a model

RowUse = Literal["judge", "train"]


def list_comparison_rows(db: Queryable, config: Mapping[str, Any]) -> list[ComparisonRows]:
    """Return the rows to compare with, each data set and part once."""
    gather = GatherConfig.parse(config)
    named = [*_list_monitor_parts(db), *_list_run_parts(db, gather.run)]
    if gather.in_use_run:
        named += [
            *(
                DatasetPart("train", run.dataset_id, "all")
                for run in trace_lineage(db, gather.in_use_run).runs[:1]
            ),
            *_list_run_parts(db, gather.in_use_run),
        ]
    own = improvements.find(db, gather.improvement)
    if own is not None:
        named = [*_list_improvement_parts(db, own), *_list_gate_parts(db, own.model_id), *named]
    rows: dict[tuple[RowUse, str, str, str], ComparisonRows] = {}
    for why, name, part, earlier in named:
        try:
            dataset = datasets.get_dataset(db, name)
        except NotFoundError:
            continue
        split = datasets.get_split_fields(dataset)
        if earlier is not None:  # held out when they were gathered, even if the split has changed since
            split = {**split, "split_by": "given", "split_column": None, "validation_size": 0.0}
        key = (why, dataset.fingerprint, part, Split.parse(split).model_dump_json())
        entry = ComparisonRows(why=why, fingerprint=dataset.fingerprint, part=part, split=split)
        if earlier is not None:
            entry.earlier = earlier
        rows.setdefault(key, entry)
    return list(rows.values())


def read_disputed_keys(db: Queryable, config: Mapping[str, Any]) -> list[str]:
    """Return keys of rows that any other improvement of the model found disputed, including stopped ones."""
    own = improvements.find(db, GatherConfig.parse(config).improvement)
    others = improvements.of_model(db, own.model_id, limit=ALL_IMPROVEMENTS) if own is not None else []
    return sorted({key for each in others for key in each.facts.get("disputed", [])})


class DatasetPart(NamedTuple):
    """Part of a data set, by name or id; `earlier` is the improvement whose new rows these are."""

    why: RowUse
    dataset: str
    part: str
    earlier: EarlierImprovement | None = None


def _list_improvement_parts(db: Queryable, own: Improvement) -> Iterator[DatasetPart]:
    """Yield new rows held out for earlier improvements, which are held out again.

    Those of an improvement that was stopped before it had a version were never used, and count as new.
    """
    for earlier in improvements.of_model(db, own.model_id, limit=ALL_IMPROVEMENTS):
        facts = earlier.facts
        unused = earlier.state == "stopped" and "version" not in facts
        if earlier.improvement_id == own.improvement_id or unused or "rows" not in facts:
            continue
        about: EarlierImprovement = {
            "improvement_id": earlier.improvement_id,
            "judged": "gate" in facts,
            "may_judge": "gate" not in facts and earlier.state in (*AT_WORK, "failed"),
            "at_random": facts["rows"].held_out_random,
        }
        yield DatasetPart("judge", facts["rows_dataset_id"], "test", about)


def _list_gate_parts(db: Queryable, model_id: str) -> Iterator[DatasetPart]:
    """Yield the rows that the gates of a model's aliases use."""
    for gate in model_versions.list_gates(db, model_id):
        for check in gate.config["checks"]:
            if check.get("dataset"):
                yield DatasetPart("judge", check["dataset"], check.get("part", "test"))


def _list_monitor_parts(db: Queryable) -> Iterator[DatasetPart]:
    """Yield the rows on which versions in use are evaluated regularly."""
    for monitor in monitors.list_monitors(db):
        golden = monitors.get_settings(monitor).golden
        if golden:
            with suppress(NotFoundError):
                yield _find_evaluated_part(db, golden.evaluate)


def _find_evaluated_part(db: Queryable, evaluate: EvaluateConfig) -> DatasetPart:
    """Return the rows of an evaluation. Raises NotFoundError if what it names was deleted."""
    if evaluate.rows_of:
        earlier = evaluations.get(db, evaluate.rows_of)
        return DatasetPart("judge", earlier.dataset_id, earlier.config.get("part", "test"))
    if evaluate.dataset:
        return DatasetPart("judge", evaluate.dataset, evaluate.part)
    return DatasetPart("judge", runs.get_run(db, evaluate.run).dataset_id, evaluate.part)


def _list_run_parts(db: Queryable, run_id: str) -> Iterator[DatasetPart]:
    """Yield the run's probes, what it replayed, and what its ancestors were trained on."""
    for place, run in enumerate(trace_lineage(db, run_id).runs):
        if place:
            yield DatasetPart("train", run.dataset_id, "all")
        else:
            yield from (DatasetPart("judge", name, "all") for name in run.config.get("probe_datasets") or ())
        if replayed := _find_replayed_dataset(run):
            yield DatasetPart("train", replayed, "all")


def _find_replayed_dataset(run: Run) -> str:
    config = run.config
    return config.get("replay_dataset") or "" if config.get("replay_share") else ""


class RunLineage(NamedTuple):
    """A run and its ancestors, newest first; `whole` tells if all their training data still exists."""

    runs: list[Run]
    whole: bool


def trace_lineage(db: Queryable, run_id: str) -> RunLineage:
    """Return the lineage of a run; empty and not whole if the run was deleted.

    A run on a registered model continues the run that made it; an imported model counts as any base model.
    """
    present: dict[str, Run] = {}
    whole = True
    while run_id and run_id not in present:
        run = runs.find_run(db, run_id)
        if run is None:
            return RunLineage(list(present.values()), whole=False)
        present[run_id] = run
        named = (run.dataset_id, _find_replayed_dataset(run))
        whole = whole and all(_has_dataset(db, name) for name in named if name)
        earlier = run.config.get("init_from") or run.facts.get("mixed_from")
        if not earlier and is_reference(run.model):
            version = _find_version(db, run.model)
            whole = whole and version is not None
            earlier = version.run_id if version else ""
        run_id = earlier or ""
    return RunLineage(list(present.values()), whole)


def _find_version(db: Queryable, reference: str) -> ModelVersion | None:
    try:
        return model_versions.get_version(db, reference)
    except NotFoundError:
        return None


def _has_dataset(db: Queryable, dataset: str) -> bool:
    try:
        datasets.get_dataset(db, dataset)
    except NotFoundError:
        return False
    return True
