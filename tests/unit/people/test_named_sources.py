"""Only the machine's owner names paths of it; everybody else what the store knows, and what they uploaded."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine.playground.conversations import ConversationService
from engine.server.machine_access import make_query_check
from engine.server.sync_jobs import QueryRunner
from store.core.errors import ForbiddenError, TunebenchError
from store.core.rights import COMMANDS, OWNER
from store.core.schemas import Person
from store.http.access import SESSION_HEADER
from store.http.server import Handlers, build_app
from store.training.train_config import BUNDLED_MODEL
from tests.unit.people_samples import SCREENS, TOKEN, Company

VIEWER = Person(person_id="p-vic", name="Vic", role="viewer")
MEMBER: Person = Person(person_id="p-mia", name="Mia", role="member")
ADMIN: Person = Person(person_id="p-ada", name="Ada", role="admin")
PATHS = ["/srv/evil", "~/evil", "./evil", "../evil", "a/../../evil", "a/b/c", "\\\\host\\evil", "..", "docs"]


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Company:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()  # where the engine was started
    return Company(tmp_path / "home")


Case = tuple[str, dict[str, Any], str]  # command, body, the field that names something


def _select_offered(cases: list[Case]) -> list[Case]:
    """Those of features that are here."""
    return [case for case in cases if case[0] in COMMANDS]


def _models(model: str) -> list[Case]:
    """Bodies that name a model."""
    recipe = {"steps": [{"step": "cap_length", "most": 9, "model": model}]}
    judged = {"classifier": model, "labels": ["bad"]}
    talks = {"models": [{"model": model}]}
    return _select_offered(
        [
            ("launch", {"dataset": "d", "model": model}, "model"),
            ("evaluate", {"dataset": "d", "model": model}, "model"),
            ("check_bias", {"model": model, "against": "owner/name"}, "model"),
            ("check_bias", {"model": "owner/name", "against": model}, "against"),
            ("check_bias", {"run": "r", "continuations": judged}, "continuations.classifier"),
            ("begin_conversation", {"title": "t", **talks}, "models.0.model"),
            ("edit_conversation", {"conversation": "c", "settings": talks}, "settings.models.0.model"),
            ("open_bundle", {"upload": "b.zip", "model": model}, "model"),
            ("profile", {"dataset": "d", "group": "tokens", "model": model}, "model"),
            ("clean", {"dataset": "d", "recipe": recipe}, "recipe.steps.0.model"),
            (
                "start_round",
                {"name": "n", "dataset": "d", "models": [{"model": model}] * 2},
                "models.0.model",
            ),
        ]
    )


def _files(path: str) -> list[Case]:
    rated = {"name": "n", "models": [{"model": "owner/name"}, {"model": "owner/other"}]}
    served = {"name": "n", "models": [{"name": "m", "routes": [{"subject": path}]}]}
    settings = {"models": served["models"]}
    votes = {"name": "n", "path": path, "first": "a", "second": "b"}
    continuations = {"classifier": "c", "labels": ["bad"], "file": {"path": path}}
    return _select_offered(
        [
            ("import_dataset", {"source": {"path": path}}, "source.path"),
            ("import_dataset", {"source": {"paths": [path]}}, "source.paths.0"),
            (
                "start_round",
                {**rated, "prompts_file": {"path": path}},
                "prompts_file.path",
            ),
            ("import_round", votes, "path"),
            ("check_bias", {"run": "r", "files": [{"path": path}]}, "files.0.path"),
            ("check_bias", {"run": "r", "continuations": continuations}, "continuations.file.path"),
            ("register_model", {"name": "n", "path": path}, "path"),
            ("verify_model", {"subject": "r", "path": path}, "path"),
            ("make_endpoint", served, "models.0.routes.0.subject"),
            (
                "change_endpoint",
                {"endpoint": "e", "settings": settings},
                "settings.models.0.routes.0.subject",
            ),
        ]
    )


def _refused(company: Company, command: str, body: dict[str, Any], by: Person) -> TunebenchError | None:
    try:
        company(command, by=by, **body)
    except TunebenchError as error:
        return error
    return None


@pytest.mark.parametrize("person", [MEMBER, ADMIN], ids=["member", "admin"])
def test_a_path_is_walled_in_every_command(company: Company, person: Person) -> None:
    for command, body, field in [*_models("/srv/evil"), *_files("/srv/evil")]:
        error = _refused(company, command, body, person)
        assert isinstance(error, ForbiddenError), (command, error)
        assert (error.field, "/srv/evil" in error.message, bool(error.fix)) == (field, True, True)
        own = _refused(company, command, body, OWNER)  # comes as far as to what is not there
        assert not isinstance(own, ForbiddenError), (command, own)


@pytest.mark.parametrize("path", PATHS)
def test_however_it_is_written(company: Company, path: str) -> None:
    for command, body, _ in _models(path):
        if "continuations" in body and path in ("docs", "a/b/c"):
            continue  # a run may be called so
        assert isinstance(_refused(company, command, body, MEMBER), ForbiddenError), (command, path)


@pytest.mark.parametrize("name", ["tiny", "linked", "owner/name", "gpt2", "chat@3", "chat@production"])
def test_what_the_store_knows_is_named_by_anybody(company: Company, tmp_path: Path, name: str) -> None:
    for own in ("tiny", "docs"):
        (company.home.models / own).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (company.home.models / "linked").symlink_to(tmp_path / "elsewhere")  # its owner's doing
    for command, body, _ in [*_models(name), *_models("docs")]:
        assert not isinstance(_refused(company, command, body, MEMBER), ForbiddenError), command


@pytest.mark.parametrize("subject", ["My run, 1/2", "LoRA on a/b", "chat@3", "https://example.org/v1"])
def test_an_endpoint_serves_runs_versions_and_addresses(company: Company, subject: str) -> None:
    remote = {"remote": {"model": "m"}} if subject.startswith("https") else {}
    body = {"name": "n", "models": [{"name": "m", "routes": [{"subject": subject, **remote}]}]}
    assert not isinstance(_refused(company, "make_endpoint", body, MEMBER), ForbiddenError)


def test_what_people_brought_is_read_by_its_path_too(company: Company, tmp_path: Path) -> None:
    home = company.home
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    (home.uploads / "rows.csv").write_text("a\n1\n")
    (home.uploads / "link.csv").symlink_to(outside)
    (home.exports / "rows.jsonl").write_text("{}\n")
    for path in (home.uploads / "rows.csv", home.exports / "rows.jsonl"):
        body = {"name": path.name, "source": {"path": str(path)}}
        assert _refused(company, "import_dataset", body, MEMBER) is None
    walled = [
        outside,
        home.uploads / "link.csv",
        home.uploads / ".." / "token",
        home.path / "token",
        Path("uploads/rows.csv"),
        home.models / "tiny" / "tokenizer.json",
    ]
    for path in walled:
        body = {"name": path.name, "source": {"path": str(path)}}
        assert isinstance(_refused(company, "import_dataset", body, MEMBER), ForbiddenError), path
    for source in ({"upload": "rows.csv"}, {"hub_id": "owner/name"}, {"builtin": "python"}):
        body = {"name": next(iter(source)), "source": source}
        assert _refused(company, "import_dataset", body, MEMBER) is None


# -- asks -------------------------------------------------------------------------------------------

RENDERING = {"fingerprint": "f", "kind": "chat", "model": "/srv/evil"}
COSTS = {"fingerprint": "f", "config": {"model": " /srv/evil", "r": "bad", "dataset": 3}}
ORDER = {
    "dataset_id": "d",
    "kind": "chat",
    "format": "chat",
    "columns": {},
    "fingerprint": "f",
    "row_count": 1,
}
RECIPE = {"steps": [{"step": "cap_length", "most": 9, "model": "/srv/evil"}]}
ASKED = [
    ("rendering", RENDERING, "model"),
    ("preview", COSTS, "config.model"),
    ("advice", COSTS, "config.model"),
    ("inspect", {"source": {"path": "/etc/passwd"}}, "source.path"),
    ("prompts", {"path": "/etc/passwd"}, "path"),
    ("clean_preview", {"dataset": ORDER | {"row_count": 1}, "recipe": RECIPE}, "recipe.steps.0.model"),
]


@pytest.mark.parametrize(("name", "body", "field"), ASKED)
@pytest.mark.parametrize("person", [VIEWER, MEMBER, ADMIN], ids=lambda person: person.role)
def test_a_path_is_walled_in_every_ask(
    company: Company, name: str, body: dict[str, Any], field: str, person: Person
) -> None:
    launcher: Any = None  # nothing comes to be launched
    asks = QueryRunner(launcher, company.home, "cpu", make_query_check(company.home))
    with pytest.raises(ForbiddenError) as caught:
        asyncio.run(asks(name, body, person))
    assert caught.value.field == field
    assert list(company.home.asks.iterdir()) == []
    make_query_check(company.home)(name, body, OWNER)


def test_what_a_viewer_may_ask_is_asked(company: Company) -> None:
    check = make_query_check(company.home)
    check("rendering", RENDERING | {"model": BUNDLED_MODEL}, VIEWER)
    check("preview", COSTS | {"config": {"model": "owner/name", "dataset": ""}}, MEMBER)
    check("neighbours", {"fingerprint": "f", "row_id": 0}, VIEWER)


def test_nor_in_a_talk_that_is_not_kept(company: Company) -> None:
    launcher: Any = None
    talking = ConversationService(company.database, launcher, company.home, ["cpu"])
    body = {"models": [{"model": "/srv/evil"}], "messages": [{"role": "user", "content": "Hello"}]}
    with pytest.raises(ForbiddenError) as caught:
        asyncio.run(talking.generate(body, MEMBER))
    assert caught.value.field == "models.0.model"


def test_a_request_is_checked_as_the_one_of_its_person(company: Company) -> None:
    launcher: Any = None
    asks = QueryRunner(launcher, company.home, "cpu", make_query_check(company.home))
    handlers = Handlers(company.commands, asks, people=company.people)
    session = company.join("viewer", email="vi@example.org")["session"]
    headers = {"Authorization": f"Bearer {SCREENS}", SESSION_HEADER: session}
    client = TestClient(
        build_app(company.database, TOKEN, handlers, company.home, ["cpu"]),
        base_url="http://127.0.0.1", headers=headers,
    )  # fmt: skip
    answer = client.post("/asks/rendering", json=RENDERING)
    assert (answer.status_code, answer.json()["field"]) == (403, "model")


def test_a_model_of_the_hub_is_fetched_for_members_alone(company: Company) -> None:
    check = make_query_check(company.home)
    with pytest.raises(ForbiddenError, match="requires a member") as caught:
        check("rendering", RENDERING | {"model": "owner/name"}, VIEWER)
    assert caught.value.field == "model"
    (company.home.models / "mine").mkdir()
    check("rendering", RENDERING | {"model": "mine"}, VIEWER)


def test_a_command_says_what_to_do(company: Company) -> None:
    with pytest.raises(ForbiddenError, match="link the folder into") as caught:
        company("launch", by=MEMBER, dataset="d", model="/srv/evil")
    assert json.loads(json.dumps(caught.value.to_dict()))["field"] == "model"
    with pytest.raises(ForbiddenError, match="Upload the file"):
        company("import_dataset", by=MEMBER, source={"path": "/etc/passwd"})
