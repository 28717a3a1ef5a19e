"""Models that only read, as classifiers: trained, saved, loaded; what they can't do is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from engine.data import training_rows
from engine.models import loading, tuning_methods
from engine.models.classification import find_head
from engine.models.tuning_methods import count_parameters, make_trainable
from engine.training import train_job
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import ConfigError, ModelError
from store.core.home import Home
from store.evaluation.verdict_schemas import Verdict
from store.training.methods import ENCODERS, METHODS, SHIFTED, is_encoder_type
from store.training.train_config import TrainConfig
from tests.engine.asking.test_preview import ask
from tests.engine.job_events import cancel_when, events, facts, series
from tests.engine.training.test_classification import QUICK, labelled, table
from tests.tiny import encoder_config, make_encoder_tokenizer, make_job, write_encoder, write_rows

KINDS = ("bert", "distilbert", "roberta", "modernbert")
# of width 32 with an MLP of 64: what LoRA of rank 1 adds to the matrices of a layer, and to which
LAYER = {
    "bert": (4 * (32 + 32) + 2 * (32 + 64), {"query", "key", "value", "dense"}),
    "distilbert": (4 * (32 + 32) + 2 * (32 + 64), {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}),
    "roberta": (4 * (32 + 32) + 2 * (32 + 64), {"query", "key", "value", "dense"}),
    "modernbert": ((32 + 96) + (32 + 32) + (32 + 128) + (64 + 32), {"Wqkv", "Wo", "Wi"}),
}
# a matrix with its bias (ModernBERT's has a norm in its place), which only BERT's pooler may bring along, and
# the three classes
HEAD = (32 * 32 + 32) + (32 * 3 + 3)
RATES = {"lora": 5e-3, "qlora": 5e-3, "full": 3e-3, "freeze": 3e-3, "ia3": 2e-2}
LEARNS: dict[str, Any] = {"num_train_epochs": 20, "early_stopping": False}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    rows, labels = labelled()
    write_rows(home, "rows", rows, labels=labels)
    return home


def run(home: Home, name: str = "run", **fields: Any) -> tuple[WorkerJob, Verdict]:
    rate = RATES.get(fields.get("method", "lora"), 1e-2)
    job = make_job(home, name, **(QUICK | {"learning_rate": rate} | fields))
    return job, train_job.run(job)["verdict"]


def loaded(job: WorkerJob, home: Home, method: str) -> Any:
    """What the run left, by transformers and peft alone."""
    if not METHODS[method].adapter:
        return AutoModelForSequenceClassification.from_pretrained(job.dir.model).eval()
    config = AutoConfig.from_pretrained(job.dir.model)
    torch.manual_seed(99)  # the weights that the base model lacks must not matter
    base = AutoModelForSequenceClassification.from_pretrained(
        home.models / "tiny", config=config, ignore_mismatched_sizes=True
    )
    return PeftModel.from_pretrained(base, job.dir.model).eval()


@pytest.mark.parametrize(
    ("kind", "method", "start"),
    [(kind, method, "default") for kind in KINDS for method in ("lora", "full")]
    + [("bert", "lora", "pissa"), ("bert", "lora", "eva")],
)
def test_it_trains_saves_loads_and_predicts(home: Home, kind: str, method: str, start: str) -> None:
    write_encoder(home.models / "tiny", kind)
    job, verdict = run(home, method=method, init_lora_weights=start, **LEARNS)
    by_model = verdict.classification.models
    assert by_model.tuned.accuracy.value > 0.9
    assert verdict.state == "learned"
    predictions = table(job)
    assert sum(rows for _, _, rows in by_model.tuned.confusion) == len(predictions) == by_model.tuned.n
    right = sum(rows for label, guess, rows in by_model.tuned.confusion if label == guess)
    assert right / len(predictions) == pytest.approx(by_model.tuned.accuracy.value)
    model = loaded(job, home, method)
    rows, _ = labelled()
    texts = [rows[row["row_id"]][0]["content"] for row in predictions]
    batch = make_encoder_tokenizer()(texts, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        shares = model(**batch).logits.softmax(-1)
    for row, probabilities in zip(predictions, shares, strict=True):
        assert probabilities.max().item() == pytest.approx(row["probability"], abs=1e-5)
        assert model.config.id2label[int(probabilities.argmax())] == row["predicted"]


@pytest.mark.parametrize(("kind", "method"), [("bert", "full"), ("modernbert", "lora"), ("roberta", "lora")])
def test_a_classifier_for_other_labels_gets_a_new_head(home: Home, kind: str, method: str) -> None:
    """It was refused as weights that don't belong to their config.json."""
    write_encoder(home.models / "tiny", kind)
    old = encoder_config(kind, num_labels=5, pad_token_id=make_encoder_tokenizer().pad_token_id)
    AutoModelForSequenceClassification.from_config(old).save_pretrained(home.models / "tiny")
    answer = ask(home, task="classification", method=method)
    assert not [each for each in answer.problems if each.level == "error"]
    job, verdict = run(home, method=method, **LEARNS)
    assert verdict.classification.models.tuned.accuracy.value > 0.9
    messages = [event["message"] for event in events(job, "alert")]
    assert "a classifier for 5 labels; a new head for these 3 replaces its own" in str(messages)
    assert len(loaded(job, home, method).config.id2label) == 3


