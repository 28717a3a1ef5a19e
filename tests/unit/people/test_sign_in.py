"""Coming in: invitations that work once, passwords, sessions that end, and what an attempt is told."""

from __future__ import annotations

import pytest

from engine.server.identity import BROWSER_COOKIE_SECONDS, IDLE_SECONDS, SEEN_SECONDS, SESSION_SECONDS
from engine.server.login import TRIES_OF_ACCOUNT, TRIES_OF_ADDRESS
from store.core.errors import (
    BusyError,
    ConfigError,
    ForbiddenError,
    NotFoundError,
    SignedOutError,
    StateError,
    TunebenchError,
)
from store.core.processes import SteadyClock
from tests.unit.people_samples import PASSWORD, Company

DAY = 24 * 3600.0


def is_in(company: Company, session: str) -> bool:
    """Whether the engine knows the session."""
    return company.engine(session).get("/me").status_code == 200


def test_an_invitation_makes_one_account_with_its_role(company: Company) -> None:
    secret = company.invite("rater")["secret"]
    offer = company.door("invitation", {"secret": secret})
    assert (offer["role"], offer["email"], offer["name"]) == ("rater", None, None)
    body = {"secret": secret, "email": "Rita@Example.org", "name": "Rita", "password": PASSWORD}
    signed_in = company.door("accept", body)
    assert signed_in["person"].role == "rater"
    assert is_in(company, signed_in["session"])
    with pytest.raises(NotFoundError, match="already used"):
        company.door("accept", body | {"email": "other@example.org"})
    assert company.sign_in("rita@example.org")["person"].name == "Rita"


