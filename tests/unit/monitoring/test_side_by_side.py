"""A candidate beside the live version: what is sure, what is an alert, and what begins anew."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.made.monitored import Monitored
from bench.made.request_log import append
from bench.made.two_versions import LIVE, OTHER, TwoVersions, lines, routes
from engine.monitoring.comparisons import (
    GRID,
    classify_outcome,
    compare_callers,
    compare_paired_callers,
    compute_group_gaps,
    compute_look_alpha,
    compute_next_look,
)
from engine.monitoring.text import describe_deletion, describe_outcome
from store.core.monitoring_schemas import MonitorAlert, SideBySide
from store.core.schemas import Person
from store.db.records import to_json
from store.monitoring import monitor_alerts, monitors, side_by_side, traffic
from store.serving.schemas import EndpointConfig
from tests.unit.store_samples import row_of

OWNER = Person(person_id="p-ada", name="Ada", role="admin")


def test_one_answer_a_caller_is_fishers_exact_test() -> None:
    seen = compare_callers({GRID: 14, 0: 2}, {GRID: 5, 0: 9}, 1, 0.05)
    exact = 2 * stats.hypergeom(30, 19, 14).cdf(5)
    assert seen.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert (seen.first, seen.second) == (14 / 16, 5 / 14)
    assert seen.worse
    assert seen.difference.high is not None
    assert seen.difference.high <= 0


def test_pairs_of_one_request_are_the_sign_test() -> None:
    seen = compare_paired_callers({GRID: 2, 0: 30, -GRID: 14}, 1, 0.05)
    exact = 2 * stats.binom(16, 0.5).cdf(2)
    assert seen.p == pytest.approx(exact, abs=4 * np.sqrt(exact / 20_000))
    assert seen.difference.value == pytest.approx(-12 / 46)
    assert not compare_paired_callers({0: 40}, 1, 0.05).attainable


def test_looks_spend_alpha_together_and_come_when_half_as_much_is_known() -> None:
    assert sum(compute_look_alpha(look, 0.05) for look in range(1, 100_000)) == pytest.approx(0.05, abs=1e-5)
    assert [compute_next_look(0), compute_next_look(20), compute_next_look(30)] == [20, 30, 45]


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_says_what_the_test_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = [
        np.round(GRID * rng.beta(8 - gain, 2 + gain, n)).astype(int) for gain, n in ((0, 30), (seed, 20))
    ]
    first, second = ({int(place): int((side == place).sum()) for place in side} for side in shares)
    seen = compare_callers(first, second, 2, 0.05)
    assert seen.difference.low is not None
    assert seen.difference.high is not None
    assert seen.difference.low <= seen.difference.value <= seen.difference.high
    assert (seen.p > seen.alpha) == (seen.difference.low <= 0 < seen.difference.high)


def test_few_callers_can_tell_nothing_whatever_they_say() -> None:
    seen = compare_callers({GRID: 4}, {0: 4}, 1, 0.05 / 3)
    assert not seen.attainable
    assert not seen.worse
    assert compare_callers({GRID: 4}, {}, 1, 0.05).difference.why


def test_a_group_that_is_worse_off_is_told_and_equal_ones_hardly_ever() -> None:
    groups = {"web": {64: 40, 32: 5}, "app": {64: 10, 32: 12, 0: 18}, "few": {0: 3}}
    gaps, few = compute_group_gaps(groups)
    assert few == ["few"]
    assert [(each.group, each.callers, each.gap.above, each.gap.below) for each in gaps] == [
        ("web", 45, True, False), ("app", 40, False, True),
    ]  # fmt: skip
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(200):
        drawn = {
            str(group): Counter(np.round(64 * rng.beta(4, 1, 25)).astype(int).tolist()) for group in range(6)
        }
        wrong += any(each.gap.above or each.gap.below for each in compute_group_gaps(drawn)[0])
    assert wrong <= 16


# -- from the log to the alert ------------------------------------------------------------------------


def serve(monitored: Monitored, role: str = "candidate", share: float = 0.5) -> None:
    models = [{"name": "intents", "routes": routes(share, role)}]
    path = monitored.home.endpoints / "endpoint-1" / "config.json"
    path.write_text(to_json(row_of(EndpointConfig, models=models)))
    monitored.now += 61
    monitored.monitoring.step()


def send(monitored: Monitored, asked: TwoVersions, seed: int = 0) -> None:
    made = list(lines(asked, monitored.now + 1, np.random.default_rng(seed)))
    requests = [line for line in made if "kind" in line and line["kind"] != "label"]
    append(monitored.log / "requests-000000.jsonl", requests)  # type: ignore[arg-type]
    append(monitored.log / "feedback-000000.jsonl", [line for line in made if line["kind"] == "label"])
    monitored.now += len(requests) + 61
    while monitored.monitoring.step() == 0:
        pass
    monitored.now += 61
    monitored.monitoring.step()


def begin(monitored: Monitored, role: str = "candidate") -> None:
    """Something was asked before the other version came."""
    send(monitored, TwoVersions(callers=1, share=0.0, most=2))
    serve(monitored, role)


def alerts(monitored: Monitored) -> list[MonitorAlert]:
    return monitor_alerts.open_alerts(monitored.database, "endpoint-1")


def pairs(monitored: Monitored) -> list[SideBySide]:
    return side_by_side.listed(monitored.database, "endpoint-1")


def test_a_candidate_that_is_worse_raises_one_alert_and_begins_anew_once_it_is_seen(
    monitored: Monitored,
) -> None:
    begin(monitored)
    send(monitored, TwoVersions(other_right=0.5))
    (alert,) = alerts(monitored)
    assert (alert.kind, alert.subject) == ("quality", "candidate")
    assert f"{OTHER} is worse than {LIVE}" in alert.reason
    assert re.search(r"\d+ callers vs. \d+ callers, each counted once", alert.reason), alert.reason
    assert "share to 0" in alert.advice
    behind = traffic.bad_of_candidate(monitored.database, "endpoint-1", alert.since, limit=8)
    assert len(behind) == 8
    assert {(row.label, row.category) for row in behind} == {("no", "expected: yes")}
    (pair,) = pairs(monitored)
    look = pair.looks["labels"]
    assert look.sure is not None
    assert look.sure.verdict == "worse"
    assert look.sure.answers <= look.answers < look.next_look
    assert look.difference.high is not None
    assert look.difference.high <= 0
    monitored.next_engine()
    send(monitored, TwoVersions(other_right=0.5), seed=1)
    assert len(alerts(monitored)) == 1  # no second one, and not by another engine either
    monitored.commands.table()["acknowledge_alert"]({"alert": alert.alert_id}, OWNER)
    assert not pairs(monitored)
    monitored.now += 61
    monitored.monitoring.step()
    assert pairs(monitored)[0].looks == {}
    send(monitored, TwoVersions(), seed=2)  # mended
    assert not alerts(monitored)
    assert pairs(monitored)[0].looks["labels"].sure is None


def test_a_candidate_that_is_better_is_no_alarm(monitored: Monitored) -> None:
    begin(monitored)
    send(monitored, TwoVersions(live_right=0.5))
    assert not alerts(monitored)
    sure = pairs(monitored)[0].looks["labels"].sure
    assert sure is not None
    assert sure.verdict == "better"


def test_answers_that_the_live_version_gave_in_its_place_count_as_failures(monitored: Monitored) -> None:
    begin(monitored)
    send(monitored, TwoVersions(failing=0.4))
    looks = pairs(monitored)[0].looks
    assert looks["errors"].sure is not None
    assert looks["errors"].other.share == pytest.approx(0.6, abs=0.1)
    assert looks["errors"].live.share == 1
    assert looks["labels"].left_out > 0  # live answers to callers of the candidate
    assert looks["labels"].other.callers >= 25
    assert "successful responses" in alerts(monitored)[0].reason


def test_a_shadow_is_compared_on_the_same_requests_and_warns_nobody(monitored: Monitored) -> None:
    begin(monitored, "shadow")
    send(monitored, TwoVersions(callers=30, other_right=0.5, shadow=True))
    (pair,) = pairs(monitored)
    look = pair.looks["labels"]
    assert look.sure is not None
    assert look.sure.verdict == "worse"
    assert look.live.callers == 30
    assert not alerts(monitored)
    since = datetime(2020, 1, 1)
    slowest = traffic.troubled(monitored.database, "endpoint-1", since, kind="latency", limit=10_000)
    assert slowest
    assert not [request for request in slowest if request.request_id.endswith("-copy")]


def test_another_share_begins_anew_and_what_is_taken_away_ends(monitored: Monitored) -> None:
    begin(monitored)
    send(monitored, TwoVersions(callers=10))
    assert pairs(monitored)[0].looks
    serve(monitored, share=0.2)
    assert [(pair.share, pair.looks, pair.since) for pair in pairs(monitored)] == [(0.2, {}, None)]
    config = to_json(row_of(EndpointConfig, models=[]))
    (monitored.home.endpoints / "endpoint-1" / "config.json").write_text(config)
    monitored.now += 61
    monitored.monitoring.step()
    assert not pairs(monitored)


def test_the_steps_of_a_share_spend_one_alpha_together(monitored: Monitored) -> None:
    begin(monitored)
    numbers = []
    for step, share in enumerate((0.5, 0.4, 0.6)):
        serve(monitored, share=share)
        send(monitored, TwoVersions(callers=60, share=share), seed=step)
        look = pairs(monitored)[0].looks["labels"]
        numbers.append((look.look, look.alpha))
    assert all(later[0] > earlier[0] for earlier, later in pairwise(numbers))
    assert all(alpha == pytest.approx(compute_look_alpha(number, 0.05 / 3)) for number, alpha in numbers)
    (pair,) = pairs(monitored)
    assert side_by_side.count_previous_looks(monitored.database, pair, "labels") == numbers[1][0]
    assert (
        side_by_side.count_previous_looks(monitored.database, replace(pair, other="intents@9"), "labels") == 0
    )
    few = replace(pair.looks["labels"], few=True)
    assert classify_outcome(few) == "few_callers"


def write(monitored: Monitored, made: list[Any], series: str = "requests") -> None:
    append(monitored.log / f"{series}-000000.jsonl", made)
    monitored.now += 3_600
    while monitored.monitoring.step() == 0:
        pass
    monitored.now += 61
    monitored.monitoring.step()


def test_labels_of_requests_from_before_and_of_another_model_count_for_nobody(monitored: Monitored) -> None:
    before = list(lines(TwoVersions(callers=40, share=0.0, most=5), monitored.now, np.random.default_rng(7)))
    write(monitored, [line for line in before if line["kind"] != "label"])
    serve(monitored)
    send(monitored, TwoVersions(callers=30, most=5))
    live = pairs(monitored)[0].looks["labels"].live
    count = side_by_side.count_answers(monitored.database, pairs(monitored)[0], "labels")
    late: list[Any] = [line | {"at": monitored.now} for line in before if line["kind"] == "label"]
    write(monitored, late, "feedback")
    other = list(lines(TwoVersions(callers=40, most=5), monitored.now, np.random.default_rng(8)))
    asked = [line | {"model": "another"} for line in other if line["kind"] != "label"]
    write(monitored, asked)
    write(monitored, [line for line in other if line["kind"] == "label"], "feedback")
    (pair,) = pairs(monitored)
    assert pair.looks["labels"].live == live
    assert {side_by_side.count_answers(monitored.database, pair, kind) for kind in ("labels", "errors")} == {
        count
    }


def test_whoever_sends_the_labels_the_caller_is_to_whom_it_was_dealt(monitored: Monitored) -> None:
    """One key without `user` in each arm, and labels by many people: two callers, who can tell nothing."""
    begin(monitored)
    made: list[Any] = list(lines(TwoVersions(other_right=0.3), monitored.now, np.random.default_rng(3)))
    for place, line in enumerate(made):
        line["person_id"] = f"person-{place % 40}"
        if line["kind"] != "label":
            line["dealt_to"] = f"key-of-{line['dealt']}"
    nameless = {**made[-2], "request_id": "nameless", "dealt_to": None}
    write(monitored, [nameless, *(line for line in made if line["kind"] != "label")])
    write(monitored, [line for line in made if line["kind"] == "label"], "feedback")
    look = pairs(monitored)[0].looks["labels"]
    assert (look.live.callers, look.other.callers, look.sure) == (1, 1, None)
    assert not alerts(monitored)
    seen = side_by_side.count_labelled(monitored.database, pairs(monitored)[0])
    assert seen.without_caller == 1
    assert look.answers <= seen.labelled == seen.answers - 1


def test_one_failure_in_hundreds_is_none_of_the_callers_that_had_none(monitored: Monitored) -> None:
    begin(monitored)
    made: list[Any] = list(lines(TwoVersions(callers=4, most=2), monitored.now + 1, np.random.default_rng(5)))
    asked = [line for line in made if line["kind"] != "label"]
    first = next(line for line in asked if line["dealt"] == OTHER)
    many = [{**first, "request_id": f"more-{place}", "at": first["at"] + 100} for place in range(400)]
    many[7] |= {"status": 502, "error": "backend_broken"}
    write(monitored, [*asked, *many])
    (pair,) = pairs(monitored)
    rows = side_by_side.count_callers(monitored.database, pair, "errors")
    assert {row.place for row in rows if not row.other} == {GRID}
    worst = min(rows, key=lambda row: row.place)
    assert (worst.callers, worst.other) == (1, True)
    assert 0.997 < worst.shares < 1
    assert worst.place / GRID == pytest.approx(worst.shares, abs=1 / GRID)
    share = pair.looks["errors"].other.share
    assert share is not None
    assert share == pytest.approx((worst.shares + 1) / 2)


def test_what_brings_a_look_is_counted_of_what_it_looks_at(monitored: Monitored) -> None:
    begin(monitored)
    send(monitored, TwoVersions(callers=30, most=5))
    (pair,) = pairs(monitored)
    assert pair.since is not None
    with monitored.database.transaction() as tx:
        monitors.forget_before(tx, "endpoint-1", pair.since + timedelta(seconds=40))
    rows = side_by_side.count_callers(monitored.database, pair, "errors")
    count = side_by_side.count_answers(monitored.database, pair, "errors")
    assert 0 < count == sum(row.answers for row in rows) < pair.looks["errors"].answers + 40
    assert describe_deletion(pair, 30, pair.since + timedelta(days=29)) == ""
    assert "older failures no longer count" in describe_deletion(pair, 30, pair.since + timedelta(days=31))


def test_a_later_look_that_is_sure_of_the_opposite_is_what_is_told(monitored: Monitored) -> None:
    begin(monitored)
    send(monitored, TwoVersions(live_right=0.4, other_right=0.99, most=10))
    (pair,) = pairs(monitored)
    first = pair.looks["labels"]
    assert first.sure is not None
    assert first.sure.verdict == "better"
    assert not alerts(monitored)
    unsure = replace(first, p=0.5)
    assert classify_outcome(unsure) == "lapsed"
    assert describe_outcome("lapsed", pair, unsure)[0] == "No longer significant"
    send(monitored, TwoVersions(callers=300, live_right=0.95, other_right=0.1, most=10), seed=1)
    now = pairs(monitored)[0].looks["labels"].sure
    assert now is not None
    assert now.verdict == "worse"
    assert now.answers > first.sure.answers
    assert [alert.subject for alert in alerts(monitored)] == ["candidate"]
