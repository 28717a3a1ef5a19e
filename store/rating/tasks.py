"""Task assignment: units of a round with their rating counts, holds, and the progress of each rater."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from store.core.rating_schemas import AssignedTask, Purpose
from store.db.records import read_records, read_scalar

if TYPE_CHECKING:
    from store.core.rating_schemas import Round
    from store.db.database import Queryable, Transaction

# Units of a round with their number of ratings, from which tasks are assigned.
#
# A unit is a prompt and the models whose answers to it are compared or rated. The counts are stored because
# counting the ratings of all units for each new task is slow. Code that adds ratings in bulk deletes the
# counts, and the next assignment rebuilds them.

# Bit mask of a task's models, independent of display order.
SYSTEMS = "list_sum(list_transform(systems, lambda system: 1::BIGINT << system))::BIGINT"
# Latest answers of a round, without skips.
_ANSWERED = """
    SELECT task_id, max_by(answer, revision) AS answer FROM rating WHERE round_id = $round
    GROUP BY task_id HAVING max_by(answer, revision) ->> 'skipped' IS NULL
"""
_OWN = (
    f"SELECT item_id, {SYSTEMS} AS systems FROM rating_task WHERE round_id = $round AND person_id = $person"
)
# Verdict of a rating, independent of display order: equal for ratings that agree.
_VERDICT = """
    CASE $protocol
        WHEN 'pairwise' THEN CASE answer ->> 'choice'
            WHEN 'A' THEN systems[1]::VARCHAR WHEN 'B' THEN systems[2]::VARCHAR ELSE answer ->> 'choice' END
        WHEN 'rank' THEN list_sort(list_zip(systems, from_json(answer -> 'ranks', '["INTEGER"]')))::VARCHAR
        WHEN 'label' THEN coalesce(answer ->> 'label', answer ->> 'labels', '')
        ELSE answer::VARCHAR
    END
"""


class OpenUnit(NamedTuple):
    """A unit not yet assigned to a rater. taken: number of its ratings plus holds by others."""

    item_id: int
    systems: tuple[int, ...]
    taken: int


def encode_systems(systems: Iterable[int]) -> int:
    """Encode model indices as a bit mask."""
    return sum(1 << system for system in systems)


def decode_systems(bits: int) -> tuple[int, ...]:
    """Decode a bit mask to ascending model indices."""
    return tuple(place for place in range(bits.bit_length()) if bits >> place & 1)


# -- reads ------------------------------------------------------------------------------------------


def list_calibration_units(
    db: Queryable, round_id: str, person_id: str, *, most: int, limit: int
) -> list[OpenUnit]:
    """Return the next calibration units, which every rater rates, that the person hasn't had."""
    sql = f"""
        WITH own AS ({_OWN})
        SELECT item_id, systems, rated FROM rating_unit u
        WHERE round_id = $round AND calibration < $most
          AND NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = u.item_id AND own.systems = u.systems)
        ORDER BY calibration LIMIT $limit
    """
    return _list_units(
        db.query(sql, {"round": round_id, "person": person_id, "most": most, "limit": limit}).to_pylist()
    )


def list_incomplete_units(
    db: Queryable, round_id: str, person_id: str, *, overlap: int, salt: int, limit: int
) -> list[OpenUnit]:
    """Return units with too few ratings that the person hasn't had, at most `limit` per set of models.

    Units with the fewest ratings come first, ties in random order by `salt`. Holds by others count as
    ratings.
    """
    sql = f"""
        WITH own AS ({_OWN}),
        held AS (
            SELECT item_id, systems, count(*) AS held FROM rating_hold
            WHERE round_id = $round AND purpose = 'first' GROUP BY item_id, systems
        )
        SELECT u.item_id, u.systems, u.rated + coalesce(h.held, 0) AS taken
        FROM rating_unit u LEFT JOIN held h ON h.item_id = u.item_id AND h.systems = u.systems
        WHERE u.round_id = $round AND u.rated + coalesce(h.held, 0) < $overlap
          AND NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = u.item_id AND own.systems = u.systems)
        QUALIFY row_number() OVER (
            PARTITION BY u.systems ORDER BY taken, hash(u.item_id, u.systems, $salt)
        ) <= $limit
        ORDER BY taken, hash(u.item_id, u.systems, $salt)
    """
    names = {"round": round_id, "person": person_id, "overlap": overlap, "salt": salt, "limit": limit}
    return _list_units(db.query(sql, names).to_pylist())


