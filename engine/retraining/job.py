"""Job `gather_rows`: build a data set of new rows from feedback on a model in use.

New rows are for training or held out; reused held-out rows of earlier improvements follow. Unusable rows
are skipped rows with their reason, so that rows and skipped rows together are all rows of the sources and
earlier improvements.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from engine.data.cleaning.row_queries import RowQueries
from engine.data.cleaning.working_rows import WorkingRows, read_canonical_rows
from engine.data.conversion.dataset_writer import DatasetWriter
from engine.data.readers.file_rows import make_skipped_row
from engine.data.similarity.text_overlap import split_words
from engine.data.split.dataset_split import compute_parts_by_split, read_parts_of_run
from engine.data.split.partition import parse_split
from engine.retraining import duplicates, feedback_rows, paraphrases
from engine.retraining.duplicates import (
    HELD_ELSEWHERE,
    HELD_REASONS,
    IncomingRow,
    NewRowComparison,
    OldRows,
    build_compared_rows,
    compare_new_rows,
    read_old_rows,
)
from engine.retraining.feedback_rows import (
    CONTINUED,
    EarlierRow,
    FeedbackRow,
    RowRequirements,
    build_new_rows,
    explain_unfit,
    find_continued_rows,
)
from engine.worker.job import Phase, WorkerJob, build_fixed_phases
from engine.worker.progress import PhaseReporter
from engine.worker.temporary_folder import publish_dataset, use_temporary_folder
from store.core.errors import ConfigError
from store.core.job_folder import JobDir, read_json
from store.core.row_schemas import Kind
from store.data.cleaning import PII_KINDS
from store.jobs.schemas import OrderDataset
from store.retraining.config import (
    MAX_LEAKAGE,
    MAX_LEAKAGE_SHORT,
    SHORT_ANSWER,
    DatasetRowSource,
    GatherConfig,
)
from store.retraining.schemas import (
    GatheredRows,
    GatherResult,
    LeakageEstimate,
    RepeatedRow,
    TooFewRowsResult,
)
from store.retraining.text import describe_shortage

# Unrecognized repeats of held-out rows are bounded by the number of recognized ones. Each repeat is
# recognized with a probability that `bench/detection/reworded.py` measures. The upper bound is that of the
# exact interval of a share (Clopper and Pearson 1934): the largest number of repeats of which so few, or
# fewer, would be recognized in 5 of 100 cases.
#
# A check has an interval of its own, and both rarely err together, so it allows for the number exceeded in 30
# of 100 cases, with which it keeps its level (`bench/truths/monitoring/slipped.py`). With 5 of 100, almost
# nothing truly beyond its limit would pass, but too little of what is within it.

LEVEL = 0.05  # share of cases with more unrecognized repeats
ALLOWED = 0.3  # share of cases with more than a check allows for: its interval has its own 5%


class RepeatCounts(NamedTuple):
    """Counts for held-out rows with answers of similar length.

    judging: number of held-out rows. recognised: new rows recognized as their repeats. missed: upper bound
    on the share of repeats that aren't recognized.
    """

    judging: int
    recognised: int
    missed: float


def bound_missed_repeats(recognised: int, missed: float, level: float = LEVEL) -> int:
    """Return the upper limit of unrecognized repeats, given the number of recognized ones."""
    every = recognised
    while special.bdtr(recognised, every + 1, 1 - missed) >= level:
        every += 1
    return every - recognised


def bound_learned_rows(kinds: Sequence[RepeatCounts], trained: int, level: float = LEVEL) -> int:
    """Return the upper limit of held-out rows that may have been learned from unrecognized repeats.

    It is at most the number of held-out rows and of new training rows. The level is split among the kinds.
    """
    there = [kind for kind in kinds if kind.judging]
    limits = [
        min(kind.judging, bound_missed_repeats(kind.recognised, kind.missed, level / len(there)))
        for kind in there
    ]
    return min(trained, sum(limits))


def estimate_leakage(partners: Sequence[int], old: OldRows, trained: int) -> LeakageEstimate | None:
    """Estimate how many old held-out rows the `trained` new rows may repeat unrecognized.

    The rows are those of the test part, or validation rows without one. `partners` has the old row of each
    recognized repeat. Returns None if answers are labels: a paraphrase with the same label isn't a repeat
    and isn't bounded.
    """
    places = np.flatnonzero(old.judging)
    answered = old.rows.answered
    if answered.labelled[places].any():
        return None
    short = np.array(
        [len(split_words(answered.answers[place])) < SHORT_ANSWER for place in places.tolist()], bool
    )
    repeats = np.bincount(np.array(partners, np.int64), minlength=len(old.parts))[places]
    kinds = [
        RepeatCounts(int(of_kind.sum()), int(repeats[of_kind].sum()), missed)
        for of_kind, missed in ((~short, MAX_LEAKAGE), (short, MAX_LEAKAGE_SHORT))
    ]
    return LeakageEstimate(
        judging=len(places),
        short=int(short.sum()),
        recognised=int(repeats.sum()),
        most=bound_learned_rows(kinds, trained),
        allowed=bound_learned_rows(kinds, trained, ALLOWED),
    )


CANDIDATES = "candidates.jsonl"
TEST_ROW = "a test row of its own data set"
FORMATS: dict[Kind, tuple[str, dict[str, str]]] = {  # format and columns by role of the rows as JSON
    "chat": ("messages", {"messages": "messages"}),
    "preference": ("preference", {"chosen": "messages", "rejected": "rejected"}),
    "text": ("text", {"text": "text"}),
}
MAX_LISTED = 200  # maximum number of listed repeats of held-out rows
PLACEHOLDER = re.compile("|".join(rf"\[{kind.upper()}\]" for kind in PII_KINDS))  # marks redacted text


phases = build_fixed_phases(  # time shares for 20,000 new and old rows; only the last two are measured
    Phase("Reading rows of", 0.2),
    Phase(duplicates.COMPARING_ROWS, 0.3),
    Phase(paraphrases.COMPARING_ANSWERS, 0.12),
    Phase(paraphrases.COMPARING_QUESTIONS, 0.38),
)


def run(job: WorkerJob) -> GatherResult | TooFewRowsResult:
    """Gather rows as the job's GatherConfig says."""
    config = GatherConfig.parse(job.config)
    try:
        with use_temporary_folder(job, what="the new rows", again="gather them again") as folder:
            return _gather(job, config, folder)
    finally:  # feedback texts are kept only in the rows; a retry stages them again
        (job.dir.path / CANDIDATES).unlink(missing_ok=True)


