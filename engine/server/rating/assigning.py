"""The commands by which whoever leads a round says who rates it, and gives back what lies with people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from pydantic import Field, model_validator

from engine.server.acts import subjects
from engine.server.acts.command import Command
from engine.server.rating.round_commands import RoundName
from store.config.judging.round_config import MAX_RATERS, AssignedRater
from store.contract.errors import StateError
from store.db.database import Database
from store.documents.rating.round import is_from_elsewhere
from store.documents.rating.workload import RatingsReleased
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.rating import assignments, holds, rounds


class Assigned(RoundName):
    """Who rates a round from now on: these and nobody else, or whoever may rate."""

    raters: list[AssignedRater] = Field(default_factory=list, max_length=MAX_RATERS)
    everybody: bool = Field(False, description="Whoever may rate, as before anybody was named")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.raters) == self.everybody:
            raise ValueError("name raters, or say everybody")
        return self


class Released(RoundName):
    """Whose tasks go to whoever asks next; everybody's where nobody is named."""

    person: str = Field("", max_length=200)


class AssignmentCommands:
    """The commands over one store."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self.database, self.clock = database, clock

    def table(self) -> dict[str, Command]:
        """By name."""
        return {
            "assign_round": Command(Assigned, self.assign_round, subjects.by_round, by_person=True),
            "release_round": Command(Released, self.release_round, subjects.by_round),
        }

    def assign_round(self, body: Assigned, person: Person) -> RatingsReleased:
        """Have these people rate a round, and nobody else; what others hold goes to them. Raises ConfigError
        that names the rater."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if is_from_elsewhere(round):
                raise StateError(f"{round['name']} was rated elsewhere.", fix="Start a round of your own.")
            round_id = round["round_id"]
            named = assignments.named(tx, body.raters)
            assignments.set_assignments(tx, round_id, named, person["name"], jobs.utc(self.clock()))
            if not named:
                return {"released": 0}
            return {"released": holds.release_of_others(tx, round_id, [each.person for each in named])}

    def release_round(self, body: Released) -> RatingsReleased:
        """Have what a person holds, or everybody, go to whoever asks next; a rating of it is still taken, as
        long as nobody else has given one."""
        with self.database.transaction() as tx:
            round_id = rounds.get(tx, body.round)["round_id"]
            holds.end_silent(tx, round_id, jobs.utc(self.clock()))  # which nobody holds any more: not counted
            return {"released": holds.release(tx, round_id, body.person or None)}
