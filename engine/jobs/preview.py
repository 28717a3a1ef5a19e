"""The `preview` ask: what a config would do, before anything is trained. Nothing is loaded but the tokenizer.

Token counts come from the cache that training uses too. Of a data set with more than `WHOLE` rows a sample
is counted, and `counted_rows` says how many. What makes a preview impossible (no such model, no rows) is
raised as the error that it is; all else is in `problems`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engine.data import leakage, masks
from engine.data.render import Rows
from engine.data.token_rows import shown_row
from engine.job import Job
from engine.jobs.costs import Cost
from engine.jobs.question import Question
from engine.tuning import memory, prepare, problems
from engine.tuning.precision import choose_dtype, dtype_name
from store.config import METHOD_TITLES


def run(job: Job) -> dict[str, Any]:
    """Answer the document of docs/architecture.md for {"config", "fingerprint", "split", "row"}."""
    question = Question(job)
    fingerprint, kind, tokenizer = question.fingerprint, question.kind, question.tokenizer
    whole, parts, limit, device = question.whole, question.parts, question.limit, question.device
    dealt, costs, cost = question.dealt, question.costs, question.cost(question.said)
    config = cost.config
    document = _document(cost, parts["train"], limit)
    document["leaks"] = leakage.within(job.home, fingerprint, dealt)
    document["row"] = shown_row(tokenizer, whole["train"], limit, int(job.config.get("row", 0)))
    document["fitting"] = [] if document["memory"]["fits"] else costs.fitting(cost, limit)
    free, total = memory.available_gib(device)
    document["problems"] = problems.find(
        problems.Facts(
            config=config,
            kind=kind,
            device=device.type,
            fast_bf16=choose_dtype("auto", device) == torch.bfloat16,
            own_template=tokenizer.has_own_template,
            rows=document["rows"],
            leaks=document["leaks"],
            counted=document["counted_rows"],
            truncated=document["truncated_rows"],
            lost_tokens=document["lost_tokens"],
            reasons=parts["train"].whole.reason_counts,
            unjudged=not len(parts["validation"].rows),
            checks=None if kind == "text" else _check(job, fingerprint, tokenizer, whole["train"]),
            max_length=limit,
            positions=question.positions,
            steps=document["steps"],
            memory_low=document["memory"]["low_gib"],
            memory_high=document["memory"]["high_gib"],
            available=free,
            device_total=total,
        )
    )
    return document


def _document(cost: Cost, train: prepare.Part, limit: int) -> dict[str, Any]:
    """The numbers of a preview; those of the whole set are scaled up from the rows that were counted."""
    costs, counts = cost.costs, cost.counts
    tokens, trained = costs.epoch("train")
    return {
        "config": cost.config.model_dump(),
        "method": METHOD_TITLES[cost.config.method],
        "trainable_parameters": round(counts.trainable),
        "total_parameters": round(counts.total + counts.added),
        "rows": costs.rows,
        "counted_rows": len(train.whole),
        "tokens_per_epoch": round(tokens),
        "trained_tokens_per_epoch": round(trained),
        "max_length": limit,
        "truncated_rows": train.truncated,
        "untrained_rows": train.untrained,
        "lost_tokens": train.lost_tokens,
        "steps": cost.steps,
        "steps_per_epoch": cost.per_epoch,
        "memory": cost.memory(),
        "time": cost.time(),
        "dtype": dtype_name(cost.dtype),
    }


def _check(job: Job, fingerprint: str, tokenizer: Any, rows: Rows) -> masks.Checks:
    """The trained tokens of the first training rows, held against what was said in them."""
    some = rows.take(np.arange(min(masks.MOST, len(rows))))
    return masks.check(tokenizer, prepare.loader(job.home, fingerprint, "chat")(some.row_ids), some)
