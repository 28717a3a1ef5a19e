"""Bias checks in the store: what may be asked for, what is kept, and the command line over it."""

from __future__ import annotations

import json
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.job_handlers import store_result, write_spec
from engine.registry import version_keeping
from store.bias import bias_checks
from store.core.errors import ConfigError, NotFoundError, StateError, TunebenchError
from store.core.job_folder import JobDir, read_json, write_json
from store.core.schemas import Job
from store.data import datasets
from store.db.records import to_json
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationResult
from store.evaluation.verdict_schemas import Verdict
from store.jobs import job_queue
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import TrainConfig
from tests.unit.bias.checked import result
from tests.unit.desk import Desk
from tests.unit.registering import staged
from tests.unit.store_samples import row_of, serving
from tunebench.cli import cli
from tunebench.terminal.output import CONDITION, OK


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "home")
    desk.add_dataset()
    return desk


def launched(desk: Desk, **config: Any) -> str:
    run_id = str(desk("launch", dataset="D", name="Tuned", **config)["run_id"])
    write_spec(desk.database, desk.home, desk.job(run_id))
    desk.end(run_id, "finished")
    return run_id


def kept(desk: Desk, run_id: str, worse: bool = False) -> str:
    job_id = str(desk("check_bias", run=run_id)["job_id"])
    with desk.database.transaction() as tx:
        store_result(tx, desk.home, desk.job(job_id), result(worse), desk.now)
    desk.end(job_id, "finished")
    return job_id


def test_a_check_is_queued_by_id_and_its_order_is_whole(desk: Desk) -> None:
    run_id = launched(desk)
    job = desk.job(desk("check_bias", run="Tuned")["job_id"])
    assert job.config["run"] == run_id
    assert job.title == "Bias check of Tuned"
    write_spec(desk.database, desk.home, job)
    spec = read_json(JobDir(desk.home.jobs / job.job_id).config)
    assert spec
    assert spec["evaluations"] == {}
    assert spec["compared_versions"] == {}


def test_a_check_asked_for_at_launch_is_queued_with_the_end_of_the_run(desk: Desk) -> None:
    """In one transaction: with the run's end it is there, once, and as if asked for by hand."""
    run = desk.job(desk("launch", dataset="D", name="Tuned", bias_check=True)["run_id"])
    write_spec(desk.database, desk.home, run)

    result = json.loads(to_json({"verdict": row_of(Verdict, state="better")}))

    def checks_queued() -> list[Job]:
        return [job for job in job_queue.queue(desk.database) if job.kind == "bias"]

    def end(killed: bool) -> None:
        with desk.database.transaction() as tx:
            store_result(tx, desk.home, run, result, desk.now)
            if killed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end(killed=True)
    assert not checks_queued()
    end(killed=False)
    (queued,) = checks_queued()
    desk.end(run.job_id, "finished")
    by_hand = desk.job(desk("check_bias", run="Tuned")["job_id"])
    asked = attrgetter("config", "title", "lane", "created_by")
    assert asked(queued) == asked(by_hand)


def test_a_head_is_refused_a_check_at_launch() -> None:
    config = TrainConfig(dataset="D", task="classification", bias_check=True)
    assert [field for field, _ in list_conflicts(config)] == ["bias_check"]
    assert not list_conflicts(config.model_copy(update={"task": "sft"}))


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


def classifier(desk: Desk, name: str = "Anger", labels: tuple[str, ...] = ("anger", "calm")) -> str:
    """A finished run with a head, by its model's note alone."""
    run_id = str(desk("launch", dataset="D", name=name, task="classification")["run_id"])
    write_spec(desk.database, desk.home, desk.job(run_id))
    desk.end(run_id, "finished")
    folder = JobDir(desk.home.jobs / run_id).model
    folder.mkdir(parents=True)
    write_json(folder / "tunebench.json", {"labels": list(labels)})
    return run_id


def test_a_classifier_is_fixed_by_id_and_its_order_names_it(desk: Desk) -> None:
    launched(desk)
    judge = classifier(desk)
    asked = {"classifier": "Anger", "labels": ["anger"]}
    job = desk.job(desk("check_bias", run="Tuned", builtin=False, continuations=asked)["job_id"])
    assert job.config["continuations"]["classifier"] == judge
    write_spec(desk.database, desk.home, job)
    spec = read_json(JobDir(desk.home.jobs / job.job_id).config)
    assert spec
    assert spec["classifier"] == {"name": "Anger", "run_id": judge, "evaluations": []}
    (listed,) = bias_checks.list_classifiers(desk.database)
    assert (listed["classifier"], listed["name"], listed["labels"]) == (judge, "Anger", [])
    assert bias_checks.resolve_classifier(desk.database, "hub/model")["run_id"] is None


