"""The page of all evaluations: its empty state, a model's own, classes and slices, and a thousand of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from engine.evaluation.comparison import row_scores
from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import aggregate_scores
from pages.evaluation import evaluation_list
from store.core.documents import as_json
from store.core.home import Home
from store.core.job_folder import JobDir
from store.data import datasets, saved_recipes
from store.db.database import Database, Transaction
from store.evaluation import evaluations
from store.evaluation.config import EvaluateConfig
from store.http.client import Client
from store.jobs import job_queue
from store.training.train_config import BUNDLED_MODEL
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.seeds.seed_evaluations import RESULT, seed_evaluations
from tests.pages.still_engine import StillEngine, still_engine

PAGE = "pages/evaluation/evaluations.py"
ROWS = 120
LABELS = ("card", "cash", "loan")
MANY = 1_000


def classified(tx: Transaction, home: Home, job_id: str, name: str, right: float) -> None:
    """An evaluation of a model that no run made, whose answers are labels; it never gets "loan" right."""
    asked = {"model": "m", "dataset": "d00000", "metrics": ["accuracy", "f1_macro"], "name": name}
    config = EvaluateConfig.parse(asked)
    job_queue.insert(
        tx,
        job_queue.NewJob(job_id=job_id, kind="evaluate", title=name, config=config.document(), at=1.0),
    )
    rng = np.random.default_rng(0)
    truth = [LABELS[row % 3] for row in range(ROWS)]
    predictions = [t if t != "loan" and rng.random() < right else "cash" for t in truth]
    table = pa.table(
        {
            "row_id": pa.array(range(ROWS), pa.int64()),
            "prompt": ["Which? " + "x" * (row % 40) for row in range(ROWS)],
            "prediction": predictions,
            "reference": truth,
            "label": truth,
            "loss_sum": pa.array([1.0] * ROWS),
            "tokens": pa.array([1] * ROWS, pa.int64()),
            "bytes": pa.array([4] * ROWS, pa.int64()),
            "probability": pa.nulls(ROWS, pa.float64()),
            "group": pa.nulls(ROWS, pa.int64()),
        }
    )
    all_scored = measure(config, Answers.of_table(table), home, log=lambda text: None)
    folder = JobDir(home.jobs / job_id)
    folder.path.mkdir(parents=True)
    pq.write_table(table, folder.predictions)
    pq.write_table(row_scores.build_scores_table(all_scored), folder.scores)
    figures = [aggregate_scores(scored) for scored in all_scored]
    result = replace(RESULT, n=ROWS, figures=figures, notices=[])
    job = job_queue.get_job(tx, job_id)
    job_queue.claim(tx, job_id, "cpu", 2.0)
    job_queue.finish(tx, job_id, "finished", 3.0, result=as_json(result))
    evaluations.insert(tx, job, result, datasets.get_dataset(tx, "d00000"), "m", 3.0 + right)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    home = seed(tmp_path_factory.mktemp("many"), runs=0, sets=1)
    database = Database(home.database, [home.datasets, home.jobs])
    try:
        with database.transaction() as tx:
            classified(tx, home, "e-weak", "Weak", 0.2)
            classified(tx, home, "e-strong", "Strong", 0.9)
            tx.execute(
                "INSERT INTO evaluation BY NAME SELECT * EXCLUDE (i) REPLACE ('old-' || i AS evaluation_id,"
                " 'Old ' || i AS name, created_at - to_days(1 + i::INTEGER) AS created_at)"
                f" FROM evaluation, range({MANY}) r(i) WHERE evaluation_id = 'e-weak'"
            )
    finally:
        database.close()
    with still_engine(home) as engine:
        yield engine


def test_without_any_it_says_what_to_do_and_starts_one_of_a_model(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed(tmp_path / "none", runs=0, sets=1)) as engine:
        at = open_page(engine.home, PAGE)
        assert "No evaluations yet" in everything_said(at)
        at.get_by_key("evaluate.metrics").set_value(["chrf"])
        at.get_by_key("evaluate.go").click()
        at.run()
        ((name, body),) = engine.sent
        config = EvaluateConfig.parse(body)
        assert (name, config.model, config.run, config.dataset) == ("evaluate", BUNDLED_MODEL, "", "d00000")
        at.get_by_key("evaluate.kind").set_value("A run")
        at.run()
        assert "No run has ended yet. Launch one, or evaluate a model instead." in everything_said(at)


def test_some_rows_are_chosen_by_a_slice_and_said(tmp_path: Path, open_page: Open) -> None:
    home = seed(tmp_path / "sliced", runs=0, sets=1)
    with still_engine(home, real=("save_slice",)) as engine:
        at = open_page(engine.home, PAGE)
        text = everything_said(at)
        assert "filter the rows of the data set and save the filter as a slice" in text
        where = {"search": "card <b>"}
        Client(engine.home).command("save_slice", {"dataset": "d00000", "name": "Cards", "where": where})
        at = open_page(engine.home, PAGE)
        own = saved_recipes.slices(engine.database, "d00000", "")[0].slice_id
        at.get_by_key("evaluate.slice.d00000").set_value(own).run()
        assert 'Only rows where the text contains "card <b>".' in everything_said(at)
        at.get_by_key("evaluate.metrics").set_value(["chrf"])
        at.get_by_key("evaluate.go").click()
        at.run()
        config = EvaluateConfig.parse(engine.sent[-1][1])
    assert config.where is not None
    assert config.where.search == "card <b>"


def test_each_run_is_first_asked_for_rows_of_its_own_data(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed(tmp_path / "some", runs=6, sets=3)) as engine:
        rows = engine.database.query("SELECT run_id, dataset_id FROM run").to_pylist()
        own = {row["run_id"]: row["dataset_id"] for row in rows}
        at = open_page(engine.home, PAGE)
        at.get_by_key("evaluate.kind").set_value("A run")
        at.run()
        first = at.get_by_key("evaluate.run").value
        other = next(run for run in own if own[run] != own[first])
        for run in (first, other, first):
            at.get_by_key("evaluate.run").set_value(run)
            at.run()
            at.get_by_key("evaluate.go").click()
            at.run()
            config = EvaluateConfig.parse(engine.sent[-1][1])
            assert (config.run, config.dataset) == (run, own[run])


def test_metrics_follow_the_data_until_they_are_chosen(tmp_path: Path, open_page: Open) -> None:
    home = seed(tmp_path / "sorts", runs=0, sets=2)
    database = Database(home.database, [home.datasets])
    with database.transaction() as tx:  # one of them has labels
        tx.execute(
            "UPDATE dataset SET stats = json_merge_patch(stats, ?) WHERE dataset_id = 'd00001'",
            ['{"label_count": 3}'],
        )
    database.close()
    with still_engine(home) as engine:
        at = open_page(engine.home, PAGE)
        for chosen, labelled in (("d00001", True), ("d00000", False), ("d00001", True)):
            at.get_by_key("evaluate.dataset.").set_value(chosen)
            at.run()
            assert ("accuracy" in at.get_by_key("evaluate.metrics").value) == labelled
        at.get_by_key("evaluate.metrics").set_value(["chrf"])
        at.run()
        at.get_by_key("evaluate.dataset.").set_value("d00000")
        at.run()
        assert at.get_by_key("evaluate.metrics").value == ["chrf"]


def test_without_a_data_set_it_leads_to_the_import(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed(tmp_path / "bare", runs=0, sets=0)) as engine:
        at = open_page(engine.home, PAGE)
        assert not at.exception
        assert at.get("page_link")[0].proto.label == "Import a data set first"


def test_a_thousand_stay_usable(many: StillEngine, open_page: Open) -> None:
    at = open_page(many.home, PAGE)
    began = time.monotonic()
    at.run()
    assert time.monotonic() - began < 20  # seconds, on a machine that is busy
    assert f"20 of {MANY + 2:,} evaluations" in everything_said(at)
    assert list(at.dataframe[0].value["Evaluation"])[:2] == ["Strong", "Weak"]
    at.get_by_key("evaluations-search").set_value("old 99")
    at.run()
    assert f"{evaluation_list.PAGE} of" not in everything_said(at)
    assert set(at.dataframe[0].value["Evaluation"]) == {"Old 99", *(f"Old {i}" for i in range(990, 1000))}
    at.get_by_key("evaluations-search").set_value("nothing like it")
    at.run()
    assert "No evaluation matches. Clear the search or choose another filter." in everything_said(at)


def test_every_line_has_a_figure_whatever_the_newest_measured(tmp_path: Path, open_page: Open) -> None:
    home = seed_evaluations(tmp_path / "both")
    database = Database(home.database, [home.datasets, home.jobs])
    with database.transaction() as tx:
        classified(tx, home, "e-class", "Newest", 0.9)
    database.close()
    with still_engine(home) as engine:
        table = open_page(engine.home, PAGE).dataframe[0].value
    assert list(table.columns[:2]) == ["Evaluation", "First figure"]
    assert all("%" in figure for figure in table["First figure"])
    assert list(table.columns[7:10])[:2] == ["Exact match ↑", "chrF ↑"]  # of two, accuracy of one


def test_one_is_shown_by_its_link_with_classes_and_averages(many: StillEngine, open_page: Open) -> None:
    at = open_page(many.home, PAGE, evaluation="e-strong")
    tables = [frame.value for frame in at.dataframe]
    averages = next(table for table in tables if "Average" in table.columns)
    assert list(averages["Average"]) == ["Macro", "Weighted", "Micro"]
    accuracy = next(m for m in at.metric if m.label.startswith("Accuracy")).value
    micro = averages.loc[averages["Average"] == "Micro", "Recall ↑"].item()
    assert float(accuracy.removesuffix("%")) == pytest.approx(100 * float(micro.split(" (")[0]), abs=1)
    assert all(" to " in cell for cell in averages["Precision ↑"])
    classes = next(table for table in tables if "Class" in table.columns)
    assert classes["Class"].tolist()[0] == "loan"  # the worst told
    assert classes["n"].tolist() == [40, 40, 40]
    assert len(at.get("plotly_chart")) == 1
    at = open_page(many.home, PAGE, evaluation="gone")
    assert "There is no evaluation 'gone'" in everything_said(at)


def test_slices_stand_out_after_a_correction_alone_and_in_pairs(many: StillEngine, open_page: Open) -> None:
    at = open_page(many.home, PAGE, evaluation="e-strong")
    tables = [frame.value for frame in at.dataframe if "Slice" in frame.value.columns]
    alone = next(table for table in tables if "Other rows" in table.columns).set_index("Slice")
    assert alone.loc["Label: loan", "Result"] == "worse"
    assert alone.loc["Label: card", "Result"] == "better"
    assert any(name.startswith("Prompt: ") for name in alone.index)
    assert "Benjamini and Hochberg" in everything_said(at)
    paired = next(table for table in tables if "Difference" in table.columns).set_index("Slice")
    assert paired.loc["Label: card", "Result"] == "better"  # than the weak one, which comes first
    assert paired.loc["Label: loan", "Result"] == "inconclusive"
    assert "LLM judge" in [box.label for box in at.expander]


def test_a_judge_is_asked_from_the_page(many: StillEngine, open_page: Open) -> None:
    many.sent.clear()
    at = open_page(many.home, PAGE, evaluation="e-strong")
    fields = {field.label: field for field in at.text_input}
    fields["base_url"].set_value("http://elsewhere/v1")
    fields["model"].set_value("m")
    press = next(button for button in at.button if button.label == "Ask the judge")
    press.click()
    at.run()
    assert many.sent == []
    assert "use https" in everything_said(at)
    next(field for field in at.text_input if field.label == "base_url").set_value("https://host/v1")
    next(button for button in at.button if button.label == "Ask the judge").click()
    at.run()
    ((name, body),) = many.sent
    assert (name, body["first"], body["second"]) == ("judge", "e-strong", "e-weak")
    assert body["judge"]["base_url"] == "https://host/v1"


def test_other_rows_are_said_and_one_click_asks_for_the_same(tmp_path: Path, open_page: Open) -> None:
    with still_engine(seed_evaluations(tmp_path / "apart")) as engine:
        at = open_page(engine.home, PAGE, evaluation="e-tuned")
        assert "evaluation-same-e-tuned-e-base" not in [button.key for button in at.button]  # the same rows
        _keep_rows_of_the_base(engine, 25)
        at = open_page(engine.home, PAGE, evaluation="e-tuned")
        assert "Compared on 25 rows in common; 15 that only one has are excluded." in everything_said(at)
        differences = at.dataframe[1].value
        assert set(differences["n"]) <= {24, 25}  # one row has no reference
        assert all(len(seen.strip("0.")) <= 2 for seen in differences["Detectable from"])  # digits
        (command,) = [code.value for code in at.code if "--rows-of" in code.value]
        assert command.startswith("tunebench evaluate --run judged --checkpoint base --rows-of e-tuned ")
        again = at.button(key="evaluation-same-e-tuned-e-base")
        assert again.label == "Evaluate Base on the same rows"
        again.click().run()
        assert not at.exception
        ((name, body),) = engine.sent
        config = EvaluateConfig.parse(body)
        assert (name, config.run, config.checkpoint, config.rows_of) == (
            "evaluate",
            "judged",
            "base",
            "e-tuned",
        )
        assert config.max_rows is None


def _keep_rows_of_the_base(engine: StillEngine, count: int) -> None:
    """As if the base had been asked for fewer of the rows."""
    folder = JobDir(engine.home.jobs / "e-base")
    for path in (folder.predictions, folder.scores):
        table = pq.read_table(path)
        pq.write_table(table.filter(pc.less(table["row_id"], count)), path)
    with engine.database.transaction() as tx:
        tx.execute("UPDATE evaluation SET n = ? WHERE evaluation_id = 'e-base'", [count])


def test_each_constraint_has_a_line_with_the_share_of_rows_that_keep_it() -> None:
    def cards() -> None:
        from pages.evaluation.results import draw_figures
        from store.core.figure_schemas import Figure, UnscoredRows
        from store.evaluation.schemas import Evaluation, EvaluationCounts, EvaluationDetails
        from tests.unit.store_samples import row_of

        kept = {"constraint": "at least 3 words", "value": 0.75, "low": 0.6, "high": 0.86, "n": 40}
        figure = row_of(
            Figure, metric="eval/constraints", value=0.75, low=0.6, high=0.86, n=40, bounds=[0.0, 1.0],
            better="higher", details={"constraints": [kept]},
            unscored=UnscoredRows(count=0, reasons={}, examples=[]),
        )  # fmt: skip
        details = row_of(
            EvaluationDetails, counts=row_of(EvaluationCounts), probes=[], notices=[], seconds={"answers": 2},
            device="cpu", dtype="float32",
        )  # fmt: skip
        config = {"metrics": [{"metric": "constraints"}], "confidence": 0.95}
        evaluation = row_of(
            Evaluation, dataset_name="D", part="test", n=40, config=config, figures=[figure], details=details
        )
        draw_figures(evaluation)

    at = AppTest.from_function(cards).run()
    assert not at.exception
    assert at.dataframe[0].value.to_dict("records") == [
        {"Constraint": "at least 3 words", "Rows that meet it": "75.0% (60 to 86)", "n": 40}
    ]
