"""The job `gather_rows`: what people said of a model in use, as a data set of new rows.

Each row is in one part: training, or those that judge. Rows that judged earlier improvements come after the
new ones, and judge. Rows that are none are in the data set's skipped rows with their reason, so that rows and
skipped rows are all that the sources and the earlier improvements had.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.data.convert.writer import DatasetWriter
from engine.data.deal.kept_deal import parts_by_split, parts_of_run
from engine.data.deal.split import split_of
from engine.data.readers.raw_rows import skipped
from engine.gathering import earlier_rows, judging_rows, near_questions, repeats, reworded
from engine.gathering.candidates import FittingRows, MadeRow, new_rows, unfit
from engine.gathering.continued import CONTINUED, continuing
from engine.gathering.earlier_rows import EarlierRow
from engine.gathering.old_rows import OldRows, compared, read_old
from engine.gathering.repeats import HELD, HELD_ELSEWHERE, NewRowStanding, SaidRow, stand
from engine.gathering.slipping import slipping
from engine.recipe.questions_of_sql import RowQueries
from engine.recipe.recipe_rows import canonicals
from engine.recipe.working import Working
from engine.worker.job import WorkerJob
from engine.worker.phases import Phase, always
from engine.worker.progress import PhaseReporter
from engine.worker.temporary_folder import publish_dataset, temporary_folder
from store.config.data.recipe import PII_KINDS
from store.config.shipping.improve_config import LEAST_ROWS, GatherConfig, RowsOfDataset
from store.contract.errors import ConfigError
from store.contract.jobdir import JobDir, read_json
from store.documents.data.gathered import GatheredRows, GatheredTooFew, GatherResult, RowRepeating
from store.documents.data.row import Kind
from store.documents.tables.job_order import OrderDataset

CANDIDATES = "candidates.jsonl"
TEST_ROW = "a test row of its own data set"
FORMATS: dict[Kind, tuple[str, dict[str, str]]] = {  # the rows as JSON: format, and role -> column
    "chat": ("messages", {"messages": "messages"}),
    "preference": ("preference", {"chosen": "messages", "rejected": "rejected"}),
    "text": ("text", {"text": "text"}),
}
LISTED = 200  # rows that repeat one that judges
NAMED = 4  # reasons that a sentence names
THEN = "then go on: all that was said by then is taken in."
PLACEHOLDER = re.compile("|".join(rf"\[{kind.upper()}\]" for kind in PII_KINDS))  # of what was redacted


phases = always(  # shares of 20,000 rows beside as many; estimated but for the last two
    Phase("Reading rows of", 0.2),
    Phase(repeats.COMPARING, 0.3),
    Phase(reworded.COMPARING, 0.12),
    Phase(near_questions.COMPARING, 0.38),
)


def run(job: WorkerJob) -> GatherResult | GatheredTooFew:
    """Gather what the job's GatherConfig says."""
    config = GatherConfig.parse(job.config)
    try:
        with temporary_folder(job, what="the new rows", again="gather them again") as folder:
            return _gather(job, config, folder)
    finally:  # what people wrote stays in the rows alone; another attempt is brought it anew
        (job.dir.path / CANDIDATES).unlink(missing_ok=True)


def _gather(job: WorkerJob, config: GatherConfig, folder: Path) -> GatherResult | GatheredTooFew:
    dataset = job.order["dataset"]
    dealt = parts_of_run(job.home, dataset["fingerprint"], config.run)
    beside = job.order.get("beside", [])
    old = read_old(job.home, dataset["fingerprint"], dealt, beside)
    wanted = _wanted(job, config, old)
    earlier = earlier_rows.read_earlier(
        job.home, beside, wanted, config.in_use_unknown, job.order.get("disputed", [])
    )
    made = list(_all_rows(job, config, wanted, folder))
    if dataset["kind"] == "chat" and not wanted.classifier:
        made = _without_continued(made)
    usable = [each for each in made if each.row is not None and not each.reason]
    new = [SaidRow(each.row, each.from_people) for each in usable if each.row is not None]
    standing = stand(
        [*new, *(SaidRow(row, False, earlier=True) for row in earlier_rows.comparable(earlier))],
        old,
        dataset["kind"],
        folder,
        PhaseReporter(job),
    )
    rows = _reasoned(made, usable, standing)
    again = earlier_rows.standing(earlier, standing, len(new))
    parts = _parts(rows, standing, config)
    counted = _counted(rows, parts, standing)
    if too_few := _too_few(counted):
        return too_few
    partners = _partners(rows, standing)
    repeating = _repeating(rows, partners, old)
    slips = None if wanted.classifier else slipping(list(partners.values()), old, counted["train"])
    counted |= {"repeats": len(repeating), "repeating": repeating[:LISTED], "slipping": slips}
    if again:
        counted["again"] = earlier_rows.counted(again)
    return _write(job, dataset, PartedRows(rows, parts, again), counted, folder / "dataset")


