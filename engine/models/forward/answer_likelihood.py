"""Scores of several answers to each of many prompts under a causal model.

Scores are summed log-probabilities, or the logits of every token. With labels as the answers, the model
acts as a classifier.

A prompt and the tree of its answers pass through the model as one row, in which a token sees only its
ancestors and its position is their number; logits are computed only where a token is scored, a few rows at
a time. On a CPU such rows go through the packed forward, where the common prefix of a batch's prompts is
computed once. Elsewhere the model's own forward takes them with a mask. `explain_mask_refusal` says which
models don't support this; for those every answer follows the whole prompt, with the same scores.

16-bit logits are so coarse that two answers may have equal scores although the model prefers one: in about
1 of 100 multiple-choice questions with SmolLM2-135M. Prompts with such ties are scored again with fp32
logits, of which a batch may hold half as many.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedConfig

from engine.models import losses
from engine.models.forward import attention, llama_layers, packed_forward
from engine.models.forward.attention import BLOCK
from engine.models.forward.operations import HEAD_ROWS, LOSS_ROWS
from engine.models.forward.packed_forward import (
    MAX_BATCH_TOKENS,
    MAX_RUN_NODES,
    PackedForward,
    Tokens,
    TreeRow,
    make_additive_mask,
)
from engine.models.losses import limit_output
from engine.models.tokenization.rendering import Messages, TokenRows, render_prompt

MAX_TREE_NODES = 1024  # a larger tree is split, and the prompt is passed again
MASKED_ATTENTION = ("eager", "sdpa", attention.NAME)  # attention implementations that accept any mask

OnPrompts = Callable[[int], None]


def score_branches(
    model: Any,
    prompts: Sequence[Tokens],
    branches: Sequence[Sequence[Tokens]],
    device: torch.device,
    *,
    batch_size: int = 16,
    on_prompts: OnPrompts = lambda done: None,
) -> list[np.ndarray]:
    """Return the summed log-probabilities of each prompt's branches, float64.

    Prompts and branches must have at least one token. `on_prompts(prompts done)` may raise to stop;
    `batch_size` is the number of rows if each branch is passed by itself. The model's train or eval mode is
    restored. Scores that are equal for lack of precision are recomputed in fp32 (`losses.use_fp32_head`).
    """

    def ask(which: Sequence[int], tell: OnPrompts, *, wide: bool = False) -> list[np.ndarray]:
        mine = [prompts[i] for i in which], [branches[i] for i in which]
        return _score_with_model(model, *mine, device, batch_size=batch_size, on_prompts=tell, wide=wide)

    scores = ask(range(len(prompts)), on_prompts)
    tied = [i for i, (each, some) in enumerate(zip(scores, branches, strict=True)) if has_ties(each, some)]
    with losses.use_fp32_head(model) if tied else nullcontext(False) as is_wider:
        if is_wider:
            again = ask(tied, lambda done: on_prompts(len(prompts)), wide=True)
            for i, each in zip(tied, again, strict=True):
                scores[i] = each
    return scores


def has_ties(scores: np.ndarray, branches: Sequence[Tokens]) -> bool:
    """Return whether branches with different tokens have equal scores."""
    return len(np.unique(scores)) < len({tuple(branch) for branch in branches})


def _score_with_model(
    model: Any,
    prompts: Sequence[Tokens],
    branches: Sequence[Sequence[Tokens]],
    device: torch.device,
    *,
    batch_size: int,
    on_prompts: OnPrompts,
    wide: bool,
) -> list[np.ndarray]:
    """Score as `score_branches` does, without resolving ties.

    `wide`: the model's logits are in fp32, so a batch may hold half as many.
    """
    longest = max(
        (len(p) + len(b) for p, some in zip(prompts, branches, strict=True) for b in some), default=0
    )
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model_parts = llama_layers.recognise_model(model, longest)
            forward: PackedForward | _MaskedForward | None = None
            if not isinstance(model_parts, str):
                forward = PackedForward(model_parts, HEAD_ROWS >> wide)
            elif not explain_mask_refusal(model, longest):
                forward = _MaskedForward(model, device, losses.LOGIT_BYTES >> wide)
            if forward is not None:
                return _score_in_trees(forward, prompts, branches, device, on_prompts)
    finally:
        model.train(training)
    return score_one_by_one(model, prompts, branches, device, batch_size=batch_size, on_prompts=on_prompts)


def estimate_max_bytes(
    text: PreTrainedConfig, longest: int, tokens: int, dtype: torch.dtype, device: str, *, packed: bool
) -> float:
    """Estimate the peak memory that scoring takes beyond the model, in bytes.

    It is the sum of one layer's activations for a batch and its logits, since an allocator keeps the former
    while the latter are computed.

    - text: the architecture's text config
    - longest: tokens of the longest prompt
    - tokens: tokens of all branches of one prompt
    - packed: whether rows go through the packed forward
    """
    size, heads = dtype.itemsize, text.num_attention_heads
    kv = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    inner = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
    batch = max(MAX_BATCH_TOKENS[device], longest + min(tokens, MAX_TREE_NODES))
    keys = longest + MAX_RUN_NODES if packed else longest + min(tokens, MAX_TREE_NODES)
    at_once = batch * min(1.0, BLOCK / longest) if packed else batch
    # a fused kernel doesn't store scores, and holds its mask once
    scores = at_once * keys * (2 * heads + 1 if packed else 1)
    layer = size * (batch * (4 * text.hidden_size + 4 * (heads + kv) * width + 3 * inner) + scores)
    most = losses.LOGIT_BYTES / (losses.LOGIT * text.vocab_size)
    rows = HEAD_ROWS if packed else min(batch, most)
    head = text.vocab_size * rows * size
    if size < 4:  # ties are resolved in fp32, which adds fp32 logits and a part of the head
        rows = HEAD_ROWS / 2 if packed else min(batch, most / 2)
        part = 4 * min(losses.HEAD_ENTRIES, text.vocab_size) * (text.hidden_size + rows)
        head = max(head, text.vocab_size * rows * (size + 4) + part)
    # a few fp32 logits, with their exponentials and a copy
    return float(layer + head + text.vocab_size * LOSS_ROWS * 12)


def score_one_by_one(
    model: Any,
    prompts: Sequence[Tokens],
    branches: Sequence[Sequence[Tokens]],
    device: torch.device,
    *,
    batch_size: int = 16,
    on_prompts: OnPrompts = lambda done: None,
) -> list[np.ndarray]:
    """Score as `score_branches` does, with every branch after its whole prompt."""
    pairs = [(p, b) for p, some in zip(prompts, branches, strict=True) for b in some]
    if not pairs:
        return [np.zeros(0) for _ in prompts]
    lengths = np.array([len(prompt) + len(branch) for prompt, branch in pairs])
    rows = TokenRows(
        np.arange(len(pairs)),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([np.array([*prompt, *branch], np.int32) for prompt, branch in pairs]),
        np.concatenate([np.repeat([False, True], [len(p), len(b)]) for p, b in pairs]),
        np.zeros(len(pairs), np.uint8),
    )
    each = len(prompts) / len(pairs)
    row_losses = losses.compute_row_losses(
        model,
        rows,
        batch_size=batch_size,
        device=device,
        on_batch=lambda done: on_prompts(int(done * each)),
    )
    return np.split(-row_losses.loss_sum, np.cumsum([len(some) for some in branches])[:-1])


class _MaskedForward:
    """Forward of padded rows through the model's own forward with a mask."""

    def __init__(self, model: Any, device: torch.device, logit_bytes: int) -> None:
        self.model, self.device = model, device
        entries = model.get_output_embeddings().weight.shape[0]
        self.most_picked = max(2, logit_bytes // (losses.LOGIT * entries))

    def logits(self, rows: Sequence[TreeRow]) -> Iterator[Tensor]:
        width = max(map(len, rows))
        ids, positions = np.zeros((2, len(rows), width), np.int64)
        picked = np.zeros((len(rows), width), bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], positions[i, : len(row)] = row.tokens, row.positions
            picked[i, len(row) - row.picked : len(row)] = True
        with limit_output(self.model, torch.from_numpy(picked).to(self.device)):
            yield _forward(self.model, rows, ids, positions, self.device)


def _forward(
    model: Any, rows: Sequence[TreeRow], ids: np.ndarray, positions: np.ndarray, device: torch.device
) -> Tensor:
    seen = packed_forward.make_tree_mask([0] * len(rows), [row.visible for row in rows])
    logits: Tensor = model(
        input_ids=torch.from_numpy(ids).to(device),
        position_ids=torch.from_numpy(positions).to(device),
        attention_mask=make_additive_mask(seen, model.dtype)[:, None].to(device),
        use_cache=False,
    ).logits
    return logits


def _score_in_trees(
    forward: PackedForward | _MaskedForward,
    prompts: Sequence[Tokens],
    branches: Sequence[Sequence[Tokens]],
    device: torch.device,
    on_prompts: OnPrompts,
) -> list[np.ndarray]:
    scores = [np.zeros(len(some)) for some in branches]
    rows = packed_forward.build_tree_rows(prompts, branches, MAX_TREE_NODES, forward.most_picked - 1)
    left = np.bincount([row.prompt for row in rows], minlength=len(prompts))
    for some in _iterate_batches(
        rows, MAX_BATCH_TOKENS.get(device.type, MAX_BATCH_TOKENS["cpu"]), forward.most_picked
    ):
        ends = np.cumsum([row.picked for row in some])
        after = [row.tree.after + end - row.picked + 1 for row, end in zip(some, ends, strict=True)]
        asked_tokens = np.concatenate([row.tree.asked_tokens for row in some])
        logs = _compute_log_probabilities(forward.logits(some), np.concatenate(after), asked_tokens)
        parts = np.split(logs, np.cumsum([len(row.tree.asked_tokens) for row in some])[:-1])
        for row, each in zip(some, parts, strict=True):
            scores[row.prompt][row.which] = row.tree.sums(each, len(row.which))
            left[row.prompt] -= 1
        on_prompts(int((left == 0).sum()))
    return scores


def _iterate_batches(rows: Sequence[TreeRow], most: int, most_picked: int) -> Iterator[Sequence[TreeRow]]:
    """Yield batches of consecutive rows, within the limits on padded tokens and on positions with logits.

    A batch has at least one row.
    """
    first = picked = 0
    for place, row in enumerate(rows):
        picked += row.picked
        if place > first and ((place + 1 - first) * len(rows[first]) > most or picked > most_picked):
            yield rows[first:place]
            first, picked = place, row.picked
    if rows:
        yield rows[first:]


def _compute_log_probabilities(
    logits: Iterator[Tensor], after: np.ndarray, asked_tokens: np.ndarray
) -> np.ndarray:
    """Return the log-probability of each asked token under the logits row given by `after`."""
    logs = np.zeros(len(asked_tokens))
    first = 0
    for part in logits:
        mine = np.flatnonzero((after >= first) & (after < first + len(part)))
        rows, tokens = (
            torch.from_numpy(x).to(part.device) for x in (after[mine] - first, asked_tokens[mine])
        )
        total = torch.cat([few.float().logsumexp(-1) for few in part.split(LOSS_ROWS)])
        logs[mine] = (part[rows, tokens].float() - total[rows]).double().cpu().numpy()
        first += len(part)
        del part  # free it before the next part is computed
    return logs


def compute_branch_logits(
    forward: PackedForward, prompts: Sequence[Tokens], branches: Sequence[Sequence[Tokens]]
) -> Iterator[list[np.ndarray]]:
    """Yield for each prompt, in order, the fp32 logits [tokens, vocabulary] of each branch.

    Each row of logits predicts one token of the branch. Prompts and branches must have at least one token,
    and the model must be in eval mode. Batches consist of neighbouring prompts and depend on nothing else,
    so that equal calls on equal models give equal numbers.
    """
    entries = forward.head.weight.shape[0]
    most = max(2, losses.LOGIT_BYTES // (losses.LOGIT * entries))
    rows = [
        [
            TreeRow(i, ids, which, tree)
            for which, tree in packed_forward.grow_forest(some, max(MAX_TREE_NODES, len(ids)))
        ]
        for i, (ids, some) in enumerate(zip(prompts, branches, strict=True))
    ]
    for batch in _batch_by_prompt(rows, MAX_BATCH_TOKENS["cpu"], most):
        with torch.inference_mode():
            parts = forward.logits([row for several in batch for row in several])
            logits = torch.cat([part.float().cpu() for part in parts]).numpy()
        start = 0
        for several in batch:
            of_prompt: dict[int, np.ndarray] = {}
            for row in several:
                own, start = logits[start : start + row.picked], start + row.picked
                after = row.tree.after[row.tree.path] + 1  # 0 follows the prompt
                of_prompt |= {int(n): own[after[row.tree.of == i]] for i, n in enumerate(row.which)}
            yield [of_prompt[n] for n in range(len(of_prompt))]


def _batch_by_prompt(
    rows: Sequence[list[TreeRow]], most: int, most_picked: int
) -> Iterator[list[list[TreeRow]]]:
    """Yield the rows of neighbouring prompts within the limits on tokens and logits, at least one prompt."""
    batch: list[list[TreeRow]] = []
    tokens = picked = 0
    for several in rows:
        own, own_picked = sum(map(len, several)), sum(row.picked for row in several)
        if batch and (tokens + own > most or picked + own_picked > most_picked):
            yield batch
            batch, tokens, picked = [], 0, 0
        batch.append(several)
        tokens, picked = tokens + own, picked + own_picked
    if batch:
        yield batch


def explain_mask_refusal(model: Any, longest: int) -> str:
    """Return why rows of up to `longest` positions can't be passed with a mask; empty if they can.

    The model must be in eval mode.
    """
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return "its adapter puts tokens before each row"
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    text = base.config.get_text_config()
    if getattr(base, "_is_stateful", False) or "linear_attention" in (
        getattr(text, "layer_types", None) or ()
    ):
        return "it has a state that every token changes"
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return "it takes no positions"
    if base.config._attn_implementation not in MASKED_ATTENTION:
        return f"its attention ({base.config._attn_implementation}) takes no mask"
    window = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None)
    if window and longest > window:
        return f"rows of {longest} tokens are longer than its window of {window}"
    return (
        ""
        if _matches_plain_forward(model)
        else "it does not go by the mask and the positions that it is given"
    )


def _matches_plain_forward(model: Any) -> bool:
    """Return whether a branch gets the same logits in a tree as alone, whatever its neighbour is.

    This is tested numerically, since architectures that compute positions or states of their own don't
    declare it.
    """
    prompt, branch = (5, 9, 6, 8, 7), (3, 4, 5)
    device, dtype = model.device, model.dtype
    alone = TreeRow(0, prompt, np.arange(1), packed_forward.grow_tree([branch]))
    trees = [
        TreeRow(0, prompt, np.arange(2), packed_forward.grow_tree([other, branch]))
        for other in ((9, 8, 7), (8, 7, 9))
    ]
    try:
        logits = [
            _forward(
                model,
                rows,
                np.stack([row.tokens for row in rows]),
                np.stack([row.positions for row in rows]),
                device,
            )[:, -1].float()
            for rows in ([alone], trees)
        ]
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    scale = logits[0].std()
    near = 1e-3 if dtype == torch.float32 else 0.1
    apart = (logits[1][0] - logits[1][1]).abs().max()
    return bool(apart <= 1e-3 * scale and (logits[1] - logits[0]).abs().max() <= near * scale)


# A causal model as a classifier: the log-probability of each label's text as the answer to a row's prompt.
#
# The score is the sum over the label's tokens including the closing token, not the mean: it is the
# probability that the model answers exactly this label. So no label gains from being a prefix of a longer
# one, and the scores can be normalised into probabilities over all labels.

BUDGET = {"cpu": 40_000, "cuda": 5_000_000}  # label tokens per evaluation; above it, rows are sampled
MIN_ROWS = 50
MAX_LABELS = 500  # limit for a causal model as a classifier


@dataclass
class LabelQuestions:
    """Rows to classify: token ids of each row's prompt, and of each label as an answer."""

    row_ids: np.ndarray
    prompts: list[list[int]]
    labels: list[list[int]]


def build_label_questions(
    tokenizer: Any, row_ids: np.ndarray, rows: Sequence[Messages], labels: Sequence[str], room: int | None
) -> LabelQuestions | None:
    """Render each row as a prompt; None if no row has one. `room`: number of positions of the model."""
    pairs = [render_prompt(tokenizer, row) for row in rows]
    rendered = [(i, pair[0]) for i, pair in enumerate(pairs) if pair]
    if not rendered:
        return None
    first, example = rendered[0]
    answers = [_tokenise_answer(tokenizer, rows[first], example, label) for label in labels]
    limit = room - max(len(ids) for ids in answers) if room else None
    prompts = tokenizer([prompt for _, prompt in rendered], add_special_tokens=False).input_ids
    return LabelQuestions(
        row_ids[[i for i, _ in rendered]], [ids[-limit:] if limit else ids for ids in prompts], answers
    )


def _tokenise_answer(tokenizer: Any, messages: Messages, prompt: str, label: str) -> list[int]:
    """Return the tokens of a label as the answer to this prompt, up to and including its closing token."""
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


def count_label_tokens(tokenizer: Any, names: Sequence[str]) -> int:
    """Return the number of tokens of all labels, including one closing token each."""
    return sum(len(ids) + 1 for ids in tokenizer(list(names), add_special_tokens=False).input_ids)


def select_affordable_rows(row_ids: np.ndarray, label_tokens: int, device: str, seed: int) -> np.ndarray:
    """Return the rows to score: all, or a random sample by `seed` within the device's budget."""
    most = max(MIN_ROWS, BUDGET.get(device, BUDGET["cpu"]) // max(1, label_tokens))
    if len(row_ids) <= most:
        return row_ids
    return np.sort(np.random.default_rng([seed, 11]).choice(row_ids, most, replace=False))


def score_labels(
    model: Any,
    asked: LabelQuestions,
    device: torch.device,
    *,
    batch_size: int = 16,
    on_rows: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Return log-probabilities [rows, labels], normalised over the labels.

    `on_rows(rows done)` may raise to stop. The model's train or eval mode is restored.
    """
    labels = [asked.labels] * len(asked.prompts)
    sums = score_branches(model, asked.prompts, labels, device, batch_size=batch_size, on_prompts=on_rows)
    scores = np.stack(sums)
    scores = scores - scores.max(axis=1, keepdims=True)
    likelihoods: np.ndarray = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return likelihoods