def list_disputed_units(
    db: Queryable, round: Round, person_id: str, *, overlap: int, limit: int
) -> list[OpenUnit]:
    """Return fully rated units with differing ratings that nobody adjudicates and the person hasn't had.

    Calibration units are excluded.
    """
    sql = f"""
        WITH own AS ({_OWN}),
        answered AS ({_ANSWERED}),
        rated AS (
            SELECT t.item_id, {SYSTEMS} AS systems, t.purpose, {_VERDICT} AS verdict
            FROM rating_task t JOIN answered USING (task_id)
            WHERE t.round_id = $round AND t.purpose IN ('first', 'adjudication')
        )
        SELECT item_id, systems, count(*)::INTEGER AS taken
        FROM rated r
        WHERE NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = r.item_id AND own.systems = r.systems)
          AND NOT EXISTS (
            SELECT 1 FROM rating_hold h WHERE h.round_id = $round AND h.item_id = r.item_id
              AND h.systems = r.systems AND h.purpose = 'adjudication')
          AND NOT EXISTS (
            SELECT 1 FROM rating_unit u WHERE u.round_id = $round AND u.item_id = r.item_id
              AND u.systems = r.systems AND u.calibration IS NOT NULL)
        GROUP BY item_id, systems
        HAVING count(*) FILTER (purpose = 'first') >= $overlap AND count(DISTINCT verdict) > 1
           AND count(*) FILTER (purpose = 'adjudication') = 0
        ORDER BY item_id, systems LIMIT $limit
    """
    names = {"round": round.round_id, "person": person_id, "overlap": overlap, "limit": limit}
    return _list_units(db.query(sql, {**names, "protocol": round.protocol}).to_pylist())


def is_full(db: Queryable, round_id: str, item_id: int, systems: int, most: int) -> bool:
    """Return whether a unit has `most` ratings and needs no more; calibration units always need more."""
    sql = """SELECT count(*) > 0 FROM rating_unit WHERE round_id = ? AND item_id = ? AND systems = ?
             AND rated >= ? AND calibration IS NULL"""
    return bool(read_scalar(db.query(sql, [round_id, item_id, systems, most])))


def has_units_left(db: Queryable, round_id: str, person_id: str, overlap: int) -> bool:
    """Return whether an incomplete unit has no rating by the person; others hold it and may release it."""
    sql = f"""
        WITH own AS ({_OWN} AND task_id IN (SELECT task_id FROM rating WHERE round_id = $round))
        SELECT count(*) > 0 FROM rating_unit u WHERE round_id = $round AND rated < $overlap
          AND NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = u.item_id AND own.systems = u.systems)
    """
    return bool(read_scalar(db.query(sql, {"round": round_id, "person": person_id, "overlap": overlap})))


# -- writes -----------------------------------------------------------------------------------------


def ensure_units(
    tx: Transaction, round_id: str, groups: Sequence[Sequence[int]], calibration: int, seed: int
) -> None:
    """Create the rating counts of a round from its ratings, unless they exist.

    groups: the models of each unit of a prompt; calibration: number of prompts, sampled by `seed`, that
    every rater rates, with one unit each, rotating over the groups.
    """
    if read_scalar(tx.query("SELECT count(*) > 0 FROM rating_unit WHERE round_id = ?", [round_id])):
        return
    sql = f"""
        INSERT INTO rating_unit
        WITH item AS (
            SELECT item_id,
                   row_number() OVER (ORDER BY md5(concat($seed, ':', item_id)), item_id) - 1 AS place
            FROM rating_item WHERE round_id = $round AND "check" IS NULL
        ),
        models AS (SELECT unnest($groups::BIGINT[]) AS systems, unnest(range(len($groups))) AS number),
        answered AS ({_ANSWERED}),
        counted AS (
            SELECT t.item_id, {SYSTEMS} AS systems, count(*) AS rated
            FROM rating_task t SEMI JOIN answered USING (task_id)
            WHERE t.round_id = $round AND t.purpose = 'first' GROUP BY ALL
        )
        SELECT $round, item_id, systems,
               CASE WHEN place < $calibration AND place % len($groups) = number THEN place END,
               coalesce(rated, 0)
        FROM item CROSS JOIN models LEFT JOIN counted USING (item_id, systems)
    """
    bits = [encode_systems(group) for group in groups]
    tx.execute(sql, {"round": round_id, "groups": bits, "calibration": calibration, "seed": seed})


