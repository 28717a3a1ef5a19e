"""What is said of endpoints that go on answering once the engine has ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from store.core.errors import EngineUnavailable
from store.core.home import Home
from store.core.job_folder import write_json
from store.http.client import Client
from tests.unit.on_record import on_record
from tunebench.commands import serving
from tunebench.terminal.processes import list_running_endpoints, report_running_endpoints


def endpoint(home: Home, endpoint_id: str, name: str) -> Path:
    """The folder of an endpoint."""
    folder = home.endpoints / endpoint_id
    folder.mkdir(parents=True)
    write_json(folder / "config.json", {"name": name})
    return folder


def test_endpoints_that_answer_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)
    report_running_endpoints(home)
    assert capsys.readouterr().err == ""
    with on_record(endpoint(home, "endpoint-1", "trec") / "gateway.json"):
        report_running_endpoints(home)
        assert (
            "The endpoint trec goes on answering; stop with: tunebench endpoint stop NAME"
            in capsys.readouterr().err
        )
        with on_record(endpoint(home, "endpoint-2", "docs") / "gateway.json"):
            report_running_endpoints(home)
    assert "docs, trec go on answering" in capsys.readouterr().err


def test_what_has_ended_or_is_damaged_answers_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ended = endpoint(home, "ended", "ended")
    write_json(ended / "gateway.json", {"address": "http://127.0.0.1:1", "pid": os.getpid(), "started": 1.0})
    (endpoint(home, "damaged", "damaged") / "gateway.json").write_text("{")
    (endpoint(home, "unnamed", "unnamed") / "config.json").unlink()
    write_json(endpoint(home, "listed", "listed") / "config.json", [])
    (home.endpoints / "file").write_text("")
    records = [home.endpoints / name / "gateway.json" for name in ("unnamed", "listed")]
    with on_record(records[0]), on_record(records[1]):
        assert list_running_endpoints(home) == []


def test_serve_says_that_the_endpoint_outlives_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(client: Client, name: str) -> None:
        raise EngineUnavailable("No engine runs.", fix="Start it with the command: tunebench up")

    monkeypatch.setattr(serving, "find_endpoint", gone)
    with pytest.raises(EngineUnavailable, match="The engine has stopped; my docs keeps serving") as raised:
        serving._wait_for_interrupt(cast(Client, None), "my docs")
    assert raised.value.fix == "Stop it with: tunebench endpoint stop 'my docs'"
