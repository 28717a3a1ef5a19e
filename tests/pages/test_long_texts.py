"""A long text begins cut, and the way to the rest counts what is hidden."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

PAGE = """
from pages.shared.text_display import show_text
show_text("a" * 100 + "b" * 1_234, 100)
show_text("short", 100)
show_text("", 100, nothing="(nothing)")
"""


def test_the_rest_is_behind_a_button_that_counts_it() -> None:
    at = AppTest.from_string(PAGE).run()
    assert [box.label for box in at.expander] == ["Show all: 1,234 more characters"]
    assert [text.value for text in at.expander[0].text] == ["… " + "b" * 1_234]
    own = [text.value for text in at.main.text]
    assert own[0] == "a" * 100 + " …"
    assert own[-2:] == ["short", "(nothing)"]
