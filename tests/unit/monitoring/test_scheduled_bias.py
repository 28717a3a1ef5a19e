"""A bias check that the monitor asks for again and again; and a Tunebench that has no bias checks."""

from __future__ import annotations

import json

import pytest

from bench.made.monitored import Monitored
from engine.bias.commands import BiasCommands
from store.core.errors import ConfigError
from store.core.features import load_store_features
from store.core.monitoring_schemas import MonitorAlert
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors
from tests.unit.monitoring.test_monitoring import REFERENCE, ask, begin


def refused(*_: object) -> None:
    raise ConfigError("The pairs are gone.")


def test_a_bias_check_on_a_schedule_warns_where_it_is_worse(monitored: Monitored) -> None:
    begin(monitored)
    check = {"model": "SmolLM2", "against": "other"}
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, bias={"check": check})
    assert monitored.monitor().revision == 0 or monitored.monitor().reference is not None
    monitored.now += 61
    monitored.monitoring.step()
    (asked,) = monitors.scheduled_checks(monitored.database, "endpoint-1")
    assert (asked.status, asked.worse) == ("queued", None)

    def finish(job_id: str, worse: int) -> None:
        report = json.dumps(
            {"sentence": f"{worse} of 9 figures are surely worse.", "worse": worse, "cant_tell": 4}
        )
        with monitored.database.transaction() as tx:
            tx.execute("UPDATE job SET status = 'finished' WHERE job_id = ?", [job_id])
            tx.execute(
                "INSERT INTO bias_check VALUES (?, NULL, 'SmolLM2', 'other', '{}', ?, '{}', NULL, ?)",
                [job_id, report, job_queue.to_utc(monitored.now)],
            )
        for _ in range(2):
            monitored.now += 61
            monitored.monitoring.step()

    def open_ones() -> list[MonitorAlert]:
        alerts = monitor_alerts.open_alerts(monitored.database, "endpoint-1")
        return [alert for alert in alerts if alert.subject == "bias"]

    finish(asked.job_id, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BiasCommands, "queue", refused)
        monitored.now += 7 * 86_400
        monitored.monitoring.step()
    subjects = {each.subject for each in monitor_alerts.open_alerts(monitored.database, "endpoint-1")}
    assert {"bias", "bias-start"} <= subjects  # to have seen the one is not to have seen the other
    (alert,) = open_ones()
    assert "SmolLM2 against other: 2 of 9 figures are surely worse." in alert.reason
    ask(monitored, "acknowledge_alert", alert=alert.alert_id)
    monitored.now += 61
    monitored.monitoring.step()
    assert not open_ones()  # of the same check nobody is told twice
    monitored.now += 7 * 86_400
    monitored.monitoring.step()
    newest = monitors.scheduled_checks(monitored.database, "endpoint-1")
    assert len(newest) == 2
    finish(newest[0].job_id, 0)
    assert not open_ones()


def test_without_the_feature_a_schedule_is_refused_and_one_that_was_set_is_left_out(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"check": {"model": "SmolLM2", "against": "other"}}
    ask(monitored, "set_monitor", endpoint="Bank", reference_rows=REFERENCE, bias=schedule)
    assert monitors.get_settings(monitored.monitor()).bias is not None
    there = {name: feature for name, feature in load_store_features().items() if name != "bias"}
    monkeypatch.setattr("store.monitoring.config.load_store_features", lambda: there)
    settings = monitors.get_settings(monitored.monitor())
    assert (settings.bias, settings.reference_rows) == (None, REFERENCE)
    monitored.now += 61
    monitored.monitoring.step()
    assert not monitors.scheduled_checks(monitored.database, "endpoint-1")
    with pytest.raises(ConfigError, match="bias checks are not installed") as error:
        ask(monitored, "set_monitor", endpoint="Bank", bias=schedule)
    assert error.value.field == "bias"
