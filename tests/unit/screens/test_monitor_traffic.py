"""What the monitor says of a window's traffic."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pages.monitoring.alerts import _list_facts
from store.monitoring.config import MonitorSettings
from store.monitoring.traffic import VersionTraffic

AT = datetime(2026, 11, 27)


def traffic(requests: int, errors: int, refused: int) -> VersionTraffic:
    return VersionTraffic(
        version="m@1", role="live", first_at=AT, last_at=AT,
        requests=requests, errors=errors, refused=refused, abstained=0,
        calls=0, invalid_calls=0,
        prompt_tokens=0, completion_tokens=0, seconds=0.0,
        p50=None, p95=None, first_token_p50=None, first_token_p95=None,
    )  # fmt: skip


def test_what_was_refused_is_no_failure() -> None:
    facts = {
        title: (value, below) for title, value, below in _list_facts([traffic(7, 0, 4)], MonitorSettings())
    }
    assert facts["Requests"] == ("7", "4 rejected")
    assert facts["Error rate"] == ("0%", "0 of 3; 95% CI 0% to 56%")


def test_where_all_was_refused_no_share_failed() -> None:
    facts = {
        title: (value, below) for title, value, below in _list_facts([traffic(2, 0, 2)], MonitorSettings())
    }
    assert facts["Error rate"] == ("–", "no requests processed")


def test_calls_of_functions_are_told_where_there_are_any() -> None:
    called = replace(traffic(7, 0, 0), calls=5, invalid_calls=1)
    assert ("Function calls", "5", "1 invalid") in _list_facts([called], MonitorSettings())
    assert "Function calls" not in [title for title, *_ in _list_facts([traffic(7, 0, 0)], MonitorSettings())]


def test_the_wait_for_a_first_token_has_its_slow_end() -> None:
    fast = replace(traffic(7, 0, 0), p50=1.0, p95=2.0, first_token_p50=0.1, first_token_p95=0.4)
    assert ("First token, median", "100 ms", "p95 400 ms") in _list_facts([fast], MonitorSettings())
    assert ("First token, median", "–", "") in _list_facts([traffic(7, 0, 0)], MonitorSettings())
