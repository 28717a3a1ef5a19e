"""The model card: in the hub's form, without a path of this machine, whatever names hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard as HubCard

from store.core.export_schemas import CardEvaluation
from store.core.figure_schemas import BiasFigure, BiasReport, Estimate, FigureSummary
from store.registry import model_card, version_facts
from store.runs import card_text
from tests.unit.desk import Desk
from tests.unit.registering import finished_run, register

FIGURE = FigureSummary(
    metric="eval/accuracy", value=0.84, low=0.81, high=0.87, n=500, better="higher", bounds=[0.0, 1.0],
    failed=None, estimator="mean",
)  # fmt: skip


@pytest.fixture
def document(tmp_path: Path) -> Any:
    desk = Desk(tmp_path)
    desk.add_dataset()
    finished_run(desk, learning_rate=1e-4)
    register(desk, base="owner/base")
    desk("promote", version="sums@1", reason="It | adds <b>well</b>.")
    return version_facts.card(desk.database, "sums@1")


def test_hubs_read_base_metrics_and_results(document: Any) -> None:
    evaluation = CardEvaluation(
        name="sums@1 on D", dataset="D", hub_id=None, part="test", n=500, figures=[FIGURE], units={},
        probes=[],
    )  # fmt: skip
    text = model_card.format_card(document | {"evaluations": [evaluation]})
    read = HubCard(text).data
    assert (read.base_model, read.library_name) == ("owner/base", "peft")
    assert read.metrics == ["accuracy"]
    assert read.eval_results[0].metric_value == 0.84
    assert read.eval_results[0].metric_name == "accuracy (95% 0.81 to 0.87, n 500)"
    assert "| accuracy | 0.84 (0.81 to 0.87) | 500 |" in text


def test_a_folder_is_no_base_model_and_no_path_leaves(document: Any) -> None:
    text = model_card.format_card(
        document
        | {
            "base": version_facts._get_base_reference(None, "/home/ada/models/base"),
            "config": document["config"] | {"model": "/home/ada/base"},
        }
    )
    assert HubCard(text).data.base_model is None
    assert "/home/ada" not in text
    assert "base, a folder of the machine that trained it" in text


def test_bias_is_told_in_words_points_and_against_what(document: Any) -> None:
    change = Estimate(value=-0.01, low=-0.03, high=0.01, n=90)
    figure = BiasFigure(
        probe="Counterfactual pairs", kind="counterfactual", measure="flips", group="", base=change,
        tuned=change, change=change, limit=0.05, answer="no_worse", unit="share",
    )  # fmt: skip
    lengths = replace(figure, measure="length_gap", unit="words")
    bias = BiasReport(figures=[figure, lengths], worse=0, cant_tell=0, sentence="Calm.", limits=[])
    text = model_card.format_card(document | {"bias": bias, "bias_against": "/home/ada/models/other"})
    of_shares = "change against other −1.0 (−3.0 to 1.0) points, n 90: not worse"
    assert f"Responses that flip with the person in Counterfactual pairs: {of_shares}" in text
    assert (
        "Response length gap between two people in Counterfactual pairs: change against other −0.01" in text
    )
    assert "/home/ada" not in text


@pytest.mark.parametrize(
    ("ends", "signed", "words"),
    [
        ((0.84, 0.81, 0.87), False, "0.84 (0.81 to 0.87)"),
        ((-0.012, -0.03, 0.006), True, "−0.012 (−0.030 to +0.006)"),
        ((0.02, None, None), True, "+0.020 (no interval)"),
        ((3.1e-9, 1e-9, 5e-9), False, "3.1e−09 (1e−09 to 5e−09)"),  # an export that is all but the same
        ((0.0, 0.0, 0.0), True, "0.000 (no interval)"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_bears(
    ends: tuple[float, float | None, float | None], signed: bool, words: str
) -> None:
    value, low, high = ends
    assert (
        card_text.format_with_interval(Estimate(value=value, low=low, high=high, n=9), signed=signed) == words
    )


@pytest.mark.parametrize(("seconds", "words"), [(12.4, "12 s"), (89.0, "89 s"), (600.0, "10 min")])
def test_a_short_training_is_told_in_seconds(document: Any, seconds: float, words: str) -> None:
    assert f"Trained on:** CPU, {words}\n" in model_card.format_card(
        document | {"device": "CPU", "seconds": seconds}
    )


def test_nothing_is_left_to_be_filled_in_and_names_stay_names(document: Any) -> None:
    text = model_card.format_card(document)
    assert "More Information Needed" not in text
    assert "No intended use has been written yet" in text
    assert "Bias was not checked" in text
    assert "does not report energy" in text
    assert r"It \| adds \<b\>well\</b\>." in text
    assert "learning_rate: 0.0001" in text
    energetic = model_card.format_card(document | {"energy_wh": 1000.0})
    assert "Training took 1,000.0 Wh" in energetic
    assert HubCard(energetic).data.to_dict()["co2_eq_emissions"]["emissions"] == 473.0
