"""The command that makes a data set out of a rating round: preferences for DPO, corrections or labelled texts
to train on.

The rows go the way of every import, so that they are counted, split and measured as all others; rows of one
prompt stay on one side of the split. The source of the data set names the round.
"""

from __future__ import annotations

import json
import secrets
from typing import Literal

from pydantic import Field

from engine.diagnostics.rating.raters.flagged import count_ratings, counted_sentence, rater_checks
from engine.rounds.text_rows import is_text_round
from engine.rounds.training_rows import (
    RoundRows,
    correction_rows,
    label_rows,
    pair_votes,
    preference_rows,
    written_rows,
)
from engine.server.acts.command import MADE, Command
from engine.server.scheduling.launching import Launching
from store.config.data.import_config import NAME_LENGTH, ImportConfig, free_name
from store.contract.document import Config, Line
from store.contract.errors import StateError
from store.contract.home import Home
from store.contract.jobdir import written_aside
from store.db.database import Database, Transaction
from store.documents.rating.round import RatingsCounted, Round, RoundRowsQueued
from store.queries.rating import ratings, rounds

PROMPT_COLUMN = "source.prompt_id"
GIVES = {
    "correction": "corrections",
    "label": "labels",
    "free_text": "written",
}  # by protocol; all others preferences
LEAST_ROWS = 2  # of which one may train and one may judge


class RoundRowsWanted(Config):
    """agreement: share of the votes on a pair, or a text, that say the same, at least."""

    round: str = Field(min_length=1, max_length=120)
    rows: Literal["preferences", "corrections", "labels", "written"] | None = Field(
        None, description="What the round gives"
    )
    name: Line = Field("", max_length=NAME_LENGTH, description="From the name of the round where left out")
    agreement: float = Field(0.5, ge=0, le=1)
    least_votes: int = Field(1, ge=1, le=20)
    include_flagged: bool = Field(
        False, description="Ratings of raters who are flagged (too fast, failing check items) too"
    )


class RoundData:
    """Rounds of one store as data sets."""

    def __init__(self, database: Database, home: Home, launching: Launching) -> None:
        self.database, self.home, self.launching = database, home, launching

    def table(self) -> dict[str, Command]:
        """By name."""
        return {"rows_from_round": Command(RoundRowsWanted, self.rows_from_round, MADE, makes_work=True)}

    def rows_from_round(self, body: RoundRowsWanted) -> RoundRowsQueued:
        """Queue the making of a data set. Raises StateError where the round gives no such rows."""
        with self.database.transaction() as tx:
            round = rounds.get(tx, body.round)
            if is_text_round(round):
                raise StateError(
                    f"No run trains on several labels or spans, so that {round['name']} gives no data set.",
                    fix="Save its rows as JSON lines: tunebench round data NAME --out FILE",
                )
            wanted = body.rows or GIVES.get(round["protocol"], "preferences")
            made, counted = _rows(tx, round, body, wanted)
            taken = self.launching.taken_names(tx)
        if len(made.rows) < LEAST_ROWS:
            reasons = [f"{reason} ({count:,})" for reason, count in made.left_out.most_common()]
            because = "; ".join(reasons) or ("nothing was rated" if not counted["raters"] else "")
            raise StateError(
                f"{round['name']} gives {len(made.rows)} rows of {wanted}"
                f" out of {counted_sentence(counted)}{f': {because}' if because else ''}.",
                fix="Have more rated, ask for less agreement, or include raters who are left out.",
            )
        upload = f"{round['round_id']}-{wanted}-{secrets.token_hex(4)}.jsonl"
        with written_aside(self.home.uploads / upload) as unfinished:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in made.rows)
            unfinished.write_text("".join(lines), encoding="utf-8")
        config = ImportConfig.parse(
            {
                "name": body.name or free_name(f"{round['name'][:60]}, {wanted}", taken),
                "source": {
                    "upload": upload,
                    "round": round["round_id"],
                    "round_ratings": counted_sentence(counted),
                },
                "format": _FORMATS[wanted],
                "columns": _COLUMNS[wanted],
                "ignore": _ABOUT_VOTES[wanted],
                "split_by": "group",
                "split_column": PROMPT_COLUMN,
            }
        )
        job_id = self.launching.import_dataset(config)["job_id"]
        return {
            "job_id": job_id,
            "dataset": config.name,
            "rows": len(made.rows),
            "left_out": dict(made.left_out),
            "counted": counted,
        }


_FORMATS = {
    "preferences": "preference",
    "corrections": "messages",
    "labels": "text_label",
    "written": "messages",
}
_COLUMNS = {
    "preferences": {"chosen": "chosen", "rejected": "rejected"},
    "corrections": {"messages": "messages"},
    "labels": {"text": "text", "label": "label"},
    "written": {"messages": "messages"},
}
_ABOUT_VOTES = {  # how the rows were rated, which is kept with them and not trained
    "preferences": ["agreement", "votes", "raters", "chosen_shown_first"],
    "corrections": ["rater", "changed"],
    "labels": ["agreement", "votes", "raters"],
    "written": ["rater"],
}


def _rows(
    tx: Transaction, round: Round, body: RoundRowsWanted, wanted: str
) -> tuple[RoundRows, RatingsCounted]:
    """The rows, and whose ratings they rest on."""
    tasks, listed = ratings.dealt(tx, round["round_id"]), rounds.items(tx, round["round_id"])
    by_hand = {rater["person_id"] for rater in ratings.left_out(tx, round["round_id"])}
    checks = rater_checks(round, tasks, listed)
    counted = count_ratings(checks, by_hand, include_flagged=body.include_flagged)
    left_out = {each["person_id"] for each in counted["left_out"]}
    items = {item["item_id"]: item for item in listed}
    if wanted == "corrections":
        return correction_rows(tasks, items, left_out), counted
    if wanted == "written":
        return written_rows(round, tasks, items, left_out), counted
    if wanted == "labels":
        return label_rows(
            tasks, items, left_out, agreement=body.agreement, least_votes=body.least_votes
        ), counted
    return preference_rows(
        pair_votes(tasks, left_out), items, agreement=body.agreement, least_votes=body.least_votes
    ), counted
