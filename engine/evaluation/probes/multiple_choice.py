"""Multiple choice under a causal model: the log-probability of each option, and the chosen one.

Items: the chosen option is the one with the highest sum of its tokens' log-probabilities; `chosen_per_byte`
is the one with the highest sum per byte of its text. The suite uses the first rule: it separates SmolLM2-135M
from guessing by more (docs/evidence.md). Text, tokens and both rules are those of lm-evaluation-harness'
multiple_choice tasks, so the accuracies can be compared digit by digit.

Rows: every choice is scored as an answer to the row's own prompt. The prompt is the one that such a row is
trained on, in the model's template; each choice follows it like an answer, and is scored by the summed
log-probability of its tokens. Answered rows may precede it as earlier turns of the conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2.exceptions import TemplateError
from scipy.special import logsumexp

from engine.data.conversion.multiple_choice import ChoiceQuestion
from engine.evaluation.probes.choice_items import ChoiceItem, check_items, pick_options
from engine.models.forward.answer_likelihood import score_branches
from engine.models.tokenization.rendering import render_conversation
from store.core.errors import DataError
from store.core.row_schemas import Message


@dataclass(frozen=True)
class ChoiceScores:
    """Scores of items, in the given order: `scores` has the log-probabilities of each item's options."""

    items: tuple[ChoiceItem, ...]
    scores: tuple[np.ndarray, ...]

    @property
    def right(self) -> np.ndarray:
        """Index of each item's right option."""
        return np.array([item.right for item in self.items], np.int32)

    @property
    def chosen(self) -> np.ndarray:
        """Index of the option with the highest sum; the first one if tied."""
        return pick_options(self.scores)

    @property
    def chosen_per_byte(self) -> np.ndarray:
        """Index of the option with the highest sum per byte."""
        return pick_options(self.scores, [item.options for item in self.items])

    @property
    def correct(self) -> np.ndarray:
        """1 if the right option was chosen, otherwise 0."""
        scores: np.ndarray = (self.chosen == self.right).astype(np.int64)
        return scores

    @property
    def correct_per_byte(self) -> np.ndarray:
        """Like `correct`, for the choice per byte."""
        scores: np.ndarray = (self.chosen_per_byte == self.right).astype(np.int64)
        return scores

    @property
    def losses(self) -> np.ndarray:
        """Loss in nats: −log p of the right option, given that one of the options is chosen."""
        pairs = zip(self.items, self.scores, strict=True)
        return np.array([logsumexp(each) - each[item.right] for item, each in pairs], float)


@dataclass(frozen=True)
class TokenisedChoiceItems:
    """Tokenized items, reusable for every model with the same tokenizer."""

    items: tuple[ChoiceItem, ...]
    prompts: list[list[int]]
    options: list[list[list[int]]]


def tokenise_items(
    tokenizer: Any, items: Sequence[ChoiceItem], *, room: int | None = None
) -> TokenisedChoiceItems:
    """Tokenize each prompt and option. Raises DataError for an invalid item, or for one with more tokens than
    the `room` positions of the model.
    """
    check_items(items)
    bos = [tokenizer.bos_token_id]
    ahead = bos if bos[0] is not None and tokenizer("a").input_ids[:1] == bos else []
    prompts, options = encode_options(tokenizer, [i.prompt for i in items], [i.continuations for i in items])
    prompts = [ahead + prompt for prompt in prompts]
    for item, prompt, each in zip(items, prompts, options, strict=True):
        if not all(each):
            raise DataError(f"The item {item.id!r} has an option without tokens.", fix="Remove it.")
        most = len(prompt) + max(map(len, each))
        if room and most > room:
            raise DataError(
                f"The item {item.id!r} has {most} tokens; the limit of the model is {room}.",
                fix="Shorten it.",
            )
    return TokenisedChoiceItems(tuple(items), prompts, options)


