"""What people said that can be trained on, corrections and labels, of the answers of endpoints that serve a
registered model or have answered as a version of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, TypedDict

from store.db.named_query import named_query
from store.db.records import records
from store.queries.monitoring.answered_as import answered_as, asked_for

if TYPE_CHECKING:
    from store.db.database import Queryable

MOST_NAMES = 3


class Returned(TypedDict):
    """Corrections and labels of the answers of one endpoint."""

    endpoint_id: str
    corrections: int
    labels: int
    requests: int  # that they are of; one may have both
    with_texts: int  # of the requests: those whose texts the log has
    people: int
    names: list[str]  # of the first few of them
    groups: list[str]  # that callers named


@named_query
def returned(db: Queryable, model: str, since: datetime | None = None) -> list[Returned]:
    """By endpoint, the most first; `since`: what was given from then on. As an improvement takes it
    (store.queries.monitoring.feedback.words): of requests for names that a version of the model answered."""
    sql = f"""
        WITH names AS ({asked_for("$1")}),
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
                    OR asked.request_id IS NULL AND {answered_as("f.version", "$1")}
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
            list_sort(list(DISTINCT name))[:{MOST_NAMES}] AS names,
            coalesce(list_sort(list(DISTINCT grouped_by) FILTER (grouped_by IS NOT NULL)), []) AS groups
        FROM words GROUP BY endpoint_id ORDER BY requests DESC, endpoint_id"""
    return records(db.query(sql, [model, since]), Returned)
