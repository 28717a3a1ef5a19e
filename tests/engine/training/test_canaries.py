"""Canaries on a two-layer model: planted among training rows alone, the same on resume, and found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.data import canaries
from engine.evaluation.verdicts.extraction import UNSEEN_EXPOSURE
from engine.training import run_verdict, train_job
from engine.training.training_loop import TrainingLoop
from engine.worker.job import JobCancelled
from store.core.errors import ConfigError
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.engine.job_events import QUICK, cancel_when, facts, series
from tests.tiny import conversations, make_job, make_tokenizer, write_model, write_rows

CONFIG = TrainConfig(dataset="rows", canaries=2)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(canaries, "REFERENCE", 63)
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(60))
    return home


def test_canaries_are_planted_as_often_as_they_say() -> None:
    tokenizer = make_tokenizer()
    rows = canaries.tokenise_canaries(tokenizer, CONFIG, "chat")
    whole = canaries.plant(tokenizer, CONFIG, "chat", rows.take(np.arange(0)))
    assert len(whole) == canaries.count_canaries(CONFIG) == 42
    ids, counts = np.unique(whole.row_ids, return_counts=True)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {
        -1: 1,
        -2: 1,
        -3: 4,
        -4: 4,
        -5: 16,
        -6: 16,
    }
    assert len(rows) == 8 + canaries.REFERENCE
    assert len(set(canaries.generate_canaries(CONFIG))) == len(rows)
    again = canaries.generate_canaries(CONFIG)
    assert again == canaries.generate_canaries(CONFIG)
    assert again != canaries.generate_canaries(CONFIG.model_copy(update={"seed": 1}))
    text = tokenizer.decode(whole.row(41)[0])
    assert all(part in text for part in again[5])


def test_a_text_data_set_gets_texts() -> None:
    rows = canaries.tokenise_canaries(make_tokenizer(), CONFIG, "text")
    question, answer = canaries.generate_canaries(CONFIG)[0]
    assert make_tokenizer().decode(rows.row(0)[0], skip_special_tokens=True) == f"{question} {answer}"


def test_what_was_planted_sticks_and_what_was_not_does_not(home: Home) -> None:
    fields = QUICK | {"learning_rate": 1e-2, "num_train_epochs": 12, "method": "full", "canaries": 4}
    job = make_job(home, "run", early_stopping=False, load_best_model_at_end=False, **fields)
    canary_verdict = train_job.run(job)["verdict"].canaries
    exposure = {part.insertions: part.exposure.value for part in canary_verdict.groups}
    assert exposure[16] > exposure[1] + 1
    assert exposure[16] > 2 * UNSEEN_EXPOSURE
    assert abs(exposure[0] - UNSEEN_EXPOSURE) < 2
    assert len(canary_verdict.listed) == 16
    run_facts = facts(job)
    assert run_facts["rows"]["train"] == 30 + 4 * 21
    assert run_facts["canaries"]["rows"] == 4 * 21
    assert {row["times"] for row in run_facts["canaries"]["planted"]} == {1, 4, 16}


def test_a_resumed_run_has_the_same(home: Home) -> None:
    fields = QUICK | {"canaries": 1}
    whole = make_job(home, "whole", **fields)
    expected = train_job.run(whole)["verdict"].canaries
    job = make_job(home, "run", **fields)
    cancel_when(job, lambda event: event.get("step") == 4 and "train/loss" in event.get("values", {}))
    with pytest.raises(JobCancelled):
        train_job.run(job)
    again = make_job(home, "run", resume=True, **fields)
    assert train_job.run(again)["verdict"].canaries == expected
    assert series(again, "train/loss")[-1] == pytest.approx(series(whole, "train/loss")[-1])


def test_none_is_planted_unasked_or_measured_as_a_row_of_the_data_set(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    own = TrainingLoop.__init__

    def spy(self: TrainingLoop, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        seen.append((self.train, self.validation, self.probing.kinds))

    monkeypatch.setattr(TrainingLoop, "__init__", spy)
    train_job.run(make_job(home, "plain", **QUICK))
    train_job.run(make_job(home, "planted", canaries=1, **QUICK))
    assert (seen[0][0].row_ids >= 0).all()
    assert (seen[1][0].row_ids < 0).sum() == 21
    assert (seen[1][1].row_ids >= 0).all()


def test_a_limit_that_would_cut_the_secret_is_refused(home: Home) -> None:
    with pytest.raises(ConfigError, match="a canary has"):
        train_job.run(make_job(home, "run", canaries=1, max_length=16, **QUICK))


def test_exposures_of_the_document() -> None:
    config = CONFIG
    often = np.array(canaries.list_repeats(config))
    losses = np.where(often == 16, 0.0, 10.0) + np.arange(len(often)) * 1e-3
    document = run_verdict.compute_canary_exposure(config, losses)
    top = np.log2(canaries.REFERENCE + 1)
    assert [row.exposure for row in document.listed if row.times == 16] == [top, top]
    assert document.more.difference.value == 0  # each lies below all of the reference
