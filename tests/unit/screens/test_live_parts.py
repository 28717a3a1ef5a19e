"""Live parts of a page: what they ask for takes no click with it."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared import session


def page() -> None:
    """A live part above a button; the part wants the page anew once, when `changed` is set."""
    import streamlit as st

    from pages.shared.session import live, redraw, redraw_if_asked

    @live("1s")
    def part(title: str) -> None:
        if st.session_state.pop("changed", False):
            redraw()
        st.caption(title)

    st.session_state["draws"] = st.session_state.get("draws", 0) + 1
    part("In progress")
    if st.button("Keep it"):
        st.session_state["kept"] = True
    redraw_if_asked()


def test_a_click_is_answered_though_a_live_part_wants_the_page_anew() -> None:
    at = AppTest.from_function(page).run()
    assert at.caption[0].value == "In progress"
    at.session_state["changed"] = True
    at.button[0].click().run()
    assert at.session_state["kept"]
    assert at.session_state["draws"] == 3  # the first, that of the click, and the one that was asked for
    assert session.REDRAW not in at.session_state
    at.run()
    assert at.session_state["draws"] == 4


def test_a_live_part_by_itself_has_the_page_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Rerun(Exception):
        pass

    def rerun() -> None:
        raise Rerun

    parts = []
    monkeypatch.setattr(session.st, "fragment", lambda part, run_every: parts.append(part) or part)
    monkeypatch.setattr(session.st, "rerun", rerun)
    monkeypatch.setattr(session.st, "session_state", {})

    @session.live("1s")
    def part() -> None:
        session.redraw()
        drawn.append("to its end")

    part()
    assert drawn == ["to its end"]
    assert session.st.session_state == {session.REDRAW: True}
    with pytest.raises(Rerun):
        parts[0]()  # as the timer does
    with pytest.raises(Rerun):
        session.redraw_if_asked()
    session.redraw_if_asked()
