"""How model and export read the texts of a check: in one order, with what they have in common passed once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from engine.export.parity.exchange import (
    ParityQuestions,
    ParityTexts,
    QuestionText,
    compute_loss,
    group_texts,
    read_separately,
    read_together,
)
from engine.models.forward.packed_forward import PackedForward
from tests.engine.training.test_packed import base, stirred
from tests.unit.store_samples import row_of

DRAWN, LONGEST = 7, 2


def texts(prompts: list[list[int]], answers: list[list[int]]) -> ParityTexts:
    pairs = list(zip(prompts, answers, strict=True))
    return ParityTexts(
        ids=[[*prompt, *answer] for prompt, answer in pairs],
        places=[list(range(len(prompt), len(prompt) + len(answer))) for prompt, answer in pairs],
    )


def questions() -> ParityQuestions:
    """Prompts that begin alike; row 3 has no text of its own, answer 5 no token, row 6 another prompt, and of
    row 1 the first token is not predicted."""
    random = np.random.default_rng(0)

    def ids(length: int) -> list[int]:
        return random.integers(3, 200, length).tolist()

    shared = ids(20)
    prompts = [shared + ids(1 + i % 4) for i in range(DRAWN + LONGEST)]
    answers = [ids(n) for n in (2, 5, 1, 3, 4, 0, 2, 6, 1)]
    rows_of = [0, 1, 2, 4, 5, 6]
    rows = texts([prompts[i] for i in rows_of], [answers[0], *(ids(n) for n in (4, 2, 3, 5, 2))])
    rows.ids[5][0] += 1
    rows.places[1] = rows.places[1][1:]
    joined = ids(90)
    return row_of(
        ParityQuestions,
        drawn=DRAWN,
        answers=texts(prompts, answers),
        rows=rows,
        rows_of=rows_of,
        joined=ParityTexts(ids=[joined], places=[list(range(80, 90))]),
    )


def alone(model: Any) -> Any:
    def logits(ids: list[int], places: list[int]) -> np.ndarray:
        with torch.inference_mode():
            out: np.ndarray = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        return out[[place - 1 for place in places]]

    return logits


def test_each_text_is_read_once_drawn_prompts_first_in_an_order_of_chance() -> None:
    asked = questions()
    groups = group_texts(asked)
    assert len(groups) == DRAWN + LONGEST + 1
    of_answers = [text.number for group in groups for text in group if text.kind == "answers"]
    assert sorted(of_answers[: DRAWN - 1]) == [0, 1, 2, 3, 4, 6]  # 5 is empty
    assert of_answers[: DRAWN - 1] != [0, 1, 2, 3, 4, 6]
    assert of_answers[DRAWN - 1 :] == [7, 8]
    for group in groups[:DRAWN]:
        prompts = [n if kind == "answers" else asked.rows_of[n] for kind, n, _, _ in group]
        assert len(set(prompts)) == 1
    assert sorted(text.number for group in groups for text in group if text.kind == "rows") == [*range(6)]
    assert [text.kind for text in groups[-1]] == ["joined"]


def test_together_they_read_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model, groups, passed = base("llama").eval(), group_texts(questions()), []
    own = PackedForward.logits

    def counted(self: PackedForward, rows: Any) -> Iterator[torch.Tensor]:
        passed.extend(row.prompt for row in rows)
        return own(self, rows)

    monkeypatch.setattr(PackedForward, "logits", counted)
    pairs = zip(
        read_together(model, alone(model), groups), read_separately(alone(model), groups), strict=True
    )
    for together, apart in pairs:
        assert len(together) == len(apart)
        for mine, theirs in zip(together, apart, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4)
    assert len(passed) == DRAWN + LONGEST - 1  # not the joined text, nor the row of another prompt


def test_equal_models_read_equally_to_the_last_bit() -> None:
    first, second = base("llama").eval(), base("llama").eval()
    groups = group_texts(questions())
    pairs = zip(*(read_together(model, alone(model), groups) for model in (first, second)), strict=True)
    assert all(np.array_equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


def test_an_architecture_that_is_not_packed_reads_each_text_alone() -> None:
    torch.manual_seed(0)
    model = stirred(GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4))).eval()
    groups = group_texts(questions())
    pairs = zip(
        read_together(model, alone(model), groups), read_separately(alone(model), groups), strict=True
    )
    assert all(np.array_equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


def test_the_loss_is_that_of_the_predicted_tokens() -> None:
    logs = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    text = QuestionText("rows", 0, [1, 1, 2], [1, 2])
    assert compute_loss(text, logs) == pytest.approx(-np.log(0.25) - np.log(0.7))
