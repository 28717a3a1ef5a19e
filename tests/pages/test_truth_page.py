"""The page of simulated truth: what holds at a glance, what does not first, a topic once it is open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from bench import truth
from store.core.home import Home
from store.evaluation import simulated_truth
from store.evaluation.schemas import SimulatedTopic
from tests.pages.conftest import Open, everything_said
from tests.unit.verdicts.test_truth_file import rate, topic

Keep = Callable[..., None]
PAGE = "pages/evaluation/truth.py"
HOLDING = topic("arms", rate("told apart", 0.04, low=0.0, high=0.05))
BROKEN = topic("gain", rate("covers <b>, n 10", 0.91), rate("covers <b>, n 30"), commit="def5678")


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Puts topics in place of those that come with the package."""

    def put(*topics: SimulatedTopic) -> None:
        path = tmp_path / "truth.json"
        path.write_text(truth.as_text({"topics": list(topics)}))
        monkeypatch.setattr(simulated_truth, "PATH", path)

    return put


def tables(at: AppTest) -> str:
    return "".join(element.proto.body for element in at.main.get("html") if "tb-truth" in element.proto.body)


def test_what_does_not_hold_is_listed_first(empty_home: Home, open_page: Open, keep: Keep) -> None:
    keep(HOLDING, BROKEN)
    at = open_page(empty_home, PAGE)
    text = everything_said(at)
    assert "2 of 3 rates on target" in at.subheader[0].value
    assert "Measured on 2026-11-30 at 2 commits; each topic names its own." in text
    assert "Preliminary" not in text
    assert [box.label for box in at.expander] == ["**Arms** 1 of 1 on target", "**Gain** 1 of 2 on target"]
    assert "Gain: covers &lt;b&gt;, n 10" in tables(at)
    assert "<td class='off' title='1,000 draws; wanted 93 to 97%'>✗ 91.0%</td>" in tables(at)
    assert "told apart" not in tables(at)  # its topic is closed


def test_searching_opens_what_it_finds_and_writes_the_link(
    empty_home: Home, open_page: Open, keep: Keep
) -> None:
    keep(HOLDING, topic("gain", rate("covers, n 10"), rate("covers, n 30"), rate("seen")))
    at = open_page(empty_home, PAGE)
    assert "4 of 4 rates on target" in at.subheader[0].value
    assert "Failing rates" not in everything_said(at)
    at.text_input(key="truth-text").set_value("Gain covers").run()
    assert at.query_params["text"] == "Gain covers"
    assert [box.label for box in at.expander] == ["**Gain** 2 of 2 on target"]
    assert "<th scope='col'>n 10</th><th scope='col'>n 30</th>" in tables(at)
    assert "Does gain hold?" in everything_said(at)
    assert "Measured on 2026-11-30 at commit abc1234, 2 s of one core." in everything_said(at)
    at.text_input(key="truth-text").set_value("weather").run()
    assert not at.expander
    assert "No rate matches" in everything_said(at)


def test_a_part_of_the_draws_is_called_a_first_look(empty_home: Home, open_page: Open, keep: Keep) -> None:
    keep(HOLDING, BROKEN | {"share": 0.02})
    at = open_page(empty_home, PAGE)
    assert "1 of 2 topics used a part of their draws (2%)" in at.warning[0].value


def test_without_a_measurement_it_says_how_to_make_one(empty_home: Home, open_page: Open, keep: Keep) -> None:
    keep()
    at = open_page(empty_home, PAGE)
    assert "Nothing was measured yet. `python bench/truth.py --write`" in everything_said(at)
    assert not at.expander


def test_what_comes_with_the_package_is_drawn(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE, text="n")
    held, total = simulated_truth.count_holding_rates(simulated_truth.read()["topics"])
    assert f"{held:,} of {total:,} rates on target" in at.subheader[0].value
    assert len(at.expander) == len(simulated_truth.read()["topics"])
