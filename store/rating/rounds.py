"""Rating rounds, their items, which are written once when the answers are gathered, and their logged
requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from store.core.errors import NotFoundError
from store.core.job_kinds import ALIVE
from store.core.rating_schemas import CheckKind, Round, RoundItem, RoundItemPage, RoundRequest, RoundSummary
from store.core.schemas import Job
from store.db.named_query import named_query
from store.db.records import read_records, read_scalar, to_json
from store.jobs.job_queue import make_placeholders

if TYPE_CHECKING:
    from store.db.database import Queryable, Transaction

KINDS = ("round", "import_round")
ANSWERING = "answer_prompts"  # kind of the jobs that answer the prompts of a round's file
JSON_COLUMNS = ("config", "systems", "details")
ITEM_JSON = ("prompt", "expected")
_LINE = """
    SELECT r.*, coalesce(t.rated, 0) AS rated, coalesce(t.extra, 0) + coalesce(u.beyond, 0) AS extra,
           coalesce(t.raters, 0) AS raters,
           CASE WHEN r.config ->> 'protocol' IS NULL THEN coalesce(t.rated, 0) - coalesce(t.extra, 0)
           ELSE r.item_count * coalesce((r.config ->> 'overlap')::INTEGER, 1)
           * CASE r.protocol WHEN 'rank' THEN 1 WHEN 'label' THEN 1
             WHEN 'pairwise' THEN json_array_length(r.systems) * (json_array_length(r.systems) - 1) // 2
             ELSE json_array_length(r.systems) END END::BIGINT AS wanted
    FROM rating_round r LEFT JOIN (
        SELECT d.round_id, count(*) AS rated, count(*) FILTER (d.purpose <> 'first') AS extra,
               count(DISTINCT d.person_id) AS raters
        FROM rating_task d SEMI JOIN rating a ON a.task_id = d.task_id GROUP BY d.round_id
    ) t ON t.round_id = r.round_id
    LEFT JOIN (
        SELECT c.round_id, sum(greatest(c.rated - coalesce((o.config ->> 'overlap')::INTEGER, 1), 0))::BIGINT
               AS beyond
        FROM rating_unit c JOIN rating_round o ON o.round_id = c.round_id GROUP BY c.round_id
    ) u ON u.round_id = r.round_id
"""


# -- reads ------------------------------------------------------------------------------------------


def get(db: Queryable, round_id: str) -> Round:
    """Return the round with this id. Raises NotFoundError."""
    rows = read_records(
        db.query("SELECT * FROM rating_round WHERE round_id = ?", [round_id]), Round, JSON_COLUMNS
    )
    if not rows:
        raise NotFoundError(
            f"There is no rating round {round_id!r}.", fix="List them with: tunebench round list"
        )
    return rows[0]


@named_query
def line(db: Queryable, round_id: str) -> RoundSummary:
    """Return the round with this id, with its progress. Raises NotFoundError."""
    rows = read_records(db.query(f"{_LINE} WHERE r.round_id = ?", [round_id]), RoundSummary, JSON_COLUMNS)
    if not rows:
        raise NotFoundError(
            f"There is no rating round {round_id!r}.", fix="List them with: tunebench round list"
        )
    return rows[0]


@named_query
def list_rounds(db: Queryable, *, limit: int = 500) -> list[RoundSummary]:
    """Return rounds whose answers are gathered, open ones first, then newest first."""
    sql = f"{_LINE} ORDER BY r.state <> 'open', r.created_at DESC, r.round_id DESC LIMIT ?"
    return read_records(db.query(sql, [limit]), RoundSummary, JSON_COLUMNS)


def list_open_rounds(db: Queryable) -> list[Round]:
    """Return open rounds, oldest first."""
    sql = "SELECT * FROM rating_round WHERE state = 'open' ORDER BY created_at, round_id"
    return read_records(db.query(sql), Round, JSON_COLUMNS)


@named_query
def of_run(db: Queryable, run_id: str) -> list[RoundSummary]:
    """Return rounds in which a run's answers were rated, newest first."""
    sql = f"""{_LINE} WHERE list_contains(
        from_json(json_extract(r.systems, '$[*].run_id'), '["VARCHAR"]'), ?)
        ORDER BY r.created_at DESC, r.round_id DESC"""
    return read_records(db.query(sql, [run_id]), RoundSummary, JSON_COLUMNS)


