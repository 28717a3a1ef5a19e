"""Texts that the base model itself writes, freely or as answers to the run's own prompts.

Over samples of the base the mean of loss(tuned) − loss(base) estimates KL(base‖tuned) without bias. That
holds for plain samples alone: temperature is 1, and neither top-k nor top-p cuts anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import GenerationConfig, StoppingCriteriaList

from engine.evaluation.probes.probe_sets import OnItems, ProbeMeasurement, TextProbe, build_cache_key
from engine.evaluation.probes.suite_texts import Suite
from engine.evaluation.statistics.intervals import ratio_interval
from engine.evaluation.verdicts.paired_measurements import TASK_SAMPLES
from engine.models.batching import collate
from engine.models.generation import TokenCounter, pass_whole_rows_to_head
from engine.models.losses import build_fitting_batches, compute_picked_logits
from engine.models.tokenization.rendering import TokenRows
from engine.models.tokenization.tokenized_rows import read_rows, write_rows
from store.core.home import Home
from store.evaluation.forgetting_schemas import Forgetting

if TYPE_CHECKING:
    from engine.evaluation.row_questions import Prompt

# Texts that the base model itself writes: where their loss rises, the model has moved away from its base.
#
# Over samples of the base, the mean of loss(tuned) − loss(base) is an estimate of KL(base‖tuned) without
# bias, and no logits have to be kept. That holds for plain samples alone: temperature is 1, and neither top-k
# nor top-p cuts anything, whatever the model's own generation config says. Each text begins with the first
# tokens of a passage of the suite, which aren't trained, so that it is general text, of a chat model too.
# Samples are made once for a base and kept in the home folder.

VERSION = 1  # of how samples are made: another number, another key
SAMPLE_COUNT = 48
SAMPLE_TOKENS = 48  # tokens that the model writes
PREFIX_TOKENS = 5  # tokens of a passage before them
BATCH_SIZE = 64  # samples; all of one length, so that there is no padding

OnToken = Callable[[int, int], None]


@dataclass(frozen=True)
class SamplePlan:
    """What is written: `count` texts of at most `length` tokens each, begun as passages of the suite are."""

    suite: Suite
    seed: int = 0
    count: int = SAMPLE_COUNT
    length: int = SAMPLE_TOKENS


def load_or_generate_samples(
    home: Home,
    model: Any,
    tokenizer: Any,
    folder: Path,
    plan: SamplePlan,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """Samples of the base model, from the cache where they were made before.

    model: the base, or one with its adapter switched off; folder: with the base's config and safetensors.
    `on_token(done, most)` may raise to stop, and then nothing is kept. What the model wrote is trained, its
    end of text too.
    """
    key = build_cache_key(
        model,
        tokenizer,
        folder,
        VERSION,
        PREFIX_TOKENS,
        plan.suite.fingerprint,
        plan.seed,
        plan.count,
        plan.length,
    )
    path = home.cache / "own_samples" / f"{key}.safetensors"
    rows = read_rows(path)
    if rows is None:
        rows = generate_samples(model, tokenizer, plan, on_token)
        write_rows(path, rows)
    return rows


def generate_samples(
    model: Any,
    tokenizer: Any,
    plan: SamplePlan,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """New samples; model and torch's random generator are left as they came. Layers of an adapter that is
    switched on take part; tokens that it puts before each row don't."""
    starts = _choose_prefixes(tokenizer, plan.suite, plan.count)
    return generate_sample_continuations(
        model, tokenizer, starts, seed=plan.seed, length=plan.length, on_token=on_token
    )


