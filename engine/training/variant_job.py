"""The variant job: store a run's model, interpolated at one α from its base, as a run of its own.

Its folder is like that of a trained run (model, split, losses, probes, responses), and its verdict compares
it with the same base model on the same rows, so that it can be compared, evaluated and continued like any
other run.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq

from engine.data import training_rows
from engine.evaluation import evaluated_model, run_evaluation
from engine.evaluation.derived_prompts import build_swapped_prompts
from engine.evaluation.interpolated_model import ModelInterpolation
from engine.evaluation.probes.probe_sets import ProbeMeasurement
from engine.evaluation.row_questions import Prompt, choose_prompts
from engine.evaluation.run_evaluation import (
    EVALUATION_MESSAGES,
    EvaluationPace,
    ModelEvaluation,
    ModelEvaluator,
    build_verdict_config,
)
from engine.evaluation.verdicts import verdict as mixed
from engine.models import loading, saved_models
from engine.models.losses import RowLosses, TokenObjective
from engine.training import run_verdict
from engine.training.run_verdict import measure_weight_change
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from store.core.model_schemas import ModelOrigin
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import RunResult
from store.training.train_config import TrainConfig

phases = build_fixed_phases(  # EvaluationPace predicts the second model's time from the first
    evaluated_model.LOADING_MESSAGE, Phase((*EVALUATION_MESSAGES, "Measuring how far the weights moved"))
)


def run(job: WorkerJob) -> RunResult:
    """Store the model of the job specification {mixed_from, alpha} and return its verdict."""
    config, alpha = TrainConfig.parse(job.config), float(job.spec["alpha"])
    job.status("preparing")
    job.progress(0, 1, "run", "Loading the model")
    mixing = ModelInterpolation(job, job.spec["mixed_from"])
    shutil.copy2(mixing.folder.split, job.dir.split)
    if mixing.folder.base.exists():
        shutil.rmtree(job.dir.base, ignore_errors=True)
        shutil.copytree(mixing.folder.base, job.dir.base, copy_function=saved_models.link_or_copy)
    mixing.line.go(alpha)
    note: ModelOrigin = {
        "base": saved_models.read_base(mixing.folder.model),
        "dataset": mixing.spec["dataset"].get("name", config.dataset),
        "mixed_from": job.spec["mixed_from"],
        "alpha": alpha,
        "own_base": job.dir.base.exists(),
    }
    saved_models.save_model(mixing.model, mixing.tokenizer, config, job.dir.model, note)
    job.facts(base=note["base"])
    job.status("evaluating")
    verdict = _judge_variant(job, config, mixing, alpha)
    saved_models.write_card(job.dir.model, config, verdict)
    return {"verdict": verdict}


def _judge_variant(job: WorkerJob, config: TrainConfig, mixing: ModelInterpolation, alpha: float) -> Verdict:
    """Return the verdict, and write the rows and items that it is based on."""
    base_measured = mixing.measured_end(0.0)
    gathering = _build_evaluator(job, config, mixing, EvaluationPace(job, 1 if base_measured else 2))
    prompts, swapped = gathering.prompts, gathering.swapped
    of_base = gathering.as_base(mixing.probes, loading.find_weights_folder(mixing.run.base(job.home)))
    tuned = gathering.of(mixing.model, "the mixed model")
    if swapped.probe or not base_measured:
        mixing.line.go(0.0)
    if base_measured:
        asked = replace(of_base, pace=EvaluationPace(job, 1)).under_other_prompts(
            mixing.model, "the base model"
        )
        base = replace(_load_base_evaluation(base_measured, prompts, mixing), swapped=asked)
    else:
        base = of_base.of(mixing.model, "the base model")
    run_evaluation.write_probe_items(job, mixing.probes)
    run_evaluation.write_evaluations(job, mixing.split, base, tuned, prompts)
    held_out = replace(
        run_verdict.build_held_out_losses(mixing.split, base, tuned),
        other_prompts=swapped.losses(base.swapped, tuned.swapped),
    )
    verdict = mixed.judge_interpolated(
        held_out, build_verdict_config(config), alpha=alpha, of=mixing.config.name
    )
    unasked = {name: f"Evaluate this run with the task {name} to ask it." for name in config.probe_tasks}
    run_evaluation.add_forgetting(verdict, base, tuned, config, unasked=unasked)
    if config.probes:
        mixing.line.go(alpha)
        verdict.weights = measure_weight_change(job, config, mixing.run.base(job.home), mixing.model)
    return mixed.drop_advice(verdict)


def _build_evaluator(
    job: WorkerJob, config: TrainConfig, mixing: ModelInterpolation, pace: EvaluationPace
) -> ModelEvaluator:
    """Return the evaluator of both models, with the same questions as in the original run."""
    spec, rows = mixing.spec, mixing.rows
    load = training_rows.make_loader(job.home, spec["dataset"]["fingerprint"], spec["dataset"]["kind"])
    seed = int(spec["split"]["split_seed"])
    return ModelEvaluator(
        job=job,
        config=config,
        tokenizer=mixing.tokenizer,
        objective=TokenObjective(),
        rows=rows,
        prompts=choose_prompts(mixing.tokenizer, rows, load, config.sample_prompts, seed),
        probes=mixing.probes,
        pace=pace,
        swapped=build_swapped_prompts(spec, config, rows, load, mixing.positions),
    )


def _load_base_evaluation(
    base_measured: list[ProbeMeasurement], prompts: list[Prompt], mixing: ModelInterpolation
) -> ModelEvaluation:
    """Return the base model's evaluation from the original run."""
    rows, *probes = base_measured
    losses = RowLosses(mixing.rows.row_ids, rows.loss_sum, rows.tokens, np.asarray(rows.correct))
    answers: dict[int, str] = {}
    if mixing.folder.predictions.exists():
        base_answers = pq.read_table(mixing.folder.predictions, columns=["row_id", "base"]).to_pylist()
        answers = {row["row_id"]: row["base"] for row in base_answers}
    return ModelEvaluation(losses, [answers.get(prompt.row_id, "") for prompt in prompts], probes)
