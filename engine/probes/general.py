"""What a causal model knows in general, as probes: the suite's questions, its prose, and the base model's own
samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.probes import choice_scores
from engine.probes.own_samples import SamplePlan, own_samples
from engine.probes.probes import LISTING, ProbeMeasurement, TextProbe, all_told, spread
from engine.probes.samples import SampleProbe
from engine.probes.suite import suite_texts
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressReporter

CHOICES = "choices"
PROSE = "prose"
OWN = "own_samples"
LIGHT = {PROSE: 8, CHOICES: 96}  # items of each that are measured while a run trains


def fingerprint() -> str:
    """Of questions and prose: results of different ones are never compared."""
    return suite_texts.load().fingerprint


@dataclass(frozen=True)
class ChoiceProbe:
    """Multiple-choice items as a probe."""

    name: str
    asked: choice_scores.TokenisedItems

    def __len__(self) -> int:
        return len(self.asked.items)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.asked.prompts)) + sum(len(o) for each in self.asked.options for o in each)

    def measure(
        self,
        model: Any,
        *,
        batch_size: int,
        device: torch.device,
        on_items: Callable[[int], None] = lambda done: None,
    ) -> ProbeMeasurement:
        scored = choice_scores.score(model, self.asked, device, batch_size=batch_size, on_items=on_items)
        items = self.asked.items
        return ProbeMeasurement(
            self.name,
            [item.id for item in items],
            [item.category for item in items],
            scored.losses,
            np.ones(len(items), np.int64),
            scored.correct,
            np.array([len(item.options) for item in items], np.int32),
            scored.chosen,
        )

    def listing(self) -> pa.Table:
        items = self.asked.items
        return pa.table(
            [
                [self.name] * len(items),
                [item.id for item in items],
                [item.category for item in items],
                [item.question for item in items],
                [list(item.options) for item in items],
                [item.right for item in items],
            ],
            schema=LISTING,
        )

    def part(self, most: int) -> ChoiceProbe:
        chosen = spread(len(self), most)
        items, prompts, options = self.asked.items, self.asked.prompts, self.asked.options
        return ChoiceProbe(
            self.name,
            choice_scores.TokenisedItems(
                tuple(items[i] for i in chosen), [prompts[i] for i in chosen], [options[i] for i in chosen]
            ),
        )


def questions(tokenizer: Any, room: int | None) -> ChoiceProbe:
    """The suite's items, as a model with `room` positions is asked them."""
    return ChoiceProbe(CHOICES, choice_scores.tokenise(tokenizer, suite_texts.load().items, room=room))


def prose(tokenizer: Any, room: int | None) -> TextProbe:
    """The suite's passages, each cut to the `room` that the model has."""
    passages = suite_texts.load().passages
    rows = tokenizer([passage.text for passage in passages]).input_ids
    return all_told(
        PROSE,
        [passage.id for passage in passages],
        [passage.register for passage in passages],
        [passage.text for passage in passages],
        [np.asarray(ids[:room], np.int32) for ids in rows],
    )


def own_texts(job: WorkerJob, model: Any, tokenizer: Any, folder: Path) -> SampleProbe:
    """Samples of the base model `model`, whose weights lie in `folder`, from the cache or made now."""
    report = ProgressReporter(job, 0, "tokens", "Letting the base model write, once for every base")
    rows = own_samples(job.home, model, tokenizer, folder, SamplePlan(suite_texts.load()), report)
    texts = [tokenizer.decode(rows.row(i)[0], skip_special_tokens=True) for i in range(len(rows))]
    items = [f"{OWN}/{i:03}" for i in range(len(rows))]
    return SampleProbe(OWN, items, [""] * len(rows), texts, rows)
