"""Runs in depth, for the screens of single runs: curves, row losses, samples and verdicts that fit together.

Losses are drawn from a seeded generator and judged by the real `judge`, so that what a page shows follows
from rows that are really there. Statuses are as given: nothing here works on a run.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.evaluation.training_curve.run_curve import Validation
from engine.evaluation.verdicts import live_alarms, membership_inference
from engine.evaluation.verdicts.paired_measurements import SwappedLosses, SwappedPromptLosses
from engine.evaluation.verdicts.question_part import assign_prompts
from store.core.home import Home
from store.core.job_folder import JobDir
from store.db.database import Database, Transaction, utc_now
from store.evaluation.verdict_schemas import TrainingStop
from store.jobs import job_queue, metric_points
from store.runs import runs
from store.training.train_config import TrainConfig
from tests.pages.seeds import seed_evidence as probed
from tests.pages.seeds.made_once import made_once
from tests.pages.seeds.seed_memory import memory
from tests.unit.store_samples import POINTS
from tests.unit.verdict_inputs import judge

STEPS, EVERY, ROWS = 120, 12, 200
TOKENS = np.random.default_rng(1).integers(8, 70, ROWS)
BASE_LOSS = np.random.default_rng(2).gamma(6, 0.4, ROWS) * TOKENS
START = float(BASE_LOSS.sum() / TOKENS.sum())  # the base model's loss a token
FINGERPRINT = "f" * 64
TRACEBACK = 'Traceback (most recent call last):\n  File "train.py", line 9, in step\nMemoryError'
ERROR = {
    "error": "OutOfMemory",
    "message": "The device ran out of memory.",
    "fix": "Halve per_device_train_batch_size and double gradient_accumulation_steps.",
    "change": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    "traceback": TRACEBACK,
}


def loss_at(step: int, gain: float, turn: int | None) -> float:
    """Validation loss at a step: falls by `gain`, and rises again from step `turn` on."""
    fallen = START - gain * (1 - math.exp(-3.5 * step / STEPS))
    return fallen + (0.004 * (step - turn) if turn is not None and step > turn else 0.0)


@made_once
def seed_runs(path: Path) -> Home:
    """A home folder with runs that learned, overfit, failed, wait, work, and were cancelled."""
    home = Home(path).create()
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            finished(
                tx, home, "learned", "LoRA r16 <b>bold</b> [x](y)", gain=0.83, rise=0.02, learning_rate=2e-4
            )
            finished(tx, home, "twin", "LoRA r16, another seed", gain=0.825, learning_rate=2e-4, seed=1)
            finished(
                tx,
                home,
                "overfit",
                "Full, 8 epochs",
                gain=0.5,
                turn=60,
                rise=0.31,
                gap=0.7,
                learning_rate=1e-4,
            )
            finished(tx, home, "worse", "LoRA, rate too high", gain=-0.3, learning_rate=1e-2)
            _run(tx, home, "failed", "Too big a batch", "failed", error=ERROR)
            _run(tx, home, "lost", "Pulled plug", "lost")
            _run(tx, home, "cancelled", "Not this one", "cancelled")
            _import_job(tx)
            _run(tx, home, "queued", "Waits for its rows", "queued", after=["j-import"])
            _run(tx, home, "next", "Waits for the device", "queued")
            _run(tx, home, "live", "On its way", "training", progress=(40, STEPS))
            _curves(tx, "live", 0.8, None, 40)
            _live_course(tx, home)
    finally:
        database.close()
    return home


def _live_course(tx: Transaction, home: Home) -> None:
    """What the run that is on its way was asked at two checkpoints."""
    folder = JobDir(home.jobs / "live")
    folder.path.mkdir(parents=True)
    probed.write_course(folder, 0.6, [20, 40], STEPS, base=True)
    _add_points(tx, "live", [("probe/prose/loss", step, 3.0 + 0.01 * step) for step in (0, 20, 40)])


def finished(
    tx: Transaction,
    home: Home,
    run_id: str,
    name: str,
    *,
    gain: float,
    turn: int | None = None,
    rise: float | None = None,
    gap: float = 0.0,
    own: float | None = None,
    **config: Any,
) -> None:
    """A run with its curves, row losses, samples and verdict; where `rise` is given it was probed too: the
    loss on prose rose by that, and at the end that of training rows lies `gap` under that of validation.
    own: what of the gain is the question, where that was measured."""
    noise = np.random.default_rng(len(run_id) + 3)
    best = min(range(0, STEPS + 1, EVERY), key=lambda step: loss_at(step, gain, turn))
    tuned = BASE_LOSS - TOKENS * (START - loss_at(best or STEPS, gain, turn) + noise.normal(0, 0.25, ROWS))
    right = (0.45 * TOKENS).astype(int)
    folder = JobDir(home.jobs / run_id)
    folder.path.mkdir(parents=True)
    losses = {"row_id": range(ROWS), "tokens": TOKENS, "base_loss": BASE_LOSS, "tuned_loss": tuned}
    pq.write_table(pa.table({"split": ["test"] * ROWS} | losses), folder.row_losses)
    folder.log.write_text("".join(f"step {step}\n" for step in range(30_000)))
    seen = _run(tx, home, run_id, name, "finished", **config)
    steps = range(0, STEPS + 1, EVERY)
    seen_rows = None if rise is None else [_seen(step, gain, turn, gap) for step in steps]
    validations = [_validation(step, gain, turn) for step in steps]
    memorised = None
    if seen_rows:
        points = membership_inference.compute_path(seen_rows, validations)
        sentence = membership_inference.describe_path(points)
        memorised = replace(probed.membership(gap), path=points, path_sentence=sentence)
    verdict = judge(
        row_ids=np.arange(ROWS),
        split="test",
        base_loss_sum=BASE_LOSS,
        tuned_loss_sum=tuned,
        tokens=TOKENS,
        base_correct=right,
        tuned_correct=np.clip(
            right + (TOKENS * 0.25 * gain + noise.normal(0, 2, ROWS)).astype(int), 0, TOKENS
        ),
        eval_rows=validations,
        train_curve=[(step, _train_loss(step, gain)) for step in range(1, STEPS + 1)],
        stopped=TrainingStop(reason="epochs", step=STEPS, restored_step=best or None),
        config=seen.model_dump(),
        train_probe=seen_rows,
        membership=memorised,
        other_prompts="" if own is None else after_other_prompts(tuned, own),
    )
    if rise is not None:
        forgot = probed.forgetting(rise, seen.model_dump())
        recalled = memory(folder, 12 if turn else 0)
        verdict = replace(verdict, membership=memorised, forgetting=forgot, **recalled)
        probed.write_probes(folder, rise)
        probed.write_course(folder, rise, list(steps[1:]), STEPS, base=False)
        probed.write_requests(folder)
        probed.write_metric(folder, list(steps))
    runs.update(tx, run_id, verdict=verdict)
    if rise is not None:
        live_metric = {"key": "eval/token_f1", "words": "Token F1", "n": 16}
        facts = runs.get_run(tx, run_id).facts | {"task_metric": "tokens", "live_metric": live_metric}
        runs.update(tx, run_id, facts=facts)
        _add_points(tx, run_id, [("eval/token_f1", steps[1], 0.4), ("eval/token_f1", STEPS, 0.4)])
    for alarm in live_alarms.list_verdict_alarms(verdict):
        alert = [run_id, alarm.message, utc_now(), alarm.kind, alarm.step]
        tx.execute("INSERT INTO alert VALUES (?, 'warning', ?, ?, ?, ?)", alert)
    _curves(tx, run_id, gain, turn, STEPS)
    if rise is not None:
        _add_points(tx, run_id, [("probe/prose/loss", s, 3.0 + rise * s / STEPS) for s in steps[1:]])
        losses = [(s, loss_at(s, gain, turn) - gap * s / STEPS) for s in steps[1:]]
        _add_points(tx, run_id, [("probe/train_rows/loss", step, loss) for step, loss in losses])
    runs.replace_predictions(tx, run_id, [_prediction(i, gain) for i in range(10)])


def after_other_prompts(tuned: Any, own: float) -> SwappedPromptLosses:
    """Eight answers after the prompts of other rows, where they lose `own` nats a token more."""
    dealt = assign_prompts(np.arange(ROWS) % 8, np.zeros(ROWS), np.zeros(ROWS), 0)
    noise = np.random.default_rng(4).normal(0, 0.1, len(dealt))
    less = TOKENS[dealt.answers] * (own + noise)
    return SwappedPromptLosses(dealt, SwappedLosses(BASE_LOSS[dealt.answers], tuned[dealt.answers] + less))


def _train_loss(step: int, gain: float) -> float:
    wobble = 0.25 * math.sin(step * 12.9898) * math.sin(step * 7.233)
    return loss_at(step, 1.25 * gain, None) + wobble


def _validation(step: int, gain: float, turn: int | None) -> Validation:
    noise = np.random.default_rng(step).normal(0, 0.05, ROWS)
    loss = BASE_LOSS + TOKENS * (loss_at(step, gain, turn) - START + noise)
    return Validation(step=step, row_ids=np.arange(ROWS), loss_sums=loss, tokens=TOKENS)


def _seen(step: int, gain: float, turn: int | None, gap: float) -> Validation:
    """The same rows' losses as if they had been trained on."""
    noise = np.random.default_rng(step + 1).normal(0, 0.05, ROWS)
    loss = BASE_LOSS + TOKENS * (loss_at(step, gain, turn) - START - gap * step / STEPS + noise)
    return Validation(step=step, row_ids=np.arange(ROWS) + ROWS, loss_sums=loss, tokens=TOKENS)


