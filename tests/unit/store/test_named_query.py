"""Query functions by name: what travels comes back as it was; what anybody may send is held to its type."""

from __future__ import annotations

import contextlib
import datetime
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import httpx
import pyarrow as pa
import pytest

from store.core.documents import get_reviver
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, QueryError
from store.core.home import Home
from store.core.job_folder import read_json
from store.core.rights import OWNER
from store.core.schemas import Person
from store.data import datasets, exploration, saved_recipes
from store.data.filters import Filter
from store.db import named_query
from store.db.database import Database
from store.db.named_query import get_converter, load_queries
from store.db.query_answers import decode, encode
from store.http.client import Client
from store.jobs import metric_points
from store.people import activity
from tests.unit.store_samples import TOKEN, open_store, serving, write_dataset

VIEWER = Person(person_id="v", name="V", role="viewer")


class Place(NamedTuple):
    row: int
    span: tuple[int, int]


class Line(TypedDict):
    at: datetime.datetime
    places: list[Place]
    by_step: dict[int, float]


@dataclass(frozen=True)
class Found:
    lines: list[Line]
    cells: dict[tuple[str, str], Place] = field(default_factory=dict)
    pairs: dict[frozenset[str], int] = field(default_factory=dict)
    where: Filter | None = None


AT = datetime.datetime(2026, 1, 31, 12, 0, 0, 5)
LINE: Line = {"at": AT, "places": [Place(1, (2, 3))], "by_step": {10: 0.5, 20: 0.25}}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, str | None),
        ((3, ["a"]), tuple[int, list[str]]),
        ([LINE], list[Line]),
        (Found([LINE], {("a", "b"): Place(1, (2, 3))}, {frozenset("ab"): 2}, Filter(search="x")), Found),
        ({0.2: [LINE]}, dict[float, list[Line]]),
        ({"a": {"n": Decimal("1.50"), "b": b"\x00\xff", "d": datetime.date(2026, 1, 1)}}, dict[str, Any]),
        ({"$table": 0, "$datetime": "no time"}, dict[str, Any]),  # a user's own texts
        ((1, 2, 3), tuple[int, ...]),
        (float("inf"), float),
    ],
)
def test_an_answer_comes_back_as_it_was(value: Any, kind: Any) -> None:
    back = decode(encode(value), kind)
    assert back == value
    assert type(back) is type(value)


def test_not_a_number_and_tables_travel() -> None:
    table = pa.table({"n": pa.array([1, None], pa.int64()), "s": ["ä", "b"]})
    value, back = decode(encode((float("nan"), {"t": [table, table]})), tuple[float, dict[str, Any]])
    assert math.isnan(value)
    assert [each.equals(table) for each in back["t"]] == [True, True]
    empty = decode(encode(table.slice(0, 0)), pa.Table)
    assert empty.schema == table.schema


