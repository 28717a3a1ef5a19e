"""What became of the canaries of a run: how well the tuned model knows each, against those never planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.diagnostics.memorisation import extraction
from engine.evidence.gathering import JudgingPace
from engine.forward.losses import row_losses
from engine.models import memory
from engine.prepare import canaries
from engine.worker.job import WorkerJob
from store.config.training.train_config import TrainConfig
from store.documents.verdicts.memorisation import CanaryEvidence, PlantedCanary


def tell(job: WorkerJob, config: TrainConfig) -> None:
    """Say in the facts which secrets are planted."""
    if not config.canaries:
        return
    often = canaries.times(config)
    listed = [
        {"times": n, "question": question, "answer": answer}
        for n, (question, answer) in zip(often, canaries.texts(config), strict=True)
        if n
    ]
    job.facts(canaries={"rows": canaries.canary_count(config), "planted": listed})
    job.alert(
        f"{canaries.canary_count(config):,} training rows are canaries, {len(listed):,} made-up secrets: the"
        " model is for looking at, not for use.",
        "info",
    )


def measure(
    job: WorkerJob, config: TrainConfig, tokenizer: Any, kind: str, model: Any, pace: JudgingPace
) -> CanaryEvidence | None:
    """The `canaries` part of the verdict; None where none were planted."""
    if not config.canaries:
        return None
    rows = canaries.drawn(tokenizer, config, kind)
    pace.begin("canaries")

    def on_batch(done: int) -> None:
        memory.guard(config, torch.device(job.device))
        pace.tell(done, len(rows), "rows", "Asking for the canaries", lambda: pace.between(done / len(rows)))

    device = torch.device(job.device)
    losses = row_losses(
        model, rows, batch_size=config.per_device_eval_batch_size, device=device, on_batch=on_batch
    ).loss_sum
    return document(config, losses)


def document(config: TrainConfig, losses: np.ndarray) -> CanaryEvidence:
    """Exposure by repetitions, and of each canary; losses as of `canaries.drawn`."""
    often = np.array(canaries.times(config))
    others, asked = losses[-canaries.REFERENCE :], len(losses) - canaries.REFERENCE
    groups = {
        n: [(float(loss), others) for loss in losses[:asked][often[:asked] == n]]
        for n in (0, *canaries.REPEATS)
    }
    listed: list[PlantedCanary] = [
        {"times": int(often[i]), "question": question, "answer": answer,
         "exposure": extraction.exposure(float(losses[i]), others)}
        for i, (question, answer) in enumerate(canaries.texts(config)[:asked])
    ]  # fmt: skip
    return {**extraction.canaries(groups), "reference": canaries.REFERENCE, "listed": listed}
