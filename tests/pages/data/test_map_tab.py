"""The map of a data set that real jobs imported and measured: drawn, marked, and turned into steps."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from pages.data.similarity.map_points import MapMarks
from store.core.home import Home
from store.data import datasets
from store.data.schemas import Dataset
from store.http.client import Client
from store.jobs import job_queue
from tests.pages.conftest import SECONDS, everything_said, running_engine
from tests.tiny import write_model
from tests.unit.measured import themed

HOSTILE = "<img src=x onerror=alert(1)> bake fresh bread and fry an onion"
NAMES = ["cooking", "space", "banking"]


def done(client: Client, command: str, body: dict[str, Any]) -> None:
    """The command's job, finished."""
    job_id = client.command(command, body)["job_id"]
    end = time.monotonic() + 120
    while (job := job_queue.get_job(client, job_id)).status not in ("finished", "failed", "lost"):
        assert time.monotonic() < end, job
        time.sleep(0.1)
    assert job.status == "finished", job.error


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """`Themes`, measured; `Bare`, as it was imported."""
    folder: Path = tmp_path_factory.mktemp("map")
    texts, theme = themed(120)
    given = theme.copy()
    given[:4] = (given[:4] + 1) % 3
    rows = [f"{text},{NAMES[g]}" for text, g in zip([*texts[:-1], HOSTILE], given, strict=True)]
    home = Home(folder / "home").create()
    write_model(home.models / "tiny")
    with running_engine(home):
        client = Client(home)
        for name, part in (("Themes", rows), ("Bare", rows[:30])):
            (folder / f"{name}.csv").write_text("text,label\n" + "\n".join(part))
            source = {"path": str(folder / f"{name}.csv")}
            columns = {"text": "text", "label": "label"}
            body = {"name": name, "source": source, "format": "text_label", "columns": columns}
            done(client, "import_dataset", body)
        for group in ("map", "labels", "difficulty"):
            done(client, "profile", {"dataset": "Themes", "group": group, "model": "tiny", "sample": 40})
        yield home


def tab() -> None:
    import streamlit as st

    from pages.data.similarity.map import show_map
    from pages.shared import cached_queries
    from pages.shared.session import show_errors

    with show_errors():
        show_map(cached_queries.read_dataset(st.session_state["dataset"]))


@pytest.fixture
def open_tab(home: Home, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[AppTest, Dataset]]:
    def open_it(name: str, **state: Any) -> tuple[AppTest, Dataset]:
        monkeypatch.setenv("TUNEBENCH_HOME", str(home.path))
        st.cache_data.clear()
        st.cache_resource.clear()
        dataset = datasets.get_dataset(Client(home), name)
        at = AppTest.from_function(tab, default_timeout=SECONDS)
        at.session_state["dataset"] = dataset.dataset_id
        for key, value in state.items():
            at.session_state[f"{key}-{dataset.dataset_id}"] = value
        at.run()
        assert not at.exception
        return at, dataset

    return open_it


def button(at: AppTest, label: str) -> Any:
    return next(b for b in at.button if b.label == label)


def test_before_it_is_measured_a_button_offers_it_and_queues_the_job(open_tab: Any, home: Home) -> None:
    at, dataset = open_tab("Bare")
    assert not at.get("plotly_chart")
    page_text = everything_said(at)
    assert "names the topics" in page_text
    assert "out of fold" in page_text
    assert {"Draw the map", "Look for wrong labels", "Measure difficulty"} <= {b.label for b in at.button}
    button(at, "Draw the map").click().run()
    assert not at.exception
    wanted = {"group": "map", "dataset": dataset.dataset_id}
    asked = [job.config for job in job_queue.recent_jobs(Client(home), limit=50) if job.kind == "profile"]
    assert any(wanted.items() <= config.items() for config in asked)


def test_the_map_is_drawn_with_how_diverse_the_set_is(open_tab: Any) -> None:
    at, _ = open_tab("Themes")
    spec = at.get("plotly_chart")[0].proto.spec
    assert "onerror" in spec
    assert "<img" not in json.dumps(json.loads(spec))
    page_text = everything_said(at)
    assert "120 rows. Near means alike" in page_text
    assert "A random half of the rows keeps" in page_text
    for title in ("Variety", "Vendi score", "Most frequent beginning", "Compressed size", "Self-BLEU"):
        assert title in page_text