def _gather(job: WorkerJob, config: GatherConfig, folder: Path) -> GatherResult | TooFewRowsResult:
    dataset = job.spec["dataset"]
    dealt = read_parts_of_run(job.home, dataset["fingerprint"], config.run)
    beside = job.spec.get("beside", [])
    old = read_old_rows(job.home, dataset["fingerprint"], dealt, beside)
    wanted = _build_requirements(job, config, old)
    earlier = feedback_rows.read_earlier_rows(
        job.home, beside, wanted, config.in_use_unknown, job.spec.get("disputed", [])
    )
    made = list(_read_all_rows(job, config, wanted, folder))
    if dataset["kind"] == "chat" and not wanted.classifier:
        made = _mark_continued_rows(made)
    usable = [each for each in made if each.row is not None and not each.reason]
    new = [IncomingRow(each.row, each.from_people) for each in usable if each.row is not None]
    standing = compare_new_rows(
        [
            *new,
            *(IncomingRow(row, False, earlier=True) for row in feedback_rows.list_comparable_rows(earlier)),
        ],
        old,
        dataset["kind"],
        folder,
        PhaseReporter(job),
    )
    rows = _add_reasons(made, usable, standing)
    again = feedback_rows.apply_comparison(earlier, standing, len(new))
    parts = _choose_judging(rows, standing, config)
    counted = _count_rows(rows, parts, standing)
    if too_few := describe_shortage(counted):
        return too_few
    partners = _find_partners(rows, standing)
    repeating = _list_repeating_rows(rows, partners, old)
    slips = None if wanted.classifier else estimate_leakage(list(partners.values()), old, counted.train)
    counted.repeats, counted.repeating, counted.slipping = len(repeating), repeating[:MAX_LISTED], slips
    if again:
        counted.again = feedback_rows.count_earlier(again)
    return _write(job, dataset, RowSplit(rows, parts, again), counted, folder / "dataset")


