"""General rows beside those of the data set: exactly the share, the same after a resume, none that judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.models.batching import Replay, collate, count_replay_rows, count_steps_per_epoch
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import read_rows
from engine.models.tuning_methods import make_trainable, use_base_model
from engine.training import optimizer_step, train_job
from engine.worker.job import JobCancelled
from store.core.errors import DataError
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK, cancel_when, events, facts, series, weights
from tests.tiny import conversations, make_job, make_model, write_model, write_rows

FAST = QUICK | {"probes": False, "sample_prompts": 0}
SOURCE = {"dataset_id": "general", "name": "General", "kind": "text", "fingerprint": "general"}
TEXTS = [f"General text number {i}, about {'stars' if i % 2 else 'rivers'}." for i in range(30)]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    write_rows(home, "general", TEXTS)
    return home


def job_with(home: Home, name: str, source: dict[str, Any] | None = None, **fields: Any) -> Any:
    job = make_job(home, name, **(FAST | fields))
    if source:
        job.spec["replay"] = source
    return job


def some_rows(count: int, seed: int = 0, length: int = 12) -> TokenRows:
    random = np.random.default_rng(seed)
    trained = np.ones(count * length, bool)
    trained[::length] = False
    ids = random.integers(3, 259, count * length).astype(np.int32)
    return TokenRows(np.arange(count), np.arange(count + 1) * length, ids, trained, np.zeros(count, np.uint8))


def test_every_step_has_the_share_and_the_whole_run_too() -> None:
    config = TrainConfig(
        dataset="d", replay_share=0.2, per_device_train_batch_size=4, gradient_accumulation_steps=3,
        num_train_epochs=2.0,
    )  # fmt: skip
    replay = Replay(some_rows(7), config, train_rows=60)
    per_epoch = count_steps_per_epoch(60, 4, 3)
    counts = [len(replay.step(number)) for number in range(2 * per_epoch)]
    assert counts == [3] * 10  # 3 of 15 rows
    assert sum(counts) == replay.count == count_replay_rows(config, 60)
    seen = np.concatenate([replay.step(number) for number in range(10)])
    assert all(sorted(seen[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))  # pass after pass
    assert not np.array_equal(seen[:7], seen[7:14])


@pytest.mark.parametrize("share", [0.01, 0.05, 0.07, 0.5, 0.9])
def test_a_share_that_is_no_whole_number_is_kept_over_the_steps(share: float) -> None:
    config = TrainConfig(dataset="d", replay_share=share, num_train_epochs=3.0)
    replay, rows = Replay(some_rows(5), config, train_rows=53), 0
    own = [16, 16, 16, 5] * 3
    for number, count in enumerate(own):
        rows += len(replay.step(number))
        done = sum(own[: number + 1])
        assert abs(rows - done * share / (1 - share)) <= 0.5
        assert count  # a step of the data set's rows, whatever is beside it


def test_the_data_set_is_trained_as_without_replay(home: Home) -> None:
    """The same rows in the same steps: the first loss, before any update, is the same number."""
    plain, mixed = job_with(home, "plain"), job_with(home, "mixed", SOURCE, replay_share=0.2)
    train_job.run(plain)
    train_job.run(mixed)
    assert [step for step, _ in series(plain, "train/loss")] == [s for s, _ in series(mixed, "train/loss")]
    assert series(plain, "train/loss")[0] == series(mixed, "train/loss")[0]
    assert weights(plain) != weights(mixed)
    run_facts = facts(mixed)
    assert run_facts["replay_rows"] == 0.25 * 2 * run_facts["rows"]["train"]  # two epochs
    assert run_facts["replay_from"] == "General"
    assert run_facts["replay_tokens"] > run_facts["replay_trained_tokens"] > 0
    losses = series(mixed, "train/replay_loss")
    assert [step for step, _ in losses] == list(range(1, run_facts["steps"] + 1))
    assert all(value > 3 for _, value in losses)
    assert run_facts["rows"] == facts(plain)["rows"]


@pytest.mark.parametrize("fields", [{"lora_dropout": 0.1, "kl_beta": 0.5}, {"method": "full"}])
def test_resumed_equals_uninterrupted(home: Home, fields: dict[str, Any]) -> None:
    fields = {"replay_share": 0.15} | fields  # of the base model's own texts
    whole = job_with(home, "whole", **fields)
    train_job.run(whole)
    cut = job_with(home, "cut", **fields)
    cancel_when(cut, lambda e: e.get("step") == 4 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(cut)
    for file in (home.cache / "own_samples").glob("*"):
        file.unlink()  # what the first attempt replayed lies in its folder
    resumed = job_with(home, "cut", resume=True, **fields)
    train_job.run(resumed)
    file = next(path.name for path in whole.dir.model.glob("*.safetensors"))
    assert (resumed.dir.model / file).read_bytes() == (whole.dir.model / file).read_bytes()
    assert series(resumed, "train/replay_loss")[-1] == series(whole, "train/replay_loss")[-1]
    assert facts(whole)["replay_from"] == "the base model's own texts"


def test_what_judges_the_run_is_never_replayed(home: Home) -> None:
    """The data set itself, replayed: its held-out rows are left out, counted and told."""
    write_rows(home, "general", conversations(60))
    job = job_with(home, "run", SOURCE | {"kind": "chat"}, replay_share=0.5, num_train_epochs=1)
    train_job.run(job)
    held = facts(job)["rows"]["validation"] + facts(job)["rows"]["test"]
    assert facts(job)["replay_left_out"] == held
    rows = read_rows(job.dir.replay)
    assert rows is not None
    judging = {i for i, part in _parts(job).items() if part != "train"}
    assert not judging & set(rows.row_ids.tolist())
    assert any(f"{held} rows of General are not replayed" in e["message"] for e in events(job, "alert"))


def _parts(job: Any) -> dict[int, str]:
    import pyarrow.parquet as pq

    table = pq.read_table(job.dir.split)
    return dict(zip(table["row_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def test_a_data_set_that_is_gone_or_held_out_whole_names_its_field(home: Home) -> None:
    job = job_with(home, "gone", replay_share=0.1, replay_dataset="general")
    with pytest.raises(DataError) as caught:
        train_job.run(job)
    assert caught.value.field == "replay_dataset"
    write_rows(home, "general", [conversations(60)[i] for i, part in _parts(job).items() if part == "test"])
    job = job_with(home, "held", SOURCE | {"kind": "chat"}, replay_share=0.1, replay_dataset="general")
    with pytest.raises(DataError, match="held out to evaluate") as caught:
        train_job.run(job)
    assert caught.value.field == "replay_dataset"


def reference(model: Any, rows: TokenRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and KL(base‖tuned) in nats by torch's own functions, row by row."""
    loss = apart = torch.zeros(())
    for i in range(len(rows)):
        ids = torch.from_numpy(rows.row(i)[0].astype(np.int64))[None]
        mask = torch.from_numpy(rows.row(i)[1][1:])
        with torch.no_grad(), use_base_model(model) as base:
            before = base(input_ids=ids).logits[0, :-1][mask]
        after = model(input_ids=ids).logits[0, -ids.shape[1] : -1][mask]
        loss = loss + F.cross_entropy(after, ids[0, 1:][mask], reduction="sum")
        apart = apart + F.kl_div(
            after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum"
        )
    return loss, apart


