"""Going on from an earlier run: its model is where training begins and what it is judged against, and the
result loads without it."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM

from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import render
from engine.training import train_job
from engine.worker.job import JobCancelled
from store.core.errors import ConfigError
from store.core.home import Home
from store.evaluation.verdict_schemas import Verdict
from tests.engine.asking.test_preview import ask, fields_of
from tests.engine.job_events import QUICK, cancel_when, series, weights
from tests.tiny import conversations, make_job, make_tokenizer, worse_answers, write_model, write_rows

ONE = QUICK | {"num_train_epochs": 1, "learning_rate": 5e-3, "r": 4, "early_stopping": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with three finished runs: an adapter, a whole model, and an adapter of another model."""
    home = Home(tmp_path_factory.mktemp("continued") / "home").create()
    write_model(home.models / "tiny")
    write_model(home.models / "other", seed=3)
    rows = conversations(60)
    write_rows(home, "rows", rows, rejected=worse_answers(rows))
    train_job.run(make_job(home, "lora", **ONE))
    train_job.run(make_job(home, "full", **ONE | {"method": "full"}))
    train_job.run(make_job(home, "alien", **ONE | {"model": str(home.models / "other")}))
    return home


def judged(job: Any, verdict: Verdict, model: Any) -> None:
    """`model`, loaded by other means than the engine's, has the tuned losses of the verdict."""
    kept = pq.read_table(job.dir.row_losses)
    ids = kept["row_id"].to_numpy()
    rows = render(make_tokenizer(), ids, [conversations(60)[int(i)] for i in ids])
    losses = compute_row_losses(model.eval(), rows, batch_size=16, device="cpu")
    np.testing.assert_allclose(losses.loss_sum, kept["tuned_loss"].to_numpy(), atol=1e-3)
    assert verdict.tuned.loss == pytest.approx(losses.loss, abs=1e-4)


@pytest.mark.parametrize(
    ("before", "method", "mode"),
    [
        ("lora", "lora", "stack"),
        ("full", "full", "stack"),
        ("lora", "lora", "merge"),
        ("lora", "full", "merge"),
        ("full", "lora", "merge"),
    ],
)
def test_it_begins_where_the_earlier_run_ended(home: Home, before: str, method: str, mode: str) -> None:
    name = f"{before}-{method}-{mode}"
    job = make_job(home, name, **ONE | {"method": method, "init_from": before, "init_mode": mode})
    verdict = train_job.run(job)["verdict"]
    ended = pq.read_table(home.jobs / before / "row_losses.parquet")
    began = pq.read_table(job.dir.row_losses)
    np.testing.assert_allclose(began["base_loss"].to_numpy(), ended["tuned_loss"].to_numpy(), atol=1e-3)
    assert verdict.base.loss > verdict.tuned.loss
    last = [loss for _, loss in series(make_job_dir(home, before), "eval/loss")][-1]
    assert series(job, "eval/loss")[0][1] == pytest.approx(last, abs=1e-4)  # step 0
    assert verdict.continued_from.run_id == before
    assert "from which this one went on" in verdict.sentences[0]
    assert job.dir.base.exists() == (mode == "merge" and method == "lora")
    if method == "full":
        judged(job, verdict, AutoModelForCausalLM.from_pretrained(job.dir.model))
    else:
        base_name = json.loads((job.dir.model / "adapter_config.json").read_text())["base_model_name_or_path"]
        assert base_name == ("base" if mode == "merge" else "tiny")
        base_path = job.dir.base if mode == "merge" else home.models / "tiny"
        base = AutoModelForCausalLM.from_pretrained(base_path)
        judged(job, verdict, PeftModel.from_pretrained(base, job.dir.model))


def make_job_dir(home: Home, name: str) -> Any:
    """A finished job, to read its events."""
    from engine.worker.job import WorkerJob

    return WorkerJob(home.jobs / name)