def test_a_head_that_is_not_of_its_own_config_is_refused(home: Home) -> None:
    """A whole classifier whose file and config.json differ: nobody asked for a new head."""
    source = str(write_encoder(home.models / "tiny"))
    AutoModelForSequenceClassification.from_config(encoder_config("bert", num_labels=5)).save_pretrained(
        source
    )
    config = AutoConfig.from_pretrained(source)
    config.num_labels = 3
    config.save_pretrained(source)
    asked = TrainConfig(model=source, dataset="none", method="full")
    with pytest.raises(ModelError, match=r"classifier.* has the shape \[5"):
        loading.load_model(asked, source, "cpu", torch.float32, loading.load_config(source))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_counted_exactly_and_every_matrix_is_found(home: Home, kind: str) -> None:
    write_encoder(home.models / "tiny", kind)
    job, _ = run(home, r=4, num_train_epochs=1)
    rank_one, names = LAYER[kind]
    assert facts(job)["trainable_parameters"] == 2 * 4 * rank_one + HEAD
    adapter = load_file(job.dir.model / "adapter_model.safetensors")
    changed = {name.split(".lora_A")[0].rpartition(".")[2] for name in adapter if ".lora_A" in name}
    assert changed == names
    saved = sum(tensor.numel() for tensor in adapter.values())
    assert saved == facts(job)["trainable_parameters"]
    answer = ask(home, task="classification", r=4)
    assert answer.trainable_parameters == facts(job)["trainable_parameters"]
    assert answer.total_parameters == facts(job)["total_parameters"]
    assert answer.time.seconds > 0


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.fits("bert")])
def test_every_method_that_is_offered_learns(home: Home, method: str) -> None:
    write_encoder(home.models / "tiny")
    small = {"r": 4, "oft_block_size": 8}
    fields = {name: value for name, value in small.items() if name in METHODS[method].fields}
    job, verdict = run(home, method=method, **fields, **LEARNS)
    assert verdict.gain.value > 0.1
    config = TrainConfig.parse(job.config)
    base = AutoModelForSequenceClassification.from_config(encoder_config("bert", num_labels=3))
    expected = METHODS[method].parameters(tuning_methods.measure_matrix_sizes(base, config), config)
    assert facts(job)["trainable_parameters"] == expected + (0 if method == "full" else HEAD)


@pytest.mark.parametrize("field", ["load_in_4bit", "load_in_8bit"])
def test_an_encoder_of_few_bits_keeps_its_head_whole(home: Home, field: str) -> None:
    write_encoder(home.models / "tiny")
    job, verdict = run(home, **{field: True}, **LEARNS)
    assert verdict.gain.value > 0.1
    assert facts(job)["trainable_parameters"] == 2 * 16 * LAYER["bert"][0] + HEAD


