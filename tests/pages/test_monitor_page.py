"""The monitor: no endpoint, no request, a quiet one, and one with an alert that somebody acknowledges."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from bench.made.monitored import Monitored, add_endpoint
from bench.made.request_log import Traffic, append, request_lines, thumbs
from engine.monitoring.endpoint_status import DriftLine, summarize_status
from engine.monitoring.status_text import StatusSummary, describe_summary
from engine.rating.analysis.judge_correction import correct_pass_rate
from pages.monitoring import labelling
from pages.monitoring.alerts import plot_requests
from pages.monitoring.quality import (
    describe_golden_chart,
    describe_group_gaps,
    plot_golden,
    render_judged_table,
)
from pages.shared import session
from store.bias import bias_checks
from store.core.figure_schemas import Estimate, Figure
from store.core.home import Home
from store.core.monitoring_schemas import (
    ArmComparison,
    ArmSummary,
    BaseMeasurement,
    SideBySide,
    SignificantDifference,
)
from store.core.rights import OWNER
from store.http.client import Client
from store.jobs import job_queue
from store.monitoring import monitor_alerts, monitors, side_by_side
from store.monitoring.monitors import GoldenRun
from store.monitoring.traffic import TrafficPoint
from store.serving import endpoint_status
from store.serving.schemas import EndpointConfig, EndpointState, EndpointStatus, ServedModel
from tests.pages.conftest import Open, everything_said
from tests.pages.still_engine import StillEngine, still_engine
from tests.unit.bias import checked
from tests.unit.monitoring.texts import bank_questions, chat
from tests.unit.store_samples import row_of

FRIENDLY = {"hey", "lol", "mum", "WINNER!!", "miss"}  # first words of `chat`
PAGE = "pages/monitoring/monitor.py"


def _write(monitored: Monitored, endpoint_id: str, texts: list[str], every: float) -> None:
    rng = np.random.default_rng(0)
    start = monitored.now - every * len(texts) - 60
    log = monitored.home.path / "endpoints" / endpoint_id / "log"
    made = Traffic(endpoint_id, start=start, every=every, candidate=0.2, failing=0.02)
    lines = list(request_lines(texts, [f"About *{text[:20]}*" for text in texts], made, rng))
    append(log / "requests-000000.jsonl", lines)
    append(log / "feedback-000000.jsonl", thumbs(lines, 0.5, 0.8, rng))


def _pairs() -> list[SideBySide]:
    """A candidate that is worse, one that has not answered yet, and a shadow."""
    arms: dict[str, ArmSummary] = {
        name: ArmSummary(callers=callers, answers=4 * callers, share=share)
        for name, callers, share in (("live", 31, 0.9), ("other", 28, 0.6))
    }
    look = ArmComparison(
        look=3, answers=236, next_look=354, at=0.0, live=arms["live"], other=arms["other"],
        left_out=2, p=0.0001, alpha=0.0005, sure=SignificantDifference(verdict="worse", answers=180, at=0.0),
        difference=Estimate(value=-0.3, low=-0.52, high=-0.08, n=59),
    )  # fmt: skip
    quiet = replace(
        look, sure=None, p=0.5,
        difference=Estimate(value=0.02, low=-0.1, high=0.14, n=9),
    )  # fmt: skip
    pair = SideBySide(
        endpoint_id="changed", model="bank", live="bank@3", other="bank<i>@4",
        role="candidate", share=0.2, noticed_at=datetime(2026, 1, 1),
        since=datetime(2026, 1, 2), ended_at=None, looks={"labels": look},
    )  # fmt: skip
    waiting = replace(pair, other="bank@5", since=None, looks={})
    shadow = replace(pair, other="bank@6", role="shadow", looks={"labels": quiet})
    return [pair, waiting, shadow]


def test_a_candidate_stands_beside_the_live_version(watched: StillEngine, open_page: Open) -> None:
    text = everything_said(open_page(watched.home, PAGE, endpoint="changed"))
    assert "bank<i>@4" in text.replace("\\", "")
    assert "−30 points (−52 to −8)" in text
    assert "Worse than the live version" in text
    assert "31 callers, 124 responses" in text
    assert "Thumbs up: no ratings yet" in text
    assert "2 live responses to callers of the candidate excluded" in text
    assert "Requests are kept for 30 days: older failures no longer count" in text
    assert "No responses from the candidate yet." in text
    assert "+2 points (−10 to +14)" in text
    assert "Not significant" in text


def test_a_bias_check_of_the_schedule_shows_its_figures_once_it_is_opened(
    watched: StillEngine, open_page: Open
) -> None:
    at = open_page(watched.home, PAGE, endpoint="changed")
    text = everything_said(at).replace("\\", "")
    assert "**bank<i>@3** vs. SmolLM2: Fine-tuning made 1 bias metric significantly worse" in text
    assert "base 1.1 times, tuned 3.3 times" not in text
    at.session_state["monitor-bias"] = True
    at.run()
    assert not at.exception
    assert "base 1.1 times, tuned 3.3 times" in everything_said(at)


def test_groups_are_told_apart_only_where_that_is_sure() -> None:
    groups = {"web<i>": {64: 40, 32: 5}, "app": {64: 10, 32: 12, 0: 18}, "few": {0: 3}}
    (text,) = describe_group_gaps(groups, "thumbs up")
    assert "fewer thumbs up than all other groups" in text
    assert "1 group with fewer than 10 callers excluded" in text
    (text,) = describe_group_gaps({"web": {64: 20, 0: 5}, "app": {64: 21, 0: 5}}, "thumbs up")
    assert "No significant difference in thumbs up by group" in text
    assert describe_group_gaps({"web": {64: 3}}, "thumbs up") == []


def test_what_a_judge_and_people_say_stands_beside_each_other() -> None:
    seen = correct_pass_rate([1.0] * 70 + [0.0] * 30, [1.0] * 20 + [0.0] * 10, [1.0] * 18 + [0.0] * 12)
    few = correct_pass_rate([1.0] * 70, [1.0] * 3, [1.0] * 3)
    text = render_judged_table([("20 Nov to 27 Nov", "bank<i>@4", seen), ("20 Nov to 27 Nov", "bank@3", few)])
    assert "bank&lt;i&gt;@4" in text
    assert "63%" in text
    assert "raters agree on 28 of 30" in text
    assert "Not enough data: people have rated 3 of them; from 20 on they can correct the judge." in text


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StillEngine]:
    rng = np.random.default_rng(1)
    monitored = Monitored(tmp_path_factory.mktemp("watched") / "home", "changed", "Bank <b>")
    monitored.now = time.time()
    with monitored.database.transaction() as tx:
        add_endpoint(tx, "new", "New")
        add_endpoint(tx, "quiet", "Quiet")
    for endpoint_id, name in (("changed", "Bank <b>"), ("quiet", "Quiet")):
        body = {"endpoint": name, "reference_rows": 80, "price_of_prompt": 1.0, "price_of_completion": 2.0}
        monitored.commands.table()["set_monitor"](body, OWNER)
        changed = endpoint_id == "changed"  # over weeks, as an alarm waits for days
        texts = [*bank_questions(rng, 230), *chat(rng, 110)] if changed else bank_questions(rng, 150)
        _write(monitored, endpoint_id, texts, every=7_200.0 if changed else 60.0)
    monitored.catch_up()
    with monitored.database.transaction() as tx:
        for pair in _pairs():
            side_by_side.begin(tx, pair)
        config = {"model": "bank@production", "against": "SmolLM2"}
        job_queue.insert(tx, job_queue.NewJob("job-bias", "bias", "Bias", config, at=1.8e9))
        job_queue.update(tx, "job-bias", status="finished")
        bias = checked.result(worse=True)
        bias_checks.insert(tx, job_queue.get_job(tx, "job-bias"), bias, ("bank<i>@3", "SmolLM2"), 1.8e9)
        monitors.add_scheduled_check(tx, "changed", "job-bias", at=datetime(2027, 1, 15))
    monitored.close()
    with still_engine(
        monitored.home, real=("set_monitor", "acknowledge_alert", "round_of_requests")
    ) as engine:
        yield engine


def test_without_an_endpoint_the_page_says_how_to_get_one(empty_home: Home, open_page: Open) -> None:
    at = open_page(empty_home, PAGE)
    assert at.title[0].value == "Monitor"
    assert "No endpoints yet" in everything_said(at)
    assert "tunebench serve" in everything_said(at)


def test_a_viewer_is_not_offered_to_serve(
    empty_home: Home, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "has_right", lambda right: False)
    at = open_page(empty_home, PAGE)
    assert "Ask a member to serve a model." in everything_said(at)
    assert "Serve a model" not in [link.proto.label for link in at.get("page_link")]


def test_an_endpoint_that_nobody_asked_shows_how_to_ask(watched: StillEngine, open_page: Open) -> None:
    at = open_page(watched.home, PAGE, endpoint="new")
    assert "No requests yet" in everything_said(at)
    assert not at.code  # nothing is known of its address and its models
    link = next(each for each in at.get("page_link") if each.proto.label == "Show how to call New")
    assert link.proto.query_string == "endpoint=new"


def _status(endpoint_id: str, **facts: Any) -> EndpointStatus:
    return EndpointStatus(
        endpoint_id=endpoint_id, name=endpoint_id, wanted="running", wanted_at=0.0, created_by="ada",
        created_by_name="Ada", created_at=0.0, alive=True, problem=None, keys=[], **facts,
    )  # fmt: skip


def test_it_is_asked_by_the_name_of_its_model_at_its_address(
    watched: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _status(
        "new",
        state=row_of(EndpointState, address="http://127.0.0.1:8601", backends=[]),
        config=row_of(EndpointConfig, models=[ServedModel(name="bank", routes=[])]),
        settings={"port": 8601},
    )
    monkeypatch.setattr(endpoint_status, "list_endpoints", lambda _: [seen])
    at = open_page(watched.home, PAGE, endpoint="new")
    examples = "\n".join(code.value for code in at.code)
    assert 'model="bank"' in examples
    assert "http://127.0.0.1:8601/v1" in examples
    assert "PORT" not in examples


def test_a_quiet_endpoint_is_said_to_be_so_with_its_evidence(watched: StillEngine, open_page: Open) -> None:
    at = open_page(watched.home, PAGE, endpoint="quiet", window="7d")
    text = everything_said(at)
    assert "No open alerts. No change detected in" in text
    assert "Compared with the first 80 requests" in text
    assert "No alert" in text
    assert "180" in text
    assert "No judge results yet" in text
    assert not any(button.key and button.key.startswith("seen-") for button in at.button)


def test_an_alert_leads_to_the_improvement_of_the_registered_model(
    watched: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"models": [{"name": "bank", "routes": [{"subject": "bank@production"}]}]}
    seen = _status("changed", state=None, config=None, settings=settings)
    monkeypatch.setattr(endpoint_status, "list_endpoints", lambda _: [seen])
    at = open_page(watched.home, PAGE, endpoint="changed")
    link = next(each for each in at.get("page_link") if each.proto.label.startswith("Improve bank"))
    assert link.proto.query_string.startswith("model=bank&tab=improve&feedback=changed&alert=")


def _alert_links(open_page: Open, home: Home, page: str) -> list[tuple[str, str]]:
    at = open_page(home, page)
    assert not at.exception
    return [
        (link.proto.label, link.proto.query_string)
        for link in at.get("page_link")
        if "open alert" in link.proto.label
    ]


@pytest.mark.parametrize("page", ["pages/overview/overview.py", "pages/serving/endpoints.py"])
def test_open_alerts_are_a_click_away(watched: StillEngine, open_page: Open, page: str) -> None:
    ((label, link),) = _alert_links(open_page, watched.home, page)  # none of the quiet endpoint
    assert "open alert" in label
    assert link == "endpoint=changed"
    assert "Drift: " in everything_said(open_page(watched.home, page))


def test_an_alert_shows_its_requests_and_is_acknowledged(watched: StillEngine, open_page: Open) -> None:
    at = open_page(watched.home, PAGE)  # whoever has an alert is shown first
    text = everything_said(at)
    assert re.search(r"\d+ open alerts?\.", text)
    assert "Prompt distance has changed" in text
    assert "u coming to the party" in text or "prize" in text or "mum says" in text
    button = next(each for each in at.button if each.key and each.key.startswith("seen-"))
    outcome = next(each for each in at.selectbox if each.key and each.key.startswith("outcome-"))
    outcome.set_value("new_normal")
    button.click().run()
    assert not at.exception
    seen, owner = monitor_alerts.past_alerts(watched.database, "changed"), Client(watched.home).me().name
    assert [(alert.outcome, alert.acknowledged_by_name) for alert in seen] == [("new_normal", owner)]
    assert f"acknowledged by {owner}" in everything_said(at)
    left = monitor_alerts.open_by_endpoint(watched.database).get("changed")
    still_open = monitor_alerts.open_alerts(watched.database, "changed")
    assert (left["n"] if left else 0) == len(still_open)
    assert seen[0].alert_id not in {alert.alert_id for alert in still_open}


def test_what_should_be_labelled_next_is_listed_and_made_a_round(
    watched: StillEngine, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "WAIT_SECONDS", 0.0)  # nobody does the job
    at = open_page(watched.home, PAGE, endpoint="quiet", window="7d", tab="label")
    text = everything_said(at)
    assert "can be labeled" in text
    assert "with thumbs down" in text
    assert "do not represent all requests" in text
    rows = at.dataframe[0].value
    assert set(rows.columns) >= {"Prompt", "Response", "Reasons", "Time", "Version"}
    assert next(box for box in at.selectbox if box.label == "Rating task").value == "correction"
    next(each for each in at.number_input if each.label == "Requests").set_value(10).run()
    next(each for each in at.button if each.label == "Create labeling round").click().run()
    (job,) = job_queue.list_of_kind(watched.database, "round")
    round = job.config["round"]
    assert (round["protocol"], round["requests"]["endpoint"], round["choice"]) == (
        *("correction", "quiet"), "telling",
    )  # fmt: skip
    assert job.config["notices"][0].startswith("3 of ")


def test_only_the_requests_behind_an_alert_are_listed(watched: StillEngine, open_page: Open) -> None:
    (alert, *_) = watched.database.query("SELECT alert_id FROM monitor_alert")["alert_id"].to_pylist()
    at = open_page(watched.home, PAGE, endpoint="changed", tab="label", alert=alert)
    assert "Filtered by alert." in everything_said(at)
    listed = at.dataframe[0].value
    days = listed["Time"].dt.date  # on the first of them customers may have asked before it changed
    assert {text.split()[0] for text in listed["Prompt"][days > days.min()]} == FRIENDLY
    gone = open_page(watched.home, PAGE, endpoint="changed", tab="label", alert="alert-x")
    assert "Alert alert-x does not exist." in everything_said(gone)


def test_with_nothing_logged_there_is_nothing_to_label(watched: StillEngine, open_page: Open) -> None:
    at = open_page(watched.home, PAGE, endpoint="new", tab="label")
    assert "No requests in this window." in everything_said(at)
    assert "Create labeling round" not in [button.label for button in at.button]


def test_settings_are_sent_whole(watched: StillEngine, open_page: Open) -> None:
    before = monitors.find(watched.database, "quiet")
    assert before is not None
    revision = before.revision
    at = open_page(watched.home, PAGE, endpoint="quiet")
    save = next(button for button in at.button if button.label == "Save")
    save.click().run()
    assert not at.exception
    monitor = monitors.find(watched.database, "quiet")
    assert monitor is not None
    assert monitor.config == {"reference_rows": 80, "price_of_prompt": 1.0, "price_of_completion": 2.0}
    assert monitor.revision == revision  # nothing that the tests rest on is another
    assert monitor.changed_by_name == Client(watched.home).me().name


def test_perplexity_is_watched_where_it_is_chosen_and_says_what_it_costs(
    watched: StillEngine, open_page: Open
) -> None:
    at = open_page(watched.home, PAGE, endpoint="new")
    assert "The time is shown here after the first check." in everything_said(at)
    chosen = next(each for each in at.multiselect if each.label == "Monitored values")
    assert "output_perplexity" not in chosen.value
    chosen.set_value([*chosen.value, "output_perplexity"])
    next(button for button in at.button if button.label == "Save").click().run()
    assert not at.exception
    monitor = monitors.find(watched.database, "new")
    assert monitor is not None
    assert monitor.config["watched"][-1] == "output_perplexity"


def test_the_last_look_says_how_many_answers_were_measured(watched: StillEngine, open_page: Open) -> None:
    look = BaseMeasurement(
        measured=180, left_out=1_200, cut=3, reasons={"the answer is a *label*": 20},
        seconds=1.24, loading=3.4,
    )  # fmt: skip
    before = monitors.find(watched.database, "quiet")
    assert before is not None
    settings = monitors.get_settings(before)
    asked = settings.model_copy(update={"watched": [*settings.watched, "output_perplexity"]})
    with watched.database.transaction() as tx:
        monitors.configure(tx, "quiet", asked, "you", before.changed_at)
        monitors.save_base_measurement(tx, "quiet", look)
    text = everything_said(open_page(watched.home, PAGE, endpoint="quiet"))
    assert "180 responses scored; 1,200 not sampled" in text
    assert "Base-model perplexity takes time" in text
    assert "1.2 s per response" in text


def test_a_link_to_what_is_gone_shows_the_rest(watched: StillEngine, open_page: Open) -> None:
    at = open_page(watched.home, PAGE, endpoint="gone", window="a year")
    assert "no longer exists" in at.warning[0].value
    assert not at.exception


@pytest.mark.parametrize(("requests", "step"), [(1, 1), (4, 1), (300, None)])
def test_an_axis_of_requests_has_no_half_ones(requests: int, step: int | None) -> None:
    point: TrafficPoint = {
        "at": datetime(2026, 1, 1), "requests": requests, "errors": 0, "refused": 0, "p50": 0.1, "p95": 0.2,
    }  # fmt: skip
    assert plot_requests([point]).layout.yaxis.dtick == step


def test_the_golden_sets_chart_has_n_and_no_bar_without_an_interval() -> None:
    at = datetime(2026, 1, 1)
    runs = [
        GoldenRun(job_id="a", queued_at=at, status="finished", figures=[_figure(0.5, 0.4, 0.6)]),
        GoldenRun(job_id="b", queued_at=at, status="finished", figures=[_figure(0.7, None, None)]),
    ]
    chart = plot_golden(runs, "eval/label_accuracy")
    bars, line = chart.data
    assert chart.layout.title.text == "Label accuracy"
    assert (list(bars.y), list(line.y)) == ([0.5], [0.5, 0.7])
    assert list(line.hovertext) == ["0.50 (0.40 to 0.60, n 200)", "0.70 (no interval, n 200)"]
    assert describe_golden_chart(runs, "eval/label_accuracy") == (
        "95% CI; n = 200 rows per evaluation. 1 of 2 evaluations without a CI."
    )


def _figure(value: float, low: float | None, high: float | None) -> Figure:
    return row_of(Figure, metric="eval/label_accuracy", value=value, low=low, high=high, n=200)


def test_too_few_tested_is_not_a_reference_that_is_missing() -> None:
    line = DriftLine("input_length", "Length", "collecting", "1", "1", 5, 80, 80, None, "", "")
    assert summarize_status([line], 0, 5) == StatusSummary("too_few", tested=20)
    assert describe_summary(StatusSummary("too_few", tested=20)) == (
        "Not enough data: fewer than 20 requests tested against the reference."
    )
    less = replace(line, tested=0, reference=40)
    assert summarize_status([less], 0, 5) == StatusSummary("no_reference")
