"""Evaluations in the store: what may be asked for, what is kept, and what others can't do meanwhile."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from engine.job_handlers import store_result
from store.core.errors import ConfigError, NotFoundError, StateError, TunebenchError
from store.core.figure_schemas import Figure, UnscoredRows
from store.core.job_folder import JobDir, write_json
from store.db.records import to_json
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationCounts, EvaluationResult, RowScore
from store.jobs import job_queue
from tests.unit.desk import Desk
from tests.unit.store_samples import row_of, serving
from tunebench.cli import cli
from tunebench.commands.evaluation_conditions import (
    Bound,
    InterpretedDifference,
    check_bound,
    check_not_worse,
)
from tunebench.terminal.output import CONDITION, NOT_FOUND, OK, USAGE

FIGURE = Figure(
    metric="eval/exact_match", value=0.5, low=0.2, high=0.8, n=3, rows=3, better="higher", empty=0,
    unit="share of rows", estimator="mean", bounds=[0.0, 1.0], labels=[], failed="", groups=None, details={},
    unscored=UnscoredRows(count=0, reasons={}, examples=[]),
)  # fmt: skip
RESULT = EvaluationResult(
    n=3, figures=[FIGURE], probes=[], reasons={}, notices=["A random 3 of 9 rows."], versions={},
    counts=EvaluationCounts(rows=3, empty=1, no_prompt=0, no_reference=0, no_loss=0, cut=0),
    seconds={"answers": 1.0}, peak_memory_gib=0.5, device="cpu", device_name="x", dtype="float32",
)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"dataset": "D"}, "run"),
        ({"model": "m", "run": "r", "dataset": "D"}, "run"),
        ({"model": "m"}, "dataset"),
        ({"model": "m", "dataset": "D", "checkpoint": "best"}, "checkpoint"),
        ({"run": "r", "temperature": 0.5}, "temperature"),
        ({"run": "r", "top_p": 0.5}, "top_p"),
        ({"run": "r", "do_sample": True, "top_p": 0}, "top_p"),
        ({"run": "r", "part": "tests"}, "part"),
        ({"run": "r", "max_rows": 0}, "max_rows"),
        ({"run": "r", "metrics": ["blue"]}, "metrics"),
        ({"run": "r", "metrics": [{"metric": "regex", "pattern": "("}]}, "metrics.0.regex.pattern"),
        ({"run": "r", "metric": ["bleu"]}, "metric"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EvaluateConfig.parse(fields)
    assert caught.value.field == field


def test_a_config_comes_back_from_its_document() -> None:
    asked = {"run": "r", "metrics": ["bleu", {"metric": "regex", "name": "date", "pattern": "x"}]}
    config = EvaluateConfig.parse(asked | {"max_rows": None, "do_sample": True, "temperature": 0.7})
    assert EvaluateConfig.parse(config.document()) == config
    assert config.document()["max_rows"] is None
    assert EvaluateConfig.from_yaml(config.to_yaml()).metrics == config.metrics
    assert config.generates
    assert not EvaluateConfig.parse({"run": "r", "metrics": ["perplexity"]}).generates


def launched(desk: Desk, status: str = "finished", **config: Any) -> str:
    """A run that has ended, with the folder of one."""
    if not desk.home.rows("f").exists():
        desk.add_dataset()
    run_id = str(desk("launch", dataset="D", name="My run", **config)["run_id"])
    desk.end(run_id, status)
    folder = JobDir(desk.home.jobs / run_id)
    folder.path.mkdir()
    write_json(folder.config, {})
    return run_id


def test_an_evaluation_is_queued_with_all_that_was_left_open(desk: Desk) -> None:
    run_id = launched(desk)
    job = desk.job(desk("evaluate", run="My run")["job_id"])
    assert (job.kind, job.lane, job.title) == ("evaluate", "device", "My run on D, test rows")
    assert (job.config["run"], job.config["dataset"]) == (run_id, "data-D")
    names = [choice["metric"] for choice in job.config["metrics"]]
    assert names == ["exact_match", "token_f1", "chrf", "rougeL", "perplexity"]
    base = desk.job(desk("evaluate", run=run_id, checkpoint="base", part="all")["job_id"])
    assert base.title == "Base model of My run on D, all rows"
    model = desk.job(desk("evaluate", model="m", dataset="D", metrics=["bleu"], name="Mine")["job_id"])
    assert (model.title, model.config["run"]) == ("Mine", "")


def test_multiple_choice_is_scored_by_its_choices_unless_asked_otherwise(desk: Desk) -> None:
    run_id = launched(desk)
    with pytest.raises(ConfigError) as caught:
        desk("evaluate", run=run_id, metrics=["choice_accuracy"])
    assert caught.value.field == "metrics.0.metric"
    with desk.database.transaction() as tx:
        tx.execute("UPDATE dataset SET format = 'multiple_choice'")
    config = desk.job(desk("evaluate", run=run_id)["job_id"]).config
    names = [choice["metric"] for choice in config["metrics"]]
    assert names == ["choice_accuracy", "choice_accuracy_per_byte", "perplexity"]
    assert EvaluateConfig.parse(config).chooses
    assert not EvaluateConfig.parse(config).generates


def test_a_head_has_the_metrics_of_classes(desk: Desk) -> None:
    run_id = launched(desk, task="classification")
    names = [
        choice["metric"] for choice in desk.job(desk("evaluate", run=run_id)["job_id"]).config["metrics"]
    ]
    assert names == ["accuracy", "f1_macro", "f1_weighted", "ece", "brier"]
    base = desk.job(desk("evaluate", run=run_id, checkpoint="base")["job_id"])
    assert "ece" not in [choice["metric"] for choice in base.config["metrics"]]


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        ({"run": "nobody"}, ConfigError, "run"),
        ({"model": "m", "dataset": "nowhere"}, NotFoundError, "dataset"),
        ({"run": "My run", "dataset": "nowhere"}, NotFoundError, "dataset"),
        ({"run": "My run", "metrics": ["perplexity", "ece"]}, ConfigError, "metrics.1.metric"),
        ({"run": "My run", "chat_template": "x"}, ConfigError, "chat_template"),
        ({"run": "My run", "trust_remote_code": True}, ConfigError, "trust_remote_code"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    desk: Desk, body: dict[str, Any], error: type[TunebenchError], field: str
) -> None:
    launched(desk)
    with pytest.raises(error) as caught:
        desk("evaluate", **body)
    assert caught.value.field == field
    assert job_queue.queue(desk.database) == []


def test_a_stopped_run_has_its_checkpoints_alone(desk: Desk) -> None:
    run_id = launched(desk, "cancelled")
    with pytest.raises(StateError, match="left no checkpoint"):
        desk("evaluate", run=run_id, checkpoint="best")
    (JobDir(desk.home.jobs / run_id).checkpoints / "step-00000004").mkdir(parents=True)
    with pytest.raises(StateError, match="best or newest"):
        desk("evaluate", run=run_id)
    for checkpoint in ("best", "newest", "base"):
        desk("evaluate", run=run_id, checkpoint=checkpoint)


def test_a_run_that_goes_on_is_not_evaluated(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", name="My run")["run_id"]
    with pytest.raises(StateError, match="queued"):
        desk("evaluate", run=run_id)


def finish(desk: Desk, job_id: str, scores: list[float | None], *, first: int = 0, **more: Any) -> None:
    """End the evaluation as the engine does, with its files; its rows are those from `first` on."""
    folder = JobDir(desk.home.jobs / job_id)
    folder.path.mkdir()
    n = len(scores)
    rows = {
        "row_id": range(first, first + n),
        "prompt": [f"p{i}" for i in range(n)],
        "prediction": [f"a{i}" for i in range(n)],
    }
    rows |= {"reference": ["r"] * n, "label": pa.nulls(n, pa.string()), "group": pa.nulls(n, pa.int64())}
    pq.write_table(pa.table(rows), folder.predictions)
    reasons = [None if score is not None else "the row has no reference" for score in scores]
    lines = {
        "row_id": range(first, first + n),
        "metric": ["eval/exact_match"] * n,
        "score": pa.array(scores, pa.float64()),
    }
    lines |= {"reason": pa.array(reasons, pa.string()), "statistics": pa.nulls(n, pa.list_(pa.float64()))}
    pq.write_table(pa.table(lines), folder.scores)
    with desk.database.transaction() as tx:
        job = job_queue.get_job(tx, job_id)
        job_queue.claim(tx, job_id, "cpu", desk.clock())
        result = json.loads(to_json(replace(RESULT, n=n, **more)))
        job_queue.finish(tx, job_id, "finished", desk.clock(), result=result)
        store_result(tx, desk.home, job, result, desk.clock())


def test_a_finished_evaluation_is_kept_listed_and_deleted(desk: Desk) -> None:
    run_id = launched(desk)
    first, second = (desk("evaluate", run=run_id, name=name)["job_id"] for name in ("One", "Two"))
    assert [job.job_id for job in evaluations.unfinished(desk.database, run_id)] == [first, second]
    finish(desk, first, [1.0, None, 0.0])
    finish(desk, second, [1.0, 1.0, 1.0])
    listed = evaluations.list_evaluations(desk.database, run_id=run_id)
    assert [row.evaluation_id for row in listed] == [second, first]
    assert evaluations.unfinished(desk.database, run_id) == []
    counts = {by: evaluations.listed(desk.database, created_by=by)[0] for by in ("owner", "p-ada", "")}
    assert counts == {"owner": 2, "p-ada": 0, "": 2}
    evaluation = evaluations.get(desk.database, "One")
    assert evaluation.figures == [FIGURE]
    assert evaluation.details.notices == RESULT.notices
    assert (evaluation.dataset_name, evaluation.data_fingerprint, evaluation.n) == ("D", "f", 3)
    assert [row.name for row in evaluations.comparable(desk.database, evaluation)] == ["Two"]
    desk("delete", job=first)
    with pytest.raises(NotFoundError):
        evaluations.get(desk.database, "One")
    assert not (desk.home.jobs / first).exists()
    assert evaluations.get(desk.database, "Two")


def test_rows_come_by_page_the_worst_first(desk: Desk) -> None:
    run_id = launched(desk)
    first, second = (desk("evaluate", run=run_id)["job_id"] for _ in range(2))
    finish(desk, first, [1.0, None, 0.0, 0.5])
    finish(desk, second, [0.0, 1.0, 0.0, 0.25])
    total, rows = evaluations.page(desk.database, first, "eval/exact_match", limit=3)
    assert total == 4
    assert [row.row_id for row in rows] == [1, 2, 3]
    assert rows[0].scores["eval/exact_match"].reason == "the row has no reference"
    assert rows[1].scores["eval/exact_match"] == RowScore(score=0.0, reason=None)
    lower = evaluations.page(desk.database, first, "eval/exact_match", better="lower", limit=2, offset=1)[1]
    assert [row.row_id for row in lower] == [0, 3]
    count, differing = evaluations.shared(desk.database, first, second, "eval/exact_match")
    assert count == 4
    assert [row.row_id for row in differing] == [0, 3]
    assert (differing[0].first_score, differing[0].second_score) == (1.0, 0.0)
    assert evaluations.scores(desk.database, first)["row_id"].to_pylist() == [0, 1, 2, 3]
    assert evaluations.groups(desk.database, first) is None


def test_the_rows_of_another_evaluation_are_asked_for_by_name(desk: Desk) -> None:
    run_id = launched(desk)
    desk.add_dataset("Other", "g")
    first = desk("evaluate", run=run_id, name="One", part="train", max_rows=7)["job_id"]
    finish(desk, first, [1.0, 0.0])
    config = desk.job(desk("evaluate", model="m", rows_of="One")["job_id"]).config
    assert (config["rows_of"], config["dataset"]) == (first, "data-D")
    assert (config["part"], config["max_rows"]) == ("train", 7)
    for body in ({"model": "m", "rows_of": "Nobody"}, {"model": "m", "rows_of": "One", "dataset": "Other"}):
        with pytest.raises(ConfigError) as caught:
            desk("evaluate", **body)
        assert caught.value.field == "rows_of"


def test_what_an_evaluation_needs_is_not_deleted_under_it(desk: Desk) -> None:
    run_id = launched(desk)
    desk.add_dataset("Other", "g")
    job_id = desk("evaluate", run=run_id, dataset="Other", name="Mine")["job_id"]
    for _ in range(2):
        with pytest.raises(StateError, match="Mine"):
            desk("delete_dataset", dataset="Other")
        with pytest.raises(StateError, match="Mine"):
            desk("delete", job=run_id)
        if desk.job(job_id).status == "queued":
            finish(desk, job_id, [1.0])
    desk("delete", job=job_id)
    desk("delete_dataset", dataset="Other")
    desk("delete", job=run_id)


@pytest.fixture
def command_line(desk: Desk) -> Iterator[Callable[..., Result]]:
    """`tunebench` against a server over the desk's store."""
    runner = CliRunner(env={"TUNEBENCH_HOME": str(desk.home.path)})
    with serving(desk.home, desk.database, desk.commands):
        yield lambda *words: runner.invoke(cli, [str(word) for word in words])


