"""A run without fault has no problem; `FACTS` are those of such a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.models.tokenization.tokenized_rows import MaskCheckCounts
from engine.training.preview import preflight
from store.training.train_config import TrainConfig

FACTS = preflight.RunFacts(
    config=TrainConfig(dataset="d").resolved(2_000),
    kind="chat",
    model_type="llama",
    device="cpu",
    fast_bf16=True,
    own_template=True,
    rows={"train": 2_000, "validation": 200, "test": 200},
    leaks={"exact": 0, "near": 0, "same_prompt": 0, "checked_near": True},
    counted=2_000,
    truncated=0,
    lost_tokens=0,
    reasons={},
    unjudged=False,
    checks=MaskCheckCounts(200, 0, 0, 0, 0),
    max_length=128,
    positions=2_048,
    steps=250,
    memory_low=1.0,
    memory_high=2.0,
    available=8.0,
    device_total=16.0,
)


def test_a_run_without_fault_has_no_problem() -> None:
    assert preflight.check_run(FACTS) == []


def test_held_out_rows_that_are_trained_on_are_warned_of() -> None:
    leaks = {"exact": 3, "near": 2, "same_prompt": None, "checked_near": True}
    reported_problems = preflight.check_run(replace(FACTS, leaks=leaks))
    assert [problem.level for problem in reported_problems] == ["warning", "warning"]
    assert reported_problems[0].message.startswith("Leak: 3 of 400 held-out rows are in the training")
    assert reported_problems[1].message.startswith("Leak: 2 of 400 held-out rows are nearly the same")
    reported_problems = preflight.check_run(
        replace(FACTS, leaks={**leaks, "exact": 0, "near": 0, "same_prompt": 4})
    )
    assert len(reported_problems) == 1
    assert "4 of 400 held-out rows are in training with another answer" in reported_problems[0].message


def test_a_leak_inside_parts_that_the_file_fixed_names_that_and_no_duplicates() -> None:
    leaks = {"exact": 3, "near": 1, "same_prompt": 2, "checked_near": True}
    reported_problems = preflight.check_run(replace(FACTS, leaks=leaks, split_by="given"))
    assert len(reported_problems) == 3
    for leak in reported_problems:
        assert "The split comes from the file" in leak.message
        assert "split at random" in (leak.fix or "")
        assert "duplicate" not in f"{leak.message} {leak.fix}"


def test_a_combination_that_can_not_work_is_an_error_at_its_field() -> None:
    config = TrainConfig(dataset="d", method="prefix_tuning", gradient_checkpointing=True).resolved(1_000)
    errors = [p for p in preflight.check_run(replace(FACTS, config=config)) if p.level == "error"]
    assert [p.field for p in errors] == ["gradient_checkpointing"]


def test_fields_that_the_method_does_not_read_are_named() -> None:
    config = TrainConfig(dataset="d", method="full", r=8, use_dora=True).resolved(1_000)
    messages = [p.message for p in preflight.check_run(replace(FACTS, config=config))]
    assert "Full fine-tuning does not use r, use_dora." in messages


def _warned(**fields: Any) -> list[tuple[str, str]]:
    config = TrainConfig(dataset="d", **fields).resolved(2_000)
    return [(p.field, p.message) for p in preflight.check_run(replace(FACTS, config=config))]


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"learning_rate": 0.1}, ("learning_rate", "often diverges or forgets")),
        ({"learning_rate": 1e-7}, ("learning_rate", "learns next to nothing")),
        ({"learning_rate": 2e-3, "task": "dpo"}, ("learning_rate", "1e-06 to 0.0002")),
        ({"r": 1}, ("r", "leaves little room to learn")),
        ({"r": 512}, ("r", "no quality")),
        (
            {"per_device_train_batch_size": 1},
            ("gradient_accumulation_steps", "2 rows, outside the usual range of 8 to 64"),
        ),
        ({"per_device_train_batch_size": 64}, ("gradient_accumulation_steps", "each learns little more")),
        ({"num_train_epochs": 5}, ("num_train_epochs", "5 epochs over 2,000 rows are more than the 4")),
    ],
)
def test_what_is_not_known_to_work_is_warned_of(fields: dict[str, Any], warned: tuple[str, str]) -> None:
    [(field, message)] = _warned(**fields)
    assert field == warned[0]
    assert warned[1] in message


@pytest.mark.parametrize(
    "fields",
    [
        {"r": 2}, {"r": 256}, {"num_train_epochs": 4}, {"num_train_epochs": 50, "max_steps": 100},
        {"per_device_train_batch_size": 4}, {"per_device_train_batch_size": 32},
        {"method": "vera", "r": 512}, {"learning_rate": 1e-5}, {"learning_rate": 2e-3},
    ],
)  # fmt: skip
def test_what_is_known_to_work_is_not(fields: dict[str, Any]) -> None:
    assert _warned(**fields) == []


def test_memory_that_does_not_fit_names_what_helps_this_run() -> None:
    """Where micro-batches are dealt by tokens, a smaller size in rows changes nothing."""
    tight = replace(FACTS, available=1.5)
    (padded,) = preflight.check_run(tight)
    assert padded.field == "per_device_train_batch_size"
    assert "per_device_train_batch_size to" in padded.fix
    (packed,) = preflight.check_run(replace(tight, packed=True))
    assert packed.field == "gradient_checkpointing"
    assert "per_device_train_batch_size" not in packed.fix
    config = FACTS.config.model_copy(update={"gradient_checkpointing": True})
    (left,) = preflight.check_run(replace(tight, packed=True, config=config))
    assert (left.field, left.level) == ("max_length", "warning")


def test_canaries_are_warned_of() -> None:
    config = TrainConfig(dataset="d", canaries=5).resolved(2_000)
    (problem,) = preflight.check_run(replace(FACTS, config=config, rows=FACTS.rows | {"train": 2_105}))
    assert (problem.level, problem.field) == ("warning", "canaries")
    assert "15 made-up secrets, 105 rows in total in addition to the 2,000 of the data set" in problem.message
