"""A home folder that was written once opens and reads the same ever after: its tables, what the query
functions answer of them, and its files. `record.py` writes anew what is compared here."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store.core.home import Home
from store.db.database import Database
from store.db.named_query import load_queries
from tests.unit.golden.files import DOCUMENTS, MODELS, NO_MODEL, list_orders, parse_config, read_files
from tests.unit.golden.homes import name_queries, open_store, read_answers, simplify, spell, unpack_home
from tests.unit.golden.questions import ask, hash_rows, read_tables

ANSWERS = read_answers()
QUERIES = load_queries()
NAMES = name_queries(QUERIES)


@pytest.fixture(scope="session")
def golden_home() -> Iterator[Home]:
    """The home folder as it was packed. It lies beside the folders of other tests: what its workers told was
    true of the version that wrote it, and is held to no rule of the present one."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
        yield unpack_home(Path(folder) / "home")


@pytest.fixture(scope="session")
def golden_files(golden_home: Home) -> dict[str, Any]:
    """What reading its files gives."""
    return read_files(golden_home)


@pytest.fixture(scope="session")
def golden_store(golden_home: Home, golden_files: dict[str, Any]) -> Iterator[Database]:
    """Its store, open; files are read before that, as a version that is only started finds them."""
    database = open_store(golden_home)
    yield database
    database.close()


def test_no_table_is_gone(golden_store: Database) -> None:
    assert ANSWERS["tables"].keys() <= read_tables(golden_store).keys()


@pytest.mark.parametrize("table", sorted(ANSWERS["tables"]))
def test_a_table_keeps_its_rows(golden_store: Database, table: str) -> None:
    golden = ANSWERS["tables"][table]
    assert hash_rows(golden_store, table, golden["columns"]) == {
        "rows": golden["rows"],
        "hash": golden["hash"],
    }


def test_every_query_function_is_asked() -> None:
    assert NAMES.keys() == ANSWERS["queries"].keys(), "run python -m tests.unit.golden.record"


@pytest.mark.parametrize("key", sorted(ANSWERS["queries"]))
def test_a_query_function_answers_the_same(golden_store: Database, golden_home: Home, key: str) -> None:
    for call in ANSWERS["queries"][key]:
        answer = ask(golden_store, golden_home, QUERIES[NAMES[key]], call["arguments"])
        assert spell(answer) == spell(call["answer"]), f"{key} asked with {call['arguments']}"


def test_every_file_is_read(golden_files: dict[str, Any]) -> None:
    assert golden_files.keys() == ANSWERS["files"].keys()


@pytest.mark.parametrize("path", sorted(ANSWERS["files"]))
def test_a_file_reads_the_same(golden_files: dict[str, Any], path: str) -> None:
    assert spell(golden_files[path]) == spell(ANSWERS["files"][path])


def test_the_config_of_a_job_is_that_of_its_kind(golden_home: Home) -> None:
    orders = list_orders(golden_home)
    assert {order["kind"] for order in orders} == MODELS.keys() | NO_MODEL.keys()
    for order in orders:
        if order["kind"] in MODELS:
            document, config = parse_config(order)
            written, parsed = simplify(document, golden_home), simplify(config.model_dump(), golden_home)
            assert {name: parsed.get(name) for name in written} == written, order["job_id"]


def test_a_document_stays_as_it_is_when_it_is_written(golden_home: Home) -> None:
    for name, model in DOCUMENTS.items():
        config = model.from_yaml((golden_home.path / Path(name)).read_text(encoding="utf-8"))
        assert model.from_yaml(config.to_yaml()) == config, name


class _PlaceTuple(NamedTuple):
    step: int
    at: float | None


@dataclasses.dataclass(frozen=True)
class _PlaceClass:
    step: int
    at: float | None


def test_a_type_does_not_show(golden_home: Home) -> None:
    plain = simplify({"step": 1}, golden_home)
    assert simplify(_PlaceTuple(1, None), golden_home) == plain
    assert simplify(_PlaceClass(1, None), golden_home) == plain
    assert simplify(_PlaceClass(1, 1 / 3), golden_home) == {"step": 1, "at": 0.333333333333}
