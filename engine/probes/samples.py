"""What the base model itself writes as answers to the run's own prompts, and which token it and the tuned
model would say first at each place.

Over the base model's own answers at temperature 1 the mean of loss(tuned) − loss(base) estimates KL(base ‖
tuned) on the task, as `own_samples` does on general texts. Where both models' likeliest tokens are the same,
greedy answers go the same way; that is counted on both kinds of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.diagnostics.forgetting.probe_scores import TASK_SAMPLES
from engine.diagnostics.statistics.statistics import ratio_interval
from engine.forward.batches import collate
from engine.forward.losses import fitting_batches, picked_logits
from engine.probes.own_samples import OnToken, continued
from engine.probes.probes import OnItems, ProbeMeasurement, TextProbe
from store.documents.verdicts.forgetting import Forgetting

if TYPE_CHECKING:
    from engine.probes.sample_prompts import Prompt

COUNT = 32  # prompts of the task, of which each is answered once
LENGTH = 32  # tokens of an answer at most
LEAST_PROMPT = 8  # tokens of a prompt that are kept where the model has few positions


@dataclass(frozen=True)
class FirstChoices(ProbeMeasurement):
    """With the likeliest token at each place, row after row."""

    firsts: np.ndarray | None = None


class SampleProbe(TextProbe):
    """Texts that the base model wrote."""

    def measure(
        self, model: Any, *, batch_size: int, device: torch.device, on_items: OnItems = lambda done: None
    ) -> FirstChoices:
        """Their losses, and the likeliest token at each place."""
        counts = self.rows.trained_counts
        ends = np.cumsum(counts)
        losses, right = np.zeros(len(self)), np.zeros(len(self), np.int64)
        firsts = np.zeros(int(counts.sum()), np.int64)
        training, done = model.training, 0
        model.eval()
        try:
            with torch.inference_mode():
                for indices in fitting_batches(model, self.rows, batch_size):
                    batch = collate(self.rows, indices, device)
                    logits = picked_logits(model, batch)
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
        return FirstChoices(
            self.name, self.items, self.categories, losses, counts, right, none, none - 1, firsts=firsts
        )


def task_samples(
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
    length = LENGTH if room is None else min(LENGTH, room - LEAST_PROMPT)
    ids = tokenizer([prompt.rendered for prompt in asked], add_special_tokens=False).input_ids
    starts = [row[-(room - length) :] if room else row for row in ids]
    rows = continued(model, tokenizer, starts, seed=0, length=length, on_token=on_token)
    written = [row[trained] for row, trained in map(rows.row, range(len(rows)))]
    answers = tokenizer.batch_decode([ids.tolist() for ids in written], skip_special_tokens=True)
    texts = [f"{prompt.readable}\n\n{answer}" for prompt, answer in zip(asked, answers, strict=True)]
    items = [f"{TASK_SAMPLES}/{prompt.row_id}" for prompt in asked]
    return SampleProbe(TASK_SAMPLES, items, [""] * len(items), texts, rows)


def add_agreement(
    forgetting: Forgetting, base: Sequence[ProbeMeasurement], tuned: Sequence[ProbeMeasurement]
) -> None:
    """Into the `divergence` of a `forgetting` document, as `first_choice`, the share of places at which both
    models would say the same token first, {value, low, high, n} over samples."""
    for before, after in zip(base, tuned, strict=True):
        if not (isinstance(before, FirstChoices) and isinstance(after, FirstChoices)):
            continue
        part = next((p for p in forgetting["divergence"] if p["probe"] == before.probe and p["kl"]), None)
        if part is None or before.firsts is None or after.firsts is None:
            continue
        row_of = np.repeat(np.arange(len(before)), before.tokens)
        same = np.bincount(row_of, before.firsts == after.firsts, len(before))
        part["first_choice"] = ratio_interval(same, before.tokens).to_dict()
