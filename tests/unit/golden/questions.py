"""The store of the golden home, asked: what its tables hold and what its query functions answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.core.errors import TunebenchError
from store.core.home import Home
from store.core.schemas import Person
from store.db.database import Database
from store.db.named_query import NamedQuery, has_sql
from store.db.query_answers import decode, encode
from tests.unit.golden.homes import shorten, simplify

NEVER_THE_SAME = {  # tables whose rows opening alone changes, or that name the present version
    "migration": "a newer version adds the names of its own",
    "commit_number": "each opening counts on",
    "setting": "it says where the home folder is",
}


def read_tables(database: Database) -> dict[str, Any]:
    """Of each table its columns, its number of rows and a hash of what is in them, in whatever order."""
    sql = """
        SELECT table_name, list(column_name ORDER BY column_index) AS names FROM duckdb_columns()
        WHERE NOT internal AND table_name IN (SELECT table_name FROM duckdb_tables())
        GROUP BY 1 ORDER BY 1"""
    tables = {row["table_name"]: row["names"] for row in database.query(sql).to_pylist()}
    return {
        name: {"columns": columns, **hash_rows(database, name, columns)}
        for name, columns in tables.items()
        if name not in NEVER_THE_SAME
    }


def hash_rows(database: Database, table: str, columns: list[str]) -> dict[str, Any]:
    """The number of rows and a hash of these columns of them, that no order of theirs changes."""
    texts = ", ".join(f'coalesce("{name}"::VARCHAR, chr(0))' for name in columns)
    sql = f"""
        SELECT count(*) AS rows, sum(md5_number_lower(concat_ws(chr(31), {texts}))::HUGEINT)::VARCHAR AS hash
        FROM "{table}" """
    return dict(database.query(sql).to_pylist()[0])


def ask(database: Database, home: Home, query: NamedQuery, arguments: Mapping[str, Any]) -> Any:
    """What a query answers to arguments as JSON has them, over the wire, in its plain form; an error is its
    class and its message."""
    person_id = str(arguments.get("person_id", "owner"))
    person = Person(person_id=person_id, name="Olga", role="admin")
    reads = database.reads()
    try:
        checked = query.check(reads, arguments, person)
        reads.written = has_sql(checked)
        value = query.run(reads, checked)
    except (TunebenchError, LookupError, ValueError, TypeError) as error:
        message = str(error).replace(str(home.path), "")
        return shorten({"raised": type(error).__name__, "message": message})
    finally:
        reads.close()
    return shorten(simplify(decode(encode(value), query.hints["return"]), home))
