"""What passes through the model over a whole run: training, validations, judging, answers, label texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.data import canaries
from engine.evaluation import label_text, requests, samples, verbatim, weights
from engine.evaluation.own_samples import LENGTH
from engine.tuning import estimate, prepare
from engine.tuning.batches import batch_shape, epoch_steps, tokens_of_a_piece
from engine.tuning.operations import length_of
from engine.tuning.state import evaluation_steps

if TYPE_CHECKING:
    from engine.jobs.costs import Cost, LabelsAsText

LABEL_COST = 0.9  # times a token of a label takes as long as one of a row, as measured: some are shared
ANSWERED = 16  # prompts that are answered together
SUITE = np.array([40_000, 26_000])  # tokens of questions, prose and own texts, and those with logits, about
LIGHT = 8_000  # tokens of the questions and prose that are measured between steps, about
ASTRAY = 12  # tokens that are written from memory until all of ANSWERED rows went astray, about, as measured
WIDE = 2  # times a step that generates for 32 or 56 prompts takes as long as one for ANSWERED, about


def work_of(cost: Cost) -> estimate.Work:
    """What passes through the model over the whole run."""
    config, costs = cost.config, cost.costs
    epochs = cost.steps / cost.per_epoch
    validations = 1 + len(evaluation_steps(cost.steps, config.evaluations))  # the base model's first
    train, validation, test = (np.array(costs.epoch(part)) for part in prepare.PARTS)
    held_out = test if costs.rows["test"] else validation
    evaluated = validation * validations + 2 * held_out
    mean_length = train[0] / costs.train_rows
    if config.task == "dpo":  # every pair passes once through the base model
        evaluated = evaluated + train + validation + test
        mean_length /= 2
    if costs.labels:
        evaluated = evaluated + _labels_asked(cost, costs.labels, mean_length)
    asked = config.probes and config.task != "classification"
    between = written = 0.0
    if config.probes:
        between = validations * (validation[0] + (LIGHT if asked else 0))
    if asked:  # of base and tuned model, with as many rows that were trained on as validation has
        task = samples.COUNT * np.array([mean_length + samples.LENGTH, samples.LENGTH])
        evaluated = evaluated + 2 * (SUITE + validation + task + cost.costs.probed)
        written = WIDE * (samples.LENGTH + 2 * requests.LENGTH)
        if config.task == "sft":
            written += 2 * ASTRAY * -(-_recalled(cost) // ANSWERED)
    if config.canaries:
        evaluated = evaluated + _canaries(cost)  # of the tuned model alone
    prompts = 0 if config.task == "classification" else config.sample_prompts
    pieces: float = cost.steps * batch_shape(config)[1]
    padded = _padding(cost)
    if cost.footprint.packed:
        padded, pieces = 1.0, cost.steps * max(1.0, train[0] / cost.per_epoch / tokens_of_a_piece(config))
    trained = train * (padded, 1.0) * epochs
    if replay := cost.replay:
        more = np.array(replay.tokens)
        trained, pieces = trained + more, pieces + max(cost.steps, more[0] / tokens_of_a_piece(config))
        evaluated = evaluated + more * (config.kl_beta > 0)  # passes through the base too
        if not config.replay_dataset:
            written += LENGTH * -(-len(replay.rows) // ANSWERED)
    return estimate.Work(
        train_tokens=trained[0],
        train_trained=trained[1],
        pieces=pieces,
        eval_tokens=evaluated[0],
        eval_trained=evaluated[1],
        generated_steps=round(2 * config.max_new_tokens * -(-prompts // ANSWERED) + written),
        length=length_of(cost.train.lengths),
        steps=cost.steps,
        beside=weights.SECONDS if asked else 0.0,
        between=between,
        share=config.probe_share,
    )


def _padding(cost: Cost) -> float:
    """Tokens that pass through the model over those of the rows, in micro-batches as in training."""
    lengths = cost.train.lengths
    grouped = lengths if cost.costs.objective.grouped else np.ones(len(lengths), np.int64)
    size, accumulation = batch_shape(cost.config)
    dealt = epoch_steps(grouped, seed=cost.config.seed, epoch=0, batch_size=size, accumulation=accumulation)
    whole = sum(len(part) * int(lengths[part].max()) for step in dealt for part in step)
    return whole / max(1, int(lengths.sum()))


def _labels_asked(cost: Cost, labels: LabelsAsText, mean_length: float) -> np.ndarray:
    """Tokens, and those with logits, of asking models for the labels of held-out rows."""
    _, rows = _held_out(cost)
    device, seed = cost.costs.device.type, cost.config.seed
    asked = labels.models * len(label_text.affordable(np.arange(rows), labels.tokens, device, seed))
    return np.array([asked * (mean_length + LABEL_COST * labels.tokens), asked * labels.tokens])


def _recalled(cost: Cost) -> int:
    """Rows that are to be written from memory, about: those whose answer is long enough, up to a limit."""
    rows, parts = cost.costs.rows, cost.costs.parts
    own = rows["train"] - canaries.planted_count(cost.config)
    asked = {"train": ("train", min(own, rows["validation"])), "held_out": _held_out(cost)}
    found = {}
    for name, (part, count) in asked.items():
        counted = parts[part].rows
        long = verbatim.long_enough(counted.trained_counts[counted.row_ids >= 0])  # without canaries
        found[name] = min(verbatim.MOST[name], round(count * float(long.mean()))) if len(long) else 0
    return sum(found.values()) if found["train"] else 0


def _held_out(cost: Cost) -> tuple[str, int]:
    """The part that judges the run, and its rows."""
    part = "test" if cost.costs.rows["test"] else "validation"
    return part, cost.costs.rows[part]


def _canaries(cost: Cost) -> np.ndarray:
    """Tokens, and those with logits, of measuring every canary once: planted or not, they are alike."""
    train = cost.costs.parts["train"].rows
    own = train.take(np.flatnonzero(train.row_ids < 0))
    each = np.array([len(own.ids), own.trained.sum()]) / max(1, len(own))
    return len(canaries.times(cost.config)) * each
