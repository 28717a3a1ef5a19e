"""What the rows of a run come to, as facts and alerts: nothing is cut or left out without being counted."""

from __future__ import annotations

from engine.forward.batches import total_steps
from engine.prepare.prepare import TokenisedPart
from engine.worker.job import WorkerJob
from store.config.training.train_config import Split, TrainConfig
from store.contract.errors import DataError


def tell_rows(
    job: WorkerJob,
    config: TrainConfig,
    split: Split,
    fingerprint: str,
    parts: dict[str, TokenisedPart],
    limit: int,
) -> None:
    """Facts and alerts about the rows. Raises DataError where a part has no trained token at all."""
    train = parts["train"]
    for name in ("train", "validation"):
        if not len(parts[name].rows):
            reasons = ", ".join(parts[name].whole.reason_counts)
            raise DataError(
                f"No {name} row has a token to train on: {reasons}.",
                fix="Raise max_length, or look at how the data set's columns were read.",
                field="dataset",
            )
    for name, part in parts.items():
        called = "training" if name == "train" else name
        for reason, count in part.whole.reason_counts.items():
            job.alert(f"{count:,} of {len(part.whole):,} {called} rows were left out: {reason}.")
    if train.truncated:
        job.alert(
            f"{train.truncated:,} of {len(train.whole):,} training rows were cut at {limit} tokens; they"
            f" lost {train.lost_tokens:,} trained tokens.",
            "info",
        )
    job.facts(
        rows={name: len(part.rows) for name, part in parts.items()},
        tokens_per_epoch=len(train.rows.ids),
        trained_tokens_per_epoch=int(train.rows.trained.sum()),
        truncated_rows=train.truncated,
        untrained_rows=train.untrained,
        max_length=limit,
        steps=total_steps(config, len(train.rows)),
        data_fingerprint=fingerprint,
        split=split.model_dump(),
    )
