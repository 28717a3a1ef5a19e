"""Team and You against the real interface with real accounts: what each role sees, changes, and can not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.shared.engine_client import get_session_cookie
from store.core.home import Home
from store.core.rights import DEFAULT_ROLE
from store.core.schemas import CreatedSession
from store.people import settings
from tests.pages.conftest import Open, everything_said
from tests.unit.people_samples import Company, at_work

TEAM, YOU = "pages/people/team.py", "pages/people/you.py"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Company]:
    with at_work(Company(tmp_path)) as company:
        yield company


@pytest.fixture
def lone_office(tmp_path: Path) -> Iterator[Company]:
    with at_work(Company(tmp_path, team=False)) as company:
        yield company


def enter(cookies: dict[str, str], home: Home, somebody: CreatedSession) -> None:
    """The browser has this person's session."""
    cookies[get_session_cookie(str(home.path))] = somebody["session"]


def press(at: AppTest, label: str) -> None:
    next(button for button in at.button if button.label == label).click().run()


def links(at: AppTest) -> str:
    """What stands in the sidebar beside the navigation."""
    return "\n".join(element.proto.body for element in at.sidebar.get("html"))


def test_who_works_alone_is_told_what_a_team_is(lone_office: Company, open_page: Open) -> None:
    at = open_page(lone_office.home, TEAM)
    assert at.title[0].value == "Team"
    assert at.code[0].value == "tunebench up --team"
    assert "rater" in everything_said(at)
    assert links(at) == ""  # nobody has to sign out


def test_who_works_alone_has_a_name_that_can_be_changed(lone_office: Company, open_page: Open) -> None:
    at = open_page(lone_office.home, YOU)
    assert at.text_input[0].value == lone_office.people.identity.owner.name
    at.text_input[0].set_value("Olga")
    at.button[0].click().run()
    assert not at.exception
    assert lone_office.people.identity.owner.name == "Olga"
    assert [box.label for box in at.text_input] == ["Name (visible to others)"]  # no password, no tokens


def test_a_team_without_anybody_says_so_and_invites(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("admin", name="Ada *L*"))
    at = open_page(office.home, TEAM)
    page_text = everything_said(at)
    assert "1 person" in page_text
    assert "Ada *L*" in page_text
    assert "admin@example.org" in page_text
    assert "signed in in 1 browser" in page_text
    assert "Not configured: people sign in with passwords." in page_text
    assert "Ada *L*" in links(at)
    assert 'href="/sign-out"' in links(at)

    at.selectbox[1].set_value("rater")
    at.text_input[0].set_value("rita@example.org")
    press(at, "Create invitation link")
    assert not at.exception
    assert [invitation.email for invitation in office.people.team().invitations] == ["rita@example.org"]
    link = at.code[0].value
    code = link.partition("code=")[2]
    assert office.door("invitation", {"secret": code})["role"] == "rater"
    assert "for rita@example.org" in everything_said(at)
    at.button(key="put-link-away").click().run()
    assert code not in everything_said(at)
    assert not at.code

    [invitation] = office.people.team().invitations
    at.button(key=f"take-back-{invitation.invitation_id}").click().run()
    assert office.people.team().invitations == []


def test_an_admin_allows_a_private_network_and_takes_it_back(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("admin"))
    at = open_page(office.home, TEAM)
    at.text_input[-1].set_value("10.1.2.3/16")
    press(at, "Allow")
    assert not at.exception
    assert settings.networks(office.database) == ["10.1.0.0/16"]
    assert "**10.1.0.0/16**" in everything_said(at)
    at.button(key="refuse-10.1.0.0/16").click().run()
    assert settings.networks(office.database) == []
    at.text_input[-1].set_value("the lab")
    press(at, "Allow")
    assert "give a network such as 10.1.0.0/16" in everything_said(at)


def test_a_bad_address_is_said_at_the_form(office: Company, open_page: Open, cookies: dict[str, str]) -> None:
    enter(cookies, office.home, office.join("admin"))
    at = open_page(office.home, TEAM)
    at.text_input[0].set_value("nobody")
    press(at, "Create invitation link")
    assert "email is 'nobody'" in everything_said(at)
    assert office.people.team().invitations == []


def test_an_admin_changes_roles_ends_sessions_and_switches_accounts_off(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("admin"))
    member = office.join("member")
    person_id = member["person"].person_id
    at = open_page(office.home, TEAM)
    at.selectbox(key=f"role-{person_id}-member").set_value("viewer").run()
    assert not at.exception
    roles = {person.name: person.role for person in office.people.team().members}
    assert roles == {"Admin": "admin", "Member": "viewer"}

    office.sign_in("member@example.org")
    at.run()
    [session] = [s for s in office.people.team().sessions if s.person_id == person_id]
    at.button(key=f"end-{session.session_id}").click().run()
    assert [s for s in office.people.team().sessions if s.person_id == person_id] == []

    at.button(key=f"reset-{person_id}").click().run()
    assert "a new password for Member" in everything_said(at)
    code = at.code[0].value.partition("code=")[2]
    assert office.door("invitation", {"secret": code})["name"] == "Member"

    at.button(key=f"off-{person_id}").click().run()
    assert "deactivated" in everything_said(at)
    at.button(key=f"on-{person_id}").click().run()
    assert all(person.active for person in office.people.team().members)


