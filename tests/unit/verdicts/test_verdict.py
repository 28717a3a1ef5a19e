"""The verdict says what the evidence allows, in plain words, with the settings to change."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.training_curve.advice import VerdictOutcome, advise
from engine.evaluation.training_curve.run_curve import RunCurves
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import AdviceItem
from store.evaluation.verdict_schemas import Overfitting, TrainingStop
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import judge
from tests.unit.verdicts.test_overfitting import falling, validations

CONFIG = TrainConfig(dataset="d").resolved(600).model_dump()
EPOCHS = TrainingStop(reason="epochs", step=100, restored_step=None)


def evidence(effect: float, n: int = 200, noise: float = 0.3, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    tokens = generator.integers(10, 60, n)
    base = tokens * generator.gamma(4, 0.5, n)
    tuned = base - tokens * (effect + generator.normal(0, noise, n))
    return {
        "row_ids": np.arange(n),
        "split": "test",
        "base_loss_sum": base,
        "tuned_loss_sum": tuned,
        "tokens": tokens,
        "base_correct": (tokens * 0.5).astype(int),
        "tuned_correct": (tokens * (0.5 + max(-0.2, min(0.2, effect)))).astype(int),
        "eval_rows": validations([2.0, 1.5, 1.3, 1.2, 1.18, 1.178]),
        "train_curve": falling(100),
        "stopped": EPOCHS,
        "config": CONFIG,
    }


def test_learned() -> None:
    verdict = judge(**evidence(0.83))
    assert verdict.state == "learned"
    gain = verdict.gain
    assert gain.low < 0.83 < gain.high
    assert (gain.n, gain.unit, gain.split) == (200, "nats a token", "test")
    assert verdict.headline.startswith("Learned: on 200 held-out rows the tuned model is better by 0.8")
    assert f"(95% interval {gain.low:.2f} to {gain.high:.2f})" in verdict.headline
    assert verdict.base.loss - verdict.tuned.loss == pytest.approx(gain.value)
    assert verdict.base.perplexity == pytest.approx(math.exp(verdict.base.loss))
    assert verdict.accuracy_gain.low > 0
    assert verdict.advice == []
    json.dumps(verdict, default=as_json, allow_nan=False)


def test_noise_is_called_noise_with_what_could_be_seen() -> None:
    verdict = judge(**evidence(0.02, n=40, noise=0.5))
    assert verdict.state == "undecided"
    assert verdict.headline.startswith("Not distinguishable from noise with 40 held-out rows")
    assert f"smallest detectable gain: {verdict.gain.detectable:.2f}" in verdict.headline
    advice = verdict.advice[0]
    assert advice.change["test_size"] > 0.1
    TrainConfig.parse(CONFIG | advice.change)


def test_an_interval_around_nothing_is_no_gain() -> None:
    verdict = judge(**evidence(0.0, n=400, noise=0.01))
    assert verdict.state == "no_gain"
    assert verdict.advice[0].change == {"learning_rate": 3e-4}


def test_a_sure_gain_that_is_nothing_is_no_gain() -> None:
    """0.00001 nats a token on 400 rows; with a band of nothing these are better, and too few for others."""
    given = evidence(1e-5, n=400, noise=1e-6)
    verdict = judge(**given)
    assert verdict.state == "no_gain"
    assert verdict.headline.startswith("No relevant gain: on 400 held-out rows the tuned model is better")
    assert verdict.headline.endswith("less than 1% of the base model's loss (setting negligible_gain).")
    assert verdict.gain.negligible == 0.01
    without = judge(**given | {"config": CONFIG | {"negligible_gain": 0.0}})
    assert without.state == "undecided"
    assert without.headline.startswith("Better on these 400 held-out rows by 0.000010 nats a token")
    wide = judge(**evidence(0.3) | {"config": CONFIG | {"negligible_gain": 0.5}})
    assert wide.state == "no_gain"


def test_rows_that_could_not_show_a_rare_loss_are_too_few() -> None:
    """Each of 60 rows gains a little: sure of these rows, and undone if one row in thirty loses 4 nats."""
    few = judge(**evidence(0.1, n=60, noise=0.2))
    assert few.state == "undecided"
    assert few.headline.startswith("Better on these 60 held-out rows by 0.09 nats")
    assert few.gain.low < 0 < few.gain.high
    sentence = next(
        sentence
        for sentence in few.sentences
        if sentence.startswith("The interval of the gain allows for what 60 rows")
    )
    assert "up to 7.1% of all," in sentence
    assert "rows would suffice" in sentence
    assert judge(**evidence(0.1, n=400, noise=0.2)).state == "learned"


def test_rows_that_lack_the_long_ones_of_training_give_no_interval() -> None:
    """The held-out rows are all short; of those that were trained on one in thirty has most of the tokens."""
    lengths = np.where(np.arange(300) % 30 == 0, 3_000, 20)
    verdict = judge(**evidence(0.5, n=60), population=lengths)
    assert (verdict.state, verdict.gain.low) == ("undecided", None)
    assert "rows of unequal length" in verdict.headline
    assert judge(**evidence(0.5, n=60), population=np.full(300, 20)).state == "learned"


def test_two_rows_that_say_the_same_are_no_evidence() -> None:
    given = evidence(0.5, n=2)
    given["tuned_loss_sum"] = given["base_loss_sum"] - 0.5 * given["tokens"]
    verdict = judge(**given)
    assert (verdict.state, verdict.gain.low) == ("undecided", None)
    assert "2 rows are too few" in verdict.headline


def test_worse_asks_for_a_third_of_the_rate() -> None:
    verdict = judge(**evidence(-0.4))
    assert verdict.state == "worse"
    assert "the tuned model is worse by 0.4" in verdict.headline
    assert "95% interval 0.3" in verdict.headline
    assert verdict.advice[0].change == {"learning_rate": 3.3e-5}


def test_same_model_twice_is_never_called_better() -> None:
    same = evidence(0.0)
    same["tuned_loss_sum"] = same["base_loss_sum"]
    assert judge(**same).state == "no_gain"
    states = [judge(**evidence(0.0, n=60, seed=seed)).state for seed in range(100)]
    assert states.count("learned") <= 5


def test_overfitting_asks_for_fewer_epochs() -> None:
    given = evidence(0.5)
    given["eval_rows"] = validations([2.0, 1.4, 1.1, 1.2, 1.35, 1.5])
    verdict = judge(**given)
    assert verdict.overfitting.since_step == 80
    assert verdict.advice[0].change == {"num_train_epochs": 1.5}
    assert verdict.overfitting.sentence in verdict.sentences


def test_worse_than_the_base_but_better_on_the_way_is_no_matter_of_the_rate() -> None:
    given = evidence(-0.4)
    given["eval_rows"] = validations([2.0, 1.4, 1.1, 1.2, 1.35, 2.5])
    given["config"] = CONFIG | {"load_best_model_at_end": False}
    verdict = judge(**given)
    assert verdict.state == "worse"
    assert verdict.overfitting.best_step == 40
    assert verdict.advice[0].change == {"load_best_model_at_end": True, "num_train_epochs": 1.5}
    assert "save the best" in verdict.advice[0].text


def test_a_restored_step_is_named() -> None:
    given = evidence(0.5)
    given["eval_rows"] = validations([2.0, 1.4, 1.1, 1.2, 1.35, 1.5])
    given["stopped"] = TrainingStop(reason="early_stopping", step=100, restored_step=40)
    verdict = judge(**given)
    assert (
        "Stopped early at step 100, as 3 validations had no improvement of 0.5%; "
        "the weights of step 40, the best, were restored." in verdict.sentences
    )
    assert "learning_rate" in verdict.advice[0].change


def test_still_improving_asks_for_more_epochs() -> None:
    given = evidence(0.5)
    given["eval_rows"] = validations([2.0, 1.6, 1.3, 1.1, 0.9])
    assert judge(**given).advice[0].change == {"num_train_epochs": 6.0}
    given["stopped"] = TrainingStop(reason="max_steps", step=80, restored_step=None)
    given["config"] = CONFIG | {"max_steps": 80}
    assert judge(**given).advice[0].change == {"max_steps": 160, "num_train_epochs": 6.0}


def test_validation_rows_are_confessed() -> None:
    verdict = judge(**evidence(0.5, noise=2.0) | {"split": "validation"})
    assert "200 validation rows" in verdict.headline
    assert "(95% interval over 5 steps " in verdict.headline
    tested = judge(**evidence(0.5, noise=2.0)).gain
    assert verdict.gain.chosen_of == 5
    assert verdict.gain.high - verdict.gain.low > 1.2 * (tested.high - tested.low)
    assert tested.chosen_of == 0
    assert any("best of 5 validations on the same rows" in sentence for sentence in verdict.sentences)
    assert verdict.advice[-1].change == {"test_size": 0.1}


def test_a_tuned_model_without_numbers_is_broken() -> None:
    given = evidence(0.5)
    given["tuned_loss_sum"] = np.full(200, math.nan)
    verdict = judge(**given)
    assert (verdict.state, verdict.gain, verdict.tuned.loss) == ("worse", None, None)
    assert verdict.headline.startswith("Broken: the loss is not a number on 200 test rows")
    json.dumps(verdict, default=as_json, allow_nan=False)


def test_one_row_decides_nothing() -> None:
    verdict = judge(**evidence(0.5, n=1))
    assert verdict.state == "undecided"
    assert (verdict.gain.low, verdict.gain.n) == (None, 1)
    json.dumps(verdict, default=as_json, allow_nan=False)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        judge(**evidence(0.5) | {"row_ids": [1, 2]})


def more_rows(value: float, half: float, n: int) -> AdviceItem:
    """Advice on a gain within noise, of a run that has nothing else to be said of it."""
    gain = Interval(value, value - half, value + half, n, 0.05, half / 1.4)
    advice = advise(
        VerdictOutcome("undecided", gain, "test", row_of(Overfitting, state="none")),
        RunCurves(validations=validations([2.0, 1.5, 1.5, 1.5]), stopped=EPOCHS),
        CONFIG,
    )
    assert len(advice) == 1
    TrainConfig.parse(CONFIG | advice[0].change)
    return advice[0]


def test_no_more_rows_are_asked_for_than_a_split_holds_out() -> None:
    some, many, all_of_them = more_rows(0.3, 0.4, 100), more_rows(0.1, 0.4, 100), more_rows(0.1, 0.4, 500)
    assert some.change["max_eval_rows"] <= 500
    assert some.change["test_size"] > 0.1
    assert "stay open" not in some.text
    assert many.change == {"test_size": 0.5, "max_eval_rows": 500}
    assert "500 is the most that a split holds out" in many.text
    assert all_of_them.change == {}
    assert all_of_them.text.startswith("It can't be distinguished from noise on all 500 held-out rows")


def test_a_rate_at_its_end_is_not_said_to_grow_threefold() -> None:
    def pieces(rate: float) -> list[AdviceItem]:
        return advise(
            VerdictOutcome("no_gain", None, "test", row_of(Overfitting, state="none")),
            RunCurves(stopped=EPOCHS),
            CONFIG | {"learning_rate": rate},
        )

    assert "three times the learning rate, 0.3" in pieces(0.1)[0].text
    assert "a higher learning rate, 1." in pieces(0.5)[0].text
    assert pieces(1.0) == []


def test_rates_and_epochs_are_written_as_people_do() -> None:
    given = evidence(-0.4)
    given["config"] = CONFIG | {"learning_rate": 2e-4}
    assert "a third of the learning rate, 0.000067." in judge(**given).advice[0].text
    given = evidence(0.5)
    given["eval_rows"] = validations([2.0, 1.5, 1.2])
    given["config"] = CONFIG | {"num_train_epochs": 0.5}
    assert judge(**given).advice[0].text.endswith("try 1 epoch.")
