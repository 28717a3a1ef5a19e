"""Time a few real steps of a run and compare them with the counted time, on this machine and now.

The steps are the first of the run, taken by the training code on a copy of its model with random weights,
with fewer layers if the whole would take long. The ratio covers whatever the count gets wrong (products of
new sizes, narrow matrices, code that no rehearsal sees) as well as the machine. An evaluation pass and a few
generated tokens are timed too. Timings are cached for the next request about similar steps; timings from a
busy machine expire after as long as it may stay busy.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from engine.models import loading
from engine.models.batching import (
    StepRows,
    build_epoch_steps,
    compute_batch_shape,
    compute_micro_batch_tokens,
    split_into_micro_batches,
)
from engine.models.classification import upcast_head
from engine.models.forward.operations import compute_mean_length
from engine.models.generation import GenerationOptions, generate_continuations
from engine.models.hardware import GIB, DeviceRates, get_device_name, measure_available_gib
from engine.models.tokenization.rendering import TokenRows
from engine.models.tuning_methods import make_trainable
from engine.training.costs.estimate import CountedStep, RunWork, TimedSteps, compute_time_parts
from engine.training.costs.footprint import LAYER_FIELDS, ReducedModel, set_layer_count
from engine.training.costs.rehearsal import SkipInit
from engine.training.costs.run_costs import ConfigCost, compute_work
from engine.training.optimizer_step import OptimizerStepper, TrainingRows
from engine.worker.machine_load import OtherLoad
from engine.worker.temporary_folder import use_temporary_folder
from store.core.config import NO_CODE
from store.core.errors import TunebenchError
from store.core.job_folder import read_json, write_json
from store.core.processes import acquire_lock, is_held
from store.training.train_config import get_speed_settings

# Minimum and maximum number of timed steps, and time limit for more, after one that compiles kernels.
STEPS, MAX_STEPS, SECONDS = 3, 8, 4.0  # of long ones fewer
STEP_SECONDS = 1.2  # counted; a longer step is reduced to fewer rows, and one row to fewer layers
EVALUATION_SECONDS = 1.0
PROMPTS, PROMPT, WRITTEN = 16, 48, 12  # prompts, their tokens, and the tokens generated for each
MEMORY_SHARE = 0.5  # share of free memory that they may take
MAX_SECONDS = 20.0  # counted seconds that they may take together, and after which no further step begins
MAX_TURN_CHECKS = 600  # polls of the lock while others time their steps, about 30 seconds
BUSY_MAX_AGE = 600.0  # seconds after which a timing from a busy machine expires
MAX_CACHED = 400  # newest timings to keep
VERSION = 1  # version of the timed work and its count: ratios of other versions belong to other counts
WEIGHT_STD = 0.02  # of random weights


log = logging.getLogger(__name__)


class TimingError(TunebenchError):
    """Raised when steps can't be timed before the run; the message gives the reason."""


@dataclass(frozen=True)
class _Trial:
    """What is timed: a model of some depth, rows of steps, and evaluated rows.

    Counted at the rates of the whole run, so that their errors cancel.
    """

    cost: ConfigCost
    rates: DeviceRates
    depth: ReducedModel
    steps: list[StepRows]
    held_out: TokenRows
    repeats: int = STEPS  # minimum number of timed ones, after one untimed each; 0: times the first

    @property
    def counted_step(self) -> CountedStep:
        """Return the input of the count at this depth."""
        return _count_step_at_depth(self.cost, self.depth)


class _TimedStep(NamedTuple):
    """Rows of a step, and the seconds of its gradients and of its update."""

    rows: StepRows
    gradients: float
    update: float


def time_training_steps(cost: ConfigCost, tokenizer: Any) -> TimedSteps:
    """Time a few training steps, which takes some seconds.

    Raises: TimingError if they don't fit into memory or would take too long, and any error from building,
    loading or training the model.
    """
    other_work = OtherLoad()
    trial = _choose_trial(cost)
    job, device = cost.costs.job, cost.costs.device
    try:
        with use_temporary_folder(
            job, what="a copy of the model with few layers", again="try again"
        ) as folder:
            model = _load_random_model(trial, folder)
            if trial.repeats:
                _time_evaluation(trial, model)  # kernels are compiled
            evaluations = [_time_evaluation(trial, model)]
            steps = _time_steps(trial, model)
            evaluations += [_time_evaluation(trial, model) for _ in range(trial.repeats - 1)]
            generation = None
            if cost.config.task != "classification":
                generation = _time_token(model, tokenizer, device)
    finally:
        model = None
        gc.collect()  # the next request checks free memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
    counted = [_predict_parts(trial, [step.rows], trial.held_out) for step in steps]
    passed = counted[0]  # as are all of them in the work that belongs to no step
    return TimedSteps(  # medians, as a machine's speed changes within seconds
        training=median(s.gradients / c["training"] for s, c in zip(steps, counted, strict=True)),
        update=median(s.update / c["update"] for s, c in zip(steps, counted, strict=True)),
        evaluation=median(evaluations) / passed["evaluation"],
        generation=generation / passed["generation"] if generation else None,
        others=other_work.shares().others,
        at=time.time(),
        rates=trial.rates,
    )


