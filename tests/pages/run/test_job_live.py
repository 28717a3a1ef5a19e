"""Jobs that a person waits for on the page of a data set: followed, stopped, and their bad ends said."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from store.core.home import Home
from store.jobs import job_queue
from tests.pages.conftest import SECONDS, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.still_engine import StillEngine, still_engine


def draw() -> None:
    from pages.data.cleaning.tab import show_clean
    from pages.shared import cached_queries

    show_clean(cached_queries.read_dataset("d00000"))


def opened(home: Home, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("TUNEBENCH_HOME", str(home.path))
    st.cache_data.clear()
    st.cache_resource.clear()
    at = AppTest.from_function(draw, default_timeout=SECONDS).run()
    assert not at.exception
    return at


def test_a_cleaning_is_followed_and_a_bad_end_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with still_engine(seed(tmp_path / "job", runs=0, sets=1)) as engine:
        _queue(engine, "job-clean", "clean", {"dataset": "d00000"})
        at = opened(engine.home, monkeypatch)
        at.session_state["clean-job-d00000"] = "job-clean"
        at.run()
        assert "Making the new version" in everything_said(at)
        at.button(key="cleaning-cancel").click().run()
        assert engine.sent[-1] == ("cancel", {"job": "job-clean"})
        with engine.database.transaction() as tx:
            tx.execute("UPDATE job SET status = 'cancelled'")
        st.cache_data.clear()
        at.run()
        assert "The cleaning was cancelled. Nothing was stored." in everything_said(at)
        with engine.database.transaction() as tx:
            error = {"message": "The disk is full.", "fix": "Make room."}
            tx.execute("UPDATE job SET status = 'failed', error = ?", [json.dumps(error)])
        st.cache_data.clear()
        at.run()
        assert "The disk is full." in everything_said(at)
        at.button(key="clean-back").click().run()
        assert "No steps yet" in everything_said(at)


def test_what_is_being_measured_is_shown_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with still_engine(seed(tmp_path / "busy", runs=0, sets=1)) as engine:
        _queue(engine, "job-text", "profile", {"dataset": "d00000", "group": "text"})
        _queue(engine, "job-other", "profile", {"dataset": "another", "group": "privacy"})
        at = opened(engine.home, monkeypatch)
        page_text = everything_said(at)
        assert "Measuring **Texts**" in page_text
        assert "Privacy and safety**" not in page_text
        at.button(key="measure-cancel-job-text").click().run()
        assert engine.sent[-1] == ("cancel", {"job": "job-text"})


def _queue(engine: StillEngine, job_id: str, kind: str, config: dict[str, Any]) -> None:
    with engine.database.transaction() as tx:
        job_queue.insert(
            tx, job_queue.NewJob(job_id=job_id, kind=kind, title=kind, config=config, at=time.time())
        )
