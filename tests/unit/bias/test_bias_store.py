"""Bias checks in the store: what may be asked for, what is kept, and the command line over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.server.scheduling.job_handlers import keep, write_order
from store.config.training.refusals import refusals
from store.config.training.train_config import TrainConfig
from store.contract.errors import ConfigError, NotFoundError, StateError
from store.contract.jobdir import JobDir, read_json
from store.documents.tables.job import Job
from store.queries import jobs
from store.queries.bias import checks
from tests.unit.bias.checked import result
from tests.unit.desk import Desk
from tests.unit.store_samples import serving
from tunebench.cli import cli
from tunebench.terminal.output import CONDITION, OK


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "home")
    desk.add_dataset()
    return desk


def launched(desk: Desk, **config: Any) -> str:
    run_id = str(desk("launch", dataset="D", name="Tuned", **config)["run_id"])
    write_order(desk.database, desk.home, desk.job(run_id))
    desk.end(run_id, "finished")
    return run_id


def kept(desk: Desk, run_id: str, worse: bool = False) -> str:
    job_id = str(desk("check_bias", run=run_id)["job_id"])
    with desk.database.transaction() as tx:
        keep(tx, desk.home, desk.job(job_id), result(worse), desk.now)
    desk.end(job_id, "finished")
    return job_id


def test_a_check_is_queued_by_id_and_its_order_is_whole(desk: Desk) -> None:
    run_id = launched(desk)
    job = desk.job(desk("check_bias", run="Tuned")["job_id"])
    assert job["config"]["run"] == run_id
    assert job["title"] == "Bias of Tuned"
    write_order(desk.database, desk.home, job)
    order = read_json(JobDir(desk.home.jobs / job["job_id"]).config)
    assert order
    assert order["evaluations"] == {}
    assert order["compared_versions"] == {}


def test_a_check_asked_for_at_launch_is_queued_with_the_end_of_the_run(desk: Desk) -> None:
    """In one transaction: with the run's end it is there, once, and as if asked for by hand."""
    run = desk.job(desk("launch", dataset="D", name="Tuned", bias_check=True)["run_id"])
    write_order(desk.database, desk.home, run)

    def checks_queued() -> list[Job]:
        return [job for job in jobs.queue(desk.database) if job["kind"] == "bias"]

    def end(killed: bool) -> None:
        with desk.database.transaction() as tx:
            keep(tx, desk.home, run, {"verdict": {"state": "better"}}, desk.now)
            if killed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end(killed=True)
    assert not checks_queued()
    end(killed=False)
    (queued,) = checks_queued()
    desk.end(run["job_id"], "finished")
    by_hand = desk.job(desk("check_bias", run="Tuned")["job_id"])
    assert [queued[part] for part in ("config", "title", "lane", "created_by")] == [
        by_hand[part] for part in ("config", "title", "lane", "created_by")
    ]


def test_a_head_is_refused_a_check_at_launch() -> None:
    config = TrainConfig(dataset="D", task="classification", bias_check=True)
    assert [field for field, _ in refusals(config)] == ["bias_check"]
    assert not refusals(config.model_copy(update={"task": "sft"}))


def test_a_model_with_a_head_and_one_that_is_not_there_are_refused(desk: Desk) -> None:
    launched(desk, task="classification")
    with pytest.raises(StateError) as headed:
        desk("check_bias", run="Tuned")
    assert headed.value.field == "run"
    with pytest.raises(ConfigError) as missing:
        desk("check_bias", model="Ours@3", against="SmolLM2")
    assert missing.value.field == "model"
    with pytest.raises(NotFoundError, match="gone"):
        desk("check_bias", builtin=False, groups=[{"evaluation": "gone", "column": "label"}])


def test_the_newest_check_of_a_run_counts_and_goes_with_it(desk: Desk) -> None:
    run_id = launched(desk)
    assert checks.newest(desk.database, run_id=run_id) is None
    kept(desk, run_id)
    newest = kept(desk, run_id, worse=True)
    check = checks.newest(desk.database, run_id=run_id)
    assert check is not None
    assert check["job_id"] == newest
    assert (check["model"], check["report"]["worse"]) == ("Tuned", 1)
    assert [line["worse"] for line in checks.listed(desk.database, run_id=run_id)] == [1, 0]
    desk("delete", job=newest)
    assert len(checks.listed(desk.database, run_id=run_id)) == 1
    desk("delete", job=run_id)
    assert not checks.listed(desk.database, run_id=run_id)


def test_the_command_line_says_it_and_exits_with_7(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = kept(desk, launched(desk), worse=True)
    monkeypatch.setenv("TUNEBENCH_HOME", str(desk.home.path))
    with serving(desk.home, desk.database, {"check_bias": lambda body, person: {"job_id": job_id}}):
        asked = CliRunner().invoke(cli, ["bias", "Tuned", "--fail-if-worse"])
        last = CliRunner().invoke(cli, ["bias", "Tuned", "--last", "--json"])
        printed = CliRunner().invoke(cli, ["show", "Tuned"])
    assert asked.exit_code == CONDITION
    assert "surely made 1 figure of bias worse" in asked.output
    assert last.exit_code == OK
    assert json.loads(last.stdout)["report"]["worse"] == 1
    assert "Bias: Fine-tuning surely made" in printed.output


def test_a_data_set_goes_while_a_check_waits_for_a_lost_evaluation(desk: Desk) -> None:
    job_id = "job-waiting"
    config = {"builtin": False, "groups": [{"evaluation": "gone", "column": "label"}]}
    with desk.database.transaction() as tx:
        jobs.insert(tx, jobs.NewJob(job_id=job_id, kind="bias", title="B", config=config, at=desk.now))
    desk("delete_dataset", dataset="D")
    with pytest.raises(NotFoundError, match="gone"):
        write_order(desk.database, desk.home, desk.job(job_id))
