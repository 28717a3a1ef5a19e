"""Rows beside those of a run with which new ones are compared: what judges elsewhere must not be trained on,
and what the model has learned before must not judge it. Data sets that are gone are left out, as nothing can
be judged on them any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from store.config.judging.evaluate_config import EvaluateConfig
from store.config.shipping.improve_config import GatherConfig
from store.config.training.train_config import Split, fields_of
from store.contract.errors import NotFoundError
from store.db.database import Queryable
from store.documents.tables.job import BesideRows
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
    named = [*_of_model(db, gather), *_of_monitors(db), *_of_run(db, gather.run)]
    rows: dict[tuple[Why, str, str, str], BesideRows] = {}
    for why, name, part in named:
        try:
            dataset = datasets.get_dataset(db, name)
        except NotFoundError:
            continue
        split = fields_of(dataset)
        key = (why, dataset["fingerprint"], part, Split.parse(split).model_dump_json())
        rows[key] = {"why": why, "fingerprint": dataset["fingerprint"], "part": part, "split": split}
    return list(rows.values())


Named = tuple[Why, str, str]  # why, name or id of the data set, part


def _of_model(db: Queryable, gather: GatherConfig) -> Iterator[Named]:
    """New rows that judge an earlier version, and what the gates of the model's aliases judge by. Of an
    improvement that was stopped before it had a version none have judged."""
    own = improvements.find(db, gather.improvement)
    if own is None:
        return
    for earlier in improvements.of_model(db, own["model_id"], limit=EVERY):
        facts = earlier["facts"]
        unused = earlier["state"] == "stopped" and "version" not in facts
        if earlier["improvement_id"] != gather.improvement and "rows_dataset_id" in facts and not unused:
            yield "judge", facts["rows_dataset_id"], "test"
    for gate in aliases.gates(db, own["model_id"]):
        for check in gate["config"]["checks"]:
            if check.get("dataset"):
                yield "judge", check["dataset"], check.get("part", "test")


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
        return "judge", earlier["dataset_id"], earlier["config"].get("part", "test")
    if evaluate.dataset:
        return "judge", evaluate.dataset, evaluate.part
    return "judge", runs.get_run(db, evaluate.run)["dataset_id"], evaluate.part


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
            yield "train", run["dataset_id"], "all"
        else:
            yield from (("judge", name, "all") for name in config.get("probe_datasets") or ())
        if config.get("replay_share") and config.get("replay_dataset"):
            yield "train", config["replay_dataset"], "all"
        seen.add(run_id)
        run_id = config.get("init_from") or run["facts"].get("mixed_from") or ""