def test_what_is_marked_is_counted_exactly_and_outlives_another_colour(open_tab: Any, home: Home) -> None:
    box = MapMarks(boxes=(((-20.0, -20.0), (0.0, 20.0)),))
    at, dataset = open_tab("Themes", **{"map-marks": box})
    places = pq.read_table(home.signals(dataset.fingerprint, "map"))["x"].to_numpy()
    expected = int((places < 0).sum())
    assert 0 < expected < 120
    assert f"**{expected} rows marked**" in everything_said(at)
    at.selectbox(key=f"map-colour-{dataset.dataset_id}").set_value("label").run()
    assert f"**{expected} rows marked**" in everything_said(at)
    lasso = MapMarks(lassos=(((-20.0, -20.0), (0.0, -20.0), (0.0, 20.0), (-20.0, 20.0)),))
    again, _ = open_tab("Themes", **{"map-marks": lasso})
    assert f"**{expected} rows marked**" in everything_said(again)
    button(at, "Unmark").click().run()
    assert "rows marked" not in everything_said(at)


def test_marked_rows_become_a_step_of_the_recipe_or_the_filter_of_the_table(open_tab: Any) -> None:
    box = MapMarks(boxes=(((-20.0, -20.0), (0.0, 20.0)),))
    at, dataset = open_tab("Themes", **{"map-marks": box})
    next(b for b in at.button if b.label.startswith("Drop these")).click().run()
    (step,) = at.session_state[f"recipe-{dataset.dataset_id}"]
    assert (step["step"], step["action"]) == ("filter", "drop")
    assert [c["column"] for c in step["where"]["conditions"]] == ["x", "y"]
    button(at, "Filter the table to these").click().run()
    assert not at.exception
    assert [c["column"] for c in json.loads(at.query_params["filter"])["conditions"]] == ["x", "y"]


def test_suspected_labels_are_listed_and_can_be_mended(open_tab: Any) -> None:
    at, dataset = open_tab("Themes")
    suspects = next(d.value for d in at.dataframe if "label_suggested" in d.value)
    assert f"**{len(suspects)} suspected label errors** in 120 rows" in everything_said(at)
    assert set(suspects["row_id"][:5]) == {0, 1, 2, 3, 119}  # the last is about bread, labelled otherwise
    button(at, "Take the suggested labels").click().run()
    (step,) = at.session_state[f"recipe-{dataset.dataset_id}"]
    assert step == {"step": "label_errors", "action": "suggested"}
    assert any(b.label == "In the recipe" and b.disabled for b in at.button)


def test_difficulty_shows_its_spread_and_both_ends(open_tab: Any) -> None:
    at, _ = open_tab("Themes")
    assert "Measured with tiny on 40 rows of 120" in everything_said(at)
    ends = [d.value for d in at.dataframe if "ifd" in d.value]
    assert [len(end) for end in ends] == [5, 5]
    assert ends[0]["ifd"].is_monotonic_decreasing
    assert ends[1]["ifd"].is_monotonic_increasing
    assert ends[0]["ifd"].min() > ends[1]["ifd"].max()


def test_a_clicked_point_shows_the_rows_that_mean_the_same(open_tab: Any) -> None:
    at, _ = open_tab("Themes", **{"map-point": 7, "map-mouse": "pick"})
    nearest = next(d.value for d in at.dataframe if "similarity" in d.value)
    assert 7 not in set(nearest["row_id"])
    assert len(nearest) == 12
    assert list(nearest["similarity"]) == sorted(nearest["similarity"], reverse=True)
    button(at, "Show them in the table").click().run()
    assert json.loads(at.query_params["filter"])["row_ids"] == [7, *nearest["row_id"]]


def test_a_word_is_searched_for_on_all_rows(open_tab: Any, home: Home) -> None:
    at, dataset = open_tab("Themes")
    texts = pq.read_table(home.rows(dataset.fingerprint))["text"].to_pylist()
    expected = sum("bread" in text.lower() for text in texts)
    at.text_input(key=f"map-search-{dataset.dataset_id}").set_value("Bread").run()
    assert f'**{expected} rows with "Bread"**' in everything_said(at)
