"""What admins do about people, and everybody about their own account."""

from __future__ import annotations

import pytest

from engine.server.login import TRIES_OF_ACCOUNT
from engine.server.people_commands import MAX_TOKENS, TRIES_OF_CURRENT
from store.core.documents import parse_document
from store.core.errors import (
    BusyError,
    ConfigError,
    ForbiddenError,
    NotFoundError,
    SignedOutError,
    StateError,
)
from store.core.schemas import Person
from store.people import accounts
from tests.unit.people_samples import PASSWORD, Company


def is_in(company: Company, session: str) -> bool:
    return company.engine(session).get("/me").status_code == 200


def test_another_role_counts_from_a_new_session_on(company: Company) -> None:
    company.join("admin")
    member = company.join("member")
    company("set_role", person=member["person"].person_id, role="viewer")
    assert not is_in(company, member["session"])
    assert company.sign_in("member@example.org")["person"].role == "viewer"
    kept = company.sign_in("member@example.org")
    company("set_role", person=member["person"].person_id, role="viewer")  # the same: nothing ends
    assert is_in(company, kept["session"])


def test_the_last_admin_stays_one(company: Company) -> None:
    first, second = company.join("admin", "a@example.org"), company.join("admin", "b@example.org")
    company("set_role", by=first["person"], person=second["person"].person_id, role="member")
    person_id = first["person"].person_id
    for command, body in (("set_role", {"role": "member"}), ("set_active", {"active": False})):
        with pytest.raises(StateError, match="the last admin"):
            company(command, person=person_id, **body)
    company("set_role", person=second["person"].person_id, role="admin")
    company("set_active", person=second["person"].person_id, active=False)
    with pytest.raises(StateError, match="the last admin"):  # one who may not sign in is none
        company("set_role", person=person_id, role="viewer")
    company("set_role", person=second["person"].person_id, role="viewer")  # who is off may change
    assert is_in(company, first["session"])


def test_who_is_switched_off_is_out_at_once_and_so_is_what_they_made(company: Company) -> None:
    company.join("admin")
    other = company.join("admin", "other@example.org")
    person_id = other["person"].person_id
    token = company("make_token", by=other["person"], name="t")["token"]
    invitation = company("invite", by=other["person"], role="admin")
    reset = company("reset_password", person=person_id)
    script = company.engine(bearer=token)
    assert script.get("/me").json()["name"] == "Admin"
    ended = company("set_active", person=person_id, active=False)
    assert ended == {"ended_sessions": 1, "ended_tokens": 1}
    assert not is_in(company, other["session"])
    assert script.get("/me").status_code == 401
    for secret in (invitation["secret"], reset["secret"]):
        with pytest.raises(NotFoundError):
            company.door("invitation", {"secret": secret})
    with pytest.raises(StateError, match="may not sign in"):
        company("reset_password", person=person_id)
    company("set_active", person=person_id, active=True)
    assert company.sign_in("other@example.org")
    assert not is_in(company, other["session"])  # nothing comes back with the account
    assert company.engine(bearer=token).get("/me").status_code == 401


def test_what_is_left_of_somebody_who_is_switched_off_lets_nobody_in(company: Company) -> None:
    """A session and a token that outlived it, such as those of a store that was brought back from a copy."""
    member = company.join("member")
    token = company("make_token", by=member["person"], name="t")["token"]
    with company.database.transaction() as tx:
        accounts.set_active(tx, member["person"].person_id, False)
    assert not is_in(company, member["session"])
    assert company.engine(bearer=token).get("/me").status_code == 401


def test_a_demoted_admins_invitations_are_gone(company: Company) -> None:
    company.join("admin")
    other = company.join("admin", "other@example.org")
    secret = company("invite", by=other["person"], role="admin")["secret"]
    company("set_role", person=other["person"].person_id, role="member")
    with pytest.raises(NotFoundError):
        company.door("invitation", {"secret": secret})


def test_sign_in_is_turned_on_and_off_on_the_machine_alone(company: Company) -> None:
    admin = company.join("admin")["person"]
    with pytest.raises(ForbiddenError, match="on the machine alone"):
        company("set_team", by=admin, on=False)
    company("set_team", on=False)
    assert company.engine().get("/me").json()["person_id"] == "owner"


def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(company: Company) -> None:
    member = company.join("member")
    elsewhere = company.sign_in("member@example.org")
    with pytest.raises(ConfigError, match="current password") as caught:
        company(
            "set_own_password", by=member["person"], current="wrong sentence", password="a newer sentence"
        )
    assert caught.value.field == "current"
    with pytest.raises(ConfigError):
        company("set_own_password", by=member["person"], current=PASSWORD, password="short")
    secrets = [
        company("make_token", by=member["person"], name=name)["token"] for name in ("nightly", "daily")
    ]
    ended = company("set_own_password", by=member["person"], current=PASSWORD, password="a newer sentence")
    assert ended == {"ended_sessions": 1, "ended_tokens": 2}
    assert is_in(company, member["session"])
    assert not is_in(company, elsewhere["session"])
    assert [company.engine(bearer=token).get("/me").status_code for token in secrets] == [401, 401]
    assert company.sign_in("member@example.org", "a newer sentence")


