"""Requests of the screens' login for people not signed in yet: sign in, accept an invitation, sign out.

They require the screens' own secret. A refusal never reveals whether an address has an account, neither by
its words nor by its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from engine.server.identity import BrowserCookies, Identity, end_old_sessions
from engine.server.passwords import Passwords, Throttle, check_password, get_throttle_key
from store.core.config import Config
from store.core.errors import ConfigError, ForbiddenError, NotFoundError, SignedOutError, StateError
from store.core.schemas import CreatedSession, Invitation, InvitationOffer, LoginState, Person
from store.db.database import Database, Transaction
from store.http.access import create_secret, hash_secret
from store.jobs import job_queue
from store.people import accounts
from store.people.accounts import Account
from store.people.config import (
    AcceptInvitation,
    Browser,
    InvitationSecret,
    SessionSecret,
    SignIn,
    VerifiedSignIn,
)

TRIES_OF_ACCOUNT, TRIES_OF_ADDRESS = 5, 30  # attempts before waits begin; many people may share an address
EXPIRED_INVITATION_SECONDS = 30 * 24 * 3600.0  # how long an expired invitation is reported as such
ASK_ADMIN = "Ask an admin of your team for a new link."

LoginReply = LoginState | CreatedSession | InvitationOffer | Person | dict[str, str]


class LoginRequests:
    """Login requests by name."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        passwords: Passwords,
        browsers: BrowserCookies,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._browsers = browsers
        self._database, self._identity, self._passwords, self._clock = database, identity, passwords, clock
        self._accounts = Throttle(TRIES_OF_ACCOUNT, clock)
        self._addresses = Throttle(TRIES_OF_ADDRESS, clock)
        self._by_browser = Throttle(TRIES_OF_ACCOUNT, clock)  # one counter per known browser

    def table(self) -> dict[str, Callable[[Mapping[str, object]], LoginReply]]:
        """Return name -> function of an unvalidated body."""
        return {
            "state": lambda body: {"team": self._identity.team},
            "who": self._checked(SessionSecret, lambda asked: self._identity.session(asked.session)),
            "sign_in": self._checked(SignIn, self.sign_in),
            "verified_sign_in": self._checked(VerifiedSignIn, self.verified_sign_in),
            "invitation": self._checked(InvitationSecret, self.invitation),
            "accept": self._checked(AcceptInvitation, self.accept),
            "sign_out": self._checked(SessionSecret, self.sign_out),
        }

    def _checked(self, model: type[Config], act: Callable[..., LoginReply]) -> Callable[..., LoginReply]:
        def checked(body: Mapping[str, object]) -> LoginReply:
            if not self._identity.team:
                raise StateError("Sign-in is off.", fix="Turn it on with the command: tunebench up --team")
            return act(model.parse(body))

        return checked

    def sign_in(self, asked: SignIn) -> CreatedSession:
        """Sign in by e-mail address and password.

        Raises: SignedOutError, or BusyError for too many attempts.
        """
        account = accounts.find_account_by_email(self._database, asked.email)
        browser = self._browsers.name(asked.browser_cookie, account, self._clock())
        self._begin_try(asked, browser)
        kept = account.password if account and account.active else None
        if not self._passwords.is_right(kept, asked.password) or account is None or kept is None:
            raise SignedOutError("The e-mail address or the password is wrong.", field="password")
        self._end_try(asked, browser)
        better = self._passwords.hash(asked.password) if self._passwords.is_outdated(kept) else None
        with self._database.transaction() as tx:
            if better:
                accounts.set_password(tx, account.person_id, better)
                account.password = better
            return self._session(tx, account, asked)

    def _begin_try(self, asked: SignIn, browser: str | None) -> None:
        """Count an attempt. A known browser has its own counter only."""
        if browser:
            self._by_browser.begin(browser)
            return
        source = get_throttle_key(asked.address)
        self._addresses.begin(source)
        try:
            self._accounts.begin(asked.email)
        except Exception:
            self._addresses.take_back(source)
            raise

    def _end_try(self, asked: SignIn, browser: str | None) -> None:
        """Take back a successful attempt. From a known browser this doesn't affect attempts of others."""
        if browser:
            self._by_browser.forget(browser)
            return
        self._accounts.forget(asked.email)
        self._addresses.take_back(get_throttle_key(asked.address))

    def verified_sign_in(self, asked: VerifiedSignIn) -> CreatedSession:
        """Sign in by an address that the provider has verified.

        It must be of an account, or of an open invitation, which is then accepted. Raises ForbiddenError
        otherwise.
        """
        with self._database.transaction() as tx:
            account = accounts.find_account_by_email(tx, asked.email)
            if account is None:
                invitation = accounts.find_invitation_for_email(
                    tx, asked.email, job_queue.to_utc(self._clock())
                )
                if invitation is None:
                    raise ForbiddenError(
                        f"No account has the address {asked.email}.",
                        fix="Ask an admin of your team to invite it.",
                    )
                name = asked.name or asked.email.partition("@")[0]
                account = self._new_account(tx, invitation, asked.email, name, None, verified=True)
            if not account.active:
                raise ForbiddenError(
                    f"The account of {asked.email} is switched off.", fix="Ask an admin of your team."
                )
            if not account.verified:  # somebody else may have entered this address and know the password
                accounts.transfer_account(tx, account.person_id)
            signed_in = self._session(tx, account, asked)
        self._identity.forget()
        return signed_in

    def invitation(self, asked: InvitationSecret) -> InvitationOffer:
        """Return the details of an invitation link.

        Raises: NotFoundError if it is used, revoked or unknown, StateError if it has expired.
        """
        invitation = self._open(self._database, asked.secret)
        return {
            "role": invitation.role,
            "email": invitation.email,
            "name": invitation.name,
            "expires_at": invitation.expires_at,
        }

    def accept(self, asked: AcceptInvitation) -> CreatedSession:
        """Create the account, or set the password of an existing one; the link can't be used again."""
        invitation = self._open(self._database, asked.secret)
        email = self._address(invitation, asked)
        check_password(asked.password, email)
        password = self._passwords.hash(asked.password)
        with self._database.transaction() as tx:
            invitation = self._open(tx, asked.secret)  # it may have been used since
            ended = 0
            if invitation.person_id:
                account, ended = self._new_password(tx, invitation, password)
            elif accounts.find_account_by_email(tx, email):
                raise ConfigError(
                    f"{email} has an account already.",
                    fix="Sign in, or ask an admin for a link to a new password.",
                    field="email",
                )
            else:
                verified = invitation.email is not None
                account = self._new_account(
                    tx, invitation, email, asked.name or "", password, verified=verified
                )
            signed_in = self._session(tx, account, asked) | {"ended_tokens": ended}
        self._accounts.forget(email)
        self._identity.forget()
        return signed_in

    def sign_out(self, asked: SessionSecret) -> dict[str, str]:
        """End the session; no error if it has already ended."""
        with self._database.transaction() as tx:
            accounts.end_session_by_secret(tx, hash_secret(asked.session))
        self._identity.forget()
        return {}

    def _open(self, db: Database | Transaction, secret: str) -> Invitation:
        invitation = accounts.find_invitation_by_secret(db, hash_secret(secret))
        if invitation is None:
            raise NotFoundError("This invitation is invalid, already used, or revoked.", fix=ASK_ADMIN)
        if invitation.expires_at <= self._clock():
            raise StateError("This invitation has expired.", fix=ASK_ADMIN)
        return invitation

    def _address(self, invitation: Invitation, asked: AcceptInvitation) -> str:
        if invitation.person_id:
            return accounts.get_account(self._database, invitation.person_id).email
        if not asked.name:
            raise ConfigError("name is missing.", fix="Give the name that others will see.", field="name")
        email = invitation.email or asked.email
        if not email:
            raise ConfigError("email is missing.", fix="Give the address to sign in with.", field="email")
        return email

    def _new_account(
        self,
        tx: Transaction,
        invitation: Invitation,
        email: str,
        name: str,
        password: str | None,
        *,
        verified: bool,
    ) -> Account:
        at = self._clock()
        account = Account(
            person_id=job_queue.create_id("person", at),
            name=name,
            role=invitation.role,
            active=True,
            email=email,
            password=password,
            verified=verified,
        )
        accounts.remove_invitation(tx, invitation.invitation_id)
        accounts.add_account(tx, account, job_queue.to_utc(at))
        return account

    def _new_password(self, tx: Transaction, invitation: Invitation, password: str) -> tuple[Account, int]:
        """Set the password; return the account and the number of API tokens revoked."""
        person_id = invitation.person_id
        assert person_id is not None
        accounts.remove_invitations_of(tx, person_id)
        accounts.set_password(tx, person_id, password)
        accounts.end_sessions(tx, person_id)
        ended = accounts.revoke_tokens(tx, person_id)
        return accounts.get_account(tx, person_id), ended

    def _session(self, tx: Transaction, account: Account, browser: Browser) -> CreatedSession:
        now, secret = self._clock(), create_secret()
        at = job_queue.to_utc(now)
        end_old_sessions(tx, now)
        accounts.remove_expired_invitations(tx, job_queue.to_utc(now - EXPIRED_INVITATION_SECONDS))
        session_id = job_queue.create_id("session", now)
        accounts.add_session(
            tx,
            accounts.NewSession(
                session_id=session_id,
                secret=hash_secret(secret),
                person_id=account.person_id,
                address=browser.address,
                agent=browser.agent,
                created_at=at,
                seen_at=at,
            ),
        )
        person = Person(
            person_id=account.person_id,
            name=account.name,
            role=account.role,
            session_id=session_id,
        )
        cookie = self._browsers.cookie(account, now)
        return {"session": secret, "person": person, "browser_cookie": cookie, "ended_tokens": 0}
