"""Where new rows come from: feedback, rating rounds; and the schedule that counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.made.request_log import Traffic, append, request_lines
from engine.monitoring.alerts import AlertDetails, raise_alert
from engine.monitoring.loop import ingest_logs
from engine.retraining import job_spec
from store.core.errors import ConfigError, StateError
from store.core.job_folder import JobDir
from store.core.metric_table import choose_comparison_metric
from store.core.schemas import Job
from store.jobs import job_queue
from store.monitoring import monitor_alerts
from store.monitoring.feedback import returned
from store.monitoring.log_ingest import get_log_folder
from store.retraining import improvements
from store.retraining.schemas import RowCandidate
from store.serving import endpoints
from tests.unit.improving.chained import Chained
from tests.unit.rating.round_desk import RoundDesk, person
from tests.unit.store_samples import row_of

DAY = 24 * 3_600.0
BOB, CLEO = person("Bob", "rater"), person("Cleo", "rater")


def ask(chained: Chained, count: int, first: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """Requests in the log, and that each was corrected."""
    folder = get_log_folder(chained.home, "endpoint-1")
    made = Traffic(**{"failing": 0.0, "every": 1.0, "version": "sums@1", **fields})
    texts = [f"Question {n}?" for n in range(first, first + count)]
    lines = list(request_lines(texts, ["No."] * count, made, np.random.default_rng(0), first=first))
    append(folder / "requests-000000.jsonl", lines)
    words = [word(line, f"Answer {n}", at=line["at"] + 1) for n, line in enumerate(lines)]
    append(folder / "feedback-000000.jsonl", words)
    ingest_logs(chained.database, chained.home, "endpoint-1", chained.desk.clock())
    return words


def word(line: Any, text: str | None, **fields: Any) -> dict[str, Any]:
    return {
        **{"feedback_id": f"f-{line['request_id']}-{fields.get('at')}", "request_id": line["request_id"]},
        **{"endpoint_id": "endpoint-1", "person_id": "p-ada", "kind": "correction", "value": None},
        **{"text": text, "comment": "", "at": 0.0, **fields},
    }


def brought(chained: Chained, **source: Any) -> list[RowCandidate]:
    """What the job's folder gets for one source."""
    config = {
        **{"improvement": "i", "name": "N", "dataset": "data-D", "run": "run-1", "held_out": 0.3},
        "rows": [{"source": "feedback", "endpoint": "endpoint-1", **source}],
    }
    folder = JobDir(chained.home.jobs / "job-1")
    folder.path.mkdir(exist_ok=True)
    job = row_of(Job, job_id="job-1", config=config)
    job_spec.stage_candidates(chained.database, chained.home, job)
    lines = (folder.path / "candidates.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_last_word_of_each_person_and_only_what_is_meant(chained: Chained) -> None:
    words = ask(chained, 10)
    later = [
        word(words[0], "A later word", at=words[0]["at"] + 5),
        word(words[1], "Another's word", person_id="p-bob", at=words[1]["at"] + 5),
        word(words[2], None, kind="thumb", value=1.0, at=words[2]["at"] + 5),
        word({"request_id": "chatcmpl-gone"}, "Of one that was never logged", at=words[3]["at"]),
    ]
    append(get_log_folder(chained.home, "endpoint-1") / "feedback-000000.jsonl", later)
    ingest_logs(chained.database, chained.home, "endpoint-1", chained.desk.clock())
    made = brought(chained)
    heard = {(each["request"][-1], each["person"], each["answer"]) for each in made}
    assert ("0", "p-ada", "A later word") in heard
    assert {("1", "p-ada", "Answer 1"), ("1", "p-bob", "Another's word")} <= heard
    assert len(made) == 12
    gone = next(each for each in made if each["request"] == "chatcmpl-gone")
    assert (gone["prompt"], gone["asked_at"]) == (None, None)
    assert made[0]["rejected"] == "No."
    assert not any(each["random"] for each in made)
    moment = job_queue.to_utc(words[8]["at"]).isoformat()
    assert len(brought(chained, start=moment)) == 2
    in_zone = f"{job_queue.to_utc(words[8]['at'] + 3_600).isoformat()}+01:00"
    assert len(brought(chained, start=in_zone)) == 2
    assert {each["request"] for each in brought(chained, group="web")} < {each["request"] for each in made}
    assert brought(chained, group="nobody") == []


def test_only_of_the_requests_behind_an_alert(chained: Chained) -> None:
    ask(chained, 10)
    with chained.database.transaction() as tx:
        raise_alert(tx, "endpoint-1", AlertDetails("drift", "input", "r", "a", 1.0, (3, 6)), 1.0)
    (alert,) = monitor_alerts.open_alerts(chained.database, "endpoint-1")
    assert [each["request"][-1] for each in brought(chained, alert=alert.alert_id)] == ["3", "4", "5", "6"]


def test_a_clock_that_is_set_back_stops_no_schedule(chained: Chained) -> None:
    rows = [{"source": "feedback", "endpoint": "Desk"}]
    chained.desk("schedule_improvement", model="sums", rows=rows, every_hours=24, least_rows=20)
    at = 2_000_000_000.0
    engine = chained.next_engine()
    engine.step(at)
    ask(chained, 25)
    engine.step(at - DAY)
    (improvement,) = improvements.of_model(chained.database, "")
    assert improvement.scheduled


def test_a_schedule_begins_one_once_enough_was_said(chained: Chained) -> None:
    rows = [{"source": "feedback", "endpoint": "Desk"}]
    chained.desk("schedule_improvement", model="sums", rows=rows, every_hours=24, least_rows=20)
    ask(chained, 19)
    at = 2_000_000_000.0
    chained.next_engine().step(at)
    (schedule,) = improvements.list_schedules(chained.database)
    assert (schedule.last_rows, improvements.of_model(chained.database, "")) == (19, [])
    ask(chained, 1, first=19)  # exactly enough
    chained.next_engine().step(at + DAY / 2)
    assert improvements.of_model(chained.database, "") == []
    chained.next_engine().step(at + DAY)
    (improvement,) = improvements.of_model(chained.database, "")
    assert (improvement.scheduled, improvement.begun_by_name, improvement.state) == (
        *(True, "you"),
        "gathering",
    )
    chained.next_engine().step(at + 3 * DAY)  # it is under way
    assert len(improvements.of_model(chained.database, "")) == 1
    chained.desk("stop_improvement", improvement=improvement.improvement_id)
    chained.desk("remove_alias", model="sums", reason="Wrong.")
    for line in ask(chained, 25, first=25, start=1_900_000_000.0):
        assert line["at"] > job_queue.to_epoch(improvement.begun_at)
    chained.next_engine().step(at + 5 * DAY)
    (schedule,) = improvements.list_schedules(chained.database)
    assert "No version of sums has the alias production" in str(schedule.trouble)
    assert schedule.last_rows >= 25
    (alert,) = monitor_alerts.open_alerts(chained.database, "endpoint-1")
    assert (alert.kind, alert.subject) == ("quality", "improvement")
    chained.desk("unschedule_improvement", model="sums")
    with pytest.raises(StateError, match="have no schedule"):
        chained.desk("unschedule_improvement", model="sums")


def test_corrections_of_a_round_wait_until_it_is_closed(tmp_path: Path) -> None:
    desk = RoundDesk(tmp_path, prompts=6)
    evaluation = desk.evaluated("tiny", [f"Wrong {n}" for n in range(desk.prompts)])
    round_id = desk.round(protocol="correction", models=[{"evaluation": evaluation}], overlap=2)
    for rater, text in ((BOB, "Right."), (CLEO, "Also right.")):
        for _ in range(2):
            for task in desk("next_rating_tasks", rater, round=round_id)["tasks"]:
                answer = {"text": text} if task["answers"][0].endswith("3") else {"text": "The same."}
                desk("rate", rater, round=round_id, task=task["task_id"], answer=answer, seconds=1.0)
    config = {
        **{"improvement": "i", "name": "N", "dataset": desk.dataset_id, "run": "r", "held_out": 0.3},
        "rows": [{"source": "round", "round": round_id}],
    }
    job = row_of(Job, job_id="job-1", config=config)
    JobDir(desk.home.jobs / "job-1").path.mkdir()
    job_spec.stage_candidates(desk.database, desk.home, job)
    lines = (desk.home.jobs / "job-1" / "candidates.jsonl").read_text().splitlines()
    made: list[RowCandidate] = [json.loads(line) for line in lines]
    desk.database.close()
    assert {each["kind"] for each in made} == {"correction"}
    assert all(str(each["rejected"]).startswith("Wrong") for each in made)
    assert all(each["prompt"] and each["request"].endswith("/0") for each in made)
    assert len({each["person"] for each in made}) == 2


def test_what_was_said_of_another_model_is_none_of_it(chained: Chained) -> None:
    """By the name that was asked for: what a candidate of another model answered to it counts."""
    ask(chained, 2)
    ask(chained, 3, first=2, version="elsewhere@2", name="other")
    ask(chained, 1, first=5, version="elsewhere@2")
    ask(chained, 1, first=6, version="run-1", name="by run")
    folder = get_log_folder(chained.home, "endpoint-1")
    append(folder / "feedback-000000.jsonl", [word({"request_id": "gone"}, "Of a request that is gone")])
    ingest_logs(chained.database, chained.home, "endpoint-1", chained.desk.clock())
    own = {each["request"].rpartition("-")[2] for each in brought(chained, model="sums")}
    assert own == {"00000000", "00000001", "00000005", "00000006", "gone"}
    (line,) = returned(chained.database, "sums")
    assert (line.requests, line.with_texts) == (5, 4)
    assert len(brought(chained)) == 8


def test_an_endpoint_that_never_answered_as_the_model_is_refused(chained: Chained) -> None:
    served = {"models": [{"name": "other", "routes": [{"subject": "elsewhere@2"}]}]}
    with chained.database.transaction() as tx:
        endpoints.set_settings(tx, "endpoint-1", served)
    ask(chained, 1, version="elsewhere@2", name="other")
    with pytest.raises(ConfigError, match="Desk serves elsewhere@2 and its log has no answers of sums"):
        chained.begin()
    ask(chained, 1, first=1)
    begun = chained.get(chained.begin())
    assert [source.model for source in begun.config.rows] == ["sums"]


@pytest.mark.parametrize(
    ("task", "format", "metric"),
    [
        ("classification", "text_label", "accuracy"),
        ("sft", "text_label", "accuracy"),
        ("sft", "prompt_completion", "bits_per_byte"),  # also where a label stands beside the answers
        ("sft", "multiple_choice", "choice_accuracy"),
        ("dpo", "preference", "bits_per_byte"),
    ],
)
def test_versions_are_compared_by_what_their_rows_can_show(task: str, format: str, metric: str) -> None:
    assert choose_comparison_metric(task=task, format=format) == metric
