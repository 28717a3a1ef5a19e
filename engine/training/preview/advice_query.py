"""The query `advice`: what each method would cost on the rows of a preview.

The rows are tokenised once (their counts are in the cache that preview and training use). A method that can't
be used with these settings is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.evaluation.verdicts import launch_advice
from engine.training.costs.timed_steps import CachedSteps
from engine.training.preview.planned_run import PlannedRun
from engine.worker.job import WorkerJob
from store.core.errors import ConfigError
from store.core.training_schemas import Advice, AdviceOption, MeasuredRun
from store.training.methods import METHOD_FIELDS, METHODS, QUANTISATIONS
from store.training.setting_conflicts import list_conflicts
from store.training.train_config import UNSET_BY_METHOD, TrainConfig

# Fields whose default depends on the method. Quantization of the base model is not changed for methods that
# read it.
METHOD_DEFAULT_FIELDS = {*UNSET_BY_METHOD, *METHOD_FIELDS} - set(QUANTISATIONS)
MAX_RUNS_SHOWN = 50  # runs shown with predicted and measured costs


def run(job: WorkerJob) -> Advice:
    """Return the document of docs/http.md for {"config", "fingerprint", "split"}."""
    planned = PlannedRun(job)
    costs = planned.costs
    alike = [run for run in costs.all_past if _is_same_rows(run, planned)]
    power = launch_advice.compute_mean_watts(costs.past)
    options = [_build_option(planned, name, alike, power) for name in METHODS]
    tokens = max((o["trained_tokens"] for o in options if not o["problem"]), default=0.0)
    return {
        "options": options,
        "recommendation": launch_advice.recommend_method(
            options, train_rows=costs.train_rows, trained_tokens=tokens
        ),
        "rows": costs.part_rows,
        "past_runs": len(alike),
        "available_gib": costs.available_gib(),
        "watts": power,
        "device": costs.device_name,
        "measured": [run for run in costs.past if run.estimated_memory_gib][:MAX_RUNS_SHOWN],
    }


def _build_option(
    planned: PlannedRun, method: str, alike: Sequence[MeasuredRun], power: float | None
) -> AdviceOption:
    """Return one row of the table; a method that can't be used has a `problem` and no figures."""
    option = AdviceOption(
        method=method,
        title=METHODS[method].title,
        problem="",
        past=launch_advice.summarise_past_runs(alike, method),
    )
    try:
        config = _replace_method(planned.config, method)
        if refused := list_conflicts(config, planned.architecture.model_type):
            return {**option, "problem": refused[0][1]}
        cost = planned.cost(config)
        kept = CachedSteps(cost)
        cost.timed = kept.quiet() or kept.alike()
        memory, time = cost.memory(), cost.time()
    except ConfigError as error:
        return {**option, "problem": str(error)}
    hours = [seconds / 3600 for seconds in (time.low_seconds, time.seconds, time.high_seconds)]
    _, trained = planned.costs.epoch("train")
    return {
        **option,
        "peak_gib": memory.peak_gib,
        "low_gib": memory.low_gib,
        "high_gib": memory.high_gib,
        "available_gib": memory.available_gib,
        "fits": memory.fits,
        "seconds": time.seconds,
        "low_seconds": time.low_seconds,
        "high_seconds": time.high_seconds,
        "energy_wh": None if power is None else [power * h for h in hours],
        "disk_bytes": cost.disk_bytes(),
        "trainable_parameters": round(cost.counts.trainable),
        "total_parameters": round(cost.counts.total + cost.counts.added),
        "trained_tokens": trained * cost.steps / cost.per_epoch,
        "learning_rate": cost.config.learning_rate,
        "memory_basis": memory.basis,
        "time_basis": time.basis,
    }


def _replace_method(config: TrainConfig, method: str) -> TrainConfig:
    """Return the config with another method, and that method's own settings at their defaults."""
    fields = config.model_dump(exclude_unset=True)
    if method != config.method:
        unread = set(QUANTISATIONS) - set(METHODS[method].fields)
        fields = {name: value for name, value in fields.items() if name not in METHOD_DEFAULT_FIELDS | unread}
    return TrainConfig.parse(fields | {"method": method})


def _is_same_rows(run: MeasuredRun, planned: PlannedRun) -> bool:
    """Whether a past run has the same task, model and data set, and as many training rows, within 1%."""
    rows, train_rows, config = run.train_rows, planned.costs.train_rows, planned.config
    same = (run.model, run.task) == (config.model, config.task)
    same = same and run.data_fingerprint == planned.fingerprint
    return bool(same and rows and abs(rows - train_rows) <= 0.01 * train_rows)