def _prediction(row: int, gain: float) -> dict[str, Any]:
    good = f"json.dumps(obj) number {row}"
    tuned = good if gain > 0 and row % 3 else f"json.dump {row}"
    return {
        "row_id": row,
        "split": "test",
        "prompt": f"What does <b>json.dumps</b> do, *please*? ({row})",
        "reference": good,
        "base": "Certainly! JSON is a format that " + "is very widely used and " * 12,
        "tuned": tuned,
    }


def _run(
    tx: Transaction,
    home: Home,
    run_id: str,
    name: str,
    status: str,
    *,
    after: list[str] | None = None,
    error: dict[str, Any] | None = None,
    progress: tuple[int, int] | None = None,
    **config: Any,
) -> TrainConfig:
    seen = TrainConfig(name=name, dataset="Sums", **config).resolved(600)
    now = utc_now()
    at = now.timestamp()
    job_queue.insert(
        tx,
        job_queue.NewJob(job_id=run_id, kind="train", title=name, config={}, at=at, after_jobs=after or []),
    )
    columns: dict[str, Any] = {"status": status, "error": error, "device": "cpu"}
    if status != "queued":
        columns["started_at"] = now - timedelta(minutes=5)
        columns["ended_at"] = None if status == "training" else now - timedelta(minutes=1)
    if progress:
        columns |= {"progress_done": progress[0], "progress_total": progress[1], "progress_unit": "steps"}
        columns |= {"progress_message": "Training", "eta_seconds": 125.0}
    job_queue.update(tx, run_id, **columns)
    runs.insert(
        tx,
        runs.NewRun(
            run_id=run_id, config=seen, dataset_id="d1", dataset_name="Sums", fingerprint=FINGERPRINT, at=at
        ),
    )
    facts = {"rows": {"train": 600, "validation": 200, "test": 200}, "trainable_parameters": 4_884_480}
    facts |= {"device": "cpu", "dtype": "bfloat16", "peak_memory_gib": 1.4, "estimated_memory_gib": 1.5}
    facts |= {"versions": {"torch": "2.13.0", "transformers": "5.24.0"}, "split_fingerprint": "abc"}
    runs.update(tx, run_id, facts=facts)
    tx.execute(
        "INSERT INTO alert (job_id, level, message, raised_at) VALUES (?, 'warning', ?, ?)",
        [run_id, "3 rows were cut at 128 tokens.", now],
    )
    return seen