@named_query
def unfinished(db: Queryable) -> list[Job]:
    """Return unfinished jobs that gather answers; evaluations that they wait for must be kept."""
    sql = (
        f"SELECT * FROM job WHERE kind IN ({make_placeholders(KINDS)}) AND status <> 'finished'"
        " ORDER BY created_at, job_id"
    )
    return read_records(db.query(sql, list(KINDS)), Job, ("config", "error", "result"))


def list_dependent_titles(db: Queryable, field: str, value: str) -> list[str]:
    """Return titles of queued and running jobs for rounds that need an evaluation or a run.

    field: `evaluation` or `run`.
    """
    alive = sorted(ALIVE)
    sql = f"""SELECT title FROM job WHERE status IN ({make_placeholders(alive)}) AND (
        kind = ? AND config ->> ? = ? OR kind = 'round' AND list_contains(
            from_json(json_extract(config, '$.round.models[*].{field}'), '["VARCHAR"]'), ?))
        ORDER BY kind DESC, created_at"""
    return [
        str(title) for title in db.query(sql, [*alive, ANSWERING, field, value, value])["title"].to_pylist()
    ]


def list_answering_jobs(job: Job) -> list[str]:
    """Return ids of the jobs that answer the prompts of a round's file; nothing else needs these jobs."""
    return [job_id for job_id in job.config.get("answering", []) if job_id]


@named_query
def items(db: Queryable, round_id: str, *, prompts: bool = True) -> list[RoundItem]:
    """Return all items of a round, sorted by id.

    Without prompts these are left empty, so that tens of thousands of items are fast.
    """
    bare = "" if prompts else " REPLACE ('[]' AS prompt)"
    sql = f"SELECT * EXCLUDE (round_id){bare} FROM rating_item WHERE round_id = ? ORDER BY item_id"
    return read_records(db.query(sql, [round_id]), RoundItem, ITEM_JSON)


@named_query
def some_items(db: Queryable, round_id: str, item_ids: list[int]) -> dict[int, RoundItem]:
    """Return these items by id."""
    sql = """SELECT * EXCLUDE (round_id) FROM rating_item
             WHERE round_id = ? AND list_contains(?::INTEGER[], item_id)"""
    rows = read_records(db.query(sql, [round_id, item_ids]), RoundItem, ITEM_JSON)
    return {row.item_id: row for row in rows}


@named_query
def item_page(db: Queryable, round_id: str, words: str = "", *, limit: int, offset: int = 0) -> RoundItemPage:
    """Return a page of the items whose prompt or answers contain the words, ignoring case, sorted by id."""
    names = {"round": round_id, "words": words.strip()}
    matches = int(read_scalar(db.query(f"SELECT count(*) {_SEARCHED}", names)))
    sql = f"SELECT * EXCLUDE (round_id) {_SEARCHED} ORDER BY item_id LIMIT $limit OFFSET $offset"
    rows = db.query(sql, names | {"limit": limit, "offset": offset})
    return {"items": read_records(rows, RoundItem, ITEM_JSON), "matches": matches}


_SEARCHED = """
    FROM rating_item WHERE round_id = $round AND ($words = '' OR contains(
        lower(array_to_string(list_concat(prompt ->> '$[*].content', answers), chr(10))), lower($words)))
"""


