"""Authentication of requests: the owner of the home folder, or a person by a session or a token.

Every request is checked. A signed cookie identifies browsers that have signed in before; it grants no access.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from anyio.to_thread import run_sync

from store.core.errors import SignedOutError, WrongTokenError
from store.core.rights import OWNER
from store.core.schemas import Person
from store.db.database import Database, Transaction
from store.http.access import API_TOKEN, SESSION_HEADER, create_secret, hash_secret
from store.jobs import job_queue
from store.people import accounts, settings
from store.people.accounts import Account

# Four secrets authenticate. `token` is the owner's: whoever can read it owns the home folder. `screens.token`
# is that of the screens: with a team it stands for nobody, and a person's session is required with it, so
# that no bug of a page can act as the owner; without a team it stands for the owner, as the screens' own
# login has already asked for a secret. The other two are people's sessions and API tokens. Lookups are cached
# in memory until anything about people changes, and only the engine changes it.

IDLE_SECONDS = 7 * 24 * 3600.0  # idle time after which a session ends
SESSION_SECONDS = 30 * 24 * 3600.0  # maximum lifetime of a session
SEEN_SECONDS = 60.0  # resolution of the last use of a session or token
MAX_CACHED = 10_000
SIGN_IN = "Sign in again."


class _CachedIdentity(NamedTuple):
    """Person of a session or token, with its end and the time of the last lookup."""

    person: Person
    ends_at: float
    seen_at: float


class Identity:
    """Identify the person of a request.

    `forget()` is called after every change of people, sessions, tokens or settings.
    """

    def __init__(
        self, database: Database, token: str, screens_token: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._clock = database, clock
        self._token, self._screens = f"Bearer {token}".encode(), f"Bearer {screens_token}".encode()
        self._entrants: dict[str, _CachedIdentity] = {}
        self._lock = threading.Lock()
        self._changes = 0
        with database.transaction() as tx:  # so that ended sessions don't come back if the clock is set back
            end_old_sessions(tx, clock())
        self.forget()

    def forget(self) -> None:
        """Clear the cache."""
        team, name = settings.has_team(self._database), settings.get_owner_name(self._database)
        with self._lock:
            self.team = team
            self.owner: Person = replace(OWNER, name=name)
            self._changes += 1
            self._entrants = {}

    async def who(self, headers: Mapping[bytes, bytes]) -> Person:
        """Return the person of a request by its headers.

        Raises: SignedOutError, or WrongTokenError for an invalid secret.
        """
        bearer = headers.get(b"authorization", b"")
        if hmac.compare_digest(bearer, self._token):
            return self.owner
        if self.is_door(headers):
            return await self._by_session(headers) if self.team else self.owner
        if bearer.startswith(f"Bearer {API_TOKEN}".encode()):
            if not self.team:
                raise SignedOutError(
                    "API tokens are people's, and sign-in is off.",
                    fix="Turn it on with the command: tunebench up --team",
                )
            return await self._entrant(bearer.removeprefix(b"Bearer ").decode("latin-1"))
        raise WrongTokenError()

    def is_door(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request comes from the screens."""
        return hmac.compare_digest(headers.get(b"authorization", b""), self._screens)

    async def _by_session(self, headers: Mapping[bytes, bytes]) -> Person:
        secret = headers.get(SESSION_HEADER.lower().encode(), b"").decode("latin-1")
        if not secret:
            raise SignedOutError("Not signed in.", fix="Sign in first.")
        return await self._entrant(secret)

    async def _entrant(self, secret: str) -> Person:
        key, now = hash_secret(secret), self._clock()
        entrant = self._entrants.get(key)
        if entrant is None or now - entrant.seen_at > SEEN_SECONDS:
            entrant = await run_sync(self._look_up, key, secret.startswith(API_TOKEN))
        if now >= entrant.ends_at:
            raise SignedOutError("The session has ended.", fix=SIGN_IN)
        return entrant.person

    def session(self, secret: str) -> Person:
        """Return the person of a session. Raises SignedOutError."""
        entrant = self._look_up(hash_secret(secret), False)
        if self._clock() >= entrant.ends_at:
            raise SignedOutError("The session has ended.", fix=SIGN_IN)
        return entrant.person

    def _look_up(self, key: str, is_token: bool) -> _CachedIdentity:
        before = self._changes
        entrant = self._token_of(key) if is_token else self._session_of(key)
        with self._lock:
            if before == self._changes and len(self._entrants) < MAX_CACHED:
                self._entrants[key] = entrant
        return entrant

    def _session_of(self, key: str) -> _CachedIdentity:
        session, now = accounts.find_session_by_secret(self._database, key), self._clock()
        if session is None:
            raise SignedOutError("The session has ended.", fix=SIGN_IN)
        began, seen = job_queue.to_epoch(session.created_at), job_queue.to_epoch(session.seen_at)
        ends_at = min(began + SESSION_SECONDS, seen + IDLE_SECONDS)
        if now >= ends_at:
            with self._database.transaction() as tx:
                accounts.end_session(tx, session.session_id)
        elif now - seen > SEEN_SECONDS:
            with self._database.transaction() as tx:
                accounts.touch_session(tx, session.session_id, job_queue.to_utc(now))
            ends_at = min(began + SESSION_SECONDS, now + IDLE_SECONDS)
        person = Person(
            person_id=session.person_id,
            name=session.name,
            role=session.role,
            session_id=session.session_id,
        )
        return _CachedIdentity(person, ends_at, now)

    def _token_of(self, key: str) -> _CachedIdentity:
        token, now = accounts.find_token_by_secret(self._database, key), self._clock()
        if token is None:
            raise SignedOutError(
                "The API token is not known, or was revoked.", fix="Make another on the page You."
            )
        if token.used_at is None or now - job_queue.to_epoch(token.used_at) > SEEN_SECONDS:
            with self._database.transaction() as tx:
                accounts.touch_token(tx, token.token_id, job_queue.to_utc(now))
        person = Person(person_id=token.person_id, name=token.name, role=token.role)
        return _CachedIdentity(person, float("inf"), now)


