"""`tunebench team`, `tunebench me` and what `tunebench up` asks of a team, against a served engine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from store.core.errors import ConfigError, EngineUnavailable
from store.core.home import Home
from store.core.rights import DEFAULT_ROLE
from store.http.client import ADDRESS, TOKEN, Client
from store.jobs import job_queue
from tests.unit.people_samples import Company, at_work
from tunebench.cli import cli, report_lost_commits
from tunebench.commands.people import require_team
from tunebench.terminal import processes
from tunebench.terminal.output import NOT_ALLOWED, OK, USAGE
from tunebench.terminal.processes import ScreensOptions

Run = Callable[..., Result]
EMPTY: dict[str, list[str]] = {"paths": [], "uploads": []}


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    with at_work(Company(tmp_path, team=False)) as served:
        yield served


@pytest.fixture
def run(company: Company, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in (TOKEN, ADDRESS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNEBENCH_HOME", str(company.home.path))
    return lambda *words: CliRunner().invoke(cli, list(words))


def code_in(text: str) -> str:
    return text.partition("code=")[2].split()[0]


def test_sign_in_is_turned_on_with_a_link_for_the_first_admin_and_off(company: Company, run: Run) -> None:
    done = run("team", "on")
    assert done.exit_code == OK
    assert company.people.identity.team
    first = code_in(done.stdout)
    assert company.door("invitation", {"secret": first})["role"] == "admin"
    again = code_in(run("team", "on").stdout)
    assert len(company.people.team().invitations) == 1  # the new one took the old one's place
    company.door(
        "accept",
        {"secret": again, "name": "Ada", "email": "ada@example.org", "password": "a long sentence"},
    )
    assert "code=" not in run("team", "on").stdout  # there is an admin
    assert run("team", "off").exit_code == OK
    assert not company.people.identity.team


def test_private_networks_are_allowed_listed_and_taken_back(company: Company, run: Run) -> None:
    assert "No private networks are allowed" in run("team", "networks").stdout
    assert run("team", "allow-network", "10.1.2.3/16").exit_code == OK
    assert run("team", "networks").stdout == "10.1.0.0/16\n"
    assert json.loads(run("team", "networks", "--json").stdout) == ["10.1.0.0/16"]
    assert run("team", "refuse-network", "10.1.0.0/16").exit_code == OK
    assert run("team", "refuse-network", "10.1.0.0/16").exit_code == USAGE
    assert run("team", "allow-network", "the lab").exit_code == USAGE


def test_an_invitation_is_made_for_a_role_and_an_address(company: Company, run: Run) -> None:
    company("set_team", on=True)
    made = json.loads(run("team", "invite", "--role", "rater", "--email", "R@example.org", "--json").stdout)
    offer = company.door("invitation", {"secret": code_in(made["link"])})
    assert (offer["role"], offer["email"]) == ("rater", "r@example.org")
    unsaid = company.door("invitation", {"secret": code_in(run("team", "invite").stdout)})
    assert unsaid["role"] == DEFAULT_ROLE
    for wrong in (["--role", "boss"], ["--email", "nobody"]):
        assert run("team", "invite", *wrong).exit_code == USAGE


def test_the_team_is_listed(company: Company, run: Run) -> None:
    company("set_team", on=True)
    company.join("member", name="Mia")
    assert "Mia" in run("team", "list").stdout
    listed = json.loads(run("team", "list", "--json").stdout)
    assert [person["email"] for person in listed["members"]] == ["member@example.org"]


@pytest.mark.parametrize("option", ["by", "mentions"])
def test_activity_refuses_an_ambiguous_or_unknown_name_by_its_option(
    company: Company, run: Run, option: str
) -> None:
    company("set_team", on=True)
    for place in ("first", "second"):
        company.join("member", email=f"{place}@example.org", name="Mia")
    ambiguous = json.loads(run("activity", f"--{option}", "Mia", "--json").stdout)
    assert (ambiguous["message"], ambiguous["field"]) == ("Several people are named 'Mia'.", option)
    unknown = json.loads(run("activity", f"--{option}", "Max", "--json").stdout)
    assert (unknown["message"], unknown["field"]) == ("Nobody is named 'Max'.", option)


def test_an_account_is_switched_off_with_its_tokens_and_on_without_them(company: Company, run: Run) -> None:
    company("set_team", on=True)
    member = company.join("member")
    tokens = [company("make_token", by=member["person"], name=name)["token"] for name in ("a", "b")]
    off = run("team", "switch", "Member@example.org", "--off")
    assert "ended 1 session and 2 API tokens" in off.stderr
    assert run("team", "switch", "member@example.org", "--on").exit_code == OK
    assert [company.engine(bearer=token).get("/me").status_code for token in tokens] == [401, 401]
    assert "No account with the address" in run("team", "switch", "nobody@example.org").stderr


def test_a_link_to_a_new_password_says_what_it_ends(company: Company, run: Run) -> None:
    company("set_team", on=True)
    company.join("member")
    made = run("team", "password", "member@example.org")
    assert "ends all sessions and revokes all API tokens" in made.stderr
    assert company.door("invitation", {"secret": code_in(made.stdout)})["name"] == "Member"


def test_commits_that_the_store_lacks_are_said_with_what_to_do(
    company: Company, capsys: pytest.CaptureFixture[str]
) -> None:
    report_lost_commits(company.home)
    assert capsys.readouterr().err == ""
    lost = {
        "found_at": time.time(),
        "commits": 3,
        "understood": 0,
        "first_at": None,
        "last_at": None,
        "rows": {},
    }
    with company.database.transaction() as tx:
        tx.execute("INSERT INTO setting VALUES ('lost_commits', ?)", [json.dumps(lost)])
    report_lost_commits(company.home)
    printed = capsys.readouterr().err
    assert printed.startswith("The store lacks the last 3 commits that were made; what")
    assert "repeat the missing imports and runs" in printed


def test_the_owner_has_a_name_to_change(company: Company, run: Run) -> None:
    assert run("me", "--name", "Olga").exit_code == OK
    assert run("me").stdout == "Olga, admin\n"
    assert run("me", "--name", "two\nlines").exit_code == USAGE


def test_a_token_of_the_environment_is_who_asks(
    company: Company, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    company("set_team", on=True)
    viewer = company.join("viewer")["person"]
    monkeypatch.setenv(TOKEN, company("make_token", by=viewer, name="t")["token"])
    assert json.loads(run("me", "--json").stdout)["name"] == "Viewer"
    refused = run("delete", "anything", "--json")
    assert refused.exit_code == NOT_ALLOWED
    assert json.loads(refused.stdout)["error"] == "ForbiddenError"
    monkeypatch.setenv(TOKEN, "tb_wrong")
    assert json.loads(run("me", "--json").stdout)["error"] == "SignedOutError"


@pytest.mark.feature("rating", "bias")
def test_files_of_whoever_does_not_own_the_machine_are_uploaded(
    company: Company, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company("set_team", on=True)
    member = company.join("member")["person"]
    file, other = tmp_path / "rows.csv", tmp_path / "more.csv"
    file.write_text("question,answer\na,b\n")
    other.write_text("question,answer\nc,d\n")

    def source(*words: str) -> object:
        job_id = json.loads(run("import", *words, "--no-wait", "--json").stdout)["job_id"]
        return job_queue.get_job(company.database, job_id).config["source"]

    assert source(str(file), "--name", "owner's") == {"path": str(file), "hub_split": "train", **EMPTY}
    monkeypatch.setenv(TOKEN, company("make_token", by=member, name="t")["token"])
    assert source(str(file)) == {"upload": "rows.csv", "hub_split": "train", **EMPTY}
    several = source(str(file), str(other), "--name", "both")
    assert several == {"uploads": ["rows (2).csv", "more.csv"], "hub_split": "train", "paths": []}
    assert (company.home.uploads / "more.csv").read_text() == other.read_text()
    votes = json.loads(run("round", "import", str(file), "--no-wait", "--json").stdout)
    config = job_queue.get_job(company.database, votes["round_id"]).config
    assert config["round"]["upload"] == "rows (3).csv"
    bias = run("bias", "nothing", "--file", str(file), "--no-wait", "--json")
    assert "There is no run 'nothing'" in bias.stdout  # the file was no hindrance
    folder = run("import", str(tmp_path), "--no-wait", "--json")
    assert json.loads(folder.stdout)["error"] == "ForbiddenError"


def test_a_token_works_for_who_can_not_read_the_home_folder(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    company("set_team", on=True)
    token = company("make_token", by=company.join("member")["person"], name="t")["token"]
    address = json.loads(company.home.engine_file.read_text())["address"]
    elsewhere = Home(tmp_path / "of-another-user")
    monkeypatch.setenv(ADDRESS, address)
    monkeypatch.setenv(TOKEN, token)
    assert Client(elsewhere).me().name == "Member"
    monkeypatch.delenv(TOKEN)
    with pytest.raises(EngineUnavailable):  # an address alone is nobody's
        Client(elsewhere).me()


def test_no_engine_is_started_in_place_of_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "tb_x")
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")
    with pytest.raises(EngineUnavailable, match="No engine is reachable"):
        processes.start_engine(Home(tmp_path / "home"))
    processes.forget_api_token()
    assert TOKEN not in os.environ
    assert ADDRESS not in os.environ


def test_the_screens_ignore_a_token_of_the_environment(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "tb_wrong")
    assert Client(company.home, secret=company.home.screens_token).me().person_id == "owner"


def test_screens_for_other_machines_take_sign_in(company: Company) -> None:
    served = ScreensOptions(8501, "0.0.0.0")
    with pytest.raises(ConfigError, match="without sign-in") as caught:
        require_team(company.home, served)
    assert caught.value.field == "host"
    require_team(company.home, ScreensOptions(8501))  # loopback needs none
    require_team(company.home, served, turn_on=True)
    require_team(company.home, served)


@pytest.mark.parametrize(
    ("served", "field"),
    [
        (ScreensOptions(1, "nobody-has-this-name.invalid"), "host"),
        (ScreensOptions(1, "0.0.0.0.0"), "host"),
        (ScreensOptions(1, ":::"), "host"),
        (ScreensOptions(1, ""), "host"),
        (ScreensOptions(1, trusted_proxy=["everyone"]), "trusted_proxy"),
        (ScreensOptions(1, trusted_proxy=["*"]), "trusted_proxy"),
        (ScreensOptions(1, allow_host=["http://lab"]), "allow_host"),
    ],
)
def test_what_is_no_interface_proxy_or_name_is_refused(served: ScreensOptions, field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        served.check()
    assert caught.value.field == field


def test_the_command_of_the_screens_says_where_they_listen_and_whom_they_trust() -> None:
    served = ScreensOptions(8501, "192.0.2.7", ["lab.example.org"], ["192.0.2.1"])
    served.check()
    command = served.command()
    assert "--trusted-proxy=192.0.2.1" in command
    assert {"--allow-host=lab.example.org", "--allow-host=192.0.2.7"} <= set(command)
    assert served.address == "http://192.0.2.7:8501"
    assert "--host=192.0.2.7" in command