def test_an_invitation_that_two_use_at_once_makes_one_account(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has its invitation until the first is in: while its password is hashed, which takes long."""
    passwords = company.people.commands.passwords
    own, secret = passwords.hash, company.invite("admin")["secret"]
    body = {"secret": secret, "email": "first@example.org", "name": "A", "password": PASSWORD}

    def hash_while_the_first_comes_in(password: str) -> str:
        monkeypatch.setattr(passwords, "hash", own)
        company.door("accept", body)
        return own(password)

    monkeypatch.setattr(passwords, "hash", hash_while_the_first_comes_in)
    with pytest.raises(NotFoundError, match="already used"):
        company.door("accept", body | {"email": "second@example.org"})
    assert [member.email for member in company.people.team().members] == ["first@example.org"]


def test_an_invitation_that_failed_can_be_used_again(company: Company) -> None:
    secret = company.invite("member")["secret"]
    body = {"secret": secret, "email": "m@example.org", "name": "M", "password": PASSWORD}
    for wrong, field in [
        ({"password": "short"}, "password"),
        ({"password": "m@example.org"}, "password"),
        ({"email": None}, "email"),
        ({"email": "nobody"}, "email"),
        ({"name": None}, "name"),
        ({"name": "two\nlines"}, "name"),
    ]:
        with pytest.raises(ConfigError) as caught:
            company.door("accept", body | wrong)
        assert caught.value.field == field
    company.join("viewer", "taken@example.org")
    with pytest.raises(ConfigError, match="has an account already"):
        company.door("accept", body | {"email": "taken@example.org"})
    company.door("accept", body)


def test_an_invitation_for_an_address_gives_that_one_alone(company: Company) -> None:
    secret = company.invite("member", email="Mia@example.org")["secret"]
    body = {"secret": secret, "email": "eve@example.org", "name": "Mia", "password": PASSWORD}
    company.door("accept", body)
    assert company.sign_in("mia@example.org")
    with pytest.raises(ConfigError, match="has an account already"):
        company.invite("member", email="mia@example.org")


def test_an_invitation_expires_and_can_be_taken_back(company: Company) -> None:
    made = company.invite("member", days=2)
    other = company.invite("member")
    company("take_back_invitation", invitation=other["invitation_id"])
    with pytest.raises(NotFoundError):
        company.door("invitation", {"secret": other["secret"]})
    with pytest.raises(NotFoundError):
        company("take_back_invitation", invitation=other["invitation_id"])
    company.now += 2 * DAY
    for name in ("invitation", "accept"):
        body = {"secret": made["secret"], "email": "a@b.c", "name": "A", "password": PASSWORD}
        with pytest.raises(StateError, match="expired"):
            company.door(name, body if name == "accept" else {"secret": made["secret"]})
    assert company.people.team().invitations == []


def test_nothing_that_opens_anything_is_in_the_store(company: Company) -> None:
    invitation = company.invite("viewer")["secret"]
    member = company.join("member")
    token = company("make_token", by=member["person"], name="t")["token"]
    company.database.close()
    content = b"".join(path.read_bytes() for path in company.home.path.glob("tunebench.duckdb*"))
    assert b"member@example.org" in content
    for secret in (invitation, member["session"], token, PASSWORD):
        assert secret.encode() not in content


def test_a_wrong_password_and_an_unknown_address_are_told_the_same(company: Company) -> None:
    company.join("member")
    off = company.join("viewer")
    company("set_active", person=off["person"].person_id, active=False)
    refusals = set()
    for email in ("member@example.org", "nobody@example.org", "viewer@example.org"):
        password = PASSWORD if email.startswith("viewer") else "another sentence"
        with pytest.raises(SignedOutError) as caught:
            company.sign_in(email, password)
        refusals.add(str(caught.value))
    assert len(refusals) == 1


def test_an_unknown_address_takes_as_long(company: Company) -> None:
    """By the work that is done, not by a clock: both hash once."""
    company.join("member")
    work = company.people.commands.passwords
    calls: list[str | None] = []
    check = work.is_right

    def counted(kept: str | None, password: str) -> bool:
        calls.append(kept)
        return check(kept, password)

    work.is_right = counted  # type: ignore[method-assign]
    for email in ("member@example.org", "nobody@example.org"):
        with pytest.raises(SignedOutError):
            company.sign_in(email, "another sentence")
    assert [kept is None for kept in calls] == [False, True]


def test_attempts_on_an_account_are_throttled_from_wherever_they_come(company: Company) -> None:
    company.join("member")
    for number in range(TRIES_OF_ACCOUNT):
        with pytest.raises(SignedOutError):
            company.sign_in("member@example.org", "another sentence", f"192.0.2.{number}")
    with pytest.raises(BusyError) as caught:
        company.sign_in("member@example.org", PASSWORD, "192.0.2.99")
    assert caught.value.retry_after == 1
    company.now += 1
    assert company.sign_in("member@example.org")
    for _ in range(TRIES_OF_ACCOUNT):  # a right one cleared what was held against it
        with pytest.raises(SignedOutError):
            company.sign_in("member@example.org", "another sentence")


def test_others_guesses_keep_nobody_out_of_a_browser_that_is_known(company: Company) -> None:
    cookie = company.join("member")["browser_cookie"]
    company.join("viewer")
    for number in range(TRIES_OF_ACCOUNT):
        with pytest.raises(SignedOutError):
            company.sign_in("member@example.org", "another sentence", f"192.0.2.{number}")
    for number in range(TRIES_OF_ADDRESS):
        with pytest.raises(SignedOutError):
            company.sign_in(f"{number}@example.org", "another sentence", "192.0.2.66")
    with pytest.raises(BusyError):
        company.sign_in("member@example.org", address="192.0.2.66")
    assert company.sign_in("member@example.org", address="192.0.2.66", cookie=cookie)
    with pytest.raises(BusyError):  # which has cleared nothing of what guessers are held to
        company.sign_in("member@example.org", address="192.0.2.99")
    with pytest.raises(BusyError):  # and is of this account alone
        company.sign_in("viewer@example.org", address="192.0.2.66", cookie=cookie)


def test_a_known_browser_has_as_many_attempts_as_any(company: Company) -> None:
    first = company.join("member")["browser_cookie"]
    second = company.sign_in("member@example.org")["browser_cookie"]
    for _ in range(TRIES_OF_ACCOUNT):
        with pytest.raises(SignedOutError):
            company.sign_in("member@example.org", "another sentence", cookie=first)
    with pytest.raises(BusyError):
        company.sign_in("member@example.org", cookie=first)
    assert company.sign_in("member@example.org", cookie=second)
    assert company.sign_in("member@example.org")


def test_a_browser_is_known_by_our_signature_until_the_password_changes_or_a_year_is_over(
    company: Company,
) -> None:
    member = company.join("member")
    cookie = member["browser_cookie"]
    browser, since, signature = cookie.split(".")

    def is_known(cookie: str) -> bool:
        for number in range(TRIES_OF_ACCOUNT):
            with pytest.raises((SignedOutError, BusyError)):
                company.sign_in("member@example.org", "another sentence", f"192.0.2.{number}")
        try:
            return bool(company.sign_in("member@example.org", cookie=cookie))
        except BusyError:
            return False

    assert is_known(cookie)
    for forged in (
        f"{browser}x.{since}.{signature}",
        f"{browser}.{int(since) + 1}.{signature}",
        f"{browser}.{since}.{'0' * 64}",
        "..",
        "a.b.é",
    ):
        assert not is_known(forged)
    company.now += BROWSER_COOKIE_SECONDS - 1
    assert is_known(cookie)
    company.now += 1
    assert not is_known(cookie)
    company.now += DAY
    cookie = company.sign_in("member@example.org")["browser_cookie"]
    company("set_own_password", by=member["person"], current=PASSWORD, password=PASSWORD)
    assert not is_known(cookie)


def test_attempts_from_an_address_are_throttled_whatever_they_try(company: Company) -> None:
    company.join("member")
    for number in range(TRIES_OF_ADDRESS):
        with pytest.raises(SignedOutError):
            company.sign_in(f"{number}@example.org", "another sentence", "192.0.2.66")
    with pytest.raises(BusyError):
        company.sign_in("member@example.org", PASSWORD, "192.0.2.66")
    assert company.sign_in("member@example.org", address="192.0.2.1")


def test_in_ipv6_a_network_is_one_address_to_the_throttle(company: Company) -> None:
    company.join("member")
    for number in range(TRIES_OF_ADDRESS):
        with pytest.raises(SignedOutError):
            company.sign_in(f"{number}@example.org", "another sentence", f"2001:db8::{number:x}")
    with pytest.raises(BusyError):
        company.sign_in("member@example.org", PASSWORD, "2001:db8::ffff:1")
    assert company.sign_in("member@example.org", address="2001:db8:0:1::1")


def test_a_session_ends_when_it_is_not_used_and_at_last_in_any_case(company: Company) -> None:
    session = company.join("member")["session"]
    company.now += IDLE_SECONDS - 1
    assert is_in(company, session)
    company.now += IDLE_SECONDS - 1
    assert is_in(company, session)
    company.now += IDLE_SECONDS + 1
    assert not is_in(company, session)

    session, began = company.sign_in("member@example.org")["session"], company.now
    while company.now - began < SESSION_SECONDS - DAY:
        company.now += DAY
        assert is_in(company, session)
    company.now = began + SESSION_SECONDS
    assert not is_in(company, session)


def test_a_session_ends_at_once_wherever_it_was_kept(company: Company) -> None:
    member = company.join("member")
    elsewhere = company.sign_in("member@example.org")
    engine = company.engine(elsewhere["session"])
    assert engine.get("/me").status_code == 200
    company("end_session", by=member["person"], session=elsewhere["person"].session_id)
    assert engine.get("/me").status_code == 401
    assert engine.get("/me").json()["error"] == "SignedOutError"
    company.door("sign_out", {"session": member["session"]})
    assert not is_in(company, member["session"])
    company.door("sign_out", {"session": member["session"]})  # twice is no error


def test_a_session_is_looked_up_in_the_store_once_a_minute(company: Company) -> None:
    engine = company.engine(company.join("member")["session"])
    asked: list[str] = []
    query = company.database.query

    def counted(sql: str, params: object = ()) -> object:
        asked.append(sql)
        return query(sql, params)  # type: ignore[arg-type]

    company.database.query = counted  # type: ignore[method-assign,assignment]
    for _ in range(20):
        assert engine.get("/me").status_code == 200
    assert len(asked) == 1
    company.now += SEEN_SECONDS + 1
    assert engine.get("/me").status_code == 200
    assert len(asked) == 2


def test_a_new_password_by_link_keeps_the_account_and_ends_its_sessions(company: Company) -> None:
    member = company.join("member")
    person_id = member["person"].person_id
    first = company("reset_password", person=person_id)["secret"]
    secret = company("reset_password", person=person_id)["secret"]
    with pytest.raises(NotFoundError):  # the second took the first one's place
        company.door("invitation", {"secret": first})
    offer = company.door("invitation", {"secret": secret})
    assert (offer["name"], offer["email"]) == ("Member", "member@example.org")
    tokens = [company("make_token", by=member["person"], name=name)["token"] for name in ("a", "b")]
    script = company.engine(bearer=tokens[0])
    assert script.get("/me").status_code == 200
    again = company.door("accept", {"secret": secret, "password": "a newer sentence"})
    assert again["person"].person_id == person_id
    assert again["ended_tokens"] == 2
    assert script.get("/me").status_code == 401  # the one that was in memory, too
    assert company.engine(bearer=tokens[1]).get("/me").status_code == 401
    assert not is_in(company, member["session"])
    assert is_in(company, again["session"])
    with pytest.raises(SignedOutError):
        company.sign_in("member@example.org", PASSWORD)
    assert company.sign_in("member@example.org", "a newer sentence")
    with pytest.raises(NotFoundError):
        company.door("accept", {"secret": secret, "password": "a newer sentence"})


def test_a_hash_of_less_work_is_made_anew_at_the_next_sign_in(company: Company) -> None:
    company.join("member")
    work = company.people.commands.passwords
    work.is_outdated = lambda kept: True  # type: ignore[method-assign]
    before = company.database.query("SELECT password FROM account").to_pylist()
    company.sign_in("member@example.org")
    assert company.database.query("SELECT password FROM account").to_pylist() != before
    assert company.sign_in("member@example.org")


def test_a_verified_address_needs_an_account_or_an_invitation(company: Company) -> None:
    with pytest.raises(ForbiddenError, match="No account"):
        company.door("verified_sign_in", {"email": "new@example.org"})
    company.invite("rater", email="New@example.org")
    came = company.door("verified_sign_in", {"email": "NEW@example.org", "name": "Nell"})
    assert (came["person"].name, came["person"].role) == ("Nell", "rater")
    assert company.people.team().invitations == []
    again = company.door("verified_sign_in", {"email": "new@example.org", "name": "Other"})
    assert again["person"].person_id == came["person"].person_id
    assert again["person"].name == "Nell"
    with pytest.raises(SignedOutError):  # there is no password
        company.sign_in("new@example.org", "")
    company("set_active", person=came["person"].person_id, active=False)
    assert not is_in(company, came["session"])
    with pytest.raises(ForbiddenError, match="switched off"):
        company.door("verified_sign_in", {"email": "new@example.org"})


def test_who_typed_anothers_address_is_out_once_its_owner_comes(company: Company) -> None:
    squatter = company.join("member", "victim@example.org", "Squatter")
    token = company("make_token", by=squatter["person"], name="t")["token"]
    company.door("verified_sign_in", {"email": "victim@example.org"})
    assert not is_in(company, squatter["session"])
    assert company.engine(bearer=token).get("/me").status_code == 401
    with pytest.raises(SignedOutError):
        company.sign_in("victim@example.org")


def test_an_address_that_an_admin_gave_keeps_its_password(company: Company) -> None:
    secret = company.invite("member", email="mia@example.org")["secret"]
    by_password = company.door("accept", {"secret": secret, "name": "Mia", "password": PASSWORD})
    company.door("verified_sign_in", {"email": "mia@example.org"})
    assert is_in(company, by_password["session"])
    assert company.sign_in("mia@example.org")


def test_an_open_invitation_without_an_address_is_not_anybodys(company: Company) -> None:
    company.invite("admin")
    with pytest.raises(ForbiddenError):
        company.door("verified_sign_in", {"email": "new@example.org"})


def test_with_sign_in_off_the_door_asks_for_nobody(company: Company) -> None:
    session = company.join("member")["session"]
    company("set_team", on=False)
    assert company.door("state", {}) == {"team": False}
    for name in company.people.door:
        if name != "state":
            with pytest.raises(StateError, match="Sign-in is off"):
                company.door(name, {"session": session})
    company("set_team", on=True)
    assert is_in(company, session)


def test_a_password_is_never_repeated_in_a_refusal(company: Company) -> None:
    secret = company.invite("member")["secret"]
    for body in (
        {"secret": secret, "email": "no address", "name": "x", "password": "hunter2 hunter2"},
        {"secret": secret, "email": "a@b.c", "name": "x", "password": "hunter2"},
        {"secret": secret, "email": "a@b.c", "name": "x", "password": ["hunter2 hunter2"], "more": 1},
    ):
        with pytest.raises(TunebenchError) as caught:
            company.door("accept", body)
        if isinstance(body["password"], str):
            assert "hunter2" not in str(caught.value.to_dict())


# -- a clock that is set back ------------------------------------------------------------------------


def pass_time(company: Company, seconds: float) -> None:
    company.now += seconds
    company.ran += seconds


def test_a_clock_that_is_set_back_locks_nobody_out(company: Company) -> None:
    session = company.join("member")["session"]
    token = company("make_token", by=company.sign_in("member@example.org")["person"], name="t")["token"]
    for number in range(TRIES_OF_ACCOUNT + 3):
        with pytest.raises((SignedOutError, BusyError)):
            company.sign_in("member@example.org", "another sentence", f"192.0.2.{number}")
    company.now -= DAY
    with pytest.raises(BusyError) as caught:
        company.sign_in("member@example.org")
    assert caught.value.retry_after == 1
    assert is_in(company, session)
    assert company.engine(bearer=token).get("/me").status_code == 200
    pass_time(company, 1)
    again = company.sign_in("member@example.org")["session"]
    assert is_in(company, again)
    company.restart()
    assert is_in(company, session)
    assert is_in(company, company.sign_in("member@example.org")["session"])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_session_that_has_ended_does_not_come_back_with_the_clock(
    company: Company, restarted: bool
) -> None:
    session = company.join("member")["session"]
    pass_time(company, IDLE_SECONDS + 60)
    if restarted:
        company.restart()
    else:
        assert not is_in(company, session)
    company.now -= DAY
    assert not is_in(company, session)
    company.restart()
    assert not is_in(company, session)


def test_an_invitation_that_has_expired_does_not_come_back_with_the_clock(company: Company) -> None:
    secret = company.invite("member", days=1)["secret"]
    pass_time(company, DAY + 1)
    with pytest.raises(StateError, match="expired"):
        company.door("invitation", {"secret": secret})
    company.now -= DAY
    with pytest.raises(StateError, match="expired"):
        company.door("invitation", {"secret": secret})


def test_time_goes_on_by_what_passes_until_the_clock_has_caught_up() -> None:
    wall, ran = [1000.0], [0.0]
    clock = SteadyClock(lambda: wall[0], lambda: ran[0])
    assert clock() == 1000
    wall[0], ran[0] = 900, 5
    assert clock() == 1005
    wall[0], ran[0] = 930, 35
    assert clock() == 1035
    wall[0], ran[0] = 1036, 35.5  # it was put right
    assert clock() == 1036