def end_old_sessions(tx: Transaction, now: float) -> None:
    """Remove expired sessions."""
    accounts.end_old_sessions(
        tx, job_queue.to_utc(now - SESSION_SECONDS), job_queue.to_utc(now - IDLE_SECONDS)
    )


# A signed cookie of one account identifies browsers that have signed in before.
#
# It grants no access. Attempts from such a browser are throttled separately, so that wrong guesses elsewhere
# don't make the legitimate person wait. The signature covers the password hash: a new password invalidates
# all earlier cookies, including any collected by somebody who knew the old one.

BROWSER_COOKIE_SECONDS = 365 * 24 * 3600.0


class BrowserCookies:
    """Create and verify browser cookies; `secret` is known to the engine only."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"known browsers\n" + secret.encode()).digest()

    def cookie(self, account: Account, at: float) -> str:
        """Create a cookie for a browser in which the person has signed in at that time."""
        claim = f"{create_secret()}.{int(at)}"
        return f"{claim}.{self._signature(account, claim)}"

    def name(self, cookie: str, account: Account | None, at: float) -> str | None:
        """Return the throttle key of this browser's attempts on the account; None for an unknown browser."""
        claim, _, signature = cookie.rpartition(".")
        if account is None or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._signature(account, claim).encode()
        ):
            return None
        browser, _, since = claim.partition(".")
        return browser if at < int(since) + BROWSER_COOKIE_SECONDS else None

    def _signature(self, account: Account, claim: str) -> str:
        signed = "\n".join((account.person_id, account.password or "", claim))
        return hmac.new(self._key, signed.encode("utf-8", "replace"), hashlib.sha256).hexdigest()
