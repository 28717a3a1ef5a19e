"""With which rows beside the run's own new ones are compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.retraining import gate, job_spec, leakage
from store.core.errors import StateError
from store.db.records import to_json
from store.jobs import job_queue
from store.monitoring import monitors
from store.monitoring.config import MonitorSettings
from store.registry import model_versions
from store.registry.gate_candidates import Candidate
from store.registry.schemas import GateReport
from store.retraining import improvements
from store.retraining.schemas import Improvement
from tests.unit.improving.chained import Chained
from tests.unit.registering import finished_run, register
from tests.unit.store_samples import row_of


def compared(chained: Chained, improvement_id: str) -> set[tuple[str, str, str]]:
    """Why, rows and part."""
    chained.improving.step(chained.desk.clock())
    job = job_queue.get_job(chained.database, chained.get(improvement_id).facts["gather_job"])
    order: Any = job_spec.build_feedback_spec(chained.database, job)
    return {(each.why, each.fingerprint, each.part) for each in order["beside"]}


def test_rows_that_judged_an_earlier_improvement(chained: Chained) -> None:
    first = chained.begin()
    assert compared(chained, first) == set()
    gathered = chained.get(first).facts["gather_job"]
    chained.end_jobs()
    chained.improving.step(chained.desk.clock())
    with chained.database.transaction() as tx:
        tx.execute("UPDATE improvement SET state = 'failed' WHERE improvement_id = ?", [first])
    second = chained.begin()
    assert compared(chained, second) == {("judge", f"rows-{gathered}", "test")}
    with chained.database.transaction() as tx:  # before anything was judged by them
        tx.execute("UPDATE improvement SET state = 'stopped' WHERE improvement_id = ?", [first])
    assert compared(chained, second) == set()


def order_of(chained: Chained, improvement_id: str) -> list[Any]:
    """The rows beside, as the gathering is told them; it is queued where it was not."""
    chained.improving.step(chained.desk.clock())
    job = job_queue.get_job(chained.database, chained.get(improvement_id).facts["gather_job"])
    beside: list[Any] = job_spec.build_feedback_spec(chained.database, job)["beside"]
    return beside


def test_whose_rows_judge_again_and_whether_they_have_judged(chained: Chained) -> None:
    first = chained.begin()
    chained.improving.step(chained.desk.clock())
    chained.end_jobs()
    chained.improving.step(chained.desk.clock())
    rows_id = chained.get(first).facts["rows_dataset_id"]
    with chained.database.transaction() as tx:
        tx.execute("UPDATE improvement SET state = 'failed' WHERE improvement_id = ?", [first])
    second = chained.begin()
    (beside,) = order_of(chained, second)
    about = {"improvement_id": first, "judged": False, "may_judge": True, "at_random": False}
    assert beside.earlier == about
    with chained.database.transaction() as tx:
        improvements.set_facts(tx, first, version="sums@2")
        tx.execute("UPDATE improvement SET state = 'stopped' WHERE improvement_id = ?", [first])
    (beside,) = order_of(chained, second)
    assert (beside.earlier["judged"], beside.earlier["may_judge"]) == (False, False)
    with chained.database.transaction() as tx:
        improvements.set_facts(tx, first, gate=row_of(GateReport, answer="passed", checks=[]))
        # dealt another way by somebody since: what was put aside stays that
        tx.execute("UPDATE dataset SET split_by = 'random' WHERE dataset_id = ?", [rows_id])
    (beside,) = order_of(chained, second)
    assert (beside.earlier["judged"], beside.split["split_by"]) == (True, "given")


def test_what_trained_the_version_in_use_judges_nothing(chained: Chained) -> None:
    """Where another run made it than the one whose config is launched; an imported one nobody knows."""
    chained.desk.add_dataset(name="Other", fingerprint="of-Other")
    finished_run(chained.desk, "run-2")
    register(chained.desk, text="two", run="run-2")
    chained.desk("promote", version="sums@2", reason="The next.")
    with chained.database.transaction() as tx:
        tx.execute("UPDATE run SET dataset_id = 'data-Other' WHERE run_id = 'run-2'")
    own = chained.begin(run="run-1")
    named = {(each.why, each.fingerprint, each.part) for each in order_of(chained, own)}
    assert named == {("train", "of-Other", "all")}
    assert chained.get(own).facts["gathered_beside"] == "sums@2"
    version = model_versions.get_version(chained.database, "sums@2")
    assert gate.find_training_run(chained.database, version, "run-2") == {
        "in_use_run": "",
        "in_use_unknown": "",
    }
    imported = replace(version, run_id=None)
    assert "was imported" in gate.find_training_run(chained.database, imported, "run-1")["in_use_unknown"]
    gone = replace(version, run_id="run-9")
    assert "was deleted" in gate.find_training_run(chained.database, gone, "run-1")["in_use_unknown"]
    moved = row_of(Improvement, config=chained.get(own).config, facts={"gathered_beside": "sums@1"})
    candidate = Candidate(version, version, "production")
    assert "sums@2 came into use after" in gate.explain_leakage_on_new_rows(moved, candidate)
    for facts in ({"gathered_beside": "sums@2"}, {}):
        assert gate.explain_leakage_on_new_rows(replace(moved, facts=facts), candidate) == ""


def test_nobody_knows_the_rows_of_a_run_that_is_gone_before_another(chained: Chained) -> None:
    """Of the version in use, and of the run whose config is launched."""
    chained.desk.add_dataset(name="Before", fingerprint="of-Before")
    for name in ("run-0", "run-2"):
        finished_run(chained.desk, name)
    register(chained.desk, text="two", run="run-2")
    chained.desk("promote", version="sums@2", reason="The next.")
    with chained.database.transaction() as tx:
        tx.execute("UPDATE run SET dataset_id = 'data-Before' WHERE run_id = 'run-0'")
        tx.execute("UPDATE run SET config = ? WHERE run_id = 'run-2'", [to_json({"init_from": "run-0"})])
    own = chained.begin(run="run-1")
    assert "of-Before" in {each.fingerprint for each in order_of(chained, own)}
    for needed in ("run-0", "run-2"):  # until the rows are compared, also where the gathering waits
        with pytest.raises(StateError, match="used by the improvement"):
            chained.desk("delete", job=needed)
    chained.desk("stop_improvement", improvement=own)
    version = model_versions.get_version(chained.database, "sums@2")
    whole = {"in_use_run": "run-2", "in_use_unknown": ""}
    assert gate.find_training_run(chained.database, version, "run-1") == whole
    chained.desk("delete", job="run-0")
    lost = "the training data of sums@2 was deleted, so overlap is unknown"
    gone = {"in_use_run": "run-2", "in_use_unknown": lost}
    assert gate.find_training_run(chained.database, version, "run-1") == gone
    first = model_versions.get_version(chained.database, "sums@1")
    assert (
        "training data of run-2 was deleted"
        in gate.find_training_run(chained.database, first, "run-2")["in_use_unknown"]
    )
    assert (
        "training data of run-2 was deleted"
        in gate.find_training_run(chained.database, version, "run-2")["in_use_unknown"]
    )


def test_a_registered_model_that_a_run_began_with_is_looked_through(chained: Chained) -> None:
    finished_run(chained.desk, "run-2")
    with chained.database.transaction() as tx:
        tx.execute("UPDATE run SET model = 'sums@1' WHERE run_id = 'run-2'")
    before = leakage.trace_lineage(chained.database, "run-2")
    assert ([run.run_id for run in before.runs], before.whole) == (["run-2", "run-1"], True)
    with chained.database.transaction() as tx:
        tx.execute("UPDATE run SET model = 'sums@9' WHERE run_id = 'run-2'")
    assert not leakage.trace_lineage(chained.database, "run-2").whole


def test_a_gathering_that_failed_is_asked_anew_beside_who_is_in_use_then(chained: Chained) -> None:
    finished_run(chained.desk, "run-2")
    register(chained.desk, text="two", run="run-2")
    chained.desk("promote", version="sums@2", reason="The next.")
    own = chained.begin(run="run-1")
    chained.improving.step(chained.desk.clock())
    chained.end_jobs("failed")
    chained.improving.step(chained.desk.clock())
    chained.desk("move_back", model="sums", reason="A doubt.")
    chained.desk("delete_version", version="sums@2")
    chained.desk("delete", job="run-2")
    chained.desk("resume_improvement", improvement=own)
    assert order_of(chained, own) == []
    assert chained.get(own).facts["gathered_beside"] == "sums@1"


def test_two_of_one_model_gather_one_after_the_other(chained: Chained) -> None:
    """How often the rows of the first will have judged is known once they are put aside; and what the first
    has found disputed is so for the next, even where the first is stopped."""
    chained.desk("promote", version="sums@1", alias="staging", reason="Here too.")
    first = chained.begin()
    second = chained.begin(alias="staging")
    chained.improving.step(chained.desk.clock())
    assert "gather_job" not in chained.get(second).facts
    chained.end_jobs()
    job = job_queue.get_job(chained.database, chained.get(first).facts["gather_job"])
    with chained.database.transaction() as tx:
        result = to_json({**(job.result or {}), "disputed": ["ab"]})
        tx.execute("UPDATE job SET result = ? WHERE job_id = ?", [result, job.job_id])
    chained.improving.step(chained.desk.clock())
    (beside,) = order_of(chained, second)
    assert beside.earlier["may_judge"]
    chained.desk("stop_improvement", improvement=first)
    job = job_queue.get_job(chained.database, chained.get(second).facts["gather_job"])
    order = job_spec.build_feedback_spec(chained.database, job)
    assert (order["beside"], order["disputed"]) == ([], ["ab"])


def test_golden_sets_probes_what_was_replayed_and_what_trained_before(chained: Chained) -> None:
    improvement_id = chained.begin()
    names = ("Golden", "Watched", "Probe", "General", "Before")
    for name in names:
        chained.desk.add_dataset(name=name, fingerprint=f"of-{name}")
    check = {"check": "not_worse_than", "dataset": "Golden", "metric": "chrf", "part": "validation"}
    chained.desk("set_gate", model="sums", alias="production", gate={"checks": [check]})
    golden = {"evaluate": {"model": "any", "dataset": "Watched", "metrics": ["chrf"]}}
    run_id = chained.get(improvement_id).config.run
    finished_run(chained.desk, "run-0")
    with chained.database.transaction() as tx:
        monitors.configure(
            tx,
            "endpoint-1",
            MonitorSettings.parse({"golden": golden}),
            "you",
            job_queue.to_utc(chained.desk.clock()),
        )
        config = {
            **{"probe_datasets": ["Probe", "Gone"], "init_from": "run-0"},
            **{"replay_share": 0.1, "replay_dataset": "data-General"},
        }
        tx.execute("UPDATE run SET dataset_id = 'data-Before' WHERE run_id = 'run-0'")
        tx.execute("UPDATE run SET config = ? WHERE run_id = ?", [to_json(config), run_id])
    assert compared(chained, improvement_id) == {
        ("judge", "of-Golden", "validation"),
        ("judge", "of-Watched", "test"),
        ("judge", "of-Probe", "all"),
        ("train", "of-General", "all"),
        ("train", "of-Before", "all"),
    }
