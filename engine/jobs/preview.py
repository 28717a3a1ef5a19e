"""The `preview` ask: what a config would do, before anything is trained. Nothing is loaded but the tokenizer.

Token counts come from the cache that training uses too. Of a data set with more than `WHOLE` rows a sample
is counted, and `counted_rows` says how many. What makes a preview impossible (no such model, no rows) is
raised as the error that it is; all else is in `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from engine.data import dataset, leakage, masks
from engine.data.render import Rows, render
from engine.data.token_rows import shown
from engine.data.tool_turns import has_tools, knows_tools
from engine.job import Job
from engine.jobs.convert import ensure
from engine.tuning import continued, estimate, memory, models, prepare, problems
from engine.tuning.batches import batch_shape, steps_per_epoch, total_steps
from engine.tuning.calibrate import gflops
from engine.tuning.precision import choose_dtype, dtype_name
from engine.tuning.state import evaluation_steps
from engine.tuning.tokens import WHOLE
from store.config import Split, TrainConfig
from store.methods import METHODS

Counts = dict[str, np.ndarray]
Parts = dict[str, Rows]


def run(job: Job) -> dict[str, Any]:
    """Answer the document of docs/architecture.md for {"config", "fingerprint", "split", "row"}."""
    asked = job.config
    config = TrainConfig.parse(asked["config"])
    fingerprint = asked["fingerprint"]
    if config.model in models.BUNDLED:
        ensure(config.model, job.home)
    source = models.resolve(config.model, job.home)
    earlier = continued.find(job.home, config)
    architecture = models.load_config_for(config, source)
    tokenizer = models.load_tokenizer(
        source, trust_remote_code=config.trust_remote_code, chat_template=config.chat_template
    )
    if config.task == "classification":
        from engine.jobs import preview_classes  # which builds on this module

        return preview_classes.run(job, config, source, architecture, tokenizer)
    shape = estimate.shape(architecture, config)
    dealt = prepare.deal(job.home, fingerprint, Split.parse(asked["split"]), config)
    config = config.resolved(len(dealt["train"]), shape.total)
    kind = prepare.kind(job.home, fingerprint)
    counted = counted_rows(dealt, dataset.open_rows(job.home, fingerprint).metadata.num_rows)
    whole = prepare.tokenise(job.home, config, tokenizer, counted, fingerprint=fingerprint, kind=kind)
    positions = prepare.positions(architecture, config)
    limit = prepare.fitting(config, whole["train"], positions)
    parts = {name: prepare.cut(rows, limit) for name, rows in whole.items()}
    measured = Measured(job, config, shape, dealt, parts, limit)
    document = measured.document()
    document["leaks"] = leakage.within(job.home, fingerprint, dealt)
    document["row"] = shown(tokenizer, whole["train"], limit, int(asked.get("row", 0)))
    free, total = memory.available_gib(measured.device)
    document["problems"] = problems.find(
        problems.Facts(
            config=config,
            kind=kind,
            model_type=architecture.model_type,
            device=measured.device.type,
            fast_bf16=choose_dtype("auto", measured.device) == torch.bfloat16,
            own_template=tokenizer.has_own_template,
            rows=document["rows"],
            leaks=document["leaks"],
            counted=document["counted_rows"],
            truncated=document["truncated_rows"],
            lost_tokens=document["lost_tokens"],
            reasons=parts["train"].whole.reason_counts,
            unjudged=not len(parts["validation"].rows),
            checks=None if kind == "text" else _check(job, config, fingerprint, tokenizer, whole),
            max_length=limit,
            positions=positions,
            steps=document["steps"],
            memory_low=document["memory"]["low_gib"],
            memory_high=document["memory"]["high_gib"],
            available=free,
            device_total=total,
            seen_before=continued.trained_before(earlier, fingerprint, dealt) if earlier else 0,
            tools_written=kind != "text" and _tools_written(job, fingerprint, tokenizer, whole["train"]),
        )
    )
    return document


def counted_rows(dealt: Mapping[str, np.ndarray], row_count: int) -> Counts:
    """The rows whose tokens are counted: all of them, or a sample of a large data set."""
    if row_count <= WHOLE:
        return dict(dealt)
    train = dealt["train"]
    if len(train) > WHOLE:
        train = np.sort(np.random.default_rng(0).choice(train, WHOLE, replace=False))
    return {"train": train, "validation": dealt["validation"][:500], "test": dealt["test"][:500]}


class Measured:
    """The numbers of a preview; those of the whole set are scaled up from the rows that were counted."""

    def __init__(
        self,
        job: Job,
        config: TrainConfig,
        shape: estimate.Shape,
        dealt: Counts,
        parts: dict[str, prepare.Part],
        limit: int,
    ) -> None:
        self.job, self.config, self.shape, self.parts, self.limit = job, config, shape, parts, limit
        self.rows = {name: len(ids) for name, ids in dealt.items()}
        self.device = torch.device(job.device)
        self.dtype = choose_dtype(config.dtype, self.device)
        train = parts["train"]
        kept = len(train.rows) / max(1, len(train.whole))
        self.train_rows = max(1, round(self.rows["train"] * kept))
        self.tokens, self.trained = self._epoch("train")
        self.steps = total_steps(config, self.train_rows)

    def _epoch(self, name: str) -> tuple[float, float]:
        """Tokens and trained tokens of one pass over a part."""
        part = self.parts[name]
        scale = self.rows[name] / max(1, len(part.whole))
        return len(part.rows.ids) * scale, int(part.rows.trained.sum()) * scale

    def document(self) -> dict[str, Any]:
        """Everything but row and problems."""
        config, train = self.config, self.parts["train"]
        per_epoch = steps_per_epoch(self.train_rows, *batch_shape(config))
        adapter = self.shape.trainable if METHODS[config.method].adapter else 0
        return {
            "config": config.model_dump(),
            "method": METHODS[config.method].title,
            "trainable_parameters": self.shape.trainable,
            "total_parameters": self.shape.total + adapter,
            "rows": self.rows,
            "counted_rows": len(train.whole),
            "tokens_per_epoch": round(self.tokens),
            "trained_tokens_per_epoch": round(self.trained),
            "max_length": self.limit,
            "truncated_rows": train.truncated,
            "untrained_rows": train.untrained,
            "lost_tokens": train.lost_tokens,
            "steps": self.steps,
            "steps_per_epoch": per_epoch,
            "memory": self.memory(),
            "time": self.time(per_epoch),
            "dtype": dtype_name(self.dtype),
        }

    def memory(self) -> dict[str, Any]:
        """The estimate against what is free."""
        rows = self.parts["train"].rows
        found = estimate.memory(
            self.shape,
            self.config,
            self.dtype,
            self.device,
            longest=int(rows.sequence_lengths.max()) if len(rows) else self.limit,
            trained_share=self.trained / max(1.0, self.tokens),
            sequences=2 if self.config.task == "dpo" else 1,
        )
        free, _ = memory.available_gib(self.device)
        return found | {"available_gib": free, "fits": found["high_gib"] <= free}

    def time(self, per_epoch: int) -> dict[str, Any]:
        """The estimate for the whole run, evaluations and answers included."""
        rate = gflops(self.job.home, self.device, self.dtype)
        work = self.work(per_epoch)
        return estimate.seconds(self.shape, self.config, self.dtype, self.device, work, rate)

    def work(self, per_epoch: int) -> estimate.Work:
        """What passes through the model over the whole run."""
        config = self.config
        epochs = self.steps / per_epoch
        validations = 1 + len(evaluation_steps(self.steps, config.evaluations))  # the base model's first
        validation, test = self._epoch("validation"), self._epoch("test")
        held_out = test if self.rows["test"] else validation
        reference = 1 if config.task == "dpo" else 0  # every pair passes once through the base model
        once = [self.tokens + validation[0] + test[0], self.trained + validation[1] + test[1]]
        return estimate.Work(
            train_tokens=self.tokens * epochs,
            train_trained=self.trained * epochs,
            eval_tokens=validation[0] * validations + 2 * held_out[0] + reference * once[0],
            eval_trained=validation[1] * validations + 2 * held_out[1] + reference * once[1],
            generated_steps=2 * config.max_new_tokens * -(-config.sample_prompts // 16),
            mean_length=self.tokens / self.train_rows / (1 + reference),
            steps=self.steps,
        )


def _tools_written(job: Job, fingerprint: str, tokenizer: Any, rows: Rows) -> bool:
    """Whether the first rows call functions of which the template knows nothing."""
    load = prepare.loader(job.home, fingerprint, "chat")
    return not knows_tools(tokenizer) and any(map(has_tools, load(rows.row_ids[: masks.MOST])))


def _check(job: Job, config: TrainConfig, fingerprint: str, tokenizer: Any, whole: Parts) -> masks.Checks:
    """The trained tokens of the first training rows, held against what was said in them; of pairs those of
    the chosen answers, rendered as rows of conversations."""
    some = whole["train"].take(np.arange(min(masks.MOST, len(whole["train"]))))
    messages = prepare.loader(job.home, fingerprint, "chat")(some.row_ids)
    if config.task == "dpo":
        some = render(tokenizer, some.row_ids, messages)
    return masks.check(tokenizer, messages, some)
