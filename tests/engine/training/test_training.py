"""The train job, whole, on a two-layer model: it learns, counts, stops, resumes and leaves what it should."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from engine.data.training_rows import load_split_rows
from engine.models import hardware, training_state
from engine.training import train_job
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import ConfigError, DataError, TunebenchError
from store.core.home import Home
from store.evaluation.verdict_schemas import TrainingStop, Verdict
from store.jobs.metric_points import Points
from store.training.split import Split
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK, cancel_when, events, facts, series, weights
from tests.shapes import held_to
from tests.tiny import conversations, make_job, write_model, write_rows
from tests.unit.data_job import import_file, write
from tests.unit.data_job import make_job as make_data_job
from tests.unit.measured import measure_duplicates, sentence

# embeddings (tied), then by layer q and o, k and v, gate, up and down, two norms; the last norm
BASE_PARAMETERS = 259 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def test_overfits_eight_rows(home: Home) -> None:
    job = make_job(
        home, "run", method="full", learning_rate=1e-2, max_train_rows=8, num_train_epochs=200,
        per_device_train_batch_size=8, gradient_accumulation_steps=1, early_stopping=False, evaluations=1,
        load_best_model_at_end=False,
    )  # fmt: skip
    train_job.run(job)
    losses = series(job, "train/loss")
    assert losses[0][1] > 5
    assert losses[-1][1] < 0.05


def test_a_whole_run_leaves_what_it_promises(home: Home) -> None:
    job = make_job(home, "run", **QUICK)
    verdict = held_to(Verdict, train_job.run(job)["verdict"])
    statuses = [event["status"] for event in events(job, "status")]
    assert statuses == ["preparing", "training", "evaluating"]
    assert [step for step, _ in series(job, "eval/loss")] == [0, 3, 5, 8]
    assert [step for step, _ in series(job, "train/loss")] == list(range(1, 9))
    assert verdict.gain.split == "test"
    assert verdict.stopped == TrainingStop(reason="epochs", step=8, restored_step=8)
    assert facts(job)["rows"] == _rows(job)
    assert facts(job)["steps"] == 8
    predictions = pq.read_table(job.dir.predictions).to_pylist()
    assert len(predictions) == 2
    assert set(predictions[0]) == {"row_id", "split", "prompt", "reference", "base", "tuned"}
    assert predictions[0]["prompt"].startswith("Number ")
    losses = pq.read_table(job.dir.row_losses)
    assert losses.num_rows == _rows(job)["test"]
    assert sum(losses["base_loss"].to_pylist()) / sum(losses["tokens"].to_pylist()) == pytest.approx(
        verdict.base.loss
    )
    assert sorted(path.name for path in job.dir.model.glob("*.safetensors")) == ["adapter_model.safetensors"]
    assert not list(job.dir.path.rglob("*.bin"))
    assert job.dir.checkpoints.exists()  # until the engine has the result
    assert not list(job.dir.path.glob(".*"))


def _rows(job: WorkerJob) -> dict[str, int]:
    sides = pq.read_table(job.dir.split)["split"].to_pylist()
    return {side: sides.count(side) for side in ("train", "validation", "test")}


def test_an_untrained_adapter_is_the_base_model(home: Home) -> None:
    job = make_job(home, "run", **(QUICK | {"learning_rate": 1e-12, "weight_decay": 0.0}))
    verdict = train_job.run(job)["verdict"]
    assert verdict.base.loss == pytest.approx(verdict.tuned.loss, abs=1e-6)
    base = series(job, "eval/loss")[0][1]
    assert base == pytest.approx(series(job, "eval/loss")[-1][1], abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "trained"),
    [
        # per layer q 32·32, k and v 32·16, o 32·32, gate, up and down 32·64: r (in + out) for each
        ({"method": "lora", "r": 4}, 2 * 4 * (64 + 48 + 48 + 64 + 3 * 96)),
        ({"method": "lora", "r": 4, "target_modules": ["q_proj"]}, 2 * 4 * 64),
        ({"method": "qlora", "r": 4}, 2 * 4 * (64 + 48 + 48 + 64 + 3 * 96)),
        ({"method": "full"}, BASE_PARAMETERS),
    ],
)
def test_trainable_parameters_are_counted_exactly(home: Home, fields: dict[str, Any], trained: int) -> None:
    job = make_job(home, "run", **(QUICK | fields | {"max_steps": 1, "evaluations": 1}))
    train_job.run(job)
    assert facts(job)["trainable_parameters"] == trained
    added = trained if fields["method"] != "full" else 0
    assert facts(job)["total_parameters"] == BASE_PARAMETERS + added


def test_resumed_equals_uninterrupted(home: Home) -> None:
    fields = QUICK | {"lora_dropout": 0.1}
    whole = make_job(home, "whole", **fields)
    train_job.run(whole)
    for stop_at in (1, 4, 7):
        cut = make_job(home, f"cut{stop_at}", **fields)
        cancel_when(cut, lambda e, n=stop_at: e.get("step") == n and "train/loss" in e.get("values", {}))
        with pytest.raises(JobCancelled):
            train_job.run(cut)
        assert (cut.dir.checkpoints / f"step-{stop_at:08d}" / "state.json").exists()
        resumed = make_job(home, f"cut{stop_at}", resume=True, **fields)
        train_job.run(resumed)
        assert events(resumed, "rewind")[0]["step"] == stop_at
        for name in (
            "train/loss",
            "train/grad_norm",
            "train/learning_rate",
            "eval/loss",
            "train/tokens_seen",
        ):
            assert series(resumed, name) == series(whole, name), name
        for file in ("eval_rows.parquet", "row_losses.parquet", "predictions.parquet"):
            assert pq.read_table(resumed.dir.path / file) == pq.read_table(whole.dir.path / file)
        assert weights(resumed) == weights(whole)


def test_a_resumed_run_is_dealt_as_at_first(home: Home, tmp_path: Path) -> None:
    rows = [{"prompt": sentence(n // 3, 40) + f" {n}", "completion": "Yes."} for n in range(300)]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    fingerprint = import_file(home, path).result["fingerprint"]
    config, how = TrainConfig(dataset="d", max_train_rows=100), Split()
    job = make_data_job(home, "train", config.model_dump())
    first = load_split_rows(job, fingerprint, how, config)
    measure_duplicates(home, fingerprint)
    job.resume = True
    again = load_split_rows(job, fingerprint, how, config)
    assert {part: ids.tolist() for part, ids in again.items()} == {p: i.tolist() for p, i in first.items()}
    job.resume = False
    fresh = load_split_rows(job, fingerprint, how, config)
    assert any(fresh[part].tolist() != first[part].tolist() for part in first)


def test_a_resume_without_a_checkpoint_starts_over(home: Home) -> None:
    job = make_job(home, "run", resume=True, **QUICK)
    train_job.run(job)
    assert events(job, "rewind") == [{"type": "rewind", "at": events(job, "rewind")[0]["at"], "step": -1}]
    assert series(job, "eval/loss")[0][0] == 0


def test_the_first_loss_of_an_adapter_does_not_wait_for_the_base_model(home: Home) -> None:
    """The base model's own validation comes second, and is that of a model that was not trained yet."""
    order = {}
    for method in ("lora", "full"):
        job = make_job(home, method, **QUICK | {"method": method, "learning_rate": 1e-2})
        train_job.run(job)
        order[method] = [("train/loss" in e["values"], e["step"]) for e in events(job, "metrics")][:3]
    assert order == {
        "lora": [(True, 1), (False, 0), (True, 2)],
        "full": [(False, 0), (True, 1), (True, 2)],
    }
    base = [dict(series(make_job(home, method, **QUICK), "eval/loss"))[0] for method in ("lora", "full")]
    assert base[0] == pytest.approx(base[1], abs=1e-6)


