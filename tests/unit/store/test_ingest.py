"""What each kind of event does to the store, once, and what of it is refused and told."""

from __future__ import annotations

import json
import math

import pytest

from store.core.errors import NotFoundError
from store.db.database import Database
from store.jobs import metric_points
from store.jobs.event_ingest import EventBatch, ingest, ingest_many
from store.runs import run_outcomes, runs
from tests.unit.ingest_samples import content, event, new_job


def test_everything_of_a_batch_lands(database: Database) -> None:
    job = new_job(database)
    report = ingest(
        database,
        job,
        [
            event("status", status="training"),
            event("progress", done=1, total=4, unit="steps"),
            event("metrics", step=1, values={"train/loss": 2.5, "train/epoch": 1}),
            event("facts", facts={"rows": {"train": 3}, "dtype": "float32"}),
            event("facts", facts={"dtype": "bfloat16", "odd": math.nan}),
            event("alert", level="info", message="Rows were cut."),
            event("progress", done=2, total=4, unit="steps", message="Training", eta_seconds=8),
        ],
        700,
    )
    assert report == {
        **{"job_id": job, "applied": True, "events": 7, "points": 2, "torn": 0, "refused": 0},
        "status": "training",
    }
    seen = content(database, job)
    assert seen["job"] == [
        {
            **{"status": "training", "event_offset": 700, "progress_done": 2.0, "progress_total": 4.0},
            **{"progress_unit": "steps", "progress_message": "Training", "eta_seconds": 8.0},
        }
    ]
    facts = json.loads(seen["facts"][0]["facts"])
    assert facts == {"rows": {"train": 3}, "dtype": "bfloat16", "odd": "NaN"}
    assert seen["alerts"] == ["Rows were cut."]


def test_a_verdict_is_one_alert_however_often_it_is_raised(database: Database) -> None:
    """A resumed run comes to it again; another run's is its own."""
    job, other = new_job(database, "training"), new_job(database, "training")
    verdict = event("alert", message="It overfits.", kind="overfitting", step=40)
    later = event("alert", message="It overfits again.", kind="overfitting", step=50)
    plain = event("alert", message="Rows were cut.")
    ingest(database, job, [verdict, later, plain, plain], 10)
    ingest(database, job, [later, event("alert", message="It forgot.", kind="forgetting_red", step=50)], 20)
    ingest(database, other, [later], 10)
    job_alerts = [(a.kind, a.step) for a in runs.alerts(database, job)]
    assert sorted(job_alerts, key=str) == sorted(
        [("overfitting", 40), (None, None), (None, None), ("forgetting_red", 50)], key=str
    )
    assert run_outcomes.count_alerted_runs(database) == 2
    last, first = sorted(run_outcomes.alerts_by_run(database), key=lambda run: len(run.alerts))
    assert (last.run_id, first.run_id) == (other, job)
    assert [a["kind"] for a in first.alerts] == ["forgetting_red", "overfitting"]
    assert len(run_outcomes.alerts_by_run(database, limit=1)) == 1


def test_a_rewind_to_before_the_first_step_voids_all(database: Database) -> None:
    """A run that is resumed without a checkpoint begins again."""
    job = new_job(database, "training")
    first = [event("metrics", step=s, values={"train/loss": 1.0}) for s in (0, 1, 2)]
    ingest(database, job, first, 10)
    report = ingest(database, job, [event("rewind", step=-1), *first[:1]], 20)
    assert report["torn"] == 0
    points = database.query("SELECT step FROM metric WHERE run_id = ?", [job])
    assert points["step"].to_pylist() == [0]
    (summary,) = metric_points.summaries(database, [job])
    assert summary.count == 1


def test_rewind_applies_to_what_came_before_it_in_the_store_and_in_the_batch(database: Database) -> None:
    job = new_job(database, "training")
    ingest(database, job, [event("metrics", step=s, values={"x": s}) for s in range(5)], 10)
    batch = [
        event("metrics", step=5, values={"x": 5}),
        event("rewind", step=2),
        event("metrics", step=3, values={"x": 30}),
        event("rewind", step=4),  # voids nothing: 3 is not after 4
        event("metrics", step=4, values={"x": 40}),
    ]
    ingest(database, job, batch, 20)
    curve = metric_points.curve(database, job, "x")
    assert curve.column("value").to_pylist() == [0, 1, 2, 30, 40]
    assert metric_points.summaries(database, [job])[0].sum == 73