def test_bf16_and_a_run_that_goes_on(home: Home) -> None:
    write_encoder(home.models / "tiny")
    job, verdict = run(home, "whole", dtype="bfloat16", num_train_epochs=2)
    assert facts(job)["dtype"] == "bfloat16"
    assert verdict.classification.models.tuned.n == 50
    cut = make_job(
        home, "cut", **(QUICK | {"learning_rate": RATES["lora"], "dtype": "bfloat16", "num_train_epochs": 2})
    )
    cancel_when(cut, lambda e: e.get("step") == 9 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(cut)
    resumed, _ = run(home, "cut", resume=True, dtype="bfloat16", num_train_epochs=2)
    assert series(resumed, "train/loss") == series(job, "train/loss")
    assert table(resumed) == table(job)


@pytest.mark.parametrize("mode", ["stack", "merge"])
def test_a_later_run_goes_on_from_it(home: Home, mode: str) -> None:
    """Merged, with a new head over the layers that have learned, it learns again at once."""
    write_encoder(home.models / "tiny")
    _, verdict = run(home, "first", **LEARNS)
    assert verdict.classification.models.tuned.accuracy.value > 0.9
    _, verdict = run(home, "second", init_from="first", init_mode=mode, num_train_epochs=4)
    assert verdict.classification.models.tuned.accuracy.value > 0.9
    assert verdict.continued_from.run_id == "first"
    _, verdict = run(home, "alone", num_train_epochs=4)
    assert verdict.classification.models.tuned.accuracy.value < 0.9


def test_what_asks_it_to_write_is_left_out_and_said(home: Home) -> None:
    write_encoder(home.models / "tiny")
    job, verdict = run(home, num_train_epochs=1)
    assert verdict.classification.models.prompted is None
    assert verdict.classification.over_prompted is None
    assert {row["prompted"] for row in table(job)} == {None}
    alerts = " ".join(alert["message"] for alert in events(job, "alert"))
    assert "the untuned model was not asked for the labels" in alerts


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"task": "sft"}, "task", "is an encoder: it reads text and can't write any. Set task to class"),
        ({"task": "dpo"}, "task", "is an encoder"),
        ({"method": "prompt_tuning"}, "method", "Prompt tuning is made for models that write text"),
        ({"method": "prefix_tuning"}, "method", "Take LoRA or full fine-tuning"),
        ({"method": "p_tuning"}, "method", "P-tuning is made for models that write text"),
        ({"method": "bottleneck"}, "method", "Bottleneck adapters is made for models that write text"),
        ({"method": "llama_adapter"}, "method", "LLaMA-Adapter is made for models that write text"),
    ],
)
def test_what_it_can_not_do_is_refused(
    home: Home, kind: str, fields: dict[str, Any], field: str, words: str
) -> None:
    """By the preview, which no launch gets past, and by the job itself."""
    write_encoder(home.models / "tiny", kind)
    for attempt in (lambda: ask(home, **({"task": "classification"} | fields)), lambda: run(home, **fields)):
        with pytest.raises(ConfigError, match=words) as caught:
            attempt()
        assert caught.value.field == field


def test_it_is_not_loaded_as_a_model_that_writes(home: Home) -> None:
    """transformers would give a BERT an output layer of random weights."""
    folder = str(write_encoder(home.models / "tiny"))
    with pytest.raises(ModelError, match="is an encoder"):
        loading.load_model(TrainConfig(model=folder, dataset="rows"), folder, "cpu", torch.float32)


def test_the_longest_row_fits_where_positions_are_shifted(home: Home) -> None:
    rows, labels = labelled()
    for row in rows[::5]:
        row[0]["content"] += " and so on" * 40
    write_rows(home, "rows", rows, labels=labels)
    write_encoder(home.models / "tiny", "roberta", max_position_embeddings=100)
    job, _ = run(home, num_train_epochs=1)
    assert facts(job)["max_length"] == 99  # the padding token is 0
    with pytest.raises(ConfigError, match="has 99 positions"):
        run(home, "longer", max_length=100)


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_every_known_encoder_has_a_head_and_matrices(kind: str) -> None:
    with torch.device("meta"):
        config = AutoConfig.for_model(kind, num_labels=3)
        model = AutoModelForSequenceClassification.from_config(config)
        asked = TrainConfig(dataset="d", task="classification", r=2).resolved(100)
        linears: Any = tuning_methods.list_linear_layers(model).values()
        expected = sum(2 * (matrix.in_features + matrix.out_features) for matrix in linears)
        new = sum(
            p.numel()
            for n in tuning_methods.list_head_names(model)
            for p in model.get_submodule(n).parameters()
        )
        assert find_head(model) is None
        assert model.get_submodule("classifier")
        assert count_parameters(make_trainable(model, asked, torch.float32))[0] == expected + new
    assert is_encoder_type(type(model).__name__.split("ForSequence")[0])
    room = training_rows.count_positions(config, asked)
    shift = (config.pad_token_id or 0) + 1 if kind in SHIFTED else 0
    assert room == config.max_position_embeddings - shift