def count_answer(tx: Transaction, round_id: str, item_id: int, systems: int, more: int) -> None:
    """Update a unit's count: one rating more or, after a revision to a skip, one less."""
    tx.execute(
        "UPDATE rating_unit SET rated = rated + ? WHERE round_id = ? AND item_id = ? AND systems = ?",
        [more, round_id, item_id, systems],
    )


def forget_units(tx: Transaction, round_id: str) -> None:
    """Delete the counts so that they are rebuilt, after ratings were added in bulk."""
    tx.execute("DELETE FROM rating_unit WHERE round_id = ?", [round_id])


def _list_units(rows: Collection[dict[str, int]]) -> list[OpenUnit]:
    return [
        OpenUnit(row["item_id"], decode_systems(row["systems"]), row.get("taken", row.get("rated", 0)))
        for row in rows
    ]


# Holds: tasks that a rater's page shows or will show next.
#
# A hold reserves a unit while its page is alive. Each request of the page renews it. It ends with the rating,
# when the page is left, after minutes of silence, or when the round's lead ends it. A task outlives its hold:
# a returning rater gets it again as long as its unit needs a rating.

SILENCE = timedelta(minutes=5)  # timeout of a page, after which its holds are released

# A person's tasks that may be held (again); units completed by others in the meantime are excluded.
_WANTED = f"""
    SELECT t.* EXCLUDE (round_id) FROM (SELECT *, {SYSTEMS} AS bits FROM rating_task
        WHERE round_id = $round AND person_id = $person) t
    LEFT JOIN rating_unit u ON u.round_id = $round AND u.item_id = t.item_id AND u.systems = t.bits
    WHERE t.task_id NOT IN (SELECT task_id FROM rating WHERE round_id = $round)
      AND t.task_id NOT IN (SELECT task_id FROM rating_hold WHERE round_id = $round)
      AND CASE t.purpose
        WHEN 'first' THEN u.calibration IS NOT NULL OR u.rated + (
            SELECT count(*) FROM rating_hold h WHERE h.round_id = $round AND h.item_id = t.item_id
              AND h.systems = t.bits AND h.purpose = 'first') < $overlap
        WHEN 'adjudication' THEN NOT EXISTS (
            SELECT 1 FROM rating_task o WHERE o.round_id = $round AND o.item_id = t.item_id
              AND o.purpose = 'adjudication' AND list_sort(o.systems) = list_sort(t.systems) AND (
                o.task_id IN (SELECT task_id FROM rating WHERE round_id = $round)
                OR o.task_id IN (SELECT task_id FROM rating_hold WHERE round_id = $round)))
        ELSE true END
"""


# -- reads ------------------------------------------------------------------------------------------


def list_held_tasks(db: Queryable, round_id: str, person_id: str) -> list[AssignedTask]:
    """Return a person's tasks on hold, in the order of assignment; none of them is rated."""
    sql = """
        SELECT t.* EXCLUDE (round_id), NULL::INTEGER AS revision, NULL::VARCHAR AS answer,
               NULL::VARCHAR AS comment, NULL::DOUBLE AS seconds, NULL::TIMESTAMP AS rated_at
        FROM rating_task t SEMI JOIN rating_hold h ON h.task_id = t.task_id AND h.round_id = $1
        WHERE t.round_id = $1 AND t.person_id = $2 ORDER BY t.place
    """
    return read_records(db.query(sql, [round_id, person_id]), AssignedTask)


def is_held(db: Queryable, task_id: str) -> bool:
    """Return whether a task is on hold, apart from timeouts not processed yet."""
    return bool(read_scalar(db.query("SELECT count(*) > 0 FROM rating_hold WHERE task_id = ?", [task_id])))


# -- writes -----------------------------------------------------------------------------------------