def _choose_trial(cost: ConfigCost) -> _Trial:
    """Choose the deepest model for which a step of one row is short, and the first steps of the run.

    Rows are reduced before layers: the model's work outside its layers (head, loss) has a different error
    ratio than the layers, and would dominate a shallow model's step.
    """
    train, config = cost.train, cost.config
    if config.task != "classification" and not train.trained_counts.sum():
        raise TimingError("No row has a token to train on.")
    size, accumulation = compute_batch_shape(config)
    lengths = train.lengths if cost.costs.objective.grouped else np.ones(len(train), np.int64)
    dealt = build_epoch_steps(lengths, seed=config.seed, epoch=0, batch_size=size, accumulation=accumulation)
    held_out = cost.costs.parts["validation"].rows
    held_out = held_out if len(held_out) else train
    free, rates = MEMORY_SHARE * cost.costs.available_gib(), cost.rates(compute_work(cost))
    fitting = [
        depth
        for depth in _list_depths(cost)
        if _estimate_gib(cost, depth) <= free and _fits_host_memory(cost, depth)
    ]
    if not fitting:
        raise TimingError("Too little free memory to time steps while other jobs run.")
    one_row = [_take_first_rows(dealt[0], 1)]
    for depth in fitting:
        trial = _Trial(cost, rates, depth, dealt, held_out)
        if _predict_parts(trial, one_row, held_out)["training"] <= STEP_SECONDS:
            break
    trial = replace(trial, steps=_shorten_steps(trial), held_out=_take_few_rows(trial))
    for repeats in range(STEPS, -1, -1):
        steps = trial.steps[: 1 + repeats]
        counted = _predict_parts(trial, steps, trial.held_out)
        seconds = counted["training"] + counted["update"] + (1 + repeats) * counted["evaluation"]
        if seconds <= MAX_SECONDS:  # compiling kernels is a small part of a single long step
            return replace(trial, repeats=repeats, steps=trial.steps if repeats else steps)
    raise TimingError(f"A step of one row takes about {seconds:.0f} seconds on this device.")


def _list_depths(cost: ConfigCost) -> list[ReducedModel]:
    """Return the full model and shallower ones."""
    shapes = cost.rehearsal.shapes
    if not cost.footprint.piece_at:
        return [shapes.whole]
    halved = [shapes.depth(shapes.whole.layers >> times) for times in range(8)]
    return list(dict.fromkeys([shapes.whole, *(d for d in halved if d.layers < shapes.whole.layers)]))


def _fits_host_memory(cost: ConfigCost, depth: ReducedModel) -> bool:
    """Whether the weights fit into host memory, where they are drawn on any device."""
    size = cost.rehearsal.counts_at(depth).total * cost.dtype.itemsize / GIB
    free, _ = measure_available_gib(torch.device("cpu"))
    return bool(size <= MEMORY_SHARE * free)


def _estimate_gib(cost: ConfigCost, depth: ReducedModel) -> float:
    """Estimate the memory of training it: loaded weights, trained weights four times more, and a step."""
    counts, size = cost.rehearsal.counts_at(depth), cost.dtype.itemsize
    share = depth.layers / cost.rehearsal.shapes.whole.layers
    return (counts.total * size + counts.trainable * 16 + max(cost.footprint.phases) * share) / GIB


def _count_step_at_depth(cost: ConfigCost, depth: ReducedModel) -> CountedStep:
    step, piece_at = cost.counted_step, cost.footprint.piece_at
    if piece_at is None:
        return step
    footprint = replace(step.footprint, piece=piece_at(depth))
    return replace(step, counts=cost.rehearsal.counts_at(depth), footprint=footprint, layers=depth.layers)