def test_the_last_admin_is_told_why_they_stay(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    admin = office.join("admin")
    enter(cookies, office.home, admin)
    at = open_page(office.home, TEAM)
    at.selectbox(key=f"role-{admin['person'].person_id}-admin").set_value("viewer").run()
    assert "is the last admin" in everything_said(at)


@pytest.mark.parametrize("role", ["viewer", "rater", "member"])
def test_who_is_no_admin_has_no_page_team(
    office: Company, open_page: Open, cookies: dict[str, str], role: Any
) -> None:
    enter(cookies, office.home, office.join(role))
    at = open_page(office.home, YOU)
    assert at.title[0].value == "Your account"
    at.switch_page(TEAM).run()
    assert [note.value for note in at.info] == [
        f"This page is for admins, and you are a {role}. An admin can give you another role."
    ]
    assert not at.button


def test_a_rater_has_no_page_that_shows_what_others_read(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("rater"))
    at = open_page(office.home, YOU)
    for page in ("overview/overview", "data/data", "runs/run", "comparison/compare", "training/launch"):
        at.switch_page(f"pages/{page}.py").run()
        (note,) = [note.value for note in at.info]
        assert "you are a rater" in note
        assert not at.exception
        assert not at.button


def test_you_change_your_password_with_the_one_you_have(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    rater = office.join("rater")
    office("make_token", by=rater["person"], name="nightly")
    enter(cookies, office.home, rater)
    at = open_page(office.home, YOU)
    assert "revokes all API tokens" in everything_said(at)
    assert "nightly" in everything_said(at)
    boxes = {box.label: box for box in at.text_input}
    boxes["Current password"].set_value("wrong sentence")
    boxes["New password"].set_value("a newer sentence")
    button = next(button for button in at.button if button.label == "Change password")
    button.click().run()
    assert "The current password is wrong." in everything_said(at)
    boxes = {box.label: box for box in at.text_input}
    boxes["Current password"].set_value("a long sentence")
    boxes["New password"].set_value("a newer sentence")
    next(button for button in at.button if button.label == "Change password").click().run()
    assert not at.error
    assert "ended 0 sessions and 1 API token" in at.toast[0].value
    assert "nightly" not in everything_said(at)
    assert office.sign_in("rater@example.org", "a newer sentence")


def test_you_see_where_you_are_signed_in_and_end_it_elsewhere(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("viewer"))
    elsewhere = office.sign_in("viewer@example.org", address="192.0.2.9")["person"].session_id
    at = open_page(office.home, YOU)
    assert "192.0.2.9" in everything_said(at)
    at.button(key=f"end-{elsewhere}").click().run()
    assert "192.0.2.9" not in everything_said(at)


def test_a_token_is_shown_once_used_and_revoked(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    enter(cookies, office.home, office.join("member"))
    at = open_page(office.home, YOU)
    assert "No API tokens yet. Create one below." in everything_said(at)
    next(box for box in at.text_input if box.label == "Token name").set_value("nightly")
    next(button for button in at.button if button.label == "Create token").click().run()
    token = at.code[0].value
    assert office.engine(bearer=token).get("/me").json()["name"] == "Member"
    at.button(key="put-token-away").click().run()
    assert not at.code
    assert "nightly" in everything_said(at)
    revoke = next(button for button in at.button if button.label == "Revoke")
    revoke.click().run()
    assert office.engine(bearer=token).get("/me").status_code == 401
    assert "No API tokens yet. Create one below." in everything_said(at)


@pytest.mark.parametrize("remembered", [0.0, 60.0])  # seconds: within them a read is refused first
def test_who_was_signed_out_sees_that_at_the_next_click_and_nothing_else(
    office: Company,
    open_page: Open,
    cookies: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    remembered: float,
) -> None:
    monkeypatch.setattr("pages.shared.session.WHO_SECONDS", remembered)
    member = office.join("member")
    enter(cookies, office.home, member)
    at = open_page(office.home, YOU)
    office("end_sessions", person=member["person"].person_id)
    at.button[0].click().run()
    assert not at.exception
    assert [title.value for title in at.title] == ["You are signed out"]
    assert 'href="/sign-in"' in everything_said(at)
    assert not at.text_input


def test_nobody_in_particular_sees_nothing(office: Company, open_page: Open) -> None:
    """A page that came past the door without a session."""
    at = open_page(office.home, YOU)
    assert [title.value for title in at.title] == ["You are signed out"]


def test_an_invitation_begins_with_the_role_that_it_has_everywhere(
    office: Company, open_page: Open, cookies: dict[str, str]
) -> None:
    admin = office.join("admin")
    enter(cookies, office.home, admin)
    at = open_page(office.home, TEAM)
    role = [box for box in at.selectbox if box.label == "Role"][-1]  # below those of the people
    assert role.value == DEFAULT_ROLE
    made = office("invite", by=admin["person"])  # as the API has it where nothing is said
    assert office.door("invitation", {"secret": made["secret"]})["role"] == DEFAULT_ROLE