def test_the_result_outlives_the_run_that_it_continues(home: Home) -> None:
    """A chain: merged, then stacked on that, with each run before deleted."""
    train_job.run(make_job(home, "first", **ONE))
    train_job.run(make_job(home, "second", **ONE | {"init_from": "first", "init_mode": "merge"}))
    shutil.rmtree(home.jobs / "first")
    job = make_job(home, "third", **ONE | {"init_from": "second", "init_mode": "stack"})
    verdict = train_job.run(job)["verdict"]
    second = pq.read_table(home.jobs / "second" / "row_losses.parquet")["tuned_loss"].to_numpy()
    np.testing.assert_allclose(pq.read_table(job.dir.row_losses)["base_loss"].to_numpy(), second, atol=1e-3)
    shutil.rmtree(home.jobs / "second")
    base = AutoModelForCausalLM.from_pretrained(job.dir.base)
    judged(job, verdict, PeftModel.from_pretrained(base, job.dir.model))


def test_a_resumed_continuation_equals_an_uninterrupted_one(home: Home) -> None:
    for mode in ("stack", "merge"):
        fields = ONE | {"init_from": "lora", "init_mode": mode}
        whole = make_job(home, f"whole-{mode}", **fields)
        train_job.run(whole)
        cut = make_job(home, f"cut-{mode}", **fields)
        cancel_when(cut, lambda e: e.get("step") == 2 and "train/loss" in e.get("values", {}))
        with pytest.raises(JobCancelled):
            train_job.run(cut)
        resumed = make_job(home, f"cut-{mode}", resume=True, **fields)
        train_job.run(resumed)
        assert series(resumed, "eval/loss") == series(whole, "eval/loss")
        assert weights(resumed) == weights(whole)


def test_preferences_after_instruction_tuning(home: Home) -> None:
    """The reference is the earlier run's model: both margins are 0 where training begins."""
    fields = ONE | {"kind": "preference", "task": "dpo", "init_from": "lora"}
    job = make_job(home, "then-dpo", **fields)
    verdict = train_job.run(job)["verdict"]
    assert dict(series(job, "eval/reward_margin"))[0] == 0
    assert verdict.base.loss == pytest.approx(np.log(2), abs=1e-9)
    assert verdict.tuned.loss < verdict.base.loss


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"init_from": "nobody"}, "init_from", "no trained model of a run 'nobody'"),
        ({"init_from": "../jobs/lora"}, "init_from", "no trained model"),
        ({"init_from": "alien"}, "init_from", "was trained on another base: it belongs to"),
        ({"init_from": "lora", "r": 8}, "r", "r is 8, and the adapter of"),
        ({"init_from": "lora", "method": "full"}, "method", "method is full"),
        (
            {"init_from": "lora", "target_modules": ["q_proj"]},
            "target_modules",
            "with all-linear",
        ),
    ],
)
def test_what_can_not_be_continued_is_refused_at_its_field(
    home: Home, fields: dict[str, Any], field: str, message: str
) -> None:
    given = {"r": 4} | fields
    for refused in (
        lambda: ask(home, **given),
        lambda: train_job.run(make_job(home, "refused", **ONE | given)),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            refused()
        assert caught.value.field == field


def test_held_out_rows_that_the_earlier_run_saw_are_warned_of(home: Home) -> None:
    assert "init_from" not in fields_of(ask(home, init_from="lora", r=4), "warning")
    body = {"init_from": "lora", "r": 4, "max_eval_rows": 500}
    split = pq.read_table(home.jobs / "lora" / "split.parquet")
    assert split.num_rows == 60
    other = _asked_with(home, body, split_seed=5)
    assert "init_from" in fields_of(other, "warning")


def _asked_with(home: Home, config: dict[str, Any], *, split_seed: int) -> dict[str, Any]:
    from engine.training.preview import preview_query
    from engine.worker.job import WorkerJob
    from store.core.job_folder import write_json

    folder = home.asks / "two"
    folder.mkdir(exist_ok=True)
    given = {"model": str(home.models / "tiny"), "dataset": "rows"} | config
    body = {"config": given, "fingerprint": "rows", "split": {"split_seed": split_seed}, "row": 0}
    order = {"job_id": "two", "kind": "preview", "home": str(home.path), "device": "cpu", "config": body}
    write_json(folder / "config.json", order)
    return preview_query.run(WorkerJob(folder))