class RowWithReason:
    """New row, why it is left out ("" if it isn't), and its index among the compared rows."""

    def __init__(self, made: FeedbackRow, reason: str, place: int) -> None:
        self.made, self.reason, self.place = made, reason, place


class RowSplit(NamedTuple):
    """Rows to write: new rows, which of the usable ones are held out, and reused rows."""

    new: list[RowWithReason]
    parts: feedback_rows.JudgingSelection
    again: list[EarlierRow]


def _add_reasons(
    made: list[FeedbackRow], usable: list[FeedbackRow], standing: NewRowComparison
) -> list[RowWithReason]:
    places = iter(range(len(usable)))
    rows = []
    for each in made:
        place = next(places) if each.row is not None and not each.reason else -1
        rows.append(RowWithReason(each, each.reason or standing.reasons[place], place))
    return rows


def _choose_judging(
    rows: list[RowWithReason], standing: NewRowComparison, config: GatherConfig
) -> feedback_rows.JudgingSelection:
    """Choose which of the usable rows are held out, in their order."""
    kept = [row for row in rows if not row.reason]
    places = np.array([row.place for row in kept], np.int64)
    texts = [row.made.row for row in kept if row.made.row is not None]
    return feedback_rows.choose_judging_rows(
        build_compared_rows(texts).digests,
        standing.groups[places],
        ~standing.only_train[places],
        np.array([row.made.random for row in kept], bool),
        config.held_out,
        config.seed,
    )


def _count_rows(
    rows: list[RowWithReason], parts: feedback_rows.JudgingSelection, standing: NewRowComparison
) -> GatheredRows:
    left_out: dict[str, int] = {}
    for row in rows:
        if row.reason:
            left_out[row.reason] = left_out.get(row.reason, 0) + 1
    places = [row.place for row in rows if not row.reason]
    held = int(parts.judges.sum())
    return GatheredRows(
        asked=len(rows),
        train=len(places) - held,
        held_out=held,
        left_out=dict(sorted(left_out.items(), key=lambda each: -each[1])),
        held_out_random=parts.at_random,
        only_train=int(standing.only_train[places].sum()),
        corrects=int(standing.corrects[places].sum()),
        redacted=sum(
            bool(each.made.row and PLACEHOLDER.search(each.made.row.text)) for each in rows if not each.reason
        ),
    )


def _find_partners(rows: list[RowWithReason], standing: NewRowComparison) -> dict[int, int]:
    """Return the index of the repeated old row by line, for rows left out as repeats of held-out rows."""
    return {
        line: int(standing.partners[row.place])
        for line, row in enumerate(rows)
        if row.place >= 0
        and standing.partners[row.place] >= 0
        and row.reason in (*HELD_REASONS, HELD_ELSEWHERE)
    }


def _list_repeating_rows(
    rows: list[RowWithReason], partners: dict[int, int], old: OldRows
) -> list[RepeatedRow]:
    """List rows left out as repeats, each with the row it repeats."""
    return [
        RepeatedRow(
            line=line,
            reason=rows[line].reason,
            fingerprint=old.origins[partner][0],
            row_id=old.origins[partner][1],
        )
        for line, partner in partners.items()
    ]


def _build_requirements(job: WorkerJob, config: GatherConfig, old: OldRows) -> RowRequirements:
    training = read_json(JobDir(job.home.jobs / config.run).config)["config"]
    return RowRequirements(job.spec["dataset"]["kind"], old.labels, training.get("task") == "classification")


def _mark_continued_rows(made: list[FeedbackRow]) -> list[FeedbackRow]:
    """Set the reason of rows that would teach earlier answers; in rows of data sets, these are intended."""
    places = [place for place, each in enumerate(made) if each.from_people and each.row is not None]
    rows = [row for place in places if (row := made[place].row) is not None]
    for place, goes_on in zip(places, find_continued_rows(rows), strict=True):
        if goes_on:
            made[place] = made[place]._replace(reason=CONTINUED)
    return made


