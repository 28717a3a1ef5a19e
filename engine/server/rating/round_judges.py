"""The command that lets a language model be one of the raters of a round, named as such.

It does not ask the judge anew: what a judging of the round's two evaluations said, in both orders, is taken
over prompt by prompt. Where the order decided, the judge says a tie.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field

from engine.server.acts import subjects
from engine.server.acts.command import Command
from store.contract.document import Config
from store.contract.errors import ConfigError, StateError
from store.contract.home import Home
from store.db.database import Database, Transaction
from store.documents.rating.rating_desk import PairChoice
from store.documents.rating.round import Round
from store.documents.tables.command_answers import Done
from store.documents.tables.job import Job
from store.documents.tables.person import Person
from store.queries import jobs
from store.queries.rating import ratings, rounds, units


class JudgeRates(Config):
    """`judging`: the job in which a judge compared the round's two evaluations."""

    round: str = Field(min_length=1, max_length=120)
    judging: str = Field(min_length=1, max_length=120)


class RoundJudges:
    """The command over one store."""

    def __init__(self, database: Database, home: Home, clock: Callable[[], float]) -> None:
        self.database, self.home, self.clock = database, home, clock

    def table(self) -> dict[str, Command]:
        """By name."""
        return {"judge_rates": Command(JudgeRates, self.judge_rates, subjects.by_round)}

    def judge_rates(self, body: JudgeRates) -> Done:
        """Take what the judge said as its ratings. Raises ConfigError (judging) and StateError."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            job = jobs.get_job(tx, body.judging)
            by_row = self._preferences(round, job)
            judge = _as_person(job)
            if ratings.dealt(tx, round["round_id"], judge["person_id"]):
                raise StateError(f"{judge['name']} has rated this round already.")
            self._rate(tx, round, judge, by_row)
        return {}

    def _preferences(self, round: Round, job: Job) -> dict[int, float]:
        """row id -> 1 where the first model's answer is preferred, 0 the second's, 0.5 a tie."""
        if not all(system["evaluation_id"] for system in round["systems"]):
            raise StateError(
                f"The answers of {round['name']} are of no evaluation, and a judge compares evaluations.",
                fix="Start a round with evaluations of these models, and have them judged.",
            )
        ids = [str(system["evaluation_id"]) for system in round["systems"]]
        asked = [str(job["config"].get(side)) for side in ("first", "second")]
        if round["protocol"] != "pairwise" or job["kind"] != "judge" or sorted(ids) != sorted(asked):
            raise ConfigError(
                f"{job['title']} is no judging of the answers of {round['name']}.",
                fix="Judge the two evaluations of the round, then choose that.",
                field="judging",
            )
        path = self.home.jobs / job["job_id"] / "judgements.parquet"
        if job["status"] != "finished" or not path.exists():
            raise StateError(f"{job['title']} has no result.", fix="Wait until it has, or judge again.")
        rows: list[dict[str, Any]] = pq.read_table(path, columns=["row_id", "score"]).to_pylist()
        turned = asked[0] != ids[0]
        return {
            row["row_id"]: 1 - row["score"] if turned else row["score"]
            for row in rows
            if row["score"] is not None
        }

    def _rate(self, tx: Transaction, round: Round, judge: Person, by_row: dict[int, float]) -> None:
        at, place = jobs.utc(self.clock()), 0
        for item in rounds.items(tx, round["round_id"]):
            if item["row_id"] not in by_row:
                continue
            score = by_row[item["row_id"]]
            answer: PairChoice = {"choice": "A" if score > 0.5 else "B" if score < 0.5 else "tie"}
            row = ratings.NewRow(secrets.token_urlsafe(12), item["item_id"], (0, 1), "first", None, place)
            ratings.insert_tasks(tx, round["round_id"], judge, [row], at)
            ratings.insert(
                *(tx, round["round_id"], row.task_id, 1, answer),
                comment="",
                seconds=0.0,
                at=at,
            )
            place += 1
        units.forget(tx, round["round_id"])
        if not place:
            raise StateError("The judge saw none of the prompts of this round.")


def _as_person(job: Job) -> Person:
    model = job["config"]["judge"]["model"]
    return {"person_id": f"judge:{job['job_id']}", "name": f"LLM judge {model}", "role": "rater"}
