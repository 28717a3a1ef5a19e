"""The base model's own samples: drawn from its very distribution, made once, and of that model alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.evaluation.probes import base_samples
from engine.evaluation.probes.base_samples import SamplePlan, generate_samples
from engine.evaluation.probes.probe_sets import compute_weights_id
from engine.evaluation.probes.suite_texts import load_suite
from engine.models.losses import compute_row_losses
from engine.models.tuning_methods import make_trainable, use_base_model
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.tiny import make_model, make_tokenizer, write_model

SUITE = load_suite()
TOKENIZER = make_tokenizer()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds for which samples were made."""
    made: list[int] = []
    real = base_samples.generate_samples

    def spy(model: Any, tokenizer: Any, plan: SamplePlan, *given: Any) -> Any:
        made.append(plan.seed)
        return real(model, tokenizer, plan, *given)

    monkeypatch.setattr(base_samples, "generate_samples", spy)
    return made


def test_samples_are_of_the_seed_and_leave_everything_as_it_was() -> None:
    model = make_model()
    before, config = torch.get_rng_state(), model.generation_config
    first = generate_samples(model, TOKENIZER, SamplePlan(SUITE, count=6, length=12))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.generation_config is config
    assert model.training
    torch.manual_seed(77)
    again = generate_samples(model, TOKENIZER, SamplePlan(SUITE, count=6, length=12))
    other = generate_samples(model, TOKENIZER, SamplePlan(SUITE, 1, 6, 12))
    assert np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.ids, other.ids)
    assert len({tuple(first.row(i)[0][: base_samples.PREFIX_TOKENS]) for i in range(6)}) == 6
    for i in range(6):
        ids, trained = first.row(i)
        assert trained.tolist() == [False] * base_samples.PREFIX_TOKENS + [True] * (
            len(ids) - base_samples.PREFIX_TOKENS
        )
        assert TOKENIZER.eos_token_id not in ids[:-1]


def test_their_mean_loss_is_the_entropy_of_the_model() -> None:
    model = make_model().eval()
    model.generation_config.top_k, model.generation_config.repetition_penalty = (
        3,
        1.8,
    )  # told, and not followed
    with torch.no_grad():
        model.lm_head.weight.mul_(6)  # far from uniform
    rows = generate_samples(
        model, TOKENIZER, SamplePlan(SUITE, count=base_samples.SAMPLE_COUNT * 2, length=40)
    )
    entropy = count = 0.0
    for i in range(len(rows)):
        ids, trained = rows.row(i)
        with torch.no_grad():
            logs = model(input_ids=torch.tensor(ids[None].astype(np.int64))).logits[0].log_softmax(-1)
        each = -(logs.exp() * logs).sum(-1)[:-1].numpy()[trained[1:]]
        entropy += each.sum()
        count += len(each)
    losses = compute_row_losses(model, rows, batch_size=16, device="cpu")
    assert losses.tokens.sum() == count
    assert 1 < entropy / count < 5
    assert losses.loss == pytest.approx(entropy / count, abs=0.1)


def test_an_end_of_text_ends_a_sample() -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(1)
        model.lm_head.weight[:] = 0  # every token is as likely as any other
    model.generation_config.eos_token_id = list(range(1, 100))
    rows = generate_samples(model, TOKENIZER, SamplePlan(SUITE, count=20, length=40))
    written = rows.lengths - base_samples.PREFIX_TOKENS
    assert 1 <= written.min() < written.max() <= 40
    ends = [rows.row(i)[0][-1] for i in range(20)]
    assert all(1 <= end < 100 for end in ends)
    assert rows.trained_counts.tolist() == written.tolist()


def test_they_are_made_once_for_a_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, folder = Home(tmp_path / "home").create(), write_model(tmp_path / "tiny")
    made, model = counted(monkeypatch), make_model()

    def ask(model: Any = model, folder: Path = folder, **options: Any) -> Any:
        plan = SamplePlan(SUITE, count=3, length=5, **options)
        return base_samples.load_or_generate_samples(home, model, TOKENIZER, folder, plan)

    first = ask()
    config = TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"}).resolved(100)
    with use_base_model(make_trainable(make_model(), config, torch.float32)) as base:
        second = ask(base)
    assert made == [0]
    assert np.array_equal(first.ids, second.ids)
    ask(seed=4)
    ask(make_model().to(torch.bfloat16))
    ask(folder=write_model(tmp_path / "other", seed=1))
    assert made == [0, 4, 0, 0]
    [file, *_] = sorted((home.cache / "own_samples").iterdir())
    file.write_bytes(b"cut")
    ask()
    ask(seed=4)
    ask(make_model().to(torch.bfloat16))
    ask(folder=tmp_path / "other")
    assert len(made) == 5


def test_an_adapter_that_is_switched_off_leaves_the_samples_of_the_base() -> None:
    config = TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"}).resolved(100)
    model = make_trainable(make_model(), config, torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.3)
    plain = generate_samples(make_model(), TOKENIZER, SamplePlan(SUITE, count=4, length=8))
    assert not np.array_equal(
        generate_samples(model, TOKENIZER, SamplePlan(SUITE, count=4, length=8)).ids, plain.ids
    )
    with use_base_model(model) as base:
        assert np.array_equal(
            generate_samples(base, TOKENIZER, SamplePlan(SUITE, count=4, length=8)).ids, plain.ids
        )


def test_nothing_is_kept_of_samples_that_were_stopped(tmp_path: Path) -> None:
    home, folder = Home(tmp_path / "home").create(), write_model(tmp_path / "tiny")

    def stop(done: int, most: int) -> None:
        assert most == 5
        if done == 3:
            raise InterruptedError

    plan = SamplePlan(SUITE, count=3, length=5)
    with pytest.raises(InterruptedError):
        base_samples.load_or_generate_samples(home, make_model(), TOKENIZER, folder, plan, on_token=stop)
    assert not (home.cache / "own_samples").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights["model.layers.1.mlp.up_proj.weight"].add_(1e-3),
        lambda weights: weights.pop("model.norm.weight"),
        lambda weights: weights.update({"scalar": torch.tensor(1.0), "empty": torch.zeros(0, 3)}),
    ],
)
def test_weights_are_told_from_others(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    folder = write_model(tmp_path / "tiny")
    before = compute_weights_id(folder)
    assert compute_weights_id(folder) == before
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    changed = compute_weights_id(folder)
    assert changed != before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    assert compute_weights_id(folder) not in (before, changed)
