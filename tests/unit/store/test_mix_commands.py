"""Models between a run and its base, and runs that change others: what is queued and what the store tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from engine.job_handlers import write_spec
from pages.comparison.tradeoff_points import convert_to_cost
from store.core.errors import ConfigError
from store.core.figure_schemas import Estimate
from store.core.job_folder import read_json
from store.db.records import to_json
from store.evaluation.forgetting_schemas import ChoiceForgetting, TextForgetting
from store.jobs import job_queue
from store.runs import run_outcomes, runs
from store.training.train_config import TrainConfig
from tests.unit.desk import Desk
from tests.unit.store_samples import row_of, serving
from tunebench.cli import cli
from tunebench.terminal.output import NOT_FOUND, OK, USAGE


def measured(*alphas: float) -> dict[str, Any]:
    """The stored result of an interpolation that gains all along, and loses a tenth of that on prose."""

    def figure(value: float) -> Estimate:
        return Estimate(value=value, low=round(value - 0.1, 9), high=round(value + 0.1, 9), n=50)

    points = [
        {
            **{"alpha": a, "gain": figure(a), "text": row_of(TextForgetting, change=figure(a / 10))},
            **{"choices": None, "kl": None, "seconds": 30.0 if 0 < a < 1 else None},
            "named": [row_of(ChoiceForgetting, probe="data/Intents", change=figure(-a / 4))],
        }
        for a in alphas
    ]
    return json.loads(to_json({"points": points}))


def test_an_interpolation_is_queued_for_a_finished_run_that_has_a_line(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D")["run_id"]
    with pytest.raises(ConfigError, match="is queued") as caught:
        desk("interpolate", run=run_id)
    assert caught.value.field == "run"
    desk.end(run_id, "finished")
    job = desk.job(desk("interpolate", run="LoRA on D", alphas=[0.5])["job_id"])
    assert (job.kind, job.lane) == ("interpolate", "device")
    assert job.config == {"run_id": run_id, "alphas": [0.0, 0.5, 1.0]}
    assert [each.job_id for each in run_outcomes.unfinished_interpolations(desk.database, run_id)] == [
        job.job_id
    ]
    with desk.database.transaction() as tx:
        job_queue.claim(tx, job.job_id, "cpu", desk.now)
        job_queue.finish(tx, job.job_id, "finished", desk.now, result=measured(0, 0.5, 1))
    points = run_outcomes.measured_shares(desk.database, run_id)
    assert [(point.run_id, point.alpha, point.seconds) for point in points] == [
        (run_id, 0.0, None),
        (run_id, 0.5, 30.0),
        (run_id, 1.0, None),
    ]
    gain = points[1].gain
    assert gain is not None
    assert (gain.value, gain.low, gain.high, gain.n) == (0.5, 0.4, 0.6, 50)
    assert points[1].prose.value == 0.05
    assert points[1].kl is None
    assert not run_outcomes.unfinished_interpolations(desk.database, run_id)
    more = desk("interpolate", run=run_id, alphas=[0.25])["job_id"]  # adds to what is known
    with desk.database.transaction() as tx:
        job_queue.claim(tx, more, "cpu", desk.now)
        job_queue.finish(tx, more, "finished", desk.now, result=measured(0, 0.25, 1))
    points = run_outcomes.measured_shares(desk.database)
    assert [(point.alpha, point.job_id) for point in points] == [
        *((0.0, more), (0.25, more), (0.5, job.job_id), (1.0, more))
    ]
    failed = desk("interpolate", run=run_id, alphas=[0.1])["job_id"]
    desk.end(failed, "failed")
    assert [job.job_id for job in run_outcomes.unfinished_interpolations(desk.database, run_id)] == [failed]
    other = desk("launch", dataset="D", method="prompt_tuning")["run_id"]
    desk.end(other, "finished")
    with pytest.raises(ConfigError, match="no models in between") as caught:
        desk("interpolate", run=other)
    assert caught.value.field == "run"


def test_a_variant_is_a_run_of_its_own_beside_its_parent(desk: Desk) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D", learning_rate=3e-4)["run_id"]
    for body in ({"run": run_id}, {"run": "nobody"}):
        with pytest.raises(ConfigError) as caught:
            desk("keep_variant", alpha=0.4, **body)
        assert caught.value.field == "run"
    desk.end(run_id, "finished")
    made = desk("keep_variant", run="LoRA on D", alpha=0.4)["run_id"]
    run = runs.get_run(desk.database, made)
    assert (run.name, run.method, run.number) == ("LoRA on D at α 0.4", "lora", 2)
    assert run.facts == {"mixed_from": run_id, "alpha": 0.4}
    assert run.config["parent"] == run_id
    assert run.config["learning_rate"] == 3e-4
    spec = read_json(write_spec(desk.database, desk.home, desk.job(made)).config)
    assert (spec["kind"], spec["mixed_from"], spec["alpha"]) == ("variant", run_id, 0.4)
    assert spec["dataset"]["fingerprint"] == "f"
    TrainConfig.parse(spec["config"])
    desk.end(made, "finished")
    with pytest.raises(ConfigError, match="a mix already"):
        desk("keep_variant", run=made, alpha=0.5)
    with pytest.raises(ConfigError, match="a mix already"):
        desk("interpolate", run=made)


def test_a_run_names_the_one_that_it_changes(desk: Desk) -> None:
    desk.add_dataset()
    first = desk("launch", dataset="D")["run_id"]
    second = desk("launch", dataset="D", parent="LoRA on D", learning_rate=1e-5)["run_id"]
    assert runs.get_run(desk.database, second).config["parent"] == first
    with pytest.raises(ConfigError, match="nobody") as caught:
        desk("launch", dataset="D", parent="nobody")
    assert caught.value.field == "parent"


@pytest.fixture
def command_line(desk: Desk) -> Iterator[Callable[..., Result]]:
    """`tunebench` against a server over the desk's store."""
    runner = CliRunner(env={"TUNEBENCH_HOME": str(desk.home.path)})
    with serving(desk.home, desk.database, desk.commands):
        yield lambda *words: runner.invoke(cli, [str(word) for word in words])