def test_the_command_line_asks_for_an_evaluation(
    desk: Desk, command_line: Callable[..., Result], tmp_path: Path
) -> None:
    run_id = launched(desk)
    file = tmp_path / "asked.yaml"
    file.write_text("run: My run\npart: all\nmetrics:\n  - {metric: bleu, tokenize: intl}\n")
    done = command_line("evaluate", file, "--part", "train", "--max-rows", 0, "--no-wait", "--json")
    assert done.exit_code == OK, done.output
    config = desk.job(json.loads(done.stdout)["job_id"]).config
    assert (config["part"], config["max_rows"], config["run"]) == ("train", None, run_id)
    assert config["metrics"][0]["tokenize"] == "intl"
    done = command_line("evaluate", "--run", "My run", "--metric", "chrf", "--probes", "--no-wait")
    assert done.exit_code == OK, done.output
    for words, named in (
        (["--metric", "chrf"], "run"),
        (["--run", "My run", "--metric", "blue"], "bleu"),
        ([str(tmp_path / "nowhere.yaml")], "nowhere.yaml"),
    ):
        refused = command_line("evaluate", *words, "--no-wait")
        assert refused.exit_code == USAGE
        assert named in refused.stderr


def test_the_command_line_shows_rows_and_differences(desk: Desk, command_line: Callable[..., Result]) -> None:
    run_id = launched(desk)
    first, second = (desk("evaluate", run=run_id, name=name)["job_id"] for name in ("One", "Two"))
    finish(desk, first, [1.0, 0.0, 0.0, 1.0])
    finish(desk, second, [1.0, 1.0, 1.0, 1.0])
    listed = json.loads(command_line("evaluations", "--run", run_id, "--json").stdout)["evaluations"]
    assert [row["name"] for row in listed] == ["Two", "One"]
    result = command_line("evaluations", "One", "--rows", 2, "--against", "Two")
    assert result.exit_code == OK, result.output
    assert "0.5 (0.2 to 0.8)" in result.stdout
    assert "a1" in result.stdout
    document = json.loads(command_line("evaluations", "One", "--against", "Two", "--json").stdout)
    assert document["differences"][0]["value"] == pytest.approx(-0.5)
    assert (document["differences"][0]["second_higher"], document["differences"][0]["same"]) == (2, 2)
    assert document["differences"][0]["first_is"] == "can't be told"
    assert (document["comparison"]["common"], document["comparison"]["same_rows"]) == (4, None)
    assert "The interval has level 95%." in result.stdout
    assert command_line("evaluations", "Nobody").exit_code == NOT_FOUND
    assert command_line("evaluations", "One", "--rows", 1, "--metric", "bleu").exit_code == USAGE


