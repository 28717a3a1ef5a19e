"""Every method of the table, through the whole train job on a two-layer model: it trains exactly the
parameters that its formula says, learns, resumes, and what it leaves loads and answers as it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.models import loading, saved_models, tuning_methods
from engine.models.classification import ClassBatch, compute_class_logits
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import render, render_prompt
from engine.models.tuning_methods import count_parameters, make_trainable
from engine.training import train_job
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import ConfigError
from store.core.home import Home
from store.data import dataset_files
from store.training.methods import METHODS
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_job, make_model, write_model, write_rows

QUICK = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "max_steps": 20,
    "num_train_epochs": 10,
    "evaluations": 2,
    "max_new_tokens": 4,
    "weight_decay": 0.0,
}
# Rates at which twenty steps show on random weights; a real model wants the table's.
RATES = {
    "full": 1e-2,
    "freeze": 1e-2,
    "ia3": 0.3,
    "vera": 0.1,
    "prompt_tuning": 1.0,
    "llama_adapter": 0.2,
    "prefix_tuning": 0.1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in METHODS},
    "DoRA": {"method": "lora", "use_dora": True},
    "rsLoRA": {"method": "lora", "use_rslora": True},
    "LoRA+": {"method": "lora", "loraplus_lr_ratio": 4.0},
    "PiSSA": {"method": "lora", "init_lora_weights": "pissa"},
    "PiSSA with rsLoRA": {"method": "lora", "init_lora_weights": "pissa", "use_rslora": True},
    "OLoRA": {"method": "lora", "init_lora_weights": "olora"},
    "EVA": {"method": "lora", "init_lora_weights": "eva"},
    "LoftQ": {"method": "qlora", "init_lora_weights": "loftq"},
    "LoRA in 8 bits": {"method": "lora", "load_in_8bit": True},
    "IA3 in 4 bits": {"method": "ia3", "load_in_4bit": True},
    "IA3 in 8 bits": {"method": "ia3", "load_in_8bit": True},
    "OFT in 4 bits": {"method": "oft", "load_in_4bit": True},
    "bottleneck in 4 bits": {"method": "bottleneck", "load_in_4bit": True},
    "prompt tuning in 4 bits": {"method": "prompt_tuning", "load_in_4bit": True},
    "embeddings too": {"method": "freeze", "trainable_layers": 1, "train_embeddings": True},
}
SMALL = {"r": 8, "num_virtual_tokens": 6, "oft_block_size": 8, "bottleneck_size": 8, "trainable_layers": 1}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny", initializer_range=0.1)  # attention that prompts can steer
    write_rows(home, "rows", conversations(60))
    return home


def fields_of(variant: str) -> dict[str, Any]:
    """The fields of a quick run of that variant."""
    fields = VARIANTS[variant]
    method = METHODS[fields["method"]]
    small = {name: value for name, value in SMALL.items() if name in method.fields}
    rate = RATES.get(fields["method"], 3e-2)
    return QUICK | {"learning_rate": rate} | small | fields


def facts(job: WorkerJob) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for line in job.dir.events.read_text().splitlines():
        event = json.loads(line)
        if event["type"] == "facts":
            merged |= event["facts"]
    return merged


def formula(config: TrainConfig) -> int:
    return METHODS[config.method].parameters(
        tuning_methods.measure_matrix_sizes(make_model(), config), config
    )


def loaded(job: WorkerJob, config: TrainConfig) -> Any:
    """The model that the job left, read back."""
    folder = job.dir.model
    if not METHODS[config.method].adapter:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = loading.load_model(config, config.model, "cpu", torch.float32)
    return saved_models.load_tuned_model(folder, base)


@pytest.mark.parametrize("variant", VARIANTS)
def test_trains_saves_loads_and_answers(home: Home, variant: str) -> None:
    job = make_job(home, "run", **fields_of(variant))
    config = TrainConfig.parse(job.config)
    verdict = train_job.run(job)["verdict"]
    assert facts(job)["trainable_parameters"] == formula(config)
    assert verdict.base.loss - verdict.tuned.loss > 0.05
    model = loaded(job, config)
    tokenizer = loading.load_tokenizer(str(job.dir.model))
    losses = pq.read_table(job.dir.row_losses)
    chats = dataset_files.load_rows(home, "rows", columns=["messages"], row_ids=losses["row_id"].to_numpy())
    rows = render(tokenizer, losses["row_id"].to_numpy(), chats["messages"].to_pylist())
    again = compute_row_losses(model, rows, batch_size=8, device="cpu", on_batch=lambda done: None)
    assert again.loss_sum == pytest.approx(losses["tuned_loss"].to_numpy(), rel=1e-4, abs=1e-4)
    predictions = pq.read_table(job.dir.predictions).to_pylist()
    asked = dataset_files.load_rows(
        home, "rows", columns=["messages"], row_ids=np.array([p["row_id"] for p in predictions])
    )
    rendered = [render_prompt(tokenizer, chat) for chat in asked["messages"].to_pylist()]
    completions = generate_answers(
        model, tokenizer, [r[0] for r in rendered if r], GenerationOptions(4, "cpu")
    )
    assert completions == [p["tuned"] for p in predictions]


@pytest.mark.parametrize("variant", ["adalora", "PiSSA", "EVA", "LoRA+", "bottleneck", "p_tuning"])
def test_a_resumed_run_equals_an_uninterrupted_one(home: Home, variant: str) -> None:
    fields = fields_of(variant)
    whole = make_job(home, "whole", **fields)
    train_job.run(whole)
    cut = make_job(home, "cut", **fields)
    append = cut._append

    def stop_at_nine(event: Any) -> None:
        append(event)
        if event.get("step") == 9 and "train/loss" in event.get("values", {}):
            cut.cancel_requested.set()

    cut._append = stop_at_nine  # type: ignore[method-assign]
    with pytest.raises(JobCancelled):
        train_job.run(cut)
    resumed = make_job(home, "cut", resume=True, **fields)
    train_job.run(resumed)
    name = "adapter_model.safetensors"
    assert (resumed.dir.model / name).read_bytes() == (whole.dir.model / name).read_bytes()


def test_the_formulas_hold_for_other_shapes() -> None:
    """On the meta device, as a preview counts them."""
    shape = {"hidden_size": 48, "intermediate_size": 160, "num_attention_heads": 6, "num_key_value_heads": 3}
    for variant, fields in VARIANTS.items():
        small = {k: v for k, v in SMALL.items() if k in METHODS[fields["method"]].fields}
        config = TrainConfig(dataset="d", **(small | fields)).resolved(100)
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(
                    "llama", vocab_size=259, num_hidden_layers=4, tie_word_embeddings=False, **shape
                )
            )
            expected = METHODS[config.method].parameters(
                tuning_methods.measure_matrix_sizes(base, config), config
            )
            assert count_parameters(make_trainable(base, config, torch.float32))[0] == expected, variant


def test_names_that_the_model_lacks_are_told_with_those_it_has() -> None:
    config = TrainConfig(dataset="d", target_modules=["q_proj", "query"]).resolved(100)
    with pytest.raises(ConfigError, match="names query") as caught:
        make_trainable(make_model(), config, torch.float32)
    assert "q_proj, k_proj, v_proj" in caught.value.fix
    assert caught.value.field == "target_modules"


def test_more_layers_than_there_are_name_the_field() -> None:
    config = TrainConfig(dataset="d", method="freeze", trainable_layers=3).resolved(100)
    with pytest.raises(ConfigError, match="the model has 2 layers") as caught:
        make_trainable(make_model(), config, torch.float32)
    assert caught.value.field == "trainable_layers"


def test_adalora_ends_at_its_rank(home: Home) -> None:
    from safetensors.torch import load_file

    fields = fields_of("adalora") | {"load_best_model_at_end": False, "early_stopping": False}
    job = make_job(home, "run", **fields)
    train_job.run(job)
    tensors = load_file(job.dir.model / "adapter_model.safetensors")
    left = sum(int((value != 0).sum()) for name, value in tensors.items() if "lora_E" in name)
    assert left == 8 * 14  # r of each of seven matrices in two layers, dealt anew among them


def test_a_start_from_the_weights_begins_at_the_base_model(home: Home) -> None:
    for start in ("pissa", "olora", "eva"):
        fields = fields_of("lora") | {"init_lora_weights": start, "learning_rate": 1e-12, "max_steps": 2}
        verdict = train_job.run(make_job(home, start, **fields))["verdict"]
        assert verdict.base.loss == pytest.approx(verdict.tuned.loss, abs=1e-5)


HEADED = [*(method for method in METHODS if method != "llama_adapter"), "DoRA", "PiSSA", "IA3 in 8 bits"]


@pytest.mark.parametrize("variant", HEADED)
def test_every_method_trains_a_classification_head(home: Home, variant: str) -> None:
    """The head learns beside the method's own parameters, and what is saved says what it said."""
    chats = conversations(80)
    names = [chat[1]["content"].split()[0] for chat in chats]
    write_rows(home, "rows", chats, labels=names)
    job = make_job(home, "run", **fields_of(variant), task="classification")
    config = TrainConfig.parse(job.config)
    classes = sorted(set(names))
    train_job.run(job)
    assert facts(job)["trainable_parameters"] == formula(config) + len(classes) * 32
    predictions = pq.read_table(job.dir.class_predictions).to_pylist()
    if METHODS[config.method].adapter:
        architecture = AutoConfig.from_pretrained(job.dir.model)
        base = loading.load_model(config, config.model, "cpu", torch.float32, architecture)
        model = saved_models.load_tuned_model(job.dir.model, base)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(job.dir.model, dtype=torch.float32)
    tokenizer = loading.load_tokenizer(str(job.dir.model))
    texts = [chats[row["row_id"]][0]["content"] for row in predictions]
    batches = [torch.tensor([tokenizer(text).input_ids]) for text in texts]
    model.eval()
    shares_of = [compute_class_logits(model, ClassBatch(ids, *_whole(ids))).softmax(-1)[0] for ids in batches]
    for row, shares in zip(predictions, shares_of, strict=True):
        assert float(shares.max()) == pytest.approx(row["probability"], abs=1e-4)
        assert classes[int(shares.argmax())] == row["predicted"]


