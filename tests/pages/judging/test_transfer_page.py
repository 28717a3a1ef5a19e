"""The matrix of transfer: empty, one run, three, twenty on ten, a sequence, and while it is measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

from store.core.home import Home
from store.db.database import Database
from store.jobs import job_queue
from store.transfer.config import KIND
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed_transfer import ROWS, seed_transfer
from tests.pages.still_engine import still_engine

PAGE = "pages/comparison/compare.py"


def drawn(at: object) -> str:
    """The HTML of the matrix."""
    return next(e.proto.body for e in at.get("html") if "Transfer of" in e.proto.body)  # type: ignore[attr-defined]


def table_cells(page: str) -> list[str]:
    return re.findall(r"<td.*?</td>", page, re.DOTALL)


def test_what_matters_is_said_first(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home")) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        page_text, page = everything_said(at), drawn(at)
    lead = next(m.value for m in at.markdown if m.value.startswith("#####")).replace("\\", "")
    assert re.search(
        r"Training on Set <0> improves Set <1> by 1[0-4].* \(.* to .*\) and degrades Set <2> by .*%", lead
    )
    assert "3 of 5 cells on other data sets not significant." in lead
    cells = table_cells(page)
    assert len(cells) == 3 + 9
    assert sum("class='own'" in cell for cell in cells) == 3
    assert sum("class='noise'" in cell for cell in cells) == 3
    assert sum("***" in cell for cell in cells) == 5
    assert sum("weights of its model are missing" in cell for cell in cells) == 1
    assert f"n {ROWS} rows" in page
    assert "Set &lt;0&gt;" in page
    assert "<0>" not in page.replace("&lt;0&gt;", "")
    assert "Holm-corrected over 8 cells" in page_text
    assert "too few pairs" in page_text
    assert len(at.get("plotly_chart")) == 2
    listed, away = at.dataframe[0].value, at.dataframe[1].value
    assert (len(listed), len(away)) == (8, 3 + 2)
    assert list(listed["Significant"]).count("yes") == 5
    assert set(listed["n (rows)"]) == {ROWS}
    assert at.button(key="transfer-again").label == "Retry 1 cell"


def test_answers_right_are_another_figure(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home")) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        at.segmented_control(key="figure").set_value("right").run()
        page = drawn(at)
    assert " pt" in page
    assert "exact match" in page
    assert "change in exact match" in everything_said(at)


def test_twenty_runs_on_ten_data_sets(tmp_path: Path, open_page: Open) -> None:
    home = seed_transfer(tmp_path / "home", count=20, sets=10)
    names = json.dumps([f"run-{i}" for i in range(20)])
    with still_engine(home) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        at.multiselect(key="matrix-runs").set_value(json.loads(names)).run()
        at.multiselect(key="sets").set_value([f"d{i}" for i in range(10)]).run()
        assert not at.exception
        page = drawn(at)
    assert len(table_cells(page)) == 10 + 20 * 10
    assert "Holm-corrected over 199 cells" in everything_said(at)
    assert "ρ" in everything_said(at)


def test_one_run_and_one_data_set(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home", count=1, sets=1)) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        assert "No other data sets to compare" in everything_said(at)
        assert not at.get("plotly_chart")


def test_the_newest_matrix_is_what_it_opens_with(tmp_path: Path, open_page: Open) -> None:
    home = seed_transfer(tmp_path / "newest", count=3, sets=3)
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        config = {"runs": ["run-1"], "datasets": ["d2", "d0"], "part": "validation", "max_rows": 40}
        tx.execute(
            "UPDATE job SET config = json_merge_patch(config, ?) WHERE kind = ?", [json.dumps(config), KIND]
        )
    database.close()
    with still_engine(home) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
    assert at.get_by_key("matrix-runs").value == ["run-1"]
    assert at.get_by_key("sets").value == ["d2", "d0"]
    assert (at.get_by_key("part").value, at.get_by_key("rows").value) == ("validation", 40)


def test_the_link_keeps_the_choices(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home")) as engine:
        at = open_page(engine.home, PAGE, tab="transfer", rows="40", part="Validation")
        assert (at.get_by_key("part").value, at.get_by_key("rows").value) == ("validation", 40)


def test_what_is_missing_is_asked_for(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home", measured=False)) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        assert "not evaluated yet" in drawn(at)
        button = at.button(key="transfer-go")
        assert button.label == "Evaluate 9 cells"
        button.click().run()
        assert not at.exception
        ((name, body),) = engine.sent
    assert name == "transfer"
    assert sorted(body["runs"]) == ["run-0", "run-1", "run-2"]
    assert sorted(body["datasets"]) == ["d0", "d1", "d2"]
    assert (body["part"], body["max_rows"]) == ("test", 100)


def test_other_rows_are_other_cells(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home")) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        at.number_input(key="rows").set_value(50).run()
        assert at.button(key="transfer-go").label == "Evaluate 9 cells"
        assert "12 cells took 5 s each" in everything_said(at)
        at.number_input(key="rows").set_value(100).run()
        with engine.database.transaction() as tx:
            tx.execute("UPDATE dataset SET split_seed = 9 WHERE dataset_id = 'd1'")
        at = open_page(engine.home, PAGE, tab="transfer")
        assert at.button(key="transfer-go").label == "Evaluate 3 cells"


def test_a_sequence_tells_its_backward_transfer(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_transfer(tmp_path / "home", chain=True)) as engine:
        at = open_page(engine.home, PAGE, tab="transfer")
        at.multiselect(key="matrix-runs").set_value(["run-0", "run-1", "run-2"]).run()
        page_text, page = everything_said(at), drawn(at)
    assert "Later training reduced the earlier gains by" in page_text
    assert "points of relative gain (" in page_text
    assert "n 80 rows" in page_text
    assert "why" in page


def test_a_matrix_that_works_and_one_that_was_stopped(tmp_path: Path, open_page: Open) -> None:
    home = seed_transfer(tmp_path / "home", measured=False)
    with still_engine(home) as engine:
        with engine.database.transaction() as tx:
            config = {"runs": [], "datasets": []}
            job_queue.insert(
                tx,
                job_queue.NewJob(job_id="j", kind=KIND, title="Transfer: 3 runs", config=config, at=1.0),
            )
        at = open_page(engine.home, PAGE, tab="transfer")
        assert "Transfer: 3 runs" in everything_said(at)
        assert "Waiting in the queue" in everything_said(at)
        assert not [b for b in at.button if b.key == "transfer-go"]
        with engine.database.transaction() as tx:
            job_queue.update(
                tx, "j", status="failed", error={"message": "The device ran out.", "fix": "Take less."}
            )
        at = open_page(engine.home, PAGE, tab="transfer")
        page_text = everything_said(at)
        assert "The device ran out. Take less. Completed cells are saved" in page_text


def test_runs_of_another_base_model_stand_apart(tmp_path: Path, open_page: Open) -> None:
    home = seed_transfer(tmp_path / "home")
    with still_engine(home) as engine:
        with engine.database.transaction() as tx:
            tx.execute("UPDATE run SET model = 'other/base' WHERE run_id = 'run-2'")
        at = open_page(engine.home, PAGE, tab="transfer", model="m")
        assert at.selectbox(key="model").options == ["base", "m"]
        assert "1 run with other base models" in everything_said(at)


def test_an_empty_store_and_no_engine(tmp_path: Path, offline_home: Home, open_page: Open) -> None:
    with still_engine(Home(tmp_path / "empty").create()) as empty:
        at = open_page(empty.home, PAGE, tab="transfer")
        assert "No finished runs yet." in everything_said(at)
        at.button(key="transfer-launch").click().run()
        assert not at.exception
    at = open_page(offline_home, PAGE, tab="transfer")
    assert "This part needs the engine" in everything_said(at)
