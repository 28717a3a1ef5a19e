"""The tab "Versions": the tree, the Sankey's counts, the table of fates, and two versions side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.data import datasets
from pages.data.version_history import compute_flows, extract_excerpt, plot_sankey, show_versions
from pages.shared.text_display import mark_differences, render_pair
from store.core.row_schemas import Fates, StepCounts
from tests.pages.conftest import Open as OpenPage
from tests.pages.conftest import everything_said
from tests.pages.seeds.seed_quality import FATES, NEW_ID, seed_quality
from tests.pages.still_engine import StillEngine, still_engine

Open = Callable[[str], AppTest]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    with still_engine(seed_quality(tmp_path_factory.mktemp("versions"))) as engine:
        yield engine


@pytest.fixture
def open_tab(engine: StillEngine, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> Open:
    """The page of a data set with this tab alone on it, so that links find the other pages."""
    monkeypatch.setattr(datasets, "show_dataset", show_versions)
    return lambda dataset_id: open_page(engine.home, "pages/data/data.py", dataset=dataset_id)


def html_of(at: AppTest) -> str:
    return "\n".join(element.proto.body for element in at.get("html"))


def test_the_tree_names_versions_rows_recipe_and_runs(open_tab: Open) -> None:
    page_text = everything_said(open_tab(NEW_ID))
    assert "**Sums 0 v2** :blue-badge[this version]" in page_text
    assert "181 rows" in page_text
    assert "20 dropped · 3 changed · 1 added" in page_text
    assert "Drop exact duplicates, keep the first; Redact e-mail addresses" in page_text


def test_an_only_version_says_what_makes_the_next(open_tab: Open) -> None:
    at = open_tab("d00001")
    assert "This is the only version" in everything_said(at)
    assert not at.get("plotly_chart")


def test_every_row_is_in_exactly_one_flow_of_the_diagram() -> None:
    made = compute_flows(FATES)
    into = [0] * len(made.labels)
    out = [0] * len(made.labels)
    for source, target, rows, _ in made.links:
        out[source] += rows
        into[target] += rows
    for node, label in enumerate(made.labels):
        if into[node] and out[node]:
            assert into[node] == out[node], label
    assert out[made.labels.index("200")] == 200
    ends = [label for label, rows in zip(made.labels, out, strict=True) if not rows]
    assert ends == ["20 dropped", "177 kept", "3 changed", "1 added"]  # the last three are the new version
    assert into[made.labels.index("20 dropped")] == 20
    assert {"177 kept", "3 changed"} <= set(made.labels)
    assert made.labels.count("1 added") == 2  # where it comes in, and what it is at the end


def test_a_recipe_that_left_no_row_has_a_diagram_too() -> None:
    step = StepCounts(title="<i>x</i>", rows_in=5, dropped=5, changed=0, added=0, rows_out=0)
    figure = plot_sankey(Fates(kept=0, changed=0, dropped=5, added=0, steps=[step]))
    assert list(figure.data[0].link.value) == [5, 5]
    assert "<i>" not in "".join(figure.data[0].node.customdata)


def test_the_diagram_and_the_steps_are_drawn(open_tab: Open) -> None:
    at = open_tab(NEW_ID)
    spec = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert spec["data"][0]["type"] == "sankey"
    page_text = everything_said(at)
    assert "1. Drop exact duplicates, keep the first: **20 dropped**, 180 left" in page_text
    assert "**3 changed**, 180 left" in page_text
    assert "**1 added**, 181 left" in page_text


def test_the_fates_are_filtered_and_searched(open_tab: Open) -> None:
    at = open_tab(NEW_ID)
    assert "1 to 20 of 201 rows" in everything_said(at)
    _choose(at, f"fates-fate-{NEW_ID}", "dropped")
    table = at.dataframe[0].value
    assert len(table) == 20
    assert set(table["fate"]) == {"Dropped"}
    assert "the same text as row 0" in list(table["reason"])
    at.text_input(key=f"fates-search-{NEW_ID}").set_value("SAME TEXT AS ROW 1").run()
    assert "of 11 rows" in everything_said(at)  # row 1 and rows 10 to 19
    at.text_input(key=f"fates-search-{NEW_ID}").set_value("nowhere ' %").run()
    assert "No rows match" in everything_said(at)
    at = open_tab(NEW_ID)
    at.selectbox(key=f"fates-step-{NEW_ID}").set_value(1).run()
    assert set(at.dataframe[0].value["fate"]) == {"Changed"}


def test_two_versions_are_compared_a_line_a_row_and_one_is_opened_with_its_words_marked(
    open_tab: Open,
) -> None:
    at = open_tab(NEW_ID)
    page_html = html_of(at)
    assert "177" in page_html
    assert "88% of 200 rows" in page_html
    assert "<ins>" not in page_html
    assert "Only in the second" in page_html
    assert "1 to 20 of 24 rows. Select a row to read it." in everything_said(at)
    table = next(table for table in at.dataframe if "-table-" in str(table.key))
    changed = list(table.value["fate"]).index("Changed")
    assert table.value["text"][changed].startswith("…")  # from shortly before the first change
    at.session_state[table.key] = {"selection": {"rows": [changed], "columns": [], "cells": []}}
    at.run()
    assert not at.exception
    assert "<ins>[" in html_of(at)
    at.selectbox(key=f"versions-{NEW_ID}-second").set_value("d00000").run()
    assert "Choose two different versions" in everything_said(at)


def test_words_are_marked_where_texts_differ_and_everything_is_escaped() -> None:
    before, after = mark_differences("Call <b>Ann</b> now", "Call <b>Bob</b> now")
    assert before == "Call &lt;b&gt;<del>Ann</del>&lt;/b&gt; now"
    assert after == "Call &lt;b&gt;<ins>Bob</ins>&lt;/b&gt; now"
    assert mark_differences("same", "same") == ("same", "same")


def test_what_is_folded_or_left_off_is_counted() -> None:
    same = " ".join(f"w{i}" for i in range(300))
    before, _ = mark_differences(f"{same} x", f"{same} y")
    assert "words …" in before
    assert before.endswith("<del>x</del>")
    before, _ = mark_differences("a " * 1000, "a " * 1000)
    assert "500 more words and gaps are not compared" in before


def test_a_line_shows_where_a_text_changed() -> None:
    same = "The same beginning of both texts, which is long. "
    assert extract_excerpt(f"{same}Call Ann.", f"{same}Call Bob.") == "… texts, which is long. Call Bob."
    assert extract_excerpt("Call Ann.", "Call Bob.") == "Call Bob."
    assert extract_excerpt("Call Ann. Now.", "Call Ann.") == "Call Ann."
    assert extract_excerpt("gone", None) == "gone"
    assert extract_excerpt(None, "new") == "new"


def test_a_row_that_is_only_in_one_version_is_shown_alone() -> None:
    row: dict[str, Any] = {"messages": [{"role": "user", "content": "<script>"}], "label": None}
    pair_html = render_pair(row, None)
    assert pair_html.count("tb-side'") == 1
    assert "&lt;script&gt;" in pair_html
    assert "<script>" not in pair_html


def _choose(at: AppTest, key: str, value: str) -> None:
    at.segmented_control(key=key).set_value(value).run()