def list_check_ids(db: Queryable, round_id: str) -> dict[CheckKind, list[int]]:
    """Return the ids of the check items by kind; every kind is present."""
    sql = """SELECT item_id, "check" FROM rating_item WHERE round_id = ? AND "check" IS NOT NULL
             ORDER BY item_id"""
    ids: dict[CheckKind, list[int]] = {"gold": [], "attention": [], "qualification": []}
    for row in db.query(sql, [round_id]).to_pylist():
        ids[row["check"]].append(row["item_id"])
    return ids


# -- writes -----------------------------------------------------------------------------------------


def insert(tx: Transaction, row: Round, items: pa.Table) -> None:
    """Insert a round with its items.

    Columns of items: item_id, row_id, prompt (JSON), reference, answers, named, check, expected (JSON),
    weight.
    """
    document = {name: to_json(value) if name in JSON_COLUMNS else value for name, value in vars(row).items()}
    places = ", ".join(f"${name}" for name in document)
    tx.execute(f"INSERT INTO rating_round ({', '.join(document)}) VALUES ({places})", document)
    with tx.table("gathered_items", items):
        tx.execute(
            "INSERT INTO rating_item BY NAME SELECT ? AS round_id, item_id, row_id, prompt, reference,"
            ' answers, named, "check", expected, weight FROM gathered_items',
            [row.round_id],
        )


def update(tx: Transaction, round_id: str, **columns: object) -> None:
    """Set columns of a round; documents are encoded as JSON here."""
    for name in JSON_COLUMNS:
        if name in columns:
            columns[name] = to_json(columns[name])
    settings = ", ".join(f"{name} = ?" for name in columns)
    tx.execute(f"UPDATE rating_round SET {settings} WHERE round_id = ?", [*columns.values(), round_id])


LINKS_FILE = "links.parquet"  # in the folder of the round's job, with the columns below
LINK_COLUMNS = pa.schema(
    [
        ("item_id", pa.int32()),
        ("endpoint_id", pa.string()),
        ("request_id", pa.string()),
        ("asked_at", pa.timestamp("us")),
        ("version", pa.string()),
        ("role", pa.string()),
        ("label", pa.string()),
        ("random", pa.bool_()),
        ("probability", pa.float64()),
        ("reasons", pa.list_(pa.string())),
    ]
)


@named_query
def requests_of_round(db: Queryable, round_id: str) -> list[RoundRequest]:
    """Return the logged requests of a round, sorted by item; empty for a round of other prompts."""
    sql = f"""SELECT {", ".join(LINK_COLUMNS.names)} FROM round_request WHERE round_id = ?
              ORDER BY item_id, asked_at, request_id, role"""
    return read_records(db.query(sql, [round_id]), RoundRequest)


def list_informative_items(db: Queryable, round_id: str) -> set[int]:
    """Return items outside of the random sample, which must not affect figures; empty for a round of other
    prompts.
    """
    sql = "SELECT DISTINCT item_id FROM round_request WHERE round_id = ? AND NOT random"
    return set(db.query(sql, [round_id])["item_id"].to_pylist())


def list_pending_titles(db: Queryable, endpoint_id: str) -> list[str]:
    """Return titles of queued and running jobs that create rounds of this endpoint's requests."""
    alive = sorted(ALIVE)
    sql = f"""SELECT title FROM job WHERE kind = 'round' AND status IN ({make_placeholders(alive)})
              AND config ->> '$.round.requests.endpoint' = ? ORDER BY created_at"""
    return [str(title) for title in db.query(sql, [*alive, endpoint_id])["title"].to_pylist()]


def insert_requests(tx: Transaction, round_id: str, rows: pa.Table) -> None:
    """Insert the requests of a round, in the transaction that inserts the round; columns as in
    LINK_COLUMNS.
    """
    with tx.table("asked_requests", rows):
        tx.execute(
            f"INSERT INTO round_request SELECT ?, {', '.join(LINK_COLUMNS.names)} FROM asked_requests",
            [round_id],
        )
