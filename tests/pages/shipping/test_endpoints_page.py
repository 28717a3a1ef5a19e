"""Endpoints: nothing yet, several in each state, one with its keys; what the buttons ask for."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.serving.supervisor import Supervisor
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.rights import OWNER
from store.jobs import job_queue
from store.serving import endpoints
from store.serving.config import EndpointSettings
from store.serving.schemas import EndpointConfig, EndpointLimits, EndpointRow
from tests.pages.conftest import Open, everything_said
from tests.pages.seeds.seed import seed
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.on_record import on_record
from tests.unit.store_samples import row_of

PAGE = "pages/serving/endpoints.py"
COMMANDS = ("make_endpoint", "start_endpoint", "stop_endpoint", "delete_endpoint", "make_key", "revoke_key")
COMMANDS += ("change_endpoint",)
AT = 1_800_000_000.0


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    """An endpoint that answers, one that stopped, and one that does not start."""
    home = seed(tmp_path_factory.mktemp("served"), runs=2, sets=1)
    serve = partial(Supervisor, command=(sys.executable, "-c", ""))
    with still_engine(home, real=COMMANDS, serve=serve) as engine:
        for name, wanted in (("support", "running"), ("old", "stopped"), ("broken", "running")):
            add(engine, name, wanted)
        with on_record(answering(home, "e-support")):
            yield engine


def add(engine: StillEngine, name: str, wanted: Any) -> None:
    candidate = {"subject": "support@2", "role": "candidate", "share": 0.1}
    routes = [{"subject": "support@production"}, candidate]
    log = {"sample": 0.5, "redact": True}
    models = [{"name": "m", "routes": routes}]
    settings = EndpointSettings.parse({"models": models, "port": 8600, "log": log})
    with engine.database.transaction() as tx:
        endpoints.add(
            tx,
            EndpointRow(
                endpoint_id=f"e-{name}", name=name, wanted=wanted, wanted_at=AT,
                settings=settings.model_dump(), created_by="owner", created_by_name="you",
                created_at=AT,
            ),
        )  # fmt: skip
        endpoints.add_key(
            tx,
            {
                "key_id": f"k-{name}", "endpoint_id": f"e-{name}", "person_id": OWNER.person_id,
                "person_name": "you", "name": "web shop", "secret": f"hash-{name}",
                "requests_per_minute": 60, "tokens_per_day": 100_000, "created_at": job_queue.to_utc(AT),
            },
        )  # fmt: skip


def answering(home: Home, endpoint_id: str) -> Path:
    """A folder as a gateway leaves it; where its process is to be on record."""
    folder = home.endpoints / endpoint_id
    (folder / "log").mkdir(parents=True)
    backend = {
        "backend_id": "b", "engine": "worker", "model": "tiny", "phase": "ready", "error": None,
        "seconds": 3.0, "starts": 1, "running": 0, "waiting": 0, "capabilities": None,
    }  # fmt: skip
    route = {
        "model": "m", "version": "support@3", "role": "live", "share": 1.0, "backend_id": "b",
        "requests": 90, "errors": 1, "dropped": 0, "p95_seconds": 0.42, "n": 89,
    }  # fmt: skip
    candidate = {**route, "version": "support@2", "role": "candidate", "share": 0.1, "requests": 10}
    hour = {"requests": 100, "errors": 1, "refused": 3, "p95_seconds": 0.4242, "n": 96, "tokens": 12_345}
    state = {
        "endpoint_id": endpoint_id, "pid": os.getpid(), "started_at": AT, "at": time.time(), "asked_at": AT,
        "address": "http://127.0.0.1:8600", "phase": "ready", "error": None, "switching": "",
        "backends": [backend], "routes": [route, candidate],
        "keys": [{"key_id": "k-support", "day": "", "tokens": 5_000, "requests": 1, "used_at": AT}],
        "hour": hour, "active": 2, "fallbacks": 0, "lines": 9, "lines_lost": 4, "log_error": "No space left",
    }  # fmt: skip
    write_json(folder / "state.json", state)
    served = [{**entry, "subject": "s", "asked_as": "a"} for entry in (route, candidate)]
    config = row_of(
        EndpointConfig, models=[{"name": "m", "routes": served}], backends=[],
        limits=row_of(EndpointLimits, drain_seconds=1),
    )  # fmt: skip
    write_json(folder / "config.json", config)
    line = {
        "request_id": "r", "at": AT, "version": "support@3", "role": "live", "status": 200, "error": None,
        "seconds": 0.3, "prompt_tokens": 7, "completion_tokens": 5, "label": None, "output": "Paris.",
        "confidence": None, "abstained": False,
        "messages": [{"role": "user", "content": "Capital of France?"}],
    }  # fmt: skip
    (folder / "log" / "requests-000001.jsonl").write_text(json.dumps(line) + "\n")
    return folder / "gateway.json"


def test_nothing_served_says_how_to_begin(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert at.title[0].value == "Endpoints"
    text = everything_said(at)
    assert "No endpoints yet" in text
    assert "No models to serve yet" in text


def test_all_endpoints_with_state_and_last_hour(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE)
    text = everything_said(at)
    for word in ("Ready", "Stopped", "Starting", "100 requests in the last hour", "95% within 0.42 s (n 96)"):
        assert word in text
    assert "1 failed" in text
    assert [link.proto.label for link in at.get("page_link")][:3] == ["**broken**", "**old**", "**support**"]


def test_one_endpoint(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, endpoint="e-support")
    text = everything_said(at)
    codes = [code.value for code in at.code]
    assert "http://127.0.0.1:8600/v1" in codes
    assert any('model="m"' in code for code in codes)
    assert "5,000 of 100,000 tokens today" in text
    assert "up to 60 requests a minute" in text
    assert "4 lines of the log could not be written (No space left)" in text
    routes, requests = at.dataframe[0].value, at.dataframe[1].value
    assert routes["Share"].tolist() == ["90%", "10%"]
    assert routes["95% within"].tolist() == ["0.42 s", "0.42 s"]
    assert (requests["Asked"][0], requests["Answer"][0]) == ("Capital of France?", "Paris.")


def test_what_does_not_start_says_why(engine: StillEngine, open_page: Open) -> None:
    engine.endpoints.step()
    at = open_page(engine.home, PAGE, endpoint="e-broken")
    assert "Does not start" in everything_said(at)
    assert "There is no registered model support@production" in at.error[0].value


def test_keys_are_made_shown_once_and_revoked(engine: StillEngine, open_page: Open) -> None:
    at = open_page(engine.home, PAGE, endpoint="e-old")
    at.text_input[0].set_value("nightly")
    next(button for button in at.button if button.label == "Create key").click().run()
    assert not at.exception
    keys = [code.value for code in at.code if code.value.startswith("tbe_")]
    assert len(keys) == 1
    at.button(key="put-endpoint-key-away").click().run()
    assert not any(code.value.startswith("tbe_") for code in at.code)
    at.button(key="revoke-k-old").click().run()
    assert "Revoked: 1" in [expander.label for expander in at.expander]
    next(button for button in at.button if button.label == "Delete endpoint and log").click().run()
    assert at.title[0].value == "Endpoints"
    assert endpoints.list_names(engine.database) == {"support", "broken"}


def test_a_run_is_served_from_the_form(engine: StillEngine, open_page: Open) -> None:
    name = "LoRA on Sums 0 #0"
    run_id = engine.database.query("SELECT run_id FROM run WHERE name = ?", [name])["run_id"][0].as_py()
    folder = engine.home.jobs / run_id / "model"
    folder.mkdir(parents=True)
    note = {"base_model": "tiny", "method": "lora", "adapter": True, "held": "", "merges": True}
    write_json(folder / "tunebench.json", note)
    write_json(folder / "adapter_config.json", {})
    at = open_page(engine.home, PAGE, serve=name)
    assert at.selectbox(key="endpoint-subject").value == name
    at.text_input[0].set_value("sums")
    next(button for button in at.button if button.label == "Serve model").click().run()
    assert not at.exception
    made = endpoints.get(engine.database, "sums")
    assert at.query_params["endpoint"] == made.endpoint_id
    assert any(code.value.startswith("tbe_") for code in at.code)
    next(button for button in at.button if button.label == "Stop").click().run()
    assert endpoints.get(engine.database, "sums").wanted == "stopped"


def test_a_link_to_one_that_is_gone(engine: StillEngine, open_page: Open) -> None:
    assert "This endpoint does not exist" in everything_said(open_page(engine.home, PAGE, endpoint="nothing"))
