"""Difficulty of answers against a loss worked out token by token on a model of two layers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.data.signals import difficulty_signals
from engine.worker.job import JobCancelled, WorkerJob
from store.core.home import Home
from store.data.config import ProfileConfig
from tests.tiny import conversations, make_tokenizer, write_model, write_rows
from tests.unit.data_job import make_job, silent


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path).create()
    write_model(home.models / "tiny")
    return home


def measured(home: Home, progress: Any = silent, **config: Any) -> Any:
    job: WorkerJob = make_job(home, "profile", {})
    asked = ProfileConfig(dataset="rows", group="difficulty", model="tiny", **config)
    return difficulty_signals.compute(job, asked, home.rows("rows"), progress)


def by_hand(model: Any, before: str, answer: str) -> float:
    """Nats a token of `answer` after `before`."""
    tokenizer = make_tokenizer()
    first, rest = (tokenizer(text, add_special_tokens=False).input_ids for text in (before, answer))
    with torch.inference_mode():
        logits = model(torch.tensor([first + rest])).logits[0].log_softmax(-1)
    return -sum(float(logits[len(first) + i - 1, token]) for i, token in enumerate(rest)) / len(rest)


def test_losses_and_ratio_are_those_of_a_hand_computation(home: Home, monkeypatch: Any) -> None:
    from engine.models import loading
    from store.training.train_config import TrainConfig

    monkeypatch.setattr(difficulty_signals, "choose_dtype", lambda *_: torch.float32)
    rows = conversations(6)
    rows[3] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "an earlier answer"},
        *rows[3],
    ]
    write_rows(home, "rows", rows)
    table, figures = measured(home)
    source = loading.resolve_model("tiny", home)
    model = loading.load_model(TrainConfig(model="tiny", dataset="rows"), source, "cpu", torch.float32).eval()
    for i in (0, 3):
        prompt = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in rows[i][:-1])
        answer = rows[i][-1]["content"] + "<|im_end|>"
        given = by_hand(model, prompt + "<|im_start|>assistant\n", answer)
        alone = by_hand(model, "<|im_start|>assistant\n", answer)
        assert table["answer_loss"][i].as_py() == pytest.approx(given, abs=1e-4)
        assert table["answer_loss_alone"][i].as_py() == pytest.approx(alone, abs=1e-4)
        assert table["ifd"][i].as_py() == pytest.approx(math.exp(given - alone), abs=1e-4)
    assert figures["hard"]["n"] == 6
    assert figures["hard"]["low"] <= figures["hard"]["value"] <= figures["hard"]["high"]
    assert figures["unmeasured"] == {"value": 0, "n": 6, "unit": "rows"}


def test_the_same_answer_tokens_are_judged_in_both_also_where_they_are_cut() -> None:
    rows = [
        *conversations(3),
        [{"role": "user", "content": "x" * 300}, {"role": "assistant", "content": "y"}],
    ]
    given, alone = difficulty_signals.build_answer_rows(make_tokenizer(), np.arange(4), rows, 45)
    assert given.row_ids.tolist() == alone.row_ids.tolist() == [0, 1, 2]  # no token of row 3's answer is left
    assert given.lengths.max() <= 45
    for i in range(3):
        (ids, marked), (ids_alone, marked_alone) = given.row(i), alone.row(i)
        assert ids[marked].tolist() == ids_alone[marked_alone].tolist()
        assert marked.sum() > 0


def test_a_sample_is_measured_and_the_rest_is_null(home: Home) -> None:
    write_rows(home, "rows", conversations(20))
    table, _ = measured(home, sample=5)
    assert table["row_id"].to_pylist() == list(range(20))
    assert table["ifd"].null_count == table["answer_loss"].null_count == 15
    again, _ = measured(home, sample=5)
    assert table.equals(again)


def test_it_tells_how_far_it_is_and_can_be_stopped(home: Home) -> None:
    write_rows(home, "rows", conversations(20))
    progress: list[tuple[float, float]] = []
    measured(home, lambda done, total, *_: progress.append((done, total)))
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1] == (40, 40)

    def stop(done: float, *_: Any) -> None:
        if done > 8:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        measured(home, stop)