def release_silent(tx: Transaction, round_id: str, at: datetime) -> None:
    """Release holds of silent pages, and holds with a time in the future, left after a clock was set back."""
    tx.execute(
        "DELETE FROM rating_hold WHERE round_id = ? AND NOT (renewed_at > ? AND renewed_at <= ?)",
        [round_id, at - SILENCE, at],
    )


def hold_tasks(
    tx: Transaction, round_id: str, person_id: str, task_ids: Collection[str], at: datetime
) -> None:
    """Hold newly assigned tasks for a person."""
    tx.execute(
        f"INSERT INTO rating_hold SELECT task_id, round_id, person_id, item_id, {SYSTEMS}, purpose,"
        " ?::TIMESTAMP FROM rating_task WHERE round_id = ? AND person_id = ?"
        " AND list_contains(?::VARCHAR[], task_id)",
        [at, round_id, person_id, list(task_ids)],
    )


def renew_holds(
    tx: Transaction, round_id: str, person_id: str, task_ids: Collection[str], at: datetime
) -> int:
    """Renew the holds of tasks that a page still shows, and return how many were held."""
    return tx.execute(
        "UPDATE rating_hold SET renewed_at = $at WHERE round_id = $round AND person_id = $person"
        " AND list_contains($tasks::VARCHAR[], task_id)",
        {"at": at, "round": round_id, "person": person_id, "tasks": list(task_ids)},
    )


def hold_again(
    tx: Transaction, round_id: str, person_id: str, at: datetime, *, overlap: int, limit: int,
    task_ids: Sequence[str] | None = None, purpose: Purpose | None = None,
) -> int:  # fmt: skip
    """Hold a person's unrated tasks again if they are still needed, and return how many.

    They are taken in the order of assignment, limited to `task_ids` and `purpose` if given.
    """
    sql = f"""
        INSERT INTO rating_hold
        SELECT task_id, $round, person_id, item_id, bits, purpose, $at::TIMESTAMP
        FROM ({_WANTED}
            AND ($tasks::VARCHAR[] IS NULL OR list_contains($tasks::VARCHAR[], t.task_id))
            AND ($purpose::VARCHAR IS NULL OR t.purpose = $purpose)
            ORDER BY t.place LIMIT $limit)
    """
    names = {"round": round_id, "person": person_id, "overlap": overlap, "at": at, "limit": limit}
    return tx.execute(sql, {**names, "tasks": task_ids and list(task_ids), "purpose": purpose})


def end_hold(tx: Transaction, task_id: str) -> None:
    """Release the hold of a rated task."""
    tx.execute("DELETE FROM rating_hold WHERE task_id = ?", [task_id])


def release_holds(
    tx: Transaction, round_id: str, person_id: str | None = None, keep: Collection[str] = ()
) -> int:
    """Release the holds of a person, or of everybody, except for `keep`, and return how many."""
    return tx.execute(
        "DELETE FROM rating_hold WHERE round_id = $round"
        " AND ($person::VARCHAR IS NULL OR person_id = $person)"
        " AND NOT list_contains($keep::VARCHAR[], task_id)",
        {"round": round_id, "person": person_id, "keep": list(keep)},
    )


def release_others(tx: Transaction, round_id: str, named: Collection[str]) -> int:
    """Release the holds of everybody except these people, and return how many."""
    return tx.execute(
        "DELETE FROM rating_hold WHERE round_id = ? AND NOT list_contains(?::VARCHAR[], person_id)",
        [round_id, list(named)],
    )


_OWN_TASKS = "SELECT * FROM rating_task WHERE round_id = $round AND person_id = $person"
_RATED = "SELECT task_id FROM rating WHERE round_id = $round"
_HELD = "SELECT task_id FROM rating_hold WHERE round_id = $round"


@dataclass(frozen=True)
class OwnTasks:
    """Counts of a person's tasks that are rated or on hold.

    had: by models (ascending) and the model shown first; let_go: other tasks, which were assigned and
    released.
    """

    had: Counter[tuple[tuple[int, ...], int]]
    dealt: Counter[Purpose]
    next_place: int
    let_go: int


class RepeatableTask(NamedTuple):
    """A task that the person has rated and that hasn't been repeated."""

    task_id: str
    item_id: int
    systems: list[int]  # in display order


class OwnPace(NamedTuple):
    """A person's pace. rated: tasks, including skips; timed: tasks with a known duration."""

    rated: int
    timed: int
    median_seconds: float | None