class ReasonedRow:
    """A new row with why it is left out ("": it is not), and its place among the compared ones."""

    def __init__(self, made: MadeRow, reason: str, place: int) -> None:
        self.made, self.reason, self.place = made, reason, place


class PartedRows(NamedTuple):
    """What is written: the new rows, which of those that are not left out judge, and the earlier ones."""

    new: list[ReasonedRow]
    parts: judging_rows.Judging
    again: list[EarlierRow]


def _reasoned(made: list[MadeRow], usable: list[MadeRow], standing: NewRowStanding) -> list[ReasonedRow]:
    places = iter(range(len(usable)))
    rows = []
    for each in made:
        place = next(places) if each.row is not None and not each.reason else -1
        rows.append(ReasonedRow(each, each.reason or standing.reasons[place], place))
    return rows


def _parts(rows: list[ReasonedRow], standing: NewRowStanding, config: GatherConfig) -> judging_rows.Judging:
    """Which of the rows that are not left out judge, in their order."""
    kept = [row for row in rows if not row.reason]
    places = np.array([row.place for row in kept], np.int64)
    texts = [row.made.row for row in kept if row.made.row is not None]
    return judging_rows.choose(
        compared(texts).digests,
        standing.groups[places],
        ~standing.only_train[places],
        np.array([row.made.random for row in kept], bool),
        config.held_out,
        config.seed,
    )


def _counted(rows: list[ReasonedRow], parts: judging_rows.Judging, standing: NewRowStanding) -> GatheredRows:
    left_out: dict[str, int] = {}
    for row in rows:
        if row.reason:
            left_out[row.reason] = left_out.get(row.reason, 0) + 1
    places = [row.place for row in rows if not row.reason]
    held = int(parts.judges.sum())
    return {
        "asked": len(rows),
        "train": len(places) - held,
        "held_out": held,
        "left_out": dict(sorted(left_out.items(), key=lambda each: -each[1])),
        "held_out_random": parts.at_random,
        "only_train": int(standing.only_train[places].sum()),
        "corrects": int(standing.corrects[places].sum()),
        "redacted": sum(
            bool(each.made.row and PLACEHOLDER.search(each.made.row.text)) for each in rows if not each.reason
        ),
    }


def _partners(rows: list[ReasonedRow], standing: NewRowStanding) -> dict[int, int]:
    """Of those that are left out as they repeat a row that judges, by their lines: the place of that row
    among the old ones."""
    return {
        line: int(standing.partners[row.place])
        for line, row in enumerate(rows)
        if row.place >= 0 and standing.partners[row.place] >= 0 and row.reason in (*HELD, HELD_ELSEWHERE)
    }


def _repeating(rows: list[ReasonedRow], partners: dict[int, int], old: OldRows) -> list[RowRepeating]:
    """These, each with that row."""
    return [
        {
            "line": line,
            "reason": rows[line].reason,
            "fingerprint": old.origins[partner][0],
            "row_id": old.origins[partner][1],
        }
        for line, partner in partners.items()
    ]