def test_a_rewind_with_a_prefix_voids_those_names_alone(database: Database) -> None:
    """A checkpoint can be older than a validation of its own step: that one will be measured again."""
    job = new_job(database, "training")
    stored = [event("metrics", step=s, values={"train/loss": s, "eval/loss": s}) for s in (1, 2, 3)]
    ingest(database, job, stored, 10)
    batch = [
        event("metrics", step=4, values={"eval/loss": 4, "train/loss": 4}),
        event("rewind", step=2, prefix="eval/"),
        event("metrics", step=3, values={"eval/loss": 30}),
    ]
    assert ingest(database, job, batch, 20)["torn"] == 0
    assert metric_points.curve(database, job, "train/loss")["value"].to_pylist() == [1, 2, 3, 4]
    assert metric_points.curve(database, job, "eval/loss")["value"].to_pylist() == [1, 2, 30]
    ingest(database, job, [event("rewind", step=2, prefix=7)], 30)
    assert metric_points.curve(database, job, "eval/loss")["value"].to_pylist() == [1, 2, 30]


def test_a_move_that_is_not_allowed_is_told_and_not_made(database: Database) -> None:
    job = new_job(database, "cancelled")
    report = ingest(database, job, [event("status", status="training")], 10)
    assert (report["status"], report["refused"]) == ("cancelled", 1)
    assert content(database, job)["alerts"] == [
        "The worker reported 'training' while JOB was cancelled; this was ignored."
    ]


def test_a_worker_can_not_end_its_job_by_an_event(database: Database) -> None:
    job = new_job(database, "training")
    assert ingest(database, job, [event("status", status="finished")], 10)["status"] == "training"


def test_the_state_that_it_has_already_is_no_move(database: Database) -> None:
    job = new_job(database, "preparing")
    assert ingest(database, job, [event("status", status="preparing")], 10)["refused"] == 0


def test_good_values_of_a_bad_event_are_kept_and_the_rest_is_told(database: Database) -> None:
    job = new_job(database, "training")
    report = ingest(
        database, job, [event("metrics", step=1, values={"good": 1.5, "bad": None, "huge": 10**400})], 10
    )
    assert (report["points"], report["torn"]) == (1, 1)
    assert [row.name for row in metric_points.summaries(database, [job])] == ["good"]


def test_bytes_that_are_in_the_store_are_not_taken_again(database: Database) -> None:
    job = new_job(database, "training")
    batch = [event("metrics", step=1, values={"x": 1.0})]
    assert ingest(database, job, batch, 10)["applied"]
    assert not ingest(database, job, batch, 10)["applied"]
    assert not ingest(database, job, batch, 30, 20)["applied"]  # it skips bytes 10 to 20
    assert ingest(database, job, batch, 20, 10)["applied"]
    assert metric_points.summaries(database, [job])[0].count == 2


def test_one_flush_for_several_jobs_of_which_one_is_gone(database: Database) -> None:
    first, second = new_job(database, "training"), new_job(database, "training")
    batch = [event("metrics", step=1, values={"x": 1.0})]
    reports = ingest_many(
        database,
        [EventBatch(first, batch, 10), EventBatch("gone", batch, 10), EventBatch(second, batch * 3, 30)],
    )
    assert [report["status"] for report in reports] == ["training", None, "training"]
    assert [report["points"] for report in reports] == [1, 0, 3]
    assert metric_points.summaries(database, ["gone"]) == []
    with pytest.raises(NotFoundError, match="no job gone"):
        ingest(database, "gone", batch, 10)


def test_a_job_that_is_not_a_run_reports_too(database: Database) -> None:
    job = new_job(database, "preparing", run=False)
    report = ingest(
        database, job, [event("facts", facts={"a": 1}), event("progress", done=1, total=2, unit="rows")], 10
    )
    assert report["applied"]
    assert content(database, job)["job"][0]["progress_done"] == 1.0


def test_a_failing_flush_leaves_offset_and_points_as_they_were(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(database, "training")
    batch = [event("metrics", step=1, values={"x": 1.0}), event("alert", message="m")]

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(metric_points, "add", fail)
        with pytest.raises(OSError, match="disk"):
            ingest(database, job, batch, 10)
    before = content(database, job)
    assert (before["job"][0]["event_offset"], before["points"], before["alerts"]) == (0, "[]", [])
    ingest(database, job, batch, 10)
    assert content(database, job)["alerts"] == ["m"]