def count_own_tasks(db: Queryable, round_id: str, person_id: str) -> OwnTasks:
    """Count the person's tasks by models, order and purpose."""
    sql = f"""
        SELECT {SYSTEMS} AS bits, systems[1] AS shown_first, purpose, max(place) AS place,
               count(*) FILTER (task_id IN ({_RATED} UNION ALL {_HELD})) AS tasks, count(*) AS all_tasks
        FROM ({_OWN_TASKS}) GROUP BY ALL
    """
    rows = db.query(sql, {"round": round_id, "person": person_id}).to_pylist()
    had, dealt = Counter[tuple[tuple[int, ...], int]](), Counter[Purpose]()
    for row in rows:
        had[decode_systems(row["bits"]), row["shown_first"]] += row["tasks"]
        dealt[row["purpose"]] += row["tasks"]
    next_place = 1 + max((row["place"] for row in rows), default=-1)
    return OwnTasks(had, dealt, next_place, sum(row["all_tasks"] for row in rows) - dealt.total())


def list_repeatable_tasks(
    db: Queryable, round_id: str, person_id: str, *, but_last: int
) -> list[RepeatableTask]:
    """Return tasks that may be repeated: not skipped, not repeated yet, and not among the last `but_last`."""
    sql = f"""
        WITH own AS ({_OWN_TASKS}),
        rated AS (
            SELECT task_id, max(rated_at) AS rated_at, max_by(answer, revision) AS answer FROM rating
            WHERE round_id = $round AND task_id IN (SELECT task_id FROM own) GROUP BY task_id
        )
        SELECT o.task_id, o.item_id, o.systems FROM own o JOIN rated USING (task_id)
        WHERE o.purpose = 'first' AND answer ->> 'skipped' IS NULL
          AND o.task_id NOT IN (SELECT repeat_of FROM own WHERE repeat_of IS NOT NULL)
          AND o.task_id NOT IN (SELECT task_id FROM rated ORDER BY rated_at DESC, task_id LIMIT $but_last)
        ORDER BY o.place
    """
    rows = db.query(sql, {"round": round_id, "person": person_id, "but_last": but_last}).to_pylist()
    return [RepeatableTask(**row) for row in rows]


def compute_own_pace(db: Queryable, round_id: str, person_id: str) -> OwnPace:
    """Return how much the person has rated, and how fast."""
    sql = f"""
        SELECT count(*) AS rated, count(*) FILTER (seconds > 0) AS timed,
               median(seconds) FILTER (seconds > 0) AS median_seconds
        FROM rating a JOIN ({_OWN_TASKS}) t USING (task_id)
        WHERE a.round_id = $round AND a.revision = 1
    """
    return OwnPace(**db.query(sql, {"round": round_id, "person": person_id}).to_pylist()[0])


def list_last_rated(
    db: Queryable, round_id: str, person_id: str, limit: int, purpose: Purpose | None = None
) -> list[AssignedTask]:
    """Return the tasks that the person rated last, newest first, optionally of one purpose."""
    sql = f"""
        SELECT t.* EXCLUDE (round_id), max(a.revision) AS revision, max_by(a.answer, a.revision) AS answer,
               max_by(a.comment, a.revision) AS comment, max_by(a.seconds, a.revision) AS seconds,
               max_by(a.rated_at, a.revision) AS rated_at
        FROM ({_OWN_TASKS} AND ($purpose::VARCHAR IS NULL OR purpose = $purpose)) t
        JOIN rating a ON a.task_id = t.task_id AND a.round_id = $round
        GROUP BY ALL ORDER BY rated_at DESC, t.place DESC LIMIT $limit
    """
    names = {"round": round_id, "person": person_id, "limit": limit, "purpose": purpose}
    return read_records(db.query(sql, names), AssignedTask, ["answer"])


def list_own_items(db: Queryable, round_id: str, person_id: str, purposes: Collection[Purpose]) -> set[int]:
    """Return items assigned to the person for these purposes."""
    sql = f"SELECT item_id FROM ({_OWN_TASKS} AND list_contains($purposes::VARCHAR[], purpose))"
    names = {"round": round_id, "person": person_id, "purposes": list(purposes)}
    return set(db.query(sql, names)["item_id"].to_pylist())