def _import_job(tx: Transaction) -> None:
    job_queue.insert(tx, job_queue.NewJob(job_id="j-import", kind="import", title="Sums", config={}, at=1.0))


def _curves(tx: Transaction, run_id: str, gain: float, turn: int | None, last: int) -> None:
    points: list[tuple[str, int, float]] = []
    for step in range(1, last + 1):
        points += [
            ("train/loss", step, _train_loss(step, gain)),
            (
                "train/learning_rate",
                step,
                2e-4 * min(1, step / 6) * (1 + math.cos(math.pi * step / STEPS)) / 2,
            ),
            ("train/grad_norm", step, math.inf if step == 30 else 1.5 + math.sin(step)),
            ("train/tokens_per_second", step, 900.0 + step % 7),
            ("train/tokens_seen", step, 512.0 * step),
            ("system/memory_gib", step, 1.0 + 0.4 * (1 - math.exp(-step / 10))),
        ]
    best = min(range(EVERY, last + 1, EVERY), key=lambda step: loss_at(step, gain, turn))
    tx.execute(
        "UPDATE run SET facts = json_merge_patch(facts, json_object('best_step', ?, 'best_eval_loss', ?))"
        " WHERE run_id = ?",
        [best, loss_at(best, gain, turn), run_id],
    )
    for step in range(0, last + 1, EVERY):
        loss = loss_at(step, gain, turn)
        points += [("eval/loss", step, loss), ("eval/perplexity", step, math.exp(loss))]
        points += [("eval/token_accuracy", step, 0.45 + 0.2 * gain * min(1, step / 60))]
    _add_points(tx, run_id, points)


def _add_points(tx: Transaction, run_id: str, points: list[tuple[str, int, float]]) -> None:
    names, steps, values = zip(*points, strict=True)
    now = utc_now()
    columns = [[run_id] * len(points), names, steps, values, [now] * len(points), range(len(points))]
    metric_points.add(
        tx,
        pa.table([pa.array(c, f.type) for c, f in zip(columns, POINTS, strict=True)], POINTS),
    )
