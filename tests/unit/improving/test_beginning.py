"""What an improvement needs: what it is begun with, and what stays as it is until it has ended."""

from __future__ import annotations

from typing import Any

import pytest

from store.core.errors import ConfigError, NotFoundError, StateError
from store.jobs import job_queue
from store.retraining import improvements
from tests.unit.improving.chained import Chained


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"model": "other"}, NotFoundError, "no registered model"),
        ({"alias": "staging"}, ConfigError, "No version of sums has the alias staging"),
        ({"run": "run-9"}, ConfigError, "run-9"),
        ({"rows": [{"source": "feedback", "endpoint": "Elsewhere"}]}, ConfigError, "Elsewhere"),
        ({"rows": [{"source": "round", "round": "R"}]}, ConfigError, "R"),
        ({"rows": [{"source": "dataset", "dataset": "E"}]}, ConfigError, "no data set 'E'"),
        (
            {"rows": [{"source": "feedback", "endpoint": "Desk", "alert": "a"}]},
            ConfigError,
            "Alert a does not",
        ),
        ({"metric": "beauty"}, ConfigError, "no metric beauty"),
        ({"metric": "ece"}, ConfigError, "ece needs the probabilities"),
        ({"rows": []}, ConfigError, "rows"),
        ({"margin": 0.5, "metric": "accuracy"}, ConfigError, "50 points of"),
    ],
)
def test_what_can_not_begin_is_refused(
    chained: Chained, fields: dict[str, Any], error: type[Exception], match: str
) -> None:
    body = {"model": "sums", "rows": [{"source": "feedback", "endpoint": "Desk"}], **fields}
    with pytest.raises(error, match=match):
        chained.desk("begin_improvement", **body)
    assert improvements.of_model(chained.database, "") == []


def test_nothing_that_it_needs_can_be_deleted(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    chained.run_through(improvement)
    facts = chained.get(improvement).facts
    for command, body in (
        ("delete_dataset", {"dataset": facts["rows_dataset_id"]}),
        ("delete_version", {"version": "sums@2"}),
        ("delete", {"job": facts["run_id"]}),
    ):
        with pytest.raises(StateError, match=r"used by the improvement|used by|makes a version|run"):
            chained.desk(command, **body)
    chained.desk("stop_improvement", improvement=improvement)
    chained.desk("delete_version", version="sums@2")


def test_its_rows_are_dealt_no_other_way_meanwhile(chained: Chained, answers: dict[str, str]) -> None:
    """The launch and the evaluations deal by the data set: rows that were trained on would judge."""
    improvement = chained.begin()
    chained.run_through(improvement)
    facts = chained.get(improvement).facts
    for dataset in (facts["rows_dataset_id"], facts["dataset_id"]):
        with pytest.raises(StateError, match="trains and evaluates on the splits of"):
            chained.desk("set_split", dataset=dataset, split_by="random", test_size=0.5)
    chained.desk("stop_improvement", improvement=improvement)
    chained.desk("set_split", dataset=facts["dataset_id"], split_by="random", test_size=0.5)


def test_only_evaluations_of_its_own_are_cancelled(chained: Chained, answers: dict[str, str]) -> None:
    improvement = chained.begin()
    chained.run_through(improvement, until="registering")
    chained.improving.step(chained.desk.clock())
    chained.end_jobs()
    facts = chained.get(improvement).facts
    rows = {"dataset": facts["rows_dataset_id"], "part": "test", "metrics": ["bits_per_byte"]}
    config = {"model": "sums@1", "max_rows": None, **rows}
    theirs = chained.desk("evaluate", **config)["job_id"]
    for _ in range(2):
        chained.improving.step(chained.desk.clock())
    facts = chained.get(improvement).facts
    waited = {theirs, *facts["own_evaluation_jobs"]}
    assert (set(facts["evaluation_jobs"]), len(waited)) == (waited, 4)
    chained.desk("stop_improvement", improvement=improvement)
    stopped = {job_id: job_queue.get_job(chained.database, job_id).status for job_id in waited}
    assert stopped.pop(theirs) == "queued"
    assert set(stopped.values()) == {"cancelled"}
