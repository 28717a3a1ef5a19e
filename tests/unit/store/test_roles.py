"""Rights: every request is held to the role of who asks, as the matrix in docs/team.md says.

All that can be asked for is found in the code (routes, commands, asks, queries, tools) and asked for as each
role, over the real application; the answers are held against the written matrix. So a right that is taken
away, in the table or where it is enforced, is found here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from store.core import rights
from store.core.errors import ForbiddenError, StateError
from store.core.job_kinds import ASKS
from store.core.rights import MEANINGS, RIGHTS, check_complete, check_right
from store.core.schemas import CreatedSession, Person, Role
from store.db.named_query import load_queries
from store.db.schema import SECRET_TABLES
from store.documentation import reference_tables
from store.http.client import Client
from tests.unit.people_samples import SCREENS, TOKEN, Company, at_work
from tunebench.agents.server import AgentServer

TEAM = Path(__file__).resolve().parents[3] / "docs" / "team.md"
WHO = ("nobody", *get_args(Role))
UNKNOWN = {"no such field": 1}
ANY: dict[str, Any] = {"string": "nothing", "object": {}, "array": ["a", "b"]}  # for an argument of a tool
ROW = re.compile(r"^\| (command |ask |query |tool |)`(.+)` \|(.*)\|$", re.MULTILINE)


def written() -> dict[tuple[str, str], frozenset[str]]:
    """The matrix of docs/team.md: surface and name -> who may."""
    matrix = {}
    for surface, names, cells in ROW.findall(TEAM.read_text("utf-8")):
        may = frozenset(who for who, cell in zip(WHO, cells.split("|"), strict=True) if cell.strip() == "yes")
        for name in names.split("`, `"):
            matrix[surface.strip() or "route", name] = may
    return matrix


MATRIX = written()


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    made = Company(tmp_path_factory.mktemp("company"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def people(company: Company) -> dict[str, CreatedSession]:
    """Somebody of each role, signed in."""
    return {role: company.join(role) for role in get_args(Role)}


@pytest.fixture(scope="module")
def clients(company: Company, people: dict[str, CreatedSession]) -> Mapping[str, TestClient]:
    return {who: company.engine(people[who]["session"] if who in people else "") for who in WHO}


def status(client: TestClient, method: str, path: str, body: object = None) -> int:
    answer: httpx.Response = client.request(method, path, json=body)
    return answer.status_code


def who_may(clients: Mapping[str, TestClient], method: str, path: str, body: object) -> frozenset[str]:
    """Who is answered otherwise than with a refusal."""
    return frozenset(who for who in WHO if status(clients[who], method, path, body) not in (401, 403))


def names_of(surface: str) -> set[str]:
    return {name for kind, name in MATRIX if kind == surface}


# -- the matrix ---------------------------------------------------------------------------------------


def test_every_route_answers_whom_the_matrix_names(
    company: Company, clients: Mapping[str, TestClient]
) -> None:
    app: Any = clients["admin"].app
    routes = [route for route in app.routes if isinstance(route, Route)]
    places = set()
    for route in routes:
        (method,) = (route.methods or set()) - {"HEAD"}
        place = f"{method} {route.path}"
        if rights.ROUTES[place] in ("name", "door"):
            continue
        places.add(place)
        path = re.sub(r"\{.*?\}", "nothing", route.path)
        assert who_may(clients, method, path, {"sql": "SELECT 1"}) == MATRIX["route", place], place
    assert places == names_of("route")


def test_every_command_answers_whom_the_matrix_names(
    company: Company, clients: Mapping[str, TestClient]
) -> None:
    assert set(company.commands) == names_of("command")
    for name in company.commands:
        assert who_may(clients, "POST", f"/commands/{name}", UNKNOWN) == MATRIX["command", name], name


def test_every_ask_answers_whom_the_matrix_names(clients: Mapping[str, TestClient]) -> None:
    assert set(ASKS) == names_of("ask")
    for name in ASKS:
        assert who_may(clients, "POST", f"/asks/{name}", UNKNOWN) == MATRIX["ask", name], name


def test_every_query_answers_whom_the_matrix_names(clients: Mapping[str, TestClient]) -> None:
    queries = load_queries()
    assert set(queries) == names_of("query")
    for name in queries:
        assert who_may(clients, "POST", f"/queries/{name}", UNKNOWN) == MATRIX["query", name], name


def test_every_tool_answers_whom_the_matrix_names(tmp_path: Path) -> None:
    with at_work(Company(tmp_path / "home")) as company:
        screens = Client(company.home, secret=company.home.screens_token)
        may: dict[str, set[str]] = {}
        for who in WHO:
            session = company.join(who)["session"] if who != "nobody" else ""
            client = screens.acting_for(session)
            server = AgentServer(lambda client=client: client)  # type: ignore[misc]
            for name, tool in server.tools.items():
                schema = tool.described.input_schema
                needed = {
                    field: ANY.get(schema["properties"][field].get("type"), {})
                    for field in schema.get("required", ())
                }
                answer = server.call(name, needed)
                assert "failed with an internal error" not in str(answer), (name, who)
                if not _is_refusal(str(answer)):
                    may.setdefault(name, set()).add(who)
        screens.close()
    assert set(server.tools) == names_of("tool")
    for name in names_of("tool"):
        assert may.get(name, set()) == MATRIX["tool", name], name


def _is_refusal(text: str) -> bool:
    return " may not " in text or "signed in" in text.lower() or "sign in" in text.lower()


def test_the_written_matrix_is_that_of_the_table() -> None:
    assert reference_tables.format_rights_table() in TEAM.read_text("utf-8")


def test_what_is_not_in_the_table_is_refused(
    company: Company, clients: Mapping[str, TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(table: str, name: str) -> None:
        left = {key: right for key, right in getattr(rights, table).items() if key != name}
        for module in ("store.http.server", "engine.commands"):
            if hasattr(__import__(module, fromlist=[table]), table):
                monkeypatch.setattr(f"{module}.{table}", left)

    without("COMMANDS", "launch")
    without("QUERIES", "jobs.job_queue.queue")
    assert status(clients["admin"], "POST", "/commands/launch", {}) == 403
    assert status(clients["admin"], "POST", "/queries/jobs.job_queue.queue", {}) == 403
    with pytest.raises(ForbiddenError, match="Not allowed for anyone"):
        check_right(Person(person_id="a", name="A", role="admin"), None)


def test_an_engine_does_not_start_with_a_request_that_has_no_right() -> None:
    with pytest.raises(StateError, match="lacks the command break_in"):
        check_complete("command", [*rights.COMMANDS, "break_in"])
    with pytest.raises(StateError, match="has the ask rendering, which does not exist"):
        check_complete("ask", set(rights.ASKS) - {"rendering"})
    assert 'check_complete("command"' in inspect.getsource(__import__("engine.__main__", fromlist=["x"]))


# -- who it is ----------------------------------------------------------------------------------------

PATHS = [
    ("GET", "/me"),
    ("POST", "/sql"),
    ("GET", "/team"),
    ("POST", "/commands/delete"),
    ("PUT", "/uploads/a"),
]
PATHS += [
    ("POST", "/queries/jobs.job_queue.queue"),
    ("POST", "/asks/rendering"),
    ("POST", "/commands/set_own_name"),
]


def test_the_refusal_says_what_may_not_be_done(company: Company, people: dict[str, CreatedSession]) -> None:
    answer = company.engine(people["viewer"]["session"]).post("/commands/delete", json={"job": "nothing"})
    assert answer.json()["error"] == ForbiddenError.__name__
    assert "viewer" in answer.json()["message"]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_screens_alone_are_nobody_where_people_sign_in(company: Company, method: str, path: str) -> None:
    for session in ("", "wrong", "owner", TOKEN, SCREENS):
        assert status(company.engine(session), method, path, {"sql": "SELECT 1"}) == 401


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_another_secret_opens_nothing(
    company: Company, people: dict[str, CreatedSession], method: str, path: str
) -> None:
    for bearer in ("", "wrong", people["admin"]["session"], "tb_wrong"):
        client = company.engine(people["admin"]["session"], bearer=bearer)
        assert status(client, method, path, {"sql": "SELECT 1"}) == 401


def test_the_homes_token_is_the_owner_whatever_session_comes_with_it(
    company: Company, people: dict[str, CreatedSession]
) -> None:
    answer = company.engine(people["viewer"]["session"], bearer=TOKEN).get("/me")
    assert answer.json()["person_id"] == "owner"


def test_the_door_is_the_screens_alone(company: Company, people: dict[str, CreatedSession]) -> None:
    token = company("make_token", by=people["admin"]["person"], name="door")["token"]
    for name in company.people.door:
        for bearer in (TOKEN, token, "wrong", ""):
            assert status(company.engine(bearer=bearer), "POST", f"/door/{name}", {}) == 401
    assert status(company.engine(), "POST", "/door/state", {}) == 200
    assert status(company.engine(), "POST", "/door/nothing", {}) == 404


# -- SQL ----------------------------------------------------------------------------------------------


def test_no_statement_is_taken_anywhere_but_at_sql(clients: Mapping[str, TestClient]) -> None:
    body = {"sql": "SELECT 1", "params": []}
    assert status(clients["admin"], "POST", "/questions", body) == 404
    answer = clients["admin"].post("/queries/jobs.job_queue.queue", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "sql")


@pytest.mark.parametrize("table", sorted(SECRET_TABLES))
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM {}",
        'SELECT * FROM "{}"',
        "FROM main.{}",
        "FROM tunebench.main.{}",
        "SUMMARIZE {}",
        "DESCRIBE {}",
        "SELECT (SELECT max(secret) FROM {})",
        "WITH a AS (FROM {}) FROM a",
        "SELECT 1 FROM person WHERE EXISTS (FROM {})",
        "SELECT * FROM person JOIN {} USING (person_id)",
        "FROM (SELECT 1) UNION ALL FROM {}",
        "SELECT * FROM query_table('{}')",
        "SELECT * FROM query('FROM {}')",
    ],
)
def test_nobody_reads_how_people_sign_in(clients: Mapping[str, TestClient], table: str, sql: str) -> None:
    for spelled in (sql, sql.upper()):
        answer = clients["admin"].post("/sql", json={"sql": spelled.format(table)})
        assert answer.status_code == 400, answer.content[:200]


def test_every_role_is_explained_and_keeps_an_account() -> None:
    assert set(MEANINGS) == set(RIGHTS) == set(get_args(Role))
    assert all("own" in rights for rights in RIGHTS.values())


def test_too_many_attempts_are_told_when_to_come_back(company: Company) -> None:
    body: dict[str, Any] = {"email": "x@example.org", "password": "a wrong sentence", "address": "a"}
    client = company.engine()
    answers = [client.post("/door/sign_in", json=body) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "1"
    assert answers[-1].json()["retry_after"] == 1
