"""User feedback on responses, and the part of it that can be used for training. If a person gives several of
one kind on a response, the last one counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from store.db.named_query import named_query
from store.db.records import read_records, read_scalar
from store.monitoring.traffic import Window

if TYPE_CHECKING:
    from store.db.database import Queryable


def build_version_match_sql(version: str, model: str) -> str:
    """SQL: whether column `version` is a version of the registered model `model`, or the run behind one of
    its versions, served under its own name."""
    return f"""(starts_with({version}, {model} || '@') OR {version} IN (
        SELECT made_by.name FROM model_version registered JOIN registered_model USING (model_id)
            JOIN run made_by ON made_by.run_id = registered.run_id
        WHERE registered_model.name = {model}))"""


def build_requested_models_sql(model: str, where: str = "true") -> str:
    """SQL: endpoint_id and model, for each model name of an endpoint that a version of the registered model
    has ever answered. This includes requests that another version answered under that name, such as a
    candidate or a fallback; shadow copies are excluded."""
    return f"""
        SELECT DISTINCT answer.endpoint_id, answer.model FROM request answer
        WHERE answer.role <> 'shadow' AND {where} AND {build_version_match_sql("answer.version", model)}"""


@dataclass(kw_only=True)
class FeedbackCounts:
    """Counts of one version in one role, and of one group if grouped."""

    version: str
    role: str
    grouped_by: str | None
    thumbs: int
    up: int
    scores: int
    mean_score: float | None
    corrections: int
    labels: int  # responses known to be correct or not
    right: int


@dataclass(kw_only=True)
class UnmatchedFeedback:
    """All feedback, and the part without a logged request."""

    feedback: int
    unmatched: int


_LAST = "SELECT * FROM feedback WHERE endpoint_id = $1 AND given_at >= $2 AND given_at < $3 AND is_last"
_FIGURES = """
    count(*) FILTER (kind = 'thumb' AND value IS NOT NULL) AS thumbs,
    count(*) FILTER (kind = 'thumb' AND value > 0) AS up,
    count(*) FILTER (kind = 'score' AND value IS NOT NULL) AS scores,
    avg(value) FILTER (kind = 'score') AS mean_score,
    count(*) FILTER (kind = 'correction') AS corrections,
    count(*) FILTER (correct IS NOT NULL) AS labels,
    count(*) FILTER (correct) AS right
"""


@named_query
def by_version(db: Queryable, endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    """Feedback with a logged request; the live version first."""
    return _build_counts_query(
        db, endpoint_id, window, "NULL::VARCHAR", "version, role", "role <> 'live', role, version"
    )


@named_query
def by_group(db: Queryable, endpoint_id: str, window: Window) -> list[FeedbackCounts]:
    """Feedback on live responses by the caller's group, the largest first."""
    where = "role = 'live' AND grouped_by IS NOT NULL"
    return _build_counts_query(
        db, endpoint_id, window, "grouped_by", "version, role, grouped_by", "count(*) DESC", where
    )


def _build_counts_query(
    db: Queryable, endpoint_id: str, window: Window, group: str, by: str, order: str, where: str = "true"
) -> list[FeedbackCounts]:
    sql = f"""
        SELECT version, role, {group} AS grouped_by, {_FIGURES} FROM ({_LAST})
        WHERE version IS NOT NULL AND {where} GROUP BY {by} ORDER BY {order}"""
    return read_records(db.query(sql, [endpoint_id, *window]), FeedbackCounts)


@dataclass(kw_only=True)
class FeedbackEntry:
    """The last feedback of one kind by one person on one response, with its request if still stored."""

    request_id: str
    person_id: str | None
    kind: str  # correction | label
    text: str | None  # null: deleted
    asked_at: float | None  # null: the request was deleted
    messages: str | None  # JSON; null: not stored
    output: str | None


class FeedbackFilter(NamedTuple):
    """Which feedback to select. start, end: when it was given; places: requests behind an alert, or since:
    when these were sent; group: the caller's group, "" for any; model: requests under names that a version of
    this registered model has answered, "" for any."""

    endpoint_id: str
    start: datetime | None = None
    end: datetime | None = None
    places: tuple[int, int] | None = None
    since: datetime | None = None
    group: str = ""
    model: str = ""


_SAID = f"""
    FROM feedback f LEFT JOIN (
        SELECT * FROM request WHERE endpoint_id = $1 AND role <> 'shadow'
        QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY place DESC) = 1
    ) r ON r.request_id = f.request_id
    WHERE f.endpoint_id = $1 AND f.is_last AND f.kind IN ('correction', 'label')
        AND ($2::TIMESTAMP IS NULL OR f.given_at >= $2) AND ($3::TIMESTAMP IS NULL OR f.given_at < $3)
        AND ($4::BIGINT IS NULL OR r.place BETWEEN $4 AND $5)
        AND ($6::TIMESTAMP IS NULL OR r.asked_at >= $6)
        AND ($7 = '' OR f.grouped_by = $7)
        AND ($8 = ''
            OR r.request_id IS NULL AND (f.version IS NULL OR {build_version_match_sql("f.version", "$8")})
            OR r.model IN (SELECT model FROM ({build_requested_models_sql("$8", "answer.endpoint_id = $1")})))
"""


def list_entries(db: Queryable, which: FeedbackFilter) -> list[FeedbackEntry]:
    """Corrections and labels, the oldest request first."""
    sql = f"""
        SELECT f.request_id, f.person_id, f.kind, f.text,
            epoch(r.asked_at) AS asked_at, r.messages, r.output {_SAID}
        ORDER BY r.asked_at, f.request_id, f.given_at, f.feedback_id"""
    return read_records(db.query(sql, _build_params(which)), FeedbackEntry)


