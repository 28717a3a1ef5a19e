"""Candidates and shadows beside the live version: noticed, looked at as answers come, and warned of.

What there is says the endpoint's `config.json`. Another share begins with answers of its own: who is in
which share must not change while versions are compared. Each pair of versions has an own alpha, apart from
that of drift, which its kinds of outcome share, and all its comparisons do: looks are counted on from step
to step of a share, so that a candidate that is let in bit by bit has one chance of a false word, and not
one a step. What each look left is committed with its alert, so that a look that is made again after a kill
is the same one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from engine.diagnostics.drift.arms import Look, compare, compare_pairs, next_look
from engine.diagnostics.drift.arms_words import ADVICE, worse_reason
from engine.server.endpoints.endpoint_folders import EndpointFolder
from engine.server.scheduling.monitor_alerting import Warned, raise_alert
from store.contract.home import Home
from store.db.database import Database, Transaction
from store.documents.figures.estimate import Estimate
from store.documents.serving.endpoint import ServedModel
from store.documents.serving.side_by_side import ArmSeen, ArmsLook, OutcomeKind, SideBySide, SureDifference
from store.queries import jobs
from store.queries.monitoring import monitors, side_by_side
from store.queries.monitoring.side_by_side import CallersOfArm

ALPHA = 0.05  # of a pair
KINDS: tuple[OutcomeKind, ...] = ("labels", "thumbs", "errors")
SUBJECT = "candidate"  # of its alerts


class PairOfRoutes(NamedTuple):
    """A candidate or a shadow, and the version beside which it stands."""

    model: str
    live: str
    other: str
    role: Literal["candidate", "shadow"]
    share: float


def look_at_pairs(database: Database, home: Home, endpoint_id: str, at: float) -> None:
    """Notice what is there, and look where there are answers enough."""
    config = EndpointFolder(home, endpoint_id).config()
    routes = [pair for model in (config["models"] if config else []) for pair in _pairs(model)]
    if not routes and not side_by_side.listed(database, endpoint_id):
        return
    with database.transaction() as tx:
        if monitors.find(tx, endpoint_id) is None:
            return
        _notice(tx, endpoint_id, routes, jobs.utc(at))
    for pair in side_by_side.listed(database, endpoint_id):
        with database.transaction() as tx:
            _look_at(tx, pair, at)


def _pairs(model: ServedModel) -> Iterator[PairOfRoutes]:
    live = next((route["version"] for route in model["routes"] if route["role"] == "live"), None)
    for route in model["routes"]:
        role, other = route["role"], route["version"]
        if live is not None and role in ("candidate", "shadow") and other != live:
            named: Literal["candidate", "shadow"] = "candidate" if role == "candidate" else "shadow"
            yield PairOfRoutes(model["name"], live, other, named, route["share"])


def _notice(tx: Transaction, endpoint_id: str, routes: Sequence[PairOfRoutes], now: datetime) -> None:
    present = {
        PairOfRoutes(pair["model"], pair["live"], pair["other"], pair["role"], pair["share"]): pair
        for pair in side_by_side.listed(tx, endpoint_id)
    }
    for gone in present.keys() - set(routes):
        side_by_side.end(tx, present[gone], now)
    for route in dict.fromkeys(routes):
        if route not in present:
            new: SideBySide = {
                "endpoint_id": endpoint_id, "model": route.model, "live": route.live, "other": route.other,
                "role": route.role, "share": route.share, "noticed_at": now, "since": None, "ended_at": None,
                "looks": {},
            }  # fmt: skip
            side_by_side.begin(tx, new)


def _look_at(tx: Transaction, pair: SideBySide, at: float) -> None:
    since = pair["since"] or side_by_side.first_answer(tx, pair)
    if since is None:
        return
    if pair["since"] is None:
        side_by_side.set_since(tx, pair, since)
        pair["since"] = since
    looks = dict(pair["looks"])
    for kind in KINDS if pair["role"] == "candidate" else KINDS[:1]:
        seen = _next_look(tx, pair, kind, at)
        if seen is None:
            continue
        looks[kind] = seen
        sure = seen["sure"]
        if sure and sure["at"] == at and sure["verdict"] == "worse" and pair["role"] == "candidate":
            reason = worse_reason(pair, kind, seen, ALPHA)
            warned = Warned("quality", SUBJECT, reason, ADVICE, jobs.epoch(since))
            raise_alert(tx, pair["endpoint_id"], warned, at)
    if looks != pair["looks"]:
        side_by_side.keep_looks(tx, pair, looks)


def _next_look(tx: Transaction, pair: SideBySide, kind: OutcomeKind, at: float) -> ArmsLook | None:
    """None where there are not answers enough for another one."""
    past, pairs = pair["looks"].get(kind), pair["role"] == "shadow"
    least = past["next_look"] if past else next_look(0)
    count = side_by_side.count_pairs(tx, pair) if pairs else side_by_side.count_answers(tx, pair, kind)
    if count < least:
        return None
    rows = side_by_side.caller_pairs(tx, pair) if pairs else side_by_side.callers(tx, pair, kind)
    spent = past["look"] if past else side_by_side.looks_before(tx, pair, kind)
    seen = _look(rows, past, spent, at, pairs=pairs)
    return seen if seen["answers"] >= least else None  # fewer of them count than there are


def _look(rows: list[CallersOfArm], past: ArmsLook | None, spent: int, at: float, *, pairs: bool) -> ArmsLook:
    """One look after so many that spent alpha; it spends none where so few callers could not have told
    anything."""
    live, other = ({row["place"]: row["callers"] for row in rows if row["other"] == side and row["callers"]}
                   for side in (False, True))  # fmt: skip
    number = spent + 1
    seen = compare_pairs(live, number, ALPHA) if pairs else compare(live, other, number, ALPHA / len(KINDS))
    answers = [sum(row["answers"] for row in rows if row["other"] == side) for side in (False, True)]
    sure = _sure(past["sure"] if past else None, seen, sum(answers), at)
    return {
        "look": number if seen.attainable else spent,
        "few": not seen.attainable,
        "answers": sum(answers),
        "next_look": next_look(sum(answers)),
        "at": at,
        "live": _arm(rows, seen.first_callers, answers[0], other=False, pairs=pairs),
        "other": _arm(
            rows, seen.second_callers, answers[0] if pairs else answers[1], other=True, pairs=pairs
        ),
        "left_out": sum(row["left_out"] for row in rows),
        "difference": _estimate(seen),
        "p": seen.p,
        "alpha": seen.alpha,
        "sure": sure,
    }


def _sure(past: SureDifference | None, seen: Look, answers: int, at: float) -> SureDifference | None:
    """What is sure since when: a look that is sure of the opposite takes the place of the one before."""
    if not seen.attainable or not (seen.better or seen.worse):
        return past
    verdict: Literal["better", "worse"] = "better" if seen.better else "worse"
    if past and past["verdict"] == verdict:
        return past
    return {"verdict": verdict, "answers": answers, "at": at}


def _estimate(seen: Look) -> Estimate:
    estimate = seen.difference.to_dict()
    if seen.difference.low is None:
        estimate["value"] = 0.0
    return estimate


def _arm(rows: list[CallersOfArm], callers: int, answers: int, *, other: bool, pairs: bool) -> ArmSeen:
    """Its share is of the callers' shares as they are, not as they are rounded for the test."""
    shares = math.fsum(row["shares"] for row in rows if row["other"] == other)
    share = shares / callers if callers and not pairs else None
    return {"callers": callers, "answers": answers, "share": share}