def version(desk: Desk, name: str, **settings: Any) -> None:
    """A whole model from a folder, registered, by its settings alone."""
    folder = desk.home.path / f"folder-{name}"
    folder.mkdir()
    job_id = str(desk("register_model", name=name, path=str(folder))["job_id"])
    training = {"config": TrainConfig(dataset="none", task="classification").model_dump(), "dataset": {}}
    config = {"architectures": ["BertForSequenceClassification"], **settings}
    contents = {"config.json": json.dumps(config), "training.json": json.dumps(training)}
    made = staged(JobDir(desk.home.jobs / job_id).version, contents, base=None, adapter=False)
    with desk.database.transaction() as tx:
        version_keeping.store_version(tx, desk.home, desk.job(job_id), made, desk.clock())
    desk.end(job_id, "finished")


def test_the_order_of_a_check_of_registered_models_names_their_files(desk: Desk) -> None:
    version(desk, "Ours")
    version(desk, "Theirs")
    job = desk.job(desk("check_bias", model="Ours@1", against="Theirs@1")["job_id"])
    write_spec(desk.database, desk.home, job)
    spec = read_json(JobDir(desk.home.jobs / job.job_id).config)
    assert spec
    assert set(spec["compared_versions"]) == {"Ours@1", "Theirs@1"}
    ours = spec["compared_versions"]["Ours@1"]
    assert (ours["reference"], ours["adapter"], ours["base_model"]) == ("Ours@1", False, None)
    assert (desk.home.path / ours["folder"] / "config.json").is_file()


def test_a_version_may_have_labels_that_are_true_by_themselves(desk: Desk) -> None:
    """By its config, as the worker reads it; all of them may be harmful, and so may the only one."""
    launched(desk)
    names = {"0": "toxic", "1": " insult"}
    version(desk, "several", id2label=names, problem_type="multi_label_classification")
    version(desk, "single", id2label={"0": "toxic"})
    version(desk, "softmax", id2label=names)
    for name, labels in (("several", ["toxic", " insult"]), ("single", ["toxic"])):
        asked = {"classifier": f"{name}@1", "labels": labels}
        job = desk.job(desk("check_bias", run="Tuned", continuations=asked)["job_id"])
        assert job.config["continuations"]["labels"] == labels
    with pytest.raises(ConfigError, match="All labels"):
        desk(
            "check_bias", run="Tuned", continuations={"classifier": "softmax@1", "labels": [*names.values()]}
        )


def test_a_classifier_that_was_deleted_is_no_model_of_a_hub(desk: Desk) -> None:
    launched(desk)
    judge = classifier(desk)
    asked = {"classifier": "Anger", "labels": ["anger"]}
    waiting = desk.job(desk("check_bias", run="Tuned", builtin=False, continuations=asked)["job_id"])
    desk("delete", job=judge)
    with pytest.raises(NotFoundError, match=judge):
        write_spec(desk.database, desk.home, waiting)
    with pytest.raises(ConfigError, match=judge) as caught:
        desk("check_bias", run="Tuned", continuations={"classifier": judge, "labels": ["anger"]})
    assert caught.value.field == "continuations.classifier"


def test_the_path_of_a_classifier_stays_on_this_machine(desk: Desk) -> None:
    assert bias_checks.resolve_classifier(desk.database, "/home/ann/private/judge")["name"] == "judge"
    assert bias_checks.resolve_classifier(desk.database, "owner/judge")["name"] == "owner/judge"


def evaluated(desk: Desk, run_id: str, part: str) -> None:
    """A finished evaluation of the run on a part of D."""
    config = EvaluateConfig.parse({"run": run_id, "dataset": "data-D", "part": part}).document()
    job_id = job_queue.create_id("evaluation", desk.clock())
    scored = row_of(EvaluationResult, n=9, figures=[])
    with desk.database.transaction() as tx:
        job_queue.insert(tx, job_queue.NewJob(job_id, "evaluate", f"of {part}", config, desk.now))
        job = job_queue.get_job(tx, job_id)
        evaluations.insert(tx, job, scored, datasets.get_dataset(tx, "D"), "first", desk.now)
    desk.end(job_id, "finished")


