"""Job `import_round`: create a round from a file of votes, scores or labels collected elsewhere.

The file is interpreted as in its preview (the ask `ratings_file`); an open question there fails the
import. A row that can't be used is left out and counted by reason.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from engine.data.readers.file_rows import Reader
from engine.data.readers.source_reader import open_source
from engine.rating import notices_text
from engine.rating.imports.reading import (
    CollectedRatings,
    collect_ratings,
    inspect_file,
    refuse_open_questions,
)
from engine.rating.jobs.gather_answers import ITEMS, build_items_table
from engine.worker.job import ONE_PHASE, WorkerJob
from engine.worker.progress import RowProgressReporter
from store.core.errors import DataError
from store.core.formatting import plural
from store.core.job_folder import write_atomically
from store.core.rating_schemas import RoundDetails, RoundItem, RoundResult, RoundSystem
from store.rating.config import ImportRound

VOTES = "votes.parquet"
VOTES_SCHEMA = pa.schema(
    [
        ("task_id", pa.string()),
        ("item_id", pa.int32()),
        ("person_name", pa.string()),
        ("place", pa.int32()),
        ("systems", pa.list_(pa.int32())),
        ("purpose", pa.string()),
        ("repeat_of", pa.string()),
        ("answer", pa.string()),  # JSON: RatingAnswer
        ("comment", pa.string()),
        ("seconds", pa.float64()),
        ("rated_at", pa.timestamp("us")),  # null if the file does not have it
    ]
)


phases = ONE_PHASE


def run(job: WorkerJob) -> RoundResult:
    """Import the file of the job's round. Raises DataError and ConfigError that name the field."""
    config = ImportRound.parse(job.config["round"])
    with contextlib.closing(open_source(job.home, config.source())) as reader:
        file = inspect_file(reader, config)
        refuse_open_questions(file)
        collected, rows, _ = collect_ratings(file, config, _build_progress(job, reader))
    if not collected.ratings:
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in collected.reasons.most_common(3))
        raise DataError(
            f"None of {plural(rows, 'row')} has a valid rating: {reasons}.",
            fix="Map other columns (--column role=column), or map values (--value value=meaning).",
            field="columns",
        )
    return _write_results(job, collected)


def _build_progress(job: WorkerJob, reader: Reader) -> Callable[[int], bool]:
    tell = RowProgressReporter(job, reader.total, reader.unit)

    def look(rows: int) -> bool:
        job.check_cancelled()
        tell(reader.position(), message=f"{rows:,} rows")
        return True

    return look


def _write_results(job: WorkerJob, collected: CollectedRatings) -> RoundResult:
    criteria = collected.scales.criteria()
    items = _build_items(collected)
    with write_atomically(job.dir.path / ITEMS) as unfinished:
        pq.write_table(build_items_table(items), unfinished)
    with write_atomically(job.dir.path / VOTES) as unfinished:
        pq.write_table(_build_ratings_table(collected), unfinished)
    systems: list[RoundSystem] = [
        RoundSystem(name=name, evaluation_id=None, run_id=None, model="", checkpoint="")
        for name in collected.models
    ]
    texts = [list(item.answers.values()) for item in collected.items]
    return {
        "systems": systems,
        "dataset_id": None,
        "details": RoundDetails(
            rows=len(items),
            drawn=len(items),
            named=0,
            left_out=0,
            empty=sum(not text.strip() for item in texts for text in item),
            same=sum(len(set(item)) < len(item) for item in texts),
            gold=0,
            notices=notices_text.describe_collected(collected),
        ),
        "elsewhere": {
            "protocol": collected.form.protocol,
            "ratings": len(collected.ratings),
            "criteria": criteria,
            "labels": [label for label, _ in collected.labels.most_common()],
        },
    }


def _build_items(collected: CollectedRatings) -> list[RoundItem]:
    places = range(len(collected.models))
    return [
        RoundItem(
            item_id=item_id,
            row_id=None,
            prompt=[{"role": role, "content": text} for role, text in item.prompt],
            reference=None,
            answers=[item.answers.get(place) for place in places],
            named=False,
            check=None,
            expected=None,
            weight=1.0,
        )
        for item_id, item in enumerate(collected.items)
    ]


def _build_ratings_table(collected: CollectedRatings) -> pa.Table:
    ratings = collected.ratings
    columns = {
        "task_id": [rating.task_id for rating in ratings],
        "item_id": [rating.item_id for rating in ratings],
        "person_name": [rating.rater for rating in ratings],
        "place": [rating.place for rating in ratings],
        "systems": [rating.systems for rating in ratings],
        "purpose": [rating.purpose for rating in ratings],
        "repeat_of": [rating.repeat_of for rating in ratings],
        "answer": [json.dumps(collected.answer_of(rating), ensure_ascii=False) for rating in ratings],
        "comment": [rating.comment for rating in ratings],
        "seconds": [rating.seconds for rating in ratings],
        "rated_at": [rating.time for rating in ratings],
    }
    return pa.table(
        {name: pa.array(columns[name], VOTES_SCHEMA.field(name).type) for name in VOTES_SCHEMA.names}
    )
