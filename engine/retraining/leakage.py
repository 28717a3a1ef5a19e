"""Rows beside those of a run with which new ones are compared: what judges elsewhere must not be trained on,
and what the model has learned before must not judge it. Data sets that are gone are left out, as nothing can
be judged on them any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from store.core.errors import NotFoundError
from store.core.model_schemas import ModelVersion
from store.data import datasets
from store.data.schemas import Dataset
from store.db.database import Queryable
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.jobs.schemas import BesideRows, EarlierImprovement, SplitFields
from store.monitoring import monitors
from store.registry import model_versions
from store.registry.version_folders import is_reference
from store.retraining import improvements
from store.retraining.config import GatherConfig
from store.retraining.schemas import AT_WORK, Improvement
from store.runs import runs
from store.runs.schemas import Run
from store.training.train_config import Split, fields_of

EVERY = 1_000_000  # improvements of a model: none is left out

Why = Literal["judge", "train"]


def beside(db: Queryable, config: Mapping[str, Any]) -> list[BesideRows]:
    """For a gathering; each data set and part once."""
    gather = GatherConfig.parse(config)
    named = [*_of_monitors(db), *_of_run(db, gather.run)]
    if gather.in_use_run:
        named += [
            *(Named("train", run["dataset_id"], "all") for run in line(db, gather.in_use_run).runs[:1]),
            *_of_run(db, gather.in_use_run),
        ]
    own = improvements.find(db, gather.improvement)
    if own is not None:
        named = [*_of_improvements(db, own), *_of_gates(db, own["model_id"]), *named]
    rows: dict[tuple[Why, str, str, str], BesideRows] = {}
    for why, name, part, earlier in named:
        try:
            dataset = datasets.get_dataset(db, name)
        except NotFoundError:
            continue
        split = fields_of(dataset) if earlier is None else _as_gathered(dataset)
        key = (why, dataset["fingerprint"], part, Split.parse(split).model_dump_json())
        entry: BesideRows = {
            "why": why, "fingerprint": dataset["fingerprint"], "part": part, "split": split
        }  # fmt: skip
        if earlier is not None:
            entry["earlier"] = earlier
        rows.setdefault(key, entry)
    return list(rows.values())


def disputed(db: Queryable, config: Mapping[str, Any]) -> list[str]:
    """Keys of rows that any other improvement of the model has found to be, a stopped one too."""
    own = improvements.find(db, GatherConfig.parse(config).improvement)
    others = improvements.of_model(db, own["model_id"], limit=EVERY) if own is not None else []
    return sorted({key for each in others for key in each["facts"].get("disputed", [])})


class Named(NamedTuple):
    """A part of a data set, by name or id; `earlier`: whose new rows these are."""

    why: Why
    dataset: str
    part: str
    earlier: EarlierImprovement | None = None


def _of_improvements(db: Queryable, own: Improvement) -> Iterator[Named]:
    """New rows that judge earlier versions, and judge again. Those of an improvement that was stopped before
    it had a version have judged nothing, and are as good as new."""
    for earlier in improvements.of_model(db, own["model_id"], limit=EVERY):
        facts = earlier["facts"]
        unused = earlier["state"] == "stopped" and "version" not in facts
        if earlier["improvement_id"] == own["improvement_id"] or unused or "rows" not in facts:
            continue
        about: EarlierImprovement = {
            "improvement_id": earlier["improvement_id"],
            "judged": "gate" in facts,
            "may_judge": "gate" not in facts and earlier["state"] in (*AT_WORK, "failed"),
            "at_random": facts["rows"]["held_out_random"],
        }
        yield Named("judge", facts["rows_dataset_id"], "test", about)


def _as_gathered(dataset: Dataset) -> SplitFields:
    """As the rows were put aside, however they are dealt by now."""
    return {**fields_of(dataset), "split_by": "given", "split_column": None, "validation_size": 0.0}


def _of_gates(db: Queryable, model_id: str) -> Iterator[Named]:
    """What the gates of a model's aliases judge by."""
    for gate in model_versions.gates(db, model_id):
        for check in gate["config"]["checks"]:
            if check.get("dataset"):
                yield Named("judge", check["dataset"], check.get("part", "test"))


def _of_monitors(db: Queryable) -> Iterator[Named]:
    """What versions in use are evaluated on again and again."""
    for monitor in monitors.all_monitors(db):
        golden = monitors.settings(monitor).golden
        if golden:
            with suppress(NotFoundError):
                yield _evaluated(db, golden.evaluate)


def _evaluated(db: Queryable, evaluate: EvaluateConfig) -> Named:
    """The rows of an evaluation. Raises NotFoundError where that which it names is gone."""
    if evaluate.rows_of:
        earlier = evaluations.get(db, evaluate.rows_of)
        return Named("judge", earlier["dataset_id"], earlier["config"].get("part", "test"))
    if evaluate.dataset:
        return Named("judge", evaluate.dataset, evaluate.part)
    return Named("judge", runs.get_run(db, evaluate.run)["dataset_id"], evaluate.part)


def _of_run(db: Queryable, run_id: str) -> Iterator[Named]:
    """The run's probes; what it replayed, and what it and the runs that it goes on from were trained on."""
    for place, run in enumerate(line(db, run_id).runs):
        if place:
            yield Named("train", run["dataset_id"], "all")
        else:
            yield from (Named("judge", name, "all") for name in run["config"].get("probe_datasets") or ())
        if replayed := _replayed(run):
            yield Named("train", replayed, "all")


def _replayed(run: Run) -> str:
    config = run["config"]
    return config.get("replay_dataset") or "" if config.get("replay_share") else ""


class RunLine(NamedTuple):
    """A run and those that it goes on from, the newest first. whole: all they were trained on is there."""

    runs: list[Run]
    whole: bool


def line(db: Queryable, run_id: str) -> RunLine:
    """Of a run; empty and not whole where it is gone itself. A run on a registered model goes on from the run
    that made that one; one that was imported is a base as any other."""
    present: dict[str, Run] = {}
    whole = True
    while run_id and run_id not in present:
        run = runs.find_run(db, run_id)
        if run is None:
            return RunLine(list(present.values()), whole=False)
        present[run_id] = run
        named = (run["dataset_id"], _replayed(run))
        whole = whole and all(_is_there(db, name) for name in named if name)
        earlier = run["config"].get("init_from") or run["facts"].get("mixed_from")
        if not earlier and is_reference(run["model"]):
            version = _version(db, run["model"])
            whole = whole and version is not None
            earlier = version["run_id"] if version else ""
        run_id = earlier or ""
    return RunLine(list(present.values()), whole)


def _version(db: Queryable, reference: str) -> ModelVersion | None:
    try:
        return model_versions.get_version(db, reference)
    except NotFoundError:
        return None


def _is_there(db: Queryable, dataset: str) -> bool:
    try:
        datasets.get_dataset(db, dataset)
    except NotFoundError:
        return False
    return True
