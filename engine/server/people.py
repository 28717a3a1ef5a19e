"""What the server asks about people, over one store: who asks, the door's requests, accounts, the team."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.people.door_desk import DoorDesk
from engine.people.identity import Identity
from engine.people.known_browsers import KnownBrowsers
from engine.people.passwords import Passwords
from engine.server.topics.people_commands import PeopleCommands
from store.contract.steady_clock import SteadyClock
from store.db.database import Database
from store.documents.tables.person import OwnAccount, Person, Team


class People:
    """Puts identity, door and commands together, as `store.http.server` takes them."""

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
        browsers = KnownBrowsers(token)
        self.door = DoorDesk(database, self.identity, work, browsers, clock).table()

    async def who(self, headers: Mapping[bytes, bytes]) -> Person:
        """Who asks. Raises SignedOutError and WrongTokenError."""
        return await self.identity.who(headers)

    def is_door(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the door of the screens asks."""
        return self.identity.is_door(headers)

    def account(self, person: Person) -> OwnAccount:
        """What a person sees of themselves."""
        return self.commands.account(person)

    def team(self) -> Team:
        """Everybody, as admins see them."""
        return self.commands.team()