def _too_few(counted: GatheredRows) -> GatheredTooFew | None:
    """Why no run can be trained and judged with these rows yet; None where one can."""
    usable = counted["train"] + counted["held_out"]
    reasons = [f"{count:,} {reason}" for reason, count in counted["left_out"].items()]
    more = f" and {len(reasons) - NAMED} more reasons" if len(reasons) > NAMED else ""
    why = f" Left out: {'; '.join(reasons[:NAMED])}{more}." if reasons else ""
    if usable < LEAST_ROWS:
        too_few = f"{usable:,} of {counted['asked']:,} new rows can be used, and it takes {LEAST_ROWS}.{why}"
        return {
            "rows": counted,
            "too_few": too_few,
            "fix": f"Have more answers corrected, {THEN}",
        }
    if not counted["held_out"]:
        too_few = f"None of the {usable:,} new rows may judge: all ask what old training rows ask.{why}"
        return {"rows": counted, "too_few": too_few, "fix": f"Have answers to something new labelled, {THEN}"}
    return None


def _wanted(job: WorkerJob, config: GatherConfig, old: OldRows) -> FittingRows:
    training = read_json(JobDir(job.home.jobs / config.run).config)["config"]
    return FittingRows(job.order["dataset"]["kind"], old.labels, training.get("task") == "classification")


def _without_continued(made: list[MadeRow]) -> list[MadeRow]:
    """With the reason at those that would teach earlier answers; in rows of data sets those are meant."""
    places = [place for place, each in enumerate(made) if each.from_people and each.row is not None]
    rows = [row for place in places if (row := made[place].row) is not None]
    for place, goes_on in zip(places, continuing(rows), strict=True):
        if goes_on:
            made[place] = made[place]._replace(reason=CONTINUED)
    return made


def _all_rows(job: WorkerJob, config: GatherConfig, wanted: FittingRows, folder: Path) -> Iterator[MadeRow]:
    """What people said, then the rows of data sets."""
    path = job.dir.path / CANDIDATES
    with open(path, encoding="utf-8") as lines:
        yield from new_rows((json.loads(line) for line in lines), wanted)
    for number, source in enumerate(config.rows):
        if isinstance(source, RowsOfDataset):
            yield from _of_dataset(job, source, wanted, folder / f"slice-{number}")


def _of_dataset(
    job: WorkerJob, source: RowsOfDataset, wanted: FittingRows, folder: Path
) -> Iterator[MadeRow]:
    other: OrderDataset = job.order["mixed"][source.dataset]
    if other["kind"] != wanted.kind:
        raise ConfigError(
            f"{other['name']} is of the kind {other['kind']}, and the run was trained on {wanted.kind}.",
            fix="Take rows of the same kind.",
            field="rows",
        )
    work = Working(job, other, {}, folder)
    work.progress.begin(0, f"Reading rows of {other['name']}")
    chosen = np.ones(work.total, bool)
    if source.where:
        ask = RowQueries(work)
        try:
            matching = ask.matching(source.where)
        finally:
            ask.close()
        chosen = np.isin(np.arange(work.total), matching)
    tests = parts_by_split(job.home, other["fingerprint"], split_of(other)) == "test"
    for batch in work.scan():
        for number, row, text in zip(
            batch["row_id"].to_pylist(), canonicals(batch), batch["source"].to_pylist(), strict=True
        ):
            if not chosen[number]:
                continue
            reason = TEST_ROW if tests[number] else unfit(row, wanted)
            yield MadeRow(row._replace(part=None), text.encode(), reason=reason, from_people=False)


def _write(
    job: WorkerJob,
    dataset: OrderDataset,
    rows: PartedRows,
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
        "disputed": earlier_rows.disputed_keys(rows.again),
    }


def _write_rows(writer: DatasetWriter, rows: PartedRows) -> None:
    judges = iter(rows.parts.judges.tolist())
    for number, new in enumerate(rows.new):
        if new.reason or new.made.row is None:
            text = new.made.row.text if new.made.row else new.made.source.decode("utf-8")
            writer.skip(number, skipped(new.reason, text))
        else:
            part = "test" if next(judges) else "train"
            writer.add(number, new.made.row._replace(part=part), new.made.source)
    for number, each in enumerate(rows.again, len(rows.new)):
        if each.reason:
            writer.skip(number, skipped(each.reason, each.row.text))
        else:
            writer.add(number, each.row._replace(part="test"), earlier_rows.marked(each))