def test_an_answer_that_breaks_off_is_none() -> None:
    content = encode({"a": list(range(100))})
    for end in (0, 5, len(content) // 2, len(content) - 1):
        with pytest.raises(ValueError):  # noqa: PT011 (json's, or ours)
            decode(content[:end], dict[str, Any])


def test_every_query_has_types_that_travel() -> None:
    for query in load_queries().values():
        for name, hint in query.hints.items():
            if name == "return":
                get_reviver(hint)  # raises TypeError for what can't be made again
            elif named_query._find_reference(hint) is None:
                get_converter(hint)


# -- arguments that anybody may send ------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Database, Client]]:
    home, database = open_store(tmp_path_factory.mktemp("named") / "home")
    row = write_dataset(home, ["Paris", "Rome", "Oslo"], ["a", None, "a"])
    with database.transaction() as tx:
        datasets.insert_dataset(tx, row)
    with serving(home, database):
        client = Client(home)
        yield home, database, client
        client.close()
    database.close()


Served = tuple[Home, Database, Client]


def check(database: Database, name: str, arguments: dict[str, Any], person: Person = OWNER) -> Any:
    query = load_queries()[name]
    return query.run(database, query.check(database, arguments, person))


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("runs.runs.get_run", {}, "run"),
        ("runs.runs.get_run", {"run": 3}, "run"),
        ("runs.runs.get_run", {"run": "a", "db": "x"}, "db"),
        ("runs.runs.get_run", {"run": "a", "sql": "SELECT 1"}, "sql"),
        ("runs.runs.list_runs", {"limit": True}, "limit"),
        ("runs.runs.list_runs", {"limit": "1; DROP TABLE run"}, "limit"),
        ("runs.runs.get_runs", {"run_ids": "abc"}, "run_ids"),
        ("runs.runs.get_runs", {"run_ids": ["a", 1]}, "run_ids"),
        ("people.activity.listed", {"which": {"no such": 1}}, "which"),
        ("data.dataset_versions.fates", {"dataset": "a", "which": {"fate": "eaten"}}, "which.fate"),
        ("data.datasets.get_rows", {"dataset": {"rows_path": "/etc/passwd"}, "row_ids": [0]}, "dataset"),
        ("data.exploration.count", {"rows": {"dataset": {}, "measured": {}}, "where": {}}, "rows"),
        pytest.param(
            "monitoring.feedback.returned",
            {"model": "m", "since": "yesterday"},
            "since",
            marks=pytest.mark.feature("monitoring"),
        ),
        pytest.param(
            "monitoring.traffic.points",
            {"endpoint_id": "e", "window": [1]},
            "window",
            marks=pytest.mark.feature("monitoring"),
        ),
        ("evaluation.evaluations.listed", {"offset": None}, "offset"),
    ],
)
def test_arguments_are_held_to_their_types(
    served: Served, name: str, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(served[1], name, arguments)
    assert caught.value.field == field


def test_every_query_refuses_what_is_no_argument_with_a_sentence(served: Served) -> None:
    for query in load_queries().values():
        for name in query.hints:
            if name == "return":
                continue
            for value in ({"$": 1}, [[[]]], "\x00", 10**40, -1.5, None, True):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(query, "_signature", _only(query, name))
                    with contextlib.suppress(ConfigError, NotFoundError, ForbiddenError):
                        query.check(served[1], {name: value}, OWNER)  # any other error is a bug


def _only(query: named_query.NamedQuery, name: str) -> Any:
    kept = [p for key, p in query._signature.parameters.items() if key in (query._store, name)]
    return query._signature.replace(parameters=kept)


def test_no_argument_is_more_than_a_query_can_refuse(served: Served) -> None:
    address = read_json(served[0].engine_file)["address"]
    token = {"Authorization": f"Bearer {TOKEN}"}
    values = [
        "Capitals",
        "\x00'; DROP TABLE run",
        "../..",
        10**40,
        -1,
        ["a"],
        {"regex": "("},
        {"row_ids": [2**70]},
    ]
    with httpx.Client(base_url=address, headers=token, trust_env=False) as http:
        for query in load_queries().values():
            for name in query.hints.keys() - {"return"}:
                for value in values:
                    arguments = _some_arguments(query) | {name: value}
                    answer = http.post(f"/queries/{query.name}", json=arguments)
                    assert answer.status_code != 500, (query.name, arguments, answer.text)


def _some_arguments(query: named_query.NamedQuery) -> dict[str, Any]:
    """Something for each argument that has to be there."""
    needed = [name for name, each in query._signature.parameters.items() if each.default is each.empty]
    made = {}
    for name in needed:
        hint = str(query.hints.get(name, ""))
        lists = any(word in hint for word in ("Sequence", "Collection", "list"))
        if "str" in hint or named_query._find_reference(query.hints.get(name)):
            made[name] = ["text"] if lists else "Capitals"
        elif hint:
            made[name] = [0] if lists else 0 if "int" in hint else {}
    return made


def test_stored_things_are_read_anew_by_their_reference(served: Served) -> None:
    database = served[1]
    dataset = datasets.get_dataset(database, "Capitals")
    sent = load_queries()["data.datasets.get_rows"].bind((dataset, [0]), {})
    assert sent == {"dataset": dataset.dataset_id, "row_ids": [0]}  # no path
    with pytest.raises(NotFoundError):
        check(database, "data.datasets.get_rows", {"dataset": "../jobs/secret", "row_ids": [0]})


def test_what_is_private_is_its_owners_alone(served: Served) -> None:
    database = served[1]
    assert check(database, "data.saved_recipes.recipes", {"person_id": "v"}, VIEWER) == []
    for name, more in (("recipes", {}), ("slices", {"dataset_id": "d"})):
        with pytest.raises(ForbiddenError):
            check(database, f"data.saved_recipes.{name}", {"person_id": "somebody", **more}, VIEWER)


def test_sql_in_a_filter_takes_the_right_to_write_sql(served: Served) -> None:
    where = {"expression": "length(text) = 5"}
    arguments = {"rows": datasets.get_dataset(served[1], "Capitals").dataset_id, "where": where}
    with pytest.raises(ForbiddenError):
        check(served[1], "data.exploration.count", arguments, VIEWER)
    conditions = {"conditions": [{"column": "label", "op": "is", "value": "a"}]}
    assert check(served[1], "data.exploration.count", arguments | {"where": conditions}, VIEWER) == 2


def test_sql_in_a_filter_runs_where_written_statements_do(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, database, client = served
    rows = exploration.get_dataset_table(database, "Capitals")
    written: list[str] = []
    run = Database.written

    def noted(self: Database, sql: str, *args: Any, **kwargs: Any) -> Any:
        written.append(sql)
        return run(self, sql, *args, **kwargs)

    monkeypatch.setattr(Database, "written", noted)
    assert exploration.count(client, rows, Filter(expression="length(text) = 4")) == 2
    assert len(written) == 1
    assert exploration.count(client, rows, Filter(search="paris")) == 1
    assert len(written) == 1
    with pytest.raises(QueryError):
        exploration.count(client, rows, Filter(expression="(SELECT max(secret) FROM session) = 'a'"))


# -- the same function, here and there ----------------------------------------------------------------


def test_one_function_answers_alike_in_the_engine_and_over_http(served: Served) -> None:
    _, database, client = served
    dataset = datasets.get_dataset(database, "Capitals")
    rows = exploration.get_dataset_table(database, "Capitals")
    assert datasets.get_dataset(client, "Capitals") == dataset
    assert datasets.get_rows(client, dataset, [2, 0]) == datasets.get_rows(database, dataset, [2, 0])
    for where in (Filter(), Filter(search="o"), Filter(row_ids=[1, 2])):
        assert exploration.find(client, rows, where) == exploration.find(database, rows, where)
    part = exploration.TablePage(("label", "text"), limit=2)
    assert exploration.page(client, rows, Filter(), part) == exploration.page(database, rows, Filter(), part)
    assert activity.listed(client) == activity.listed(database)
    assert metric_points.value_at(client, "none", "x", 3) is None
    assert saved_recipes.recipes(client, OWNER.person_id) == []


def test_a_refusal_comes_back_as_itself(served: Served) -> None:
    with pytest.raises(NotFoundError, match="no data set 'Nothing'"):
        datasets.get_dataset(served[2], "Nothing")


def test_a_client_has_no_way_to_ask_in_sql_but_that_for_people(served: Served) -> None:
    assert not hasattr(served[2], "query")
    with pytest.raises(AttributeError):
        datasets.find_dataset(served[2], "Capitals")  # type: ignore[arg-type]  # no right, so no name


def test_statements_of_a_query_end_with_it(served: Served, tmp_path: Path) -> None:
    reads = served[1].reads(seconds=0.2)
    slow = "SELECT count(*) FROM range(1000000000000) t(a) WHERE hash(a) % 7 = 3"
    with pytest.raises(QueryError, match="took longer"):
        reads.query(slow)
    reads = served[1].reads()
    reads.close()
    with pytest.raises(QueryError):
        reads.query("SELECT 1")
    assert not served[1]._watch._readings


@pytest.mark.parametrize("written", [False, True])
def test_the_last_statement_of_a_query_is_told_the_limit_of_all(served: Served, written: bool) -> None:
    reads = served[1].reads(seconds=0.9)
    reads.written = written
    reads.query("SELECT 1")
    time.sleep(0.3)  # the statements before it
    with pytest.raises(QueryError, match=r"longer than 0\.9 s"):
        reads.query("SELECT hash(a) FROM range(1000000000000) t(a)")
    with pytest.raises(QueryError, match=r"longer than 0\.9 s"):  # and so is one for which nothing is left
        reads.query("SELECT hash(a) FROM range(1000000000000) t(a)")
    assert not served[1]._watch._readings
