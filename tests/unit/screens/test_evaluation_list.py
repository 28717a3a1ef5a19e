"""All evaluations, found and paged; slices of their rows; judgings and tasks as commands."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from store.core.errors import ConfigError
from store.core.figure_schemas import FigureSummary
from store.evaluation import evaluation_pairs, evaluations
from tests.unit.desk import Desk
from tests.unit.store.test_evaluations import finish, launched
from tests.unit.store_samples import serving
from tunebench.cli import cli
from tunebench.terminal.output import OK, USAGE

JUDGE = {"base_url": "https://host/v1", "model": "m"}


def pair(desk: Desk, **fields: Any) -> tuple[str, str]:
    """Two finished evaluations of one run."""
    run_id = launched(desk)
    ids = [str(desk("evaluate", run=run_id, name=name, **fields)["job_id"]) for name in ("One", "Two")]
    for job_id, scores in zip(ids, ([1.0, None, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]), strict=True):
        finish(desk, job_id, scores)
    return ids[0], ids[1]


def test_they_are_found_by_words_data_set_and_model_and_paged(desk: Desk) -> None:
    first, second = pair(desk)
    total, rows = evaluations.listed(desk.database)
    assert (total, [row.evaluation_id for row in rows]) == (2, [second, first])
    assert rows[0].run_name == "My run"
    assert rows[0].figures[0].low == 0.2
    assert isinstance(rows[0].figures[0], FigureSummary)  # without details, which can be large
    assert evaluations.listed(desk.database, limit=1, offset=1)[1][0].evaluation_id == first
    assert evaluations.listed(desk.database, search="oNe")[0] == 1
    assert evaluations.listed(desk.database, search="my RUN")[0] == 2
    assert evaluations.listed(desk.database, search="100%")[0] == 0
    assert evaluations.listed(desk.database, model="My run")[0] == 2
    assert evaluations.listed(desk.database, model="other")[0] == 0
    assert evaluations.listed(desk.database, dataset_id="data-D")[0] == 2
    assert evaluations.listed(desk.database, dataset_id="data-E")[0] == 0
    assert evaluations.models(desk.database) == ["My run"]


def test_rows_come_with_what_slices_are_made_of_and_in_pairs(desk: Desk) -> None:
    first, second = pair(desk)
    alone = evaluations.sliced(desk.database, first, "eval/exact_match").to_pylist()
    assert [row["score"] for row in alone] == [1.0, None, 0.0, 1.0]
    assert (alone[0]["prompt"], alone[0]["answer"], alone[0]["other"]) == (2, 1, None)
    both = evaluations.sliced(desk.database, first, "eval/exact_match", second).to_pylist()
    assert [row["other"] for row in both] == [1.0, 1.0, 0.0, 0.0]
    assert evaluations.sliced(desk.database, first, "eval/bleu").num_rows == 0


def test_a_judging_is_of_two_evaluations_with_answers_to_the_same_rows(desk: Desk) -> None:
    first, second = pair(desk)
    job_id = desk("judge", first="One", second=second, judge=JUDGE)["job_id"]
    job = desk.job(job_id)
    assert (job.kind, job.config["first"], job.config["second"]) == ("judge", first, second)
    assert [row.job_id for row in evaluation_pairs.of_pair(desk.database, second, first)] == [job_id]
    desk.add_dataset("Other", "g")
    other = desk("evaluate", run="My run", dataset="Other", name="Else")["job_id"]
    finish(desk, other, [1.0])
    mute = desk("evaluate", run="My run", metrics=["perplexity"], name="Mute")["job_id"]
    finish(desk, mute, [1.0])
    for fields, field, why in (
        ({"second": "One"}, "second", "the first one"),
        ({"second": "Nobody"}, "second", "no evaluation"),
        ({"second": "Else"}, "second", "other rows"),
        ({"second": "Mute"}, "second", "has no answers"),
        ({"second": "Two", "judge": JUDGE | {"base_url": "http://host/v1"}}, "judge.base_url", "https"),
    ):
        with pytest.raises(ConfigError, match=why) as caught:
            desk("judge", **({"first": "One", "judge": JUDGE} | fields))
        assert caught.value.field == field


def test_the_command_line_asks_a_judge(desk: Desk, tmp_path: Path) -> None:
    pair(desk)
    file = tmp_path / "judge.yaml"
    file.write_text("base_url: https://host/v1\nmodel: m\ncriteria: Shorter is better.\n")
    runner = CliRunner(env={"TUNEBENCH_HOME": str(desk.home.path)})
    with serving(desk.home, desk.database, desk.commands):
        words = ["judge", "One", "Two", str(file), "--max-rows", "0", "--no-wait", "--json"]
        done = runner.invoke(cli, words)
        assert done.exit_code == OK, done.output
        words[2] = "Nobody"
        assert runner.invoke(cli, words).exit_code == USAGE
    config = desk.job(json.loads(done.stdout)["job_id"]).config
    assert (config["judge"]["criteria"], config["max_rows"]) == ("Shorter is better.", None)


def test_tasks_say_how_the_harness_is_installed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    launched(desk)
    there = importlib.util.find_spec

    def absent(name: str, *rest: Any) -> Any:
        return None if name == "lm_eval" else there(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(ConfigError, match="not installed") as caught:
        desk("evaluate", run="My run", tasks="arc_easy, piqa")
    assert (caught.value.field, "pip install" in caught.value.fix) == ("tasks", True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: True)
    job = desk.job(desk("evaluate", run="My run", tasks="arc_easy, piqa")["job_id"])
    assert job.config["tasks"] == ["arc_easy", "piqa"]
