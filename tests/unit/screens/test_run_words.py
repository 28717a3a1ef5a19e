"""What screens say of runs and machines at the edges: one row, broken models, figures that are missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.evaluation.statistics.intervals import Interval
from pages.comparison import differences, side_by_side
from pages.overview import panels
from pages.runs import live_status
from pages.shared import run_results
from store.core.figure_schemas import Estimate, Gain
from store.core.schemas import Gpu
from store.evaluation.schemas import ClassFigures, Classification, ClassModels
from store.evaluation.verdict_schemas import LossFigures, Overfitting, Verdict
from store.runs.schemas import Run
from tests.pages.seeds.seed_evidence import forgetting
from tests.unit.store_samples import row_of

MODEL = LossFigures(loss=1.0, perplexity=2.7, token_accuracy=0.5, n=200, tokens=900)
GAIN = row_of(Gain, value=0.5, low=0.4, high=0.6, n=200, split="test")
GPU = Gpu(
    index=0, name="G", memory_used_gib=4.0, memory_total_gib=8.0, utilization_percent=30, temperature_c=None
)


def run(name: str, number: int, verdict: Verdict | None, **config: Any) -> Run:
    fields = {"name": name, "number": number, "verdict": verdict, "config": config}
    return row_of(Run, run_id=f"r{number}", data_fingerprint="f", facts={}, **fields)


def verdict(gain: Gain | None, **tuned: Any) -> Verdict:
    return row_of(Verdict, state="learned", base=MODEL, tuned=replace(MODEL, **tuned), gain=gain)


def test_numbers_rest_on_the_rows_that_were_judged() -> None:
    basis = run_results.describe_basis(verdict(GAIN))
    assert basis.startswith(
        "Base → tuned on 200 test rows, seen only by the verdict, with 900 trained tokens;"
    )
    assert "95% intervals" in basis
    assert "200 validation rows, with" in run_results.describe_basis(
        verdict(replace(GAIN, split="validation"))
    )
    basis_of_one = run_results.describe_basis(verdict(replace(GAIN, low=None, high=None), n=1, tokens=1))
    assert basis_of_one == "Base → tuned on 1 test row, seen only by the verdict, with 1 trained token."
    assert "200 held-out rows, with" in run_results.describe_basis(verdict(None))


def test_a_perplexity_of_any_size_fits_its_card() -> None:
    gain, huge = replace(GAIN, value=1.0, low=0.9, high=1.1), replace(GAIN, value=12.7, low=12.3, high=13.1)
    assert run_results.format_perplexity_ratio(gain) == "×0.37 (0.33 to 0.41)"
    assert run_results.format_perplexity_ratio(huge) == "÷328 K (220 K to 489 K)"
    assert run_results.format_perplexity_ratio(replace(gain, low=None, high=None)) is None
    assert run_results._format_any_size(370_196.5) == "370 K"
    assert run_results._format_any_size(61.2) == "61.2"


def test_a_card_says_since_when_training_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    cards: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run_results.st, "metric", lambda *words, **_: cards.append(words))
    shape = row_of(Overfitting, state="diverged", stage="diverged", best_step=20, since_step=1041)
    run_results.draw_overfitting(shape)
    run_results.draw_overfitting(replace(shape, since_step=None))  # a verdict from before the step was kept
    assert cards == [
        ("Overfitting", "Diverged", "since step 1,041"),
        ("Overfitting", "Diverged", "best step 20"),
    ]


def test_two_seeds_of_one_setting_are_not_called_different_by_what_they_get_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(differences.st, "markdown", lines.append)
    surely = Interval(0.2, 0.1, 0.3, 100)
    monkeypatch.setattr(differences, "compute_accuracy_difference", lambda *_: surely)
    tuned = row_of(ClassFigures, accuracy=row_of(Estimate, value=0.9))
    classes = row_of(Classification, split="test", models=row_of(ClassModels, tuned=tuned))
    judged = replace(verdict(GAIN), classification=classes)
    pair = [run(f"R{seed}", seed, judged, seed=seed, learning_rate=1e-4) for seed in (0, 1)]
    differences.draw_accuracy_comparison(pair, {"r0": "R0", "r1": "R1"})
    assert "differ only in their seed, by 20.0 points of accuracy" in lines[-1]
    pair[1].config["learning_rate"] = 2e-4
    differences.draw_accuracy_comparison(pair, {"r0": "R0", "r1": "R1"})
    assert "is right more often than" in lines[-1]


def test_the_prose_that_forgetting_was_measured_on_is_named() -> None:
    forgot = forgetting(0.3, {"learning_rate": 1e-4, "num_train_epochs": 2.0})
    with_cost = replace(verdict(GAIN), forgetting=forgot)
    assert run_results.get_prose_result(with_cost) == forgot.texts[0]
    assert "forgetting on 120 passages of plain prose" in run_results.describe_basis(with_cost)
    assert run_results.get_prose_result(verdict(GAIN)) is None
    unread = replace(with_cost, forgetting=replace(forgot, texts=[]))
    assert run_results.get_prose_result(unread) is None


def test_a_list_marks_what_a_gain_cost() -> None:
    config = {"learning_rate": 1e-4, "num_train_epochs": 2.0}
    for rise, words in ((0.3, "forgot much"), (0.1, "forgot some"), (0.0, "")):
        judged = replace(verdict(GAIN), forgetting=forgetting(rise, config))
        line = panels._render_gain(row_of(Run, verdict=judged))
        assert ("forgot" in line) == bool(words)
        assert words in line
        assert "better by 0.50" in line


@pytest.mark.parametrize(
    ("state", "ink"), [("learned", "better"), ("better", "unsure"), ("shape", "unsure"), ("no_gain", "")]
)
def test_a_gain_is_green_in_a_list_where_it_is_learned(state: str, ink: str) -> None:
    line = panels._render_gain(row_of(Run, verdict=replace(verdict(GAIN), state=state)))
    assert f"<b style='{panels.INKS[ink]}'>better by" in line


def test_a_broken_run_has_no_gain_to_compare() -> None:
    broken, judged, going = run("b", 1, verdict(None)), run("j", 2, verdict(GAIN)), run("g", 3, None)
    assert "broken" in panels._render_gain(broken)
    assert "loss is not a number" in panels._render_gain(broken)
    sentences = differences.describe_runs_without_gain([broken, judged, going])
    assert sentences == ["b has no gain to compare: its loss is not a number.", "2 of 3 runs have a verdict."]
    assert differences.describe_runs_without_gain([judged]) == []


def test_a_lost_run_says_what_the_engine_found() -> None:
    text = live_status.describe_lost_process({"message": "It was killed by SIGKILL_9.", "fix": "Resume it."})
    assert text == "**It was killed by SIGKILL\\_9.**  \nResume it."
    assert live_status.describe_lost_process({}).startswith(live_status.LOST_PROCESS_NOTE)


def test_settings_of_one_run_are_all_shown_and_no_name_takes_the_first_column() -> None:
    first, second = run("Setting", 1, None, seed=1), run("b", 2, None, seed=2)
    assert side_by_side.build_settings_rows([first])[0] == {"Setting": "seed", "Setting #1": "1"}
    assert side_by_side.build_settings_rows([first, second]) == [
        {"Setting": "seed", "Setting #1": "1", "b": "2"}
    ]


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ({}, "30% busy"),
        ({"utilization_percent": None}, "utilisation not reported"),
        ({"memory_used_gib": None}, "memory not reported (of 8.0 GiB)"),
        ({"memory_used_gib": None, "memory_total_gib": None}, "memory not reported"),
    ],
)
def test_what_a_gpu_does_not_report_is_said(missing: dict[str, None], text: str) -> None:
    assert text in panels._render_gpu(replace(GPU, **missing))
