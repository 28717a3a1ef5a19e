"""The query `preview`: what a config would do, before anything is trained, with warnings.

Only the tokenizer is loaded, and if steps are timed a copy of the model without its weights. Token counts
come from the cache that training uses too; of a large data set a sample is counted, and `counted_rows` is its
size. If no preview is possible (no such model, no rows), the error is raised; everything else is in
`problems`.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from engine.data import training_rows
from engine.data.conversion.reading_plan import find_undecided_stored_columns
from engine.data.split import leakage
from engine.data.split.leakage_warnings import make_problem
from engine.data.training_rows import ClassRows
from engine.evaluation.probes import replay_rows
from engine.models import hardware, saved_models
from engine.models.hardware import choose_dtype, get_dtype_name
from engine.models.tokenization import tokenized_rows
from engine.models.tokenization.rendering import render
from engine.models.tokenization.tokenized_rows import render_row
from engine.models.tokenization.tool_turns import has_tools, supports_tools
from engine.training.costs import timed_steps
from engine.training.costs.run_costs import ConfigCost
from engine.training.costs.timed_steps import CachedSteps
from engine.training.preview import preflight
from engine.training.preview.planned_run import PlannedRun
from engine.worker.job import JobCancelled, WorkerJob
from store.core import formatting
from store.core.training_schemas import Preview, Problem, RenderedRow, ReplayPlan, TimeEstimate, TimingStatus
from store.data.config import CostQuery
from store.training.methods import METHODS

SMALL_CLASS_ROWS = 5  # training rows
LARGE_CLASS_SHARE = 0.8  # share of the training rows in one class
MAX_LISTED = 3  # classes named in a message


def check_classes(rows: ClassRows) -> list[Problem]:
    """Return all warnings about classes."""
    return [
        *_check_unlabelled(rows),
        *_check_unseen_labels(rows),
        *_check_small_classes(rows),
        *_check_imbalance(rows),
    ]


def _build_warning(message: str, fix: str) -> Problem:
    return make_problem("warning", "dataset", message, fix)


def _check_unlabelled(rows: ClassRows) -> list[Problem]:
    if not rows.unlabelled:
        return []
    return [_build_warning(
        f"{formatting.plural(rows.unlabelled, 'row')} without a label will be left out.",
        "Label them, or go on.",
    )]  # fmt: skip


def _check_unseen_labels(rows: ClassRows) -> list[Problem]:
    unseen = rows.unseen()
    if not unseen:
        return []
    count = formatting.plural(sum(unseen.values()), "held-out row")
    return [_build_warning(
        f"{count} with a label that no training row has ({_format_names(list(unseen))}): they"
        " can't be right, count"
        " as wrong, and have no loss.",
        "Split by strata of label (split_by), or train on more rows.",
    )]  # fmt: skip


def _check_small_classes(rows: ClassRows) -> list[Problem]:
    counts = rows.counts("train")
    small = np.flatnonzero(counts < SMALL_CLASS_ROWS)
    if not len(small):
        return []
    order = small[np.argsort(counts[small], kind="stable")]
    names = _format_names([f"{rows.labels.names[i]}: {counts[i]}" for i in order.tolist()])
    return [_build_warning(
        f"{len(small):,} of {len(counts):,} classes have under {SMALL_CLASS_ROWS} training rows"
        f" ({names}): little can be"
        " learned of them, and less be known.",
        "Add rows of these classes, or merge them.",
    )]  # fmt: skip


def _check_imbalance(rows: ClassRows) -> list[Problem]:
    counts = rows.counts("train")
    share = counts.max() / counts.sum()
    if share < LARGE_CLASS_SHARE:
        return []
    name = rows.labels.names[int(counts.argmax())]
    return [_build_warning(
        f"{share:.0%} of the training rows are of one class, {name}: always predicting it is right as often.",
        "Also use macro F1, in which every class counts the same.",
    )]  # fmt: skip


def _format_names(names: list[str]) -> str:
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more:,} more" if more > 0 else "")


log = logging.getLogger(__name__)


def run(job: WorkerJob) -> Preview:
    """Return the document of docs/http.md for {"config", "fingerprint", "split", "row"}."""
    planned = PlannedRun(job)
    cost, asked = planned.cost(planned.config), CostQuery.parse(job.config)
    row = render_row(planned.tokenizer, planned.whole["train"], planned.limit, int(job.config.get("row", 0)))
    document = _build_document(planned, cost, row, asked)
    problem_list = preflight.check_run(_collect_facts(planned, cost, document))
    if classes := planned.classes:
        document.classes = classes.document()
        row["label"] = classes.labels.text_of(np.array([row["row_id"]]))[0]
        problem_list = [*problem_list, *check_classes(classes)]
    if imported := asked.imported_as:
        undecided = find_undecided_stored_columns(job.home, planned.fingerprint, imported)
        problem_list = [*problem_list, *preflight.check_columns(planned.config, undecided)]
    document.problems = sorted(problem_list, key=lambda problem: problem.level)
    return document


def _build_document(planned: PlannedRun, cost: ConfigCost, row: RenderedRow, asked: CostQuery) -> Preview:
    """Build the document without its problems, which are derived from it.

    Numbers of the whole data set are scaled up from the counted rows.
    """
    costs, counts, limit, train = cost.costs, cost.counts, planned.limit, planned.parts["train"]
    memory_estimate = cost.memory()
    tokens, trained = costs.epoch("train")
    return Preview(
        config=cost.config.model_dump(),
        method=METHODS[cost.config.method].title,
        trainable_parameters=round(counts.trainable),
        total_parameters=round(counts.total + counts.added),
        rows=costs.part_rows,
        counted_rows=len(train.whole),
        tokens_per_epoch=round(tokens),
        trained_tokens_per_epoch=round(trained),
        max_length=limit,
        truncated_rows=train.truncated,
        untrained_rows=train.untrained,
        lost_tokens=train.lost_tokens,
        replay=_plan_replay(cost),
        steps=cost.steps,
        steps_per_epoch=cost.per_epoch,
        memory=memory_estimate,
        time=_estimate_time(planned, cost, asked),
        dtype=get_dtype_name(cost.dtype),
        leaks=leakage.find_leaks(planned.job.home, planned.fingerprint, planned.dealt),
        keeping_all=training_rows.compute_lossless_length(planned.whole["train"], limit, planned.positions),
        row=row,
        fitting=[] if memory_estimate.fits else costs.fitting(cost, limit),
        problems=[],
    )


def _estimate_time(planned: PlannedRun, cost: ConfigCost, asked: CostQuery) -> TimeEstimate:
    """Estimate the time, from timed steps where usable ones exist or timing was requested.

    On a busy machine it is the time under the current load, with the time of the run alone beside it; the
    latter is always the one later compared with the measured time. A run in training doesn't count as other
    work, as the next run starts after it.
    """
    kept, shares = CachedSteps(cost), planned.other_work.settled_shares()
    busy = shares.busy and not asked.running and not kept.is_being_timed()
    timing: TimingStatus = "waiting" if asked.running else "wanted"
    cost.timed = kept.find(busy=busy) or (kept.quiet() if asked.launch else None)
    if asked.time_steps and not cost.timed and not asked.running:
        timing = _time_steps(planned, cost, kept, busy=busy)
        if cost.timed:
            busy, shares = cost.timed.busy, replace(shares, others=cost.timed.others)
    time: TimeEstimate = replace(cost.time(), busy=busy, others=shares.others)
    time.timing = "timed" if cost.timed else timing
    if cost.timed and cost.timed.busy:
        cost.timed = kept.quiet()
        alone = cost.time()
        time.counted_seconds, time.course_seconds = alone.counted_seconds, alone.course_seconds
        time.steps_timed = alone.steps_timed
        time.alone_seconds = alone.seconds if cost.timed else None
    return time


def _time_steps(planned: PlannedRun, cost: ConfigCost, kept: CachedSteps, *, busy: bool) -> TimingStatus:
    """Time steps while holding the lock, unless another process has done so meanwhile."""
    with kept.take_turn() or nullcontext() as turn:
        cost.timed = kept.find(busy=busy)
        if cost.timed or not turn:
            return "wanted"
        try:
            cost.timed = timed_steps.time_training_steps(cost, planned.tokenizer)
        except JobCancelled:
            raise
        except Exception as error:  # noqa: BLE001 (an estimate is no reason to fail, whatever a model does)
            log.warning("Steps can't be timed: %r", error)
            return "impossible"
        try:
            kept.keep(cost.timed)
        except OSError as error:
            log.warning("Timed steps can't be saved: %s", error)
    return "wanted"


def _plan_replay(cost: ConfigCost) -> ReplayPlan | None:
    """Describe the general rows that the whole run replays; None without replay."""
    if (replay := cost.replay) is None:
        return None
    tokens, trained = replay.tokens
    source = cost.costs.job.config.get("replay")
    name = source["name"] if source else replay_rows.GENERATED_TITLE
    return {"from": name, "rows": replay.count, "tokens": tokens, "trained_tokens": trained}


def _collect_facts(planned: PlannedRun, cost: ConfigCost, document: Preview) -> preflight.RunFacts:
    """Collect the facts for the preflight checks. Labeled texts have no responses to check."""
    job, config, device = planned.job, cost.config, planned.device
    answers = planned.kind != "text" and not planned.classes
    parts, earlier = planned.parts, planned.earlier
    free, total = hardware.measure_available_gib(device)
    return preflight.RunFacts(
        config=config,
        kind="text" if planned.classes else planned.kind,
        model_type=planned.architecture.model_type,
        device=device.type,
        fast_bf16=choose_dtype("auto", device) == torch.bfloat16,
        own_template=planned.tokenizer.has_own_template or bool(planned.classes),
        rows=document.rows,
        leaks=document.leaks,
        counted=document.counted_rows,
        truncated=document.truncated_rows,
        lost_tokens=document.lost_tokens,
        reasons=parts["train"].whole.reason_counts,
        unjudged=not len(parts["validation"].rows),
        checks=_check_loss_mask(planned) if answers else None,
        max_length=planned.limit,
        positions=planned.positions,
        steps=document.steps,
        memory_low=document.memory.low_gib,
        memory_high=document.memory.high_gib,
        available=free,
        device_total=total,
        seen_before=saved_models.count_previously_trained(earlier, planned.fingerprint, planned.dealt)
        if earlier
        else 0,
        packed=cost.packed,
        keeping_all=document.keeping_all,
        tools_written=answers and _has_unsupported_tools(job, planned),
        look=planned.look,
        split_by=planned.split.split_by,
    )


def _has_unsupported_tools(job: WorkerJob, planned: PlannedRun) -> bool:
    """Whether the first rows call functions that the template doesn't support."""
    load = training_rows.make_loader(job.home, planned.fingerprint, "chat")
    row_ids = planned.whole["train"].row_ids
    first = row_ids[row_ids >= 0][: tokenized_rows.MAX_CHECKED_ROWS]  # without canaries
    return not supports_tools(planned.tokenizer) and any(map(has_tools, load(first)))


def _check_loss_mask(planned: PlannedRun) -> tokenized_rows.MaskCheckCounts:
    """Compare the trained tokens of the first training rows with their messages.

    For pairs, the chosen responses are checked, rendered as rows of conversations.
    """
    tokenizer, train = planned.tokenizer, planned.whole["train"]
    some = train.take(np.flatnonzero(train.row_ids >= 0)[: tokenized_rows.MAX_CHECKED_ROWS])
    messages = training_rows.make_loader(planned.job.home, planned.fingerprint, "chat")(some.row_ids)
    if planned.config.task == "dpo":
        some = render(tokenizer, some.row_ids, messages)
    return tokenized_rows.check_masks(tokenizer, messages, some)
