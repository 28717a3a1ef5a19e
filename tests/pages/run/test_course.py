"""What happened while runs trained, on the screens: warnings, what was forgotten when, the metric beside the
loss."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.runs.forgetting_charts import AMBER
from pages.shared.palette import BAD, BASE
from store.core.job_folder import JobDir
from tests.pages.conftest import Open, everything_said
from tests.pages.run.run_tabs import on_tab
from tests.pages.seeds.seed_evidence import write_course
from tests.pages.seeds.seed_runs import STEPS
from tests.pages.still_engine import StillEngine

PAGE = "pages/runs/run.py"


def test_warnings_name_the_run_what_is_sure_and_since_when(engine: StillEngine, open_page: Open) -> None:
    page_text = everything_said(open_page(engine.home)).replace("\\", "")
    assert "Warnings" in page_text
    assert re.search(r":red-badge\[Overfits · step \d+\]", page_text)
    assert "It overfits, significant since step" in page_text
    assert ":red-badge[Forgot much" in page_text
    assert "Forgot some" not in page_text  # the higher threshold says it


def figure(at: AppTest, key: str) -> dict[str, Any]:
    """The chart drawn under that key."""
    return next(json.loads(c.proto.spec) for c in at.get("plotly_chart") if key in c.proto.id)


@pytest.mark.parametrize(("run", "columns"), [("overfit", 11), ("live", 2)])
def test_the_map_of_categories_numbers_what_is_sure_alone(
    engine: StillEngine, open_page: Open, run: str, columns: int
) -> None:
    at = on_tab(open_page(engine.home, PAGE, run=run), "forgetting")
    pale, strong = figure(at, "course-cells")["data"]
    assert len(strong["x"]) == columns
    assert strong["y"] == ["all questions", "arithmetic", "capitals", "elements", "grammar"]
    for faint, full, label, sentences in zip(
        pale["z"], strong["z"], strong["text"], strong["customdata"], strict=True
    ):
        for noise, sure, number, sentence in zip(faint, full, label, sentences, strict=True):
            assert (noise is None) != (sure is None)
            assert (number != "") == (sure is not None)
            assert ("can't be distinguished from noise" in sentence) == (sure is None)
            assert " of n " in sentence
    assert any(cell is not None for line in pale["z"] for cell in line)
    if run == "overfit":
        assert strong["x"][-1].startswith("kept")
        assert strong["z"][0][-1] < 0
    page_text = everything_said(at)
    assert "96 questions are used, 24 of each category" in page_text


def test_prose_over_the_steps_has_intervals_and_says_since_when(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, PAGE, run="overfit"), "forgetting")
    line, end = figure(at, "course-prose")["data"]
    assert len(line["x"]) == len(line["error_y"]["array"]) == 10
    lows = np.array(line["y"]) - np.array(line["error_y"]["arrayminus"])
    inks = np.array(line["marker"]["color"])
    assert 0 < (inks == AMBER).sum() < 10  # what surely passes 0.05 and not 0.2 did not forget much
    assert (inks[lows > 0.2] == BAD).all()
    assert (inks[(lows > 0.05) & (lows <= 0.2)] == AMBER).all()
    assert (inks[lows <= 0.05] == BASE).all()
    assert end["marker"]["symbol"] == "diamond"
    page_text = everything_said(at)
    assert re.search(r"Significantly above 0\.2 nats a token on plain prose from step \d+\.", page_text)
    assert "8 passages" in page_text
    at = on_tab(open_page(engine.home, PAGE, run="learned"), "forgetting")
    assert "Not significantly over 0.05 nats a token" in everything_said(at)


def test_why_there_is_no_course(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, PAGE, run="twin"), "forgetting")
    assert "No probe was paid for while it trained" in everything_said(at)


def test_what_it_refuses_before_and_after(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, PAGE, run="overfit"), "forgetting")
    page_text = everything_said(at).replace("\\", "")
    assert "It refuses fewer requests that a model should refuse: 20 → 8 of 28" in page_text
    numbers = {metric.label: metric for metric in at.metric}
    assert numbers["Refused (should refuse)"].value == "20 → 8 of 28"
    assert numbers["Refused (should answer)"].value == "1 → 2 of 28"
    table = next(d.value for d in at.dataframe if "Request" in d.value.columns)
    assert len(table) == 28
    assert (table["Before → after"] == "refused → answered").sum() == 20
    assert "Not measured in this run. Clone" not in page_text


def test_the_metric_stands_beside_the_loss_with_intervals(engine: StillEngine, open_page: Open) -> None:
    at = on_tab(open_page(engine.home, PAGE, run="overfit"), "overfitting")
    loss, tokens, answers = figure(at, "metric-beside-loss")["data"]
    assert (loss["name"], tokens["name"]) == ("Validation loss", "Token accuracy")
    assert answers["name"] == "Token F1 of answers"
    assert len(tokens["x"]) == 11
    assert tokens["y"][-1] > tokens["y"][0]
    assert min(tokens["error_y"]["array"]) >= 0
    assert answers["text"][0].endswith("n 15")  # one answer could not be scored
    page_text = everything_said(at)
    assert "95% intervals over 50 validation rows" in page_text
    assert "generated at 2 validations" in page_text
    at = on_tab(open_page(engine.home, PAGE, run="twin"), "overfitting")
    assert "Not recorded in this run" in everything_said(at)


def test_one_checkpoint_is_no_course_and_the_tab_says_why(engine: StillEngine, open_page: Open) -> None:
    write_course(JobDir(engine.home.jobs / "live"), 0.6, [20], STEPS, base=True)
    st.cache_data.clear()
    at = on_tab(open_page(engine.home, PAGE, run="live"), "forgetting")
    page_text = everything_said(at)
    assert "needs two checkpoints; 96 questions could be asked at step 20 alone" in page_text
    assert "Probes wait until training has paid for them" in page_text
    assert not [c for c in at.get("plotly_chart") if "course-cells" in c.proto.id]
