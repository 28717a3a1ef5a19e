"""What the additions of CONTRIBUTING.md do once they are made; run in the copy by `test_contributing.py`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

from engine import job_handlers
from engine.data import measurement_job
from engine.evaluation.metrics.answer_rows import Answers
from engine.evaluation.metrics.measurement import measure
from engine.monitoring.checks import find_exceeded_limits
from engine.registry.gate_report import build_gate_report
from engine.worker import process
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.metrics_config import MetricsConfig
from store.export.config import ModelExport
from store.http.client import Client
from store.jobs import job_queue
from store.monitoring.config import MonitorSettings
from store.registry.gate_checks import GateConfig
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_model, write_rows
from tests.unit.desk import Desk
from tests.unit.profile_job import job_of, rows_of, sidecar
from tunebench.cli import cli

ROOT = Path(__file__).parents[3]


def listed(table: str) -> list[dict[str, Any]]:
    return json.loads(CliRunner().invoke(cli, [table, "--json"]).stdout)


def test_the_metric_is_listed_and_measured(home: Home) -> None:
    assert "full_stop" in [row["metric"] for row in listed("metrics")]
    config = MetricsConfig.parse({"metrics": ["full_stop"]})
    (scored,) = measure(config, Answers(np.arange(4), ["Yes.", "no", "Well. \n", ""]), home)
    assert (scored.name, scored.scores.tolist(), scored.empty) == ("eval/full_stop", [1, 0, 1, 0], 1)


def test_the_method_is_listed_and_trains_what_its_formula_says() -> None:
    import torch

    from engine.models import tuning_methods
    from engine.models.tuning_methods import count_parameters, make_trainable
    from store.training.methods import METHODS

    assert "loha" in [row["method"] for row in listed("methods")]
    config = TrainConfig.parse({"dataset": "d", "method": "loha", "r": 4}).resolved(100)
    model = make_model()
    by_formula = METHODS["loha"].parameters(tuning_methods.measure_matrix_sizes(model, config), config)
    trained, _ = count_parameters(make_trainable(model, config, torch.float32))
    assert trained == by_formula > 0


def test_the_signal_is_measured_of_every_row(home: Home) -> None:
    fingerprint = rows_of(home, 3)
    job = job_of(home, fingerprint, "letters")
    result = measurement_job.run(job)
    assert sidecar(job)["capitals"].to_pylist() == pytest.approx([2 / 18] * 3)
    assert result["figures"]["capitals"]["n"] == 3


def test_the_job_is_queued_by_its_command_and_done_by_a_worker(desk: Desk) -> None:
    desk.add_dataset("D", "rows")
    write_rows(desk.home, "rows", conversations(5), labels=["red", None, "blue", None, None])
    job_id = desk("count", dataset="D")["job_id"]
    with desk.database.transaction() as tx:
        job_queue.claim(tx, job_id, "cpu", desk.now)
    folder = job_handlers.write_spec(desk.database, desk.home, job_queue.get_job(desk.database, job_id))
    assert process.run_job(folder.path) == 0
    assert read_json(folder.result) == {"status": "finished", "result": {"rows": 5, "labelled": 2}}


def test_the_check_of_a_gate_is_set_and_judged() -> None:
    gate = GateConfig.from_yaml("checks:\n- check: forgetting_measured\n  rows: 50\n")
    (check,) = gate.checks
    answers: Any = {"answers": {"value": 0.0, "low": -0.1, "high": 0.1, "n": 40, "unit": "share"}}
    report = build_gate_report("m@2", "production", None, [(check.document(), check.title, answers)])
    (line,) = report.checks
    assert (line.title, line.answer) == ("Forgetting was measured", "failed")
    assert line.sentence == "40 general questions asked; 50 have to be."


def test_the_alert_is_raised_where_its_limit_is_exceeded(desk: Desk) -> None:
    now = datetime(2026, 1, 1)
    unset, asked = MonitorSettings(), MonitorSettings(least_requests=3)  # type: ignore[call-arg]
    assert find_exceeded_limits(desk.database, "e", unset, now) == []
    (alert,) = find_exceeded_limits(desk.database, "e", asked, now)
    assert alert.reason == "0 requests in the last hour. Minimum: 3."


def test_the_form_of_export_is_listed_and_can_be_asked_for() -> None:
    forms = json.loads(CliRunner().invoke(cli, ["model", "forms", "--json"]).stdout)["forms"]
    assert "gguf-q5_0" in [row["form"] for row in forms]
    assert ModelExport.parse({"subject": "r", "form": "gguf-q5_0"}).form == "gguf-q5_0"


def test_the_screen_shows_what_the_engine_answers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEBENCH_HOME", str(home.path))
    monkeypatch.setattr(Client, "health", lambda _: {})
    monkeypatch.setattr(ContextProxy, "cookies", {})  # in whose place AppTest has a mock
    monkeypatch.setattr(Client, "models", lambda _: [{"name": "tiny", "ready": True}])
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/overview/base_models.py").run()
    assert not at.exception
    assert at.title[0].value == "Base models"
    assert [text.value for text in at.markdown] == ["**tiny**: ready"]
