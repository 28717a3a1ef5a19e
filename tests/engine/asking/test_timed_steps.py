"""Steps that are taken before a launch: what they correct, when they are taken anew, and what a busy machine
is told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import pytest
import torch

from engine.evaluation.statistics.cost_prediction import MAX_RANGE_FACTOR
from engine.models import hardware
from engine.models.batching import StepRows
from engine.models.hardware import DeviceRates
from engine.training.costs import timed_steps
from engine.training.costs.estimate import TimedSteps
from engine.training.costs.timed_steps import CachedSteps
from engine.training.optimizer_step import Gradients, OptimizerStepper
from engine.worker import machine_load
from engine.worker.machine_load import OtherLoad, ProcessorShares
from store.core.home import Home
from store.core.processes import acquire_lock
from tests.engine.asking.test_advice import ask as advise
from tests.engine.asking.test_preview import ask
from tests.tiny import conversations, worse_answers, write_model, write_rows

WANTED = {"time_steps": True}
Loaded = Callable[[float], None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    write_model(home.models / "tiny")
    write_rows(home, "rows", conversations(400))
    return home


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Sets the share of the processors that other work takes; none at first."""

    rates = DeviceRates(4e11, 1e11, 1.2e10, 4e-6)
    monkeypatch.setattr(machine_load, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(
        hardware, "measure_device_rates", lambda *_: rates
    )  # else they get better from ask to ask

    def take(share: float) -> None:
        monkeypatch.setattr(OtherLoad, "shares", lambda _: ProcessorShares(0.5, share))

    take(0.0)
    return take


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[TimedSteps]:
    """What was timed so far."""
    every, real = [], timed_steps.time_training_steps

    def take(*args: Any) -> TimedSteps:
        every.append(real(*args))
        return every[-1]

    monkeypatch.setattr(timed_steps, "time_training_steps", take)
    return every


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"method": "full"},
        {"method": "freeze", "trainable_layers": 1},
        {"method": "prompt_tuning"},
        {"gradient_checkpointing": True, "per_device_train_batch_size": 1},
        {"task": "classification"},
    ],
)
def test_steps_of_any_kind_of_run_are_timed_and_correct_its_count(
    home: Home, others: Loaded, taken: list[TimedSteps], fields: dict[str, Any]
) -> None:
    if fields.get("task") == "classification":
        write_rows(home, "rows", conversations(400), labels=["even", "odd"] * 200)
    counted = ask(home, **fields).time
    assert (counted.timing, taken) == ("wanted", [])
    time = ask(home, body=WANTED, **fields).time
    assert time.timing == "timed"
    (timed,) = taken
    assert min(timed.training, timed.update, timed.evaluation) > 0
    assert time.parts["training"] == pytest.approx(counted.parts["training"] * timed.training)
    assert time.high_seconds <= MAX_RANGE_FACTOR * 1.001 * time.seconds
    assert "A few steps were timed" in time.basis


def test_what_was_timed_is_kept_for_like_questions(
    home: Home, others: Loaded, taken: list[TimedSteps]
) -> None:
    ask(home, body=WANTED)
    assert ask(home, num_train_epochs=1).time.timing == "timed"
    ask(home, body=WANTED, num_train_epochs=2)
    assert len(taken) == 1
    assert ask(home, method="full").time.timing == "wanted"
    assert ask(home, lora_dropout=0.1).time.timing == "wanted"


