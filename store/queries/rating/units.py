"""The units of a round, each with how often it is rated: what the dealer chooses from.

A unit is a prompt and the models whose answers to it are compared, or rated. The counts are kept beside the
ratings, as counting these for each task that is dealt takes the time of all of them; whoever adds ratings in
another way than one by one forgets the counts, and the next task that is dealt makes them anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from store.db.records import scalar

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction
    from store.documents.rating.round import Round

# Of a task: the models that it shows, whatever their order.
SYSTEMS = "list_sum(list_transform(systems, lambda system: 1::BIGINT << system))::BIGINT"
# Latest answers that are no skips, of a round.
_ANSWERED = """
    SELECT task_id, max_by(answer, revision) AS answer FROM rating WHERE round_id = $round
    GROUP BY task_id HAVING max_by(answer, revision) ->> 'skipped' IS NULL
"""
_OWN = (
    f"SELECT item_id, {SYSTEMS} AS systems FROM rating_task WHERE round_id = $round AND person_id = $person"
)
# What ratings say, whatever the order of the answers: two that say the same are equal.
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
    """A unit that a rater has not had. taken: how often it is rated, or lies with others."""

    item_id: int
    systems: tuple[int, ...]
    taken: int


def bits_of(systems: Iterable[int]) -> int:
    """The models as a number, a bit each."""
    return sum(1 << system for system in systems)


def systems_of(bits: int) -> tuple[int, ...]:
    """The places of the models in the round, rising."""
    return tuple(place for place in range(bits.bit_length()) if bits >> place & 1)


# -- reads ------------------------------------------------------------------------------------------


def calibration(db: Queryable, round_id: str, person_id: str, *, most: int, limit: int) -> list[OpenUnit]:
    """The first of those that everybody rates which the person has not had; `limit`: of them, so many."""
    sql = f"""
        WITH own AS ({_OWN})
        SELECT item_id, systems, rated FROM rating_unit u
        WHERE round_id = $round AND calibration < $most
          AND NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = u.item_id AND own.systems = u.systems)
        ORDER BY calibration LIMIT $limit
    """
    return _units(
        db.query(sql, {"round": round_id, "person": person_id, "most": most, "limit": limit}).to_pylist()
    )


def wanting(
    db: Queryable, round_id: str, person_id: str, *, overlap: int, salt: int, limit: int
) -> list[OpenUnit]:
    """Units with too few ratings that the person has not had: of each set of models the least rated, at most
    so many; of those rated alike chance decides, by `salt`. What others hold counts as rated."""
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
    return _units(db.query(sql, names).to_pylist())


def disputed(db: Queryable, round: Round, person_id: str, *, overlap: int, limit: int) -> list[OpenUnit]:
    """Units with all their ratings, which differ, that nobody settles yet and the person has not had; none
    that everybody rates."""
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
    names = {"round": round["round_id"], "person": person_id, "overlap": overlap, "limit": limit}
    return _units(db.query(sql, {**names, "protocol": round["protocol"]}).to_pylist())


def is_full(db: Queryable, round_id: str, item_id: int, systems: int, most: int) -> bool:
    """Whether a unit has so many ratings and needs no more; one that everybody rates always does."""
    sql = """SELECT count(*) > 0 FROM rating_unit WHERE round_id = ? AND item_id = ? AND systems = ?
             AND rated >= ? AND calibration IS NULL"""
    return bool(scalar(db.query(sql, [round_id, item_id, systems, most])))


def any_left(db: Queryable, round_id: str, person_id: str, overlap: int) -> bool:
    """Whether a unit has too few ratings, none of them the person's: others hold it, and may leave it."""
    sql = f"""
        WITH own AS ({_OWN} AND task_id IN (SELECT task_id FROM rating WHERE round_id = $round))
        SELECT count(*) > 0 FROM rating_unit u WHERE round_id = $round AND rated < $overlap
          AND NOT EXISTS (SELECT 1 FROM own WHERE own.item_id = u.item_id AND own.systems = u.systems)
    """
    return bool(scalar(db.query(sql, {"round": round_id, "person": person_id, "overlap": overlap})))


# -- writes -----------------------------------------------------------------------------------------


def ensure(
    tx: Transaction, round_id: str, groups: Sequence[Sequence[int]], calibration: int, seed: int
) -> None:
    """Have the counts of a round: where there are none they are made from its ratings. groups: the models of
    each unit of a prompt; calibration: so many prompts, drawn by `seed`, are everybody's, with one unit each,
    and the groups in turn."""
    if scalar(tx.query("SELECT count(*) > 0 FROM rating_unit WHERE round_id = ?", [round_id])):
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
    bits = [bits_of(group) for group in groups]
    tx.execute(sql, {"round": round_id, "groups": bits, "calibration": calibration, "seed": seed})


def count(tx: Transaction, round_id: str, item_id: int, systems: int, more: int) -> None:
    """A unit has been rated once more, or, by a revision that skips it, once less."""
    tx.execute(
        "UPDATE rating_unit SET rated = rated + ? WHERE round_id = ? AND item_id = ? AND systems = ?",
        [more, round_id, item_id, systems],
    )


def forget(tx: Transaction, round_id: str) -> None:
    """Have the counts made anew: ratings were added at once."""
    tx.execute("DELETE FROM rating_unit WHERE round_id = ?", [round_id])


def _units(rows: Collection[dict[str, int]]) -> list[OpenUnit]:
    return [
        OpenUnit(row["item_id"], systems_of(row["systems"]), row.get("taken", row.get("rated", 0)))
        for row in rows
    ]