def _compute_work(cost: ConfigCost, steps: Sequence[StepRows], held_out: TokenRows) -> RunWork:
    """Compute the work of the steps, of an evaluation, and of one generated token per prompt."""
    train, packed = cost.train, cost.footprint.packed
    rows = np.concatenate([np.concatenate(step) for step in steps])
    if packed:
        most = compute_micro_batch_tokens(cost.config)
        tokens = int(train.lengths[rows].sum())
        micro_batches = sum(len(split_into_micro_batches(step, train.lengths, most)) for step in steps)
    else:
        tokens = sum(len(part) * int(train.lengths[part].max()) for step in steps for part in step)
        micro_batches = sum(map(len, steps))
    return RunWork(
        train_tokens=tokens,
        train_trained=float(train.trained_counts[rows].sum()),
        pieces=micro_batches,
        eval_tokens=float(held_out.lengths.sum()),
        eval_trained=float(held_out.trained_counts.sum()),
        generated_steps=1,
        length=compute_mean_length(train.lengths[rows]),
        steps=len(steps),
    )


def _predict_parts(trial: _Trial, steps: Sequence[StepRows], held_out: TokenRows) -> dict[str, float]:
    """Predict the seconds of each part of such work at the trial's depth."""
    work = _compute_work(trial.cost, steps, held_out)
    return compute_time_parts(trial.counted_step, work, trial.rates)


def _shorten_steps(trial: _Trial) -> list[StepRows]:
    """Return the trial's steps, each with as many rows as stay short together."""
    steps = trial.steps[: 1 + MAX_STEPS]
    seconds = _predict_parts(trial, steps, trial.held_out)["training"]
    rows = sum(len(part) for step in steps for part in step)
    most = max(1, int(rows * STEP_SECONDS / seconds))
    return [_take_first_rows(step, most) for step in steps]


def _take_first_rows(step: StepRows, most: int) -> StepRows:
    """Take up to that many rows of a step, in whole micro-batches first."""
    chosen = []
    for part in step:
        if most <= 0:
            break
        chosen.append(part[:most])
        most -= len(part)
    return chosen


def _take_few_rows(trial: _Trial) -> TokenRows:
    """Take as many held-out rows as can be evaluated in a short time."""
    seconds = _predict_parts(trial, trial.steps[:1], trial.held_out)["evaluation"]
    count = max(1, min(len(trial.held_out), int(len(trial.held_out) * EVALUATION_SECONDS / seconds)))
    chosen = np.random.default_rng(0).permutation(len(trial.held_out))[:count]
    return trial.held_out.take(chosen)


def _load_random_model(trial: _Trial, folder: Path) -> Any:
    """Load a model of that depth with random weights from a file, as a run loads its model."""
    cost, depth = trial.cost, trial.depth
    config, dtype = cost.config, cost.dtype
    architecture = set_layer_count(cost.costs.architecture, depth.layers)
    headed = config.task == "classification"
    auto: Any = AutoModelForSequenceClassification if headed else AutoModelForCausalLM
    with SkipInit():
        drawn = auto.from_config(architecture, dtype=dtype, **NO_CODE)
    _fill_random(drawn)
    drawn.save_pretrained(folder)
    del drawn
    device = str(cost.costs.device)
    model = loading.load_model(config, str(folder), device, dtype, architecture if headed else None)
    if depth.chosen is not None:
        config = config.model_copy(update=dict.fromkeys(LAYER_FIELDS, depth.chosen))
    model = make_trainable(model, config, dtype, steps=max(cost.steps, MAX_STEPS))
    if headed:
        upcast_head(model)
    return model


