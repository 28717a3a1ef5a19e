"""A causal model as a classifier: the log-probability of each label's text as the answer to a row's prompt.

The sum over the label's tokens is taken, with the token that closes the answer among them, not the mean: it
is the probability that the model answers exactly this label, so that no label gains by being the beginning
of a longer one, and over all labels it can be normalised into probabilities. A prompt is passed through the
model once, and its keys and values are shared by all labels. Where an adapter puts tokens of its own before
the prompt, each label is passed with the whole prompt, which gives the same numbers more slowly.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import DynamicCache

from engine.data.render import Rows, render_prompt
from engine.evaluation.losses import row_losses
from engine.tuning.loss import output_where

BRANCHES = 64  # rows × labels that are passed through the model together
BUDGET = {"cpu": 40_000, "cuda": 5_000_000}  # label tokens of one evaluation; beyond it rows are drawn
LEAST_ROWS = 50

Messages = list[dict[str, str]]


@dataclass
class Questions:
    """prompts: token ids of each row's prompt; labels: token ids of each label as an answer; `row_ids`."""

    row_ids: np.ndarray
    prompts: list[list[int]]
    labels: list[list[int]]


def questions(
    tokenizer: Any, row_ids: np.ndarray, rows: Sequence[Messages], labels: Sequence[str], room: int | None
) -> Questions | None:
    """Each row as the model would be asked it; None where no row has a prompt. `room`: positions."""
    rendered = [(i, found[0]) for i, row in enumerate(rows) if (found := render_prompt(tokenizer, row))]
    if not rendered:
        return None
    first, example = rendered[0]
    answers = [_answer(tokenizer, rows[first], example, label) for label in labels]
    limit = room - max(len(ids) for ids in answers) if room else None
    prompts = tokenizer([prompt for _, prompt in rendered], add_special_tokens=False).input_ids
    return Questions(
        row_ids[[i for i, _ in rendered]], [ids[-limit:] if limit else ids for ids in prompts], answers
    )


def _answer(tokenizer: Any, messages: Messages, prompt: str, label: str) -> list[int]:
    """The tokens of a label as the answer, up to the one that closes it, as they follow this prompt."""
    last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
    said = [*messages[:last], {**messages[last], "content": label}]
    whole = tokenizer.apply_chat_template(said, tokenize=False)
    text = whole[len(prompt) :] if whole.startswith(prompt) else label + (tokenizer.eos_token or "")
    before = tokenizer(prompt, add_special_tokens=False).input_ids
    both = tokenizer(prompt + text, add_special_tokens=False).input_ids
    ids = both[len(before) :] if both[: len(before)] == before else []
    ids = ids or tokenizer(text, add_special_tokens=False).input_ids
    closing = [place for place, token in enumerate(ids) if token in tokenizer.all_special_ids]
    return ids[: closing[-1] + 1] if closing else ids


