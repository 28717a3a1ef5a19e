"""How the model sees a data set, on the screen: a right mask is confirmed, a wrong one said, cuts counted."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from store.core.home import Home
from store.data.datasets import get_dataset
from store.http.client import Client
from store.jobs.job_queue import get_job
from tests.pages.conftest import SECONDS, everything_said

KEY = "rendering-d00000"


def tab() -> None:
    import streamlit as st

    from pages.data.tokenization import show_rendering
    from pages.shared import cached_queries

    show_rendering(cached_queries.read_dataset(st.session_state["dataset"]))


@pytest.fixture
def at(little_home: Home, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("TUNEBENCH_HOME", str(little_home.path))
    st.cache_data.clear()
    st.cache_resource.clear()
    at = AppTest.from_function(tab, default_timeout=SECONDS)
    at.session_state["dataset"] = "d00000"
    at.session_state[f"{KEY}-model"] = "tiny-llama"
    at.run()
    assert not at.exception
    return at


def test_a_right_mask_is_confirmed_and_the_set_is_counted(at: AppTest) -> None:
    page_text = everything_said(at)
    assert "The loss covers answers and their end tokens only, checked on 200 rows." in page_text
    assert "cut off" not in page_text
    for figure in ("Tokens", "Trained on", "Rows without a trained token", "Rows cut", "Answers cut"):
        assert figure in page_text
    assert "class='trained" in page_text
    assert len(at.get("plotly_chart")) == 1


def test_a_template_that_never_closes_the_answer_is_said(at: AppTest) -> None:
    at.selectbox(key=f"{KEY}-template").set_value("Custom").run()
    assert "Write a template" in everything_said(at)
    never = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}"
    at.text_area(key=f"{KEY}-jinja").set_value(never).run()
    assert "the model would not learn to stop" in everything_said(at)
    at.text_area(key=f"{KEY}-jinja").set_value("{% for").run()
    assert "The chat template does not work" in everything_said(at)
    assert not at.exception


def test_a_length_cuts_rows_and_has_a_minimum(at: AppTest) -> None:
    at.number_input(key=f"{KEY}-length").set_value(16).run()
    assert "at 16 tokens" in everything_said(at)
    assert re.search(r"\d+ would cut none, for \d+% more tokens", everything_said(at))
    assert not at.success
    (warning,) = [warning.value for warning in at.warning if "cut off" in warning.value]
    assert "of the tokens to train on are cut off at 16 tokens and never learned" in warning
    assert at.number_input(key=f"{KEY}-length").min == 8


def test_another_row_is_shown(at: AppTest) -> None:
    before = [part for part in everything_said(at).splitlines() if "tb-tokens" in part]
    at.number_input(key=f"{KEY}-row").set_value(3).run()
    assert [part for part in everything_said(at).splitlines() if "tb-tokens" in part] != before


def test_plain_text_has_no_answers_to_choose_or_to_count(
    at: AppTest, little_home: Home, tmp_path: Path
) -> None:
    path = tmp_path / "walks.txt"
    path.write_text("\n\n".join(f"Paragraph {i} of a text on walks." for i in range(40)))
    client = Client(little_home)
    job_id = client.command("import_dataset", {"name": "Walks", "source": {"path": str(path)}})["job_id"]
    end = time.monotonic() + SECONDS
    while (job := get_job(client, job_id)).status != "finished":
        assert job.status not in ("failed", "lost"), job.error
        assert time.monotonic() < end, "the import did not end"
        time.sleep(0.2)
    dataset_id = get_dataset(client, "Walks").dataset_id
    at.session_state["dataset"] = dataset_id
    at.session_state[f"rendering-{dataset_id}-model"] = "tiny-llama"
    at.run()
    page_text = everything_said(at)
    assert "every token except the first" in page_text
    assert "Rows cut" in page_text
    assert "Answers cut" not in page_text
    assert not at.toggle
    assert not at.expander