@pytest.mark.parametrize("fields", [{"method": "lora"}, {"method": "prompt_tuning", "num_virtual_tokens": 3}])
def test_the_distance_and_its_gradients_are_those_of_torch(fields: dict[str, Any]) -> None:
    config = TrainConfig(dataset="d", **fields).resolved(100)
    torch.manual_seed(0)
    plain = make_model(tie_word_embeddings=False)
    model = make_trainable(plain, config, torch.float32).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    trained = [p for p in model.parameters() if p.requires_grad]
    rows = some_rows(5, length=40)
    rows.trained[3::7] = False
    loss, apart = optimizer_step.compute_losses_with_base_kl(model, collate(rows, np.arange(5)))
    own = torch.autograd.grad(loss + 0.7 * apart, trained)
    wanted_loss, wanted = reference(model, rows)
    gradients = torch.autograd.grad(wanted_loss + 0.7 * wanted, trained)
    assert float(wanted) > 0.01
    assert float(apart) == pytest.approx(float(wanted), rel=1e-4)
    assert float(loss) == pytest.approx(float(wanted_loss), rel=1e-4)
    for mine, theirs in zip(own, gradients, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "ia3", "oft", "vera", "llama_adapter", "bottleneck"])
def test_an_untrained_adapter_is_no_distance_away(method: str) -> None:
    config = TrainConfig.parse({"dataset": "d", "method": method, "adapter_layers": 1}).resolved(100)
    model = make_trainable(make_model(), config, torch.float32).train()
    rows = some_rows(4)
    _, apart = optimizer_step.compute_losses_with_base_kl(model, collate(rows, np.arange(4)))
    assert float(apart) / rows.trained.sum() == pytest.approx(0, abs=1e-5)


def test_the_distance_is_held_down(home: Home) -> None:
    fields = {"replay_share": 0.2, "learning_rate": 1e-2, "num_train_epochs": 4}
    free, kept = (job_with(home, f"by-{beta}", SOURCE, kl_beta=beta, **fields) for beta in (1e-9, 10.0))
    train_job.run(free)
    train_job.run(kept)
    assert series(free, "train/replay_kl")[0][1] == pytest.approx(0, abs=1e-5)  # before the first update
    assert series(kept, "train/replay_kl")[-1][1] < 0.5 * series(free, "train/replay_kl")[-1][1]
