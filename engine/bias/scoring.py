"""Bias items, built-in (texts in `probe/`) or from users' files, and their scores by one model:
log-probabilities of sentences and answers, and short greedy answers.

A sentence is scored as a whole after the beginning-of-text token, an answer after its prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import torch
from jinja2.exceptions import TemplateError

from engine.data.signals.text_checks import is_refusal
from engine.evaluation.probes.multiple_choice import encode_options
from engine.models.forward.answer_likelihood import score_branches
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.tokenization.rendering import render_conversation


class UnreadableItem(Exception):
    """A row is not a valid item; the message is the reason, the same for all rows with that problem."""


@dataclass(frozen=True)
class SentencePair:
    """Pair of sentences; `more` is the more stereotypical one."""

    more: str
    less: str
    group: str


@dataclass(frozen=True)
class PronounItem:
    """Sentence with two occupations and a pronoun.

    fits: the pronoun fits the stereotype of the right occupation. alike: equal for the two sentences that
    differ only in the pronoun.
    """

    text: str
    pronoun: str
    right: str
    wrong: str
    fits: bool
    group: str
    alike: str


@dataclass(frozen=True)
class BiasQuestion:
    """Question about a text; `right`, `unknown` and `biased` are indices of options."""

    context: str
    question: str
    options: tuple[str, ...]
    right: int
    unknown: int
    biased: int
    ambiguous: bool
    group: str


Item = SentencePair | PronounItem | BiasQuestion


# Built-in probe: pairs of prompts that differ only in a name, a pronoun or a group. Its texts are in
# `probe/`, with how they were made and their limitations. The pairs are the same in every check.

VERSION = 1  # version of texts and pairs: metrics of different versions aren't comparable
BUILTIN_NAME = f"Built-in pairs v{VERSION}"
AXES_PER_DECISION = 4
PRONOUN = "pronoun"
BUILTIN_LIMITS = (
    "The built-in pairs are short English texts about everyday decisions; groups that are not named are not"
    " covered.",
    "They show whether a name, pronoun or group alone changes a response, not the harm of generated text.",
    "Small models respond near chance level and flip randomly: the change from base to tuned is what counts.",
)


@dataclass(frozen=True)
class DecisionPair:
    """Same decision about two people.

    first: prompt about the person of the group that is more often treated worse. favourable: the answer
    that is good for the person.
    """

    template: int
    topic: str
    axis: str
    first: str
    second: str
    favourable: str


@dataclass(frozen=True)
class WritingPair:
    """Same writing task about two people."""

    axis: str
    first: str
    second: str


def _read_lines(name: str) -> list[list[str]]:
    text = (resources.files("engine.bias") / "probe" / name).read_text("utf-8")
    return [line.split("\t") for line in text.splitlines()[1:]]


@cache
def load_people() -> dict[str, tuple[tuple[str, str], ...]]:
    """Load the pairs of people by axis."""
    axes: dict[str, list[tuple[str, str]]] = {}
    for axis, first, second in _read_lines("people.tsv"):
        axes.setdefault(axis, []).append((first, second))
    return {axis: tuple(pairs) for axis, pairs in axes.items()}


@cache
def build_decision_pairs() -> tuple[DecisionPair, ...]:
    """Build all decision pairs: each decision with some axes in rotation, and each axis with its pairs in
    rotation.
    """
    axes, turn = list(load_people()), 0
    used = dict.fromkeys(axes, 0)
    pairs = []
    for template, (topic, favourable, text) in enumerate(_read_lines("decisions.tsv")):
        for _ in range(AXES_PER_DECISION):
            axis = axes[turn % len(axes)]
            choices = load_people()[axis]
            first, second = choices[used[axis] % len(choices)]
            used[axis], turn = used[axis] + 1, turn + 1
            theirs, others = (f"{text.format(person=who)} Answer with Yes or No." for who in (first, second))
            pairs.append(DecisionPair(template, topic, axis, theirs, others, favourable.capitalize()))
    return tuple(pairs)


@cache
def build_writing_pairs() -> tuple[WritingPair, ...]:
    """Build all writing pairs, without pronouns, which would have no antecedent."""
    named = [(axis, pair) for axis, pairs in load_people().items() if axis != PRONOUN for pair in pairs]
    made = []
    for place, (text,) in enumerate(_read_lines("tasks.tsv")):
        axis, (first, second) = named[place % len(named)]
        # within a sentence: "a man", or a name unchanged
        people = (who[0].lower() + who[1:] if who.startswith("A ") else who for who in (first, second))
        made.append(WritingPair(axis, *(text.format(person=who) for who in people)))
    return tuple(made)


# The prompts of pairs and questions share a prefix, which a batch processes only once.

MAX_WRITTEN_TOKENS = 24  # maximum tokens of a generated answer
WRITING_BATCH_SIZE = 48  # answers generated per batch
TOO_LONG = "longer than the context length"
NO_TOKEN = "answer without tokens"

OnItems = Callable[[int], None]


@dataclass(frozen=True)
class ProbedModel:
    """Generative model to probe; `positions` is its context length, None for no limit."""

    model: Any
    tokenizer: Any
    positions: int | None
    device: torch.device
    batch_size: int


@dataclass(frozen=True)
class ItemScores:
    """Scores of each item's options, NaN where it couldn't be scored; `reasons` explain that by index."""

    scores: list[np.ndarray]
    reasons: dict[int, str]


@dataclass(frozen=True)
class WrittenAnswers:
    """[pairs, 2] statistics of generated answers: whether they refuse, and their number of words."""

    refuses: np.ndarray
    words: np.ndarray


def score_sentences(asked: ProbedModel, pairs: Sequence[SentencePair], on_items: OnItems) -> ItemScores:
    """Return log p of both sentences of each pair, over all tokens."""
    texts = [text for pair in pairs for text in (pair.more, pair.less)]
    tokens = asked.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
    # as in training: the beginning-of-text token, or the end-of-text token if the model has none
    begin = asked.tokenizer.bos_token_id
    start = [int(asked.tokenizer.eos_token_id if begin is None else begin)]
    branches = [tokens[2 * place : 2 * place + 2] for place in range(len(pairs))]
    return _score_branches(asked, [start] * len(pairs), branches, on_items)


def score_pronouns(asked: ProbedModel, items: Sequence[PronounItem], on_items: OnItems) -> ItemScores:
    """Return log p of the right and the wrong occupation after `TEXT "He" refers to the` (Brown et
    al. 2020).
    """
    prompts = [f'{item.text} "{item.pronoun.capitalize()}" refers to the' for item in items]
    options = [[f" {item.right}", f" {item.wrong}"] for item in items]
    return _score_answers(asked, prompts, options, on_items)


def score_choices(asked: ProbedModel, items: Sequence[BiasQuestion], on_items: OnItems) -> ItemScores:
    """Return log p per byte of each option, as options differ in length."""
    prompts = [f"{item.context}\nQuestion: {item.question}\nAnswer:" for item in items]
    answered = _score_answers(
        asked, prompts, [[f" {text}" for text in item.options] for item in items], on_items
    )
    lengths = [np.array([len(text.encode()) + 1 for text in item.options], float) for item in items]
    return ItemScores([s / n for s, n in zip(answered.scores, lengths, strict=True)], answered.reasons)


def score_decisions(asked: ProbedModel, pairs: Sequence[DecisionPair], on_items: OnItems) -> np.ndarray:
    """Return [pairs, 2] log odds of the favorable answer."""
    prompts, options = [], []
    for pair in pairs:
        for text in (pair.first, pair.second):
            prompt, before = _render_prompt(asked.tokenizer, text)
            prompts.append(prompt)
            options.append([f"{before}{word}" for word in ("Yes", "No")])
    answered = _score_answers(asked, prompts, options, lambda done: on_items(done // 2))
    yes = np.array([scores[0] - scores[1] for scores in answered.scores]).reshape(-1, 2)
    signed: np.ndarray = yes * np.array([[1.0 if pair.favourable == "Yes" else -1.0] for pair in pairs])
    return signed


def write_answers(asked: ProbedModel, pairs: Sequence[WritingPair], on_items: OnItems) -> WrittenAnswers:
    """Generate short greedy answers to both prompts of each pair."""
    prompts = [
        _render_prompt(asked.tokenizer, text)[0] for pair in pairs for text in (pair.first, pair.second)
    ]
    texts = generate_answers(
        asked.model,
        asked.tokenizer,
        prompts,
        GenerationOptions(MAX_WRITTEN_TOKENS, asked.device, WRITING_BATCH_SIZE, steady=True),
        on_token=lambda done, most: on_items(len(pairs) * done // most),
    )
    return WrittenAnswers(
        np.array([is_refusal(text) for text in texts], float).reshape(-1, 2),
        np.array([len(text.split()) for text in texts], float).reshape(-1, 2),
    )


def _render_prompt(tokenizer: Any, text: str) -> tuple[str, str]:
    """Return the prompt as a user would send it, and the separator before the answer."""
    if getattr(tokenizer, "chat_template", None):
        with suppress(TemplateError, TypeError):  # from a template that needs more than a question
            return render_conversation(
                tokenizer, [{"role": "user", "content": text}], generation_prompt=True
            ), ""
    return f"Question: {text}\nAnswer:", " "


def _score_answers(
    asked: ProbedModel, prompts: Sequence[str], options: Sequence[Sequence[str]], on_items: OnItems
) -> ItemScores:
    encoded, branches = encode_options(asked.tokenizer, prompts, options)
    return _score_branches(asked, _prepend_bos(asked.tokenizer, encoded), branches, on_items)


def encode_with_bos(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Encode texts for generation: with the beginning-of-text token, if any, and without an end-of-text
    token.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []
    return _prepend_bos(tokenizer, encoded)


def _prepend_bos(tokenizer: Any, encoded: list[list[int]]) -> list[list[int]]:
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer("a").input_ids[:1] != [bos]:
        return encoded
    return [tokens if tokens[:1] == [bos] else [bos, *tokens] for tokens in encoded]


def _score_branches(
    asked: ProbedModel, prompts: list[list[int]], branches: list[list[list[int]]], on_items: OnItems
) -> ItemScores:
    reasons = {}
    for place, (prompt, some) in enumerate(zip(prompts, branches, strict=True)):
        if not all(some):
            reasons[place] = NO_TOKEN
        elif asked.positions and len(prompt) + max(map(len, some)) > asked.positions:
            reasons[place] = TOO_LONG
    places = [place for place in range(len(prompts)) if place not in reasons]
    scored = score_branches(
        asked.model,
        [prompts[place] for place in places],
        [branches[place] for place in places],
        asked.device,
        batch_size=asked.batch_size,
        on_prompts=on_items,
    )
    scores = [np.full(len(some), np.nan) for some in branches]
    for place, each in zip(places, scored, strict=True):
        scores[place] = each
    return ItemScores(scores, reasons)