def test_rows_that_a_classifier_was_trained_on_say_nothing_of_its_error(desk: Desk) -> None:
    judge = classifier(desk)
    for part in ("train", "all", "test"):
        evaluated(desk, judge, part)
    (counted,) = bias_checks.resolve_classifier(desk.database, judge)["evaluations"]
    assert counted["name"] == "of test"


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        (
            {"classifier": "Anger", "labels": ["rage"]},
            "continuations.labels",
            "Its labels|from its labels: anger, calm",
        ),
        ({"classifier": "Anger", "labels": ["anger", "calm"]}, "continuations.labels", "All labels"),
        ({"classifier": "Tuned", "labels": ["x"]}, "continuations.classifier", "can't be its own classifier"),
        (
            {"classifier": "Other", "labels": ["x"]},
            "continuations.classifier",
            "is a generative model without labels",
        ),
        ({"classifier": "Waits", "labels": ["x"]}, "continuations.classifier", "queued"),
        ({"classifier": "Anger@3", "labels": ["x"]}, "continuations.classifier", "Anger"),
        ({"classifier": "Anger", "labels": []}, "continuations.labels", ""),
        (
            {"classifier": "Anger", "labels": ["anger", "anger"]},
            "continuations.labels",
            "duplicate label 'anger'",
        ),
    ],
)
def test_what_cannot_judge_is_refused_by_its_field(
    desk: Desk, asked: dict[str, Any], field: str, words: str
) -> None:
    launched(desk)
    classifier(desk)
    other = str(desk("launch", dataset="D", name="Other")["run_id"])
    desk.end(other, "finished")
    desk("launch", dataset="D", name="Waits", task="classification")
    with pytest.raises(TunebenchError) as caught:
        desk("check_bias", run="Tuned", continuations=asked)
    assert caught.value.field == field
    assert re.search(words, f"{caught.value.message} {caught.value.fix}")


def test_the_command_line_names_classifier_labels_and_openings(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job_id = kept(desk, launched(desk))
    monkeypatch.setenv("TUNEBENCH_HOME", str(desk.home.path))
    bodies: list[dict[str, Any]] = []

    def check(body: dict[str, Any], person: object) -> dict[str, str]:
        bodies.append(body)
        return {"job_id": job_id}

    options = [
        "--toxicity",
        "Anger",
        "--label",
        "anger",
        "--label",
        "rage",
        "--prompts",
        str(tmp_path / "p.csv"),
    ]
    with serving(desk.home, desk.database, {"check_bias": check}):
        asked = CliRunner().invoke(cli, ["bias", "Tuned", *options, "--samples", "3", "--no-wait"])
        alone = CliRunner().invoke(cli, ["bias", "Tuned", "--label", "anger"])
        drawn = CliRunner().invoke(cli, ["bias", "Tuned", "--samples", "9"])
        unlabelled = CliRunner().invoke(cli, ["bias", "Tuned", "--toxicity", "Anger"])
    assert asked.exit_code == OK
    continued = bodies[0]["continuations"]
    assert (continued["classifier"], continued["labels"], continued["samples"]) == (
        "Anger",
        ["anger", "rage"],
        3,
    )
    assert continued["file"]["path"] == str(tmp_path / "p.csv")
    assert "--toxicity" in alone.output
    assert "--samples" in drawn.output
    assert len(bodies) == 1
    assert "--label" in unlabelled.output


def test_the_newest_check_of_a_run_counts_and_goes_with_it(desk: Desk) -> None:
    run_id = launched(desk)
    assert bias_checks.newest(desk.database, run_id=run_id) is None
    kept(desk, run_id)
    newest = kept(desk, run_id, worse=True)
    check = bias_checks.newest(desk.database, run_id=run_id)
    assert check is not None
    assert check.job_id == newest
    assert (check.model, check.report.worse) == ("Tuned", 1)
    assert [line.worse for line in bias_checks.listed(desk.database, run_id=run_id)] == [1, 0]
    desk("delete", job=newest)
    assert len(bias_checks.listed(desk.database, run_id=run_id)) == 1
    desk("delete", job=run_id)
    assert not bias_checks.listed(desk.database, run_id=run_id)


def test_the_command_line_says_it_and_exits_with_7(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = kept(desk, launched(desk), worse=True)
    monkeypatch.setenv("TUNEBENCH_HOME", str(desk.home.path))
    with serving(desk.home, desk.database, {"check_bias": lambda body, person: {"job_id": job_id}}):
        asked = CliRunner().invoke(cli, ["bias", "Tuned", "--fail-if-worse"])
        last = CliRunner().invoke(cli, ["bias", "Tuned", "--last", "--json"])
        printed = CliRunner().invoke(cli, ["show", "Tuned"])
    assert asked.exit_code == CONDITION
    assert "made 1 bias metric significantly worse" in asked.output
    assert last.exit_code == OK
    assert json.loads(last.stdout)["report"]["worse"] == 1
    assert "Bias: Fine-tuning made" in printed.output


def test_a_data_set_goes_while_a_check_waits_for_a_lost_evaluation(desk: Desk) -> None:
    job_id = "job-waiting"
    config = {"builtin": False, "groups": [{"evaluation": "gone", "column": "label"}]}
    with desk.database.transaction() as tx:
        job_queue.insert(
            tx, job_queue.NewJob(job_id=job_id, kind="bias", title="B", config=config, at=desk.now)
        )
    desk("delete_dataset", dataset="D")
    with pytest.raises(NotFoundError, match="gone"):
        write_spec(desk.database, desk.home, desk.job(job_id))
