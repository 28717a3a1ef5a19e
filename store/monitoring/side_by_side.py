"""Candidates and shadows compared with the live version: outcomes by caller, and looks.

A caller is whom the gateway assigned to a version (`dealt_to`), since only that is randomized. Counts are
grouped by a caller's share of good responses, in parts of `GRID`, so that ten million requests become a few
hundred numbers. A look and the count that triggers it use the same rows.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from store.core.errors import NotFoundError
from store.core.monitoring_schemas import ArmComparison, OutcomeKind, SideBySide
from store.db.named_query import named_query, register_reference
from store.db.records import read_records, read_scalar, to_json

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

GRID = 4096  # as in engine.monitoring.comparisons
END, STEP = (
    64,
    16,
)  # full resolution near 0 and 1, coarser in between to keep few distinct values


@dataclass(kw_only=True)
class ArmCallers:
    """Callers of one version with the same share of good responses. place: the share or, for pairs, the mean
    difference, in parts of GRID."""

    other: bool  # candidate; otherwise live version, or a pair
    place: int
    callers: int
    answers: int
    shares: float  # exact sum of the callers' shares
    left_out: int  # responses of another version in its place, or to a caller of both


@dataclass(kw_only=True)
class LabelCounts:
    """Responses since the start of the comparison that are still stored."""

    answers: int
    labelled: int
    without_caller: int  # excluded from comparisons


@named_query
def listed(db: Queryable, endpoint_id: str) -> list[SideBySide]:
    """Active comparisons, candidates first."""
    sql = (
        "SELECT * FROM side_by_side WHERE endpoint_id = ? AND ended_at IS NULL ORDER BY role, model, live,"
        " other"
    )
    return read_records(db.query(sql, [endpoint_id]), SideBySide, ["looks"])


def begin(tx: Transaction, pair: SideBySide) -> None:
    """Store a new comparison."""
    row = {**vars(pair), "looks": to_json(pair.looks)}
    places = ", ".join(f"${name}" for name in row)
    tx.execute(f"INSERT INTO side_by_side ({', '.join(row)}) VALUES ({places})", row)


_THAT = "endpoint_id = ? AND model = ? AND live = ? AND other = ? AND role = ? AND ended_at IS NULL"


def _make_key(pair: SideBySide) -> list[object]:
    return [pair.endpoint_id, pair.model, pair.live, pair.other, pair.role]


def _get_active(db: Queryable, key: str) -> SideBySide:
    """The comparison with this JSON key. Raises NotFoundError."""
    with contextlib.suppress(ValueError):
        named = json.loads(key)
        if isinstance(named, list) and len(named) == 5 and all(isinstance(part, str) for part in named):
            sql = f"SELECT * FROM side_by_side WHERE {_THAT}"
            rows = read_records(db.query(sql, named), SideBySide, ["looks"])
            if rows:
                return rows[0]
    raise NotFoundError("These two versions are no longer compared.")


register_reference(SideBySide, lambda pair: json.dumps(_make_key(pair)), _get_active)


def end(tx: Transaction, pair: SideBySide, at: datetime) -> None:
    """End a comparison, because versions or shares changed or it restarts."""
    tx.execute(f"UPDATE side_by_side SET ended_at = ? WHERE {_THAT}", [at, *_make_key(pair)])


def set_since(tx: Transaction, pair: SideBySide, since: datetime) -> None:
    """Set the time from which responses count."""
    tx.execute(f"UPDATE side_by_side SET since = ? WHERE {_THAT}", [since, *_make_key(pair)])


def save_looks(tx: Transaction, pair: SideBySide, looks: dict[OutcomeKind, ArmComparison]) -> None:
    """Store the last look at each kind of outcome."""
    tx.execute(f"UPDATE side_by_side SET looks = ? WHERE {_THAT}", [to_json(looks), *_make_key(pair)])


def count_previous_looks(db: Queryable, pair: SideBySide, kind: OutcomeKind) -> int:
    """Looks of ended comparisons of these versions that spent alpha, at other shares or before an alert was
    acknowledged."""
    sql = (
        "SELECT coalesce(max((looks -> ? ->> 'look')::INTEGER), 0) FROM side_by_side WHERE endpoint_id = ?"
        " AND model = ? AND live = ? AND other = ? AND role = ? AND ended_at IS NOT NULL"
    )
    return int(read_scalar(db.query(sql, [kind, *_make_key(pair)])))


def find_first_answer(db: Queryable, pair: SideBySide) -> datetime | None:
    """The first response of the other version since the comparison was recorded, in the ingested log."""
    sql = (
        "SELECT min(asked_at) FROM request WHERE endpoint_id = ? AND asked_at >= ? AND model = ?"
        " AND version = ? AND role = ? AND status < 400"
    )
    values = [pair.endpoint_id, pair.noticed_at, pair.model, pair.other, pair.role]
    moment: datetime | None = read_scalar(db.query(sql, values))
    return moment


def count_answers(db: Queryable, pair: SideBySide, kind: OutcomeKind) -> int:
    """Responses with this kind of outcome, including a few that don't count because their callers have both
    versions."""
    sql = f"SELECT count(*) FROM ({_build_source_sql(kind)}) WHERE who IS NOT NULL AND own"
    return int(read_scalar(db.query(sql, _build_pair_params(pair))))


_GOOD: dict[OutcomeKind, tuple[str, str]] = {  # condition of a good response, and its feedback
    "labels": ("correct", "kind = 'label' AND correct IS NOT NULL"),
    "thumbs": ("value > 0", "kind = 'thumb' AND value IS NOT NULL"),
}


def _build_pair_params(pair: SideBySide) -> list[object]:
    return [pair.endpoint_id, pair.since, pair.live, pair.other, pair.model]


def _build_source_sql(kind: OutcomeKind) -> str:
    """Requests since the start: who they were assigned to, whether to the other version, whether that version
    responded, and whether well. For errors, a response of another version in its place is a failure."""
    dealt = "dealt_to AS who, dealt = $4 AS other"
    asked = "endpoint_id = $1 AND asked_at > $2 AND dealt IN ($3, $4) AND model = $5 AND role <> 'shadow'"
    if kind == "errors":
        return f"""
            SELECT {dealt}, true AS own, status < 400 AND version = dealt AS good FROM request
            WHERE {asked} AND (status < 400 OR status >= 500)"""
    good, where = _GOOD[kind]
    return f"""
        SELECT {dealt}, version = dealt AS own, {good} AS good FROM feedback
        WHERE {asked} AND is_last AND {where}"""


def _build_grid_sql(share: str) -> str:
    """A share in parts of GRID. Only exactly 0 or 1 is rounded to 0 or GRID."""
    part = f"{GRID} * ({share})"
    return f"""(CASE
        WHEN {share} <= 0 THEN 0 WHEN {share} >= 1 THEN {GRID}
        WHEN {part} <= {END} THEN greatest(1, round({part}))
        WHEN {part} >= {GRID - END} THEN least({GRID - 1}, round({part}))
        ELSE {STEP} * round({part} / {STEP}) END)::INTEGER"""


def count_callers(db: Queryable, pair: SideBySide, kind: OutcomeKind) -> list[ArmCallers]:
    """Callers of candidate and live version. A caller assigned to both, while shares changed, counts for the
    candidate."""
    sql = f"""
        WITH by_arm AS (
            SELECT who, other, count(*) FILTER (own) AS answers, count(*) FILTER (own AND good) AS good,
                count(*) FILTER (NOT own) AS stood_in
            FROM ({_build_source_sql(kind)}) WHERE who IS NOT NULL GROUP BY ALL
        ),
        dealt AS (SELECT *, other OR NOT bool_or(other) OVER (PARTITION BY who) AS counts FROM by_arm),
        shared AS (
            SELECT *, counts AND answers > 0 AS there, good / greatest(1, answers) AS share FROM dealt
        )
        SELECT other, {_build_grid_sql("share")} AS place,
            count(*) FILTER (there)::BIGINT AS callers,
            coalesce(sum(answers) FILTER (there), 0)::BIGINT AS answers,
            coalesce(sum(share) FILTER (there), 0)::DOUBLE AS shares,
            sum(stood_in + if(counts, 0, answers))::BIGINT AS left_out
        FROM shared GROUP BY ALL ORDER BY ALL"""
    return read_records(db.query(sql, _build_pair_params(pair)), ArmCallers)


_COPY_RIGHT = """
    CASE WHEN r.abstained THEN 0 ELSE (trim(coalesce(r.label, r.output)) = trim(f.text))::INTEGER END"""
_PAIRS = f"""
    SELECT r.dealt_to AS who, {_COPY_RIGHT} - f.correct::INTEGER AS gained
    FROM (
        SELECT request_id, text, correct FROM feedback
        WHERE endpoint_id = $1 AND asked_at > $2 AND is_last AND kind = 'label' AND correct IS NOT NULL
            AND text IS NOT NULL AND role = 'live' AND version = $3 AND model = $5
    ) f JOIN request r ON r.endpoint_id = $1 AND r.asked_at > $2 AND r.copy_of = f.request_id
        AND r.role = 'shadow' AND r.version = $4 AND r.model = $5 AND r.status < 400
    WHERE r.dealt_to IS NOT NULL AND {_COPY_RIGHT} IS NOT NULL"""


def count_pairs(db: Queryable, pair: SideBySide) -> int:
    """Labeled requests whose copy the shadow answered."""
    return int(read_scalar(db.query(f"SELECT count(*) FROM ({_PAIRS})", _build_pair_params(pair))))


def compute_caller_pairs(db: Queryable, pair: SideBySide) -> list[ArmCallers]:
    """For a shadow: the mean difference of each caller (shadow correct minus live correct), in parts of
    GRID."""
    sql = f"""
        SELECT false AS other, (sign(gained) * {_build_grid_sql("abs(gained)")})::INTEGER AS place,
            count(*) AS callers, sum(answers)::BIGINT AS answers, sum(gained)::DOUBLE AS shares,
            0::BIGINT AS left_out
        FROM (SELECT who, avg(gained) AS gained, count(*) AS answers FROM ({_PAIRS}) GROUP BY who)
        GROUP BY ALL ORDER BY ALL"""
    return read_records(db.query(sql, _build_pair_params(pair)), ArmCallers)


@named_query
def count_labelled(db: Queryable, pair: SideBySide) -> LabelCounts:
    """Stored responses that can have a label, and those without a known caller."""
    of, own = "role <> 'shadow' AND dealt IN ($3, $4)", "version = dealt"
    if pair.role == "shadow":
        of, own = "role = 'shadow' AND version IN ($3, $4)", "version = $4"
    sql = f"""
        SELECT count(*) FILTER ({own}) AS answers,
            count(*) FILTER ({own} AND coalesce(copy_of, request_id) IN (
                SELECT request_id FROM feedback WHERE endpoint_id = $1 AND is_last AND kind = 'label'
                    AND correct IS NOT NULL)) AS labelled,
            count(*) FILTER (dealt_to IS NULL) AS without_caller
        FROM request
        WHERE endpoint_id = $1 AND asked_at > $2 AND model = $5 AND status < 400 AND {of}"""
    return read_records(db.query(sql, _build_pair_params(pair)), LabelCounts)[0]