def test_the_command_line_scores_keeps_and_shows(desk: Desk, command_line: Callable[..., Result]) -> None:
    desk.add_dataset()
    run_id = desk("launch", dataset="D")["run_id"]
    desk.end(run_id, "finished")
    assert command_line("interpolations", run_id).exit_code == NOT_FOUND
    done = command_line("interpolate", "LoRA on D", "--alphas", "0.5, 0.25", "--no-wait", "--json")
    assert done.exit_code == OK, done.output
    job = desk.job(json.loads(done.stdout)["job_id"])
    assert job.config["alphas"] == [0, 0.25, 0.5, 1]
    with desk.database.transaction() as tx:
        job_queue.claim(tx, job.job_id, "cpu", desk.now)
        job_queue.finish(tx, job.job_id, "finished", desk.now, result=measured(0, 0.25, 0.5, 1))
    kept = json.loads(command_line("interpolate", run_id, "--save", 0.5, "--no-wait", "--json").stdout)
    assert list(kept) == ["run_id"]  # nothing is scored that was not asked for
    result = command_line("interpolations", "LoRA on D")
    assert result.exit_code == OK, result.output
    assert "+0.500 (+0.400 to +0.600, n 50)" in result.stdout
    assert "Intents" in result.stdout
    assert "+12.500 (+2.500 to +22.500, n 50) points" in result.stdout
    (point,) = [row for row in run_outcomes.measured_shares(desk.database, run_id) if row.alpha == 0.5]
    (part,) = point.named  # on the screen it has the same sign
    assert convert_to_cost(part.change, "data/Intents/accuracy") == Estimate(
        value=12.5, low=pytest.approx(2.5), high=pytest.approx(22.5), n=50
    )
    assert kept["run_id"] in result.stdout
    assert "α 1 keeps 100% of the best gain" in result.stdout
    document = json.loads(command_line("interpolations", run_id, "--json").stdout)
    assert (document["recommended"], document["kept"]) == (1.0, {"0.5": kept["run_id"]})
    for words in (["--alphas", "half"], ["--alphas", "1.5"], ["--save", 1]):
        refused = command_line("interpolate", run_id, *words, "--no-wait")
        assert refused.exit_code == USAGE, words
    assert command_line("interpolate", "nobody", "--no-wait").exit_code in (USAGE, NOT_FOUND)