def encode_options(
    tokenizer: Any, prompts: Sequence[str], continuations: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Return the tokens of each prompt, without special ones, and those of each of its continuations,
    tokenized together as one text.
    """
    flat = [*prompts]
    flat += [prompt + text for prompt, some in zip(prompts, continuations, strict=True) for text in some]
    encoded = tokenizer(flat, add_special_tokens=False).input_ids if flat else []
    rest = iter(encoded[len(prompts) :])
    begun = encoded[: len(prompts)]
    continuation_tokens = [
        [next(rest)[len(ids) :] for _ in some] for ids, some in zip(begun, continuations, strict=True)
    ]
    return begun, continuation_tokens


def score_items(
    model: Any,
    asked: TokenisedChoiceItems,
    device: str | torch.device,
    *,
    batch_size: int = 16,
    on_items: Callable[[int], None] = lambda done: None,
) -> ChoiceScores:
    """Score the items under the model in its current state, including an enabled adapter.

    `on_items(items done)` may raise to stop. The model's train/eval mode is restored.
    """
    scores = score_branches(
        model,
        asked.prompts,
        asked.options,
        torch.device(device),
        batch_size=batch_size,
        on_prompts=on_items,
    )
    return ChoiceScores(asked.items, tuple(scores))


NOT_MULTIPLE_CHOICE = "the row is not multiple choice"
TEMPLATE_REFUSED = "the chat template rejects the row"
TOO_LONG = "prompt and choices exceed the context length of the model"
NO_TOKEN = "a choice has no token"


@dataclass(frozen=True)
class ChoiceRow:
    """Result of a row. `scores`: the summed log-probability of each option, None if the row could not be
    scored, as explained by `reason`.
    """

    options: tuple[str, ...] | None
    right: int | None
    scores: np.ndarray | None = None
    reason: str = ""

    @property
    def is_tied(self) -> bool:
        """Whether several options share the highest score; the first of them counts as chosen."""
        return self.scores is not None and int((self.scores == self.scores.max()).sum()) > 1


@dataclass(frozen=True)
class ChoicePrompts:
    """How multiple-choice rows are prompted. examples: row ID -> answered questions to precede it; listed:
    with the choices in the prompt; room: the model's maximum number of tokens; batch_size: rows per batch.
    """

    examples: Mapping[int, Sequence[ChoiceQuestion]]
    listed: bool
    room: int | None
    batch_size: int


def score_choices(
    model: Any,
    tokenizer: Any,
    questions: Sequence[ChoiceQuestion | None],
    how: ChoicePrompts,
    *,
    device: torch.device,
    on_rows: Callable[[int], None] = lambda done: None,
) -> list[ChoiceRow]:
    """Score each of the questions, in order."""
    prompts = [_render_prompt(tokenizer, question, how) for question in questions]
    asked = [place for place, prompt in enumerate(prompts) if prompt is not None]
    options = [_list_options(questions[place]) for place in asked]
    begun, choice_tokens = encode_options(tokenizer, [prompts[place] or "" for place in asked], options)
    faults = [
        _find_problem(prompt, some, how.room) for prompt, some in zip(begun, choice_tokens, strict=True)
    ]
    good = [i for i, fault in enumerate(faults) if not fault]
    scores = score_branches(
        model,
        [begun[i] for i in good],
        [choice_tokens[i] for i in good],
        device,
        batch_size=how.batch_size,
        on_prompts=on_rows,
    )
    scores_at = dict(zip((asked[i] for i in good), scores, strict=True))
    why = {asked[i]: fault for i, fault in enumerate(faults) if fault}
    return [
        _build_row(question, scores_at.get(place), why.get(place, ""))
        for place, question in enumerate(questions)
    ]


def _build_row(question: ChoiceQuestion | None, scores: np.ndarray | None, why: str) -> ChoiceRow:
    if question is None:
        return ChoiceRow(None, None, reason=NOT_MULTIPLE_CHOICE)
    reason = "" if scores is not None else why or TEMPLATE_REFUSED
    return ChoiceRow(question.choices.options, question.choices.answer, scores, reason)


def _list_options(question: ChoiceQuestion | None) -> tuple[str, ...]:
    return question.choices.options if question else ()


def _render_prompt(tokenizer: Any, question: ChoiceQuestion | None, how: ChoicePrompts) -> str | None:
    """Return the rendered prompt; None if there is none."""
    if question is None:
        return None
    turns = question.listed if how.listed else question.bare
    system = [turn for turn in turns if turn["role"] == "system"]
    before: list[Message] = []
    for example in how.examples.get(question.row_id, ()):
        example_turns = example.listed if how.listed else example.bare
        before += [turn for turn in example_turns if turn["role"] != "system"]
        before.append({"role": "assistant", "content": example.choices.options[example.choices.answer]})
    turns = [*system, *before, *(turn for turn in turns if turn["role"] != "system")]
    try:
        return render_conversation(tokenizer, turns, generation_prompt=True)
    except (TemplateError, TypeError):  # raised by templates that don't support its turns
        return None


def _find_problem(prompt: list[int], options: list[list[int]], room: int | None) -> str:
    if not prompt or not all(options):
        return NO_TOKEN
    return TOO_LONG if room and len(prompt) + max(map(len, options)) > room else ""
