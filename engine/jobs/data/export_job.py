"""The job `export`: a version, or the rows of it that a filter and the parts of its split name, as a file
with its data card beside it in the home folder's exports.

Both are written aside and get their names when they are whole; a name that is taken is never replaced.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from pathlib import Path

import numpy as np

from engine.data.deal.dealing import Dealt, deal_rows
from engine.data.deal.split import PARTS, split_of
from engine.export import card, export_rows
from engine.export.export_rows import Columns, FileLayout, used_columns
from engine.recipe.questions_of_sql import RowQueries
from engine.recipe.working import Working
from engine.worker.job import WorkerJob
from engine.worker.phases import ONE_PHASE
from engine.worker.temporary_folder import temporary_folder
from store.config.data.data_config import ExportConfig
from store.documents.data.export_result import ExportResult

COLUMNS = ("messages", "text", "label", "rejected", "source", "choices", "answer_index")
NAME_CHARACTERS = 80


phases = ONE_PHASE  # it tells how much of all of its work is done (`RecipeProgress`)


def run(job: WorkerJob) -> ExportResult:
    """Write what the job's ExportConfig says: {"path", "card_path", "name", "rows", "format", "notices"}.

    Raises ConfigError where no row is meant, or the format can't hold the rows; nothing is left then.
    """
    config = ExportConfig.parse(job.config)
    with temporary_folder(job, what="the file", again="export again") as folder:
        work = Working(job, job.order["dataset"], {}, folder)
        work.progress.plan([1.0, 1.0])
        dealt = _choose(work, config)
        columns = Columns(dealt.codes, used_columns(work.columns))
        shape = export_rows.shape(work.scan(COLUMNS), columns)
        layout = FileLayout(work.kind, config.format, shape, config.one_list)
        export_rows.check(layout)
        work.progress.begin(1, "Writing the file")
        file = folder / "rows"
        rows = work.scan(COLUMNS)
        export_rows.write(file, layout, rows, columns)
        notices = export_rows.losses(layout)
        subject = card.CardSubject(job.order["dataset"], job.order["history"], job.order["figures"])
        text = card.write(subject, config, rows=shape.rows, parts=dealt.counts(), notices=notices)
        (folder / "card").write_text(text, encoding="utf-8")
        job.check_cancelled()
        name = _name(work.origins[0].dataset["name"], config)
        path = _publish(file, folder / "card", job.home.exports, name)
    for notice in notices:
        job.alert(notice, level="info")
    return {
        "path": str(path),
        "card_path": str(_card_of(path)),
        "name": path.name,
        "rows": shape.rows,
        "format": config.format,
        "notices": notices,
    }


def _choose(work: Working, config: ExportConfig) -> Dealt:
    """Leave alive the rows that are meant; how the whole version is dealt."""
    if config.where:
        with closing(RowQueries(work)) as ask:
            chosen = ask.matching(config.where)
        work.alive[:] = False
        work.alive[chosen] = True
    dataset = work.origins[0].dataset
    how = split_of(dataset)
    dealt = deal_rows(work.home, dataset["fingerprint"], how)
    if config.parts is not None:
        wanted = [PARTS.index(part) for part in config.parts]
        work.alive &= np.isin(dealt.codes, wanted)
    return dealt


def _name(dataset_name: str, config: ExportConfig) -> str:
    plain = re.sub(r"[^\w.()-]+", "-", dataset_name)[:NAME_CHARACTERS].strip("-.") or "data-set"
    part = f"-{'-'.join(config.parts)}" if config.parts else ""
    return f"{plain}{part}{export_rows.SUFFIXES.get(config.format, '.json' if config.one_list else '.jsonl')}"


def _publish(file: Path, card_file: Path, folder: Path, name: str) -> Path:
    """Give file and card their names. A link never replaces a file that is there."""
    folder.mkdir(exist_ok=True)
    for path in (file, card_file):
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
    stem, suffix = os.path.splitext(name)
    number, path = 1, folder / name
    while True:
        try:
            os.link(file, path)
            break
        except FileExistsError:
            number += 1
            path = folder / f"{stem}-{number}{suffix}"
    os.replace(card_file, _card_of(path))
    return path


def _card_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.md")
