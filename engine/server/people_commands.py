"""Commands for people: invitations, roles, sign-in; one's own name, password, tokens and sessions.

`People` combines them with identity and login, as `store.http.server` expects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.server import audit_log
from engine.server.command import PERSONAL, Command
from engine.server.identity import BrowserCookies, Identity
from engine.server.login import LoginRequests
from engine.server.passwords import Passwords, Throttle, check_password
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, StateError
from store.core.processes import SteadyClock
from store.core.rights import OWNER, RIGHTS
from store.core.schemas import (
    CreatedApiToken,
    CreatedInvitation,
    OwnAccount,
    Person,
    RevokedAccess,
    Role,
    Team,
)
from store.db.database import Database, Transaction
from store.http.access import API_TOKEN, create_secret, hash_secret
from store.http.schemas import EmptyAnswer
from store.jobs import job_queue
from store.people import accounts, settings
from store.people.config import (
    ApiTokenId,
    InvitationId,
    Invite,
    NewApiToken,
    OwnName,
    OwnPassword,
    PersonActive,
    PersonId,
    PersonRole,
    SessionId,
    TeamSetting,
)

# Every change ends what must not outlive it (sessions, invitations) in its own transaction, and clears the
# cache of `Identity`. The last admin can't be removed.

DAY = 24 * 3600.0
MAX_TOKENS = 50  # per person
TRIES_OF_CURRENT = 5  # attempts at the current password per session before waits begin


class PeopleCommands:
    """People commands of one store, and the queries about people."""

    def __init__(
        self, database: Database, identity: Identity, passwords: Passwords, clock: Callable[[], float]
    ) -> None:
        self.database, self.identity, self.passwords, self.clock = database, identity, passwords, clock
        self._tries = Throttle(TRIES_OF_CURRENT, clock)

    def table(self) -> dict[str, Command]:
        """Return the commands by name."""
        commands = {
            "set_team": Command(TeamSetting, self.set_team, audit_log.build_team_subject, by_person=True),
            "invite": Command(Invite, self.invite, audit_log.build_team_subject, by_person=True),
            "take_back_invitation": Command(
                InvitationId, self.take_back_invitation, audit_log.build_team_subject, by_person=True
            ),
            "reset_password": Command(
                PersonId, self.reset_password, audit_log.find_person_subject, by_person=True
            ),
            "set_role": Command(PersonRole, self.set_role, audit_log.find_person_subject, by_person=True),
            "set_active": Command(
                PersonActive, self.set_active, audit_log.find_person_subject, by_person=True
            ),
            "end_sessions": Command(
                PersonId, self.end_sessions, audit_log.find_person_subject, by_person=True
            ),
            "set_own_name": Command(OwnName, self.set_own_name, PERSONAL, by_person=True),
            "set_own_password": Command(OwnPassword, self.set_own_password, PERSONAL, by_person=True),
            "end_session": Command(SessionId, self.end_session, PERSONAL, by_person=True),
            "make_token": Command(NewApiToken, self.make_token, PERSONAL, by_person=True),
            "revoke_token": Command(ApiTokenId, self.revoke_token, PERSONAL, by_person=True),
        }
        return {
            name: command._replace(act=self._looked_up_anew(command.act))
            for name, command in commands.items()
        }

    def _looked_up_anew(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def acted(body: Any, person: Person) -> Any:
            try:
                return act(body, person)
            finally:
                self.identity.forget()

        return acted

    # -- the team -----------------------------------------------------------------------------------

    def team(self) -> Team:
        """Return all members, their sessions, and open invitations."""
        invited = accounts.list_open_invitations(self.database, job_queue.to_utc(self.clock()))
        for invitation in invited:
            if invitation.made_by == OWNER.person_id:
                invitation.made_by = self.identity.owner.name
        return Team(
            members=accounts.list_members(self.database),
            invitations=invited,
            sessions=accounts.list_all_sessions(self.database),
        )

    def set_team(self, body: TeamSetting, person: Person) -> EmptyAnswer:
        """Turn sign-in on or off; for the owner of the home folder only."""
        if not is_owner(person):
            raise ForbiddenError(
                "Sign-in is turned on and off on the machine alone.",
                fix="Use the command there: tunebench team off",
            )
        with self.database.transaction() as tx:
            settings.set_team(tx, body.on)
        return {}

    def invite(self, body: Invite, person: Person) -> CreatedInvitation:
        """Create an invitation link for one account."""
        with self.database.transaction() as tx:
            if body.email and accounts.find_account_by_email(tx, body.email):
                raise ConfigError(
                    f"{body.email} has an account already.",
                    fix="Change the role of that account on the page Team.",
                    field="email",
                )
            return self._invitation(tx, person, body.role, body.email, None, body.days)

    def reset_password(self, body: PersonId, person: Person) -> CreatedInvitation:
        """Create a link to set a new password for an existing account."""
        with self.database.transaction() as tx:
            account = accounts.get_account(tx, body.person)
            if not account.active:
                raise StateError(f"{account.name} may not sign in.", fix="Switch the account on again first.")
            accounts.remove_invitations_of(tx, body.person)
            return self._invitation(tx, person, account.role, account.email, body.person, 1)

    def _invitation(
        self, tx: Transaction, by: Person, role: Role, email: str | None, person_id: str | None, days: int
    ) -> CreatedInvitation:
        now, secret = self.clock(), create_secret()
        expires_at = now + days * DAY
        invitation_id = job_queue.create_id("invitation", now)
        accounts.add_invitation(
            tx,
            accounts.NewInvitation(
                invitation_id=invitation_id,
                secret=hash_secret(secret),
                role=role,
                email=email,
                person_id=person_id,
                made_by=by.person_id,
                created_at=job_queue.to_utc(now),
                expires_at=job_queue.to_utc(expires_at),
            ),
        )
        return {"invitation_id": invitation_id, "secret": secret, "expires_at": expires_at}

    def take_back_invitation(self, body: InvitationId, person: Person) -> EmptyAnswer:
        """Revoke an invitation."""
        with self.database.transaction() as tx:
            if not accounts.remove_invitation(tx, body.invitation):
                raise NotFoundError("This invitation was already used or revoked.")
        return {}

    def set_role(self, body: PersonRole, person: Person) -> EmptyAnswer:
        """Change a person's role; they have to sign in again."""
        with self.database.transaction() as tx:
            account = accounts.get_account(tx, body.person)
            if account.role == body.role:
                return {}
            if account.role == "admin":
                self._check_not_last(tx, account.active, account.name)
                accounts.remove_invitations_by(tx, body.person)
            accounts.set_role(tx, body.person, body.role)
            accounts.end_sessions(tx, body.person)
        return {}

    def set_active(self, body: PersonActive, person: Person) -> RevokedAccess:
        """Activate or deactivate an account.

        A deactivated person's work stays, with their name; sessions, tokens and invitations are removed, so
        that none of them comes back with the account.
        """
        ended = RevokedAccess(ended_sessions=0, ended_tokens=0)
        with self.database.transaction() as tx:
            account = accounts.get_account(tx, body.person)
            if not body.active:
                if account.role == "admin":
                    self._check_not_last(tx, account.active, account.name)
                ended = _end_access(tx, body.person)
                accounts.remove_invitations_of(tx, body.person)
                accounts.remove_invitations_by(tx, body.person)
            accounts.set_active(tx, body.person, body.active)
        return ended

    def _check_not_last(self, tx: Transaction, active: bool, name: str) -> None:
        if active and accounts.count_admins(tx) < 2:
            raise StateError(f"{name} is the last admin.", fix="Make another person an admin first.")

    def end_sessions(self, body: PersonId, person: Person) -> EmptyAnswer:
        """Sign a person out everywhere."""
        with self.database.transaction() as tx:
            accounts.get_account(tx, body.person)
            accounts.end_sessions(tx, body.person)
        return {}

    # -- one's own account --------------------------------------------------------------------------

    def account(self, person: Person) -> OwnAccount:
        """Return a person's own account."""
        account = OwnAccount(
            person=person,
            team=self.identity.team,
            email=None,
            has_password=False,
            sessions=[],
            tokens=[],
        )
        if is_owner(person):
            return account
        own = accounts.get_account(self.database, person.person_id)
        account.email, account.has_password = own.email, own.password is not None
        account.sessions = accounts.list_sessions(self.database, person.person_id, person.session_id)
        account.tokens = accounts.list_tokens(self.database, person.person_id)
        return account

    def set_own_name(self, body: OwnName, person: Person) -> EmptyAnswer:
        """Change one's own displayed name."""
        with self.database.transaction() as tx:
            if is_owner(person):
                settings.set_owner_name(tx, body.name)
            else:
                accounts.set_name(tx, person.person_id, body.name)
        return {}

    def set_own_password(self, body: OwnPassword, person: Person) -> RevokedAccess:
        """Change one's own password; all other sessions and all API tokens end."""
        self._check_account(person)
        account = accounts.get_account(self.database, person.person_id)
        if account.password:
            self._check_current(account.password, body.current or "", person)
        check_password(body.password, account.email)
        password = self.passwords.hash(body.password)
        with self.database.transaction() as tx:
            accounts.set_password(tx, person.person_id, password)
            return _end_access(tx, person.person_id, but=person.session_id)

    def _check_current(self, kept: str, current: str, person: Person) -> None:
        """Verify the current password, throttled by session (all tokens of a person as one), not by account.

        So guesses at the login don't block somebody who is signed in, and somebody who found an open session
        can't guess without limit.
        """
        key = person.session_id or person.person_id
        self._tries.begin(key)
        if not self.passwords.is_right(kept, current):
            raise ConfigError("The current password is wrong.", field="current")
        self._tries.forget(key)

    def end_session(self, body: SessionId, person: Person) -> EmptyAnswer:
        """End one of one's own sessions; an admin can end anybody's."""
        anybody = "govern" in RIGHTS[person.role]
        with self.database.transaction() as tx:
            if not accounts.end_session(tx, body.session, None if anybody else person.person_id):
                raise NotFoundError("This session has ended already.")
        return {}

    def make_token(self, body: NewApiToken, person: Person) -> CreatedApiToken:
        """Create an API token with the person's rights."""
        self._check_account(person)
        now, secret = self.clock(), API_TOKEN + create_secret()
        token_id = job_queue.create_id("token", now)
        with self.database.transaction() as tx:
            own = accounts.list_tokens(tx, person.person_id)
            if len(own) >= MAX_TOKENS:
                raise StateError(f"There are {len(own)} tokens already.", fix="Revoke one first.")
            if any(token.name == body.name for token in own):
                raise ConfigError(f"There is a token named {body.name!r} already.", field="name")
            accounts.add_token(
                tx,
                accounts.NewToken(
                    token_id=token_id,
                    secret=hash_secret(secret),
                    person_id=person.person_id,
                    name=body.name,
                    created_at=job_queue.to_utc(now),
                ),
            )
        return {"token_id": token_id, "token": secret}

    def revoke_token(self, body: ApiTokenId, person: Person) -> EmptyAnswer:
        """Revoke an API token."""
        with self.database.transaction() as tx:
            if not accounts.revoke_token(tx, body.token, person.person_id):
                raise NotFoundError("This token was revoked already.")
        return {}

    def _check_account(self, person: Person) -> None:
        if is_owner(person):
            raise StateError(
                "The owner of the home folder has no account.",
                fix="Sign-in is turned on with the command: tunebench up --team",
            )


