"""A causal model as a classifier: the log-probability of each label's text as the answer to a row's prompt.

The sum over the label's tokens is taken, with the token that closes the answer among them, not the mean: it
is the probability that the model answers exactly this label, so that no label gains by being the beginning
of a longer one, and over all labels it can be normalised into probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from engine.forward.branches import branch_scores
from engine.rows.render import Messages, render_prompt

BUDGET = {"cpu": 40_000, "cuda": 5_000_000}  # label tokens of one evaluation; beyond it rows are drawn
LEAST_ROWS = 50
MOST_LABELS = 500  # that a causal model is asked for


@dataclass
class LabelQuestions:
    """prompts: token ids of each row's prompt; labels: token ids of each label as an answer; `row_ids`."""

    row_ids: np.ndarray
    prompts: list[list[int]]
    labels: list[list[int]]


def questions(
    tokenizer: Any, row_ids: np.ndarray, rows: Sequence[Messages], labels: Sequence[str], room: int | None
) -> LabelQuestions | None:
    """Each row as the model would be asked it; None where no row has a prompt. `room`: positions."""
    pairs = [render_prompt(tokenizer, row) for row in rows]
    rendered = [(i, pair[0]) for i, pair in enumerate(pairs) if pair]
    if not rendered:
        return None
    first, example = rendered[0]
    answers = [_answer(tokenizer, rows[first], example, label) for label in labels]
    limit = room - max(len(ids) for ids in answers) if room else None
    prompts = tokenizer([prompt for _, prompt in rendered], add_special_tokens=False).input_ids
    return LabelQuestions(
        row_ids[[i for i, _ in rendered]], [ids[-limit:] if limit else ids for ids in prompts], answers
    )


def _answer(tokenizer: Any, messages: Messages, prompt: str, label: str) -> list[int]:
    """The tokens of a label as the answer, up to the one that closes it, as they follow this prompt."""
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    turns = [*messages[:last], {**messages[last], "content": label}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    text = whole[len(prompt) :] if whole.startswith(prompt) else label + (tokenizer.eos_token or "")
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    both = tokenizer(prompt + text, add_special_tokens=False).input_ids
    ids = both[len(before) :] if both[: len(before)] == before else []
    ids = ids or tokenizer(text, add_special_tokens=False).input_ids
    closing = [place for place, token in enumerate(ids) if token in tokenizer.all_special_ids]
    return ids[: closing[-1] + 1] if closing else ids


def label_tokens(tokenizer: Any, names: Sequence[str]) -> int:
    """Tokens of all labels together, each with the one that closes it."""
    return sum(len(ids) + 1 for ids in tokenizer(list(names), add_special_tokens=False).input_ids)


def affordable(row_ids: np.ndarray, label_tokens: int, device: str, seed: int) -> np.ndarray:
    """The rows that are scored: all, or as many drawn by `seed` as the budget of the device allows."""
    most = max(LEAST_ROWS, BUDGET.get(device, BUDGET["cpu"]) // max(1, label_tokens))
    if len(row_ids) <= most:
        return row_ids
    return np.sort(np.random.default_rng([seed, 11]).choice(row_ids, most, replace=False))


def label_scores(
    model: Any,
    asked: LabelQuestions,
    device: torch.device,
    *,
    batch_size: int = 16,
    on_rows: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Log-probabilities [rows, labels], normalised over the labels; `on_rows(rows done)` may raise to stop.
    The model is left in the mode in which it came."""
    labels = [asked.labels] * len(asked.prompts)
    sums = branch_scores(model, asked.prompts, labels, device, batch_size=batch_size, on_prompts=on_rows)
    scores = np.stack(sums)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
