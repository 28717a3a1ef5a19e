"""Overview against a real engine: empty, a few runs, a thousand, and no engine."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import streamlit as st

from store.core.home import Home
from store.http import client
from store.training.train_config import build_sample_experiment
from tests.pages.conftest import Open, everything_said
from tests.unit.on_record import on_record
from tests.unit.people_samples import Company, at_work


def test_empty_store_offers_the_sample_experiment_and_nothing_else_primary(
    empty_home: Home, open_page: Open
) -> None:
    at = open_page(empty_home)
    assert at.title[0].value == "Overview"
    assert at.button(key="sample").label == "Run the sample experiment"
    assert "3 to 10 minutes" in everything_said(at)
    assert f"on {build_sample_experiment().max_train_rows}\nentries" in everything_said(at)
    assert "Processor" in everything_said(at)  # the machine is shown from the start


def test_commits_that_the_store_lacks_are_told_for_a_week(tmp_path: Path, open_page: Open) -> None:
    lost = {"found_at": time.time(), "commits": 2, "understood": 2, "first_at": 0.0, "last_at": 60.0}
    with at_work(Company(tmp_path, team=False)) as company:
        for days, stands in ((0, True), (8, False)):
            lost["found_at"] = time.time() - days * 24 * 3600
            with company.database.transaction() as tx:
                sql = "INSERT OR REPLACE INTO setting VALUES ('lost_commits', ?)"
                tx.execute(sql, [json.dumps(lost | {"rows": {"metric": 120, "job": 1}})])
            st.cache_data.clear()
            page_text = everything_said(open_page(company.home))
            sentence = "lacks the last 2 commits that were made, from 1970-01-01 00:00:00 to 1970-01-01"
            assert (sentence in page_text) == stands
            assert ("120 of metric, 1 of job" in page_text) == stands
            assert ("Restore a copy of the home folder" in page_text) == stands


def test_runs_show_status_loss_and_the_gain_with_its_interval(little_home: Home, open_page: Open) -> None:
    page_text = everything_said(open_page(little_home))
    assert re.search(r"\d runs: \d finished", page_text)  # other tests may have left a run
    assert "better by 0.31" in page_text
    assert "0.27 to 0.35, n 200" in page_text
    assert "worse by 0.12" in page_text
    assert "0.08 to 0.16, n 200" in page_text  # the interval of a loss is turned round with its sign
    assert "can&#x27;t tell, 0.02" in page_text or "inconclusive, 0.02" in page_text


def test_of_a_thousand_runs_the_newest_are_listed_and_all_are_a_click_away(
    full_home: Home, open_page: Open
) -> None:
    at = open_page(full_home)
    assert "1,000 runs: " in everything_said(at)
    links = [link.proto.query_string for link in at.get("page_link") if link.proto.label != "All 1,000 runs"]
    listed = [query for query in links if query.startswith("run=r")]
    assert listed[-8:] == [f"run=r{i:06}" for i in range(999, 991, -1)]
    (everything,) = [link for link in at.get("page_link") if link.proto.label == "All 1,000 runs"]
    assert everything.proto.page == "run"


def test_without_an_engine_the_page_says_how_to_start_it(offline_home: Home, open_page: Open) -> None:
    at = open_page(offline_home)
    assert "The engine is not running" in everything_said(at)
    assert [code.value for code in at.code] == ["tunebench up"]
    assert at.title[0].value == "Overview"


def test_an_engine_that_is_halted_is_not_said_to_be_gone(
    offline_home: Home, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "HEALTH_SECONDS", 0.1)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        offline_home.token.write_text("x")
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        process.send_signal(signal.SIGSTOP)
        try:
            with on_record(offline_home.engine_file, address, process.pid):
                at = open_page(offline_home)
        finally:
            process.kill()
            process.wait()
    page_text = everything_said(at)
    assert "The engine does not answer" in page_text
    assert f"process {process.pid}" in page_text
    assert "is not running" not in page_text
    assert at.code[0].value == f"kill -CONT {process.pid}"