def _end_access(tx: Transaction, person_id: str, but: str | None = None) -> RevokedAccess:
    """End all sessions of a person but one, and all API tokens."""
    return {
        "ended_sessions": accounts.end_sessions(tx, person_id, but),
        "ended_tokens": accounts.revoke_tokens(tx, person_id),
    }


def is_owner(person: Person) -> bool:
    """Whether the person is the owner of the home folder, who needs no account."""
    return person.person_id == OWNER.person_id


class People:
    """Identity, login and commands combined, as `store.http.server` expects."""

    def __init__(
        self,
        database: Database,
        token: str,
        screens_token: str,
        *,
        passwords: Passwords | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        clock = clock or SteadyClock()
        work = passwords or Passwords()
        self.identity = Identity(database, token, screens_token, clock)
        self.commands = PeopleCommands(database, self.identity, work, clock)
        browsers = BrowserCookies(token)
        self.door = LoginRequests(database, self.identity, work, browsers, clock).table()

    async def who(self, headers: Mapping[bytes, bytes]) -> Person:
        """Return the person of a request. Raises SignedOutError and WrongTokenError."""
        return await self.identity.who(headers)

    def is_door(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request comes from the screens."""
        return self.identity.is_door(headers)

    def account(self, person: Person) -> OwnAccount:
        """Return a person's own account."""
        return self.commands.account(person)

    def team(self) -> Team:
        """Return the team, as admins see it."""
        return self.commands.team()
