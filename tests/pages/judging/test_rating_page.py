"""The page of rating rounds: its empty state, rounds of every protocol, and what it asks of the engine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from engine.rating.jobs import inspect_prompts, inspect_ratings
from engine.server.sync_jobs import create_spec_folder
from engine.worker.job import WorkerJob
from pages.rating.downloads import render_report
from store.core.home import Home
from store.data import datasets, saved_recipes
from store.data.schemas import SliceRow
from store.db.database import utc_now
from store.jobs import job_queue
from store.rating import ratings, rounds
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_rounds import prompt_lines, seed_rounds
from tests.pages.still_engine import StillEngine, still_engine
from tests.tiny import write_model

PAGE = "pages/rating/rating.py"
REAL = (
    *("rounds_to_rate", "close_round", "open_round", "leave_rater_out", "take_rater_in", "start_round"),
    "let_rater_in",
)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    home = seed_rounds(tmp_path_factory.mktemp("rounds") / "home")
    with still_engine(home, ask=partial(looked_at, home), real=REAL) as engine:
        yield engine


async def looked_at(home: Home, name: str, body: dict[str, Any]) -> Any:
    """What a worker finds in a file of prompts, or of ratings."""
    look = {"prompts": inspect_prompts.run, "ratings_file": inspect_ratings.run}[name]
    return look(WorkerJob(create_spec_folder(home, name, "cpu", body).path))


def round_id(engine: StillEngine, name: str) -> str:
    listed = rounds.list_rounds(engine.database)
    return next(round.round_id for round in listed if round.name == name)


def test_without_rounds_it_says_what_to_do(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed(tmp_path / "home", runs=0, sets=0), real=REAL) as engine:
        text = everything_said(open_page(engine.home, PAGE))
    assert "No rating rounds yet" in text
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


def test_the_work_of_an_open_round_is_shown(seeded: StillEngine, open_page: Open) -> None:
    own = round_id(seeded, "Open one")
    with seeded.database.transaction() as tx:
        tx.execute("INSERT INTO person VALUES ('bea', 'Bea', 'rater', true, ?)", [utc_now()])
        tx.execute(
            "INSERT INTO rating_hold SELECT task_id, round_id, person_id, item_id, 3, 'first', ?::TIMESTAMP"
            " FROM rating_task WHERE round_id = ? LIMIT 1",
            [utc_now(), own],
        )
    page = open_page(seeded.home, PAGE, round=own)
    text = everything_said(page)
    assert "65 of 80 ratings are left." in text
    assert "15 rated" in text
    page.button(key="round-work.release.bea").click().run()
    assert page.button(key="round-work.release-sure").label == "Release"
    with seeded.database.transaction() as tx:
        tx.execute("INSERT INTO rating_assignment VALUES (?, 'bea', 5, 'Ann', ?)", [own, utc_now()])
        tx.execute("DELETE FROM rating_hold WHERE round_id = ?", [own])  # as a release does
    text = everything_said(open_page(seeded.home, PAGE, round=own))
    assert "Bea" in text
    assert "never here" not in text


def test_an_open_round_tells_neither_who_is_compared_nor_who_is_ahead(
    seeded: StillEngine, open_page: Open
) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Open one"))
    text = everything_said(page)
    for name in ("Base model", "Tuned run", "better than"):
        assert name not in text
    assert "Whether to stop can't be determined" in text
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
                "prompts with disagreement",
            ],
        ),
        ("Ranks", ["Ranking", "Krippendorff's alpha"]),
        ("Scores", ["Helpfulness: Tuned run scores higher than Base model"]),
        ("Passes", ["Base model passes in", "of 20 ratings"]),
        ("Better texts", ["8 answers reviewed, 8 edited"]),
        ("elsewhere", ["response_a", "2 people"]),
        ("Topics", ["have their labels by 12 ratings", "MASI distance"]),
        ("Marks", ["12 spans marked in 6 texts by 12 ratings", "F1 of exact span matches"]),
        ("Words", ["24 answers in free text by 2 raters"]),
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
    assert "This round has no ratings" in everything_said(page)
    page.button(key="round-open").click().run()
    assert "No ratings yet" in everything_said(page)


def test_people_can_be_left_out_and_the_figures_follow(seeded: StillEngine, open_page: Open) -> None:
    own = round_id(seeded, "Pairs")
    page = open_page(seeded.home, PAGE, round=own, tab="raters")
    assert "swapped pairs" in everything_said(page)
    person = next(task.person_id for task in ratings.dealt(seeded.database, own))
    page.button(key=f"rater-leave_rater_out-{person}").click().run()
    assert "ratings are kept but not counted" in everything_said(page)
    results = open_page(seeded.home, PAGE, round=own)
    assert "1 rater excluded; see the People tab" in everything_said(results)
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
    page.text_input(key="round-search").set_value("%").run()  # no pattern
    assert "No matching prompts. Try another search or filter." in everything_said(page)


def test_answers_are_read_a_page_at_a_time(seeded: StillEngine) -> None:
    pairs = round_id(seeded, "Pairs")
    every = rounds.items(seeded.database, pairs)
    second = rounds.item_page(seeded.database, pairs, limit=5, offset=5)
    assert (second["items"], second["matches"]) == (every[5:10], len(every))
    none = rounds.item_page(seeded.database, pairs, "nothing like that", limit=5)
    assert none == {"items": [], "matches": 0}
    ids = [item.item_id for item in second["items"]]
    rated = [task for task in ratings.dealt(seeded.database, pairs) if task.answer]
    assert ratings.of_items(seeded.database, pairs, ids) == [t for t in rated if t.item_id in ids]


def test_scores_are_nothing_to_train_on_and_pairs_are(seeded: StillEngine, open_page: Open) -> None:
    scores = open_page(seeded.home, PAGE, round=round_id(seeded, "Scores"), tab="train")
    assert "not what a better answer looks like" in everything_said(scores)
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
    config = last_round(seeded)
    assert "where" not in config
    assert (config["protocol"], config["items"], config["overlap"]) == ("pairwise", 50, 2)
    assert config["instruction"].startswith("Which answer sounds as it should")
    assert len(config["models"]) == 2
    making = [job.job_id for job in job_queue.queue(seeded.database) if job.kind == "round"][-1]
    link = open_page(seeded.home, PAGE, round=making)  # before there is a round of that id
    assert "Creating the round" in everything_said(link)


def test_raters_and_their_quotas_are_named_on_the_form(seeded: StillEngine, open_page: Open) -> None:
    with seeded.database.transaction() as tx:
        tx.execute("INSERT INTO person VALUES ('cid', 'Cid', 'rater', true, ?)", [utc_now()])
    page = open_page(seeded.home, PAGE)
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    models.set_value([option for option in models.options if "answers there" in option]).run()
    page.multiselect(key="round-new-raters.people").set_value(["cid"]).run()
    page.number_input(key="round-new-raters.quota.cid").set_value(30).run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    assert last_round(seeded)["raters"] == [{"person": "cid", "quota": 30}]


def test_checks_of_raters_are_part_of_the_form(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    models.set_value([option for option in models.options if "answers there" in option]).run()
    source = next(widget for widget in page.selectbox if widget.label == "Known answers from")
    source.set_value("Checked rows").run()
    page.number_input(key="round-new-qualification").set_value(5).run()
    page.number_input(key="round-new-attention_share").set_value(5).run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    config = last_round(seeded)
    assert (config["gold_items"], config["gold_share"], config["gold_pass"]) == (10, 0.1, 0.6)
    assert (config["qualification_items"], config["qualification_pass"]) == (5, 0.7)
    assert config["attention_share"] == 0.05
    assert config["gold_dataset"] == datasets.get_dataset(seeded.database, "Checked rows").dataset_id


def test_a_flagged_rater_is_told_of_in_results_and_left_out_of_training_unless_wanted(
    seeded: StillEngine, open_page: Open
) -> None:
    round = round_id(seeded, "Checked")
    results = everything_said(open_page(seeded.home, PAGE, round=round))
    assert "Of flagged raters: 20 ratings, by Carl" in results
    train = open_page(seeded.home, PAGE, round=round, tab="train")
    out = "left out 20 ratings of 1 rater flagged as too fast"
    assert f"Made from 20 ratings of 1 rater; {out}" in everything_said(train)
    train.toggle(key="round-include-flagged").set_value(True).run()
    assert "Made from 40 ratings of 2 raters" in everything_said(train)
    assert out not in everything_said(train)
    rows = datasets.get_dataset(seeded.database, "Checked rows").dataset_id
    page = open_page(seeded.home, "pages/data/data.py", dataset=rows)
    assert f"Made from a rating round: 20 ratings of 1 rater; {out}" in everything_said(page)


def test_who_failed_the_qualification_can_be_let_in(seeded: StillEngine, open_page: Open) -> None:
    round = round_id(seeded, "Checked")
    page = open_page(seeded.home, PAGE, round=round, tab="raters")
    assert "failed the qualification and gets no more items" in everything_said(page)
    next(button for button in page.button if button.label == "Admit rater").click().run()
    assert not page.exception
    (rater,) = ratings.let_in(seeded.database, round)
    assert rater.by_name
    assert "failed the qualification and was admitted by" in everything_said(page)


def test_the_page_says_how_far_each_model_is_with_its_answers(seeded: StillEngine, open_page: Open) -> None:
    write_model(seeded.home.models / "tiny-llama")
    page = open_page(seeded.home, PAGE)
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    there = next(option for option in models.options if "answers there" in option)
    asked = next(option for option in models.options if option.endswith("(model)"))
    models.set_value([there, asked]).run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    making = [job for job in job_queue.queue(seeded.database) if job.kind == "round"][-1]
    (answering,) = job_queue.with_ids(seeded.database, making.after_jobs)
    with seeded.database.transaction() as tx:
        job_queue.update(
            tx,
            answering.job_id,
            progress_done=7,
            progress_total=20,
            progress_unit="prompts",
            eta_seconds=90,
        )
        job_queue.claim(tx, answering.job_id, "cpu", 0.0)
    words = everything_said(open_page(seeded.home, PAGE, round=making.job_id))
    assert answering.title in words
    assert "7 of 20 prompts, 2 min left" in words


def last_round(engine: StillEngine) -> dict[str, Any]:
    """The config of the round that was queued last."""
    queued = [job for job in job_queue.queue(engine.database) if job.kind == "round"]
    return queued[-1].config["round"]


def test_a_round_is_started_with_a_slice(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    chosen = next(box for box in page.selectbox if box.label == "Rows")
    assert chosen.options == ["All rows", "First ten · by Ada"]
    chosen.set_value(next(row.slice_id for row in slices(seeded))).run()
    assert "Only rows where row id < 10." in everything_said(page)
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    models.set_value([option for option in models.options if "answers there" in option]).run()
    page.text_input(key=name_key(page)).set_value("With a slice").run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    config = last_round(seeded)
    assert config["name"] == "With a slice"
    assert config["where"]["conditions"] == [{"column": "row_id", "op": "<", "value": 10}]


def slices(engine: StillEngine) -> list[SliceRow]:
    (dataset,) = [row for row in datasets.list_datasets(engine.database) if row.name == "Questions"]
    return saved_recipes.slices(engine.database, dataset.dataset_id, "ada")


def name_key(page: AppTest) -> str:
    """Of the field of the round's name, which starts anew with other prompts."""
    return next(field.key for field in page.text_input if (field.key or "").startswith("round-new-name."))


