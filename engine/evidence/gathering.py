"""Base and tuned model are asked the same: losses of held-out rows, answers, probes, rows from memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from engine.evidence.evidence import Evidence
from engine.evidence.extraction_prompts import OnToken, Written
from engine.evidence.swapped_prompts import SwappedPrompts
from engine.forward.generation import Generation, answers
from engine.forward.losses import RowLosses
from engine.models import memory
from engine.objectives.objectives import Objective
from engine.probes.probes import Probe, ProbeMeasurement
from engine.probes.sample_prompts import Prompt
from engine.probes.task_probes import TaskProbes
from engine.rows.render import TokenRows
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressTeller
from store.config.training.train_config import TrainConfig


class MemoryAsker(Protocol):
    """Who asks a model for rows from memory, with its losses of training rows and of held-out ones."""

    def ask(self, model: Any, seen: RowLosses, held: RowLosses, on_token: OnToken) -> list[Written]: ...


JUDGED = (
    "Evaluating ",
    "Asking ",
    "Giving ",
    "Probing ",
)  # what begins messages of the judging
PACED = ("losses", "swapped", "answers", "probes", "tasks", "memory")  # parts of the judging, in order


class JudgingPace(ProgressTeller):
    """How long the judging takes, for an estimate: what one model took is what the next will take."""

    def __init__(self, job: WorkerJob, models: int = 2) -> None:
        super().__init__(job)
        self.models = models  # still to be measured, the present one included
        self.seconds: dict[str, float] = {}  # of each part, as the last model took it
        self.probes: dict[str, float] = {}  # the same of each probe
        self.begin("losses")

    def begin(self, part: str) -> None:
        """The present model's next part begins."""
        self.part, self.began = part, time.perf_counter()

    def end(self) -> None:
        """The present part is done."""
        self.seconds[self.part] = time.perf_counter() - self.began

    def between(self, share: float) -> float:
        """Seconds until all models are measured, with this share (above 0) done of what comes between two."""
        taken = time.perf_counter() - self.began
        return taken / share * (1 - share) + self.models * sum(self.seconds.values())

    @property
    def passes(self) -> dict[str, float]:
        """Seconds of the last model's pass over the held-out rows, and over each probe."""
        return {"held_out": self.seconds["losses"], "other_prompts": self.seconds["swapped"]} | self.probes

    def left(self, share: float) -> float:
        """Seconds until all models are measured, with this share (above 0) of the present part done."""
        taken = time.perf_counter() - self.began
        seconds = self.seconds | {self.part: taken / share}
        here = seconds[self.part] - taken
        # of what the first model's later parts take nothing is known yet
        here += sum(self.seconds.get(part, 0.0) for part in PACED[PACED.index(self.part) + 1 :])
        return here + (self.models - 1) * sum(seconds.values())


@dataclass(frozen=True)
class Gathering:
    """Of one run: losses of `rows` under the objective, answers to `prompts`, `probes`, `tasks` where there
    are any, rows from memory where `extraction` asks for them, and answers after the prompts of other
    rows."""

    job: WorkerJob
    config: TrainConfig
    tokenizer: Any
    objective: Objective
    rows: TokenRows
    prompts: list[Prompt]
    probes: Sequence[Probe]
    pace: JudgingPace
    extraction: MemoryAsker | None = None
    tasks: TaskProbes | None = None
    swapped: SwappedPrompts = field(default_factory=SwappedPrompts)

    def as_base(self, probes: Sequence[Probe], folder: Path) -> Gathering:
        """The same of the base model, whose weights lie in `folder`: `probes` remember what it said before,
        and so do tasks and answers after other prompts."""
        swapped = self.swapped.as_base(self.job.home, self.tokenizer, folder)
        return replace(self, probes=probes, tasks=self.tasks and self.tasks.of_base(folder), swapped=swapped)

    def of(self, model: Any, which: str) -> Evidence:
        """What `model`, called `which` in the progress, makes of it. Raises Cancelled when asked to stop."""
        pace, config, count = self.pace, self.config, len(self.rows)

        def on_batch(done: int) -> None:
            self._guard()
            self._tell(done, count, "rows", f"Evaluating {which} on held-out rows", done / count)

        def on_token(done: int, most: int) -> None:
            asked = "rows from memory" if pace.part == "memory" else "held-out prompts"
            self._tell(done, most, "tokens", f"Asking {which} {asked}", done / most)

        pace.begin("losses")
        size, device = config.per_device_eval_batch_size, torch.device(self.job.device)
        losses = self.objective.measure(model, self.rows, batch_size=size, device=device, on_batch=on_batch)
        pace.end()
        swapped = self.under_other_prompts(model, which)
        pace.begin("answers")
        texts = answers(
            model,
            self.tokenizer,
            [prompt.rendered for prompt in self.prompts],
            Generation(config.max_new_tokens, self.job.device),
            on_token,
        )
        pace.end()
        pace.begin("probes")
        evidence = Evidence(losses, texts, list(self._probed(model, which)), swapped=swapped)
        pace.end()
        pace.begin("tasks")
        evidence.probes += self.tasks.ask(model, which) if self.tasks else []
        pace.end()
        pace.begin("memory")
        if self.extraction and evidence.seen and evidence.seen.rows:
            evidence.written = self.extraction.ask(model, evidence.seen.rows, losses, on_token)
        pace.end()
        pace.models -= 1
        return evidence

    def under_other_prompts(self, model: Any, which: str) -> ProbeMeasurement | None:
        """What `model` loses on answers after the prompts of other rows; None where there are none."""
        self.pace.begin("swapped")
        probe = self.swapped.probe
        if probe is None:
            self.pace.end()
            return None

        def on_items(done: int) -> None:
            self._guard()
            message = f"Giving {which} the answers after prompts of other rows"
            self._tell(done, len(probe), "answers", message, done / len(probe))

        size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        measured = probe.measure(model, batch_size=size, device=device, on_items=on_items)
        self.pace.end()
        return measured

    def _probed(self, model: Any, which: str) -> Iterator[ProbeMeasurement]:
        whole, before = sum(probe.tokens for probe in self.probes), 0
        batch_size, device = self.config.per_device_eval_batch_size, torch.device(self.job.device)
        for probe in self.probes:
            name = probe.name.replace("_", " ")

            def on_items(done: int, probe: Probe = probe, name: str = name, before: int = before) -> None:
                self._guard()
                share = (before + probe.tokens * done / len(probe)) / whole
                self._tell(done, len(probe), "items", f"Probing {which}: {name}", share)

            began = time.perf_counter()
            yield probe.measure(model, batch_size=batch_size, device=device, on_items=on_items)
            self.pace.probes[probe.name] = time.perf_counter() - began
            before += probe.tokens

    def _guard(self) -> None:
        memory.guard(self.config, torch.device(self.job.device))

    def _tell(self, done: int, total: int, unit: str, message: str, share: float) -> None:
        """With an estimate; `share` of the present part is done. Raises Cancelled when asked to stop."""
        self.pace.tell(done, total, unit, message, lambda: self.pace.left(share))
