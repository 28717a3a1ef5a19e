"""Candidates and shadows beside the live version: what is known of their answers, by caller, and the looks.

A caller is whom the request names, else whoever's key it came with; by that the gateway deals them. Counts
come by the share of a caller's answers that were good, in parts of `GRID`, so that ten million requests are a
few dozen numbers.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.records import records, scalar, to_json
from store.documents.serving.side_by_side import ArmsLook, OutcomeKind, SideBySide

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

GRID = 64  # as in engine.diagnostics.drift.arms
_WHO = "coalesce(r.caller, 'key of ' || r.person_id)"


class CallersOfArm(TypedDict):
    """How many callers of one version have a share, and their answers. place: the share, or of pairs the mean
    difference, in parts of GRID."""

    other: bool  # of the candidate; else of the live version, or a pair
    place: int
    callers: int
    answers: int
    left_out: int  # live answers to callers of the candidate


def listed(db: Queryable, endpoint_id: str) -> list[SideBySide]:
    """Those that go on, candidates first."""
    sql = (
        "SELECT * FROM side_by_side WHERE endpoint_id = ? AND ended_at IS NULL ORDER BY role, model, live,"
        " other"
    )
    return records(db.query(sql, [endpoint_id]), SideBySide, ["looks"])


def begin(tx: Transaction, pair: SideBySide) -> None:
    """Notice it."""
    columns = ", ".join(pair)
    values = [*list(pair.values())[:-1], to_json(pair["looks"])]
    tx.execute(f"INSERT INTO side_by_side ({columns}) VALUES ({', '.join('?' * len(pair))})", values)


_THAT = "endpoint_id = ? AND model = ? AND live = ? AND other = ? AND role = ? AND ended_at IS NULL"


def _named(pair: SideBySide) -> list[object]:
    return [pair["endpoint_id"], pair["model"], pair["live"], pair["other"], pair["role"]]


def end(tx: Transaction, pair: SideBySide, at: datetime) -> None:
    """Its versions or shares are others, or it begins anew."""
    tx.execute(f"UPDATE side_by_side SET ended_at = ? WHERE {_THAT}", [at, *_named(pair)])


def set_since(tx: Transaction, pair: SideBySide, since: datetime) -> None:
    """From when answers count."""
    tx.execute(f"UPDATE side_by_side SET since = ? WHERE {_THAT}", [since, *_named(pair)])


def keep_looks(tx: Transaction, pair: SideBySide, looks: dict[OutcomeKind, ArmsLook]) -> None:
    """The last look at each kind of outcome."""
    tx.execute(f"UPDATE side_by_side SET looks = ? WHERE {_THAT}", [to_json(looks), *_named(pair)])


def first_answer(db: Queryable, pair: SideBySide) -> datetime | None:
    """When the other version first answered since it was noticed, as far as the log is in the store."""
    sql = (
        "SELECT min(asked_at) FROM request WHERE endpoint_id = ? AND asked_at >= ? AND model = ?"
        " AND version = ? AND role = ? AND status < 400"
    )
    values = [pair["endpoint_id"], pair["noticed_at"], pair["model"], pair["other"], pair["role"]]
    moment: datetime | None = scalar(db.query(sql, values))
    return moment


def count_answers(db: Queryable, pair: SideBySide, kind: OutcomeKind) -> int:
    """How many there may be of this kind; a few more than count in the end."""
    if kind == "errors":
        sql = (
            "SELECT coalesce(sum(requests - refused), 0) FROM request_minute WHERE endpoint_id = ?"
            " AND starts_at >= ? AND version IN (?, ?) AND role IN ('live', 'candidate')"
        )
        return int(scalar(db.query(sql, [pair["endpoint_id"], pair["since"], pair["live"], pair["other"]])))
    sql = f"SELECT count(*) FROM ({_reported(kind)}) r"
    return int(scalar(db.query(sql, [pair["endpoint_id"], pair["since"], pair["live"], pair["other"]])))


def _reported(kind: OutcomeKind) -> str:
    """Answers that people have said something of."""
    good = "correct" if kind == "labels" else "value > 0"
    where = "kind = 'label' AND correct IS NOT NULL" if kind == "labels" else "kind = 'thumb'"
    return f"""
        SELECT caller, person_id, role = 'candidate' AS other, {good} AS good FROM feedback
        WHERE endpoint_id = $1 AND given_at > $2 AND is_last AND {where}
            AND (role = 'live' AND version = $3 OR role = 'candidate' AND version = $4)"""


_GIVEN = """
    SELECT caller, person_id, dealt = $4 AS other, status < 400 AND version = dealt AS good FROM request
    WHERE endpoint_id = $1 AND asked_at > $2 AND dealt IN ($3, $4) AND model = $5
        AND role <> 'shadow' AND (status < 400 OR status >= 500)"""


def callers(db: Queryable, pair: SideBySide, kind: OutcomeKind) -> list[CallersOfArm]:
    """Of a candidate and the live version. A caller of the candidate, whom the live version answered now and
    then, is one of the candidate; of errors such an answer is a failure, as the live version had to step
    in."""
    source = _GIVEN if kind == "errors" else _reported(kind)
    # by whom labels and thumbs are known is the role; whoever has answers of both is the candidate's
    sql = f"""
        WITH by_arm AS (
            SELECT {_WHO} AS who, other, count(*) AS answers, count(*) FILTER (good) AS good
            FROM ({source}) r WHERE {_WHO} IS NOT NULL GROUP BY ALL
        ),
        dealt AS (SELECT *, other OR NOT bool_or(other) OVER (PARTITION BY who) AS counts FROM by_arm)
        SELECT other, round({GRID} * good / answers)::INTEGER AS place,
            count(*) FILTER (counts)::BIGINT AS callers,
            coalesce(sum(answers) FILTER (counts), 0)::BIGINT AS answers,
            coalesce(sum(answers) FILTER (NOT counts), 0)::BIGINT AS left_out
        FROM dealt GROUP BY ALL ORDER BY ALL"""
    values: list[object] = [pair["endpoint_id"], pair["since"], pair["live"], pair["other"]]
    return records(db.query(sql, [*values, pair["model"]] if kind == "errors" else values), CallersOfArm)


_PAIRS = """
    SELECT {who} AS who, {copy}::INTEGER - f.correct::INTEGER AS gained
    FROM (
        SELECT request_id, text, correct FROM feedback
        WHERE endpoint_id = $1 AND given_at > $2 AND is_last AND kind = 'label' AND correct IS NOT NULL
            AND text IS NOT NULL AND role = 'live' AND version = $3
    ) f JOIN request r ON r.endpoint_id = $1 AND r.asked_at >= $2 AND r.copy_of = f.request_id
        AND r.role = 'shadow' AND r.version = $4 AND r.status < 400
    WHERE {who} IS NOT NULL AND {copy} IS NOT NULL"""
PAIRS = _PAIRS.format(who=_WHO, copy="(trim(coalesce(r.label, r.output)) = trim(f.text))")


def count_pairs(db: Queryable, pair: SideBySide) -> int:
    """Labels of requests of which the shadow answered a copy."""
    values = [pair["endpoint_id"], pair["since"], pair["live"], pair["other"]]
    return int(scalar(db.query(f"SELECT count(*) FROM ({PAIRS})", values)))


def caller_pairs(db: Queryable, pair: SideBySide) -> list[CallersOfArm]:
    """Of a shadow: the mean difference of each caller (right by the shadow less right by the live version),
    in parts of GRID."""
    sql = f"""
        SELECT false AS other, round({GRID} * gained)::INTEGER AS place, count(*) AS callers,
            sum(answers)::BIGINT AS answers, 0::BIGINT AS left_out
        FROM (SELECT who, avg(gained) AS gained, count(*) AS answers FROM ({PAIRS}) GROUP BY who)
        GROUP BY ALL ORDER BY ALL"""
    return records(db.query(sql, [pair["endpoint_id"], pair["since"], pair["live"], pair["other"]]),
                   CallersOfArm)  # fmt: skip