def _whole(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Where one whole row is read, its length, no class, its tokens: the rest of a batch of it alone."""
    tokens = ids.shape[1]
    return torch.tensor([tokens - 1]), torch.tensor([tokens]), torch.tensor([0]), tokens


FURTHER = ["qlora", "vera", "oft", "ia3", "prompt_tuning", "prefix_tuning", "bottleneck", "freeze", "DoRA"]


@pytest.mark.parametrize("variant", FURTHER)
def test_a_run_is_trained_further_from_where_it_ended(home: Home, variant: str) -> None:
    fields = fields_of(variant) | {"load_best_model_at_end": False, "early_stopping": False}
    ended = train_job.run(make_job(home, "first", **fields))["verdict"].tuned.loss
    second = make_job(home, "second", **fields, init_from="first", init_mode="stack")
    verdict = train_job.run(second)["verdict"]
    assert verdict.base.loss == pytest.approx(ended, abs=1e-4)


def test_pissa_is_trained_further_as_the_lora_that_it_left(home: Home) -> None:
    fields = fields_of("PiSSA") | {"r": 4}
    train_job.run(make_job(home, "first", **fields))
    with pytest.raises(ConfigError, match="r is 4") as caught:
        train_job.run(make_job(home, "second", **fields, init_from="first"))
    assert "Set r to 8" in caught.value.fix
    plain = fields | {"r": 8, "lora_alpha": 16, "init_lora_weights": "default"}
    train_job.run(make_job(home, "third", **plain, init_from="first"))


@pytest.mark.parametrize("variant", ["p_tuning", "adalora"])
def test_what_can_not_be_trained_further_says_so(home: Home, variant: str) -> None:
    fields = fields_of(variant)
    train_job.run(make_job(home, "first", **fields))
    with pytest.raises(ConfigError, match="can't be trained further"):
        train_job.run(make_job(home, "second", **fields, init_from="first"))


def test_prompts_can_not_be_merged(home: Home) -> None:
    train_job.run(make_job(home, "first", **fields_of("prompt_tuning")))
    with pytest.raises(ConfigError, match="can't be merged") as caught:
        train_job.run(make_job(home, "second", **QUICK, init_from="first", init_mode="merge"))
    assert caught.value.field == "init_mode"
