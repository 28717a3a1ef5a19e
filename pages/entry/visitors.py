"""What the door knows of those who come: whether people sign in here, and whose a session is.

The engine is asked, and its answer kept for a moment, as a page comes as fifty files. While no engine
answers, what it said last stands for a while: nobody can be signed out meanwhile, since the engine is what
does that.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

from anyio.to_thread import run_sync

from store.contract.errors import EngineUnavailable, SignedOutError, StateError
from store.contract.secret_text import hashed
from store.documents.tables.person import Person
from store.http.client import Client

KEPT_SECONDS = 2.0
AWAY_SECONDS = 900.0  # how long what was known stands while no engine answers
REMEMBERED = 10_000


class Visitors:
    """Asks the engine by the secret of the screens."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._team: tuple[float, bool] | None = None  # when it was asked, and the answer
        self._people: OrderedDict[str, tuple[float, Person]] = OrderedDict()

    async def ask(self, name: str, body: dict[str, object]) -> Any:
        """A request of the door, as the document of that request."""
        return await run_sync(self._client.door, name, body)

    async def team(self) -> bool:
        """Whether people sign in. Raises EngineUnavailable where no engine has ever said."""
        if self._team is None or self._clock() - self._team[0] > KEPT_SECONDS:
            try:
                self._team = self._clock(), bool((await self.ask("state", {}))["team"])
            except EngineUnavailable:
                if self._team is None:
                    raise
        return self._team[1]

    async def person(self, session: str, *, anew: bool = False) -> Person | None:
        """Whose session it is, asked `anew` or as it was a moment ago; None where it is none. Raises
        EngineUnavailable where no engine says."""
        key, now = hashed(session), self._clock()
        asked_at, person = self._people.get(key, (float("-inf"), None))
        if person is not None and not anew and now - asked_at <= KEPT_SECONDS:
            return person
        try:
            person = cast(Person, await self.ask("who", {"session": session[:200]}))
        except (SignedOutError, StateError):
            self._people.pop(key, None)
            return None
        except EngineUnavailable:
            if person is None or now - asked_at > AWAY_SECONDS:
                raise
            return person
        self._people[key] = now, person
        self._people.move_to_end(key)
        while len(self._people) > REMEMBERED:
            self._people.popitem(last=False)
        return person

    def forget(self, session: str) -> None:
        """It was ended."""
        self._people.pop(hashed(session), None)
