"""Rows beside those of a run with which new ones are compared: what judges elsewhere must not be trained on,
and what the model has learned before must not judge it. Data sets that are gone are left out, as nothing can
be judged on them any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from store.config.judging.evaluate_config import EvaluateConfig
from store.config.shipping.improve_config import GatherConfig
from store.config.training.train_config import Split, fields_of
from store.contract.errors import NotFoundError
from store.db.database import Queryable
from store.documents.tables.dataset import Dataset
from store.documents.tables.improvement import Improvement
from store.documents.tables.job import BesideRows, EarlierImprovement, SplitFields
from store.queries.data import datasets
from store.queries.evaluations import evaluations
from store.queries.monitoring import monitors
from store.queries.runs import runs
from store.queries.shipping import aliases, improvements

EVERY = 1_000_000  # improvements of a model: none is left out

Why = Literal["judge", "train"]


def beside(db: Queryable, config: Mapping[str, Any]) -> list[BesideRows]:
    """For a gathering; each data set and part once."""
    gather = GatherConfig.parse(config)
    named = [*_of_monitors(db), *_of_run(db, gather.run)]
    if gather.in_use_run:
        named += [Named("train", _dataset_of(db, gather.in_use_run), "all"), *_of_run(db, gather.in_use_run)]
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
            "at_random": facts["rows"]["held_out_random"],
        }
        yield Named("judge", facts["rows_dataset_id"], "test", about)


def _as_gathered(dataset: Dataset) -> SplitFields:
    """As the rows were put aside, however they are dealt by now."""
    return {**fields_of(dataset), "split_by": "given", "split_column": None, "validation_size": 0.0}


def _dataset_of(db: Queryable, run_id: str) -> str:
    return runs.get_run(db, run_id)["dataset_id"]


def _of_gates(db: Queryable, model_id: str) -> Iterator[Named]:
    """What the gates of a model's aliases judge by."""
    for gate in aliases.gates(db, model_id):
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
    seen: set[str] = set()
    while run_id and run_id not in seen:
        try:
            run = runs.get_run(db, run_id)
        except NotFoundError:
            return
        config = run["config"]
        if seen:
            yield Named("train", run["dataset_id"], "all")
        else:
            yield from (Named("judge", name, "all") for name in config.get("probe_datasets") or ())
        if config.get("replay_share") and config.get("replay_dataset"):
            yield Named("train", config["replay_dataset"], "all")
        seen.add(run_id)
        run_id = config.get("init_from") or run["facts"].get("mixed_from") or ""
