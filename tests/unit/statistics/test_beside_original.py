"""A run beside the original that it repeats: what is the same, and from which step on it isn't."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from engine.archives.reproduction import compare_with_original
from engine.archives.reproduction_job import upgrade_config
from store.archives.schemas import LOSS_TOLERANCE, ComparisonLine, ReproducedFigure
from store.core.figure_schemas import Estimate
from store.jobs.schemas import LossCurve, RunWithCurves
from store.training.train_config import TrainConfig
from tests.unit.store_samples import row_of

CONFIG = {"name": "First", "dataset": "data-1", "model": "/a/tiny", "learning_rate": 1e-4, "r": 8}
FACTS = {
    **{"data_fingerprint": "f" * 32, "dtype": "float32", "rows": {"train": 60, "test": 10}},
    "stopped": {"reason": "epochs", "step": 3, "restored_step": 3},
}


def curve(*values: float | None, first: int = 1) -> LossCurve:
    return LossCurve(steps=[first + place for place in range(len(values))], values=list(values))


def run(**changes: Any) -> RunWithCurves:
    curves = {"train/loss": curve(2.0, 1.5, 1.0), "eval/loss": curve(1.8, 1.2)}
    own = {"name": "First", "model": "tiny", "config": CONFIG, "facts": FACTS, "curves": curves}
    return row_of(RunWithCurves, run_id="run-1", kind="train", **{**own, **changes})


def lines_of(
    second: RunWithCurves, figures: Sequence[ReproducedFigure] = (), split_same: bool | None = True
) -> tuple[str, dict[str, ComparisonLine]]:
    result = compare_with_original(run(), second, figures, split_same=split_same)
    return result.sentence, {line.what: line for line in result.lines}


def losses(*values: float | None, first: int = 1) -> RunWithCurves:
    return run(curves={"train/loss": curve(*values, first=first), "eval/loss": curve(1.8, 1.2)})


def test_what_is_only_called_otherwise_is_the_same() -> None:
    names = {"name": "Again", "dataset": "data-2", "model": "tiny", "notes": "n"}
    sentence, lines = lines_of(run(config=CONFIG | names, name="Again"))
    assert {line.same for line in lines.values()} == {True}
    assert sentence == f"Matches the original run First in {len(lines)} of {len(lines)} items."


@pytest.mark.parametrize(
    ("second", "what", "values"),
    [
        (run(config=CONFIG | {"learning_rate": 0.5}), "Setting learning_rate", ("0.0001", "0.5")),
        (run(config=CONFIG | {"extra": 1}), "Setting extra", ("not set", "1")),
        (
            run(facts=FACTS | {"data_fingerprint": "e" * 32}),
            "Rows (fingerprint)",
            ("f" * 12, "e" * 12),
        ),
        (
            run(facts=FACTS | {"rows": {"train": 59, "test": 10}}),
            "Rows per split",
            ("train 60, test 10", "train 59, test 10"),
        ),
        (
            run(facts=FACTS | {"stopped": {"reason": "max_steps", "step": 2, "restored_step": 2}}),
            "Steps",
            ("3 steps", "2 steps"),
        ),
    ],
)
def test_what_differs_stands_with_both_values(
    second: RunWithCurves, what: str, values: tuple[str, str]
) -> None:
    sentence, lines = lines_of(second)
    assert (lines[what].first, lines[what].second, lines[what].same) == (*values, False)
    assert what in sentence


@pytest.mark.parametrize(
    ("second", "same", "detail"),
    [
        (losses(2.0, 1.5, 1.0), True, "Identical at every step."),
        (
            losses(2.0, 1.5, 1.0 + LOSS_TOLERANCE / 2),
            True,
            "At most 0.0005 nats apart (step 3), within 0.001.",
        ),
        (
            losses(2.0, 1.502, 1.2),
            False,
            "More than 0.001 nats apart from step 2; largest at step 3: 0.2 nats apart.",
        ),
        (losses(2.0, 1.5), False, "Measured at different steps."),
        (losses(2.0, 1.5, 1.0, first=2), False, "Measured at different steps."),
        (
            losses(2.0, None, 1.0),
            False,
            "More than 0.001 nats apart from step 2; largest at step 2: not finite in one of the runs.",
        ),
        (losses(), None, "Not available for one of the runs."),
    ],
)
def test_losses_are_held_step_by_step(second: RunWithCurves, same: bool | None, detail: str) -> None:
    _, lines = lines_of(second)
    line = lines["Training loss"]
    assert (line.same, line.detail) == (same, detail)


def test_figures_are_the_same_within_their_margin_and_untold_where_rows_do_not_say() -> None:
    estimate = Estimate(value=0.5, low=0.4, high=0.6, n=100)
    figures = [
        row_of(ReproducedFigure, title=came, unit="share", first=estimate, second=estimate, came=came)
        for came in ("same", "within", "outside", "cant_tell")
    ]
    sentence, lines = lines_of(run(), figures)
    sames = [line.same for what, line in lines.items() if what.endswith(", share")]
    assert sames == [True, True, False, None]
    assert "Outside, share" in sentence
    assert sentence.endswith(" 1 inconclusive.")


def test_a_split_that_is_gone_or_another_is_told() -> None:
    _, lines = lines_of(run(), split_same=None)
    assert lines["Split"].same is None
    _, lines = lines_of(run(), split_same=False)
    assert lines["Split"].same is False


def test_an_original_from_before_is_held_by_what_its_fields_mean_today() -> None:
    stopped = {"reason": "early_stopping", "step": 120, "restored_step": 80}
    gone = {"trust_remote_code": False}
    first = run(facts=FACTS | {"stopped": stopped}, config=upgrade_config(CONFIG | gone))
    course = {"step": 80, "last_step": 120, "reason": "early_stopping"}
    later = {"probes": TrainConfig.model_fields["probes"].default, "seed": 1}
    second = run(facts=FACTS | {"stopped": stopped, "course": course}, config=upgrade_config(CONFIG | later))
    lines = {line.what: line for line in compare_with_original(first, second, [], split_same=True).lines}
    assert (lines["Steps"].second, lines["Steps"].same) == ("120 steps, weights of step 80", True)
    assert [what for what in lines if what.startswith("Setting ")] == ["Setting seed"]
