"""The check of the mask catches each way in which a mask can be wrong, and lets a right one pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.models.tokenization.rendering import render
from engine.models.tokenization.tokenized_rows import MAX_CHECKED_ROWS, MaskCheckCounts, check_masks
from engine.training.preview import preflight
from store.core.model_folders import TEMPLATES
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_tokenizer
from tests.unit.data.test_render import COUNTS_TURNS, DROPS_REASONING
from tests.unit.verdicts.test_problems import FACTS

CHATS = conversations(30)


@pytest.mark.parametrize("template", [*TEMPLATES.values(), DROPS_REASONING])
def test_a_right_mask_passes_under_every_template(template: str) -> None:
    tokenizer = make_tokenizer(template)
    rows = render(tokenizer, range(30), CHATS)
    checks = check_masks(tokenizer, CHATS, rows)
    assert (checks.counted, checks.unlocated, checks.leaking, checks.missed) == (30, 0, 0, 0)


def test_loss_on_prompts_is_seen() -> None:
    tokenizer = make_tokenizer()
    rows = render(tokenizer, range(30), CHATS, completion_only=False)
    assert check_masks(tokenizer, CHATS, rows).leaking == 30
    rendered = render(tokenizer, range(30), CHATS)
    rendered.trained[8] = True  # a token of the first prompt alone
    assert check_masks(tokenizer, CHATS, rendered).leaking == 1


def test_an_answer_that_is_not_trained_and_an_end_that_is_not_trained_are_seen() -> None:
    tokenizer = make_tokenizer()
    rows = render(tokenizer, range(30), CHATS)
    last = np.flatnonzero(rows.trained)[-1]
    rows.trained[last] = False
    assert check_masks(tokenizer, CHATS, rows) == MaskCheckCounts(30, 0, 0, 0, 1)
    rows.trained[last - 3 : last] = False
    assert check_masks(tokenizer, CHATS, rows).missed == 1


def test_a_template_that_does_not_tell_answers_apart_is_seen() -> None:
    tokenizer = make_tokenizer(COUNTS_TURNS)
    assert check_masks(tokenizer, CHATS, render(tokenizer, range(30), CHATS)).unlocated == 30


def test_only_so_many_rows_are_looked_at() -> None:
    chats = conversations(MAX_CHECKED_ROWS + 50)
    tokenizer = make_tokenizer()
    assert (
        check_masks(tokenizer, chats, render(tokenizer, range(len(chats)), chats)).counted == MAX_CHECKED_ROWS
    )


@pytest.mark.parametrize(
    "checks",
    [
        MaskCheckCounts(100, 11, 0, 0, 0),
        MaskCheckCounts(100, 0, 1, 0, 0),
        MaskCheckCounts(100, 0, 0, 11, 0),
        MaskCheckCounts(100, 0, 0, 0, 51),
    ],
)
def test_the_gate_refuses_and_opens_with_a_reason(checks: MaskCheckCounts) -> None:
    reported_problems = preflight.check_run(replace(FACTS, checks=checks))
    assert [(p.level, p.field) for p in reported_problems] == [("error", "gate_override")]
    config = TrainConfig.parse(FACTS.config.model_dump() | {"gate_override": "We study it."})
    reported_problems = preflight.check_run(replace(FACTS, checks=checks, config=config))
    assert [(p.level, p.field) for p in reported_problems] == [("warning", "gate_override")]


def test_loss_on_prompts_is_fine_where_it_was_asked_for() -> None:
    config = TrainConfig.parse(FACTS.config.model_dump() | {"completion_only_loss": False})
    assert preflight.check_run(replace(FACTS, checks=MaskCheckCounts(100, 0, 100, 0, 0), config=config)) == []
