"""The preview of a run with a classification head: texts and classes instead of prompts and answers.

Labels are read of every dealt row, so that the counts of classes are those that training finds; tokens as in
every preview.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engine.data import dataset, leakage
from engine.data.labelled import UNSEEN
from engine.data.token_rows import shown_row
from engine.evaluation import label_text
from engine.job import Job
from engine.jobs.preview import Measured, counted_rows
from engine.tuning import class_problems, estimate, memory, models, prepare, problems
from engine.tuning.class_rows import ClassRows, class_rows
from engine.tuning.precision import choose_dtype
from store.config import Split, TrainConfig

MOST_CLASSES = 100  # that the document lists, the largest


def run(job: Job, config: TrainConfig, source: str, architecture: Any, tokenizer: Any) -> dict[str, Any]:
    """The document of docs/architecture.md, with `classes`, and the label of the row."""
    asked = job.config
    fingerprint = asked["fingerprint"]
    total = dataset.open_rows(job.home, fingerprint).metadata.num_rows
    dealt = prepare.deal(job.home, fingerprint, Split.parse(asked["split"]), config)
    rows = class_rows(
        job.home, config, tokenizer, dealt, fingerprint, counted=lambda kept: counted_rows(kept, total)
    )
    architecture = models.name_labels(architecture, rows.labels.names, tokenizer.pad_token_id)
    shape = estimate.shape(architecture, config)
    config = config.resolved(len(rows.kept["train"]), shape.total)
    positions = prepare.positions(architecture, config)
    limit = prepare.fitting(config, rows.whole["train"], positions)
    parts = rows.cut(tokenizer, limit)
    measured = ClassMeasured(job, config, shape, rows.kept, parts, limit)
    if not models.is_encoder(architecture):
        names = tokenizer(rows.labels.names, add_special_tokens=False).input_ids
        measured.label_tokens = sum(len(ids) + 1 for ids in names)
    document = measured.document()
    document["classes"] = _classes(rows)
    document["leaks"] = leakage.within(job.home, fingerprint, rows.kept)
    document["row"] = shown_row(tokenizer, rows.whole["train"], limit, int(asked.get("row", 0)))
    row_id = np.array([document["row"]["row_id"]])
    document["row"]["label"] = rows.labels.text_of(row_id)[0]
    document["problems"] = _problems(measured, document, rows, positions, architecture.model_type)
    return document


class ClassMeasured(Measured):
    """The numbers of a preview without a vocabulary's logits: a row has one answer, of as many as classes."""

    label_tokens = 0  # of all labels together, when the untuned model is asked for them; 0: it is not

    def work(self, per_epoch: int) -> estimate.Work:
        found = super().work(per_epoch)
        if not self.label_tokens:
            return replace(found, eval_trained=0.0, generated_steps=0)
        held_out = self.rows["test"] or self.rows["validation"]
        scored = len(
            label_text.affordable(np.arange(held_out), self.label_tokens, self.device.type, self.config.seed)
        )
        prompts = scored * (found.mean_length + self.label_tokens)
        return replace(
            found,
            eval_tokens=found.eval_tokens + prompts,
            eval_trained=float(scored * self.label_tokens),
            generated_steps=0,
        )


def _classes(rows: ClassRows) -> dict[str, Any]:
    counts = [rows.counts(part).tolist() for part in prepare.PARTS]
    named = sorted(zip(rows.labels.names, *counts, strict=True), key=lambda row: (-row[1], row[0]))
    held = np.concatenate([rows.kept[part] for part in prepare.PARTS[1:]])
    return {
        "count": len(named),
        "rows": [list(row) for row in named[:MOST_CLASSES]],
        "smallest": named[-1][1],
        "unlabelled": rows.unlabelled,
        "unseen": rows.unseen(),
        "unseen_rows": int((rows.labels.of(held) == UNSEEN).sum()),
    }


def _problems(
    measured: ClassMeasured,
    document: dict[str, Any],
    rows: ClassRows,
    positions: int | None,
    model_type: str,
) -> list[problems.Problem]:
    device, train = measured.device, measured.parts["train"]
    free, total = memory.available_gib(device)
    found = problems.find(
        problems.Facts(
            config=measured.config,
            kind="text",
            model_type=model_type,
            device=device.type,
            fast_bf16=choose_dtype("auto", device) == torch.bfloat16,
            own_template=True,
            rows=document["rows"],
            leaks=document["leaks"],
            counted=document["counted_rows"],
            truncated=document["truncated_rows"],
            lost_tokens=document["lost_tokens"],
            reasons=train.whole.reason_counts,
            unjudged=False,
            checks=None,
            max_length=measured.limit,
            positions=positions,
            steps=document["steps"],
            memory_low=document["memory"]["low_gib"],
            memory_high=document["memory"]["high_gib"],
            available=free,
            device_total=total,
        )
    )
    return sorted([*found, *class_problems.find(rows)], key=lambda problem: problem["level"])
