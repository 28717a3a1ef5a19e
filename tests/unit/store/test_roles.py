"""Rights: every request is held to the role of who asks, and who asks is what the engine finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from starlette.testclient import TestClient

from store.contract.errors import ForbiddenError
from store.contract.roles import MEANINGS, RIGHTS
from store.db.schema import SECRET_TABLES
from store.documents.tables.person import Role, SignedIn
from tests.unit.people_samples import SCREENS, TOKEN, Company

RATING = {"rounds_to_rate", "next_rating_tasks", "rate"}
LOOKING = [("GET", "/machine"), ("GET", "/models"), ("POST", "/sql"), ("POST", "/questions")]
LOOKING += [("POST", "/asks/preview"), ("GET", "/jobs/no/log"), ("GET", "/exports/no")]
OWN = {"set_own_name", "set_own_password", "end_session", "make_token", "revoke_token"}
GOVERN = {"set_team", "invite", "take_back_invitation", "reset_password"}
GOVERN |= {"allow_network", "refuse_network"}
GOVERN |= {"set_role", "set_active", "end_sessions", "set_webhook", "try_webhook", "set_gate"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    made = Company(tmp_path_factory.mktemp("company"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def people(company: Company) -> dict[str, SignedIn]:
    """Somebody of each role, signed in."""
    return {role: company.join(role) for role in get_args(Role)}


def status(client: TestClient, method: str, path: str, body: object = None) -> int:
    answer: httpx.Response = client.request(method, path, json=body)
    return answer.status_code


@pytest.mark.parametrize("role", ["viewer", "rater"])
def test_who_may_not_work_is_refused_by_every_command_but_those_of_their_own(
    company: Company, people: dict[str, SignedIn], role: Role
) -> None:
    client = company.engine(people[role]["session"])
    assert len(company.commands) > 30
    for name in company.commands:
        expected = 422 if name in OWN or (role == "rater" and name in RATING) else 403
        assert status(client, "POST", f"/commands/{name}", {"no such field": 1}) == expected, name
    assert status(client, "PUT", "/uploads/rows.csv", {}) == 403


def test_a_member_governs_nothing_and_works_on_all_else(
    company: Company, people: dict[str, SignedIn]
) -> None:
    client = company.engine(people["member"]["session"])
    for name in company.commands:
        answer = status(client, "POST", f"/commands/{name}", {"no such field": 1})
        assert answer == (403 if name in GOVERN else 422), name
    assert status(client, "GET", "/team") == 403
    assert status(company.engine(people["admin"]["session"]), "GET", "/team") == 200


def test_a_rater_sees_nothing_beside_rounds_and_the_own_account(
    company: Company, people: dict[str, SignedIn]
) -> None:
    client = company.engine(people["rater"]["session"])
    for method, path in [*LOOKING, ("GET", "/team")]:
        assert status(client, method, path, {"sql": "SELECT 1"}) == 403, path
    assert status(client, "GET", "/account") == 200


def test_a_viewer_looks(company: Company, people: dict[str, SignedIn]) -> None:
    client = company.engine(people["viewer"]["session"])
    assert status(client, "POST", "/questions", {"sql": "SELECT 1"}) == 200
    assert status(client, "POST", "/asks/preview", {}) == 200
    assert status(client, "POST", "/asks/inspect", {}) == 403  # of files that lie on the machine
    assert status(client, "GET", "/team") == 403


def test_the_refusal_says_what_may_not_be_done(company: Company, people: dict[str, SignedIn]) -> None:
    answer = company.engine(people["viewer"]["session"]).post("/commands/delete", json={"job": "nothing"})
    assert answer.json()["error"] == ForbiddenError.__name__
    assert "viewer" in answer.json()["message"]


PATHS: list[tuple[str, str]] = [*LOOKING, ("GET", "/me"), ("GET", "/account"), ("GET", "/team")]
PATHS += [("POST", "/commands/delete"), ("PUT", "/uploads/a"), ("POST", "/commands/set_own_name")]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_screens_alone_are_nobody_where_people_sign_in(company: Company, method: str, path: str) -> None:
    for session in ("", "wrong", "owner", TOKEN, SCREENS):
        assert status(company.engine(session), method, path, {"sql": "SELECT 1"}) == 401


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_another_secret_opens_nothing(
    company: Company, people: dict[str, SignedIn], method: str, path: str
) -> None:
    for bearer in ("", "wrong", people["admin"]["session"], "tb_wrong"):
        client = company.engine(people["admin"]["session"], bearer=bearer)
        assert status(client, method, path, {"sql": "SELECT 1"}) == 401


def test_the_homes_token_is_the_owner_whatever_session_comes_with_it(
    company: Company, people: dict[str, SignedIn]
) -> None:
    answer = company.engine(people["viewer"]["session"], bearer=TOKEN).get("/me")
    assert answer.json()["person_id"] == "owner"


def test_the_door_is_the_screens_alone(company: Company, people: dict[str, SignedIn]) -> None:
    token = company("make_token", by=people["admin"]["person"], name="door")["token"]
    for name in company.people.door:
        for bearer in (TOKEN, token, "wrong", ""):
            assert status(company.engine(bearer=bearer), "POST", f"/door/{name}", {}) == 401
    assert status(company.engine(), "POST", "/door/state", {}) == 200
    assert status(company.engine(), "POST", "/door/nothing", {}) == 404


@pytest.mark.parametrize(
    ("path", "table"),
    [("/sql", "account"), *(("/questions", table) for table in sorted(SECRET_TABLES))],
)
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
def test_nobody_reads_how_people_sign_in(
    company: Company, people: dict[str, SignedIn], path: str, table: str, sql: str
) -> None:
    for spelled in (sql, sql.upper()):
        client = company.engine(people["admin"]["session"])
        answer = client.post(path, json={"sql": spelled.format(table)})
        assert answer.status_code == 400, answer.content[:200]


def test_names_can_be_read_by_all_who_look(company: Company, people: dict[str, SignedIn]) -> None:
    client = company.engine(people["viewer"]["session"])
    assert status(client, "POST", "/questions", {"sql": "SELECT name, role FROM person"}) == 200


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


def test_without_a_team_the_screens_are_the_owner(tmp_path: Path) -> None:

    alone = Company(tmp_path, team=False)
    assert alone.people.team() == {"members": [], "invitations": [], "sessions": []}
    assert alone.engine().get("/me").json()["role"] == "admin"
    alone.database.close()
