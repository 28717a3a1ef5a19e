"""`tunebench monitor` changes settings and acknowledges alerts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bench.made.monitored import Monitored, add_endpoint
from bench.made.request_log import Traffic, append, request_lines
from engine.monitoring.alerts import AlertDetails, raise_alert
from engine.monitoring.status_text import describe_reference
from store.core.schemas import Person
from store.monitoring import monitor_alerts, monitors
from tunebench.cli import cli
from tunebench.commands import monitoring
from tunebench.terminal.output import NOT_FOUND

OWNER = Person(person_id="p-ada", name="Ada", role="admin")


class StoreClient:
    """What the command line asks of a client, answered by the store itself."""

    def __init__(self, monitored: Monitored) -> None:
        self.monitored = monitored

    def query(self, sql: str, params: object = ()) -> object:
        return self.monitored.database.query(sql, params)  # type: ignore[arg-type]

    def command(self, name: str, body: dict[str, object]) -> object:
        return self.monitored.commands.table()[name](body, OWNER)


@pytest.fixture
def asked(monitored: Monitored, monkeypatch: pytest.MonkeyPatch) -> Monitored:
    for module in (monitoring, monitoring):
        monkeypatch.setattr(module, "connect", lambda **_: StoreClient(monitored))
    return monitored


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["monitor", "Bank", *arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_settings_come_out_as_they_go_in_and_what_is_left_out_stays(asked: Monitored, tmp_path: Path) -> None:
    file = tmp_path / "watch.yaml"
    file.write_text("alpha: 0.01\nwatched: [input_length, output_label]\nmost_errors: null\n")
    run("--settings", str(file), "--json")
    file.write_text("keep_days: 9\n")
    run("--settings", str(file), "--json")
    settings = monitors.get_settings(monitors.find(asked.database, "endpoint-1"))
    assert (settings.alpha, settings.keep_days, settings.most_errors) == (0.01, 9, None)
    text = run("--show-settings")
    assert "alpha: 0.01" in text
    file.write_text(text)
    run("--settings", str(file), "--json")
    assert monitors.get_settings(monitors.find(asked.database, "endpoint-1")) == settings
    file.write_text("alpha: null\n")
    assert "alpha" in run("--settings", str(file), code=2)
    file.write_text("alpah: 0.01\n")
    assert "Unknown setting 'alpah'" in run("--settings", str(file), code=2)


def test_an_alert_is_acknowledged_by_its_id(asked: Monitored) -> None:
    with asked.database.transaction() as tx:
        raise_alert(
            tx, "endpoint-1", AlertDetails("quality", "candidate", "Worse.", "Look.", asked.now), asked.now
        )
    document = json.loads(run("--json", "--fail-on-alert", code=7))
    run("--json", "--acknowledge", document["alerts"][0]["alert_id"], "--note", "Share taken away")
    (alert,) = monitor_alerts.past_alerts(asked.database, "endpoint-1")
    assert (alert.acknowledged_by_name, alert.note) == ("Ada", "Share taken away")


def test_an_alert_of_another_endpoint_stays_open(asked: Monitored) -> None:
    with asked.database.transaction() as tx:
        add_endpoint(tx, "endpoint-2", "Other")
        raise_alert(
            tx, "endpoint-2", AlertDetails("quality", "candidate", "Worse.", "Look.", asked.now), asked.now
        )
        raise_alert(
            tx, "endpoint-1", AlertDetails("quality", "candidate", "Worse.", "Look.", asked.now), asked.now
        )
    (theirs,) = monitor_alerts.open_alerts(asked.database, "endpoint-2")
    (own,) = monitor_alerts.open_alerts(asked.database, "endpoint-1")
    assert "belongs to another endpoint" in run("--acknowledge", theirs.alert_id, code=NOT_FOUND)
    assert "has no reference" in run("--acknowledge", own.alert_id, "--new-normal", code=2)
    for alone in (("--new-normal",), ("--note", "Seen")):
        assert "require --acknowledge" in run(*alone, code=2)
    for endpoint_id in ("endpoint-1", "endpoint-2"):
        assert len(monitor_alerts.open_alerts(asked.database, endpoint_id)) == 1


def test_more_requests_than_a_reference_needs_are_not_counted_as_some_of_them(asked: Monitored) -> None:
    """Failed ones count for no reference, so that there can be many more than it needs before it is there."""
    texts = [f"Where is card {place}?" for place in range(1_247)]
    made = Traffic(failing=0.8)
    lines = request_lines(texts, ["There."] * len(texts), made, np.random.default_rng(1))
    append(asked.log / "requests-000000.jsonl", lines)
    asked.step()
    text = " ".join(run().split())
    present = monitors.find(asked.database, "endpoint-1")
    assert present is not None
    assert present.reference is None
    assert "of 300 requests" in text
    taken = int(text.split("No reference yet: ")[1].split(" of 300")[0])
    assert 200 < taken < 300
    line = describe_reference(None, "first", 300, 300)
    assert line == "Computing the reference from the first 300 requests."
