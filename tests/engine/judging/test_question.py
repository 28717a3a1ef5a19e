"""What of a run's gain is the question, from the tokens that are swapped to the verdict."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.evaluation.derived_prompts import SwappedPrompts, swap_prompts
from engine.models.tokenization.rendering import render
from engine.training import train_job
from engine.training.reference_probes import ReferenceProbes
from engine.training.training_run import TrainingRun
from store.core.home import Home
from store.training.train_config import TrainConfig
from tests.tiny import make_job, make_tokenizer, worse_answers, write_model, write_rows

ANSWERS = ("red", "green", "blue", "white", "pink", "black", "brown", "grey")
LEARNING = {
    "method": "full", "learning_rate": 3e-3, "num_train_epochs": 12, "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1, "evaluations": 2, "early_stopping": False, "sample_prompts": 0,
    "probes": True,
}  # fmt: skip


def labelled(count: int, *, shuffled: bool = False) -> list[Any]:
    """Prompts that begin with a letter, which says the answer; shuffled: with the answers of other rows."""
    answers = [ANSWERS[i % 8] for i in range(count)]
    if shuffled:
        random.Random(1).shuffle(answers)
    return [
        [
            {"role": "user", "content": f"{'abcdefgh'[i % 8] * (1 + i % 3)} {i}"},
            {"role": "assistant", "content": answer},
        ]
        for i, answer in enumerate(answers)
    ]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Without the general questions, which are long where bytes are tokens."""
    monkeypatch.setattr(ReferenceProbes, "general", [])
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    return home


def verdict_of(home: Home, rows: list[Any], name: str = "run", **fields: Any) -> Any:
    rejected = fields.pop("rejected", None)
    if not home.rows("rows").exists():
        write_rows(home, "rows", rows, rejected=rejected)
    job = make_job(home, name, kind=fields.pop("kind", "chat"), **(LEARNING | fields))
    job.spec["split"]["test_size"] = 0.25
    return train_job.run(job)["verdict"]


def test_true_labels_are_the_question_and_base_answers_are_remembered(home: Home) -> None:
    verdict = verdict_of(home, labelled(240))
    parts = verdict.parts
    assert verdict.state == "learned"
    assert parts.question.low > 0.1
    assert parts.total.value == pytest.approx(verdict.gain.value, rel=1e-5)
    assert parts.total.value == pytest.approx(parts.shape.value + parts.question.value)
    assert parts.pairs == 3 * parts.question.n
    (kept,) = (home.cache / "base_probes").iterdir()
    before = kept.stat().st_mtime_ns
    again = verdict_of(home, [], "again", num_train_epochs=1)
    assert [file.stat().st_mtime_ns for file in (home.cache / "base_probes").iterdir()] == [before]
    assert again.parts.question.n == parts.question.n


def test_shuffled_labels_are_the_shape_of_the_answers_alone(home: Home) -> None:
    verdict = verdict_of(home, labelled(240, shuffled=True))
    assert verdict.gain.low > 3
    assert verdict.state == "shape"
    assert verdict.headline.startswith("Learned the shape of the answers, not what the question asks:")
    own = verdict.parts.question
    assert own.low <= 0 <= own.high < 0.1


@pytest.mark.parametrize("shuffled", [True, False])
def test_the_question_is_measured_with_probes_off(home: Home, shuffled: bool) -> None:
    verdict = verdict_of(home, labelled(240, shuffled=shuffled), probes=False)
    assert verdict.state == ("shape" if shuffled else "learned")
    assert verdict.parts.question.n == 60


def test_a_gain_on_prompts_that_are_trained_is_not_called_learned(home: Home) -> None:
    verdict = verdict_of(home, labelled(120), num_train_epochs=4, completion_only_loss=False)
    assert (verdict.parts, verdict.state) == (None, "better")
    assert "prompts were trained on like answers" in " ".join(verdict.sentences)