def test_rows_that_are_not_of_both_are_told_with_the_command_for_the_same(
    desk: Desk, command_line: Callable[..., Result]
) -> None:
    run_id = launched(desk)
    first = desk("evaluate", model="some model", dataset="D", name="One", metrics=["exact_match"])["job_id"]
    second = desk("evaluate", run=run_id, name="Two", metrics=["exact_match"])["job_id"]
    finish(desk, first, [1.0, 0.0, 0.0, 1.0])
    finish(desk, second, [1.0, 1.0, 1.0, 1.0], first=3, dtype="bfloat16")
    for name, other in (("One", "Two"), ("Two", "One")):  # a model moves to a run's rows, never the other way
        result = command_line("evaluations", name, "--against", other)
        assert "Only 1 row in common of 4 here and 4" in result.stdout
        command = f"tunebench evaluate --model 'some model' --rows-of {second} --metric exact_match"
        assert command in result.stdout
        assert "dtype: " in result.stdout
    words = shlex.split(command)[1:]
    done = command_line(*words, "--no-wait", "--json")
    assert done.exit_code == OK, done.output
    config = desk.job(json.loads(done.stdout)["job_id"]).config
    assert (config["rows_of"], config["model"]) == (second, "some model")


@pytest.mark.parametrize(
    ("figure", "bound", "holds", "words"),
    [
        ({}, 0.5, True, "not worse than 0.5, inconclusive by its CI"),
        ({}, 0.51, False, "0.5 (0.2 to 0.8, n 3), worse than 0.51, inconclusive by its CI"),
        ({}, 0.9, False, "worse than 0.9."),
        ({"better": "lower"}, 0.1, False, "worse than 0.1."),
        ({"better": "lower"}, 0.9, True, "not worse than 0.9."),
        ({"low": None, "high": None}, 0.1, True, "no CI"),
        ({"value": None, "failed": "no file"}, 0.1, False, "has no value: no file"),
    ],
)
def test_a_bound_is_held_against_the_value(
    figure: dict[str, Any], bound: float, holds: bool, words: str
) -> None:
    condition = check_bound([replace(FIGURE, **figure)], Bound("exact_match", bound))
    assert condition.holds is holds
    assert words in condition.sentence


