"""The import_round job: a round that people rated elsewhere, out of a file with two answers and their votes.

How the file is read, which columns vote and what their values mean is found as for an import of such rows. A
row that can't be read is skipped and counted, and so is a vote that says nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.convert.file_reading import RowReading, decide, look
from engine.data.convert.judged_answers import value_key
from engine.data.convert.turns import RowSkipped
from engine.data.readers.column_values import with_paths
from engine.data.readers.first_rows import read_first
from engine.data.readers.raw_rows import FileRow, Reader, Skipped
from engine.data.readers.readers import open_source
from engine.diagnostics.phrasing import plural
from engine.jobs.rounds.gather_answers import ITEMS, items_table
from engine.worker.job import WorkerJob
from engine.worker.progress import ProgressReporter
from store.config.data.import_config import Wishes
from store.config.judging.round_config import ImportRound
from store.contract.errors import DataError
from store.contract.jobdir import written_aside
from store.documents.rating.round import GatheredRound, RoundItem, RoundSystem

VOTES = "votes.parquet"
HEAD_ROWS = 500
NOTHING = "\N{OBJECT REPLACEMENT CHARACTER}"  # for an empty answer, which is rated too, and no data set has
CHOICES = {"first": "A", "second": "B", "tie": "tie"}
VOTES_SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("item_id", pa.int32()),
        ("person_name", pa.string()),
        ("place", pa.int32()),
        ("answer", pa.string()),  # JSON: RatingAnswer
    ]
)


class Vote(NamedTuple):
    """What one rater said of one item: first, second or tie."""

    item_id: int
    rater: str
    choice: str


class VotesRead(NamedTuple):
    """All of a file; reasons: why rows and votes were left out, and how often."""

    items: list[RoundItem]
    votes: list[Vote]
    reasons: Counter[str]


def run(job: WorkerJob) -> GatheredRound:
    """Read as the job's round says. Raises DataError and ConfigError that name the field."""
    config = ImportRound.parse(job.config["round"])
    wishes = Wishes.parse(
        {
            "source": config.source().model_dump(exclude_defaults=True),
            "format": "comparison",
            "values": config.values,
        }
    )
    with contextlib.closing(open_source(job.home, wishes.source)) as reader:
        rows = reader.rows()
        head = read_first(rows, HEAD_ROWS)
        if not any(isinstance(row, dict) for _, row in head):
            raise DataError("No row of the file could be read.", fix="Give JSON, JSONL, CSV or Parquet.")
        reading = decide(look(reader.columns, head, reader.marks), wishes)
        votes_read = _read(job, reader, reading, itertools.chain(head, rows))
    if not votes_read.votes:
        raise DataError("No row of the file has a vote.", fix="Say what votes mean (values).")
    _write(job, votes_read)
    mapping = reading.chosen.mapping
    names = (config.first or mapping["first"], config.second or mapping["second"])
    systems: list[RoundSystem] = [
        {"name": name, "evaluation_id": None, "run_id": None, "model": "", "checkpoint": ""} for name in names
    ]
    items = votes_read.items
    left_out = [f"Left out {count:,} times: {reason}." for reason, count in votes_read.reasons.most_common(5)]
    return {
        "systems": systems,
        "dataset_id": None,
        "details": {
            "rows": len(items),
            "drawn": len(items),
            "named": 0,
            "left_out": 0,
            "gold": 0,
            "empty": sum(not answer.strip() for item in items for answer in item["answers"]),
            "same": sum(len(set(item["answers"])) < len(item["answers"]) for item in items),
            "notices": [f"{plural(len(votes_read.votes), 'vote')}.", *left_out],
        },
        "votes": len(votes_read.votes),
    }


def _read(
    job: WorkerJob, reader: Reader, reading: RowReading, rows: Iterator[tuple[int, FileRow | Skipped]]
) -> VotesRead:
    columns, meanings = _deciding(reading), reading.chosen.values
    item_of = _item_maker(reading, columns)
    tell = ProgressReporter(job, reader.total, reader.unit)
    items: list[RoundItem] = []
    votes: list[Vote] = []
    reasons: Counter[str] = Counter()
    for number, (_, row) in enumerate(rows):
        if number % 256 == 0:
            job.check_cancelled()
            tell(reader.position(), message=f"{number:,} rows")
        if isinstance(row, Skipped):
            reasons[row.reason] += 1
            continue
        try:
            row = with_paths(row, reading.paths)
            item = item_of(row, len(items))
            row_votes = list(_votes(row, columns, meanings, item["item_id"], reasons))
        except RowSkipped as fault:
            reasons[str(fault)] += 1
            continue
        if row_votes:
            items.append(item)
            votes += row_votes
    return VotesRead(items, votes, reasons)


def _deciding(reading: RowReading) -> list[str]:
    """The columns that hold votes, one of each rater."""
    mapping = reading.chosen.mapping
    return [column for role, column in mapping.items() if role.partition("_")[0] == "better"]


def _item_maker(reading: RowReading, columns: Sequence[str]) -> Callable[[FileRow, int], RoundItem]:
    """A row of the file as an item: read as a pair of which the first answer is preferred."""
    convert = reading.convert()
    first = next(value for value, meaning in reading.chosen.values.items() if meaning == "first")
    answers = [reading.chosen.mapping[side] for side in ("first", "second")]

    def make(row: FileRow, item_id: int) -> RoundItem:
        blank = {column: NOTHING for column in answers if row.get(column) in ("", None)}
        canonical = convert({**row, **blank, **dict.fromkeys(columns, first)})
        if canonical.roles is None or canonical.rejected is None:
            raise RowSkipped("the two answers can't be read")
        turns = list(zip(canonical.roles, canonical.contents, strict=True))
        return {
            "item_id": item_id,
            "row_id": None,
            "prompt": [{"role": role, "content": content} for role, content in turns[:-1]],
            "reference": None,
            "answers": [text.removeprefix(NOTHING) for text in (turns[-1][1], canonical.rejected)],
            "named": False,
            "check": None,
            "expected": None,
            "weight": 1.0,
        }

    return make


def _votes(
    row: FileRow, columns: Sequence[str], meanings: Mapping[str, str], item_id: int, reasons: Counter[str]
) -> Iterator[Vote]:
    for column in columns:
        value: Any = row.get(column)
        if value is None or value != value or value == "":
            reasons[f"{column} has no vote"] += 1
            continue
        meaning = meanings.get(value_key(value))
        if meaning is None:
            reasons[f"{column} is {str(value)[:30]!r}, which is no vote"] += 1
            continue
        yield Vote(item_id, column, meaning)


def _write(job: WorkerJob, votes_read: VotesRead) -> None:
    with written_aside(job.dir.path / ITEMS) as unfinished:
        pq.write_table(items_table(votes_read.items), unfinished)
    places: Counter[str] = Counter()
    lines = []
    for vote in votes_read.votes:
        lines.append(
            {
                "task_id": secrets.token_urlsafe(12),
                "item_id": vote.item_id,
                "person_name": vote.rater,
                "place": places[vote.rater],
                "answer": json.dumps({"choice": CHOICES[vote.choice]}),
            }
        )
        places[vote.rater] += 1
    with written_aside(job.dir.path / VOTES) as unfinished:
        pq.write_table(pa.Table.from_pylist(lines, schema=VOTES_SCHEMA), unfinished)