def _fill_random(model: Any) -> None:
    """Fill matrices with small numbers and other parameters with ones.

    Uninitialised memory could hold slow values or NaNs.
    """
    few = torch.randn(2**16) * WEIGHT_STD
    for parameter in model.parameters():
        if parameter.dim() < 2:
            parameter.data.fill_(1.0)
        else:
            times = -(-parameter.numel() // len(few))
            drawn = few.to(parameter.dtype).repeat(times)[: parameter.numel()]
            parameter.data.copy_(drawn.view_as(parameter))


def _time_steps(trial: _Trial, model: Any) -> list[_TimedStep]:
    """Time all steps but the first, in which kernels are compiled, unless it is the only one."""
    cost, device = trial.cost, trial.cost.costs.device
    rows, steps = TrainingRows(cost.train), max(cost.steps, MAX_STEPS)
    stepper = OptimizerStepper(cost.costs.job, cost.config, model, rows, cost.costs.objective, steps)
    taken: list[_TimedStep] = []
    start = _read_clock(device)
    for number, step in enumerate(trial.steps):
        began = _read_clock(device)
        stepper.gradients(step, number)
        between = _read_clock(device)
        stepper.update(number + 1)
        ended = _read_clock(device)
        if number or len(trial.steps) == 1:
            taken.append(_TimedStep(step, between - began, ended - between))
        enough = len(taken) >= trial.repeats and sum(each.gradients for each in taken) > SECONDS
        if enough or (taken and ended - start > MAX_SECONDS):
            break
    cost.costs.objective.drop_metrics()
    return taken


def _time_evaluation(trial: _Trial, model: Any) -> float:
    """Return the seconds of a pass over the held-out rows."""
    cost = trial.cost
    began = _read_clock(cost.costs.device)
    cost.costs.objective.measure(
        model,
        trial.held_out,
        batch_size=cost.config.per_device_eval_batch_size,
        device=cost.costs.device,
        on_batch=lambda _: cost.costs.job.check_cancelled(),
    )
    return _read_clock(cost.costs.device) - began


def _time_token(model: Any, tokenizer: Any, device: torch.device) -> float | None:
    """Return the seconds of a generated token of each of PROMPTS prompts; None if they end at once."""
    moments: list[float] = []
    prompts = [list(range(1, PROMPT + 1))] * PROMPTS
    how = GenerationOptions(WRITTEN, device, PROMPTS)
    generate_continuations(
        model, tokenizer, prompts, how, on_token=lambda *_: moments.append(_read_clock(device))
    )
    return (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 2 else None


def _read_clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class CachedSteps:
    """Cached timings of a config on its device, for similar model, rows and settings."""

    def __init__(self, cost: ConfigCost) -> None:
        cache = cost.costs.job.home.cache
        self.path, self.lock = cache / "timed_steps.json", cache / "timed_steps.lock"
        config, architecture = cost.config, cost.costs.architecture.to_json_string(use_diff=True)
        device = f"{get_device_name(cost.costs.device)}, torch {torch.__version__}"
        self.model = _hash_settings([VERSION, device, architecture, cost.dtype])
        about = [
            config.method,
            config.task,
            get_speed_settings(config.model_dump()),
            config.optim,
            config.use_dora,
            config.target_modules,
            compute_batch_shape(config),
            cost.footprint.packed,
            round(2 * math.log2(max(1.0, compute_mean_length(cost.train.lengths)))),
            round(math.log2(cost.counts.trainable + 1)),
        ]
        self.key = f"{self.model} {_hash_settings(about)}"

    def find(self, *, busy: bool) -> TimedSteps | None:
        """Return the timing to use now, or None.

        On a busy machine: one taken on it while busy, if recent; otherwise: one from a quiet machine.
        """
        if not busy:
            return self.quiet()
        lately = self._entries().get(self.key, {}).get("busy")
        return lately if lately and time.time() - lately.at < BUSY_MAX_AGE else None

    def quiet(self) -> TimedSteps | None:
        """Return the timing from a quiet machine."""
        return self._entries().get(self.key, {}).get("quiet")

    def alike(self) -> TimedSteps | None:
        """Return the latest timing of this model on a quiet machine, for any method, settings and rows.

        Update ratios don't transfer: an adapter's update is all overhead, that of all weights has almost
        none.
        """
        own = [slots for key, slots in self._entries().items() if key.startswith(self.model)]
        quiet = [slots["quiet"] for slots in own if "quiet" in slots]
        newest = max(quiet, key=lambda timed: timed.at, default=None)
        return replace(newest, alike=True, update=1.0) if newest else None

    def is_being_timed(self) -> bool:
        """Whether steps of any config are being timed now, which doesn't count as other work."""
        return is_held(self.lock)

    def take_turn(self) -> IO[bytes] | None:
        """Return a file to hold open as a lock while steps are timed, or None on timeout.

        Two timings at once would each make the machine busy for the other.
        """
        for _ in range(MAX_TURN_CHECKS):
            if held := acquire_lock(self.lock):
                return held
        return None

    def keep(self, timed: TimedSteps) -> None:
        """Store a timing for the next request; the caller must hold the lock."""
        every = self._entries()
        every[self.key] = every.get(self.key, {}) | {"busy" if timed.busy else "quiet": timed}
        newest = sorted(every, key=lambda key: max(slot.at for slot in every[key].values()))[-MAX_CACHED:]
        kept = {key: {name: asdict(slot) for name, slot in every[key].items()} for key in newest}
        write_json(self.path, kept)

    def _entries(self) -> dict[str, dict[str, TimedSteps]]:
        """Return all timings by key and by whether the machine was busy; empty if the file is corrupt."""
        try:
            document = read_json(self.path) or {}
            return {
                key: {
                    name: TimedSteps(**slot | {"rates": DeviceRates(**slot["rates"])})
                    for name, slot in slots.items()
                }
                for key, slots in document.items()
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s can't be read, so steps are timed again: %s", self.path, error)
            return {}


def _hash_settings(about: list[object]) -> str:
    return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:24]
