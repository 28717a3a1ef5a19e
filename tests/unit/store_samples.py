"""A store in a temporary home folder, and an HTTP server over it, for the tests of the store."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn

from store.core.documents import get_type_fields
from store.core.home import Home
from store.core.job_folder import write_json
from store.core.schemas import Person
from store.data.schemas import NewDataset
from store.db.database import Database, Params, utc_now
from store.db.named_query import load_queries
from store.db.records import decode
from store.db.statements import Statement
from store.http.server import Handlers, Who, build_app
from store.training.split import Split

Row = TypeVar("Row")
TOKEN = "token-of-the-test"
FINGERPRINT = "f00d"
POINTS = pa.schema(  # what `metrics.append_steps` takes
    [
        ("run_id", pa.string()),
        ("name", pa.string()),
        ("step", pa.int64()),
        ("value", pa.float64()),
        ("logged_at", pa.timestamp("us")),
        ("ordinal", pa.int64()),
    ]
)


def open_store(path: Path) -> tuple[Home, Database]:
    """A new home folder at `path` and its open store."""
    home = Home(path).create()
    return home, Database(home.database, [home.datasets, home.jobs])


@cache
def _empty() -> bytes:
    """The database file of a store that was just made."""
    with tempfile.TemporaryDirectory() as folder:
        home, database = open_store(Path(folder))
        database.close()
        return home.database.read_bytes()


def new_store(path: Path) -> tuple[Home, Database]:
    """What `open_store` gives, without its migrations: they take as long as all else that opening does."""
    home = Home(path).create()
    home.database.write_bytes(_empty())
    return open_store(path)


def read_rows(database: Database, sql: str, params: Params = (), *, seconds: float = 30) -> pa.Table:
    """Every row of a question that is streamed."""
    with database.stream(sql, params, timeout=seconds) as reading:
        return pa.Table.from_batches(list(reading), schema=reading.schema)


def read_written(statement: Statement) -> pa.Table:
    """Every row of a statement that a person wrote."""
    chunks = [statement.first()]
    while not statement.done:
        chunks.append(statement.next())
    return decode(b"".join(chunks), whole=not statement.failed)


def add_job(database: Database, job_id: str, *, status: str = "training", run: bool = True) -> None:
    """A job of kind train, with its run unless told otherwise."""
    with database.transaction() as tx:
        tx.execute(
            "INSERT INTO job (job_id, kind, lane, title, status, config, after_jobs, created_at)"
            " VALUES (?, 'train', 'device', ?, ?, '{}', [], ?)",
            [job_id, job_id.title(), status, utc_now()],
        )
        if run:
            tx.execute(
                "INSERT INTO run (run_id, number, name, notes, dataset_id, dataset_name, model, method, seed,"
                " config, facts, created_at) VALUES"
                " (?, 1, ?, '', 'd1', 'Capitals', 'm', 'lora', 0, '{}', '{}', ?)",
                [job_id, job_id.title(), utc_now()],
            )


def row_of(row_type: type[Row], **given: Any) -> Row:
    """A row or document that has its defaults, and null, for what a test does not say."""
    fields = dict.fromkeys(get_type_fields(row_type) or ())
    for field in dataclasses.fields(row_type) if dataclasses.is_dataclass(row_type) else ():
        if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING):
            del fields[field.name]
    return row_type(**{**fields, **given})


def new_dataset(dataset_id: str, name: str, **fields: Any) -> NewDataset:
    """An import of nine conversations, as it is recorded, and as `fields` say."""
    given: dict[str, Any] = {
        **{"kind": "chat", "format": "messages", "columns": {}, "source": {}, "fingerprint": "f"},
        **{"row_count": 9, "skipped_count": 0, "duplicate_count": 0, "source_bytes": 1, "stats": {}},
        **Split(split_seed=0).fields(),
        "created_at": utc_now(),
    }
    return row_of(NewDataset, dataset_id=dataset_id, name=name, **{**given, **fields})


def write_dataset(home: Home, texts: list[str], labels: list[str | None]) -> NewDataset:
    """Parquet files of a data set with the columns that screens read, and the row that names them."""
    file = home.rows(FINGERPRINT)
    file.parent.mkdir(parents=True)
    rows = {
        "row_id": pa.array(range(len(texts)), pa.int64()),
        "line": pa.array(range(1, len(texts) + 1), pa.int64()),
        "text": texts,
        "label": pa.array(labels, pa.string()),
        "source": [f'{{"n": {index}}}' for index in range(len(texts))],
    }
    pq.write_table(pa.table(rows), file)
    skipped = {"line": pa.array([9, 4], pa.int64()), "reason": ["no text", "cut"], "excerpt": ["", "{"]}
    pq.write_table(pa.table(skipped), home.skipped(FINGERPRINT))
    return new_dataset(
        "d1",
        "Capitals",
        kind="text",
        format="text_label",
        columns={"text": "q", "label": "a"},
        source={"path": "x.csv"},
        stats={"label_count": 2},
        fingerprint=FINGERPRINT,
        row_count=len(texts),
        skipped_count=2,
        source_bytes=10,
    )


async def echo_ask(name: str, body: dict[str, Any], person: Person) -> dict[str, Any]:
    """An ask that says what it was asked."""
    return {"name": name, "body": body}


class Server(uvicorn.Server):
    """uvicorn's, which otherwise looks only ten times a second whether it is to stop."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)


@contextmanager
def serving(
    home: Home, database: Database, commands: dict[str, Any] | None = None, who: Who | None = None
) -> Iterator[str]:
    """The HTTP interface on a free port, announced in the home folder as the engine does; its address."""
    for secret in (home.token, home.screens_token):
        secret.write_text(TOKEN, encoding="utf-8")
    app = build_app(
        database, TOKEN, Handlers(commands or {}, echo_ask, queries=load_queries(), who=who), home, ["cpu"]
    )
    server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    write_json(home.engine_file, {"address": address, "pid": 1, "version": "test"})
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(10)