def affordable(row_ids: np.ndarray, label_tokens: int, device: str, seed: int) -> np.ndarray:
    """The rows that are scored: all, or as many drawn by `seed` as the budget of the device allows."""
    most = max(LEAST_ROWS, BUDGET.get(device, BUDGET["cpu"]) // max(1, label_tokens))
    if len(row_ids) <= most:
        return row_ids
    return np.sort(np.random.default_rng([seed, 11]).choice(row_ids, most, replace=False))


def label_scores(
    model: Any,
    asked: Questions,
    device: torch.device,
    *,
    batch_size: int = 16,
    on_rows: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Log-probabilities [rows, labels], normalised over the labels; `on_rows(rows done)` may raise to stop.
    The model is left in the mode in which it came."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        scores = _one_by_one(model, asked, device, batch_size, on_rows)
    else:
        scores = _branched(model, asked, device, on_rows)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def _one_by_one(
    model: Any, asked: Questions, device: torch.device, batch_size: int, on_rows: Callable[[int], None]
) -> np.ndarray:
    """Every label after every prompt, whole."""
    pairs = [(prompt, label) for prompt in asked.prompts for label in asked.labels]
    lengths = np.array([len(prompt) + len(label) for prompt, label in pairs])
    rows = Rows(
        np.arange(len(pairs)),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([np.array(prompt + label, np.int32) for prompt, label in pairs]),
        np.concatenate([np.repeat([False, True], [len(p), len(label)]) for p, label in pairs]),
        np.zeros(len(pairs), np.uint8),
    )
    many = len(asked.labels)
    found = row_losses(
        model, rows, batch_size=batch_size, device=device, on_batch=lambda done: on_rows(done // many)
    )
    return -found.loss_sum.reshape(-1, many)


def _branched(
    model: Any, asked: Questions, device: torch.device, on_rows: Callable[[int], None]
) -> np.ndarray:
    """The prompt once, then all labels from its keys and values."""
    scores = np.zeros((len(asked.prompts), len(asked.labels)))
    order = np.argsort([-len(prompt) for prompt in asked.prompts], kind="stable")
    at_once = max(1, BRANCHES // len(asked.labels))
    training, done = model.training, 0
    model.eval()
    try:
        with torch.inference_mode():
            for first in range(0, len(order), at_once):
                chosen = order[first : first + at_once]
                prompts = _Prompts(model, [asked.prompts[i] for i in chosen], device)
                scores[chosen] = prompts.score(asked.labels).double().cpu().numpy()
                done += len(chosen)
                on_rows(done)
    finally:
        model.train(training)
    return scores


class _Prompts:
    """A batch of prompts, padded on the left, that has been passed through the model."""

    def __init__(self, model: Any, prompts: list[list[int]], device: torch.device) -> None:
        self.model, self.device = model, device
        width = max(len(prompt) for prompt in prompts)
        padded = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.mask = torch.arange(width, device=device) >= width - self.lengths[:, None]
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        known = inspect.signature(base.forward).parameters
        self.cache_name = "cache" if "cache" in known else "past_key_values"  # the older name
        self.cache = DynamicCache(config=base.config)
        positions = (self.mask.long().cumsum(-1) - 1).clamp(min=0)
        logits = self._forward(torch.tensor(padded, device=device), self.mask, positions, self.cache, 1)
        self.next = logits[:, -1].float().log_softmax(-1)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any, keep: int
    ) -> torch.Tensor:
        return self.model(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            use_cache=True,
            logits_to_keep=keep,
            **{self.cache_name: cache},
        ).logits

    def score(self, labels: list[list[int]]) -> torch.Tensor:
        """Summed log-probabilities [prompts, labels]."""
        firsts = torch.tensor([label[0] for label in labels], device=self.device)
        scores = self.next[:, firsts].clone()
        # those of like length together: one long label would pad all others
        longer = sorted((i for i, label in enumerate(labels) if len(label) > 1), key=lambda i: len(labels[i]))
        at_once = max(1, BRANCHES // len(self.lengths))
        for first in range(0, len(longer), at_once):
            some = longer[first : first + at_once]
            scores[:, some] += self._rest([labels[i] for i in some])
        return scores

    def _rest(self, labels: list[list[int]]) -> torch.Tensor:
        """Of these labels everything after the first token."""
        rows, many, width = len(self.lengths), len(labels), max(map(len, labels)) - 1
        ids = torch.zeros(many, width + 1, dtype=torch.long)
        told = torch.zeros(many, width, dtype=torch.bool)
        for i, label in enumerate(labels):
            ids[i, : len(label)] = torch.tensor(label)
            told[i, : len(label) - 1] = True
        ids, told = ids.to(self.device).repeat(rows, 1), told.to(self.device).repeat(rows, 1)
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(many)
        mask = torch.cat([self.mask.repeat_interleave(many, 0), torch.ones_like(told)], dim=1)
        positions = self.lengths.repeat_interleave(many)[:, None] + torch.arange(width, device=self.device)
        with output_where(self.model, told):
            logits = self._forward(ids[:, :-1], mask, positions, cache, 0)
        chosen = -F.cross_entropy(logits.float(), ids[:, 1:][told], reduction="none")
        return chosen.new_zeros(len(ids)).index_add(0, told.nonzero()[:, 0], chosen).view(rows, many)
