"""The page of rating rounds: its empty state, rounds of every protocol, and what it asks of the engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.rating.round_report import report
from store.contract.home import Home
from store.queries import jobs
from store.queries.rating import ratings, rounds
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_rounds import seed_rounds
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/rating/rating.py"
REAL = ("rounds_to_rate", "close_round", "open_round", "leave_rater_out", "take_rater_in", "start_round")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    home = seed_rounds(tmp_path_factory.mktemp("rounds") / "home")
    with still_engine(home, real=REAL) as engine:
        yield engine


def round_id(engine: StillEngine, name: str) -> str:
    listed = rounds.list_rounds(engine.database)
    return next(round["round_id"] for round in listed if round["name"] == name)


def test_without_rounds_it_says_what_to_do(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed(tmp_path / "home", runs=0, sets=0), real=REAL) as engine:
        text = everything_said(open_page(engine.home, PAGE))
    assert "There is no rating round yet" in text
    assert "takes its prompts from a data set" in text


def test_with_the_engine_away_it_says_so(offline_home: Home, open_page: Open) -> None:
    assert "engine" in everything_said(open_page(offline_home, PAGE))


def test_what_one_can_rate_comes_first_and_all_rounds_are_listed(
    seeded: StillEngine, open_page: Open
) -> None:
    page = open_page(seeded.home, PAGE)
    text = everything_said(page)
    assert "0 of up to 40 rated by you" in text
    assert "Base model against Tuned run · 40 prompts · 132 ratings by 3 people" in text
    primary = next(button for button in page.button if button.proto.type == "primary")
    assert primary.label == "Rate"


def test_an_open_round_tells_neither_who_is_compared_nor_who_is_ahead(
    seeded: StillEngine, open_page: Open
) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Open one"))
    text = everything_said(page)
    for name in ("Base model", "Tuned run", "better than"):
        assert name not in text
    assert "told apart" in text
    assert not page.get("plotly_chart")


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        (
            "Pairs",
            [
                "Tuned run is better than Base model: it would win",
                "Krippendorff's alpha",
                "Bea and Dora agree on",
                "both are bad were left out",
                "prompts on which people part",
            ],
        ),
        ("Ranks", ["Best of several", "Krippendorff's alpha"]),
        ("Scores", ["Helpfulness: Tuned run scores higher than Base model"]),
        ("Passes", ["Base model passes in", "of 20 ratings"]),
        ("Better texts", ["8 answers looked at, 8 of them changed"]),
        ("elsewhere", ["response_a", "2 people"]),
    ],
)
def test_a_closed_round_says_what_it_came_to(
    seeded: StillEngine, open_page: Open, name: str, sentences: list[str]
) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, name))
    text = everything_said(page) + "\n".join(expander.label for expander in page.expander)
    for sentence in sentences:
        assert sentence in text


def test_a_round_that_nobody_rated_says_so_once_it_is_closed(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Nobody rated"))
    assert "0 of 80 ratings, by 0 people" in [bar.proto.text for bar in page.get("progress")]
    page.button(key="round-close").click().run()
    assert "Nothing was rated in this round" in everything_said(page)
    page.button(key="round-open").click().run()
    assert "Nobody has rated yet" in everything_said(page)


def test_people_can_be_left_out_and_the_figures_follow(seeded: StillEngine, open_page: Open) -> None:
    own = round_id(seeded, "Pairs")
    page = open_page(seeded.home, PAGE, round=own, tab="raters")
    assert "swapped pairs as before" in everything_said(page)
    person = next(task["person_id"] for task in ratings.dealt(seeded.database, own))
    page.button(key=f"rater-leave_rater_out-{person}").click().run()
    assert "the ratings are kept and don't count" in everything_said(page)
    results = open_page(seeded.home, PAGE, round=own)
    assert "Without 1 rater left out" in everything_said(results)
    page = open_page(seeded.home, PAGE, round=own, tab="raters")
    page.button(key=f"rater-take_rater_in-{person}").click().run()
    assert ratings.left_out(seeded.database, own) == []


def test_answers_are_found_and_shown_as_text(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Pairs"), tab="answers")
    text = everything_said(page)
    assert "Question 0?" in text
    assert re.search(r"Carl <b>: (Base model|Tuned run|a tie|both)", text)
    page.text_input(key="round-search").set_value("question 39?").run()
    assert "1 prompt" in everything_said(page)
    assert "Question 39?" in everything_said(page)


def test_scores_are_nothing_to_train_on_and_pairs_are(seeded: StillEngine, open_page: Open) -> None:
    scores = open_page(seeded.home, PAGE, round=round_id(seeded, "Scores"), tab="train")
    assert "not what a better one looks like" in everything_said(scores)
    pairs = open_page(seeded.home, PAGE, round=round_id(seeded, "Pairs"), tab="train")
    assert pairs.button(key="round-launch").label == "Launch a DPO run on it"
    better = open_page(seeded.home, PAGE, round=round_id(seeded, "Better texts"), tab="train")
    assert better.button(key="round-launch").label == "Launch an SFT run on it"


def test_a_round_is_started_from_the_form(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    there = [option for option in models.options if "answers there" in option]
    assert len(there) == 2
    assert page.button(key="round-new-go").disabled
    models.set_value(there).run()
    page.selectbox(key="round-new-template").set_value("tone").run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    (job,) = [job for job in jobs.queue(seeded.database) if job["kind"] == "round"]
    config = job["config"]["round"]
    assert (config["protocol"], config["items"], config["overlap"]) == ("pairwise", 50, 2)
    assert config["instruction"].startswith("Which answer sounds as it should")
    assert len(config["models"]) == 2


def test_a_round_that_is_gone_is_an_error_with_what_to_do(seeded: StillEngine, open_page: Open) -> None:
    text = everything_said(open_page(seeded.home, PAGE, round="round-gone"))
    assert "There is no rating round" in text


def test_the_report_is_one_file_that_escapes_names_and_loads_nothing(
    seeded: StillEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBENCH_HOME", str(seeded.home.path))
    text = report(rounds.line(seeded.database, round_id(seeded, "Pairs")))
    assert "Tuned run is better than Base model" in text
    assert "Carl &lt;b&gt;" in text
    for hostile in ("<b>", "<script", "http:", "https:"):
        assert hostile not in text
