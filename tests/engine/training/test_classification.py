"""A classification head, trained, stopped, saved and judged on a two-layer model; and labels as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

from engine.models.classification import ClassObjective
from engine.models.forward import answer_likelihood
from engine.models.losses import compute_row_losses
from engine.models.tokenization.rendering import TokenRows
from engine.training import train_job
from engine.worker.job import JobCancelled, WorkerJob
from store.core.errors import ConfigError, DataError
from store.core.home import Home
from store.core.training_schemas import Preview
from store.evaluation.verdict_schemas import Verdict
from tests.engine.asking.test_preview import ask
from tests.engine.job_events import cancel_when, events, facts, series
from tests.shapes import held_to
from tests.tiny import conversations, make_job, make_model, make_tokenizer, write_model, write_rows

WORDS = {"cold": ["ice", "snow", "frost"], "warm": ["sun", "heat", "fire"], "wet": ["rain", "sea", "flood"]}
QUICK: dict[str, Any] = {
    "task": "classification",
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 6,
    "evaluations": 3,
}
RATES = {"lora": 1e-2, "full": 5e-3, "qlora": 1e-2}


def labelled(count: int = 240) -> tuple[list[Any], list[str | None]]:
    """Rows whose label hangs on two of their words, and the labels."""
    random = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(count):
        label = list(WORDS)[i % 3]
        text = f"{random.choice(WORDS[label])} and {random.choice(WORDS[label])} today, {i % 7}"
        rows.append([{"role": "user", "content": text}, {"role": "assistant", "content": label}])
        labels.append(label)
    return rows, labels


def model_gib(answer: Preview) -> float:
    """Without the process itself, which grows from one question to the next."""
    return float(answer.memory.counted_gib - answer.memory.process_gib)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    rows, labels = labelled()
    write_rows(home, "rows", rows, labels=labels)
    return home


def run(home: Home, name: str = "run", **fields: Any) -> tuple[WorkerJob, Verdict]:
    fields = QUICK | {"learning_rate": RATES[fields.get("method", "lora")]} | fields
    job = make_job(home, name, **fields)
    return job, held_to(Verdict, train_job.run(job)["verdict"])


def table(job: WorkerJob) -> list[dict[str, Any]]:
    return pq.read_table(job.dir.class_predictions).to_pylist()


@pytest.mark.parametrize("method", ["lora", "full", "qlora"])
def test_it_learns_to_tell_classes_apart(home: Home, method: str) -> None:
    job, verdict = run(home, method=method)
    tuned = verdict.classification.models.tuned
    assert tuned.accuracy.value > 0.9
    assert verdict.state == "learned"
    assert verdict.headline.startswith("Learned: ")
    rows = table(job)
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == tuned.accuracy.value
    assert tuned.n == len(rows) == facts(job)["rows"]["test"]
    assert all(sum(top["probability"] for top in row["top"]) == pytest.approx(1) for row in rows)
    assert facts(job)["labels"] == ["cold", "warm", "wet"]
    validated = [step for step, _ in series(job, "eval/loss")]
    assert [step for step, _ in series(job, "eval/accuracy")] == validated
    assert len(validated) == 4
    assert series(job, "eval/f1_macro")[-1][1] > 0.9


def test_step_0_is_always_the_most_frequent_class(home: Home) -> None:
    job, verdict = run(home, num_train_epochs=1)
    counts = np.array(facts(job)["label_rows"])
    shares = counts / counts.sum()
    validation = pq.read_table(job.dir.validations).to_pylist()
    first = [row for row in validation if row["step"] == 0]
    assert all(row["tokens"] == 1 for row in first)
    assert {round(row["loss_sum"], 6) for row in first} <= {round(-np.log(s), 6) for s in shares}
    majority = verdict.classification.models.majority
    losses = pq.read_table(job.dir.row_losses).to_pylist()
    assert np.mean([row["base_correct"] for row in losses]) == majority.accuracy.value
    assert verdict.base.loss == pytest.approx(np.mean([row["base_loss"] for row in losses]))
    gain = verdict.base.loss - verdict.tuned.loss
    assert verdict.gain.value == pytest.approx(gain)
    beside = verdict.overfitting.baseline_sentence
    most = series(job, "eval/accuracy")[0][1]
    assert f"against {100 * most:.0f}% for always the most frequent class" in beside


def test_resumed_equals_uninterrupted(home: Home) -> None:
    fields: dict[str, Any] = {"num_train_epochs": 2, "lora_dropout": 0.1}
    whole, _ = run(home, "whole", **fields)
    cut = make_job(home, "cut", **(QUICK | {"learning_rate": RATES["lora"]} | fields))
    cancel_when(cut, lambda e: e.get("step") == 9 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(cut)
    resumed, _ = run(home, "cut", resume=True, **fields)
    for name in ("train/loss", "eval/loss", "eval/accuracy", "eval/f1_macro"):
        assert series(resumed, name) == series(whole, name), name
    assert table(resumed) == table(whole)
    adapter = "adapter_model.safetensors"
    assert (resumed.dir.model / adapter).read_bytes() == (whole.dir.model / adapter).read_bytes()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_saved_model_gives_the_same_probabilities(home: Home, method: str) -> None:
    """Loaded by transformers alone, padded as its tokenizer pads, though that is the closing token."""
    job, _ = run(home, method=method, num_train_epochs=1)
    folder = job.dir.model
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "cold", 1: "warm", 2: "wet"}
    assert config.label2id["wet"] == 2
    if method == "full":
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    else:
        base = AutoModelForSequenceClassification.from_pretrained(home.models / "tiny", config=config)
        model = PeftModel.from_pretrained(base, folder)
    rows, _ = labelled()
    predictions = table(job)
    texts = [rows[row["row_id"]][0]["content"] for row in predictions]
    batch = make_tokenizer()(texts, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        shares = model.eval()(**batch).logits.softmax(-1)
    for row, probabilities in zip(predictions, shares, strict=True):
        assert probabilities.max().item() == pytest.approx(row["probability"], abs=1e-5)
        assert config.id2label[int(probabilities.argmax())] == row["predicted"]


def test_the_head_is_fp32_under_a_model_in_bf16(home: Home) -> None:
    job, verdict = run(home, dtype="bfloat16")
    assert verdict.classification.models.tuned.accuracy.value > 0.9
    shares = {row["probability"] for row in table(job)}
    assert any(share != float(torch.tensor(share).bfloat16()) for share in shares)


def test_batches_are_not_of_one_length(home: Home, monkeypatch: Any) -> None:
    """Labels that hang on length would come in batches of one class."""
    rows: list[Any] = []
    for i in range(240):
        text = "short" if i % 2 else "a text that is as long as a dozen of the others " + str(i)
        rows.append([{"role": "user", "content": text}, {"role": "assistant", "content": "?"}])
    write_rows(home, "rows", rows, labels=["b" if i % 2 else "a" for i in range(240)])
    seen: list[set[int]] = []
    collate = ClassObjective.collate

    def collated(self: ClassObjective, *arguments: Any) -> Any:
        batch = collate(self, *arguments)
        seen.append(set(batch.targets.tolist()))
        return batch

    monkeypatch.setattr(ClassObjective, "collate", collated)
    run(home, num_train_epochs=1, per_device_eval_batch_size=100, evaluations=1)
    assert len(seen) > 8
    assert all(classes == {0, 1} for classes in seen[:8])


def test_a_data_set_without_labels_names_the_field(home: Home) -> None:
    write_rows(home, "rows", conversations(60))
    with pytest.raises(ConfigError, match="has no labels") as caught:
        run(home)
    assert caught.value.field == "task"
    with pytest.raises(ConfigError, match="has no labels"):
        ask(home, task="classification")


def test_one_class_is_nothing_to_tell_apart(home: Home) -> None:
    rows, _ = labelled(60)
    write_rows(home, "rows", rows, labels=["cold"] * 60)
    with pytest.raises(DataError, match="one class only, 'cold'; at least two are needed") as caught:
        ask(home, task="classification")
    assert caught.value.field == "dataset"


def test_a_label_that_training_never_saw_is_wrong_and_has_no_loss(home: Home) -> None:
    """The first held-out rows get a label of their own; those without one are left out."""
    job, _ = run(home, "first", num_train_epochs=1)
    sides = pq.read_table(job.dir.split).to_pylist()
    test = [row["row_id"] for row in sides if row["split"] == "test"]
    rows, labels = labelled()
    labels[test[0]] = labels[test[1]] = "odd"
    labels[test[2]] = None
    write_rows(home, "rows", rows, labels=labels)
    preview = ask(home, task="classification")
    assert preview.classes.unseen == {"odd": 2}
    assert preview.classes.unlabelled == 1
    assert any("a label that no training row has (odd)" in p.message for p in preview.problems)
    job, verdict = run(home)
    classification = verdict.classification
    assert classification.unseen == 2
    assert classification.models.tuned.n == len(test) - 1
    losses = {row["row_id"]: row for row in pq.read_table(job.dir.row_losses).to_pylist()}
    assert [losses[i]["tokens"] for i in test[:2]] == [0, 0]
    assert [losses[i]["tuned_correct"] for i in test[:2]] == [0, 0]
    assert verdict.gain.n == len(test) - 3
    assert test[2] not in losses
    odd = next(row for row in classification.models.tuned.classes if row.label == "odd")
    assert (odd.n, odd.recall.value) == (2, 0)
    assert "2 rows have a label that is not in the training data" in " ".join(verdict.sentences)
    alerts = " ".join(alert["message"] for alert in events(job, "alert"))
    assert "2 held-out rows have a label that no training row has (odd)" in alerts
    assert "1 row without a label left out" in alerts


def test_the_preview_counts_what_training_finds(home: Home) -> None:
    answer = ask(home, row=1, task="classification")
    assert answer.rows == {"train": 140, "validation": 50, "test": 50}
    assert sum(row[1] for row in answer.classes.rows) == 140
    assert answer.classes.count == 3
    assert answer.row["label"] in WORDS
    assert "".join(token["text"] for token in answer.row["tokens"]).endswith(tuple("0123456"))
    assert not any(token["trained"] for token in answer.row["tokens"])
    assert model_gib(answer) < model_gib(ask(home, row=1))
    assert answer.config["learning_rate"] == 2e-4
    job, _ = run(home, num_train_epochs=1, max_length=None)
    assert facts(job)["trainable_parameters"] == answer.trainable_parameters
    assert facts(job)["total_parameters"] == answer.total_parameters
    assert facts(job)["tokens_per_epoch"] == answer.tokens_per_epoch


def test_rare_and_frequent_classes_are_warned_of(home: Home) -> None:
    rows, _ = labelled()
    write_rows(home, "rows", rows, labels=["cold" if i > 3 else "warm" for i in range(240)])
    problems = " ".join(problem.message for problem in ask(home, task="classification").problems)
    assert "of 2 classes have under 5 training rows (warm: " in problems
    assert "of the training rows are of one class, cold" in problems


def test_labels_as_text_score_as_whole_answers_do() -> None:
    """Labels in a tree give what each label after each whole prompt gives."""
    model, tokenizer = make_model(3), make_tokenizer()
    rows, _ = labelled(12)
    rows[3][0]["content"] *= 3
    questions = answer_likelihood.build_label_questions(
        tokenizer, np.arange(12), rows, ["a", "snowy day", "rain"], 256
    )
    assert questions is not None
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert all(label[-1] == closing for label in questions.labels)
    labels = [questions.labels] * 12
    branched = np.stack(
        answer_likelihood.score_branches(model, questions.prompts, labels, torch.device("cpu"))
    )
    whole = answer_likelihood.score_one_by_one(
        model, questions.prompts, labels, torch.device("cpu"), batch_size=8
    )
    assert branched == pytest.approx(np.stack(whole), abs=1e-4)
    ids = np.array(questions.prompts[3] + questions.labels[1], np.int32)
    trained = np.arange(len(ids)) >= len(questions.prompts[3])
    alone = TokenRows(np.zeros(1, np.int64), np.array([0, len(ids)]), ids, trained, np.zeros(1, np.uint8))
    loss = compute_row_losses(model, alone, batch_size=1, device="cpu").loss_sum[0]
    assert branched[3, 1] == pytest.approx(-loss, abs=1e-4)
    scores = answer_likelihood.score_labels(model, questions, torch.device("cpu"))
    assert np.exp(scores).sum(axis=1) == pytest.approx(np.ones(12))


def test_instruction_tuning_on_labels_is_a_classifier_too(home: Home) -> None:
    """So that it stands in the same columns as a head."""
    job, verdict = run(home, task="sft", method="full", learning_rate=1e-2, num_train_epochs=12)
    by_model = verdict.classification.models
    assert by_model.majority
    assert by_model.tuned.accuracy.value > by_model.prompted.accuracy.value
    assert verdict.sentences[0].startswith("As a classifier, by the likeliest label: ")
    assert verdict.gain.unit == "nats a token"
    rows = table(job)
    assert np.mean([r["label"] == r["predicted"] for r in rows]) == by_model.tuned.accuracy.value
    assert np.mean([r["label"] == r["prompted"] for r in rows]) == by_model.prompted.accuracy.value


def test_many_labels_are_asked_of_some_rows_and_n_says_so(home: Home, monkeypatch: Any) -> None:
    monkeypatch.setattr(answer_likelihood, "MIN_ROWS", 10)
    monkeypatch.setitem(answer_likelihood.BUDGET, "cpu", 1)
    _, verdict = run(home, num_train_epochs=1)
    classification = verdict.classification
    assert classification.models.prompted.n == classification.over_prompted.n == 10
    assert classification.models.tuned.n == 50
    monkeypatch.setattr(answer_likelihood, "MAX_LABELS", 2)
    _, verdict = run(home, "none", num_train_epochs=1)
    assert verdict.classification.models.prompted is None


def test_a_data_set_whose_answers_are_no_labels_has_no_classes(home: Home) -> None:
    rows = conversations(60)
    write_rows(home, "rows", rows, labels=["even" if i % 2 else "odd" for i in range(60)])
    _, verdict = run(home, task="sft", num_train_epochs=1)
    assert verdict.classification is None
