"""Which of two evaluations' answers a language model prefers. A judging is a job without a table of its own:
its result says it all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.db.records import records

if TYPE_CHECKING:
    from store.db.database import Queryable

KIND = "judge"


def of_pair(db: Queryable, first: str, second: str) -> list[dict[str, Any]]:
    """The jobs that judge these two evaluations, either way round, newest first."""
    sql = (
        "SELECT * FROM job WHERE kind = $1 AND list_sort([config ->> 'first', config ->> 'second'])"
        " = list_sort([$2, $3]) ORDER BY created_at DESC, job_id DESC"
    )
    return records(db.query(sql, [KIND, first, second]), ("config", "error", "result"))
