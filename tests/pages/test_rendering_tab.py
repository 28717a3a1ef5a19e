"""How the model sees a data set, on the screen: a right mask is confirmed, a wrong one said, cuts counted."""

from __future__ import annotations

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from store.home import Home
from tests.pages.conftest import SECONDS, everything_said

KEY = "rendering-d00000"


def tab() -> None:
    import streamlit as st

    from pages.components import reads
    from pages.components.rendering_view import show_rendering

    show_rendering(reads.dataset(st.session_state["dataset"]))


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
    said = everything_said(at)
    assert "The loss falls on answers and their closing tokens alone, checked on 200 rows." in said
    for figure in ("Tokens", "Trained on", "Rows without a trained token", "Rows cut", "Answers cut"):
        assert figure in said
    assert "class='trained" in said
    assert len(at.get("plotly_chart")) == 1


def test_a_template_that_never_closes_the_answer_is_said(at: AppTest) -> None:
    at.selectbox(key=f"{KEY}-template").set_value("Written here").run()
    assert "Write a template" in everything_said(at)
    never = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ' ' }}{% endfor %}"
    at.text_area(key=f"{KEY}-jinja").set_value(never).run()
    assert "the model would not learn to stop" in everything_said(at)
    at.text_area(key=f"{KEY}-jinja").set_value("{% for").run()
    assert "The chat template does not work" in everything_said(at)
    assert not at.exception


def test_a_length_cuts_rows_and_nonsense_is_named(at: AppTest) -> None:
    at.text_input(key=f"{KEY}-length").set_value("16").run()
    assert "at 16 tokens" in everything_said(at)
    at.text_input(key=f"{KEY}-length").set_value("abc").run()
    assert "max_length is abc" in everything_said(at)


def test_another_row_is_shown(at: AppTest) -> None:
    before = [part for part in everything_said(at).splitlines() if "tb-tokens" in part]
    at.number_input(key=f"{KEY}-row").set_value(3).run()
    assert [part for part in everything_said(at).splitlines() if "tb-tokens" in part] != before