def count_entries(db: Queryable, which: FeedbackFilter) -> int:
    """Number of requests with corrections or labels."""
    return int(read_scalar(db.query(f"SELECT count(DISTINCT f.request_id) {_SAID}", _build_params(which))))


def _build_params(which: FeedbackFilter) -> list[object]:
    first, last = which.places or (None, None)
    times = which.start, which.end, first, last, which.since
    return [which.endpoint_id, *times, which.group, which.model]


def has_answered(db: Queryable, endpoint_id: str, model: str) -> bool:
    """Whether a version of a registered model has answered a logged request."""
    asked = f"SELECT count(*) FROM ({build_requested_models_sql('$2', 'answer.endpoint_id = $1')})"
    return bool(read_scalar(db.query(asked, [endpoint_id, model])))


@named_query
def callers_by_group(db: Queryable, endpoint_id: str, window: Window, kind: str) -> dict[str, dict[int, int]]:
    """For kind `thumb` or `label` on live responses: group -> share of good responses (parts of 64,
    engine.monitoring.comparisons.SHARE_GRID) -> number of callers."""
    good, there = ("value > 0", "value") if kind == "thumb" else ("correct", "correct")
    sql = f"""
        SELECT grouped_by, round(64 * good / answers)::INTEGER AS place, count(*) AS callers
        FROM (
            SELECT grouped_by, coalesce(caller, 'key of ' || person_id) AS who, count(*) AS answers,
                count(*) FILTER ({good}) AS good
            FROM ({_LAST}) WHERE role = 'live' AND kind = $4 AND {there} IS NOT NULL
                AND grouped_by IS NOT NULL AND coalesce(caller, person_id) IS NOT NULL
            GROUP BY ALL
        ) GROUP BY ALL ORDER BY ALL"""
    groups: dict[str, dict[int, int]] = {}
    for row in db.query(sql, [endpoint_id, *window, kind]).to_pylist():
        groups.setdefault(row["grouped_by"], {})[row["place"]] = row["callers"]
    return groups


@named_query
def unmatched(db: Queryable, endpoint_id: str, window: Window) -> UnmatchedFeedback:
    """How much feedback has no logged request."""
    sql = (
        "SELECT count(*) AS feedback, count(*) FILTER (version IS NULL) AS unmatched FROM feedback"
        " WHERE endpoint_id = ? AND given_at >= ? AND given_at < ?"
    )
    return read_records(db.query(sql, [endpoint_id, *window]), UnmatchedFeedback)[0]


MAX_NAMES = 3


@dataclass(kw_only=True)
class FeedbackTotals:
    """Corrections and labels on the responses of one endpoint."""

    endpoint_id: str
    corrections: int
    labels: int
    requests: int  # may have both
    with_texts: int  # requests with stored text
    people: int
    names: list[str]  # first few
    groups: list[str]  # named by callers


@named_query
def returned(db: Queryable, model: str, since: datetime | None = None) -> list[FeedbackTotals]:
    """Totals by endpoint, the most first. since: when it was given. Selected as for an improvement: requests
    under names that a version of the model has answered."""
    sql = f"""
        WITH names AS ({build_requested_models_sql("$1")}),
        asked AS (
            SELECT endpoint_id, request_id, arg_max(model, place) AS model,
                arg_max(messages IS NOT NULL, place) AS has_text
            FROM request WHERE role <> 'shadow' AND request_id IN (SELECT request_id FROM feedback)
            GROUP BY ALL),
        words AS (
            SELECT f.endpoint_id, f.request_id, f.kind, f.grouped_by, f.person_id,
                coalesce(p.name, CASE f.person_id WHEN 'owner' THEN 'you' END, 'somebody') AS name,
                coalesce(asked.has_text, false) AS has_text
            FROM feedback f LEFT JOIN person p ON p.person_id = f.person_id
                LEFT JOIN asked ON asked.endpoint_id = f.endpoint_id AND asked.request_id = f.request_id
            WHERE f.is_last AND f.kind IN ('correction', 'label') AND f.text IS NOT NULL
                AND ($2::TIMESTAMP IS NULL OR f.given_at >= $2)
                AND ((f.endpoint_id, asked.model) IN (SELECT (endpoint_id, model) FROM names)
                    OR asked.request_id IS NULL AND {build_version_match_sql("f.version", "$1")}
                    OR asked.request_id IS NULL AND f.version IS NULL
                        AND (f.endpoint_id IN (SELECT endpoint_id FROM names) OR f.endpoint_id IN (
                            SELECT endpoint_id FROM endpoint
                            WHERE contains(settings::VARCHAR, '"' || $1 || '@')))))
        SELECT endpoint_id,
            count(*) FILTER (kind = 'correction') AS corrections,
            count(*) FILTER (kind = 'label') AS labels,
            count(DISTINCT request_id) AS requests,
            count(DISTINCT request_id) FILTER (has_text) AS with_texts,
            count(DISTINCT person_id) AS people,
            list_sort(list(DISTINCT name))[:{MAX_NAMES}] AS names,
            coalesce(list_sort(list(DISTINCT grouped_by) FILTER (grouped_by IS NOT NULL)), []) AS groups
        FROM words GROUP BY endpoint_id ORDER BY requests DESC, endpoint_id"""
    return read_records(db.query(sql, [model, since]), FeedbackTotals)