def generate_sample_continuations(
    model: Any,
    tokenizer: Any,
    starts: list[list[int]],
    *,
    seed: int,
    length: int,
    on_token: OnToken = lambda done, most: None,
) -> TokenRows:
    """Each start (token ids, padded on the left where it is shorter than others) as the model goes on from
    it; what it wrote is trained. Otherwise as `sample`."""
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    ends = _list_end_tokens(model, tokenizer)
    device = model.device
    counter = TokenCounter(on_token, length * -(-len(starts) // BATCH_SIZE))
    training = model.training
    model.eval()
    written: list[list[int]] = []
    try:
        with (
            torch.inference_mode(),
            pass_whole_rows_to_head(model),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            _use_plain_generation(model, ends, tokenizer.pad_token_id, length),
        ):
            torch.manual_seed(seed)
            for first in range(0, len(starts), BATCH_SIZE):
                ids, mask = _pad_left(starts[first : first + BATCH_SIZE], device)
                out = model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    stopping_criteria=StoppingCriteriaList([counter]),
                )
                written += out[:, ids.shape[1] :].tolist()
    finally:
        model.train(training)
    return _build_rows(starts, [_truncate_at_end(row, ends) for row in written])


def _pad_left(rows: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


@contextmanager
def _use_plain_generation(model: Any, ends: set[int], pad: int | None, length: int) -> Iterator[None]:
    """Inside, the model generates as its distribution says: its own config may cut or punish tokens."""
    before = model.generation_config
    plain = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=length, use_cache=True
    )
    plain.eos_token_id, plain.pad_token_id = sorted(ends), pad
    model.generation_config = plain
    try:
        yield
    finally:
        model.generation_config = before


def _choose_prefixes(tokenizer: Any, suite: Suite, count: int) -> list[list[int]]:
    """The first tokens of passages, of all registers in turn, each as long as the others."""
    bos = tokenizer.bos_token_id
    ahead = [bos] if bos is not None and tokenizer("a").input_ids[:1] == [bos] else []
    texts = [passage.text[:200] for passage in suite.passages]
    beginnings = [ahead + ids[:PREFIX_TOKENS] for ids in tokenizer(texts, add_special_tokens=False).input_ids]
    order = np.random.default_rng(0).permutation(len(beginnings))
    return [beginnings[order[place % len(order)]] for place in range(count)]


def _list_end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Tokens after which a text is over: those of the tokenizer and of the model."""
    named = model.generation_config.eos_token_id
    ending = {tokenizer.eos_token_id, *([named] if isinstance(named, int) else named or [])}
    return {token for token in ending if token is not None}


def _truncate_at_end(row: list[int], ends: set[int]) -> list[int]:
    """The row up to its first end, which the model wrote too; what follows is padding."""
    place = next((place for place, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: place + 1]


def _build_rows(starts: list[list[int]], written: list[list[int]]) -> TokenRows:
    lengths = [len(start) + len(new) for start, new in zip(starts, written, strict=True)]
    pairs = list(zip(starts, written, strict=True))
    return TokenRows(
        np.arange(len(pairs)),
        np.concatenate([[0], np.cumsum(lengths)]),
        np.concatenate([np.array([*start, *new], np.int32) for start, new in pairs]),
        np.concatenate([np.repeat([False, True], [len(start), len(new)]) for start, new in pairs]),
        np.zeros(len(pairs), np.uint8),
    )


# What the base model itself writes as answers to the run's own prompts, and which token it and the tuned
# model would say first at each place.
#
# Over the base model's own answers at temperature 1 the mean of loss(tuned) − loss(base) estimates KL(base
# ‖ tuned) on the task, as the base model's own texts do on general texts. Where both models' likeliest
# tokens are the same, greedy answers go the same way; that is counted on both kinds of samples.

TASK_COUNT = 32  # prompts of the task, of which each is answered once
TASK_LENGTH = 32  # tokens of an answer at most
MIN_PROMPT = 8  # tokens of a prompt that are kept where the model has few positions


@dataclass(frozen=True)
class GreedyChoices(ProbeMeasurement):
    """With the likeliest token at each place, row after row."""

    firsts: np.ndarray | None = None


class SampleProbe(TextProbe):
    """Texts that the base model wrote."""

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> GreedyChoices:
        """Their losses, and the likeliest token at each place."""
        counts = self.rows.trained_counts
        ends = np.cumsum(counts)
        losses, right = np.zeros(len(self)), np.zeros(len(self), np.int64)
        firsts = np.zeros(int(counts.sum()), np.int64)
        training, done = model.training, 0
        model.eval()
        try:
            with torch.inference_mode():
                for indices in build_fitting_batches(model, self.rows, batch_size):
                    batch = collate(self.rows, indices, device)
                    logits = compute_picked_logits(model, batch)
                    first = logits.argmax(-1)
                    row_of = np.repeat(np.arange(len(indices)), counts[indices])
                    lost = F.cross_entropy(logits, batch.targets, reduction="none").double().cpu().numpy()
                    losses[indices] = np.bincount(row_of, lost, len(indices))
                    hits = (first == batch.targets).cpu().numpy()
                    right[indices] = np.bincount(row_of, hits, len(indices)).astype(np.int64)
                    at = np.concatenate([np.arange(ends[i] - counts[i], ends[i]) for i in indices])
                    firsts[at] = first.cpu().numpy()
                    done += len(indices)
                    on_items(done)
        finally:
            model.train(training)
        none = np.zeros(len(self), np.int32)
        return GreedyChoices(
            self.name, self.items, self.categories, losses, counts, right, none, none - 1, firsts=firsts
        )


def generate_task_samples(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Prompt],
    room: int | None,
    on_token: OnToken = lambda done, most: None,
) -> SampleProbe | None:
    """Answers of the model as it is to these prompts; None where there are none. A prompt that leaves no room
    for an answer is cut at its beginning."""
    if not asked:
        return None
    length = TASK_LENGTH if room is None else min(TASK_LENGTH, room - MIN_PROMPT)
    ids = tokenizer([prompt.rendered for prompt in asked], add_special_tokens=False).input_ids
    starts = [row[-(room - length) :] if room else row for row in ids]
    rows = generate_sample_continuations(model, tokenizer, starts, seed=0, length=length, on_token=on_token)
    written = [row[trained] for row, trained in map(rows.row, range(len(rows)))]
    answers = tokenizer.batch_decode([ids.tolist() for ids in written], skip_special_tokens=True)
    texts = [f"{prompt.readable}\n\n{answer}" for prompt, answer in zip(asked, answers, strict=True)]
    items = [f"{TASK_SAMPLES}/{prompt.row_id}" for prompt in asked]
    return SampleProbe(TASK_SAMPLES, items, [""] * len(items), texts, rows)


def add_top1_agreement(
    forgetting: Forgetting, base: Sequence[ProbeMeasurement], tuned: Sequence[ProbeMeasurement]
) -> None:
    """Into the `divergence` of a `forgetting` document, as `first_choice`, the share of places at which both
    models would say the same token first, {value, low, high, n} over samples."""
    for before, after in zip(base, tuned, strict=True):
        if not (isinstance(before, GreedyChoices) and isinstance(after, GreedyChoices)):
            continue
        part = next((p for p in forgetting.divergence if p.probe == before.probe and p.kl), None)
        if part is None or before.firsts is None or after.firsts is None:
            continue
        row_of = np.repeat(np.arange(len(before)), before.tokens)
        same = np.bincount(row_of, before.firsts == after.firsts, len(before))
        part.first_choice = ratio_interval(same, before.tokens).to_estimate()