def test_only_what_is_surely_worse_fails() -> None:
    ends = {"value": -0.5, "low": -0.7, "high": -0.2, "n": 9}
    worse = row_of(InterpretedDifference, metric="eval/x", first_is="worse", **ends)
    kept = replace(worse, metric="eval/y", first_is="can't be told")
    assert not check_not_worse([worse, kept], "Base").holds
    assert (
        check_not_worse([worse, kept], "Base").sentence
        == "Significantly worse than Base: x by 0.5 (-0.7 to -0.2, n 9)."
    )
    assert check_not_worse([kept], "Base").holds
    assert not check_not_worse([], "Base").holds


def test_exit_codes_for_scripts(desk: Desk, command_line: Callable[..., Result]) -> None:
    run_id = launched(desk)
    ids = [desk("evaluate", run=run_id, name=name)["job_id"] for name in ("Bad", "Good", "Apart")]
    finish(desk, ids[0], [0.0] * 30)
    finish(desk, ids[1], [1.0] * 30)
    finish(desk, ids[2], [1.0] * 30, first=100)
    for words, code in (
        (["Bad", "--fail-under", "exact_match=0.4"], OK),
        (["Bad", "--fail-under", "exact_match=0.6"], CONDITION),
        (["Bad", "--fail-under", "exact_match=0.4", "--fail-under", "eval/exact_match=0.6"], CONDITION),
        (["Bad", "--fail-if-worse-than", "Good"], CONDITION),
        (["Good", "--fail-if-worse-than", "Bad", "--json"], OK),
        (["Good", "--fail-if-worse-than", "Apart"], CONDITION),
        (["Good", "--fail-if-worse-than", "Nobody"], NOT_FOUND),
        (["Good", "--fail-under", "chrf=1"], USAGE),
        (["Good", "--fail-under", "chrf"], USAGE),
        (["--fail-under", "chrf=1"], USAGE),
    ):
        done = command_line("evaluations", *words)
        assert done.exit_code == code, (words, done.output)
    refused = command_line("evaluate", "--run", run_id, "--fail-under", "chrf=1", "--no-wait")
    assert refused.exit_code == USAGE
    assert (
        "FAILED: --fail-if-worse-than Good. Significantly worse"
        in command_line("evaluations", "Bad", "--fail-if-worse-than", "Good").stderr
    )