def test_a_validation_after_the_last_checkpoint_is_measured_once(home: Home) -> None:
    """Killed between the validation of a step and the checkpoint that would hold it."""
    fields = QUICK | {"max_steps": 4, "evaluations": 2}
    job = make_job(home, "run", **fields)
    cancel_when(job, lambda e: e.get("step") == 2 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(job)  # leaves a checkpoint of step 2 from before its validation
    kept = job.dir.path.parent / "kept"
    shutil.copytree(job.dir.checkpoints, kept)
    train_job.run(make_job(home, "run", resume=True, **fields))
    shutil.rmtree(job.dir.checkpoints)
    shutil.copytree(kept, job.dir.checkpoints)
    resumed = make_job(home, "run", resume=True, **fields)
    train_job.run(resumed)
    voids = [(e["step"], e.get("prefix")) for e in events(resumed, "rewind")]
    assert voids == [(2, None), (0, "eval/"), (0, "probe/")] * 2
    points = Points()
    for event in events(resumed, "metrics", "rewind"):
        (points.of("run").add if event["type"] == "metrics" else points.of("run").rewind)(event)
    table = points.table()
    seen = list(zip(table["name"].to_pylist(), table["step"].to_pylist(), strict=True))
    assert len(seen) == len(set(seen))
    assert [step for name, step in seen if name == "eval/loss"] == [0, 2, 4]


def test_a_loss_that_is_not_a_number_stops_with_the_step(home: Home, monkeypatch: Any) -> None:
    from engine.models import losses

    real, calls = losses.compute_loss_sum, iter(range(100))  # a step of these short rows is one batch
    monkeypatch.setattr(
        losses,
        "compute_loss_sum",
        lambda model, batch: real(model, batch) * (math.nan if next(calls) >= 2 else 1),
    )
    job = make_job(home, "run", **QUICK)
    with pytest.raises(TunebenchError, match="loss is nan at step 3") as caught:
        train_job.run(job)
    assert caught.value.field == "learning_rate"
    kept = training_state.load_newest_checkpoint(job.dir.checkpoints)
    assert kept is not None
    assert kept[1]["state"]["step"] == 2
    assert all(torch.isfinite(t).all() for name, t in kept[0].items() if name.startswith("weights."))


def test_early_stopping_restores_the_best_step(home: Home) -> None:
    # a rate so high that the model gets worse on held-out rows after its first steps
    job = make_job(
        home, "run", method="full", learning_rate=0.05, num_train_epochs=40, evaluations=40,
        per_device_train_batch_size=8, gradient_accumulation_steps=1, lr_scheduler_type="constant",
    )  # fmt: skip
    verdict = train_job.run(job)["verdict"]
    losses = dict(series(job, "eval/loss"))
    best = min((step for step in losses if step), key=lambda step: losses[step])
    assert verdict.stopped.reason == "early_stopping"
    assert verdict.stopped.restored_step == best < verdict.stopped.step


def test_memory_that_runs_out_says_what_to_change(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(hardware, "measure_available_gib", lambda device: (0.1, 16.0))
    with pytest.raises(hardware.OutOfMemory, match=r"0\.1 of 16\.0 GiB are left") as caught:
        train_job.run(make_job(home, "run", lora_dropout=0.1, **QUICK))  # its rows are padded
    assert "per_device_train_batch_size to 2" in caught.value.fix
    assert caught.value.to_dict()["error"] == "OutOfMemory"
    with pytest.raises(hardware.OutOfMemory) as caught:
        train_job.run(make_job(home, "packed", **QUICK))
    assert "per_device_train_batch_size" not in caught.value.fix  # micro-batches go by tokens


def test_rows_that_can_not_be_trained_are_counted_or_refused(home: Home) -> None:
    rows = conversations(60)
    for row in rows[::10]:
        del row[1]
    write_rows(home, "rows", rows)
    job = make_job(home, "run", **(QUICK | {"max_steps": 1}))
    train_job.run(job)
    dropped = facts(job)["untrained_rows"]
    assert dropped == _rows(job)["train"] - facts(job)["rows"]["train"] > 0
    assert any("no assistant turn" in alert["message"] for alert in events(job, "alert"))
    write_rows(home, "rows", [row[:1] for row in rows])
    home.cache.joinpath("tokens").rename(home.cache / "old")
    with pytest.raises(DataError, match="no assistant turn"):
        train_job.run(make_job(home, "all", **QUICK))


def test_plain_text_trains_and_continues_prompts(home: Home) -> None:
    write_rows(home, "rows", [f"The {i}th of many lines of a plain text, repeated." for i in range(60)])
    job = make_job(home, "run", kind="text", **QUICK)
    verdict = train_job.run(job)["verdict"]
    assert verdict.tuned.loss < verdict.base.loss
    assert pq.read_table(job.dir.predictions)["prompt"][0].as_py().startswith("The ")


def test_a_module_that_is_not_there_names_the_field(home: Home) -> None:
    with pytest.raises(ConfigError) as caught:
        train_job.run(make_job(home, "run", **(QUICK | {"target_modules": ["nothing"]})))
    assert caught.value.field == "target_modules"


@pytest.mark.parametrize(
    ("method", "golden"),
    [
        ("lora", [5.554043, 5.578793, 5.562401, 5.538177, 5.532903, 5.520212]),
        ("full", [5.554043, 5.578793, 5.523511, 5.461895, 5.423001, 5.398287]),
    ],
)
def test_the_losses_are_those_of_before(home: Home, method: str, golden: list[float]) -> None:
    """Six steps of fp32 from fixed seeds: whoever changes what training does must change these numbers."""
    job = make_job(home, "run", **QUICK | {"max_steps": 6}, method=method, dtype="float32", seed=7)
    train_job.run(job)
    assert [loss for _, loss in series(job, "train/loss")] == pytest.approx(golden, rel=1e-4)