def test_a_round_is_started_with_a_file_and_its_answers(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    page.get_by_key("round-new-from").set_value("A file")
    page.run()
    assert "`answer:NAME` is the column of a model's answers" in everything_said(page)
    page.file_uploader(key="round-new-prompts-file.0").set_value(
        ("new <b>.jsonl", prompt_lines(5).encode(), "application/jsonl")
    )
    page.run()
    text = everything_said(page)
    assert "5 prompts, answers of gpt-4o and llama." in text
    assert "1 row left out: it has no prompt." in text
    models = next(widget for widget in page.multiselect if widget.label == "Models")
    assert models.options[:2] == ["gpt-4o (5 answers in the file)", "llama (5 answers in the file)"]
    models.set_value(models.options[:2]).run()
    page.text_input(key=name_key(page)).set_value("With a file").run()
    page.button(key="round-new-go").click().run()
    assert not page.exception
    config = last_round(seeded)
    assert (config["name"], config["prompts_file"]) == ("With a file", {"upload": "new <b>.jsonl"})
    assert [model["answers"] for model in config["models"]] == ["gpt-4o", "llama"]
    assert not list(seeded.home.uploads.glob("new*"))


BATTLES = [
    {"prompt": f"Why {n}?", "model_a": "gpt", "model_b": "llama", "winner": "ab"[n % 2]}
    | {"shift": f"s <i>{n % 3}</i>", "judge": f"J{n}"}
    for n in range(24)
]


def imported_file(page: AppTest, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    file = ("battles.jsonl", lines.encode(), "application/jsonl")
    page.file_uploader(key="round-new-file.0").set_value(file)
    page.run()
    assert not page.exception


def asked_import(engine: StillEngine) -> dict[str, Any]:
    """What the last import was asked."""
    return [body for name, body in engine.sent if name == "import_round"][-1]


def import_button(page: AppTest) -> Any:
    return page.button(key="round-new-import")


def test_votes_of_a_file_are_shown_asked_about_and_imported(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    imported_file(page, BATTLES)
    text = everything_said(page)
    assert "Detected as **Votes on two answers**" in text
    assert "24 votes, 2 models, 24 raters, 24 prompts." in text
    assert "This column would not be used" in text
    assert import_button(page).disabled
    next(box for box in page.checkbox if "shift" in box.label).check().run()
    import_button(page).click().run()
    asked = asked_import(seeded)
    assert (asked["name"], asked["ignore"]) == ("battles", ["shift"])


def test_a_column_is_mapped_on_the_screen(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    imported_file(page, [{key: row[key] for key in row if key != "judge"} for row in BATTLES])
    rater = next(box for box in page.selectbox if box.label == "Who rated")
    rater.select("shift").run()
    assert "24 votes, 2 models, 3 raters, 24 prompts." in everything_said(page)
    import_button(page).click().run()
    assert asked_import(seeded)["columns"] == {"rater": "shift"}


def test_a_value_that_is_not_clear_is_asked_about(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    rows = [{key: row[key] for key in row if key != "shift"} for row in BATTLES]
    imported_file(page, [row | {"winner": "hm"} if not n else row for n, row in enumerate(rows)])
    assert import_button(page).disabled
    meaning = next(box for box in page.selectbox if "“hm” (1 of the first rows) mean?" in box.label)
    meaning.select("leave_out").run()
    assert "23 votes, 2 models, 23 raters" in everything_said(page)
    import_button(page).click().run()
    assert asked_import(seeded)["values"] == {"hm": "leave_out"}


def test_a_file_of_no_ratings_says_so_and_can_be_mapped(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE)
    imported_file(page, [{"q": "Why?", "who": "gpt", "points": n} for n in range(1, 4)])
    assert "No ratings detected" in everything_said(page)
    next(box for box in page.selectbox if box.label == "Row type").select("scores").run()
    next(box for box in page.multiselect if box.label == "Score").set_value(["points"]).run()
    next(box for box in page.selectbox if box.label == "Model").select("who").run()
    assert "3 rated answers, 1 model" in everything_said(page)
    assert not import_button(page).disabled


def test_a_file_that_is_called_by_its_models_gives_the_round_no_name(
    seeded: StillEngine, open_page: Open
) -> None:
    page = open_page(seeded.home, PAGE)
    page.get_by_key("round-new-from").set_value("A file")
    page.run()
    page.file_uploader(key="round-new-prompts-file.0").set_value(
        ("gpt_4o-vs_llama.jsonl", prompt_lines(2).encode(), "application/jsonl")
    )
    page.run()
    assert page.text_input(key=name_key(page)).value.startswith("Prompts of a file, ")


def test_a_file_without_prompts_is_refused_before_a_round_is_started(
    seeded: StillEngine, open_page: Open
) -> None:
    page = open_page(seeded.home, PAGE)
    page.get_by_key("round-new-from").set_value("A file")
    page.run()
    page.file_uploader(key="round-new-prompts-file.0").set_value(
        ("bad.csv", b"a,b\n1,2\n3,4\n", "text/csv")
    ).run()
    assert "bad.csv has no column prompt or messages; it has a, b." in everything_said(page)
    assert not [button for button in page.button if button.key == "round-new-go"]


@pytest.mark.parametrize(
    ("name", "sentences"),
    [
        ("Of a slice", ["10 prompts where row id < 10", "Only rows where row id < 10."]),
        (
            "Of a file",
            [
                "gpt-4o against llama · 12 prompts from asked <b>.jsonl",
                "12 prompts of the file asked <b>.jsonl. Left out 1 row: it has no prompt.",
                "No metric or judge can be compared with raters here",
            ],
        ),
    ],
)
def test_a_round_says_which_prompts_it_is_of(
    seeded: StillEngine, open_page: Open, name: str, sentences: list[str]
) -> None:
    own = round_id(seeded, name)
    text = everything_said(open_page(seeded.home, PAGE, round=own))
    for sentence in sentences:
        assert sentence in text


def test_a_round_of_a_file_is_trained_on_from_a_model_that_is_chosen_and_opened_again(
    seeded: StillEngine, open_page: Open
) -> None:
    write_model(seeded.home.models / "tiny-llama")
    own = round_id(seeded, "Of a file")
    page = open_page(seeded.home, PAGE, round=own, tab="train")
    assert "The model tiny-llama" in page.selectbox(key="round-base").options
    assert "12 ratings" in everything_said(open_page(seeded.home, PAGE, round=own, tab="raters"))
    page = open_page(seeded.home, PAGE, round=own)
    page.button(key="round-open").click().run()
    assert "gpt-4o" not in everything_said(page)
    page.button(key="round-close").click().run()
    elsewhere = open_page(seeded.home, PAGE, round=round_id(seeded, "elsewhere"))
    assert not [button for button in elsewhere.button if button.key == "round-open"]


def test_a_round_that_is_gone_is_an_error_with_what_to_do(seeded: StillEngine, open_page: Open) -> None:
    text = everything_said(open_page(seeded.home, PAGE, round="round-gone"))
    assert "There is no rating round" in text


def test_the_report_is_one_file_that_escapes_names_and_loads_nothing(
    seeded: StillEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEBENCH_HOME", str(seeded.home.path))
    text = render_report(rounds.line(seeded.database, round_id(seeded, "Pairs")))
    assert "Tuned run is better than Base model" in text
    assert "Carl &lt;b&gt;" in text
    for hostile in ("<b>", "<script", "http:", "https:"):
        assert hostile not in text


def test_all_ratings_and_rows_of_texts_can_be_saved(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Topics"))
    assert [button.label for button in page.get("download_button")] == ["Download report"]
    page.session_state["round-table"] = True  # opened: nothing is read before
    saved_as = [button.label for button in page.run().get("download_button")]
    assert saved_as == ["Download report", "Download as CSV", "Download as Parquet"]
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Marks"), tab="train")
    assert "JSON lines for other tools" in everything_said(page)
    assert [button.label for button in page.get("download_button")] == ["Download 12 rows (JSON lines)"]


def test_what_people_wrote_is_searched(seeded: StillEngine, open_page: Open) -> None:
    page = open_page(seeded.home, PAGE, round=round_id(seeded, "Words"))
    assert "An <b>example</b> lacks." in [text.value for text in page.text]
    page.text_input(key="written-search").set_value("FORMULA").run()
    assert {text.value for text in page.text} == {"=1+1 is a formula"}