@pytest.mark.parametrize("constant", [True, False])
def test_rows_without_a_question_say_nothing_of_it(home: Home, constant: bool) -> None:
    texts = [f"Line {i} of a text." for i in range(60)]
    messages = [
        [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": text}] for text in texts
    ]
    rows, kind = (messages, "chat") if constant else (texts, "text")
    verdict = verdict_of(home, rows, kind=kind, num_train_epochs=1)
    assert verdict.parts is None
    assert "question" not in " ".join(verdict.sentences)


def test_pairs_have_parts_too(home: Home) -> None:
    rows = labelled(80)
    fields = {"task": "dpo", "learning_rate": 1e-3, "num_train_epochs": 2, "method": "lora"}
    verdict = verdict_of(home, rows, rejected=worse_answers(rows), **fields)
    parts, margin = verdict.parts, verdict.preference.reward_margin
    assert parts.total.value == pytest.approx(margin.value / 0.1, rel=1e-4)  # beta
    assert parts.shape.low > 0  # backwards is worse after any prompt


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({}, (400, 1_000)),  # three answers for each of at most 200
        ({"kind": "text"}, (100, 400)),
        ({"completion_only_loss": False}, (100, 400)),
        ({"task": "classification"}, (100, 400)),
    ],
)
def test_the_time_left_counts_answers_after_other_prompts(
    home: Home, fields: dict[str, Any], rows: tuple[int, int]
) -> None:
    job = make_job(home, "run", **(LEARNING | fields))
    run = TrainingRun(job, TrainConfig.parse(job.config))
    assert (run.judged_rows(100), run.judged_rows(400)) == rows


def swapped_of(rows: list[Any], positions: int | None = None) -> tuple[Any, SwappedPrompts]:
    tokens = render(make_tokenizer(), np.arange(len(rows)), rows)
    return tokens, swap_prompts(tokens, rows, 0, positions)


def text_of(ids: np.ndarray) -> str:
    return str(make_tokenizer().decode(ids))


def conversation(name: str, turns: int, system: str = "") -> list[dict[str, str]]:
    messages = [
        message
        for turn in range(turns)
        for message in (
            {"role": "user", "content": f"ask {name}{turn}"},
            {"role": "assistant", "content": f"say {name}{turn}"},
        )
    ]
    return [{"role": "system", "content": system}, *messages] if system else messages


def test_each_turn_keeps_its_answer_and_takes_the_others_question() -> None:
    rows = [conversation(f"{n:02}", 2) for n in range(10)]
    tokens, swapped = swapped_of(rows)
    assert swapped.probe is not None
    assert swapped.dealt is not None
    asked = swapped.probe.rows
    assert (asked.trained_counts == tokens.trained_counts[swapped.dealt.answers]).all()
    for place, (answer, prompt) in enumerate(
        zip(swapped.dealt.answers.tolist(), swapped.dealt.prompts.tolist(), strict=True)
    ):
        ids, trained = asked.row(place)
        mixed = [
            {"role": role, "content": f"{verb} {row:02}{turn}"}
            for turn in range(2)
            for role, verb, row in (("user", "ask", prompt), ("assistant", "say", answer))
        ]
        own, flags = render(make_tokenizer(), [0], [mixed]).row(0)
        assert (ids == own[: len(ids)]).all()  # what follows the last answer has no effect
        assert (trained == flags[: len(trained)]).all()


def test_turns_and_system_prompts_are_kept_and_lone_ones_go_together() -> None:
    rows = [conversation(f"a{n}", 1, "Be brief.") for n in range(6)]
    rows += [conversation(f"b{n}", 2, "Be brief.") for n in range(6)]
    rows += [conversation(f"c{n}", 1, f"Context {n}") for n in range(6)]
    rows += [conversation("d", 5)]
    _, swapped = swapped_of(rows)
    assert swapped.dealt is not None
    assert (swapped.dealt.answers // 6 == swapped.dealt.prompts // 6).all()
    assert swapped.dealt.left_out == 1
    assert set(swapped.dealt.answers.tolist()) == set(range(18))


def test_pairs_longer_than_the_model_sees_are_left_out() -> None:
    rows = [conversation("x" * (40 if n == 3 else 2) + str(n), 1) for n in range(12)]
    tokens, swapped = swapped_of(rows, int(np.sort(tokens_of(rows))[-2]) + 4)
    assert swapped.probe is not None
    assert swapped.dealt is not None
    assert swapped.probe.rows.lengths.max() <= np.sort(tokens.lengths)[-2] + 4
    assert 3 not in swapped.dealt.prompts
    assert swapped.dealt.left_out == 1


def tokens_of(rows: list[Any]) -> np.ndarray:
    return render(make_tokenizer(), np.arange(len(rows)), rows).lengths


def test_too_few_like_rows_are_said() -> None:
    _, swapped = swapped_of([conversation("a", 1), conversation("b", 2)])
    assert swapped.why.startswith("too few held-out rows have similar prompts")