def _read_all_rows(
    job: WorkerJob, config: GatherConfig, wanted: RowRequirements, folder: Path
) -> Iterator[FeedbackRow]:
    """Yield rows from feedback, then rows of data sets."""
    path = job.dir.path / CANDIDATES
    with open(path, encoding="utf-8") as lines:
        yield from build_new_rows((json.loads(line) for line in lines), wanted)
    for number, source in enumerate(config.rows):
        if isinstance(source, DatasetRowSource):
            yield from _read_dataset_rows(job, source, wanted, folder / f"slice-{number}")


def _read_dataset_rows(
    job: WorkerJob, source: DatasetRowSource, wanted: RowRequirements, folder: Path
) -> Iterator[FeedbackRow]:
    other: OrderDataset = job.spec["mixed"][source.dataset]
    if other["kind"] != wanted.kind:
        raise ConfigError(
            f"{other['name']} has rows of the kind {other['kind']}, but the run was trained on "
            f"{wanted.kind}.",
            fix="Choose rows of the same kind.",
            field="rows",
        )
    work = WorkingRows(job, other, {}, folder)
    work.progress.begin(0, f"Reading rows of {other['name']}")
    chosen = np.ones(work.total, bool)
    if source.where:
        ask = RowQueries(work)
        try:
            matching = ask.matching(source.where)
        finally:
            ask.close()
        chosen = np.isin(np.arange(work.total), matching)
    tests = compute_parts_by_split(job.home, other["fingerprint"], parse_split(other)) == "test"
    for batch in work.scan():
        for number, row, text in zip(
            batch["row_id"].to_pylist(), read_canonical_rows(batch), batch["source"].to_pylist(), strict=True
        ):
            if not chosen[number]:
                continue
            reason = TEST_ROW if tests[number] else explain_unfit(row, wanted)
            yield FeedbackRow(row._replace(part=None), text.encode(), reason=reason, from_people=False)


def _write(
    job: WorkerJob,
    dataset: OrderDataset,
    rows: RowSplit,
    counted: GatheredRows,
    folder: Path,
) -> GatherResult:
    with DatasetWriter(folder) as writer:
        _write_rows(writer, rows)
        fingerprint = writer.close()
    job.check_cancelled()
    publish_dataset(job, folder, fingerprint)
    return {
        "fingerprint": fingerprint,
        "kind": dataset["kind"],
        "split_by": "given",
        "format": FORMATS[dataset["kind"]][0],
        "columns": FORMATS[dataset["kind"]][1],
        "row_count": writer.row_count,
        "skipped_count": writer.skipped_count,
        "duplicate_count": writer.duplicate_count(),
        "source_bytes": sum(len(each.made.source) for each in rows.new)
        + sum(len(each.source) for each in rows.again),
        "stats": {
            **writer.sizes(),
            "labels": dict(writer.labels.most_common(20)),
            "label_count": len(writer.labels),
            "skipped_reasons": dict(writer.reasons.most_common(100)),
            "reader": "what came back",
            "encoding": "utf-8",
            "parts": dict(writer.parts),
            "notices": [],
        },
        "rows": counted,
        "disputed": feedback_rows.list_disputed_keys(rows.again),
    }


def _write_rows(writer: DatasetWriter, rows: RowSplit) -> None:
    judges = iter(rows.parts.judges.tolist())
    for number, new in enumerate(rows.new):
        if new.reason or new.made.row is None:
            text = new.made.row.text if new.made.row else new.made.source.decode("utf-8")
            writer.skip(number, make_skipped_row(new.reason, text))
        else:
            part = "test" if next(judges) else "train"
            writer.add(number, new.made.row._replace(part=part), new.made.source)
    for number, each in enumerate(rows.again, len(rows.new)):
        if each.reason:
            writer.skip(number, make_skipped_row(each.reason, each.row.text))
        else:
            writer.add(number, each.row._replace(part="test"), feedback_rows.mark_earlier(each))