def test_guesses_at_the_door_do_not_stop_a_new_password_in_an_open_session(company: Company) -> None:
    member = company.join("member")
    for number in range(TRIES_OF_ACCOUNT):
        with pytest.raises(SignedOutError):
            company.sign_in("member@example.org", "another sentence", f"192.0.2.{number}")
    with pytest.raises(BusyError):
        company.sign_in("member@example.org", address="192.0.2.99")
    company("set_own_password", by=member["person"], current=PASSWORD, password="a newer sentence")


def test_whoever_finds_an_open_session_does_not_guess_its_password_without_end(company: Company) -> None:
    member = company.join("member")
    elsewhere = company.sign_in("member@example.org")
    body = {"current": "wrong sentence", "password": "a newer sentence"}
    for _ in range(TRIES_OF_CURRENT):
        with pytest.raises(ConfigError, match="current password"):
            company("set_own_password", by=member["person"], **body)
    with pytest.raises(BusyError):
        company("set_own_password", by=member["person"], **body)
    company("set_own_password", by=elsewhere["person"], **body | {"current": PASSWORD})


def test_another_name_is_seen_at_the_next_request(company: Company) -> None:
    member = company.join("member")
    engine = company.engine(member["session"])
    assert engine.get("/me").json()["name"] == "Member"
    engine.post("/commands/set_own_name", json={"name": "Mia"})
    assert engine.get("/me").json()["name"] == "Mia"


def test_the_owner_has_a_name_without_an_account(company: Company) -> None:
    company("set_team", on=False)
    owner = company.engine()
    assert owner.get("/me").json()["name"]
    owner.post("/commands/set_own_name", json={"name": "Olga"})
    assert owner.get("/me").json() == {"person_id": "owner", "name": "Olga", "role": "admin"}
    assert owner.get("/account").json()["email"] is None
    answer = owner.post("/commands/make_token", json={"name": "t"})
    assert (answer.status_code, answer.json()["error"]) == (409, "StateError")


def test_people_end_their_own_sessions_and_admins_anybodys(company: Company) -> None:
    member, viewer, admin = company.join("member"), company.join("viewer"), company.join("admin")
    with pytest.raises(NotFoundError):
        company("end_session", by=viewer["person"], session=member["person"].session_id)
    assert is_in(company, member["session"])
    company("end_session", by=admin["person"], session=member["person"].session_id)
    assert not is_in(company, member["session"])
    company("end_sessions", by=admin["person"], person=viewer["person"].person_id)
    assert not is_in(company, viewer["session"])


def test_sessions_are_listed_with_the_one_that_asks(company: Company) -> None:
    member = company.join("member")
    company.now += 60
    company.sign_in("member@example.org", address="192.0.2.7")
    sessions = company.engine(member["session"]).get("/account").json()["sessions"]
    assert [session["current"] for session in sessions] == [True, False]
    assert sessions[1]["address"] == "192.0.2.7"
    assert all("secret" not in session for session in sessions)


def token_person(company: Company, token: str) -> Person:
    answer = company.engine(bearer=token).get("/me")
    assert answer.status_code == 200
    return parse_document(Person, answer.json())


def test_a_token_acts_for_its_person_until_it_is_revoked(company: Company) -> None:
    company.join("admin")
    member = company.join("member")
    made = company("make_token", by=member["person"], name="nightly import")
    assert made["token"].startswith("tb_")
    assert token_person(company, made["token"]).name == "Member"
    account = company.engine(member["session"]).get("/account").json()
    assert [(token["name"], token["used_at"]) for token in account["tokens"]] == [
        ("nightly import", company.now)
    ]
    with pytest.raises(ConfigError, match="already"):
        company("make_token", by=member["person"], name="nightly import")
    viewer = company.join("viewer")["person"]
    with pytest.raises(NotFoundError):
        company("revoke_token", by=viewer, token=made["token_id"])
    company("set_role", person=member["person"].person_id, role="viewer")
    assert token_person(company, made["token"]).role == "viewer"
    company("revoke_token", by=member["person"], token=made["token_id"])
    answer = company.engine(bearer=made["token"]).get("/me")
    assert (answer.status_code, answer.json()["error"]) == (401, SignedOutError.__name__)


def test_tokens_are_limited_and_nobodys_without_a_team(company: Company) -> None:
    member = company.join("member")["person"]
    for number in range(MAX_TOKENS):
        token = company("make_token", by=member, name=str(number))["token"]
    with pytest.raises(StateError, match="tokens already"):
        company("make_token", by=member, name="more")
    company("set_team", on=False)
    answer = company.engine(bearer=token).get("/me")
    assert answer.status_code == 401
    assert "sign-in is off" in answer.json()["message"]


def test_a_person_that_is_not_there_is_named(company: Company) -> None:
    for command, body in [
        ("set_role", {"role": "viewer"}),
        ("set_active", {"active": False}),
        ("reset_password", {}),
        ("end_sessions", {}),
    ]:
        with pytest.raises(NotFoundError, match="person-x"):
            company(command, person="person-x", **body)


def test_the_team_shows_who_was_seen_when_and_no_secret(company: Company) -> None:
    company.join("member")
    company.invite("viewer", email="v@example.org")
    company.now += 3600
    company.sign_in("member@example.org")
    team = company.people.team()
    [member] = team.members
    assert (member.name, member.email, member.has_password) == ("Member", "member@example.org", True)
    assert member.seen_at == company.now
    [invitation] = team.invitations
    assert (invitation.email, invitation.role) == ("v@example.org", "viewer")
    assert invitation.made_by == company.people.identity.owner.name
    assert "argon2" not in str(team)
    assert "secret" not in str(team)