def test_rates_that_are_measured_better_later_do_not_shorten_what_was_timed(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ask(home, body=WANTED).time.parts
    better = DeviceRates(8e11, 2e11, 2.4e10, 2e-6)
    monkeypatch.setattr(hardware, "measure_device_rates", lambda *_: better)
    assert ask(home).time.parts == pytest.approx(before)
    counted = ask(home, method="full").time
    assert counted.timing == "wanted"


def test_a_busy_machine_is_timed_anew_and_the_time_alone_is_told(
    home: Home, others: Loaded, taken: list[TimedSteps]
) -> None:
    quiet = ask(home, body=WANTED).time
    assert (quiet.busy, quiet.alone_seconds) == (False, None)
    others(0.6)
    assert ask(home).time.timing == "wanted"
    busy = ask(home, body=WANTED).time
    assert (busy.busy, busy.others, len(taken)) == (True, 0.6, 2)
    assert busy.alone_seconds == pytest.approx(quiet.seconds)
    assert "other work took 60% of the processors" in busy.basis
    assert ask(home).time.timing == "timed"  # for some minutes
    others(0.0)
    assert ask(home).time.seconds == pytest.approx(quiet.seconds)


def test_the_run_that_the_next_one_waits_for_does_not_make_it_longer(
    home: Home, others: Loaded, taken: list[TimedSteps]
) -> None:
    quiet = ask(home, body=WANTED).time
    others(0.9)
    beside = ask(home, body=WANTED | {"running": True}).time
    assert beside.seconds == pytest.approx(quiet.seconds)
    assert len(taken) == 1


def test_what_was_timed_on_a_busy_machine_is_of_no_use_for_long(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    others(0.6)
    ask(home, body=WANTED)
    assert ask(home).time.timing == "timed"
    monkeypatch.setattr(timed_steps, "BUSY_MAX_AGE", 0.0)
    assert ask(home).time.timing == "wanted"


def test_of_a_long_step_fewer_rows_are_taken_before_fewer_layers(
    home: Home, others: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shallow model's step would be that of its head."""
    trials = []
    real = timed_steps._time_steps

    def time_steps(trial: Any, model: Any) -> Any:
        trials.append((model.config.num_hidden_layers, sum(map(len, trial.steps[0]))))
        return real(trial, model)

    monkeypatch.setattr(timed_steps, "_time_steps", time_steps)
    batch = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    ask(home, body=WANTED, **batch)
    counted: list[float] = []
    real_count = timed_steps._predict_parts

    def count(trial: Any, steps: Any, held_out: Any) -> dict[str, float]:
        parts = real_count(trial, steps, held_out)
        counted.append(parts["training"] / sum(len(part) for step in steps for part in step))
        return parts

    monkeypatch.setattr(timed_steps, "_predict_parts", count)
    (home.cache / "timed_steps.json").unlink()
    ask(home, body=WANTED, **batch)
    monkeypatch.setattr(timed_steps, "STEP_SECONDS", 3 * min(counted))
    (home.cache / "timed_steps.json").unlink()
    ask(home, body=WANTED, **batch)
    (whole, all_rows), _, (layers, rows) = trials
    assert (layers, all_rows) == (whole, 16)
    assert 1 <= rows < all_rows


def test_a_row_that_takes_long_is_timed_with_fewer_layers(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ratio is that of the whole model, whatever of it was taken."""
    write_model(home.models / "tiny", num_hidden_layers=12)
    loaded = []
    real = timed_steps.loading.load_model

    def load(*args: Any) -> Any:
        loaded.append(real(*args))
        return loaded[-1]

    monkeypatch.setattr(timed_steps.loading, "load_model", load)
    monkeypatch.setattr(timed_steps, "STEP_SECONDS", 1e-9)
    assert ask(home, body=WANTED).time.timing == "timed"
    assert loaded[0].config.num_hidden_layers == 3


@pytest.mark.parametrize("task", ["sft", "dpo"])
def test_the_steps_of_every_task_are_timed(home: Home, others: Loaded, task: str) -> None:
    """What a count without memory has left in the objective is in no step."""
    rows = conversations(20)
    write_rows(home, "pairs", rows, rejected=worse_answers(rows))
    body = WANTED | {"fingerprint": "pairs" if task == "dpo" else "rows"}
    assert ask(home, body=body, dataset=body["fingerprint"], task=task).time.timing == "timed"


def test_steps_are_not_timed_beside_a_run(home: Home, others: Loaded, taken: list[TimedSteps]) -> None:
    """They would be slow, and the run that trains would be too."""
    others(0.9)
    time = ask(home, body=WANTED | {"running": True}).time
    assert (time.timing, time.busy, taken) == ("waiting", False, [])


def test_a_run_is_held_against_what_it_would_take_alone(
    home: Home, others: Loaded, taken: list[TimedSteps]
) -> None:
    """What was counted for a busy machine would make each later estimate too short."""
    others(0.6)
    first = ask(home, body=WANTED).time
    assert (first.timing, first.steps_timed, first.alone_seconds) == ("timed", False, None)
    others(0.0)
    quiet = ask(home, body=WANTED).time
    others(0.6)
    busy = ask(home).time
    assert busy.steps_timed
    assert busy.counted_seconds == pytest.approx(quiet.counted_seconds)
    assert busy.alone_seconds == pytest.approx(quiet.seconds)


@pytest.mark.parametrize("spoiled", ["{", "[]", '{"a b": {"quiet": {"training": 1.0}}}', '{"a": 1}'])
def test_a_spoiled_cache_is_timed_anew(
    home: Home, others: Loaded, taken: list[TimedSteps], spoiled: str
) -> None:
    (home.cache / "timed_steps.json").write_text(spoiled)
    assert ask(home).time.timing == "wanted"
    assert ask(home, body=WANTED).time.timing == "timed"
    assert ask(home).time.timing == "timed"


def test_steps_that_others_time_are_no_other_work(home: Home, others: Loaded) -> None:
    others(0.9)
    assert ask(home).time.busy
    with acquire_lock(home.cache / "timed_steps.lock") or pytest.fail("somebody holds it"):
        assert not ask(home).time.busy


def test_who_waits_for_others_takes_what_they_timed(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(home, body=WANTED)
    kept = (home.cache / "timed_steps.json").read_text()
    (home.cache / "timed_steps.json").unlink()

    def finish(steps: CachedSteps) -> Any:
        steps.path.write_text(kept)
        return acquire_lock(steps.lock)

    monkeypatch.setattr(CachedSteps, "take_turn", finish)
    assert ask(home, body=WANTED).time.timing == "timed"
    assert len(taken) == 1


def test_steps_that_would_take_minutes_are_not_taken(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_steps, "MAX_SECONDS", 1e-9)
    assert ask(home, body=WANTED).time.timing == "impossible"
    assert not list(home.asks.rglob("*.safetensors"))


@pytest.mark.parametrize(("seconds", "steps"), [(1.0, 4), (4.0, 3), (6.0, 2), (11.0, 1), (25.0, 0)])
def test_of_long_steps_fewer_are_taken(
    home: Home, others: Loaded, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    """Pairs of long answers take six seconds each on two cores: one of them tells more than none, in which
    kernels are compiled, too."""
    gradients: list[int] = []
    passes: list[float] = []
    real, real_pass = OptimizerStepper.gradients, timed_steps._time_evaluation

    def time_evaluation(trial: Any, model: Any) -> float:
        passes.append(real_pass(trial, model))
        return passes[-1]

    def count(stepper: OptimizerStepper, rows: StepRows, number: int) -> Gradients:
        gradients.append(number)
        return real(stepper, rows, number)

    counted = {"update": 0.1, "evaluation": 1.5, "generation": 0.1}
    monkeypatch.setattr(
        timed_steps, "_predict_parts", lambda _, rows, __: counted | {"training": seconds * len(rows)}
    )
    monkeypatch.setattr(timed_steps, "SECONDS", 0.0)  # those of a tiny model are none
    monkeypatch.setattr(OptimizerStepper, "gradients", count)
    monkeypatch.setattr(timed_steps, "_time_evaluation", time_evaluation)
    time = ask(home, body=WANTED).time
    assert time.timing == ("timed" if steps else "impossible")
    assert (len(gradients), len(passes)) == (steps, steps)


@pytest.mark.parametrize("error", [TypeError("odd"), MemoryError(), KeyError("x")])
def test_an_estimate_is_no_reason_to_fail(
    home: Home, others: Loaded, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(timed_steps, "make_trainable", fail)
    assert ask(home, body=WANTED).time.timing == "impossible"


def test_few_rows_are_enough(home: Home, others: Loaded) -> None:
    write_rows(home, "rows", conversations(3))
    assert ask(home, body=WANTED).time.timing == "timed"


def test_steps_that_can_not_be_taken_are_no_reason_to_fail(
    home: Home, others: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(timed_steps, "make_trainable", fail)
    answer = ask(home, body=WANTED)
    assert answer.time.timing == "impossible"
    assert answer.time.seconds > 0


def test_too_little_memory_is_told_from_the_start(
    home: Home, others: Loaded, taken: list[TimedSteps], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_steps, "MEMORY_SHARE", 1e-9)
    assert ask(home, body=WANTED).time.timing == "impossible"
    assert taken == []
    assert not list(home.asks.rglob("*.safetensors"))


def test_other_work_is_that_of_other_processes() -> None:
    """A process that computes without a pause takes most of one processor."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            counting = OtherLoad()
            sleep(1.0)
            shares = counting.shares()
        finally:
            other.kill()
    assert shares.others > 0.5 / len(os.sched_getaffinity(0))
    assert shares.own < 0.5
    assert ProcessorShares(0.5, 0.3).busy
    assert not ProcessorShares(0.5, 0.1).busy


def test_other_methods_are_estimated_by_like_steps_of_the_model(home: Home, others: Loaded) -> None:
    def times() -> dict[str, dict[str, Any]]:
        return {option["method"]: option for option in advise(home)["options"] if not option["problem"]}

    before = times()
    ask(home, body=WANTED)
    after = times()

    def width(option: dict[str, Any]) -> float:
        return float(option["high_seconds"] / option["low_seconds"])

    assert width(after["lora"]) < width(after["full"]) < width(before["full"])
    assert "Like steps were timed" in after["full"]["time_basis"]
    assert "A few steps were timed" in after["lora"]["time_basis"]
