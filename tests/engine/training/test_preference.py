"""Preference tuning, whole, on a two-layer model: it learns which answer is preferred, resumes, and says no
where it must."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel

from engine.models.loading import load_tokenizer
from engine.training import train_job
from engine.worker.job import JobCancelled
from store.core.errors import ConfigError
from store.core.home import Home
from store.evaluation.verdict_schemas import Verdict
from tests.engine.asking.test_preview import ask, fields_of
from tests.engine.job_events import cancel_when, events, facts, series, weights
from tests.shapes import held_to
from tests.tiny import conversations, make_job, make_model, worse_answers, write_model, write_rows

QUICK = {
    "kind": "preference",
    "task": "dpo",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
    "learning_rate": 3e-3,
    "evaluations": 3,
    "max_new_tokens": 4,
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    rows = conversations(60)
    write_rows(home, "rows", rows, rejected=worse_answers(rows))
    return home


@pytest.mark.parametrize(("method", "epochs"), [("lora", 30), ("full", 6)])
def test_it_learns_which_answer_is_preferred(home: Home, method: str, epochs: int) -> None:
    job = make_job(home, "run", **QUICK | {"method": method, "num_train_epochs": epochs})
    job.spec["split"]["test_size"] = 0.4  # of so few pairs, enough to tell
    verdict = held_to(Verdict, train_job.run(job)["verdict"])
    losses = dict(series(job, "eval/loss"))
    assert losses[0] == pytest.approx(math.log(2), abs=1e-9)  # whatever the pairs: nothing was learned yet
    assert dict(series(job, "eval/reward_margin"))[0] == 0
    assert dict(series(job, "eval/reward_accuracy"))[0] == 0.5
    assert series(job, "train/reward_accuracy")[-1][1] > 0.9
    assert verdict.task == "dpo"
    assert verdict.state == "better"  # a rejected answer reads backwards: so few pairs show a style alone
    assert verdict.base.loss == pytest.approx(math.log(2), abs=1e-9)
    assert verdict.preference.reward_accuracy.value > 0.9
    kept = pq.read_table(job.dir.row_losses)
    assert set(kept["tokens"].to_pylist()) == {1}
    assert sum(kept["tuned_correct"].to_pylist()) / kept.num_rows > 0.9
    assert facts(job)["rows"]["train"] == sum(
        side == "train" for side in pq.read_table(job.dir.split)["split"].to_pylist()
    )
    assert pq.read_table(job.dir.predictions).num_rows == 2


def test_the_saved_adapter_gives_the_judged_margins(home: Home) -> None:
    """Loaded by peft alone, over a base model of its own."""
    job = make_job(home, "run", **QUICK)
    train_job.run(job)
    base, tokenizer = make_model(), load_tokenizer(home.models / "tiny")
    tuned = PeftModel.from_pretrained(make_model(), job.dir.model).eval()
    rows = conversations(60)
    worse = worse_answers(rows)
    judged = pq.read_table(job.dir.row_losses).to_pylist()
    for row in judged[:3]:
        margin = 0.0
        for sign, answer in ((1, rows[row["row_id"]][-1]["content"]), (-1, worse[row["row_id"]])):
            chat = [rows[row["row_id"]][0], {"role": "assistant", "content": answer}]
            margin += sign * (_logp(tuned, tokenizer, chat) - _logp(base, tokenizer, chat))
        assert row["tuned_loss"] == pytest.approx(math.log1p(math.exp(-0.1 * margin)), abs=1e-4)


def _logp(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> float:
    """Of the last answer with its closing token, by another way than the engine's."""
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = prompt + messages[-1]["content"] + "<|im_end|>"
    ids = torch.tensor([tokenizer(whole, add_special_tokens=False).input_ids])
    begin = len(tokenizer(prompt, add_special_tokens=False).input_ids)
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)
    return float(logps[0, begin - 1 : -1].gather(1, ids[0, begin:, None]).sum())


def test_resumed_equals_uninterrupted(home: Home) -> None:
    whole = make_job(home, "whole", **QUICK)
    train_job.run(whole)
    cut = make_job(home, "cut", **QUICK)
    cancel_when(cut, lambda e: e.get("step") == 4 and "train/loss" in e.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(cut)
    resumed = make_job(home, "cut", resume=True, **QUICK)
    train_job.run(resumed)
    for name in ("train/loss", "train/reward_margin", "eval/loss", "eval/chosen_logp"):
        assert series(resumed, name) == series(whole, name), name
    assert weights(resumed) == weights(whole)
    assert pq.read_table(resumed.dir.references) == pq.read_table(whole.dir.references)


def test_pairs_that_teach_nothing_are_counted(home: Home) -> None:
    rows = conversations(60)
    worse = worse_answers(rows)
    for index in range(0, 60, 6):
        worse[index] = rows[index][-1]["content"]
    write_rows(home, "rows", rows, rejected=worse)
    job = make_job(home, "run", **QUICK | {"max_steps": 1, "evaluations": 1})
    train_job.run(job)
    assert facts(job)["untrained_rows"] > 0
    assert any("are the same" in alert["message"] for alert in events(job, "alert"))
    assert facts(job)["untrained_rows"] == ask(home, task="dpo", max_eval_rows=500).untrained_rows


def test_a_data_set_without_rejected_answers_is_refused(home: Home) -> None:
    write_rows(home, "rows", conversations(60))
    for refused in (
        lambda: train_job.run(make_job(home, "run", **QUICK | {"kind": "chat"})),
        lambda: ask(home, task="dpo"),
    ):
        with pytest.raises(ConfigError, match="no rejected answer") as caught:
            refused()
        assert caught.value.field == "task"


def test_the_preview_counts_both_answers_and_shows_them(home: Home) -> None:
    rows = [
        [{"role": "user", "content": f"Number {i}"}, {"role": "assistant", "content": "a" * 20}]
        for i in range(400)
    ]
    write_rows(home, "rows", rows, rejected=["b" * 40] * 400)
    pairs, alone = (ask(home, row=3, probes=False, **more) for more in ({"task": "dpo"}, {}))
    assert pairs.rows == alone.rows
    assert pairs.config["learning_rate"] == pytest.approx(alone.config["learning_rate"] / 10)
    assert pairs.trained_tokens_per_epoch == pairs.rows["train"] * (21 + 41)  # the closing tokens too
    assert pairs.tokens_per_epoch == 2 * alone.tokens_per_epoch + 20 * pairs.rows["train"]
    assert pairs.memory.parts["activations"] > alone.memory.parts["activations"]
    assert pairs.time.seconds > alone.time.seconds
    assert pairs.problems == []
    trained_texts = [
        "".join(t["text"] for t in part["tokens"] if t["trained"])
        for part in (pairs.row, pairs.row["rejected"])
    ]
    assert trained_texts == ["a" * 20 + "<|im_end|>", "b" * 40 + "<|im_end|>"]
    cut = ask(home, task="dpo", max_length=60)
    assert cut.truncated_rows == cut.counted_rows
    assert fields_of(cut, "warning") == {"max_length"}
    assert fields_of(ask(home, task="dpo", label_smoothing=0.1), "error") == {"label_smoothing"}
