"""Rows of multiple choice under a causal model: every choice scored as an answer to the row's own prompt.

The prompt is the one that such a row is trained on, in the model's template; each choice follows it as the
answer would, and has the summed log-probability of its tokens. Answered rows may stand before it as earlier
turns of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2.exceptions import TemplateError

from engine.data.convert.read_choices import Question
from engine.forward.branches import branch_scores
from engine.probes.choice_scores import encode
from engine.rows.render import rendered

NONE = "the row is no multiple choice"
REFUSED = "the chat template refuses the row"
LONG = "prompt and choices have more tokens than the model reads"
NO_TOKEN = "a choice has no token"


@dataclass(frozen=True)
class ChoiceRow:
    """`scores`: of each option the summed log-probability, None where the row could not be asked, which
    `reason` explains."""

    options: tuple[str, ...] | None
    right: int | None
    scores: np.ndarray | None = None
    reason: str = ""


def choose(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question | None],
    examples: Mapping[int, Sequence[Question]],
    *,
    listed: bool,
    room: int | None,
    device: torch.device,
    batch_size: int,
    on_rows: Callable[[int], None] = lambda done: None,
) -> list[ChoiceRow]:
    """One for each of the questions, in their order. examples: row id -> answered questions that stand before
    it; listed: with the choices in the prompt; room: the most tokens that the model reads."""
    prompts = [_prompt(tokenizer, one, examples, listed) for one in questions]
    asked = [place for place, prompt in enumerate(prompts) if prompt is not None]
    options = [_options(questions[place]) for place in asked]
    begun, told = encode(tokenizer, [prompts[place] or "" for place in asked], options)
    faults = [_fault(prompt, some, room) for prompt, some in zip(begun, told, strict=True)]
    good = [i for i, fault in enumerate(faults) if not fault]
    scores = branch_scores(
        model,
        [begun[i] for i in good],
        [told[i] for i in good],
        device,
        batch_size=batch_size,
        on_prompts=on_rows,
    )
    found = dict(zip((asked[i] for i in good), scores, strict=True))
    why = {asked[i]: fault for i, fault in enumerate(faults) if fault}
    return [_row(one, found.get(place), why.get(place, "")) for place, one in enumerate(questions)]


def _row(question: Question | None, scores: np.ndarray | None, why: str) -> ChoiceRow:
    if question is None:
        return ChoiceRow(None, None, reason=NONE)
    reason = "" if scores is not None else why or REFUSED
    return ChoiceRow(question.choices.options, question.choices.answer, scores, reason)


def _options(question: Question | None) -> tuple[str, ...]:
    return question.choices.options if question else ()


def _prompt(
    tokenizer: Any, question: Question | None, examples: Mapping[int, Sequence[Question]], listed: bool
) -> str | None:
    """The rendered prompt; None where there is none."""
    if question is None:
        return None
    turns = question.shown if listed else question.bare
    system = [turn for turn in turns if turn["role"] == "system"]
    before: list[dict[str, str]] = []
    for example in examples.get(question.row_id, ()):
        told = example.shown if listed else example.bare
        before += [turn for turn in told if turn["role"] != "system"]
        before.append({"role": "assistant", "content": example.choices.options[example.choices.answer]})
    turns = [*system, *before, *(turn for turn in turns if turn["role"] != "system")]
    try:
        return rendered(tokenizer, turns, generation_prompt=True)
    except (TemplateError, TypeError):  # of a template that can't hold its turns
        return None


def _fault(prompt: list[int], options: list[list[int]], room: int | None) -> str:
    if not prompt or not all(options):
        return NO_TOKEN
    return LONG if room and len(prompt) + max(map(len, options)) > room else ""
